"""Base class of tasks: what the methods of co-training need from a task."""

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
from dico_tf.layers.image_input import Normalisation

Truth = Mapping[str, Any]  # a structure of tensors with the batch as first axis


@dataclasses.dataclass(frozen=True)
class BranchNetworks:
    """The networks of one branch, which share their weights.

    Attributes:
        network: for prediction, evaluation and export.
        learner: for training, with an auxiliary head if there is one; None: `network` itself.
        coarse: returns logits at the output stride; None: `network` itself.
    """

    network: keras.Model
    learner: keras.Model | None = None
    coarse: Callable | None = None


class Task(abc.ABC):
    """A task: unpacks batches, makes views and targets, averages losses over each image, and scores answers."""

    views: Any  # callable (images, index, epoch, cut) -> S views

    def __init__(self, settings: Settings, network: Any):
        self.settings, self.network = settings, network

    @abc.abstractmethod
    def make_scores(self) -> Any:
        """Return new running metrics; their `best_by` names the score that chooses the best epoch."""

    @abc.abstractmethod
    def build(self, network: Any, normalisation: Normalisation) -> BranchNetworks:
        """Build one branch with new weights.

        Args:
            network: the branch's architecture, from `branches` of a preset, custom network or list of networks.
        """

    @abc.abstractmethod
    def unpack(self, data: Any) -> Batch:
        """Convert what Keras or the training loop passes to a step into a Batch."""

    @abc.abstractmethod
    def inputs(self, batch: Batch, epoch: Any, step: Any, teach: Callable) -> tuple[list[tf.Tensor], Truth]:
        """Return the S views of a training batch, and its truth: labels, and whatever else the task needs for losses.

        Args:
            teach: (views, batch) -> additional targets of each view; see `Dico.teach`.
        """

    @abc.abstractmethod
    def truth(self, batch: Batch) -> Truth:
        """Return the truth of an evaluation batch, as `inputs` does for training, without additional targets."""

    @abc.abstractmethod
    def targets(self, truth: Truth) -> list[tf.Tensor]:
        """Return one tensor [B, ..., C] for each branch: the shares of the classes."""

    @abc.abstractmethod
    def update(self, scores: Any, answers: tf.Tensor, truth: Truth, terms: tuple, shared: bool) -> None:
        """Update the running metrics of a batch.

        Args:
            answers: logits [B, S, ..., C], of the size of the labels.
            terms: the losses, agreement and total of `Terms`.
            shared: True if all branches saw the same images.
        """

    def check_labels(self, labels: np.ndarray) -> None:
        """Raise UserError if labels are not class numbers from 0 to C - 1."""
        classes = self.settings.classes
        if labels.size and not 0 <= labels.min() <= labels.max() < classes:
            raise UserError(
                f"expected labels from 0 to {classes - 1}, got {labels.min()} to {labels.max()}: set `classes`, or "
                "change the labels"
            )

    def mean(self, values, truth: Truth):
        """Return the mean of values [B, H, W] over the labelled pixels of each image: [B]; values [B] as they are."""
        return values

    def units(self, truth: Truth):
        """Return the number of labels of each image, [B]; None if each has one."""
        return None

    def shares(self, truth: Truth):
        """Return the weight of each image [B] in the loss, with mean 1; None if all count the same."""
        return None

    def at_label_size(self, logits, truth: Truth):
        """Return logits [..., h, w, C] resized to the size of the masks; logits of classification as they are."""
        return logits
