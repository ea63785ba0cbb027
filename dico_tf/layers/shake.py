"""ShakeDrop (Yamada et al. 2018) and Shake-Shake (Gastaldi 2017): random factors that differ forward and backward."""

import keras
from keras import ops


def two_faced(forward, backward, x):
    """Return forward * x, with the gradient backward * dy."""
    return backward * x + ops.stop_gradient((forward - backward) * x)


class _Shaken(keras.layers.Layer):
    """Base of layers that draw one number per sample from a generator of their own."""

    def __init__(self, seed: int | None = None, **options):
        super().__init__(**options)
        self.seed = seed
        self.draws = keras.random.SeedGenerator(seed)

    def per_sample(self, x, low: float, high: float):
        """Draw from U(low, high), [B, 1, 1, 1] in the precision of x."""
        return keras.random.uniform((ops.shape(x)[0], 1, 1, 1), low, high, dtype=x.dtype, seed=self.draws)

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}


@keras.saving.register_keras_serializable("dico_tf")
class ShakeDrop(_Shaken):
    """ShakeDrop: with probability 1 - rate x passes unchanged; otherwise U(-1, 1) x forward and U(0, 1) dy backward.

    One draw decides for the whole batch; the factors are drawn for each sample. In inference it returns (1 - rate) x.
    """

    def __init__(self, rate: float, **options):
        super().__init__(**options)
        self.rate = rate

    def call(self, x, training=False):
        if not training:
            return (1 - self.rate) * x
        passes = keras.random.uniform((), dtype="float32", seed=self.draws) >= self.rate
        forward = ops.where(passes, ops.ones((), x.dtype), self.per_sample(x, -1.0, 1.0))
        backward = ops.where(passes, ops.ones((), x.dtype), self.per_sample(x, 0.0, 1.0))
        return two_faced(forward, backward, x)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}


@keras.saving.register_keras_serializable("dico_tf")
class ShakeShake(_Shaken):
    """Shake-Shake of inputs (x1, x2): a x1 + (1 - a) x2, with a ~ U(0, 1) per sample, drawn again for the gradient.

    In inference a = 1/2.
    """

    def call(self, inputs, training=False):
        first, second = inputs
        if not training:
            return 0.5 * (first + second)
        forward, backward = self.per_sample(first, 0.0, 1.0), self.per_sample(first, 0.0, 1.0)
        return two_faced(forward, backward, first - second) + second

    def compute_output_shape(self, input_shape):
        return input_shape[0]
