"""Whoever puts together a committee of any members and is killed leaves the export that there was."""

import dataclasses
import os
from types import SimpleNamespace

import pytest

from dico_tf.committee.committee_file import Calibration, CommitteeFile, SavedMember
from dico_tf.committee.decision import Committee
from dico_tf.evaluation.cost import Cost
from dico_tf.evaluation.members.member import TFLiteFile
from dico_tf.export import export_committee
from dico_tf.files import manifest
from tests.killed import kills

NAMES = ("small", "large")
SAVED = CommitteeFile(
    committee=Committee(members=NAMES, gates=(0.5,)),
    members=tuple(
        SavedMember(name=n, kind="tflite", source=n, sha256="", input_size=8, cost=Cost(macs=1)) for n in NAMES
    ),
    classes=2,
    class_names=("a", "b"),
    calibration=Calibration(name="none", fingerprint="f", images=1),
)


def resolved(folder, name, megabytes):
    """A resolved LiteRT file, which an export copies without reading it."""
    path = folder / f"{name}.tflite"
    path.write_bytes(os.urandom(megabytes << 20))
    file = TFLiteFile(path=path, kind="float32", pixels="0..255", output="o", place=0)
    member = SimpleNamespace(
        name=name, kind="tflite", source=str(path), checksum=name, input_size=8, short_side=8, file=file
    )
    return SimpleNamespace(member=member, outputs="logits", dropped=0, macs=1, params=1, batch=1)


@pytest.mark.parametrize("every", [9, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_any_moment_it_leaves_one_whole_export(tmp_path, monkeypatch, every):
    members, out = [resolved(tmp_path, name, n + 1) for n, name in enumerate(NAMES)], tmp_path / "o"

    def written(words):
        calibration = dataclasses.replace(SAVED.calibration, name=words)
        monkeypatch.setattr(
            export_committee,
            "resolve_members",
            lambda _: (dataclasses.replace(SAVED, calibration=calibration), members),
        )
        export_committee.export("committee.json", out, formats=("tflite",), say=lambda _: None)

    def checked():
        """Check that all files belong to one export, and return its name."""
        exported = manifest.load(out)
        manifest.verify(exported)
        words = exported.content["source"]["committee"]["name"]
        assert f"1 images of {words}." in (out / "README.md").read_text()
        assert {path.name for path in out.iterdir() if path.name[0] != "."} == {"manifest.json", "README.md", "tflite"}
        return words

    written("0")
    seen = [checked()]
    for _ in kills(lambda: written(f"{len(seen)}"), every):
        seen.append(checked())
    assert {seen[0], seen[1]} == {"0"} and len(set(seen)) > 1  # some kills came before the links changed, some after
    assert checked() == str(len(seen)) and not list(out.glob(".making-*")) and len(list(out.glob(".export-*"))) == 1
