"""A canary: what dico_tf uses of Keras without its promise still does what it did in the versions of TRIED."""

import ast
from pathlib import Path

import keras
import numpy as np
import pytest

from dico_tf.layers import keras_internals as internals

PACKAGE = Path(internals.__file__).parents[1]
INHERITED = {"_asdict", "_fields", "_exit"}  # of namedtuples and of os, both documented


def small() -> keras.Model:
    inputs = keras.Input((4,), name="numbers")
    hidden = keras.layers.Dense(3, name="hidden")(inputs)
    return keras.Model(inputs, keras.layers.Lambda(lambda x: x + 1, output_shape=(3,), name="plus_one")(hidden))


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return small()


def test_this_version_of_keras_is_one_that_was_tried():
    assert keras.__version__ in internals.TRIED, (
        f"Keras {keras.__version__} is not among {internals.TRIED}: where the other tests of this file pass, add it"
    )


def test_a_functional_model_has_nodes_in_order_and_a_subclass_has_none(model):
    assert [node.operation.name for node in internals.nodes(model)] == ["numbers", "hidden", "plus_one"]

    class Subclass(keras.Model):
        def call(self, x):
            return x

    assert internals.is_graph(model) and not internals.is_graph(Subclass())


def test_a_tensor_knows_the_layer_that_made_it(model):
    assert internals.producer(model.outputs[0]) is model.get_layer("plus_one")
    assert internals.lambda_output_shape(model.get_layer("plus_one")) == (3,)


def test_a_variable_without_a_value_is_told_from_one_with_a_value():
    layer = keras.layers.Dense(3)
    with keras.StatelessScope(initialize_variables=False):
        layer.build((None, 4))
        assert not internals.has_value(layer.kernel)
    assert internals.has_value(small().get_layer("hidden").kernel)


def test_layers_within_layers_are_listed(model):
    outer = keras.Sequential([keras.Input((4,)), model])
    assert {"hidden", "plus_one"} <= {layer.name for layer in internals.sublayers(outer)}


def test_moving_averages_and_slots_follow_the_variables():
    model = small()
    optimizer = keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.5)
    optimizer.build(model.trainable_variables)
    before = [v.numpy() for v in model.trainable_variables]
    for _ in range(2):  # the first average is the first step's weight
        optimizer.apply([np.ones(v.shape, "float32") for v in model.trainable_variables])
    averages = internals.moving_averages(optimizer)
    for place, (variable, start) in enumerate(zip(model.trainable_variables, before, strict=True)):
        assert internals.slot(optimizer, variable) == place
        assert averages[place].numpy() == pytest.approx(start - 0.75, abs=1e-6)


def test_an_optimizer_of_ones_own_limits_gradients_and_is_not_decayed_by_keras():
    class Halved(internals.OptimizerWithOwnDecay):
        def limited(self, gradients, variables):
            return [gradient / 2 for gradient in gradients]

        def update_step(self, gradient, variable, learning_rate):
            self.assign_sub(variable, gradient)

    weights = keras.Variable([1.0, 2.0])
    optimizer = Halved(1.0, weight_decay=0.9)
    optimizer.build([weights])
    optimizer.apply([keras.ops.ones(2)])
    assert weights.numpy().tolist() == [0.5, 1.5]


@pytest.mark.parametrize("kind", [keras.optimizers.SGD, keras.optimizers.AdamW, keras.optimizers.Adam])
def test_steps_and_decoupled_decay_are_scaled_variable_by_variable(kind):
    moved = []
    for factors in ((1.0, 1.0), (0.0, 0.5)):
        weights = [keras.Variable([2.0]), keras.Variable([2.0])]
        optimizer = kind(0.25, weight_decay=0.5)
        optimizer.build(weights)
        internals.scale_steps(optimizer, lambda slot, factors=factors: factors[slot])
        optimizer.apply([np.ones(1, "float32")] * 2, weights)
        moved.append([float(w[0]) - 2.0 for w in weights])
        assert optimizer.weight_decay == 0.5
    whole, part = moved
    assert whole[0] == whole[1] < 0 and part[0] == 0
    # Keras decays first, and each by its own factor; the step itself does not depend on the weight.
    assert part[1] == pytest.approx(0.5 * whole[1], rel=1e-5)


def test_a_layer_computes_as_in_inference_while_told_to():
    norm, frozen = keras.layers.BatchNormalization(), [True]
    model = keras.Sequential([keras.Input((3,)), norm])
    internals.infer_while(norm, lambda: frozen[0])
    x = np.float32([[1, 2, 3], [3, 2, 1]])
    assert np.allclose(model(x, training=True), x, atol=1e-2) and not norm.moving_mean.numpy().any()
    frozen[0] = False
    assert np.abs(np.mean(model(x, training=True), 0)).max() < 1e-5 and norm.moving_mean.numpy().all()
    assert internals.takes_training(norm) and not internals.takes_training(keras.layers.ReLU())


def test_frozen_variables_are_parameters_and_statistics_are_not():
    norm = keras.layers.BatchNormalization()
    model = keras.Sequential([keras.Input((3,)), norm, keras.layers.Dense(2)])
    model.trainable = False
    assert [v.name for v in internals.parameters(model)] == ["gamma", "beta", "kernel", "bias"]


def private(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")


def defined(node: ast.AST) -> str:
    """Return the name that a class, function or field declaration defines, else an empty string."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return node.name
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return node.target.id
    return node.attr if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) else ""


def test_no_other_module_uses_what_keras_does_not_document():
    adapter = Path(internals.__file__)
    modules = {p: ast.parse(p.read_text("utf-8")) for p in PACKAGE.rglob("*.py") if not p.stem.endswith("_pb2")}
    names = {
        p: ({n.attr for n in ast.walk(t) if private(n)}, set(map(defined, ast.walk(t)))) for p, t in modules.items()
    }
    used, hooks = names.pop(adapter)
    assert {"_nodes_by_depth", "_keras_history"} <= used
    own = set().union(*(definitions for _, definitions in names.values())) - hooks
    for path, (uses, _) in names.items():
        foreign = uses - own - INHERITED
        assert not foreign, f"{path.relative_to(PACKAGE)} uses {sorted(foreign)}; add a function to keras_internals.py"
