"""Loss functions of co-training: one value per image, in log space and float32."""

import dataclasses
import math
from collections.abc import Callable

from keras import ops

from dico_tf.errors import UserError


def cross_entropy(logits, targets, class_weights=()):
    """Return -sum_c w_c t_c log softmax(z)_c: logits [..., C], soft targets [..., C] -> [...]."""
    targets = _weighted(targets, class_weights)
    return -ops.sum(targets * ops.log_softmax(ops.cast(logits, "float32")), axis=-1)


def binary_cross_entropy(logits, targets, class_weights=()):
    """Return -mean_c w_c (t log sigmoid(z) + (1 - t) log sigmoid(-z)): logits and targets [..., C] -> [...]."""
    z = ops.cast(logits, "float32")
    terms = ops.softplus(z) - z * targets  # whose gradient is right at 0, too
    return ops.mean(_weighted(terms, class_weights), axis=-1)


def _weighted(values, class_weights):
    """Return values [..., C] times each class's weight; no weights leave them as they are."""
    return values * ops.convert_to_tensor(class_weights, "float32") if len(class_weights) else values


def present(targets):
    """1 for every class that is in the image: of two mixed images, both."""
    return ops.cast(targets > 0, "float32")


@dataclasses.dataclass(frozen=True)
class Target:
    """A kind of target: its loss, and how logits become targets for another network."""

    loss: Callable  # (logits [..., C], targets [..., C], class_weights=()) -> [...]
    answer: Callable  # logits [..., C] -> targets [..., C]


TARGETS = {
    "softmax": Target(cross_entropy, ops.softmax),  # one class, which others exclude
    "binary": Target(binary_cross_entropy, ops.sigmoid),  # each class by itself
}


@dataclasses.dataclass(frozen=True)
class LabelLoss:
    """Loss on the labels: the kind of target, smoothing, and a weight for each class (none: all count the same)."""

    target: str = "softmax"
    smoothing: float = 0.0
    class_weights: tuple[float, ...] = ()

    @property
    def kind(self) -> Target:
        return TARGETS[self.target]

    def goal(self, targets):
        """Return what is learned from targets [..., C]: the shares of mixed images, or 1 for each of their classes."""
        if self.target == "binary":
            return present(targets)
        return smooth(targets, self.smoothing) if self.smoothing else targets

    def loss(self, logits, goal):
        """Return the loss [...] of logits and a goal [..., C]."""
        return self.kind.loss(logits, goal, self.class_weights)


def class_weights(words) -> tuple[float, ...]:
    """Return the weight of each class from `class_weights`; none is ()."""
    if tuple(words) == ("none",):
        return ()
    if tuple(words) == ("balanced",):
        raise UserError(
            "class_weights='balanced' needs the images of each class, which a run counts: give one weight per class, "
            "e.g. class_weights=balanced([900, 100]) of dico_tf.cotrain.losses"
        )
    return tuple(map(float, words))


def balanced(counts) -> tuple[float, ...]:
    """Return n / (C n_c) for each class of counts n_c, whose sum is n; a class without images has weight 0."""
    total = sum(counts)
    return tuple(total / (len(counts) * count) if count else 0.0 for count in counts)


def mutual(logits, targets, weight: float = 0.5, labels: LabelLoss = LabelLoss("binary")):
    """Return label terms [B, n], cross terms [B, n] and both weighted [B] of n submodels' logits [B, n, C].

    L = w / n sum_s l(z_s, y) + (1 - w) / (n (n - 1)) sum_{s != t} l(z_s, p_t), p_t = answer(z_t) held constant. l is
    linear in its target, so that a submodel's cross terms are one, against the mean of the others' answers. Targets
    are [B, C]; for pixels, [B, n, H, W, C] and [B, H, W, C].
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

    T^2 keeps the gradient's size whatever the temperature (Hinton et al. 2015, section 2). Classes to which the
    teacher gives no probability count nothing.
    """
    log_p = ops.log_softmax(ops.cast(logits, "float32") / temperature)
    log_teacher = ops.log(ops.where(teacher > 0, teacher, 1.0))
    return temperature**2 * ops.sum(teacher * (log_teacher - log_p), axis=-1)


def smooth(targets, share: float):
    """(1 - share) t + share / C."""
    return (1 - share) * targets + share / targets.shape[-1]


def jensen_shannon(logits):
    """H(mean_s p_s) - mean_s H(p_s): logits [B, S, ..., C] -> [B, ...]; gradients flow through everything."""
    log_p = ops.log_softmax(ops.cast(logits, "float32"))
    log_mean = ops.logsumexp(log_p, axis=1) - math.log(logits.shape[1])  # [B, C]
    entropy_of_mean = -ops.sum(ops.exp(log_mean) * log_mean, axis=-1)
    mean_of_entropies = -ops.mean(ops.sum(ops.exp(log_p) * log_p, axis=-1), axis=1)
    return entropy_of_mean - mean_of_entropies


def kullback_leibler(logits):
    """sum_{i, j != i} KL(p_j || p_i) / (S - 1), target p_j held constant: logits [B, S, ..., C] -> [B, ...]."""
    log_p = ops.log_softmax(ops.cast(logits, "float32"))
    target = ops.stop_gradient(log_p)
    pairs = ops.expand_dims(target, 2) - ops.expand_dims(log_p, 1)  # [B, target S, learner S, C]
    divergence = ops.sum(ops.expand_dims(ops.exp(target), 2) * pairs, axis=(1, 2, -1))
    return divergence / max(logits.shape[1] - 1, 1)


AGREEMENTS = {"js": jensen_shannon, "kl": kullback_leibler}


class Agreement:
    """weight(epoch) * divergence of the branches; the weight grows from 0.005 over the warm-up epochs."""

    START = 0.005

    def __init__(self, kind: str, weight: float = 0.5, warmup_epochs: int = 0):
        self.kind, self.final, self.warmup_epochs = kind, weight, warmup_epochs

    def active(self, splits: int) -> bool:
        return self.kind != "none" and splits > 1

    def weight(self, epoch):
        """max(weight * e / W, 0.005) while e < W, then the weight."""
        if not self.warmup_epochs:
            return ops.convert_to_tensor(self.final, "float32")
        share = ops.cast(epoch, "float32") / self.warmup_epochs
        return ops.clip(self.final * share, min(self.START, self.final), self.final)

    def __call__(self, logits):
        """logits [B, S, ..., C] -> [B, ...], unweighted; zero where there is nothing to agree on."""
        if not self.active(logits.shape[1]):
            shape = ops.shape(logits)
            return ops.zeros((*shape[:1], *shape[2:-1]), "float32")
        return AGREEMENTS[self.kind](logits)


def combine(logits, average: str):
    """The ensemble's scores [B, ..., C] from logits [B, S, ..., C]; mean of probabilities stays in log space."""
    logits = ops.cast(logits, "float32")
    if average == "logits":
        return ops.mean(logits, axis=1)
    if average == "probs":
        return ops.logsumexp(ops.log_softmax(logits), axis=1) - math.log(logits.shape[1])
    return ops.max(logits, axis=1)


AVERAGES = ("logits", "probs", "max")

__all__ = [
    "AVERAGES",
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
