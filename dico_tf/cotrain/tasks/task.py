"""Base class of tasks: the parts that every method of co-training needs."""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dico_tf.config import Settings
from dico_tf.cotrain.batch import Batch
from dico_tf.errors import UserError
from dico_tf.layers.image import Normalisation

Truth = Mapping[str, Any]  # a structure of tensors with the batch as first axis


@dataclasses.dataclass(frozen=True)
class Branch:
    """Networks of one branch, which share their weights."""

    network: keras.Model  # what answers, is evaluated and exported
    learner: keras.Model | None = None  # with all that only training has; None: the network itself
    coarse: Callable | None = None  # logits at the output stride; None: the network itself


class Task(abc.ABC):
    """A task: makes views and targets of a batch, averages losses over an image, and keeps running metrics."""

    views: Any  # callable (images, index, epoch, cut) -> S views

    def __init__(self, settings: Settings, network: Any):
        self.settings, self.network = settings, network

    @abc.abstractmethod
    def make_scores(self) -> Any:
        """Return the running metrics; `judged` names the one that chooses the best epoch."""

    @abc.abstractmethod
    def build(self, network: Any, normalisation: Normalisation) -> Branch:
        """Return one branch with fresh weights."""

    @abc.abstractmethod
    def unpack(self, data: Any) -> Batch:
        """Return the batch that Keras or the training loop passes to a step."""

    @abc.abstractmethod
    def inputs(self, batch: Batch, epoch: Any, step: Any, teach: Callable) -> tuple[list[tf.Tensor], Truth]:
        """Return S views and the truth of a training batch.

        Args:
            teach: (views, batch) -> further targets of each view, mixed as the labels are; see `Dico.teach`.
        """

    @abc.abstractmethod
    def truth(self, batch: Batch) -> Truth:
        """Return the truth of a batch that is evaluated."""

    @abc.abstractmethod
    def targets(self, truth: Truth) -> list[tf.Tensor]:
        """Return each branch's targets [B, ..., C]: shares of the classes."""

    @abc.abstractmethod
    def update(self, scores: Any, answers: tf.Tensor, truth: Truth, terms: tuple, shared: bool) -> None:
        """Update the running metrics with answers [B, S, ..., C] at the size of the labels."""

    def check_labels(self, labels: np.ndarray) -> None:
        """Raise UserError where labels are not class numbers."""
        classes = self.settings.classes
        if labels.size and not 0 <= labels.min() <= labels.max() < classes:
            raise UserError(
                f"labels run from {labels.min()} to {labels.max()}: {classes} classes are 0 to {classes - 1}"
            )

    def mean(self, values, truth: Truth):
        """Return the mean over the labels of each image: [B, ...] -> [B]."""
        return values

    def units(self, truth: Truth):
        """Return how many labels each image has, [B]; None: one each."""
        return None

    def shares(self, truth: Truth):
        """Return each image's weight [B] in the loss of the global batch; None: all count the same."""
        return None

    def at_label_size(self, logits, truth: Truth):
        """Return logits [..., C] at the size of the labels."""
        return logits
