"""Submodels that teach one another the class of each pixel: cosub on pairs of dense predictions."""

from typing import Any

import keras
import tensorflow as tf

from dico_tf.cotrain import pixels
from dico_tf.cotrain.losses import TARGETS, mutual
from dico_tf.cotrain.segmenter import Segmenter
from dico_tf.cotrain.submodels import Submodels
from dico_tf.errors import UserError


@keras.saving.register_keras_serializable("dico_tf")
class PixelSubmodels(Submodels, Segmenter):
    """A Segmenter whose branches see every crop several times in a batch, each time without other residual branches.

    Label and cross terms are of single pixels, and of those with a class: void is neither learned nor compared. The
    second head, where there is one, learns the labels with every submodel, and no answers. Classes of a pixel exclude
    each other, so that answers are softmax's alone.
    """

    def __init__(self, model: str | dict[str, Any], splits: int = 1, *, target: str = "softmax", **settings):
        if target != "softmax":
            raise UserError(f"target={target!r}: pixels have one class, which others exclude; give target='softmax'")
        super().__init__(model, splits, target=target, **settings)

    def _make_scores(self) -> "PixelSubmodelScores":
        return PixelSubmodelScores(self.splits, self.classes, self.average)

    def _heads(self, learner: keras.Model, view) -> list:
        """One pass of all copies, copy after copy -> [B, n, h, w, C] of each head."""
        return [self._by_copy(rows) for rows in super()._heads(learner, tf.concat([view] * self.submodels, axis=0))]

    def _by_copy(self, rows):
        """[n B, h, w, C] -> [B, n, h, w, C]"""
        _, *place = rows.shape
        return tf.transpose(tf.reshape(rows, (self.submodels, -1, *place)), (1, 0, 2, 3, 4))

    def _enlarged(self, logits, masks):
        """[B, S, (n,) h, w, C] -> [B, S, (n,) H, W, C]"""
        if logits.shape.rank == 5:
            return super()._enlarged(logits, masks)
        copies = [super(PixelSubmodels, self)._enlarged(logits[:, :, n], masks) for n in range(self.submodels)]
        return tf.stack(copies, axis=2)

    def _auxiliary(self, logits, masks):
        """The mean of the submodels' second heads' [B, n, h, w, C]."""
        copies = [super(PixelSubmodels, self)._auxiliary(logits[:, n], masks) for n in range(self.submodels)]
        return tf.add_n(copies) / self.submodels

    def _terms(self, logits, masks):
        """Of logits [B, S, n, H, W, C]: label terms [B, S], the branches' agreement [B], and the sum of all [B].

        Of the whole networks' logits [B, S, H, W, C], as of any Segmenter.
        """
        if logits.shape.rank == 5:
            return Segmenter._terms(self, logits, masks)
        goal = pixels.targets(masks, self.classes, self.label_smoothing)
        terms = [mutual(logits[:, s], goal, self.label_weight, self.target) for s in range(self.splits)]
        losses = tf.stack([pixels.mean(tf.reduce_mean(label, axis=1), masks) for label, _, _ in terms], axis=1)
        agreement = pixels.mean(self.agreement(_together(logits)), masks)
        total = tf.add_n([pixels.mean(both, masks) for _, _, both in terms])
        return losses, agreement, total + self.agreement.weight(self.epoch) * agreement

    def _score(self, logits, masks) -> None:
        large = self._enlarged(logits, masks)
        terms = self._terms(large, masks)
        if large.shape.rank == 6:
            self.scores.compare([TARGETS[self.target].answer(large[:, s]) for s in range(self.splits)], masks)
            large = _together(large)
        self.scores.update(large, masks, *terms)


def _together(logits):
    """What the submodels of each branch say on the mean: [B, S, n, H, W, C] -> [B, S, H, W, C]."""
    return tf.reduce_mean(tf.cast(logits, tf.float32), axis=2)


class PixelSubmodelScores(pixels.PixelScores):
    """And, while training, how far apart the submodels' answers are: the mean of |p_s - p_t| over classes and pairs."""

    def __init__(self, splits: int, classes: int, average: str):
        super().__init__(splits, classes, average)
        self.apart = keras.metrics.Mean(name="submodels_apart")

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return [*super().metrics, self.apart]

    def compare(self, answers, masks) -> None:
        """S x answers [B, n, H, W, C]; neighbours in a ring, which of two is every pair, at the pixels with a class."""
        for said in answers:
            far = tf.reduce_mean(tf.abs(said - tf.roll(said, 1, axis=1)), axis=(1, 4))
            self.apart.update_state(pixels.mean(far, masks), pixels.valid(masks))

    def results(self, shared: bool = True) -> dict[str, object]:
        compared = float(self.apart.count) > 0
        return {**super().results(shared), **({"submodels_apart": float(self.apart.result())} if compared else {})}
