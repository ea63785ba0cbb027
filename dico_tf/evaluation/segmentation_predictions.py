"""The file predictions_<split>.npz of a segmentation run: logits of every branch at the output stride, and masks."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dico_tf.errors import UserError
from dico_tf.files import arrays, tables


class SegmentationPredictions(NamedTuple):
    """Content of the file; images stand in the upper left corner of frames of one size."""

    logits: np.ndarray  # [N, S, h, w, C] float16, of whole frames
    masks: np.ndarray  # [N, H, W] uint8; 255 = void, or outside of the image
    sizes: np.ndarray  # [N, (height, width)] int32 of the images
    ids: np.ndarray  # [N] str
    confusion: np.ndarray  # [S + 1, C, C] int64 pixels, of each branch and of the ensemble; rows are the truth


def write(path: str | os.PathLike, predictions: SegmentationPredictions) -> None:
    """Write the file, compressed. Raises UserError if shapes do not match."""
    arrays.write(Path(path), _checked(predictions)._asdict(), compressed=True)


def read(path: str | os.PathLike) -> SegmentationPredictions:
    """Read the file. Raises UserError if it is missing, damaged or of another kind."""
    what = "a file of segmentation predictions"
    stored = tables.read_named(Path(path), SegmentationPredictions._fields, what)
    try:
        return _checked(SegmentationPredictions(**stored))
    except UserError as fault:
        raise UserError(f"{path} is not {what}: {fault}") from fault


def _checked(p: SegmentationPredictions) -> SegmentationPredictions:
    """Return the arrays with their dtypes. Raises UserError if their shapes do not match."""
    if p.logits.ndim != 5:
        raise UserError(f"logits have shape {list(p.logits.shape)}, expected [N, S, h, w, C]")
    if p.masks.ndim != 3:
        raise UserError(f"masks have shape {list(p.masks.shape)}, expected [N, H, W]")
    images, splits, *_, classes = p.logits.shape
    expected = {"masks": (images, *p.masks.shape[1:3]), "sizes": (images, 2), "ids": (images,)}
    expected["confusion"] = (splits + 1, classes, classes)
    for name, shape in expected.items():
        if getattr(p, name).shape != shape:
            raise UserError(f"{name} have shape {list(getattr(p, name).shape)}, expected {list(shape)}")
    kinds = (np.float16, np.uint8, np.int32, np.str_, np.int64)
    return SegmentationPredictions(*(np.asarray(x, kind) for x, kind in zip(p, kinds, strict=True)))
