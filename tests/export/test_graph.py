"""Tests of exported graphs: the tiny preset of every family, divided by two, without Keras."""

import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from dico_tf.divide.networks import architecture
from dico_tf.evaluation.averaging import combine, softmax
from dico_tf.export import convert, graph, litert, saved_model
from dico_tf.formulas.averages import AVERAGES
from dico_tf.models.presets import PRESETS
from tests.export import networks
from tests.tiers import slow_but

TINY = [name for name in PRESETS if PRESETS[name].tiny and PRESETS[name].task == "classification"]
IMAGES = networks.images(3, np.random.default_rng(0))


QUICK = ("wrn_tiny",)  # groups have a test of their own below


@pytest.fixture(scope="module", params=slow_but(QUICK, TINY))
def branch(request):
    return networks.branch(request.param)


@pytest.fixture(scope="module")
def folder(branch, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model"
    saved_model.write(networks.member(branch), path)
    return path


def test_a_saved_model_answers_without_keras(branch, folder):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(folder))
        signature = loaded.signature_def["serving_default"]
        names = {key: tensor.name for key, tensor in (*signature.inputs.items(), *signature.outputs.items())}
        logits = session.run(names["logits"], {names["image"]: IMAGES})
    expected = np.asarray(branch(IMAGES))
    assert expected.std(0).max() > 0.1  # or any constant would do
    assert abs(logits - expected).max() <= 1e-5 * expected.std()


def test_a_saved_model_holds_every_weight_once_and_no_xla(branch, folder):
    stored = tf.train.load_checkpoint(str(folder / "variables/variables")).get_variable_to_shape_map()
    numbers = sum(int(np.prod(shape)) for name, shape in stored.items() if name != "_CHECKPOINTABLE_OBJECT_GRAPH")
    assert numbers == sum(int(np.prod(v.shape)) for v in branch.variables)
    assert b"_XlaMustCompile" not in (folder / "saved_model.pb").read_bytes()


@pytest.mark.slow
def test_a_litert_file_answers_with_its_own_operations(branch):
    content = convert.network_to_tflite(branch)
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    run = interpreter.get_signature_runner("serving_default")
    logits = np.concatenate([run(image=image[None])["logits"] for image in IMAGES])
    expected = np.asarray(branch(IMAGES))
    assert abs(logits - expected).max() <= 1e-5 * expected.std()
    operations = {details["op_name"] for details in interpreter._get_ops_details()}
    assert not [name for name in operations if name.startswith("Flex")] and "CONV_2D" in operations


@pytest.mark.slow
def test_float16_rounds_weights_and_nothing_worse(branch, folder, tmp_path):
    images = networks.images(40, np.random.default_rng(1)).astype(np.uint8)
    path = tmp_path / "float16.tflite"
    path.write_bytes(convert.to_tflite(convert.freeze(tf.saved_model.load(str(folder)), 1), "float16"))
    expected = np.asarray(branch(images.astype(np.float32)))
    difference = (litert.run(path, images).logits - expected) / expected.std()
    assert np.sqrt((difference**2).mean()) < 0.005 and abs(difference).max() < 0.02  # processors differ: 0.0150 at most


@pytest.mark.slow
def test_groups_stay_one_convolution_each():
    network = PRESETS["resnext_tiny"].divided(2).build(32, 7)
    interpreter = Interpreter(model_content=convert.network_to_tflite(network))
    convolutions = [d for d in interpreter._get_ops_details() if d["op_name"] == "CONV_2D"]
    assert len(convolutions) == sum("conv" in layer.name and hasattr(layer, "kernel") for layer in network.layers)


@pytest.mark.parametrize("average", slow_but(("probs",), AVERAGES))
def test_a_committee_averages_as_an_evaluation_does(average):
    branches = [networks.branch("wrn_tiny", seed) for seed in (1, 2, 3)]
    outputs = graph.answers(networks.member(*branches, average=average), tf.constant(IMAGES))
    apart = np.stack([branch(IMAGES) for branch in branches], 1)
    expected = combine(apart, average)
    assert outputs["logits"].numpy() == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert outputs["probabilities"].numpy() == pytest.approx(softmax(expected), abs=1e-6)
    assert outputs["branch_probabilities"].numpy() == pytest.approx(softmax(apart), abs=1e-6)
    assert outputs["class_id"].numpy().tolist() == expected.argmax(1).tolist()
    assert outputs["class_id"].dtype == tf.int64


@pytest.mark.parametrize("average", slow_but(("probs",), AVERAGES))
def test_a_branch_gives_its_own_logits_whatever_its_committee_averages(average):
    branch = networks.branch("wrn_tiny")
    outputs = graph.answers(networks.member(branch, average=average), tf.constant(IMAGES))
    assert outputs["logits"].numpy() == pytest.approx(np.asarray(branch(IMAGES)), abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("average", ["logits", "probs"])
def test_an_int8_committee_rounds_no_probability(average, tmp_path):
    branches = [networks.branch("wrn_tiny", seed) for seed in (1, 2)]
    saved_model.write(networks.member(*branches, average=average), tmp_path / "model")
    network = convert.freeze(tf.saved_model.load(str(tmp_path / "model")), 1)
    content = convert.to_tflite(network, "int8", IMAGES.astype(np.uint8))
    interpreter = Interpreter(model_content=content)
    operations = [details["op_name"] for details in interpreter._get_ops_details()]
    assert operations.count("QUANTIZE") == 1  # of the picture
    outputs = interpreter.get_signature_runner("serving_default")(image=IMAGES[:1])
    assert outputs["branch_probabilities"].sum(-1) == pytest.approx(1, abs=1e-6)
    assert outputs["branch_probabilities"].max() * 256 % 1 != 0


def test_disagreement_is_what_the_mean_is_more_uncertain_by():
    branches = [networks.branch("wrn_tiny", seed) for seed in (1, 2)]
    branches[1].layers[-1].bias.assign([30.0, *[0.0] * 6])  # a branch that is certain
    outputs = graph.answers(networks.member(*branches), tf.constant(IMAGES))
    p = outputs["branch_probabilities"].numpy().astype(np.float64)

    def entropy(q):
        return -(q * np.log(np.where(q > 0, q, 1))).sum(-1)

    expected = entropy(p.mean(1)) - entropy(p).mean(1)
    assert outputs["disagreement"].numpy() == pytest.approx(expected, abs=1e-5) and (expected > 0.1).any()


def test_a_function_that_keras_would_have_compiled_is_not():
    image = keras.Input((32, 32, 3), name="image")
    x = keras.layers.Conv2D(6, 3, groups=3)(image)
    model = keras.Model(image, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saved_model, "edit", lambda path: None)
        assert b"_XlaMustCompile" in _written(model)  # or nothing would be taken back below
    assert b"_XlaMustCompile" not in _written(model)


def _written(model) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        saved_model.write(networks.member(model), folder)
        return (Path(folder) / "saved_model.pb").read_bytes()


def test_a_network_of_ones_own_is_read_in_float32():
    with_policy = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Conv2D(4, 3, dtype="mixed_bfloat16"),
            keras.layers.GlobalAveragePooling2D(dtype="mixed_float16"),
            keras.layers.Dense(3, dtype="mixed_bfloat16"),
        ]
    )
    network = architecture.from_dict(architecture.in_float32(architecture.to_dict(with_policy)))
    assert {layer.compute_dtype for layer in with_policy.layers} != {"float32"}
    assert {layer.compute_dtype for layer in network.layers} == {"float32"}
