"""What every family's tiny preset, divided by two, must do outside of Keras."""

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from dico_tf.export import graph
from dico_tf.models.menu import PRESETS

TINY = [name for name in PRESETS if name.endswith("_tiny")]
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.float32)


@pytest.fixture(scope="module", params=TINY)
def branch(request):
    """With statistics and gammas as after some training."""
    network = PRESETS[request.param].divided(2, "params", 32, 7).build(32, 7)
    draw = np.random.default_rng(1)
    for variable in network.variables:
        if variable.path.rsplit("/", 1)[-1] in ("gamma", "moving_variance", "moving_mean"):
            variable.assign(variable + draw.uniform(0.1, 0.5, variable.shape))
    return network


def test_a_saved_model_answers_without_keras(branch, tmp_path):
    graph.saved_model(branch, tmp_path / "model")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path / "model"))
        signature = loaded.signature_def["serving_default"]
        names = {key: tensor.name for key, tensor in (*signature.inputs.items(), *signature.outputs.items())}
        found = session.run(names["logits"], {names["image"]: IMAGES})
    assert found == pytest.approx(np.asarray(branch(IMAGES)), abs=1e-4)


def test_a_saved_model_holds_every_weight_once_and_no_xla(branch, tmp_path):
    graph.saved_model(branch, tmp_path / "model")
    stored = tf.train.load_checkpoint(str(tmp_path / "model/variables/variables")).get_variable_to_shape_map()
    numbers = sum(int(np.prod(shape)) for name, shape in stored.items() if name != "_CHECKPOINTABLE_OBJECT_GRAPH")
    assert numbers == sum(int(np.prod(v.shape)) for v in branch.variables)
    assert b"_XlaMustCompile" not in (tmp_path / "model/saved_model.pb").read_bytes()


def test_a_litert_file_answers_with_its_own_operations(branch, capfd):
    content = graph.litert(branch)
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    run = interpreter.get_signature_runner("serving_default")
    found = np.concatenate([run(image=image[None])["logits"] for image in IMAGES])
    assert found == pytest.approx(np.asarray(branch(IMAGES)), abs=1e-3)
    operations = {details["op_name"] for details in interpreter._get_ops_details()}
    assert not [name for name in operations if name.startswith("Flex")] and "CONV_2D" in operations


def test_groups_stay_one_convolution_each():
    network = PRESETS["resnext_tiny"].divided(2).build(32, 7)
    interpreter = Interpreter(model_content=graph.litert(network))
    convolutions = [d for d in interpreter._get_ops_details() if d["op_name"] == "CONV_2D"]
    assert len(convolutions) == sum("conv" in layer.name and hasattr(layer, "kernel") for layer in network.layers)
