"""The LAMB optimizer as in NVIDIA's fused implementation, which recipes of vision transformers use."""

import bisect
import itertools
import math
from collections.abc import Sequence

import keras
import tensorflow as tf
from keras import ops

from dico_tf.cotrain.gradients import across_replicas, clipped_apart, decays
from dico_tf.layers.keras_internals import OptimizerWithOwnDecay, slot
from dico_tf.training.schedules import Schedule


@keras.saving.register_keras_serializable("dico_tf")
class Lamb(OptimizerWithOwnDecay):
    """LAMB: u = m' / (sqrt(v') + eps) + wd w, w -= lr (|w| / |u|) u; m' and v' are bias-corrected means of g and g^2.

    First g is clipped to the norm `clip` over all variables of a network; 0 does not clip. The variables are those of
    several networks, one after another, and each network is clipped separately. `networks` lists the number of
    variables of each; if all have equally many, it may be the number of networks. Variables without decay take
    w -= lr m' / (sqrt(v') + eps): vectors, those for which `decays` is false, and all if `weight_decay` is 0.
    Keras' Lamb differs: it decays outside of the ratio, has the ratio for all variables, and does not clip.
    """

    def __init__(
        self,
        learning_rate=1e-3,
        weight_decay: float = 0.0,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        clip: float = 1.0,
        networks: int | Sequence[int] = 1,
        **options,
    ):
        super().__init__(learning_rate, weight_decay=weight_decay, **options)
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon
        self.clip, self.networks = clip, networks

    @classmethod
    def from_options(cls, options, rate: Schedule, weight_decay: float, networks: int | Sequence[int], **average):
        """Return the optimizer of a run; `options` has no effect.

        `average` are Keras' use_ema and ema_momentum.
        """
        return cls(rate, weight_decay=weight_decay, networks=networks, **average)

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._momentums, self._velocities = self.add_optimizer_variables(variables, ["momentum", "velocity"])
        self._ends = list(itertools.accumulate(self._sizes(len(variables))))
        self._decayed = [bool(self.weight_decay) and len(v.shape) > 1 and decays(v) for v in variables]

    def _sizes(self, count: int) -> Sequence[int]:
        """Return the number of variables of each network; `count` is that of all."""
        return [count // self.networks] * self.networks if isinstance(self.networks, int) else self.networks

    def limited(self, gradients, variables):
        """Return the gradients, clipped for each network: their sum over all replicas has at most the norm `clip`."""
        if not self.clip:
            return gradients
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        gradients = across_replicas(gradients)
        slots = [slot(self, v) for v in variables]
        # Frozen variables do not count in the norm of the others.
        groups = [(bisect.bisect_right(self._ends, n), self.step_factor(n) > 0) for n in slots]
        return clipped_apart(gradients, groups, self.clip / replicas)

    def update_step(self, gradient, variable, learning_rate):
        place = slot(self, variable)
        m, v = self._momentums[place], self._velocities[place]
        gradient, lr = ops.cast(gradient, variable.dtype), ops.cast(learning_rate, variable.dtype)
        self.assign_add(m, (1 - self.beta_1) * (gradient - m))
        self.assign_add(v, (1 - self.beta_2) * (ops.square(gradient) - v))
        step = ops.cast(self.iterations + 1, variable.dtype)
        first, second = (-ops.expm1(step * math.log(beta)) for beta in (self.beta_1, self.beta_2))  # 1 - beta^step
        update = (m / first) / (ops.sqrt(v / second) + self.epsilon)
        if self._decayed[place]:
            update = update + self.weight_decay * variable
            update = _ratio(variable, update) * update
        self.assign_sub(variable, lr * update)

    def get_config(self):
        own = ("beta_1", "beta_2", "epsilon", "clip", "networks")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}


def _ratio(variable, update):
    """Return |w| / |u|; 1 if either norm is 0."""
    size, step = (ops.sqrt(ops.sum(ops.square(x))) for x in (variable, update))
    return ops.where((size > 0) & (step > 0), size / ops.where(step > 0, step, 1.0), 1.0)
