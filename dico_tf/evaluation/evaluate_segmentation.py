"""Evaluation of a trained segmentation run on one of its splits."""

from typing import Any

import numpy as np
import tensorflow as tf

from dico_tf.data.pipeline import evaluation_batches
from dico_tf.data.segmentation import SegmentationSplit
from dico_tf.evaluation import segmentation
from dico_tf.evaluation.segmentation_predictions import SegmentationPredictions
from dico_tf.models.presets import find
from dico_tf.training.build import TrainedRun
from dico_tf.training.progress import Bar


def evaluate(
    run: TrainedRun, model, name: str, split: SegmentationSplit, bar: Bar | None = None
) -> tuple[SegmentationPredictions, dict[str, Any]]:
    """Return the predictions of a split, and the evaluation computed from exactly their float16 logits.

    `name` is that of the split in the evaluation.
    """
    average = run.config.cotraining.average
    counts = segmentation.ConfusionCounts(model.splits, model.classes)
    logits, masks = [], []
    forward = tf.function(lambda images: model(images, training=False), reduce_retracing=True, autograph=False)
    for batch in evaluation_batches(split, run.config.run.evaluation_batch_size):
        predicted, truth = forward(batch["image"]).numpy().astype(np.float16), batch["label"].numpy()
        for one, mask in zip(predicted, truth, strict=True):
            counts.add(one, mask)
        logits.append(predicted)
        masks.append(truth)
        if bar:
            bar.advance(len(predicted), {})
    predictions = SegmentationPredictions(
        logits=np.concatenate(logits),
        masks=np.concatenate(masks),
        sizes=split.image_sizes(np.arange(split.size))[:, ::-1],
        ids=split.ids,
        confusion=np.stack([*counts.branches, counts.averages[average]]),
    )
    evaluation = segmentation.evaluation(
        counts,
        average=average,
        split=name,
        select=run.best["select"],
        weights=run.best["weights"],
        class_names=run.data["class_names"],
        images=split.size,
        frame=list(split.frame),
        macs=_costs(run, model.classes, split.frame),
    )
    return predictions, evaluation


def _costs(run: TrainedRun, classes: int, frame: tuple[int, int]) -> dict[str, int]:
    """Return the multiply-adds of a frame (height, width): "whole", undivided, and "branch", of one branch."""
    network, config = find(run.reference or run.config.network.model), run.config.network
    division = network.division(config.division)
    size = run.data["image_size"]
    branch = network.divided(config.splits, division, size, classes)
    return {"whole": network.macs(frame, classes, size), "branch": branch.macs(frame, classes, size)}
