"""Disjoint subsets of CIFAR-10's training images, held-out images, and the tables of labels that a run reads."""

import csv
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dico_tf import startup
from dico_tf.config import Data
from dico_tf.files import atomic

SUBSETS = 5  # disjoint, unless a study has another number
SIZES = (500, 2500, 5000)  # images of a subset; the smaller ones are among the larger
HELD_OUT = 5000  # images in no subset
SPARE = 10  # further images in no subset
KINDS = {  # of tables: their validation and test images; train.py scores validation images twice
    "trial": ("spare", "held-out"),
    "test": ("spare", "test"),
    "cascade": ("held-out", "test"),
}
SEED = 17
DONE = "complete"  # file in the folder: everything is written


def draw(
    labels: np.ndarray, seed: int = SEED, subsets: int = SUBSETS
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Return an order of positions for each subset, the held-out and the spare positions; all are disjoint.

    The first n positions of an order are its subset of n images. Every part has as many images of each class; so n must
    be a multiple of the number of classes.

    Args:
        labels: of the training images, [N].
        subsets: their number.
    """
    random, classes = np.random.default_rng(seed), np.unique(labels)
    of_class = [random.permutation(np.flatnonzero(labels == label)) for label in classes]
    sizes = [*[max(SIZES)] * subsets, HELD_OUT, SPARE]
    ends = np.cumsum([0, *sizes]) // len(classes)
    parts = [
        np.stack([members[start:end] for members in of_class], axis=1).ravel()
        for start, end in itertools.pairwise(ends)
    ]
    return parts[:subsets], np.sort(parts[-2]), np.sort(parts[-1])


def table(folder: Path, images: int, subset: int, kind: str) -> Path:
    """Return the path of a table that `write` writes; `kind` is a key of KINDS."""
    return folder / f"{images}_{subset}_{kind}.csv"


def write(folder: Path, data_dir: str, subsets: int = SUBSETS) -> None:
    """Write the images as PNG files and the tables of all subsets into a folder, unless they are there.

    Args:
        data_dir: folder of the prepared CIFAR-10; "" = TFDS's own.
        subsets: their number.
    """
    if (folder / DONE).exists():
        return
    startup.tensorflow()
    from PIL import Image

    from dico_tf.data import source

    cifar = source.load(Data(dataset="cifar10", data_dir=data_dir), seed=0)
    train, test = cifar.splits["train"], cifar.splits["test"]
    orders, held_out, spare = draw(train.labels, subsets=subsets)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    used = np.concatenate([*orders, held_out, spare])
    for split, positions in ((train, used), (test, np.arange(test.size))):
        for image, name in zip(split.take(positions), split.ids[positions], strict=True):
            Image.fromarray(image).save(folder / "images" / f"{name}.png")
    parts = {"held-out": (train, held_out), "spare": (train, spare), "test": (test, np.arange(test.size))}
    for (subset, order), images, kind in itertools.product(enumerate(orders), SIZES, KINDS):
        rows = _rows(train, order[:images], cifar.class_names, "train")
        for split, part in zip(("val", "test"), KINDS[kind], strict=True):
            rows += _rows(*parts[part], cifar.class_names, split)
        with table(folder, images, subset, kind).open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([("image", "label", "split"), *rows])
    atomic.write_text(folder / DONE, "")


def _rows(images: Any, positions: np.ndarray, names: Sequence[str], split: str) -> list[tuple[str, str, str]]:
    return [(f"{images.ids[n]}.png", names[images.labels[n]], split) for n in positions]
