"""Layers that only move channels and pixels about."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("dico_tf")
class ZeroChannels(keras.layers.Layer):
    """`count` channels of zeros appended."""

    def __init__(self, count: int, **options):
        super().__init__(**options)
        self.count = count

    def call(self, x):
        return ops.pad(x, ((0, 0), (0, 0), (0, 0), (0, self.count)))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], input_shape[-1] + self.count)

    def get_config(self):
        return {**super().get_config(), "count": self.count}


def shifted(x, name: str):
    """One pixel up and to the left, zeros at the far edges."""
    x = keras.layers.Cropping2D(((1, 0), (1, 0)), name=f"{name}_crop")(x)
    return keras.layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{name}_pad")(x)
