"""What a conversion may lose, and what becomes of one that loses more."""

import numpy as np
import pytest

from dico_tf.errors import UserError
from dico_tf.export import conversions, litert
from dico_tf.export.conversions import Conversions
from dico_tf.export.material import Material

LABELS = np.arange(100) % 4
RIGHT = np.eye(4, dtype=np.float32)[LABELS]


def losing(points: int) -> np.ndarray:
    """Logits that are wrong for as many of the hundred images."""
    logits = RIGHT.copy()
    logits[:points] = np.roll(logits[:points], 1, axis=1)
    return logits


@pytest.fixture
def files(monkeypatch, tmp_path):
    """Conversions whose results lose as many points as said of each kind."""

    def make(lost: dict[str, int], **asked):
        made = []

        def convert(saved_model, files, batch, images):
            made.extend(files)
            for path in files.values():
                path.write_bytes(b"weights")

        def run(path, images, bar=None):
            return litert.Outcome(losing(lost[path.stem.rpartition("_")[2]]), 1.5)

        monkeypatch.setattr(conversions.litert, "convert", convert)
        monkeypatch.setattr(conversions.litert, "run", run)
        material = Material(split="validation", images=np.zeros((100, 2, 2, 3), np.uint8), labels=LABELS)
        found = Conversions(**asked).files("branch_0", tmp_path, tmp_path, material, RIGHT)
        return found, made, sorted(path.name for path in tmp_path.iterdir())

    return make


def test_what_loses_no_more_than_allowed_is_kept(files):
    found, made, names = files({"float32": 0, "int8": 1}, kinds=("int8", "float32"))
    assert list(found) == made == ["float32", "int8"]
    assert names == ["branch_0_float32.tflite", "branch_0_int8.tflite"]
    assert found["int8"].metrics["top1"] == pytest.approx(0.99) and found["int8"].metrics["same_class"] == 0.99
    assert found["int8"].metrics["milliseconds"] == 1.5


def test_what_loses_more_is_refused_with_its_numbers(files):
    with pytest.raises(UserError) as told:
        files({"int8": 2}, kinds=("int8",))
    for said in (
        "branch_0 as int8 loses 2.00 points",
        "100.00 % became 98.00 %",
        "100 validation images",
        "--fallback",
    ):
        assert said in str(told.value)


def test_the_next_safer_kind_takes_its_place_where_asked(files):
    found, made, names = files({"int8": 9, "dynamic": 5, "float16": 0}, kinds=("int8",), fallback=True)
    assert (list(found), made) == (["float16"], ["int8", "dynamic", "float16"])
    assert names == ["branch_0_float16.tflite"]


def test_a_kind_that_is_there_already_is_not_made_twice(files):
    found, made, _ = files(
        {"int8": 9, "dynamic": 9, "float16": 9, "float32": 0}, kinds=("int8", "float32"), fallback=True
    )
    assert (list(found), made) == (["float32"], ["float32", "int8", "dynamic", "float16"])


def test_float32_has_nothing_safer_to_fall_back_to(files):
    with pytest.raises(UserError, match="float32 loses 3"):
        files({"float32": 3}, kinds=("float32",), fallback=True)


def test_a_network_that_litert_does_not_know_is_refused_by_the_operation(tmp_path):
    import tensorflow as tf

    class Odd(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 3, 3, 3), tf.float32, name="image")])
        def serve(self, image):
            return {"logits": tf.linalg.inv(image)[:, 0]}

    odd = Odd()
    tf.saved_model.save(odd, str(tmp_path / "model"), signatures={"serving_default": odd.serve})
    with pytest.raises(UserError, match=r"(?s)odd_float32 cannot be converted to LiteRT: .*MatrixInverse"):
        litert.convert(tmp_path / "model", {"float32": tmp_path / "odd_float32.tflite"})
    assert not list(tmp_path.glob("*.json"))
