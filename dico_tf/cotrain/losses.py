"""Losses of co-training: one value for each image or pixel, computed in log space and float32."""

import dataclasses
import math
from collections.abc import Callable

from keras import ops

from dico_tf.errors import UserError
from dico_tf.formulas.averages import AVERAGES


def cross_entropy(logits, targets, class_weights=()):
    """Return -sum_c w_c t_c log softmax(z)_c: logits [..., C], soft targets [..., C] -> [...]."""
    targets = _weighted(targets, class_weights)
    return -ops.sum(targets * ops.log_softmax(ops.cast(logits, "float32")), axis=-1)


def binary_cross_entropy(logits, targets, class_weights=()):
    """Return -mean_c w_c (t log sigmoid(z) + (1 - t) log sigmoid(-z)): logits and targets [..., C] -> [...]."""
    z = ops.cast(logits, "float32")
    terms = ops.softplus(z) - z * targets  # its gradient is also right at 0
    return ops.mean(_weighted(terms, class_weights), axis=-1)


def _weighted(values, class_weights):
    """Return values [..., C] times the weight of each class; unchanged if there are no weights."""
    return values * ops.convert_to_tensor(class_weights, "float32") if len(class_weights) else values


def present(targets):
    """Return 1 for each class with a positive target, as both classes of a mixed image have, else 0."""
    return ops.cast(targets > 0, "float32")


@dataclasses.dataclass(frozen=True)
class Target:
    """A kind of target: its loss, and `answer`, which turns one network's logits into targets for another network."""

    loss: Callable  # (logits [..., C], targets [..., C], class_weights=()) -> [...]
    answer: Callable  # logits [..., C] -> targets [..., C]


TARGETS = {
    "softmax": Target(cross_entropy, ops.softmax),  # exactly one class
    "binary": Target(binary_cross_entropy, ops.sigmoid),  # each class separately
}


@dataclasses.dataclass(frozen=True)
class LabelLoss:
    """Loss on the labels: kind of target, label smoothing, and class weights (empty: all classes count the same)."""

    target: str = "softmax"
    smoothing: float = 0.0
    class_weights: tuple[float, ...] = ()

    @property
    def kind(self) -> Target:
        return TARGETS[self.target]

    def goal(self, targets):
        """Convert shares of the classes [..., C] to what is learned.

        Softmax: the shares, smoothed. Binary: 1 for each class with a positive share, else 0, without smoothing.
        """
        if self.target == "binary":
            return present(targets)
        return smooth(targets, self.smoothing) if self.smoothing else targets

    def loss(self, logits, goal):
        """Return the loss [...] of logits [..., C] and a goal [..., C] made by `goal`."""
        return self.kind.loss(logits, goal, self.class_weights)


def class_weights(words) -> tuple[float, ...]:
    """Parse the setting `class_weights`: one number for each class, or ("none",), for which () is returned.

    Raises UserError for ("balanced",).
    """
    if tuple(words) == ("none",):
        return ()
    if tuple(words) == ("balanced",):
        raise UserError(
            "class_weights='balanced' needs the number of images of each class, which only train.py counts: give "
            "one weight per class, e.g. class_weights=balanced([900, 100]) of dico_tf.cotrain.losses"
        )
    return tuple(map(float, words))


def balanced(counts) -> tuple[float, ...]:
    """Return class weights n / (C n_c): n_c images have class c, and n is the sum over all C classes; 0 if n_c = 0."""
    total = sum(counts)
    return tuple(total / (len(counts) * count) if count else 0.0 for count in counts)


def mutual(logits, targets, weight: float = 0.5, labels: LabelLoss = LabelLoss("binary")):
    """Return the loss of n submodels that teach each other: label terms [B, n], cross terms [B, n], total [B].

    total = w / n sum_s l(z_s, y) + (1 - w) / (n (n - 1)) sum_{s != t} l(z_s, p_t), with p_t = answer(z_t) held
    constant and l the loss of `labels.kind`. As l is linear in its target, the cross terms of a submodel are one loss
    against the mean answer of the others. Class weights apply to l(z_s, y) only. With n = 1, the label term takes the
    place of the cross term.

    Args:
        logits: [B, n, C], or [B, n, H, W, C] for pixels; the results then have [H, W] too.
        targets: [B, C], or [B, H, W, C], already converted by `labels.goal`.
        weight: w, the weight of the labels.
    """
    kind, others = labels.kind, logits.shape[1] - 1
    logits = ops.cast(logits, "float32")
    label = labels.loss(logits, ops.expand_dims(targets, 1))
    answers = ops.stop_gradient(kind.answer(logits))
    teacher = (ops.sum(answers, axis=1, keepdims=True) - answers) / max(others, 1)
    cross = kind.loss(logits, teacher) if others else label
    return label, cross, ops.mean(weight * label + (1 - weight) * cross, axis=1)


def distillation(logits, teacher, temperature: float = 1.0):
    """Return T^2 KL(teacher || softmax(z / T)): logits z [..., C], teacher's probabilities at T [..., C] -> [...].

    T^2 makes the size of the gradient independent of T (Hinton et al. 2015, section 2). Classes with teacher
    probability 0 add nothing.
    """
    log_p = ops.log_softmax(ops.cast(logits, "float32") / temperature)
    log_teacher = ops.log(ops.where(teacher > 0, teacher, 1.0))
    return temperature**2 * ops.sum(teacher * (log_teacher - log_p), axis=-1)


def smooth(targets, share: float):
    """Return smoothed targets (1 - share) t + share / C."""
    return (1 - share) * targets + share / targets.shape[-1]


def jensen_shannon(logits):
    """Return H(mean_s p_s) - mean_s H(p_s), p_s = softmax(z_s), H the entropy: logits z [B, S, ..., C] -> [B, ...].

    Gradients flow into all branches.
    """
    log_p = ops.log_softmax(ops.cast(logits, "float32"))
    log_mean = ops.logsumexp(log_p, axis=1) - math.log(logits.shape[1])  # [B, C]
    entropy_of_mean = -ops.sum(ops.exp(log_mean) * log_mean, axis=-1)
    mean_of_entropies = -ops.mean(ops.sum(ops.exp(log_p) * log_p, axis=-1), axis=1)
    return entropy_of_mean - mean_of_entropies


def kullback_leibler(logits):
    """Return sum_{i, j != i} KL(p_j || p_i) / (S - 1), p_s = softmax(z_s): logits z [B, S, ..., C] -> [B, ...].

    The target p_j is held constant: gradients flow into p_i only.
    """
    log_p = ops.log_softmax(ops.cast(logits, "float32"))
    target = ops.stop_gradient(log_p)
    pairs = ops.expand_dims(target, 2) - ops.expand_dims(log_p, 1)  # [B, target S, learner S, C]
    divergence = ops.sum(ops.expand_dims(ops.exp(target), 2) * pairs, axis=(1, 2, -1))
    return divergence / max(logits.shape[1] - 1, 1)


AGREEMENTS = {"js": jensen_shannon, "kl": kullback_leibler}


class Agreement:
    """Divergence between the branches, and its weight, which grows from 0.005 over the warm-up epochs.

    Args:
        kind: js (Jensen-Shannon), kl (Kullback-Leibler) or none.
        weight: weight after the warm-up.
        warmup_epochs: 0 gives the full weight from the start.
    """

    START = 0.005

    def __init__(self, kind: str, weight: float = 0.5, warmup_epochs: int = 0):
        self.kind, self.final, self.warmup_epochs = kind, weight, warmup_epochs

    def active(self, splits: int) -> bool:
        """Return True if there is an agreement loss: a kind other than none, and at least two branches."""
        return self.kind != "none" and splits > 1

    def weight(self, epoch):
        """Return the agreement's weight in epoch e, from 0: max(w e / W, 0.005) in the W warm-up epochs, then w.

        w is the constructor's argument `weight`. If w is below 0.005, the weight is w in every epoch.
        """
        if not self.warmup_epochs:
            return ops.convert_to_tensor(self.final, "float32")
        share = ops.cast(epoch, "float32") / self.warmup_epochs
        return ops.clip(self.final * share, min(self.START, self.final), self.final)

    def __call__(self, logits):
        """Return the divergence, without its weight: logits [B, S, ..., C] -> [B, ...].

        It is 0 for one branch, and for the kind "none".
        """
        if not self.active(logits.shape[1]):
            shape = ops.shape(logits)
            return ops.zeros((*shape[:1], *shape[2:-1]), "float32")
        return AGREEMENTS[self.kind](logits)


def combine(logits, average: str):
    """Return the ensemble's logits [B, ..., C] from those of the branches [B, S, ..., C] by a rule of `AVERAGES`."""
    logits = ops.cast(logits, "float32")
    rule = AVERAGES[average]
    return rule.combine(ops, rule.values(ops, logits))


__all__ = [
    "TARGETS",
    "Agreement",
    "LabelLoss",
    "balanced",
    "binary_cross_entropy",
    "class_weights",
    "combine",
    "cross_entropy",
    "distillation",
    "jensen_shannon",
    "kullback_leibler",
    "mutual",
    "present",
    "smooth",
]
