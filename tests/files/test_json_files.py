"""JSON files of a run: what a missing one means."""

import pytest

from dico_tf.errors import UserError
from dico_tf.files import json_files


def test_a_missing_file_of_a_run_is_told_from_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(UserError, match=r"summary\.json does not exist: .* is not the folder of a run"):
        json_files.read_of_run(tmp_path / "summary.json")
    json_files.write(tmp_path / "config.json", {})
    with pytest.raises(UserError, match=r"summary\.json does not exist: the run has not written it yet"):
        json_files.read_of_run(tmp_path / "summary.json")
