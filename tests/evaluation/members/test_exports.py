"""Members of an export are opened only if its manifest and their files are those that were written."""

import pytest

from dico_tf.errors import UserError
from dico_tf.evaluation.members.open_members import open_members
from tests.files.test_manifest import edited, written


@pytest.mark.parametrize("source", ["{}", "{}/manifest.json", "{}:branch_0", "{}/saved_model/branch_0"])
def test_an_edited_manifest_is_refused_for_members_too(tmp_path, source):
    source = source.format(tmp_path)
    edited(written(tmp_path), "id", "other")
    with pytest.raises(UserError, match=r"manifest\.json was changed: its digest does not match") as error:
        open_members([source])
    assert str(error.value).startswith(source)


def test_an_unknown_member_is_answered_with_those_there_are(tmp_path):
    written(tmp_path)
    with pytest.raises(UserError, match=r"export .* has no member 'branch_7'; did you mean branch_0"):
        open_members([f"{tmp_path}:branch_7"])


@pytest.mark.parametrize("kind", ["saved_model", "float32"])
def test_a_file_that_was_changed_is_refused(tmp_path, kind):
    written(tmp_path)
    for path in ("tflite/branch_0_float32.tflite", "saved_model/branch_0/saved_model.pb"):
        (tmp_path / path).write_bytes(b"other")
    with pytest.raises(UserError, match="is not the one exported"):
        open_members([f"{tmp_path}?format={kind}"])
