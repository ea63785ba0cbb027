"""Learning rate schedules."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("dico_tf")
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up to `lr` over W epochs, then cosine, cosine_floor, step, constant or poly.

    With step T, n steps per epoch and E epochs:

    warm-up, T <= W n: warmup_lr + (lr - warmup_lr) T / (W n)
    cosine: max(lr (1 + cos(pi (T - W n) / ((E - W) n))) / 2, min_lr)
    poly: lr (1 - (T - W n) / ((E - W) n)) ^ power
    cosine_floor: min_lr + (lr - min_lr) (1 + cos(pi T / (E n))) / 2

    W = -1 is the published "none" of the 1800-epoch runs: the cosine spans E + 1 epochs and starts at its second one.
    Cosine_floor is the schedule of timm: the warm-up replaces its first epochs. In timm it is constant within an
    epoch; here it changes with every step.
    """

    def __init__(
        self,
        shape: str,
        lr: float,
        epochs: int,
        steps_per_epoch: int,
        warmup_epochs: int = 0,
        warmup_lr: float = 0.005,
        min_lr: float = 1e-4,
        step_epochs: tuple[int, ...] = (),
        step_factor: float = 0.1,
        poly_power: float = 0.9,
    ):
        super().__init__()
        self._config = {
            "shape": shape,
            "lr": lr,
            "epochs": epochs,
            "steps_per_epoch": steps_per_epoch,
            "warmup_epochs": warmup_epochs,
            "warmup_lr": warmup_lr,
            "min_lr": min_lr,
            "step_epochs": tuple(step_epochs),
            "step_factor": step_factor,
            "poly_power": poly_power,
        }
        self.shape, self.lr, self.epochs, self.steps_per_epoch = shape, lr, epochs, steps_per_epoch
        self.warmup_epochs, self.warmup_lr, self.min_lr = warmup_epochs, warmup_lr, min_lr
        self.step_epochs = tuple(step_epochs) or tuple(round(epochs * share) for share in (0.3, 0.6, 0.9))
        self.step_factor, self.poly_power = step_factor, poly_power

    def __call__(self, step):
        step = ops.cast(step, "float32")
        after = getattr(self, f"_{self.shape}")(step)
        warmup = self.warmup_epochs * self.steps_per_epoch
        if warmup <= 0:
            return after
        rising = self.warmup_lr + (self.lr - self.warmup_lr) * step / warmup
        risen = (
            step < warmup if self.shape == "cosine_floor" else step <= warmup
        )  # at T = W n cosine_floor has its own value
        return ops.where(risen, rising, after)

    def _share(self, step):
        """Return the share of the steps after the warm-up that is done, 0..1."""
        start = self.warmup_epochs * self.steps_per_epoch
        span = (self.epochs - self.warmup_epochs) * self.steps_per_epoch
        return ops.clip((step - start) / span, 0.0, 1.0)

    def _cosine(self, step):
        return ops.maximum(0.5 * self.lr * (1 + ops.cos(3.141592653589793 * self._share(step))), self.min_lr)

    def _cosine_floor(self, step):
        share = ops.clip(step / (self.epochs * self.steps_per_epoch), 0.0, 1.0)
        return self.min_lr + 0.5 * (self.lr - self.min_lr) * (1 + ops.cos(3.141592653589793 * share))

    def _poly(self, step):
        return self.lr * ops.power(1 - self._share(step), self.poly_power)

    def _step(self, step):
        falls = sum(ops.cast(step >= e * self.steps_per_epoch, "float32") for e in self.step_epochs)
        return self.lr * ops.power(self.step_factor, falls)

    def _constant(self, step):
        return self.lr + 0 * step

    def get_config(self):
        return dict(self._config)
