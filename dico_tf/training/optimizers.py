"""The optimizers SGD and AdamW of the published recipes, and the optimizer of a run from its settings.

`dico_tf.config.OPTIMIZERS` lists the class of each optimizer.
"""

import importlib
from collections.abc import Sequence

import keras

from dico_tf.config import OPTIMIZERS, OptimisationOptions
from dico_tf.cotrain.gradients import decays
from dico_tf.layers.keras_internals import slot
from dico_tf.training.schedules import Schedule


@keras.saving.register_keras_serializable("dico_tf")
class SGD(keras.optimizers.SGD):
    """SGD with momentum m: v = m v + g, then w -= lr (g + m v) with Nesterov, w -= lr v without.

    Keras' SGD includes lr in v, which differs whenever lr changes. Weight decay must already be in the gradient g.
    """

    def update_step(self, gradient, variable, learning_rate):
        lr = keras.ops.cast(learning_rate, variable.dtype)
        gradient = keras.ops.cast(gradient, variable.dtype)
        if not self.momentum:
            return self.assign_sub(variable, lr * gradient)
        velocity = self.momentums[slot(self, variable)]
        momentum = keras.ops.cast(self.momentum, variable.dtype)
        latest = momentum * velocity + gradient
        self.assign(velocity, latest)
        self.assign_sub(variable, lr * (gradient + momentum * latest if self.nesterov else latest))

    @classmethod
    def from_options(cls, options: OptimisationOptions, rate: Schedule, weight_decay: float, networks, **average):
        """Return the optimizer of a run, with Nesterov momentum.

        `weight_decay` and `networks` have no effect: DiCo adds weight decay to the gradients. `average` are Keras'
        use_ema and ema_momentum.
        """
        return cls(rate, momentum=options.momentum, nesterov=True, **average)


class KernelDecay:
    """Mixin for a Keras optimizer with decoupled weight decay: it decays only variables for which `decays` is true."""

    @classmethod
    def from_options(cls, options: OptimisationOptions, rate: Schedule, weight_decay: float, networks, **average):
        """Return the optimizer of a run; `options` and `networks` have no effect.

        `average` are Keras' use_ema and ema_momentum.
        """
        return cls(rate, weight_decay=weight_decay, **average)

    def build(self, variables):
        if not self.built:
            self.exclude_from_weight_decay([v for v in variables if not decays(v)])  # must come before build
        super().build(variables)


@keras.saving.register_keras_serializable("dico_tf")
class AdamW(KernelDecay, keras.optimizers.AdamW):
    """Keras' AdamW with weight decay of kernels and of the scales of batch normalisation only (see `decays`)."""


def schedule(options: OptimisationOptions, steps_per_epoch: int) -> Schedule:
    """Return the learning rate schedule of a run's settings."""
    return Schedule(
        options.schedule,
        options.lr,
        options.epochs,
        steps_per_epoch,
        warmup_epochs=options.warmup_epochs,
        warmup_lr=options.warmup_lr,
        min_lr=options.min_lr,
        step_epochs=options.step_epochs,
        step_factor=options.step_factor,
        poly_power=options.poly_power,
    )


def optimizer(
    options: OptimisationOptions,
    steps_per_epoch: int,
    weight_decay: float,
    variables: list,
    networks: int | Sequence[int] = 1,
):
    """Return the optimizer of a run's settings, built for the variables of several networks.

    Args:
        weight_decay: that of one branch; SGD ignores it, since DiCo adds its decay to the gradients.
        networks: list of the number of variables of each network, or the number of networks if all have equally many.
    """
    rate = schedule(options, steps_per_epoch)
    average = {"use_ema": True, "ema_momentum": options.ema} if options.ema else {}
    module, name = OPTIMIZERS[options.optimizer].split(".")
    kind = getattr(importlib.import_module(f"dico_tf.training.{module}"), name)
    built = kind.from_options(options, rate, weight_decay, networks, **average)
    built.build(variables)
    return built


for _path in OPTIMIZERS.values():  # so that Keras loads models that were saved with any of them
    importlib.import_module(f"dico_tf.training.{_path.split('.')[0]}")
