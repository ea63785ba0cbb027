"""Learning rate schedules."""

import keras
from keras import ops

from dico_tf.formulas.schedules import SCHEDULES


@keras.saving.register_keras_serializable("dico_tf")
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up to `lr` over W = `warmup_epochs` epochs, then the schedule that `shape` names in `SCHEDULES`.

    With n steps per epoch, the rate of step T in the warm-up is warmup_lr + (lr - warmup_lr) T / (W n). The warm-up is
    the steps T <= W n; with cosine_floor T < W n.

    W = -1 is for the published 1800-epoch runs without warm-up: with E = `epochs`, the rates are those of the last E
    epochs of a cosine of E + 1 epochs.
    Cosine_floor is the schedule of timm, whose cosine begins with training: in the warm-up epochs, the warm-up is used
    in its place. In timm the rate is constant within an epoch; here it changes with every step.
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

    @property
    def warmup_steps(self) -> int:
        """Number of steps of the warm-up, W n; negative for W = -1."""
        return self.warmup_epochs * self.steps_per_epoch

    def __call__(self, step):
        step = ops.cast(step, "float32")
        after = SCHEDULES[self.shape](ops, self, step)
        warmup = self.warmup_steps
        if warmup <= 0:
            return after
        rising = self.warmup_lr + (self.lr - self.warmup_lr) * step / warmup
        risen = (
            step < warmup if self.shape == "cosine_floor" else step <= warmup
        )  # at T = W n cosine_floor has its own value
        return ops.where(risen, rising, after)

    def get_config(self):
        return dict(self._config)
