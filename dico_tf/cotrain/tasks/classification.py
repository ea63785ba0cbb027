"""Classification of images and video clips."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from dico_tf.cotrain.batch import Batch, unpack
from dico_tf.cotrain.scores import Scores
from dico_tf.cotrain.tasks.task import BranchNetworks, Task, Truth
from dico_tf.errors import UserError
from dico_tf.layers.image_input import Normalisation
from dico_tf.views.image_views import ImageViews
from dico_tf.views.mixing import Mixing


class Classification(Task):
    """Tasks `classification` and `video`: logits [B, S, C] from images [B, H, W, 3] or clips [B, T, H, W, 3]."""

    def __init__(self, settings, network):
        super().__init__(settings, network)
        fill = tuple(255.0 * mean for mean in settings.mean)
        self.views = ImageViews(
            settings.views,
            settings.splits,
            settings.seed,
            fill,
            same=settings.same_views,
            image_size=settings.image_size,
        )
        self.mixing = Mixing(settings.mixup, settings.cutmix, settings.seed)

    def make_scores(self) -> Scores:
        return Scores(self.settings.splits, self.settings.average)

    def build(self, network: Any, normalisation: Normalisation) -> BranchNetworks:
        return BranchNetworks(network.build(self.settings.image_size, self.settings.classes, normalisation))

    def unpack(self, data: Any) -> Batch:
        return unpack(data)

    def inputs(self, batch: Batch, epoch: Any, step: Any, teach: Callable) -> tuple[list[tf.Tensor], Truth]:
        """Return views and truth. One draw of mixup and CutMix serves all branches, except with training="independent".

        Raises UserError if branches that train together have different images.
        """
        if self.settings.training == "independent":
            return self._independent(batch, epoch, step, teach)
        if not batch.shared:
            raise UserError(
                f"training='together' needs the same images for all branches, got labels of shape {batch.label.shape}: "
                "give labels [B], or training='independent'"
            )
        views = self.views(batch.image, batch.index, epoch, batch.cut)
        label = tf.one_hot(batch.label, self.settings.classes)
        views, (label, extra) = self.mixing(views, (label, teach(views, batch)), step)
        return views, {"targets": [label] * self.settings.splits, "extra_targets": extra}

    def _independent(self, batch: Batch, epoch: Any, step: Any, teach: Callable) -> tuple[list[tf.Tensor], Truth]:
        views, targets, extra = [], [], []
        for s in range(self.settings.splits):
            own = batch.of(s)
            view = self.views.view(own.image, own.index, epoch, s, own.cut)
            label = tf.one_hot(own.label, self.settings.classes)
            (view,), (label, (answers,)) = self.mixing([view], (label, teach([view], own)), step, branch=s)
            views.append(view)
            targets.append(label)
            extra.append(answers)
        return views, {"targets": targets, "extra_targets": extra}

    def truth(self, batch: Batch) -> Truth:
        return {"targets": [tf.one_hot(batch.label, self.settings.classes)] * self.settings.splits}

    def targets(self, truth: Truth) -> list[tf.Tensor]:
        return truth["targets"]

    def update(self, scores: Scores, answers, truth: Truth, terms: tuple, shared: bool) -> None:
        scores.update(answers, truth["targets"], *terms, shared)
