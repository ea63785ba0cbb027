"""Datasets as the rest of the program sees them, and the registry of their kinds."""

import dataclasses
import functools
import hashlib
import importlib
from collections.abc import Mapping, Sequence

import numpy as np

from dico_tf.config import Data
from dico_tf.data.clips import Videos
from dico_tf.data.lazy_images import LazyImages
from dico_tf.data.segmentation import SegmentationSplit
from dico_tf.errors import UserError
from dico_tf.registry import Registry

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of RGB in 0..1

# kind -> module with `load(data, seed) -> Source`, imported when it is chosen: a kind needs only its own packages
SOURCES: Registry[str] = Registry("kind of dataset")
SOURCES.add("digits", "dico_tf.data.digits")
SOURCES.add("folder", "dico_tf.data.folder")
SOURCES.add("segmentation folder", "dico_tf.data.segmentation_folder")
SOURCES.add("video folder", "dico_tf.data.video_folder")
SOURCES.add("moving", "dico_tf.data.moving_digits")
SOURCES.add("tfds", "dico_tf.data.tfds")
FOLDERS = {"classification": "folder", "segmentation": "segmentation folder", "video": "video folder"}  # of --task
# task that only some kinds serve -> what it needs, the kinds, what to give
FEW = {
    "segmentation": ("masks", ("segmentation folder",), "folder:DIR"),
    "video": ("clips", ("video folder", "moving"), "folder:DIR or moving"),
}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Labelled images: in memory (or memory-mapped), decoded on demand (`lazy_images`), or both.

    With both, `images` are the central squares of the lazy images. In-memory images alone are whole images. With videos
    as `lazy_images`, an image is a clip [T, H, W, 3].
    """

    labels: np.ndarray  # int64 [N]
    ids: np.ndarray  # str [N]
    images: np.ndarray | None = None  # uint8 [N, H, W, 3]
    lazy_images: LazyImages | Videos | None = None
    numbers: np.ndarray | None = None  # int64 [N], positions in `lazy_images`; all of them, in order, by default

    def __post_init__(self) -> None:
        if self.images is None and self.lazy_images is None:
            raise ValueError("a split needs images, lazy_images, or both")
        if self.images is not None and (
            self.images.dtype != np.uint8 or self.images.ndim != 4 or self.images.shape[-1] != 3
        ):
            raise ValueError(f"images must be uint8 [N, H, W, 3], not {self.images.dtype} {self.images.shape}")
        if self.lazy_images is not None and self.numbers is None:
            object.__setattr__(self, "numbers", np.arange(len(self.lazy_images.sizes)))
        object.__setattr__(self, "labels", np.asarray(self.labels, np.int64))
        object.__setattr__(self, "ids", np.asarray(self.ids, np.str_))
        for content in (self.images, self.numbers):
            if content is not None and not len(content) == len(self.labels) == len(self.ids):
                raise ValueError(f"{len(content)} images, {len(self.labels)} labels, {len(self.ids)} ids")

    @property
    def size(self) -> int:
        return len(self.labels)

    @property
    def marks(self) -> np.ndarray:
        """Fingerprint of each label, int64 [N]."""
        return self.labels

    @property
    def videos(self) -> Videos | None:
        return self.lazy_images if isinstance(self.lazy_images, Videos) else None

    @property
    def image_shape(self) -> tuple[int, ...]:
        """[H, W, 3], or for clips [T, H, W, 3]."""
        return self.lazy_images.image_shape if self.images is None else self.images.shape[1:]

    @property
    def image_size(self) -> int:
        return self.image_shape[-2]

    def take(self, positions: np.ndarray) -> np.ndarray:
        """Return images, uint8 [..., H, W, 3], at positions of any shape."""
        if self.images is not None:
            return np.take(self.images, positions, axis=0)
        return self.lazy_images.squares(self.numbers[positions])

    def image_sizes(self, positions: np.ndarray) -> np.ndarray:
        """Return the sizes of whole lazy images, int32 [..., (width, height)].

        For videos the number of possible first frames is added.
        """
        return self.lazy_images.sizes[self.numbers[positions]]

    def windows(self, positions: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Return windows of lazy images, uint8 [B, S, H, W, 3], at positions [B] or [B, S].

        Args:
            places: [B, S, (left, top, right, bottom)], for videos followed by the first frame.
        """
        return self.lazy_images.windows(self.numbers[positions], places)

    def views(self, clips: int, crops: int) -> list["Split"]:
        """Return the same videos once for each of clips x crops parts of a test."""
        return [dataclasses.replace(self, lazy_images=videos) for videos in self.videos.views(clips, crops)]

    def with_squares(self, images: np.ndarray) -> "Split":
        """Return the split with its squares in memory, without lazy images if the squares are the whole images."""
        whole = (
            self.lazy_images.sizes == self.lazy_images.short_side
        ).all() and self.lazy_images.short_side == self.lazy_images.image_size
        lazy_images = {} if whole else {"lazy_images": self.lazy_images, "numbers": self.numbers}
        return Split(labels=self.labels, ids=self.ids, images=images, **lazy_images)

    def subset(self, positions: np.ndarray) -> "Split":
        """Return the split of the images at these positions, in this order; those in memory are copied."""
        return Split(
            labels=self.labels[positions],
            ids=self.ids[positions],
            images=None if self.images is None else self.images[positions],
            lazy_images=self.lazy_images,
            numbers=None if self.numbers is None else self.numbers[positions],
        )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """A dataset: its split `train`, and `val` and `test` if it has them."""

    name: str
    class_names: tuple[str, ...]
    image_size: int
    splits: Mapping[str, Split | SegmentationSplit]
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    short_side: int = 0  # pixels of the resized image whose centre is evaluated; 0 = image_size
    frame: tuple[int, int] | None = None  # (height, width) in which whole images are evaluated in segmentation

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the name, the image size and margin, the classes, and the labels and ids of all splits."""
        margin = (self.short_side,) if self.short_side > self.image_size else ()
        digest = hashlib.sha256(repr((self.name, self.image_size, *margin, self.class_names)).encode())
        for name in sorted(self.splits):
            split = self.splits[name]
            digest.update(f"\0{name} {split.size}\0".encode())
            digest.update(split.marks.astype("<i8").tobytes())
            digest.update("\n".join(split.ids).encode("utf-8", "surrogateescape"))
            if split.videos:
                digest.update(f"\0{split.videos.count} {split.videos.rate}\0".encode())
                digest.update(split.videos.lengths[split.numbers].astype("<i8").tobytes())
        return digest.hexdigest()[:16]


def load(data: Data, seed: int) -> Source:
    """Load the dataset that --dataset names: `digits`, `moving`, `folder:DIR`, or one of TFDS."""
    kind = FOLDERS[data.task] if data.dataset.startswith("folder:") else data.dataset
    needed, kinds, remedy = FEW.get(data.task, ("", (kind,), ""))
    if kind not in kinds:
        raise UserError(f"--dataset={data.dataset} has no {needed} for --task={data.task}: give {remedy}")
    module = importlib.import_module(SOURCES[kind if kind in SOURCES else "tfds"])
    source: Source = module.load(data, seed)
    source = dataclasses.replace(source, class_names=_names(source.class_names, data.classes))
    if data.task != "segmentation":  # masks are checked where they are read
        _check_labels(source)
    return source


def _names(names: Sequence[str], classes: int) -> tuple[str, ...]:
    """Return --classes names; those that the dataset does not give are class_N."""
    count = classes or len(names)
    return (*names[:count], *(f"class_{c}" for c in range(len(names), count)))


def _check_labels(source: Source) -> None:
    classes = len(source.class_names)
    for name, split in source.splits.items():
        wrong = np.flatnonzero((split.labels < 0) | (split.labels >= classes))
        if len(wrong):
            raise UserError(
                f"{source.name} has {classes} classes, labels 0 to {classes - 1}, but {len(wrong)} of {split.size} "
                f"{name} images have others; the first is {split.ids[wrong[0]]} with label {split.labels[wrong[0]]}"
            )
