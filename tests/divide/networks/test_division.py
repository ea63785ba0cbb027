"""Division of Keras networks: budgets, heads, logits, seeds, custom layers and errors."""

import itertools
import json
import math
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

from dico_tf.divide import divide_model, narrows
from dico_tf.divide.networks.architecture import from_dict, to_dict
from dico_tf.divide.networks.cost import cost
from dico_tf.divide.networks.division import plan
from dico_tf.divide.networks.graph import weightless
from dico_tf.divide.networks.width_cost import WidthCost
from dico_tf.divide.networks.width_tracing import RULES
from dico_tf.errors import UserError
from dico_tf.models.presets import PRESETS
from tests.divide.networks.contract import divided, sizes
from tests.tiers import slow_but


def small(*hidden, classes=5, activation="softmax", **options):
    """Return a network: image -> convolutions of these widths -> classes."""
    chain = [layers.Conv2D(width, 3, padding="same", name=f"conv_{n}", **options) for n, width in enumerate(hidden)]
    pool, head = layers.GlobalAveragePooling2D(), layers.Dense(classes, activation=activation, name="head")
    return keras.Sequential([keras.Input((8, 8, 3), name="image"), *chain, pool, head], name="small")


@pytest.mark.parametrize("splits", slow_but((2, 3, 4, 7, 16, 32), range(2, 33)))
@pytest.mark.parametrize("budget", ["params", "macs"])
def test_a_network_of_plain_widths_meets_its_budget(splits, budget):
    division = plan(small(64, 96, 128), splits, budget)
    assert division.met and abs(splits * getattr(division.branch, budget) / getattr(division.whole, budget) - 1) <= 0.02


@pytest.mark.slow
@pytest.mark.parametrize("splits", (2, 3, 5, 8, 20, 32))
@pytest.mark.parametrize("widths", [(7,), (6, 9), (16, 12)])
def test_no_choice_of_widths_is_nearer_where_the_budget_is_missed(splits, widths):
    whole = small(*widths)
    division = plan(whole, splits)
    prices, target = WidthCost(division.network), cost(whole).params / splits
    every = itertools.product(*(range(1, width.size + 1) for width in division.network.widths))
    nearest = min(
        abs(prices(dict(zip(division.network.widths, point, strict=True))).params / target - 1) for point in every
    )
    assert abs(division.distance) <= max(0.02, nearest + 1e-9)
    assert division.met == (abs(division.distance) <= 0.02) and ("nearest" in str(division)) == (not division.met)


def test_few_widths_stay_in_proportion():
    division = plan(small(16, 12), 2)
    now = division.build()
    assert division.met and abs(now.get_layer("conv_0").filters / 16 - now.get_layer("conv_1").filters / 12) < 0.2


def test_a_preset_can_be_divided_by_budget_too():
    preset = PRESETS["wrn_10_2"]
    whole = weightless(preset.build, 32, 10)
    division, branch = divided(whole, 3, "macs")
    assert division.met and division.whole == preset.cost(32, 10)
    assert branch.inputs[0].name == "image" and branch.output_names == ["logits"]


def test_a_network_with_nothing_to_narrow_says_how_far_it_is_from_its_budget():
    branches = divide_model(keras.Sequential([keras.Input((8,)), layers.Dense(3)]), 4)
    assert len(branches) == 4 and not branches.plan.met and branches.plan.distance == 3
    assert str(branches.plan) == ("4 x 27 of 27 parameters: +300.00%, the nearest possible; the tolerance is 2.0%")


def test_dividing_by_one_changes_no_width():
    x = keras.Input((8, 8, 3), name="image")
    y = layers.Dropout(0.3)(layers.Conv2D(12, 3, kernel_regularizer="l2", name="conv")(x))
    whole = keras.Model(x, layers.Dense(4, name="head")(layers.Flatten()(y * 2.0)), name="whole")
    division, branch = divided(whole, 1)
    assert division.distance == 0 and division.changes == {} and division.regularisation == {}
    assert [layer.name for layer in branch.layers] == [layer.name for layer in whole.layers]
    assert [layer.get_config() for layer in branch.layers] == [layer.get_config() for layer in whole.layers]
    assert not np.array_equal(branch.get_layer("conv").kernel.numpy(), whole.get_layer("conv").kernel.numpy())


def test_dividing_leaves_the_model_as_it_was():
    whole = small(16, 24)
    before = [w.numpy() for w in whole.weights], whole.to_json()
    divide_model(whole, 2)
    assert whole.to_json() == before[1] and whole.layers[0].output.shape == (None, 8, 8, 16)
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(before[0], whole.weights, strict=True))


@pytest.mark.slow
def test_a_model_from_a_file_is_divided_like_the_one_that_was_saved(tmp_path):
    whole = small(24, 32)
    whole.compile("adam", "sparse_categorical_crossentropy")
    whole.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert plan(loaded, 2).changes == plan(whole, 2).changes


def test_what_is_no_width_stays():
    policy = keras.mixed_precision.DTypePolicy("mixed_bfloat16")
    start = keras.initializers.RandomNormal(stddev=0.02)
    whole = small(32, 48, kernel_regularizer=keras.regularizers.L2(1e-4), kernel_initializer=start, dtype=policy)
    branch = plan(whole, 2).build()
    layer = branch.get_layer("conv_1")
    assert layer.kernel_regularizer.l2 == pytest.approx(1e-4) and layer.dtype_policy.name == "mixed_bfloat16"
    assert layer.kernel_initializer.stddev == 0.02 and layer.padding == "same"


def test_changes_name_the_layers_and_their_widths():
    division = plan(small(32, 32, 48), 2)
    now = division.build()
    (a, b, c) = (now.get_layer(f"conv_{n}").filters for n in range(3))
    assert a == b and division.changes == {"conv_0 and 1 more": [32, a], "conv_2": [48, c]}


def test_two_changes_of_one_layer_have_two_names():
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(128, 3, groups=16, name="grouped")(layers.Conv2D(64, 3, name="first")(image))
    x = layers.LSTM(32, dropout=0.2, recurrent_dropout=0.4, name="lstm")(layers.Reshape((144, 128))(x))
    division = plan(keras.Model(image, layers.Dense(5)(x)), 2)
    assert {"grouped", "grouped (filters)"} <= division.changes.keys()
    assert division.regularisation == {
        "lstm": [0.2, pytest.approx(0.2 / math.sqrt(2))],
        "lstm (recurrent_dropout)": [0.4, pytest.approx(0.4 / math.sqrt(2))],
    }


def test_seeds_do_not_make_branches_alike_but_the_global_one_makes_them_again():
    whole = small(8, kernel_initializer=keras.initializers.HeNormal(seed=7))

    def kernels():
        keras.utils.set_random_seed(3)
        return [branch.get_layer("conv_0").kernel.numpy() for branch in divide_model(whole, 2)]

    first, again = kernels(), kernels()
    assert not np.array_equal(*first)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_a_branch_learns_where_the_whole_was_frozen():
    inner = small(16, 16, activation=None)
    inner.trainable = False
    image = keras.Input((8, 8, 3))
    x = layers.Dense(4)(inner(layers.BatchNormalization()(image), training=False))
    division, branch = divided(keras.Model(image, x))
    assert division.whole.params == inner.count_params() + 5 * 4 + 4 + 2 * 3
    assert len(branch.trainable_variables) == 10 and "training" not in json.dumps(branch.get_config()["layers"])


@pytest.mark.parametrize("classes", [5, 2, 30])
def test_a_head_for_other_classes_is_counted_in_the_whole_too(classes):
    division = plan(small(32, 48), 2, classes=classes)
    assert division.build().output_shape == (None, classes) and division.met
    assert division.whole == cost(small(32, 48, classes=classes))


def test_a_head_that_is_no_layer_of_its_own_cannot_be_replaced():
    x = keras.Input((8, 8, 3))
    message = (
        r"'auto' cannot have a head for 7 classes: its outputs are \{'add'.*, and the last axis of an output is not"
    )
    with pytest.raises(UserError, match=message):
        plan(keras.Model(x, layers.Add(name="add")([x, layers.Conv2D(3, 1)(x)]), name="auto"), 2, classes=7)


def test_outputs_with_different_numbers_of_classes_cannot_have_another_head():
    x = keras.Input((8,))
    with pytest.raises(UserError, match=r"'two' cannot have a head for 7 classes: .*, whose last axes differ; give"):
        plan(keras.Model(x, [layers.Dense(3)(x), layers.Dense(4)(x)], name="two"), 2, classes=7)


def softmaxes():
    x = keras.Input((6,))
    y = layers.Dense(4, name="dense")(layers.Dense(8)(x))
    return {
        "activation": layers.Dense(4, activation="softmax", name="last")(x),
        "layer": layers.Softmax(name="last")(y),
        "activation layer": layers.Activation("softmax", name="last")(y),
        "operation": keras.ops.softmax(y),
        "reshaped": layers.Flatten(name="last")(layers.Reshape((4, 1))(layers.Softmax()(y))),
        "none": layers.Activation("linear", name="last")(y),
    } | {"input": x}


@pytest.mark.parametrize("kind", ["activation", "layer", "activation layer", "operation", "reshaped", "none"])
def test_logits_are_what_the_softmax_was_given(kind):
    """The branch's own weights in the network with its softmax give the softmax of the branch's answer."""
    made = softmaxes()
    division = plan(keras.Model(made["input"], made[kind]), 1)
    bare, full = division.build(logits=True), division.build()
    full.set_weights(bare.get_weights())
    given = np.random.default_rng(0).normal(size=(3, 6)).astype("float32")
    answer = bare(given).numpy()
    expected = answer if kind == "none" else np.exp(answer) / np.exp(answer).sum(1, keepdims=True)
    np.testing.assert_allclose(full(given), expected, rtol=1e-5)
    assert bare.output.dtype == "float32" and (kind == "operation" or bare.output_names == full.output_names)


def test_logits_are_float32_under_mixed_precision():
    whole = small(8, dtype="mixed_bfloat16")
    whole = keras.Model(
        whole.inputs[0], layers.Dense(3, activation="softmax", dtype="mixed_bfloat16")(whole.outputs[0])
    )
    assert plan(whole, 2).build().output.dtype == "bfloat16"
    assert plan(whole, 2).build(logits=True).output.dtype == "float32"


@pytest.mark.slow
def test_a_plan_can_be_made_again_from_the_architecture_alone():
    image = keras.Input((8, 8, 3))
    normalise = layers.Normalization(name="normalise")
    normalise.adapt(np.random.default_rng(0).normal(3, 2, (100, 8, 8, 3)))
    whole = keras.Model(image, small(24, 40)(normalise(image)), name="whole")
    blueprint = json.loads(json.dumps(to_dict(whole)))
    first, again = plan(whole, 3), plan(from_dict(blueprint), 3)
    assert (first.changes, first.branch, first.whole) == (again.changes, again.branch, again.whole)
    layer = again.build().get_layer("normalise")
    np.testing.assert_allclose(layer.mean, normalise.mean, rtol=1e-6)
    np.testing.assert_allclose(layer.variance, normalise.variance, rtol=1e-6)


class Scale(layers.Layer):
    """A layer x w whose config does not name its width."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1],), initializer="ones")

    def call(self, x):
        return x * self.w


class Mix(layers.Layer):
    """A custom layer whose config names its width."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], self.units), initializer="glorot_uniform")

    def call(self, x):
        return keras.ops.matmul(x, self.w)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


class Stuck(Mix):
    """A layer whose config names `units`, but whose code has a fixed width."""

    def build(self, shape):
        self.w = self.add_weight(shape=(24, 24), initializer="glorot_uniform")


def around(layer, width=24):
    x = keras.Input((8,))
    return keras.Model(x, layers.Dense(3)(layer(layers.Dense(width, name="before")(x))))


def test_a_layer_of_ones_own_is_narrowed_by_the_width_in_its_config():
    _, branch = divided(around(Mix(30, name="mix")))
    assert branch.get_layer("mix").units < 30
    _, branch = divided(around(Mix(24, name="mix")))
    assert branch.get_layer("mix").units == sizes(branch, "before")[0] < 24


def test_layers_can_be_taught(monkeypatch):
    monkeypatch.setattr("dico_tf.divide.networks.width_tracing.RULES", dict(RULES))
    with pytest.raises(UserError, match=r"Scale 'scale' cannot be narrowed: .*register a rule with @narrows\(Scale\)"):
        plan(around(Scale(name="scale")), 2)

    @narrows(Scale)
    def scale(call):
        return call.inputs[0]

    _, branch = divided(around(Scale(name="scale")))
    assert branch.get_layer("scale").w.shape == (sizes(branch, "before")[0],)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (layers.Lambda(lambda x: x * 2, name="twice"), "Lambda 'twice' cannot be narrowed: it runs code"),
        (Stuck(24, name="stuck"), "Stuck 'stuck' does not work at the widths of a branch"),
        (
            layers.SpectralNormalization(layers.Dense(9), name="s"),
            "SpectralNormalization 's' cannot be narrowed: it has",
        ),
    ],
)
def test_a_layer_that_cannot_be_narrowed_is_named(layer, message):
    with pytest.raises(UserError, match=f"(?s){message}.*@narrows"):
        plan(around(layer), 2)


def test_code_before_the_first_width_may_stay():
    x = keras.Input((8,))
    y = layers.Dense(3)(layers.Dense(32)(layers.Lambda(lambda v: v / 255)(x)))
    assert divided(keras.Model(x, y))[0].met


class Own(keras.Model):
    def call(self, x):
        return x


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (Own, {}, r"Own 'own.*' is not a functional or sequential Keras model"),
        (lambda: keras.Sequential([layers.Dense(3)]), {}, r"has no input shape yet; begin it with keras\.Input"),
        (lambda: layers.Dense(3), {}, "expected a functional or sequential keras.Model, got Dense"),
        (lambda: small(8), {"splits": 0}, "splits must be a whole number from 1 to 32, got 0"),
        (lambda: small(8), {"splits": 33}, "splits must be .* got 33"),
        (lambda: small(8), {"splits": 2.0}, "splits must be .* got 2.0"),
        (lambda: small(8), {"budget": "flops"}, "budget must be params or macs, got 'flops'"),
        (lambda: small(8), {"tolerance": -0.1}, "tolerance must be .* got -0.1"),
        (lambda: small(8), {"tolerance": 2}, "tolerance must be .* got 2"),
        (
            lambda: keras.Sequential([keras.Input((4,)), layers.ReLU()], name="r"),
            {},
            "'r' has no parameters to divide; expected layers of filters or units, got ReLU",
        ),
    ],
)
def test_a_mistake_is_named_with_its_remedy(model, options, message):
    with pytest.raises(UserError, match=message):
        divide_model(model(), **{"splits": 2, **options})


def test_multiply_adds_need_known_sizes():
    model = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(8, 3)], name="open")
    with pytest.raises(UserError, match=r"'open' are not known.*\(None, None, None, 3\).*budget='params'"):
        plan(model, 2, budget="macs")


def test_importing_the_room_imports_no_framework():
    code = "import sys, dico_tf.divide; sys.exit('keras' in sys.modules or 'tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
