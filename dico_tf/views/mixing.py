"""Mixup and CutMix: each step draws one lambda and one order of the batch, for all branches or for each of them."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dico_tf.views.counter_rng import CounterRng

_POINTS = 4096  # per table: the distribution function is then exact to 1e-6


def beta_table(alpha: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Return a table (F, s, power) of the distribution function of Beta(alpha, alpha) for x in 0..1/2.

    F[i] is its value at x = s[i]^power / 2, with s evenly spaced from 0 to 1. Therefore F[0] is 0, and the last F is
    1/2. F is integrated over s instead of x: the density s^(power alpha - 1) (1 - x)^(alpha - 1), up to a factor, is
    finite for power = max(1/alpha, 1).
    """
    power = max(1.0 / alpha, 1.0)
    fine = np.linspace(0.0, 1.0, 16 * _POINTS + 1)
    density = fine ** (power * alpha - 1.0) * (1.0 - fine**power / 2) ** (alpha - 1.0)
    area = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return 0.5 * area[::16] / area[-1], fine[::16], power


def beta(uniform: tf.Tensor, alpha: float) -> tf.Tensor:
    """Convert uniform numbers in 0..1 to numbers of Beta(alpha, alpha), by the inverse distribution function."""
    below, s, power = beta_table(alpha)
    low = tf.minimum(uniform, 1.0 - uniform)
    below, s = tf.constant(below, tf.float32), tf.constant(s, tf.float32)
    place = tf.searchsorted(below, tf.reshape(low, [-1]), side="right")
    place = tf.reshape(tf.clip_by_value(place, 1, _POINTS), tf.shape(low))
    left, right = tf.gather(below, place - 1), tf.gather(below, place)
    share = (low - left) / tf.maximum(right - left, 1e-30)
    x = 0.5 * tf.pow(tf.gather(s, place - 1) * (1.0 - share) + tf.gather(s, place) * share, power)
    return tf.where(uniform < 0.5, x, 1.0 - x)


@keras.saving.register_keras_serializable("dico_tf")
class Mixing:
    """Mixes each image of a batch with a partner, w x + (1 - w) x[order], and the targets by the mean of w.

    In mixup, w is lambda. In CutMix, w is 0 in a box and 1 around it. With both, each step uses one of them, with
    probability 1/2.

    Args:
        mixup: alpha of mixup's Beta(alpha, alpha), from which lambda is drawn; 0: no mixup.
        cutmix: alpha of CutMix's distribution; 0: no CutMix.
    """

    def __init__(self, mixup: float, cutmix: float, seed: int) -> None:
        self.mixup, self.cutmix, self.seed = mixup, cutmix, seed

    def __call__(
        self, views: list[tf.Tensor], targets: Any, step: Any, branch: int = -1
    ) -> tuple[list[tf.Tensor], Any]:
        """Return views and targets, mixed by one lambda and with the same partners; unchanged without mixup and CutMix.

        Args:
            views: tensors [B, H, W, 3], or [B, T, H, W, 3] of clips.
            targets: one tensor [B, C] or a structure of them.
            step: training step; the draws depend on it, on the seed and on `branch`.
            branch: number of the branch if each one mixes by itself; -1 if the views are those of all branches.
        """
        if not self.mixup and not self.cutmix:
            return views, targets
        weight = self._weight(views[0], CounterRng.of_step(self.seed, step, branch=branch))  # [H, W, 1]
        order = CounterRng.of_step(self.seed, step, tf.range(tf.shape(views[0])[0]), branch).permutation("order")
        share = tf.reduce_mean(weight)
        # a view that occurs several times (the same for all branches) is mixed once
        once = {id(view): view for view in views}
        mixed = {key: weight * view + (1.0 - weight) * tf.gather(view, order) for key, view in once.items()}
        return [mixed[id(view)] for view in views], tf.nest.map_structure(
            lambda target: share * target + (1.0 - share) * tf.gather(target, order), targets
        )

    def _weight(self, view: tf.Tensor, rng: CounterRng) -> tf.Tensor:
        """Draw w [H, W, 1], the share of the image itself at each pixel."""
        height, width = tf.shape(view)[-3], tf.shape(view)[-2]  # the last axes, so that the frames of a clip share w
        flat = box = None
        if self.mixup:
            flat = tf.fill([height, width, 1], beta(rng.uniform("mixup"), self.mixup))
        if self.cutmix:
            box = _outside(beta(rng.uniform("cutmix"), self.cutmix), height, width, rng)
        if flat is None or box is None:
            return flat if box is None else box
        return tf.where(rng.uniform("choice") < 0.5, flat, box)

    def get_config(self) -> dict[str, Any]:
        return {"mixup": self.mixup, "cutmix": self.cutmix, "seed": self.seed}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Mixing":
        return cls(**config)


def _outside(share: tf.Tensor, height: tf.Tensor, width: tf.Tensor, rng: CounterRng) -> tf.Tensor:
    """Return [H, W, 1]: 0 in a box of (1 - share) of the area around a random pixel, cut off at the edges, else 1."""
    inside = []
    for name, side in (("row", height), ("column", width)):
        length = tf.cast(tf.sqrt(1.0 - share) * tf.cast(side, tf.float32), tf.int32)
        start = rng.integers(name, side) - length // 2
        inside.append((tf.range(side) >= start) & (tf.range(side) < start + length))
    return 1.0 - tf.cast(inside[0][:, None, None] & inside[1][None, :, None], tf.float32)
