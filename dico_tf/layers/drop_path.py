"""DropPath and DropBlock: in training they zero whole residual branches, or squares of their maps."""

import keras
from keras import ops


class _Drop(keras.layers.Layer):
    """Base of layers with a drop rate and a generator of their own."""

    def __init__(self, rate: float, seed: int | None = None, **options):
        super().__init__(**options)
        self.rate, self.seed = rate, seed
        self.draws = keras.random.SeedGenerator(seed)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


@keras.saving.register_keras_serializable("dico_tf")
class DropPath(_Drop):
    """Stochastic depth: in training, a sample's output is 0 with probability `rate`, otherwise x / (1 - rate).

    In inference it is x.
    """

    def call(self, x, training=False):
        if not training or not self.rate:
            return x
        shape = (ops.shape(x)[0], *[1] * (len(x.shape) - 1))
        survives = keras.random.uniform(shape, dtype="float32", seed=self.draws) >= self.rate
        return ops.where(survives, x / (1 - self.rate), ops.zeros((), x.dtype))


@keras.saving.register_keras_serializable("dico_tf")
class DropBlock(_Drop):
    """DropBlock (Ghiasi et al. 2018): in training, zeros squares of size x size pixels in each channel.

    The other values are divided by the share of the batch's values that are not zeroed, to keep the mean. A square is
    no larger than the map. A pixel starts a square with probability
    rate / size^2 * H W / ((H - size + 1) (W - size + 1)). In inference nothing changes.
    """

    def __init__(self, rate: float, size: int, **options):
        super().__init__(rate, **options)
        self.size = size

    def call(self, x, training=False):
        if not training or not self.rate:
            return x
        batch, height, width, channels = ops.shape(x)
        size = min(self.size, height, width)
        rows, columns = height - size + 1, width - size + 1
        start = self.rate / size**2 * height * width / (rows * columns)
        hit = keras.random.uniform((batch, rows, columns, channels), dtype="float32", seed=self.draws) < start
        margin = size - 1
        hit = ops.pad(ops.cast(hit, "float32"), ((0, 0), (margin, margin), (margin, margin), (0, 0)))
        mask = 1 - ops.max_pool(hit, size, strides=1, padding="valid")
        return x * ops.cast(mask / ops.maximum(ops.mean(mask), 1e-6), x.dtype)

    def get_config(self):
        return {**super().get_config(), "size": self.size}
