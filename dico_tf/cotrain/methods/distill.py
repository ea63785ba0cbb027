"""Co-train branches that also learn from a trained model (knowledge distillation, arXiv 1503.02531)."""

from collections.abc import Callable

import tensorflow as tf

from dico_tf.config import Settings
from dico_tf.cotrain.batch import Batch
from dico_tf.cotrain.losses import LabelLoss, distillation
from dico_tf.cotrain.methods.dico import Dico
from dico_tf.cotrain.tasks.task import Task, Truth
from dico_tf.errors import UserError

Teacher = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]  # images [B, H, W, 3] of 0..255, their index [B] -> logits [B, C]


class Distill(Dico):
    """Method `distill`: own_s = w l(z_s, y) + (1 - w) T^2 KL(teacher at T || branch s at T); w is `label_weight`.

    The teacher sees each branch's view, or the unchanged image if `teacher_views="clean"`. It sees images before mixup
    and CutMix, which then mix its answers like the labels.
    """

    def __init__(self, settings: Settings, labels: LabelLoss):
        super().__init__(settings, labels)
        self.teacher: Teacher | None = None  # set before training; it is not saved

    def teach(self, views: list, batch: Batch) -> list:
        if self.teacher is None:
            raise UserError(
                "method='distill' needs a teacher to train: give train.py --teacher, or in Python "
                "DiCo(..., teacher=teacher), where teacher(images) returns logits; a DiCo that was loaded needs "
                "learn_from(lambda images, index: teacher(images))"
            )
        images = [batch.image] * len(views) if self.settings.teacher_views == "clean" else views
        answers = {}
        for image in images:  # branches may share a view; the teacher answers it once
            if id(image) not in answers:
                logits = tf.cast(self.teacher(image, batch.index), tf.float32)
                answers[id(image)] = tf.stop_gradient(tf.nn.softmax(logits / self.settings.temperature))
        return [answers[id(image)] for image in images]

    def own(self, task: Task, logits, goal, truth: Truth, branch: int):
        weight, answers = self.settings.label_weight, logits[:, 0]
        label = self.labels.loss(answers, goal)
        teacher = task.at_label_size(truth["extra_targets"][branch], truth)
        return label, weight * label + (1 - weight) * distillation(answers, teacher, self.settings.temperature)
