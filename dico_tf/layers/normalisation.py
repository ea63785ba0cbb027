"""Normalisation with the published constants; of batches in one fused operation where TensorFlow has it."""

import keras


@keras.saving.register_keras_serializable("dico_tf")
class BatchNorm(keras.layers.BatchNormalization):
    """(x - mean) / sqrt(var + eps) * gamma + beta; running variance is the unbiased one, as in PyTorch.

    `decay_gamma` says whether weight decay takes gamma with the kernels.
    """

    def __init__(self, decay_gamma: bool = True, **options):
        super().__init__(**options)
        self.decay_gamma = decay_gamma

    def build(self, input_shape):
        super().build(input_shape)
        if self.gamma is not None:
            self.gamma.decays = self.decay_gamma

    def call(self, inputs, training=None, mask=None):
        fused = training and self.trainable and not self.synchronized and keras.backend.backend() == "tensorflow"
        return self._fused(inputs) if fused else super().call(inputs, training=training, mask=mask)

    def _fused(self, inputs):
        """One pass over memory for the moments and one for the output; Keras' own takes five."""
        import tensorflow as tf

        of_clips = len(inputs.shape) == 5
        y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=tf.reshape(inputs, (-1, 1, 1, inputs.shape[-1])) if of_clips else inputs,
            scale=tf.convert_to_tensor(self.gamma),
            offset=tf.convert_to_tensor(self.beta),
            mean=tf.constant([], tf.float32),
            variance=tf.constant([], tf.float32),
            epsilon=self.epsilon,
            is_training=True,
        )
        for running, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
            running.assign(running * self.momentum + now * (1 - self.momentum))
        return tf.reshape(y, tf.shape(inputs)) if of_clips else y

    def get_config(self):
        return {**super().get_config(), "decay_gamma": self.decay_gamma}


def batch_norm(x, name: str, gamma: str = "ones", **options):
    options = {"momentum": 0.9, "epsilon": 1e-5, **options}
    return BatchNorm(gamma_initializer=gamma, name=name, **options)(x)


@keras.saving.register_keras_serializable("dico_tf")
class LayerNorm(keras.layers.LayerNormalization):
    """(x - mean) / sqrt(var + eps) * gamma + beta over the channels; weight decay leaves gamma alone."""

    def build(self, input_shape):
        super().build(input_shape)
        self.gamma.decays = False


def layer_norm(x, name: str, epsilon: float = 1e-6):
    return LayerNorm(epsilon=epsilon, name=name)(x)
