"""Checks that every division of a network must pass."""

import keras
import numpy as np

from dico_tf.divide.networks.cost import cost
from dico_tf.divide.networks.division import Plan, plan
from dico_tf.divide.networks.graph import functional
from dico_tf.divide.networks.width_cost import WidthCost


def random_inputs(model: keras.Model, batch: int = 2):
    draw = np.random.default_rng(0)
    shapes = [(batch, *(size or 5 for size in x.shape[1:])) for x in model.inputs]
    wholes = [x.dtype.startswith("int") for x in model.inputs]
    given = [
        draw.integers(0, 5, s).astype("int32") if whole else draw.normal(size=s).astype("float32")
        for s, whole in zip(shapes, wholes, strict=True)
    ]
    return keras.tree.pack_sequence_as(model.input, given)


def entrances(model: keras.Model) -> dict[str, tuple]:
    model = functional(model)
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.InputLayer)]
    return {layer.name: (layer.batch_shape, layer.dtype) for layer in layers}


def gradients(model: keras.Model) -> list:
    import tensorflow as tf

    with tf.GradientTape() as tape:
        answers = keras.tree.flatten(model(random_inputs(model), training=True))
        loss = sum(tf.reduce_sum(tf.cast(answer, "float32") ** 2) for answer in answers)
    return tape.gradient(loss, model.trainable_variables)


def divided(model: keras.Model, splits: int = 2, budget: str = "params", **options) -> tuple[Plan, keras.Model]:
    """Return the plan, and one branch that passes the checks."""
    division = plan(model, splits, budget, **options)
    return division, checked(division, model)


def checked(division: Plan, model: keras.Model) -> keras.Model:
    """Build a branch and check that it answers, has gradients everywhere, and has the planned cost."""
    branch = division.build("branch")
    assert cost(branch) == division.branch == WidthCost(division.network)(division.widths)
    assert branch.output_names == functional(model).output_names and branch.name == "branch"
    assert entrances(branch) == entrances(model)
    for answer, x in zip(keras.tree.flatten(branch(random_inputs(branch))), branch.outputs, strict=True):
        assert [n for n, size in zip(answer.shape, x.shape, strict=True) if size not in (None, n)] == []
        assert np.isfinite(answer).all()
    assert not [v.path for v, g in zip(branch.trainable_variables, gradients(branch), strict=True) if g is None]
    return branch


def sizes(branch: keras.Model, *names: str) -> list[int]:
    """Return the last axes of the named layers' outputs."""
    return [branch.get_layer(name).output.shape[-1] for name in names]
