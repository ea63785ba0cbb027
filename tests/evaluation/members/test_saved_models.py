"""SavedModels that this project did not write."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dico_tf.errors import UserError
from dico_tf.evaluation.averaging import softmax
from dico_tf.evaluation.members.open_members import open_members


class Plain(tf.Module):
    """A convolution, a mean and a dense layer, without Keras."""

    def __init__(self):
        super().__init__()
        self.kernel = tf.Variable(tf.random.stateless_normal((3, 3, 3, 4), (0, 1)))
        self.dense = tf.Variable(tf.random.stateless_normal((4, 10), (0, 2)))

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32, name="x")])
    def serve(self, x):
        return {"scores": tf.reduce_mean(tf.nn.conv2d(x / 255, self.kernel, 1, "SAME"), (1, 2)) @ self.dense}

    @tf.function(input_signature=[tf.TensorSpec((4, 8, 8, 3), tf.uint8, name="image")])
    def four(self, image):
        logits = self.serve(tf.cast(image, tf.float32))["scores"]
        return {"logits": logits, "softmax": tf.nn.softmax(logits), "class_id": tf.argmax(logits, -1)}

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="text")])
    def words(self, text):
        return {"length": tf.strings.length(text)}


@pytest.fixture(scope="module")
def module():
    return Plain()


@pytest.fixture(scope="module")
def plain(module, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "plain"
    signatures = {"serving_default": module.serve, "four": module.four, "words": module.words}
    tf.saved_model.save(module, str(folder), signatures=signatures)
    return folder


def test_a_module_of_any_size_answers_at_the_size_asked_for(plain, module, images):
    small, large = open_members([f"{plain}@8", f"{plain}@12"], 10)
    assert (small.name, small.kind) == ("plain@8", "saved_model") and small.weights == large.weights
    expected = module.serve(images(12).astype("float32"))["scores"]
    np.testing.assert_allclose(large.run(images(12)), expected, rtol=1e-4, atol=1e-5)
    assert large.cost.macs == 12 * 12 * 27 * 4 + 40 and small.cost.macs == 8 * 8 * 27 * 4 + 40
    assert large.cost.params == 27 * 4 + 40


def test_a_signature_of_four_pictures_answers_for_any_number(plain, module, images):
    (member,) = open_members([f"{plain}:four"], 10)
    expected = module.serve(images(8, 6).astype("float32"))["scores"]
    np.testing.assert_allclose(member.run(images(8, 6)), expected, rtol=1e-4, atol=1e-5)
    assert member.cost.macs == 8 * 8 * 27 * 4 + 40


def test_another_output_can_be_named(plain, module, images):
    (member,) = open_members([f"{plain}:four?output=softmax"], 10)
    expected = softmax(module.serve(images(8).astype("float32"))["scores"])
    np.testing.assert_allclose(softmax(member.run(images(8))), expected, atol=1e-5)
    assert "10 probabilities" in member.decoder.description


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "any size: add a size"),
        ("@8:four", "there is no"),
        (":fuor", r"no signature 'fuor': write :SIGNATURE with one of four \(image uint8 \[4, 8, 8, 3\]\)"),
        (":words", "expected a signature whose only input is images .* words"),
        (":four?output=lógits", "has no output 'lógits'; it has four"),
        (":four@9", "takes images of 8 pixels only"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_signatures(plain, words, message):
    with pytest.raises(UserError, match=message):
        open_members([f"{plain}{words}"], 10)


def test_a_module_without_signatures_says_how_to_save_one(tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"no signature: save it with tf.saved_model.save"):
        open_members([str(tmp_path / "none")])


def test_a_damaged_folder_is_refused(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match=r"saved_model.pb is damaged"):
        open_members([str(tmp_path)])


def test_several_outputs_that_may_be_scores_must_be_told_apart(tmp_path):
    class Two(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3), tf.float32, name="x")])
        def serve(self, x):
            return {"a": tf.reduce_mean(x, (1, 2)), "b": tf.reduce_max(x, (1, 2))}

    two = Two()
    tf.saved_model.save(two, str(tmp_path / "two"), signatures=two.serve)
    with pytest.raises(UserError, match=r"add \?output=NAME"):
        open_members([str(tmp_path / "two")])
    (member,) = open_members([f"{tmp_path / 'two'}?output=b"], 3)
    assert member.cost.macs == 0 and np.isnan(member.cost.params)


def test_multiply_adds_in_a_loop_are_not_known(tmp_path):
    class Loop(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((4, 8, 8, 3), tf.float32, name="x")])
        def serve(self, x):
            kernel, mean = tf.ones((3, 3, 3, 5)), tf.TensorSpec((5,), tf.float32)
            return tf.map_fn(
                lambda y: tf.reduce_mean(tf.nn.conv2d(y[None], kernel, 1, "SAME"), (0, 1, 2)),
                x,
                fn_output_signature=mean,
            )

    loop = Loop()
    tf.saved_model.save(loop, str(tmp_path / "loop"), signatures=loop.serve)
    (member,) = open_members([str(tmp_path / "loop")], 5)
    assert np.isnan(member.cost.macs) and member.run(np.zeros((2, 8, 8, 3), np.uint8)).shape == (2, 5)


def test_what_keras_exports_costs_what_keras_counts_groups_included(tmp_path, images):
    image = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(8, 3)(image)
    x = keras.layers.DepthwiseConv2D(3)(x)
    x = keras.layers.Conv2D(8, 3, groups=2)(x)
    x = keras.layers.Conv2DTranspose(4, 2, strides=2)(x)
    x = keras.layers.Flatten()(x)
    model = keras.Model(image, keras.layers.Dense(10)(x))
    model.export(tmp_path / "net", verbose=False)
    model.save(tmp_path / "net.keras")
    graph, file = open_members([str(tmp_path / "net"), str(tmp_path / "net.keras")], 10)
    assert [graph.name, file.name] == ["net", "net_2"]
    assert (graph.cost.macs, graph.cost.params) == (file.cost.macs, file.cost.params)
    np.testing.assert_allclose(graph.run(images(16)), file.run(images(16)), rtol=1e-3, atol=1e-2)
