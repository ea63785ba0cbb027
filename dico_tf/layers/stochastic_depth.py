"""Stochastic depth: training drops the residual branch f of x + f(x) for some rows of a batch.

There are two forms, here for a batch of b rows:

* masked: f is computed for all rows. Each row stays x with probability `rate`, and otherwise becomes
  x + f(x) / (1 - rate).
* efficient: f is computed only for k = max(int(b (1 - rate)), 1) rows, drawn anew for every f. These rows become
  x + f(x) b / k; the others stay x.

"auto" is masked up to a rate of 0.1, and efficient above. In inference all rows become x + f(x).
"""

import itertools
from collections.abc import Callable, Sequence

import keras
from keras import ops

from dico_tf.errors import UserError

FORMS = ("auto", "masked", "efficient")
MASKED_UP_TO = 0.1  # the form auto masks up to this rate, where moving rows costs more than it saves


def computed(rows: int, rate: float) -> int:
    """Return k, the number of rows for which the efficient form computes a branch: max(int(rows (1 - rate)), 1)."""
    return max(int(rows * (1 - rate)), 1)


def _place() -> tuple:
    """Return (number of this replica from 0, number of replicas)."""
    if keras.backend.backend() != "tensorflow":
        return 0, 1
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return (context.replica_id_in_sync_group, context.num_replicas_in_sync) if context else (0, 1)


def rate_error(rows: int, rate: float) -> float:
    """Return the absolute difference between the rate and the share of rows that the efficient form drops."""
    return abs(1 - computed(rows, rate) / rows - rate)


class _Dropping(keras.layers.Layer):
    """Base of the two layers around a residual branch: its drop rate, and the form that drops."""

    def __init__(self, rate: float, form: str = "auto", **options):
        super().__init__(**options)
        if not 0 <= rate < 1:
            raise UserError(f"expected a drop rate of at least 0 and below 1, got rate={rate}")
        if form not in FORMS:
            raise UserError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
        self.rate, self.form = rate, form

    @property
    def efficient(self) -> bool:
        return self.form == "efficient" or (self.form == "auto" and self.rate > MASKED_UP_TO)

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "form": self.form}


@keras.saving.register_keras_serializable("dico_tf")
class Taken(_Dropping):
    """Layer before a residual branch: x [b, ...] -> (rows [k, ...] to compute, their numbers in x, int32 [k] from 0).

    The masked form returns all rows; the number of a dropped row is -1. In inference no row is dropped.
    """

    def __init__(self, rate: float, form: str = "auto", seed: int | None = None, **options):
        super().__init__(rate, form, **options)
        self.seed = seed
        self.draws = keras.random.SeedGenerator(seed)

    def call(self, x, training=False):
        size = ops.shape(x)[0]
        if not training or not self.rate:
            return x, ops.arange(size, dtype="int32")
        numbers = self._numbers(size)
        if not self.efficient:
            return x, ops.where(numbers >= self.rate, ops.arange(size, dtype="int32"), -1)
        rows = ops.cast(ops.argsort(numbers)[: self._count(size)], "int32")
        return ops.take(x, rows, axis=0), rows

    def _numbers(self, size):
        """Draw a number in [0, 1) for each row. All replicas draw the same numbers, and each takes its own part."""
        replica, replicas = _place()
        numbers = keras.random.uniform((replicas * size,), dtype="float32", seed=self.draws)
        return numbers if replicas == 1 else numbers[replica * size : (replica + 1) * size]

    def save_own_variables(self, store):
        """Save the state of the generator too, which Keras leaves out; a reloaded model then draws the same numbers."""
        store["draws"] = ops.convert_to_numpy(self.draws.state)

    def load_own_variables(self, store):
        if "draws" in store:
            self.draws.state.assign(store["draws"])

    def _count(self, size):
        if isinstance(size, int):
            return computed(size, self.rate)
        rows = ops.cast(ops.cast(size, "float64") * (1 - self.rate), "int32")
        return ops.maximum(rows, 1)

    def compute_output_spec(self, x, training=False):
        return keras.KerasTensor(x.shape, self.compute_dtype), keras.KerasTensor(x.shape[:1], "int32")

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}


@keras.saving.register_keras_serializable("dico_tf")
class PutBack(_Dropping):
    """Layer after a residual branch: adds f of the computed rows, in training scaled up, to these rows of x.

    Inputs: x [b, ...], f of the rows [k, ...], and the numbers of the rows [k] from `Taken`; a row of number -1 is not
    added.
    """

    def call(self, x, share, rows, training=False):
        if not training or not self.rate:
            return x + share
        if not self.efficient:
            computed_rows = ops.reshape(rows >= 0, (-1, *[1] * (len(x.shape) - 1)))
            return x + ops.where(computed_rows, share / (1 - self.rate), ops.zeros((), share.dtype))
        size = ops.shape(x)[0]
        scale = ops.cast(size, "float32") / ops.cast(ops.shape(share)[0], "float32")
        return x + ops.segment_sum(share * ops.cast(scale, share.dtype), rows, num_segments=size)

    def compute_output_spec(self, x, share, rows, training=False):
        return keras.KerasTensor(x.shape, self.compute_dtype)


def residual(x, branch: Callable, rate: float, name: str, shortcut: Callable = lambda x: x):
    """Return shortcut(x) + branch(x); training drops the branch at this rate, in the form "auto"."""
    if not rate:
        return keras.layers.Add(name=f"{name}_add")([shortcut(x), branch(x)])
    part, rows = Taken(rate, name=f"{name}_taken")(x)
    return PutBack(rate, name=f"{name}_put_back")(shortcut(x), branch(part), rows)


def rising(rate: float, blocks: Sequence[int]) -> list[list[float]]:
    """Return a list of drop rates for each stage, rising evenly from 0 in the first block of all to `rate` in the last.

    Args:
        blocks: the number of blocks in each stage.
    """
    last = max(sum(blocks) - 1, 1)
    rates = iter(rate * i / last for i in range(sum(blocks)))
    return [list(itertools.islice(rates, count)) for count in blocks]


def droppings(model: keras.Model) -> list[Taken]:
    """Return the layers `Taken`, which begin the droppable branches, in the order of `model.layers`."""
    return [layer for layer in model.layers if isinstance(layer, Taken)]


def set_form(model: keras.Model, form: str) -> None:
    """Set the form of all droppable branches to "auto", "masked" or "efficient"; the value is not checked.

    A function that was traced before keeps its form.
    """
    for layer in model.layers:
        if isinstance(layer, _Dropping):
            layer.form = form
