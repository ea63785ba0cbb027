"""Training on a full disk ends with one message, and what was saved before can be used."""

import json

import pytest

from dico_tf.errors import UserError
from dico_tf.training import loop
from dico_tf.training.metrics_log import MetricsLog
from tests.files.small_disk import small_disk

RECIPE = [
    "--dataset=digits",
    "--model=wrn_tiny",
    "--splits=1",
    "--views=crop",
    "--epochs=2",
    "--batch_size=512",
    "--validation=100",
    "--warmup_epochs=0",
    "--lr=0.05",
]


@pytest.mark.slow
def test_a_disk_that_fills_up_is_one_message_and_leaves_the_last_checkpoint(here, tmp_path, monkeypatch):
    folder = tmp_path / "disk"
    with small_disk(folder) as fill:
        line = loop.epoch_line

        def fill_after_the_first_epoch(row, epochs):
            fill()
            return line(row, epochs)

        monkeypatch.setattr(loop, "epoch_line", fill_after_the_first_epoch)
        status, _, error = here("train", *RECIPE, f"--workdir={folder}")
        assert status == 2 and "Traceback" not in error
        (message,) = [text for text in error.splitlines() if text.startswith("train.py: ")]
        assert f"cannot write {folder}/" in message and "what was saved before is intact: make room" in message
        (last,) = [path for path in (folder / "checkpoints").iterdir() if not path.name.startswith(".")]
        assert json.loads((last / "state.json").read_text())["epochs_done"] == 1


def test_tensorboard_on_a_full_disk_is_one_message(tmp_path):
    with small_disk(tmp_path / "tensorboard") as fill:
        metrics_log = MetricsLog(tmp_path, [])
        fill()
        with pytest.raises(UserError, match=r"cannot write .*: .*; what was saved before is intact: make room"):
            metrics_log.add({"epoch": 0, "loss": 1.0})
        metrics_log.close()
