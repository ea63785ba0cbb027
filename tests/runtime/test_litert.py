"""The LiteRT runtime: batches of any size, quantised values, named outputs."""

import numpy as np
import pytest

from dico_tf.runtime.litert import LiteRT, TensorInfo

DRAW = np.random.default_rng(0)
WEIGHTS = DRAW.normal(size=(4 * 4 * 3, 2)).astype(np.float32)
IMAGES = DRAW.uniform(0, 1, (5, 4, 4, 3)).astype(np.float32)
LOGITS = IMAGES.reshape(5, -1) @ WEIGHTS


def linear(batch: int | None) -> bytes:
    import tensorflow as tf

    def serve(image):
        return {"logits": tf.reshape(image, (-1, 48)) @ WEIGHTS}

    module = tf.Module()
    spec = tf.TensorSpec((batch, 4, 4, 3), tf.float32, name="image")
    module.serve = tf.function(serve, input_signature=[spec], autograph=False)
    return tf.lite.TFLiteConverter.from_concrete_functions([module.serve.get_concrete_function()], module).convert()


def test_a_file_of_any_batch_takes_batches_of_any_size_one_after_another():
    model = LiteRT(linear(None), 1)
    assert model.batch == 0 and model.inputs[0].shape == (-1, 4, 4, 3)
    for images, logits in ((IMAGES, LOGITS), (IMAGES[:2], LOGITS[:2]), (IMAGES[2:3], LOGITS[2:3])):
        np.testing.assert_allclose(model.run(images, model.outputs[0]), logits, atol=1e-4)


def test_a_file_on_disk_answers_by_name_as_its_bytes_do_by_place(tmp_path):
    content = linear(1)
    (tmp_path / "a.tflite").write_bytes(content)
    model = LiteRT(content, 1)
    call = LiteRT(tmp_path / "a.tflite", 1).signature()
    assert model.batch == 1 and list(call.inputs) == ["image"] and list(call.outputs) == ["logits"]
    assert call.outputs["logits"].shape == (1, 2)
    answer = model.run(IMAGES[:1], model.tensor(model.outputs[0].index))
    np.testing.assert_array_equal(call(image=IMAGES[:1])["logits"], answer)
    np.testing.assert_allclose(answer, LOGITS[:1], atol=1e-4)


def test_a_quantised_value_is_read_by_its_scale_and_zero():
    tensor = TensorInfo(name="x", index=0, shape=(1, 3), dtype=np.int8, scale=0.5, zero=-2)
    np.testing.assert_array_equal(tensor.real(np.array([[-2, 0, 4]], np.int8)), [[0.0, 1.0, 3.0]])
    plain = TensorInfo(name="x", index=0, shape=(1, 3), dtype=np.float32)
    np.testing.assert_array_equal(plain.real(np.array([1.5])), np.array([1.5], np.float32))


@pytest.mark.parametrize("content", [b"", b"hello", b"TFL3" * 8])
def test_bytes_that_are_no_file_are_refused(content):
    with pytest.raises((ValueError, RuntimeError)):
        LiteRT(content, 1)
