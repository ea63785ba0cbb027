"""Batch and layer normalisation with the constants of the published networks."""

import keras


@keras.saving.register_keras_serializable("dico_tf")
class BatchNorm(keras.layers.BatchNormalization):
    """Batch normalisation, (x - mean) / sqrt(var + eps) * gamma + beta.

    In training by TensorFlow, one fused operation normalises; with `synchronized`, the moments are those of all
    replicas' images. In both cases the running variance averages unbiased variances, as in PyTorch.

    Args:
        decay_gamma: whether weight decay includes gamma.
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
        """Normalise by one fused operation: two passes over memory, where Keras takes five."""
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
        """Normalise with the moments of all replicas' images; the arithmetic is the same for any number of replicas.

        Keras computes E[x^2] - E[x]^2, which is inexact if the two are nearly equal, and the biased variance.
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
    """Return (count, mean, biased variance) of a batch, each [C], from those of its parts.

    Args:
        parts: [R, 3, C], the count, mean and biased variance of each of R parts.
    """
    counts, means, variances = (parts[:, i] for i in range(3))
    count = keras.ops.sum(counts, 0)
    mean = keras.ops.sum(counts * means, 0) / count
    variance = keras.ops.sum(counts * (variances + keras.ops.square(means - mean)), 0) / count
    return count, mean, variance


def batch_norm(x, name: str, gamma: str = "ones", **options):
    """Apply `BatchNorm` with these options, by default momentum 0.9 and epsilon 1e-5; `gamma`: gamma's initialiser."""
    options = {"momentum": 0.9, "epsilon": 1e-5, **options}
    return BatchNorm(gamma_initializer=gamma, name=name, **options)(x)


@keras.saving.register_keras_serializable("dico_tf")
class LayerNorm(keras.layers.LayerNormalization):
    """Layer normalisation over the channels, (x - mean) / sqrt(var + eps) * gamma + beta; no weight decay of gamma."""

    def build(self, input_shape):
        super().build(input_shape)
        self.gamma.decays = False


def layer_norm(x, name: str, epsilon: float = 1e-6):
    """Apply layer normalisation over the channels."""
    return LayerNorm(epsilon=epsilon, name=name)(x)
