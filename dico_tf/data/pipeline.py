"""tf.data pipelines of batches. Python functions read the images, so that none is stored in TensorFlow's graph."""

import contextlib
import functools
import math
import re
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from dico_tf.data.segmentation import SegmentationSplit
from dico_tf.data.source import Split
from dico_tf.errors import UserError

_AT_WORK = 2  # elements made at a time; a single one of image files keeps all cores busy
_AHEAD, _AHEAD_BYTES = 4, 2**29  # elements prefetched; of large images no more than 512 MiB

Windows = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]  # index [b(, S)], sizes [b(, S), (w, h)] -> places [b, S, 4]
Places = Callable[[tf.Tensor], tf.Tensor]  # sizes -> places, the indices being known


def training_batches(
    split: Split | SegmentationSplit, indices: np.ndarray, windows: Windows | None = None
) -> tf.data.Dataset:
    """Return training batches {image, label, index}. Each element is one replica's; a step's elements are adjacent.

    Without `windows`: image uint8 [b(, S), H, W, 3], for videos [b(, S), T, H, W, 3], label int64 [b(, S)]; in
    segmentation, whole padded images and, as label, their masks, uint8 [b, H, W].

    Args:
        indices: positions in the split, [steps, replicas, b(, S)]. For a split of N images, i + r N is the r-th repeat
            of image i. The batch's `index` holds these numbers.
        windows: (index, sizes of the encoded images) -> one window for each branch, cut out when a lazy image is
            decoded. Then image is [b, S, H, W, 3], and the batch has `window` [b, S, 4]; for videos
            [b, S, T, H, W, 3] and [b, S, 5].
            In segmentation the window is one crop for all branches: image [b, H, W, 3], and as label the crop of the
            mask, uint8 [b, H, W]; the batch has no `window`. Other splits without lazy images ignore `windows`.
    """
    rows = np.asarray(indices, np.int64).reshape(-1, *indices.shape[2:])  # [steps * replicas, b(, S)]
    return _dataset(split, len(rows), lambda n: rows[n], rows.shape[1:], windows)


def evaluation_batches(split: Split | SegmentationSplit, batch_size: int) -> tf.data.Dataset:
    """Return batches of `batch_size` images in stored order; the last batch may be smaller.

    They are {image, label, index}, as in `training_batches` without `windows`.
    """
    steps = -(-split.size // batch_size)
    return _dataset(split, steps, lambda n: np.arange(n * batch_size, min((n + 1) * batch_size, split.size)), (None,))


@contextlib.contextmanager
def plain_faults() -> Iterator[None]:
    """Turn a TensorFlow error that wraps the UserError of an image reader into that UserError again."""
    try:
        yield
    except tf.errors.OpError as error:
        message = re.search(r"UserError: (.*)", str(error))
        if message is None:
            raise
        raise UserError(message[1]) from None


def _dataset(
    split: Split | SegmentationSplit,
    steps: int,
    rows_of: Callable[[int], np.ndarray],
    shape: tuple,
    windows: Windows | None = None,
) -> tf.data.Dataset:
    fill = _masked if isinstance(split, SegmentationSplit) else _images

    def make(n):
        index = tf.ensure_shape(_numpy(lambda n: rows_of(int(n)), [n], tf.int64), shape)
        places_in = None if windows is None else functools.partial(windows, index)
        return {**fill(split, index % split.size, shape, places_in), "index": index}

    options = tf.data.Options()
    options.deterministic = True
    # the indices are already this worker's share
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    # nothing here needs AutoGraph, which would take longer than all else at the start of an epoch
    make = tf.autograph.experimental.do_not_convert(make)
    batches = tf.data.Dataset.range(steps).map(make, num_parallel_calls=_AT_WORK, deterministic=True)
    sides = batches.element_spec["image"].shape.as_list()
    size = math.prod(len(rows_of(0)) if side is None else side for side in sides)
    return batches.prefetch(_ahead(size)).with_options(options)


def _images(split: Split, index: tf.Tensor, shape: tuple, places_in: Places | None) -> dict[str, tf.Tensor]:
    """Return {image, label}, and `window` if windows are cut: with `places_in`, from images decoded on demand."""
    label = tf.ensure_shape(_numpy(lambda i: split.labels[i], [index], tf.int64), shape)
    if places_in is None or split.lazy_images is None:
        image = _numpy(split.take, [index], tf.uint8)
        return {"image": tf.ensure_shape(image, (*shape, *split.image_shape)), "label": label}
    places = places_in(_sizes(split, index, shape))
    image = _numpy(split.windows, [index, places], tf.uint8)
    image = tf.ensure_shape(image, (*places.shape[:2], *split.image_shape))
    return {"image": image, "label": label, "window": places}


def _masked(split: SegmentationSplit, index: tf.Tensor, shape: tuple, places_in: Places | None) -> dict[str, tf.Tensor]:
    """Return {image, label}, where label is the mask: crops at `places_in`, or padded whole images without it."""
    if places_in is None:
        sides = split.frame
        image, mask = tf.numpy_function(split.framed, [index], [tf.uint8] * 2, stateful=False)
    else:
        sides = (split.image_size,) * 2
        places = places_in(_sizes(split, index, shape))
        image, mask = tf.numpy_function(split.crops, [index, places], [tf.uint8] * 2, stateful=False)
    return {"image": tf.ensure_shape(image, (*shape, *sides, 3)), "label": tf.ensure_shape(mask, (*shape, *sides))}


def _sizes(split: Split | SegmentationSplit, index: tf.Tensor, shape: tuple) -> tf.Tensor:
    """Return the sizes of the whole images, int32 [*shape, (width, height)]; `shape` is the static shape of `index`.

    For videos: int32 [*shape, (width, height, number of possible first frames of a clip)].
    """
    facts = 3 if split.videos else 2
    return tf.ensure_shape(_numpy(split.image_sizes, [index], tf.int32), (*shape, facts))


def _numpy(function: Callable[..., np.ndarray], inputs: list, kind: tf.DType) -> tf.Tensor:
    return tf.numpy_function(function, inputs, kind, stateful=False)


def _ahead(size: int) -> int:
    return max(1, min(_AHEAD, _AHEAD_BYTES // max(size, 1)))
