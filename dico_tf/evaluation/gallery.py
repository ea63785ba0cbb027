"""The file gallery_<split>.npz: small copies of a few evaluated images, for the run's page."""

from pathlib import Path

import numpy as np

from dico_tf.data.source import Split
from dico_tf.data.thumbnails import thumbnails
from dico_tf.evaluation.averaging import blocks, combine, disagreement, softmax
from dico_tf.files import arrays

COUNT = 12  # images of each kind


def write(folder: Path, name: str, split: Split, logits: np.ndarray, average: str) -> None:
    """Write the images that the branches disagree on most, and the ensemble's surest mistakes.

    The file has images [n, h, w, 3], ids, labels, classes [n, S + 1] of the branches and the ensemble, confidences of
    the same shape, and the positions in these arrays of each kind: `disagreed` and `mistakes`.

    Args:
        folder: of the run.
        name: of the split.
        logits: [N, S, C] of the split's images.
        average: key of AVERAGES, the rule that makes the ensemble.
    """
    answers = logits.argmax(2)
    ensemble = combine(logits, average)
    sure, entropy = np.empty(len(logits)), np.empty(len(logits))
    for rows, block in blocks(logits):
        entropy[rows] = disagreement(softmax(block))
        sure[rows] = softmax(ensemble[rows]).max(1)
    differ = (answers != answers[:, :1]).any(1)
    wrong = ensemble.argmax(1) != split.labels
    disagreed, mistakes = _first(entropy, differ), _first(sure, wrong)
    positions = np.unique(np.concatenate([disagreed, mistakes]))
    every = np.concatenate([logits[positions], ensemble[positions, None]], 1)
    content = {
        "images": thumbnails(split.take(positions)),
        "ids": split.ids[positions],
        "labels": split.labels[positions],
        "classes": every.argmax(2),
        "confidences": softmax(every).max(2),
        "disagreed": np.searchsorted(positions, disagreed),
        "mistakes": np.searchsorted(positions, mistakes),
    }
    arrays.write(folder / f"gallery_{name}.npz", content, compressed=True)


def _first(score: np.ndarray, eligible: np.ndarray) -> np.ndarray:
    """Return the positions of the eligible images with the highest scores, highest first."""
    order = np.argsort(-score, kind="stable")
    return order[eligible[order]][:COUNT]
