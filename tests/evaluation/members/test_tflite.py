""".tflite files: real photos through real quantised networks, and made files of every kind of number."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from dico_tf.config import Data
from dico_tf.data import source as sources
from dico_tf.errors import UserError
from dico_tf.evaluation.averaging import softmax
from dico_tf.evaluation.members import tflite_graph
from dico_tf.evaluation.members.collect_logits import collect_logits
from dico_tf.evaluation.members.open_members import open_members

PUBLISHED = {  # millions of multiply-adds; 0.75 at 192 pixels: 325 at 224 (arXiv 1704.04861) by (192 / 224)^2
    "mobilenet_v1_0.25_128_quant": 14,
    "mobilenet_v1_0.5_160_quant": 77,
    "mobilenet_v1_0.75_192_quant": 239,
    "mobilenet_v2_1.0_224_quant": 300,
}
TOP1 = {  # of the 1,000 photos, as the whole program resizes them: 147/128 ... 257/224, bicubic
    "mobilenet_v1_0.25_128_quant": 0.440,
    "mobilenet_v1_0.5_160_quant": 0.646,
    "mobilenet_v1_0.75_192_quant": 0.740,
    "mobilenet_v2_1.0_224_quant": 0.797,
}


@pytest.fixture(scope="module")
def photos(shared_data):
    return sources.load(Data(dataset=f"folder:{shared_data}/nips17/labels.csv", classes=1000), 0)


@pytest.fixture(scope="module")
def paths(shared_data):
    return {name: f"{shared_data}/mobilenet_tflite/{name}.tflite" for name in PUBLISHED}


@pytest.fixture(scope="module")
def network():
    """Ten classes and a background, ending in softmax."""
    keras.utils.set_random_seed(5)
    image = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(image)
    x = keras.layers.Conv2D(8, 3, activation="relu")(x)
    x = keras.layers.DepthwiseConv2D(3)(x)
    x = keras.layers.Conv2DTranspose(4, 2, strides=2)(x)
    x = keras.layers.Flatten()(x)
    return keras.Model(image, keras.layers.Dense(11, activation="softmax")(x))


@pytest.fixture(scope="module")
def files(network, tmp_path_factory):
    """Float, dynamic and full integers of both kinds, for one picture at a time; float for any number."""
    folder = tmp_path_factory.mktemp("lite")
    noise = np.random.default_rng(1).integers(0, 256, (20, 1, 16, 16, 3)).astype(np.float32)
    for kind in ("float32", "dynamic", "int8", "uint8", "any"):
        spec = tf.TensorSpec((None if kind == "any" else 1, 16, 16, 3), tf.float32)
        call = tf.function(lambda image: network(image, training=False)).get_concrete_function(spec)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([convert_variables_to_constants_v2(call)])
        if kind in ("dynamic", "int8", "uint8"):
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if kind in ("int8", "uint8"):
            converter.representative_dataset = lambda: ([image] for image in noise)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.as_dtype(kind)
        (folder / f"{kind}.tflite").write_bytes(converter.convert())
    return folder


@pytest.mark.parametrize(
    ("kind", "away"), [("float32", 1e-5), ("any", 1e-5), ("dynamic", 0.02), ("int8", 0.03), ("uint8", 0.03)]
)
def test_files_of_every_kind_of_number_say_what_the_network_says(files, network, images, kind, away):
    (member,) = open_members([f"{files}/{kind}.tflite"], 10)
    expected = np.asarray(network(images(16).astype("float32")))[:, 1:]
    logits = member.run(images(16))
    assert logits.shape == (4, 10) and logits.dtype == np.float32
    assert abs(np.exp(logits) - expected).max() < away
    assert ("1/256" in member.decoder.description) == (kind in ("int8", "uint8"))
    assert "11 probabilities" in member.decoder.description and "background" in member.decoder.description
    assert (member.run(images(16, 7))[:4] == logits).all()  # batches of any number


def test_their_operators_cost_what_keras_counts(files, network):
    keras_counts = 14 * 14 * 27 * 8 + 12 * 12 * 9 * 8 + 12 * 12 * 4 * 4 * 8 + 24 * 24 * 4 * 11
    for kind in ("float32", "dynamic", "int8", "uint8", "any"):
        (member,) = open_members([f"{files}/{kind}.tflite"], 10)
        assert member.cost.macs == keras_counts, kind
        assert member.cost.params == pytest.approx(network.count_params(), rel=0.001), kind


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_mobilenets_cost_what_is_published(paths, name):
    graph = tflite_graph.read(Path(paths[name]))
    assert graph.macs / 1e6 == pytest.approx(PUBLISHED[name], rel=0.035)


def test_two_counters_agree_on_a_mobilenet_to_the_last_multiply_add(paths):
    from dico_tf.divide.networks.cost import cost
    from dico_tf.divide.networks.graph import weightless

    (member,) = open_members([paths["mobilenet_v1_0.75_192_quant"]], 1000)
    build = keras.applications.MobileNet
    counted = weightless(lambda: cost(build(alpha=0.75, input_shape=(192, 192, 3), classes=1001, weights=None)))
    assert member.cost.macs == counted.macs
    assert member.cost.params == pytest.approx(counted.params, rel=0.005)  # normalisations are folded


@pytest.mark.slow
def test_the_smallest_mobilenet_on_real_photos(paths, photos):
    name = "mobilenet_v1_0.25_128_quant"
    lines = []
    collected = collect_logits(open_members([paths[name]], 1000), photos, "test", timed=False, say=lines.append)
    outputs = "1001 probabilities in steps of 1/256, whose logarithms are taken"
    assert lines == [f"{name} answers with {outputs}; the first, the background, is left out"]
    accuracy = (collected.logits[name].argmax(1) == collected.labels).mean()
    assert collected.logits[name].shape == (1000, 1000) and accuracy == pytest.approx(TOP1[name], abs=0.01)


@pytest.mark.slow
def test_every_mobilenet_on_real_photos_and_at_the_crop_of_its_authors(paths, photos):
    """Crop 16..240 of 256 is a short side of 256 where the network sees 224: then nothing is resampled."""
    largest = f"exact={paths['mobilenet_v2_1.0_224_quant']}?short_side=256"
    collected = collect_logits(open_members([*paths.values(), largest], 1000), photos, "test", timed=False)
    top1 = {name: (logits.argmax(1) == collected.labels).mean() for name, logits in collected.logits.items()}
    assert top1.pop("exact") == 0.807
    assert top1 == {name: pytest.approx(value, abs=0.01) for name, value in TOP1.items()}


@pytest.mark.slow
def test_live_answers_and_stored_ones_stand_in_one_pool(paths, photos, shared_data):
    table = f"{shared_data}/nips17/logits.npz"
    name = "mobilenet_v1_0.25_128_quant"
    given = [f"live={paths[name]}", f"{table}:{name}", f"big={table}:efficientnet_lite2_fp32?macs=899e6&params=6.15e6"]
    collected = collect_logits(open_members(given, 1000), photos, "test", timed=False)
    live, stored, big = (logits.argmax(1) for logits in collected.logits.values())
    assert 0.65 < (live == stored).mean() < 0.95  # .83 with the crop of 16..240, .71 a pixel beside it
    assert (stored == collected.labels).mean() == pytest.approx(0.438, abs=5e-4)
    assert (big == collected.labels).mean() == pytest.approx(0.915, abs=5e-4)
    assert (collected.costs["big"].macs, collected.costs["big"].params) == (899e6, 6.15e6)
    assert np.isnan(collected.costs["big"].milliseconds)


def test_other_data_than_the_networks_are_refused_by_number(paths, source):
    with pytest.raises(UserError, match=r"has 1001 classes and noise has 10 \('class_0' to 'class_9'\)"):
        collect_logits(open_members([paths["mobilenet_v1_0.25_128_quant"]], 10), source(), "test", timed=False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("@32", "takes images of 16 pixels only"),
        (":other", "no part, or :background"),
        ("?alpha=1", "no option 'alpha'"),
    ],
)
def test_what_a_file_cannot_be_is_refused(files, words, message):
    with pytest.raises(UserError, match=message):
        open_members([f"{files}/float32.tflite{words}"], 10)


def test_a_segmenter_and_files_that_are_none_are_refused(files, shared_data, tmp_path):
    with pytest.raises(UserError, match=r"expected an output \[B, classes\], got ArgMax int64 \[1, 513, 513\]"):
        open_members([f"{shared_data}/deeplab_tflite/deeplabv3_mnv2_pascal_quant.tflite"])
    (tmp_path / "text.tflite").write_text("nothing of the kind")
    with pytest.raises(UserError, match=r"text.tflite cannot be read: it is not a .tflite file"):
        open_members([str(tmp_path / "text.tflite")])
    whole = (files / "float32.tflite").read_bytes()
    (tmp_path / "half.tflite").write_bytes(whole[:200])
    with pytest.raises(UserError, match=r"half.tflite cannot be read: it is damaged or truncated"):
        open_members([str(tmp_path / "half.tflite")])


def test_probabilities_can_be_told_to_be_logits(files, network, images):
    (member,) = open_members([f"{files}/float32.tflite?outputs=logits&background=none"], 11)
    expected = np.asarray(network(images(16).astype("float32")))
    np.testing.assert_allclose(member.run(images(16)), expected, atol=1e-5)
    assert softmax(member.run(images(16))).std() < softmax(np.log(expected)).std()
