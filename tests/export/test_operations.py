"""Kinds of layers that devices have had trouble with, in every kind of file."""

import resource

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from dico_tf.export import convert, converter_process, graph, litert, saved_model
from dico_tf.export.formats.format import Job
from dico_tf.export.formats.tflite import FORMAT as TFLITE
from dico_tf.files import manifest
from tests.export import networks

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3)).astype(np.uint8)


def convolutional() -> keras.Model:
    """Grouped, depthwise and dilated convolutions, and squeeze-excite."""
    layers, image = keras.layers, keras.Input((32, 32, 3), name="image")
    x = layers.Conv2D(16, 3, padding="same", strides=2, activation="relu")(image / 255.0)
    x = layers.Conv2D(16, 3, padding="same", groups=4, activation="relu")(x)
    x = layers.DepthwiseConv2D(3, padding="same", activation="swish")(x)
    x = layers.Conv2D(16, 3, padding="same", dilation_rate=2)(x)
    weights = layers.Dense(16, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    x = layers.BatchNormalization()(x * weights)
    return keras.Model(image, layers.Dense(5, name="head")(layers.GlobalAveragePooling2D()(x)))


def transformer() -> keras.Model:
    """Layer normalisation, attention, GELU."""
    layers, image = keras.layers, keras.Input((32, 32, 3), name="image")
    x = layers.Conv2D(24, 8, strides=8)(image / 255.0)
    x = layers.Reshape((16, 24))(x)
    normal = layers.LayerNormalization()(x)
    x = x + layers.MultiHeadAttention(3, 8)(normal, normal)
    x = x + layers.Dense(24)(layers.Dense(48, activation="gelu")(layers.LayerNormalization()(x)))
    return keras.Model(image, layers.Dense(5, name="head")(layers.GlobalAveragePooling1D()(x)))


@pytest.fixture(scope="module", params=[convolutional, transformer], ids=lambda make: make.__name__)
def network(request, tmp_path_factory):
    keras.utils.set_random_seed(0)
    made, folder = request.param(), tmp_path_factory.mktemp("saved") / "model"
    saved_model.write(networks.member(made), folder)
    return made, folder


def frozen(folder, batch: int) -> convert.Frozen:
    return convert.freeze(tf.saved_model.load(str(folder)), batch or None)


@pytest.mark.slow
@pytest.mark.parametrize("kind", manifest.LITERT)
def test_every_kind_of_file_runs_and_answers_about_the_same(network, kind, tmp_path):
    made, folder = network
    path = tmp_path / f"{kind}.tflite"
    path.write_bytes(convert.to_tflite(frozen(folder, 1), kind, IMAGES))
    expected = np.asarray(made(IMAGES.astype(np.float32)))
    outcome = litert.run(path, IMAGES)
    near = {"float32": 1e-5, "float16": 0.005, "dynamic": 0.15, "int8": 0.6}[kind]  # of the logits' deviation
    assert abs(outcome.logits - expected).max() <= near * expected.std()
    assert outcome.milliseconds > 0
    interpreter = Interpreter(model_path=str(path))
    names = {details["op_name"] for details in interpreter._get_ops_details()}
    assert not [name for name in names if name.startswith(("Flex", "CUSTOM"))]


@pytest.mark.slow
def test_one_picture_a_call_is_one_piece_for_the_fast_kernels(network, tmp_path):
    _, folder = network
    interpreter = Interpreter(model_content=convert.to_tflite(frozen(folder, 1), "float32"))
    interpreter.allocate_tensors()
    assert [details["op_name"] for details in interpreter._get_ops_details()].count("DELEGATE") == 1


@pytest.mark.slow
def test_files_of_any_batch_and_of_eight_answer_alike(network, tmp_path):
    made, folder = network
    expected = np.asarray(made(IMAGES[:11].astype(np.float32)))
    for batch in (0, 8):
        path = tmp_path / f"{batch}.tflite"
        path.write_bytes(convert.to_tflite(frozen(folder, batch), "float32"))
        assert litert.run(path, IMAGES[:11]).logits == pytest.approx(expected, rel=1e-4, abs=1e-4)
    interpreter = Interpreter(model_path=str(tmp_path / "0.tflite"))
    assert interpreter.get_input_details()[0]["shape_signature"].tolist() == [-1, 32, 32, 3]


def test_int8_takes_every_image_also_where_a_call_takes_more_than_there_are():
    images = np.arange(5)[:, None].astype(np.uint8)
    assert [part[0].ravel().tolist() for part in convert._examples(images, 3)] == [[0, 1, 2], [3, 4, 0]]
    assert [part[0].ravel().tolist() for part in convert._examples(images, 8)] == [[0, 1, 2, 3, 4, 0, 1, 2]]


def test_a_network_that_was_saved_and_loaded_is_exported_alike(tmp_path):
    first = networks.branch("wrn_tiny")
    first.save(tmp_path / "branch.keras")
    again = keras.saving.load_model(tmp_path / "branch.keras")
    servables = [graph.Servable(networks.member(made)) for made in (first, again)]
    functions = [servable.serve.get_concrete_function() for servable in servables]
    assert functions[0].structured_input_signature == functions[1].structured_input_signature
    kinds = [{name: (x.dtype, x.shape.as_list()) for name, x in f.structured_outputs.items()} for f in functions]
    assert kinds[0] == kinds[1]
    assert [spec.name for spec in functions[0].structured_input_signature[0]] == ["image"]


@pytest.mark.slow
def test_six_conversions_leave_no_memory_behind(network, tmp_path):
    _, folder = network
    converter_process.convert(TFLITE, [Job(None, folder, {"float32": tmp_path / "0.tflite"})])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for n in range(6):
        converter_process.convert(TFLITE, [Job(None, folder, {"float32": tmp_path / f"{n}.tflite"})])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # kB
    assert len({path.read_bytes() for path in tmp_path.glob("*.tflite")}) == 1
