"""Maps made as large as others."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("dico_tf")
class ResizeAs(keras.layers.Layer):
    """x [B, h, w, C] and y [B, H, W, D] -> x at H x W: bilinear, pixels by their middles (align_corners=False)."""

    def call(self, inputs):
        x, like = inputs
        if keras.backend.backend() != "tensorflow":
            return ops.image.resize(x, tuple(like.shape[1:3]), interpolation="bilinear")
        import tensorflow as tf  # ops.image.resize takes no sizes that are known only when it runs

        return tf.cast(tf.image.resize(x, tf.shape(like)[1:3]), x.dtype)

    def compute_output_shape(self, input_shape):
        shape, like = input_shape
        return (*like[:3], shape[-1])
