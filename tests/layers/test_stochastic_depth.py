"""Residual branches that are left out for some rows: what is computed, what comes out, and what is drawn."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from dico_tf.errors import UserError
from dico_tf.layers.stochastic_depth import FORMS, PutBack, Taken, computed, droppings, rate_error, residual, set_form
from dico_tf.models.presets import PRESETS

ROWS, WIDTH = 16, 6
X = tf.constant(np.random.default_rng(0).normal(size=(ROWS, 3, WIDTH)).astype(np.float32))


class Spy(keras.layers.Layer):
    """f(x) = tanh(x W), and the numbers of rows it was called with."""

    def __init__(self, **options):
        super().__init__(**options)
        self.rows = []

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], input_shape[-1]), initializer="normal", name="kernel")

    def call(self, x):
        if isinstance(x.shape[0], int):
            self.rows.append(x.shape[0])
        return tf.tanh(tf.matmul(x, self.kernel))


def network(rate: float, form: str, branches: int = 1) -> tuple[keras.Model, list[Spy]]:
    keras.utils.set_random_seed(5)
    spies = [Spy(name=f"spy{n}") for n in range(branches)]
    image = x = keras.Input((3, WIDTH))
    for n, spy in enumerate(spies):
        x = residual(x, spy, rate, f"block{n}")
    model = keras.Model(image, x)
    set_form(model, form)
    for spy in spies:
        spy.rows.clear()
    return model, spies


@pytest.mark.parametrize(
    ("rows", "rate", "computed_rows"), [(100, 0.55, 44), (2, 0.05, 1), (4, 0.9, 1), (16, 0.3, 11), (1, 0.5, 1)]
)
def test_rows_that_are_computed_are_cut_off_and_never_none(rows, rate, computed_rows):
    """100 (1 - 0.55) is 44.99... in float64: the reference computes 44 rows, and so do we."""
    assert computed(rows, rate) == computed_rows
    taken = Taken(rate, form="efficient")
    assert taken(tf.zeros((rows, 2)), training=True)[0].shape == (computed_rows, 2)
    open_size = tf.function(lambda x: taken(x, training=True)[0], input_signature=[tf.TensorSpec((None, 2))])
    assert open_size(tf.zeros((rows, 2))).shape == (computed_rows, 2)


def test_powers_of_two_lose_no_row_to_rounding():
    for power, hundredths in itertools.product(range(3, 13), range(1, 100)):
        rows = 2**power
        assert computed(rows, hundredths / 100) == max(rows * (100 - hundredths) // 100, 1)


@pytest.mark.parametrize("rate", [0.3, 0.5, 0.8])
def test_the_efficient_form_computes_k_rows_and_passes_the_others_as_they_are(rate):
    model, (spy,) = network(rate, "efficient")
    y = model(X, training=True).numpy()
    k = computed(ROWS, rate)
    assert spy.rows == [k]
    computed_rows = [row for row in range(ROWS) if not np.array_equal(y[row], X[row])]
    assert len(computed_rows) == k
    want = X + (ROWS / k) * spy(X)
    assert y[computed_rows] == pytest.approx(want.numpy()[computed_rows], abs=1e-6)


def test_a_pass_that_does_not_train_leaves_nothing_out():
    for form in FORMS:
        model, (spy,) = network(0.5, form)
        assert np.array_equal(model(X), X + spy(X))


def test_both_forms_are_the_same_for_the_same_choice():
    """At half of the rows b / k is 1 / (1 - rate); the masked form is told the efficient one's choice."""
    spy, result = Spy(), []
    spy.build(X.shape)
    part, rows = Taken(0.5, form="efficient")(X, training=True)
    chosen = tf.where(tf.reduce_any(tf.range(ROWS)[:, None] == rows, axis=1), tf.range(ROWS), -1)
    cases = {"efficient": (part, rows), "masked": (X, chosen)}
    for form, (given, numbers) in cases.items():
        with tf.GradientTape() as tape:
            tape.watch(X)
            taken = tf.gather(X, rows) if form == "efficient" else X
            y = PutBack(0.5, form=form)(X, spy(taken), numbers, training=True)
            loss = tf.reduce_sum(y**2)
        assert given.shape == taken.shape
        result.append((y, *tape.gradient(loss, [spy.kernel.value, X])))
    (y, *gradients), (other_y, *others) = result
    assert np.abs(y - other_y).max() <= 1e-6
    for mine, other in zip(gradients, others, strict=True):
        assert np.asarray(mine) == pytest.approx(np.asarray(other), rel=1e-4, abs=1e-6)


def test_over_all_choices_the_mean_is_the_whole_branch():
    x = X[:4]
    spy = Spy()
    whole = x + spy(x)
    put_back = PutBack(0.5, form="efficient")
    seen = []
    for pair in itertools.combinations(range(4), 2):
        rows = tf.constant(pair)
        seen.append(put_back(x, spy(tf.gather(x, rows)), rows, training=True).numpy())
    assert len(seen) == 6
    assert np.mean(seen, axis=0) == pytest.approx(whole.numpy(), abs=1e-5)


def choices(model: keras.Model, steps: int, **options) -> list[list[tuple[int, ...]]]:
    """The rows taken, step by step, branch by branch."""
    drawn = keras.Model(model.inputs, [layer.output[1] for layer in droppings(model)])
    step = tf.function(lambda x: drawn(x, training=True), **options)
    images = tf.zeros((64, 32, 32, 3))
    return [[tuple(sorted(rows.numpy())) for rows in step(images)] for _ in range(steps)]


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True], ids=["graph", "xla"])
def test_every_branch_of_every_block_and_step_draws_anew(compiled):
    keras.utils.set_random_seed(0)
    model = PRESETS["vit_tiny"].with_drop_path(0.5).build(32, 3)
    result = choices(model, 4, jit_compile=compiled)
    assert {len(rows) for step in result for rows in step} == {32}
    flat = [rows for step in result for rows in step]
    assert len(flat) == 4 * 8 and len(set(flat)) == len(flat)


@pytest.mark.slow
def test_a_seed_repeats_all_choices():
    runs = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        runs.append(choices(PRESETS["vit_tiny"].with_drop_path(0.5).build(32, 3), 2))
    assert runs[0] == runs[1] != runs[2]


def test_gradients_of_a_step_that_xla_compiles_reach_the_rows_that_were_computed():
    model, (spy,) = network(0.4, "efficient")

    @tf.function(jit_compile=True)
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = model(x, training=True)
            loss = tf.reduce_sum(y)
        return y, tape.gradient(loss, [spy.kernel.value, x])

    y, (of_kernel, of_x) = tf.nest.map_structure(np.asarray, step(X))
    computed_rows = [row for row in range(ROWS) if not np.array_equal(y[row], X[row])]
    k = computed(ROWS, 0.4)
    assert len(computed_rows) == k
    with tf.GradientTape() as tape:
        some = tf.gather(X, computed_rows)
        tape.watch(some)
        want = tf.reduce_sum(some + ROWS / k * spy(some))
    other_kernel, other_x = tape.gradient(want, [spy.kernel.value, some])
    assert of_kernel == pytest.approx(np.asarray(other_kernel), rel=1e-4, abs=1e-5)
    assert of_x[computed_rows] == pytest.approx(np.asarray(other_x), rel=1e-4, abs=1e-5)
    assert np.all(np.delete(of_x, computed_rows, axis=0) == 1)


@pytest.mark.slow
def test_products_of_a_transformer_are_of_k_rows():
    """What a traced pass multiplies: with k of b rows, k / b of the residual branches' work."""
    work = {}
    for form in ("masked", "efficient"):
        model = PRESETS["vit_tiny"].with_drop_path(0.75).build(32, 3)
        set_form(model, form)
        traced = tf.function(lambda x, model=model: model(x, training=True)).get_concrete_function(
            tf.TensorSpec((ROWS, 32, 32, 3))
        )
        products = [op for op in traced.graph.get_operations() if op.type in ("BatchMatMulV2", "MatMul")]
        work[form] = sum(_multiply_adds(op) for op in products if "logits" not in op.name)
    macs = PRESETS["vit_tiny"].cost(32, 3).macs - 64 * 48 * 64 - 64 * 3
    assert work == {"masked": ROWS * macs, "efficient": computed(ROWS, 0.75) * macs}


def _multiply_adds(op) -> int:
    inner = op.inputs[0].shape[-1] if not _turned(op) else op.inputs[0].shape[-2]
    return int(np.prod(op.outputs[0].shape)) * inner


def _turned(op) -> bool:
    return op.get_attr("transpose_a" if op.type == "MatMul" else "adj_x")


def test_the_masked_form_drops_at_its_rate_every_row_by_itself():
    rate, count = 0.3, 100_000
    keras.utils.set_random_seed(0)
    x = tf.zeros((count, 3))
    part, rows = Taken(rate, form="masked")(x, training=True)
    y = PutBack(rate, form="masked")(x, part + 1, rows, training=True).numpy()
    assert np.all(y == y[:, :1])  # a row is dropped whole
    dropped = np.mean(y[:, 0] == 0)
    assert abs(dropped - rate) <= 3 * np.sqrt(rate * (1 - rate) / count)
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / (1 - rate))}


def test_auto_masks_up_to_a_rate_of_a_tenth():
    assert [Taken(rate).efficient for rate in (0.05, 0.1, 0.11, 0.5)] == [False, False, True, True]
    assert Taken(0.05, form="efficient").efficient and not Taken(0.5, form="masked").efficient


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("form", ["masked", "efficient"])
def test_half_precision_keeps_the_scale_of_what_is_put_back(policy, form):
    keras.utils.set_random_seed(1)
    options = {"form": form, "dtype": policy}
    x = tf.cast(X, keras.DTypePolicy(policy).compute_dtype)
    part, rows = Taken(0.5, **options)(x, training=True)
    y = PutBack(0.5, **options)(x, tf.ones_like(part), rows, training=True)
    assert y.dtype == x.dtype and rows.dtype == tf.int32
    added = np.unique(np.round((tf.cast(y, tf.float32) - tf.cast(x, tf.float32)).numpy(), 1))
    assert set(added) <= {0.0, 2.0} and 2.0 in added


def test_layers_that_are_saved_go_on_drawing_as_they_would_have(tmp_path):
    model, _ = network(0.5, "efficient")
    image = keras.Input((3, WIDTH))
    plain = keras.Model(image, residual(image, keras.layers.Dense(WIDTH), 0.5, "block"))
    plain(X, training=True)
    plain.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert np.array_equal(plain(X, training=True), again(X, training=True))
    assert [layer.form for layer in droppings(model)] == ["efficient"]


def test_a_rate_of_nothing_is_a_sum():
    x = keras.Input((3, WIDTH))
    assert droppings(keras.Model(x, residual(x, Spy(), 0.0, "block"))) == []


def test_other_rates_and_forms_are_refused():
    for rate in (1.0, -0.1):
        with pytest.raises(UserError, match="expected a drop rate of at least 0 and below 1, got"):
            Taken(rate)
    with pytest.raises(UserError, match="form must be one of auto, masked, efficient, got 'sparse'"):
        Taken(0.5, form="sparse")


def test_few_rows_miss_the_rate():
    assert rate_error(2, 0.05) == pytest.approx(0.45)
    assert rate_error(128, 0.25) == 0
    assert max(rate_error(rows, 0.3) for rows in range(20, 300)) <= 0.05
