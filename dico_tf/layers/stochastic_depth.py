"""Residual branches that training leaves out for some rows of a batch: x + f(x), each row's f dropped at a rate.

Masked, f is computed for all rows, and a row has x + f(x) / (1 - rate) or, by a draw of its own, x. Efficient, f is
computed for k = max(int(b (1 - rate)), 1) of b rows alone, drawn anew for every f, and these have x + f(x) b / k.
"""

import itertools
from collections.abc import Callable, Sequence

import keras
from keras import ops

from dico_tf.errors import UserError

FORMS = ("auto", "masked", "efficient")
MASKED_UP_TO = 0.1  # the rate up to which auto masks: taking and putting back would cost more than it saves


def computed(rows: int, rate: float) -> int:
    """k, the rows for which the efficient form computes a branch; the product is cut off as it is in float64."""
    return max(int(rows * (1 - rate)), 1)


def _place() -> tuple:
    """This replica's number, and how many there are."""
    if keras.backend.backend() != "tensorflow":
        return 0, 1
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return (context.replica_id_in_sync_group, context.num_replicas_in_sync) if context else (0, 1)


def off(rows: int, rate: float) -> float:
    """How far the efficient form's share of dropped rows is from the rate."""
    return abs(1 - computed(rows, rate) / rows - rate)


class _Dropping(keras.layers.Layer):
    def __init__(self, rate: float, form: str = "auto", **options):
        super().__init__(**options)
        if form not in FORMS or not 0 <= rate < 1:
            raise UserError(f"rate={rate}, form={form!r}: rates are at least 0 and below 1, forms {', '.join(FORMS)}")
        self.rate, self.form = rate, form

    @property
    def efficient(self) -> bool:
        return self.form == "efficient" or (self.form == "auto" and self.rate > MASKED_UP_TO)

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "form": self.form}


@keras.saving.register_keras_serializable("dico_tf")
class Taken(_Dropping):
    """x [b, ...] -> the rows [k, ...] that f is computed for, and their numbers int32 [k].

    Masked, these are all rows, and those that are dropped have the number -1.
    """

    def __init__(self, rate: float, form: str = "auto", seed: int | None = None, **options):
        super().__init__(rate, form, **options)
        self.seed = seed
        self.draws = keras.random.SeedGenerator(seed)

    def call(self, x, training=False):
        size = ops.shape(x)[0]
        if not training or not self.rate:
            return x, ops.arange(size, dtype="int32")
        drawn = self._drawn(size)
        if not self.efficient:
            return x, ops.where(drawn >= self.rate, ops.arange(size, dtype="int32"), -1)
        rows = ops.cast(ops.argsort(drawn)[: self._count(size)], "int32")
        return ops.take(x, rows, axis=0), rows

    def _drawn(self, size):
        """A number for each row. Generators are alike on all replicas: each draws for all and keeps its own."""
        replica, replicas = _place()
        drawn = keras.random.uniform((replicas * size,), dtype="float32", seed=self.draws)
        return drawn if replicas == 1 else drawn[replica * size : (replica + 1) * size]

    def save_own_variables(self, store):
        """Keras leaves the state of generators out, and a reloaded model would not go on as the original does."""
        store["draws"] = ops.convert_to_numpy(self.draws.state)

    def load_own_variables(self, store):
        if "draws" in store:
            self.draws.state.assign(store["draws"])

    def _count(self, size):
        if isinstance(size, int):
            return computed(size, self.rate)
        kept = ops.cast(ops.cast(size, "float64") * (1 - self.rate), "int32")
        return ops.maximum(kept, 1)

    def compute_output_spec(self, x, training=False):
        return keras.KerasTensor(x.shape, self.compute_dtype), keras.KerasTensor(x.shape[:1], "int32")

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}


@keras.saving.register_keras_serializable("dico_tf")
class PutBack(_Dropping):
    """(x [b, ...], f of the rows taken [k, ...], their numbers [k]) -> x with each one's f added."""

    def call(self, x, share, rows, training=False):
        if not training or not self.rate:
            return x + share
        if not self.efficient:
            kept = ops.reshape(rows >= 0, (-1, *[1] * (len(x.shape) - 1)))
            return x + ops.where(kept, share / (1 - self.rate), ops.zeros((), share.dtype))
        size = ops.shape(x)[0]
        scale = ops.cast(size, "float32") / ops.cast(ops.shape(share)[0], "float32")
        return x + ops.segment_sum(share * ops.cast(scale, share.dtype), rows, num_segments=size)

    def compute_output_spec(self, x, share, rows, training=False):
        return keras.KerasTensor(x.shape, self.compute_dtype)


def residual(x, branch: Callable, rate: float, name: str, shortcut: Callable = lambda x: x):
    """shortcut(x) + branch(x), the branch dropped at the rate; one f and one draw."""
    if not rate:
        return keras.layers.Add(name=f"{name}_add")([shortcut(x), branch(x)])
    part, rows = Taken(rate, name=f"{name}_taken")(x)
    return PutBack(rate, name=f"{name}_put_back")(shortcut(x), branch(part), rows)


def rising(rate: float, blocks: Sequence[int]) -> list[list[float]]:
    """Rates of each stage's blocks: 0 for the first of all, `rate` for the last, and in even steps between."""
    last = max(sum(blocks) - 1, 1)
    rates = iter(rate * i / last for i in range(sum(blocks)))
    return [list(itertools.islice(rates, count)) for count in blocks]


def droppings(model: keras.Model) -> list[Taken]:
    """One for each branch that can be dropped, in the order of the graph."""
    return [layer for layer in model.layers if isinstance(layer, Taken)]


def set_form(model: keras.Model, form: str) -> None:
    for layer in model.layers:
        if isinstance(layer, _Dropping):
            layer.form = form
