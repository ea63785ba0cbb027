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
        if not (training and self.trainable and keras.backend.backend() == "tensorflow"):
            return super().call(inputs, training=training, mask=mask)
        return self._synchronised(inputs) if self.synchronized else self._fused(inputs)

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
        self._follow(mean, variance)
        return tf.reshape(y, tf.shape(inputs)) if of_clips else y

    def _synchronised(self, inputs):
        """Normalise with the moments of all replicas' images, by the same arithmetic on any number of them.

        Keras takes E[x^2] - E[x]^2, which loses the digits that both share, and the biased variance.
        """
        import tensorflow as tf

        replicas = tf.distribute.get_replica_context()
        if replicas is None:  # called outside of strategy.run
            return self._fused(inputs)
        x = tf.cast(inputs, tf.float32)
        axes = list(range(len(x.shape) - 1))
        count = tf.cast(tf.size(x) // x.shape[-1], tf.float32)
        own = tf.where(count > 0, tf.stack(tf.nn.moments(x, axes)), 0.0)  # the last batch may leave a replica none
        row = tf.concat([tf.fill((1, x.shape[-1]), count), own], 0)[None]
        place = tf.one_hot(replicas.replica_id_in_sync_group, replicas.num_replicas_in_sync)[:, None, None]
        count, mean, variance = pooled(replicas.all_reduce(tf.distribute.ReduceOp.SUM, place * row))
        self._follow(mean, variance * count / tf.maximum(count - 1, 1))
        y = tf.nn.batch_normalization(
            x, mean, variance, tf.convert_to_tensor(self.beta), tf.convert_to_tensor(self.gamma), self.epsilon
        )
        return tf.cast(y, self.compute_dtype)

    def _follow(self, mean, variance) -> None:
        for running, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
            running.assign(running * self.momentum + now * (1 - self.momentum))

    def get_config(self):
        return {**super().get_config(), "decay_gamma": self.decay_gamma}


def pooled(parts):
    """[R, 3, C]: count, mean and biased variance of each part of a batch -> those of the batch, each [C]."""
    counts, means, variances = (parts[:, i] for i in range(3))
    count = keras.ops.sum(counts, 0)
    mean = keras.ops.sum(counts * means, 0) / count
    variance = keras.ops.sum(counts * (variances + keras.ops.square(means - mean)), 0) / count
    return count, mean, variance


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
