"""A dataset (`Source`) and its splits (`Split`), and `load`, which calls the loader of the dataset's kind."""

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
    """Labelled images: arrays in memory (or memory-mapped), images decoded on demand (`lazy_images`), or both.

    With both, `images` are the central squares of the lazy images, already decoded. Without lazy images, `images` are
    all there is. If `lazy_images` are videos, "an image" is a clip [T, H, W, 3].
    """

    labels: np.ndarray  # int64 [N]
    ids: np.ndarray  # str [N]
    images: np.ndarray | None = None  # uint8 [N, H, W, 3]
    lazy_images: LazyImages | Videos | None = None
    numbers: np.ndarray | None = None  # int64 [N], the split's images in `lazy_images`; None = all, in order

    def __post_init__(self) -> None:
        if self.images is None and self.lazy_images is None:
            raise ValueError("a split needs images, lazy_images, or both")
        if self.images is not None and (
            self.images.dtype != np.uint8 or self.images.ndim != 4 or self.images.shape[-1] != 3
        ):
            raise ValueError(f"expected images uint8 [N, H, W, 3], got {self.images.dtype} {self.images.shape}")
        if self.lazy_images is not None and self.numbers is None:
            object.__setattr__(self, "numbers", np.arange(len(self.lazy_images.sizes)))
        object.__setattr__(self, "labels", np.asarray(self.labels, np.int64))
        object.__setattr__(self, "ids", np.asarray(self.ids, np.str_))
        for content in (self.images, self.numbers):
            if content is not None and not len(content) == len(self.labels) == len(self.ids):
                raise ValueError(
                    f"expected one label and one id per image, got {len(content)} images, {len(self.labels)} labels "
                    f"and {len(self.ids)} ids"
                )

    @property
    def size(self) -> int:
        return len(self.labels)

    @property
    def marks(self) -> np.ndarray:
        """Numbers that represent the labels in the dataset's fingerprint, int64 [N]: here the labels themselves."""
        return self.labels

    @property
    def videos(self) -> Videos | None:
        return self.lazy_images if isinstance(self.lazy_images, Videos) else None

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one image, (H, W, 3), or of one clip, (T, H, W, 3)."""
        return self.lazy_images.image_shape if self.images is None else self.images.shape[1:]

    @property
    def image_size(self) -> int:
        return self.image_shape[-2]

    def take(self, positions: np.ndarray) -> np.ndarray:
        """Return the images at positions [...] of the split: uint8 [..., H, W, 3], for videos [..., T, H, W, 3].

        Lazy images are decoded, and their central squares returned.
        """
        if self.images is not None:
            return np.take(self.images, positions, axis=0)
        return self.lazy_images.squares(self.numbers[positions])

    def image_sizes(self, positions: np.ndarray) -> np.ndarray:
        """Return the sizes of the whole lazy images at positions [...]: int32 [..., (width, height)].

        For videos: int32 [..., (width, height, number of possible first frames of a clip)].
        """
        return self.lazy_images.sizes[self.numbers[positions]]

    def windows(self, positions: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Cut windows out of whole lazy images and resize them: uint8 [B, S, H, W, 3], for videos [B, S, T, H, W, 3].

        Args:
            positions: images of the split, [B] (S windows of each) or [B, S] (one window of each).
            places: the windows, [B, S, (left, top, right, bottom)] in pixels of the whole image; for videos
                [B, S, (left, top, right, bottom, first frame)].
        """
        return self.lazy_images.windows(self.numbers[positions], places)

    def views(self, clips: int, crops: int) -> list["Split"]:
        """Return clips x crops copies of this split of videos; each copy yields one clip and one crop of every video.

        A test averages the predictions of all copies. `Videos.views` says where clips and crops lie.
        """
        return [dataclasses.replace(self, lazy_images=videos) for videos in self.videos.views(clips, crops)]

    def with_squares(self, images: np.ndarray) -> "Split":
        """Return the split with `images`, its decoded squares, in memory.

        The lazy images are kept too, unless the squares are the whole images: nothing was cut off or resized.
        """
        whole = (
            self.lazy_images.sizes == self.lazy_images.short_side
        ).all() and self.lazy_images.short_side == self.lazy_images.image_size
        lazy_images = {} if whole else {"lazy_images": self.lazy_images, "numbers": self.numbers}
        return Split(labels=self.labels, ids=self.ids, images=images, **lazy_images)

    def subset(self, positions: np.ndarray) -> "Split":
        """Return a split of the images at these positions, in this order. Images in memory are copied."""
        return Split(
            labels=self.labels[positions],
            ids=self.ids[positions],
            images=None if self.images is None else self.images[positions],
            lazy_images=self.lazy_images,
            numbers=None if self.numbers is None else self.numbers[positions],
        )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """A dataset: its splits, classes, and the size and statistics with which its images are prepared."""

    name: str
    class_names: tuple[str, ...]
    image_size: int  # side in pixels of the squares that the network sees; in segmentation, of the training crops
    splits: Mapping[str, Split | SegmentationSplit]  # those that exist of `train`, `val` and `test`
    mean: tuple[float, float, float] = IMAGENET_MEAN  # of RGB in 0..1
    std: tuple[float, float, float] = IMAGENET_STD
    short_side: int = 0  # pixels to which the short side is resized before the centre is cut out; 0 = image_size
    frame: tuple[int, int] | None = None  # segmentation: (height, width) to which whole images are padded

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash that changes with the dataset: 16 hexadecimal digits.

        It covers name, image size, short side, class names, and the ids and labels (checksums of masks) of all splits;
        for videos also frames and frame rate of a clip and the videos' lengths. It does not cover the images' pixels.
        """
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
    """Load the dataset that --dataset names: `digits`, `moving`, `folder:DIR`, `folder:DIR/labels.csv`, or one of TFDS.

    Args:
        seed: draws the test split of a folder that has none.

    Raises:
        UserError: if the dataset is missing, damaged or unfit for the task, or has labels beyond its classes.
    """
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
    """Return `classes` names (0: all): the dataset's own, cut off or continued by class_N."""
    count = classes or len(names)
    return (*names[:count], *(f"class_{c}" for c in range(len(names), count)))


def _check_labels(source: Source) -> None:
    classes = len(source.class_names)
    for name, split in source.splits.items():
        wrong = np.flatnonzero((split.labels < 0) | (split.labels >= classes))
        if len(wrong):
            raise UserError(
                f"{source.name}: expected labels from 0 to {classes - 1}, the {classes} classes, but {len(wrong)} of "
                f"{split.size} {name} images have others; the first is {split.ids[wrong[0]]} with label "
                f"{split.labels[wrong[0]]}: correct the labels, or change --classes"
            )
