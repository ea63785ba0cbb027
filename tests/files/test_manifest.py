"""manifest.json: written and loaded content is the same, and everything else is refused."""

import json

import pytest

from dico_tf.errors import UserError
from dico_tf.files import manifest


def written(folder, **changes):
    """Write an export of one branch whose LiteRT file is a few bytes; return the path of its manifest."""
    (folder / "tflite").mkdir(parents=True)
    (folder / "tflite/branch_0_float32.tflite").write_bytes(b"weights")
    (folder / "saved_model/branch_0/variables").mkdir(parents=True)
    (folder / "saved_model/branch_0/saved_model.pb").write_bytes(b"graph")
    (folder / "saved_model/branch_0/variables/variables.index").write_bytes(b"numbers")
    member = {
        "name": "branch_0",
        "kind": "run",
        "input_size": 8,
        "class_names": ["a", "b"],
        "params": 7,
        "macs": 70,
        "metrics": {},
        "files": {
            "saved_model": manifest.measure(folder / "saved_model/branch_0", folder),
            "float32": manifest.measure(folder / "tflite/branch_0_float32.tflite", folder),
        },
    }
    content = {"id": "0123", "members": [member], "committee": {"members": ["branch_0"], "average": "logits"}}
    path = folder / "manifest.json"
    path.write_text(manifest.text({**content, **changes}))
    return path


def test_a_manifest_is_read_as_it_was_written(tmp_path):
    path = written(tmp_path)
    result, content = manifest.read(path, "branch_0", "float32")
    assert (result.names, result.branches, result.id, content) == (["branch_0"], ["branch_0"], "0123", b"weights")
    assert result.formats("branch_0") == ["float32"]
    assert manifest.load(tmp_path).content == result.content
    assert json.loads(path.read_text())["format"] == 1
    manifest.verify(result)


@pytest.mark.parametrize("name", ["tflite/branch_0_float32.tflite", "saved_model/branch_0/variables/variables.index"])
def test_a_file_that_was_changed_or_lost_is_refused_by_its_name(tmp_path, name):
    result = manifest.load(written(tmp_path))
    (tmp_path / name).write_bytes(b"weightz")
    with pytest.raises(UserError, match="is not the one exported"):
        manifest.verify(result)
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match="copied incompletely or changed"):
        manifest.verify(result)


def test_a_stray_file_in_a_saved_model_is_refused(tmp_path):
    result = manifest.load(written(tmp_path))
    (tmp_path / "saved_model/branch_0/assets.txt").write_bytes(b"")
    with pytest.raises(UserError, match="saved_model/branch_0 is not the one exported"):
        manifest.verify(result, "branch_0", "saved_model")


def test_the_bytes_that_are_read_are_checked(tmp_path):
    path = written(tmp_path)
    (tmp_path / "tflite/branch_0_float32.tflite").write_bytes(b"others")
    with pytest.raises(UserError, match="is not the one exported"):
        manifest.read(path, "branch_0", "float32")


def edited(path, key, value):
    content = json.loads(path.read_text())
    content[key] = value
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("id", "other", "digest"),
        ("format", 2, "expected format 1, got 2"),
        ("kind", "recipe", "expected kind 'dico_tf export', got 'recipe'"),
        ("digest", "", "digest"),
    ],
)
def test_an_edited_or_foreign_manifest_is_refused(tmp_path, key, value, message):
    path = written(tmp_path)
    edited(path, key, value)
    with pytest.raises(UserError, match=message):
        manifest.load(path)


@pytest.mark.parametrize("content", ["", "{", '{"format": 1', "[]", "null", "[" * 100_000])
def test_half_a_manifest_or_none_is_refused(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(UserError, match="manifest"):
        manifest.load(tmp_path)


@pytest.mark.parametrize("path", ["/etc/passwd", "../outside", "tflite/../../outside", "", "a\0b"])
def test_a_file_outside_of_the_export_is_refused(tmp_path, path):
    content = json.loads(written(tmp_path).read_text())
    content["members"][0]["files"]["float32"]["path"] = path
    (tmp_path / "manifest.json").write_text(manifest.text(content))
    with pytest.raises(UserError, match="outside of the export"):
        manifest.load(tmp_path)


@pytest.mark.parametrize(
    "harm",
    [
        lambda content: content.pop("members"),
        lambda content: content.pop("committee"),
        lambda content: content["members"].append("branch_1"),
        lambda content: content["committee"].update(members="branch_0"),
        lambda content: content["members"][0].update(files={"float32": "tflite/branch_0_float32.tflite"}),
        lambda content: content["members"][0]["files"]["float32"].pop("sha256"),
    ],
)
def test_a_manifest_that_lacks_something_is_refused_even_with_a_digest_that_fits(tmp_path, harm):
    path = written(tmp_path)
    content = json.loads(path.read_text())
    harm(content)
    path.write_text(manifest.text(content))
    with pytest.raises(UserError, match="has no valid"):
        manifest.load(path)


def test_an_unknown_member_or_format_is_answered_with_those_there_are(tmp_path):
    result = manifest.load(written(tmp_path))
    with pytest.raises(UserError, match="branch_0"):
        result.member("branch_1")
    with pytest.raises(UserError, match="it has saved_model, float32"):
        result.file("branch_0", "int8")
