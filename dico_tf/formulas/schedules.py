"""Learning rates after the warm-up, by the names of `--schedule`.

Every formula takes `ops`, the module numpy or keras.ops; the settings s of `dico_tf.training.schedules.Schedule`; and
the step T as float32. It returns the learning rate. With n = s.steps_per_epoch, E = s.epochs and W = s.warmup_epochs, a
run has E n steps, and the warm-up has W n. One entry of `SCHEDULES` adds a schedule to runs and to `--schedule`.
"""

import math
from collections.abc import Callable
from typing import Any

from dico_tf.registry import Registry

SCHEDULES: Registry[Callable[[Any, Any, Any], Any]] = Registry("schedule")


def share(ops, s, step):
    """Return the share of the steps after the warm-up that is done: clip((T - W n) / ((E - W) n), 0, 1)"""
    return ops.clip((step - s.warmup_steps) / ((s.epochs - s.warmup_epochs) * s.steps_per_epoch), 0.0, 1.0)


def _cosine(ops, s, step):
    """max(lr (1 + cos(pi share)) / 2, min_lr)"""
    return ops.maximum(0.5 * s.lr * (1 + ops.cos(math.pi * share(ops, s, step))), s.min_lr)


def _cosine_floor(ops, s, step):
    """min_lr + (lr - min_lr) (1 + cos(pi T / (E n))) / 2 up to T = E n, then min_lr: the schedule of timm"""
    done = ops.clip(step / (s.epochs * s.steps_per_epoch), 0.0, 1.0)
    return s.min_lr + 0.5 * (s.lr - s.min_lr) * (1 + ops.cos(math.pi * done))


def _step(ops, s, step):
    """lr step_factor^k, where k entries of step_epochs are at most T / n, the epochs that are done"""
    falls = sum(ops.where(step >= epoch * s.steps_per_epoch, 1.0, 0.0) for epoch in s.step_epochs)
    return s.lr * ops.power(s.step_factor, falls)


def _constant(ops, s, step):
    """lr at every step"""
    return s.lr + 0 * step


def _poly(ops, s, step):
    """lr (1 - share)^poly_power"""
    return s.lr * ops.power(1 - share(ops, s, step), s.poly_power)


SCHEDULES.add("cosine", _cosine)
SCHEDULES.add("cosine_floor", _cosine_floor)
SCHEDULES.add("step", _step)
SCHEDULES.add("constant", _constant)
SCHEDULES.add("poly", _poly)
