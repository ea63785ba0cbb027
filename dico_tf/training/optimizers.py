"""Optimizers: SGD, AdamW and LAMB as the recipes use them."""

import keras

from dico_tf.config import OptimisationOptions
from dico_tf.cotrain.gradients import decays
from dico_tf.layers.keras_internals import slot
from dico_tf.training.lamb import Lamb
from dico_tf.training.schedules import Schedule


@keras.saving.register_keras_serializable("dico_tf")
class SGD(keras.optimizers.SGD):
    """SGD with momentum m: v = m v + g, then w -= lr (g + m v) with Nesterov, w -= lr v without.

    Keras' SGD includes lr in v, which differs whenever lr changes. Weight decay is part of the gradient.
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


@keras.saving.register_keras_serializable("dico_tf")
class AdamW(keras.optimizers.AdamW):
    """Keras' AdamW, which decays only variables for which `decays` is true."""

    def build(self, variables):
        if not self.built:
            self.exclude_from_weight_decay([v for v in variables if not decays(v)])  # must come before build
        super().build(variables)


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
    options: OptimisationOptions, steps_per_epoch: int, weight_decay: float, variables: list, networks: int = 1
):
    """Return the optimizer of a run's settings, built for the variables of `networks` equal networks.

    Args:
        weight_decay: of a branch; SGD ignores it, since its decay is part of the gradient.
    """
    rate = schedule(options, steps_per_epoch)
    average = {"use_ema": True, "ema_momentum": options.ema} if options.ema else {}
    if options.optimizer == "adamw":
        built = AdamW(rate, weight_decay=weight_decay, **average)
    elif options.optimizer == "lamb":
        built = Lamb(rate, weight_decay=weight_decay, networks=networks, **average)
    else:
        built = SGD(rate, momentum=options.momentum, nesterov=True, **average)
    built.build(variables)
    return built
