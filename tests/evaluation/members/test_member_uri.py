"""Tests of the parsing of members' URIs."""

import importlib.util

import pytest

from dico_tf.errors import UserError
from dico_tf.evaluation.members.kinds import KINDS
from dico_tf.evaluation.members.member_uri import parse
from dico_tf.evaluation.members.open_members import open_members


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Files and folders of every kind, by their marks alone."""
    monkeypatch.chdir(tmp_path)
    files = ("net.keras", "net.tflite", "old.h5", "net.onnx", "net.pb", "table.npz")
    for name in (*files, "W/config.json", "S/saved_model.pb"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for name in ("E", "odd@20", "plain"):
        (tmp_path / name).mkdir()
    (tmp_path / "E" / "manifest.json").touch()
    (tmp_path / "odd@20" / "saved_model.pb").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("text", "part", "spelt"),
    [
        ("W", "branch_1", "W:branch_1"),
        ("a=W@48", "ensemble", "W:ensemble@48"),
        ("W:branch_0", "branch_0", "W:branch_0"),
        ("E?format=int8", "branch_1", "E:branch_1?format=int8"),
        ("table.npz", "small", "table.npz:small"),
        ("odd@20", "", "odd@20"),
    ],
)
def test_one_of_several_networks_of_a_source_has_a_spelling_of_its_own(place, text, part, spelt):
    assert parse(text).with_part(part) == spelt
    assert parse(spelt).part == part


@pytest.mark.parametrize(
    ("text", "kind", "name", "part", "size", "options"),
    [
        ("W", "run", "", "", 0, {}),
        ("W:branch_1", "run", "", "branch_1", 0, {}),
        ("W:ensemble@48", "run", "", "ensemble", 48, {}),
        ("small=W:branch_0", "run", "small", "branch_0", 0, {}),
        ("net.keras", "keras_file", "", "", 0, {}),
        ("net.keras@300", "keras_file", "", "", 300, {}),
        ("net.tflite:background", "tflite", "", "background", 0, {}),
        ("net.tflite?outputs=logits&pixels=0..1", "tflite", "", "", 0, {"outputs": "logits", "pixels": "0..1"}),
        ("b5=keras:EfficientNetB5@528?weights=none", "application", "b5", "", 528, {"weights": "none"}),
        ("keras:EfficientNetB0", "application", "", "", 0, {}),
        ("S", "saved_model", "", "", 0, {}),
        ("S:other", "saved_model", "", "other", 0, {}),
        ("odd@20", "saved_model", "", "", 0, {}),
        ("odd@20@24", "saved_model", "", "", 24, {}),
        ("E", "export", "", "", 0, {}),
        ("E/manifest.json:branch_0?format=int8", "export", "", "branch_0", 0, {"format": "int8"}),
        ("table.npz:B0@300", "table", "", "B0@300", 0, {}),
        ("table.npz", "table", "", "", 0, {}),
    ],
)
def test_a_source_is_read_as_it_is_meant(place, text, kind, name, part, size, options):
    uri = parse(text)
    assert (uri.kind, uri.name, uri.part, uri.size, dict(uri.options)) == (kind, name, part, size, options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nat.keras", "did you mean net.keras"),
        ("nowhere/x.tflite", "there is no nowhere/x.tflite"),
        ("plain", "neither a run"),
        ("old.h5", "model.save"),
        ("net.pb", "expected a member, got a file .pb"),
        ("net.keras@2", "4 to 4096"),
        ("net.keras?outputs", "expected [?]OPTION=VALUE, with & between several, got 'outputs'"),
        ("", "expected a member, got '': give a run's folder"),
        ("small=", "expected a member, got 'small=': give a run's folder"),
        ("EfficientNetB0", "keras:EfficientNetB0"),
    ],
)
def test_what_cannot_be_read_says_what_would_do(place, text, message):
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        parse(text)


def test_every_kind_has_a_module_and_one_mark_of_its_spelling():
    for kind in KINDS.values():
        assert importlib.util.find_spec(f"dico_tf.evaluation.members.{kind.module}")
        assert len([mark for mark in (kind.prefix, kind.suffix, kind.marker) if mark]) == 1


def test_a_committee_without_members_or_with_one_twice_is_refused(place):
    with pytest.raises(UserError, match="a committee needs members"):
        open_members([])
    with pytest.raises(UserError, match=r"table.npz is given twice"):
        open_members(["table.npz", "a=table.npz"])
