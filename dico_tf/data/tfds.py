"""Any image classification dataset of TensorFlow Datasets (TFDS)."""

import dataclasses
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import Image

from dico_tf.config import Data
from dico_tf.data import dataset_cache, image_decoding, memory_budget, record_index, records, tfds_builder
from dico_tf.data.known_datasets import KNOWN
from dico_tf.data.lazy_images import EncodedImages, ImagesInMemory, LazyImages
from dico_tf.data.memory_budget import MemoryBudget
from dico_tf.data.records import Keys, RecordTable
from dico_tf.data.source import IMAGENET_MEAN, IMAGENET_STD, Source, Split
from dico_tf.data.splits import stratified
from dico_tf.errors import UserError

STATISTICS = {  # mean and std of RGB in 0..1, as in the published recipes
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}
SPLIT_SEED = 0  # for the test split of a dataset without one; the same for every run


@dataclasses.dataclass(frozen=True)
class EncodedSplit:
    """The encoded images of a TFDS split, their table, and the files that have random access; () if they have none."""

    images: EncodedImages
    table: RecordTable
    files: Sequence[Path] = ()


def load(data: Data, seed: int) -> Source:
    """Download and index the dataset if necessary, and return it; its splits are the same for every seed.

    `test` is TFDS's test, unless its labels are secret; else its validation; else a fixed fifth of every class of
    train. `val` is TFDS's validation, unless that is the test.
    """
    builder = tfds_builder.builder(data)
    name = builder.info.full_name.rsplit("/", 1)[0]  # without its version
    keys = _keys(builder.info)
    size = _image_size(builder, keys, data, name)
    tfds_builder.prepare(builder, data.data_dir)
    encoded = {part: _encoded(builder, split, keys, f"{name} {split}") for part, split in _parts(builder, name).items()}
    splits = _splits(_without_secret_test(encoded), size, name)
    if "test" not in splits:
        train, test = stratified(splits["train"].labels, 0.2, SPLIT_SEED)
        splits = {"train": splits["train"].subset(train), "test": splits["train"].subset(test)}
    mean, std = STATISTICS.get(builder.name, (IMAGENET_MEAN, IMAGENET_STD))
    classes = _class_names(builder.info.features[keys.label], splits)
    return Source(
        name=name,
        class_names=classes,
        image_size=size,
        splits=splits,
        mean=mean,
        std=std,
        short_side=image_decoding.short_side(size),
    )


def _keys(info: Any) -> Keys:
    from tensorflow_datasets import features as kinds

    features = dict(info.features.items()) if hasattr(info.features, "items") else {}
    images = [k for k, f in features.items() if isinstance(f, kinds.Image) and not isinstance(f, kinds.LabeledImage)]
    labels = [k for k, f in features.items() if isinstance(f, kinds.ClassLabel)]
    labels += [k for k, f in features.items() if type(f) in (kinds.Scalar, kinds.Tensor) and _whole_number(f)]
    pair = info.supervised_keys or ()
    if not (len(pair) == 2 and pair[0] in images and pair[1] in labels):
        pair = (*images, *(["label"] if "label" in labels else labels))
    if len(pair) != 2:
        raise UserError(
            f"--dataset={info.name} is no image classification dataset: expected one image and one class in each "
            f"example, got {', '.join(f'{k} ({type(f).__name__})' for k, f in features.items()) or 'no named features'}"
        )
    if features[pair[0]].np_dtype != np.uint8:
        raise UserError(f"--dataset={info.name} must have images of uint8, got {features[pair[0]].np_dtype.__name__}")
    names = [key for key in ("id", "file_name") if isinstance(features.get(key), kinds.Text)]
    return Keys(*pair, names[0] if names else "")


def _whole_number(feature: Any) -> bool:
    return feature.shape == () and np.issubdtype(feature.np_dtype, np.integer)


def _class_names(feature: Any, splits: dict[str, Split]) -> tuple[str, ...]:
    names = getattr(feature, "names", None)
    if names:
        return tuple(names)
    count = getattr(feature, "num_classes", None) or 1 + max(int(split.labels.max()) for split in splits.values())
    return tuple(map(str, range(count)))


def _image_size(builder: Any, keys: Keys, data: Data, name: str) -> int:
    height, width, _ = builder.info.features[keys.image].shape
    size = data.image_size or (height if height == width else 0) or KNOWN.get(name, (0, 0))[0]
    if not size:
        what = "differ in size" if None in (height, width) else f"are {width}x{height} pixels, not square"
        raise UserError(f"the images of {name} {what}: give --image_size, e.g. --image_size=224")
    return size


def _parts(builder: Any, name: str) -> dict[str, str]:
    """Return {our split: its TFDS split}; TFDS's validation is our val, or our test if TFDS has no test."""
    has = list(builder.info.splits) or ["train", "test"]  # tfds.testing.mock_data lists none
    if "train" not in has:
        raise UserError(f"--dataset={name} has no split named train; it has {', '.join(has)}")
    if "test" in has:
        return {"train": "train", **({"val": "validation"} if "validation" in has else {}), "test": "test"}
    return {"train": "train", **({"test": "validation"} if "validation" in has else {})}


def _encoded(builder: Any, split: str, keys: Keys, title: str) -> EncodedSplit:
    """Return the encoded images of a TFDS split. `title` names the split in messages."""
    height, width, _ = builder.info.features[keys.image].shape
    size = (width, height) if width and height else None
    known = dict(builder.info.splits).get(split)
    kind = known and builder.info.file_format.value
    if kind not in ("tfrecord", "array_record"):
        return _in_memory(builder, split, keys, title)
    files, count, about = [Path(path) for path in known.filepaths], known.num_examples, (keys, size)
    missing = [path for path in files if not path.is_file()]
    if missing:
        raise UserError(f"{title} lacks {missing[0]}: copy the dataset again, or remove its folder to prepare it anew")
    if kind == "tfrecord":
        rows = records.in_files(files, keys, size)
        table = record_index.cached(title, files, about, lambda: records.table(rows, count, title))
        return EncodedSplit(records.TFRecordImages(files, table.places), table, files)
    whole = builder.as_data_source(split).data_source
    rows = records.in_array(whole, keys, size, title)
    table = record_index.cached(title, files, about, lambda: records.table(rows, count, title))
    return EncodedSplit(records.ArrayRecordImages(whole, keys, title), table, files)


def _in_memory(builder: Any, split: str, keys: Keys, title: str) -> EncodedSplit:
    """Read all encoded images of a split into memory, in the order of the files: for formats without random access."""
    import tensorflow_datasets as tfds

    in_order = tfds.ReadConfig(interleave_cycle_length=1)
    undecoded = {keys.image: tfds.decode.SkipDecoding()}
    rows_of = builder.as_dataset(split=split, shuffle_files=False, read_config=in_order, decoders=undecoded)
    budget, images, count = MemoryBudget(memory_budget.limit()), [], int(rows_of.cardinality())

    def rows() -> Iterator[tuple]:
        for row in rows_of.as_numpy_iterator():
            if not budget.take(len(row[keys.image])):
                raise UserError(
                    f"the files of {title} have no random access, and its {count} images do not "
                    "fit into half of the free memory: prepare it as TFRecord or ArrayRecord, or write the images to "
                    "DIR/{train,test}/CLASS/* and give --dataset=folder:DIR"
                )
            images.append(row[keys.image])
            name = row[keys.id].decode(errors="replace") if keys.id else ""
            with Image.open(io.BytesIO(row[keys.image])) as image:
                yield int(row[keys.label]), name, image_decoding.upright_size(image), (0, 0, 0)

    table = records.table(rows(), count, title)
    return EncodedSplit(ImagesInMemory(title, images), table)


def _without_secret_test(encoded: dict[str, EncodedSplit]) -> dict[str, EncodedSplit]:
    """If all labels of `test` are secret (negative), as ImageNet's, make `val` the test; without `val`, have no test.

    Otherwise the parts are returned unchanged.
    """
    if "test" in encoded and len(labels := encoded["test"].table.labels) and (labels < 0).all():
        return {"train": encoded["train"], **({"test": encoded["val"]} if "val" in encoded else {})}
    return encoded


def _splits(encoded: dict[str, EncodedSplit], size: int, name: str) -> dict[str, Split]:
    """Return the splits. All their squares of `size` pixels are decoded now if they fit in memory, else on demand.

    The limit for all splits together is half of the free memory. It is also at most 1 GiB, except for images that are
    all squares of one size, as in CIFAR.
    """
    sizes = np.concatenate([part.table.sizes for part in encoded.values()])
    needed, alike = len(sizes) * size * size * 3, len(sizes) > 0 and bool((sizes == sizes[0, 0]).all())
    at_once = needed <= (memory_budget.limit() if alike else min(memory_budget.limit(), memory_budget.AT_ONCE))
    budget = MemoryBudget(memory_budget.limit() - (needed if at_once else 0))
    named = _distinct([part.table.ids for part in encoded.values()], len(sizes))
    splits = {}
    for part, own in encoded.items():
        table = own.table
        lazy_images = LazyImages(own.images, table.sizes, size, image_decoding.short_side(size), budget)
        ids = table.ids if named else _numbers(part, len(table.labels))
        split = Split(labels=table.labels, ids=ids, lazy_images=lazy_images)
        splits[part] = split.with_squares(_squares(split, f"{name} {part}", own.files)) if at_once else split
    return splits


def _squares(split: Split, title: str, files: Sequence[Path]) -> np.ndarray:
    """Return all squares of a split, uint8 [N, size, size, 3], from the cache or else decoded from `files`."""
    if not files:
        return _decoded(split, title)
    shape = (split.size, *split.image_shape)
    about = (shape, split.lazy_images.short_side, PIL.__version__)

    def valid(stored: dataset_cache.Arrays) -> bool:
        return "images" in stored and (stored["images"].shape, stored["images"].dtype) == (shape, np.uint8)

    return dataset_cache.cached("decoded", title, files, about, lambda: {"images": _decoded(split, title)}, valid)[
        "images"
    ]


def _decoded(split: Split, title: str) -> np.ndarray:
    images, faults = split.lazy_images.decoded(split.numbers, f"decoding {title}")
    for number, error in faults.items():
        raise UserError(
            f"{title} seems damaged: cannot read {split.lazy_images.name(number)}: {error}; copy the dataset again"
        )
    return images


def _numbers(part: str, count: int) -> list[str]:
    return [f"{part}_{n:06d}" for n in range(count)]


def _distinct(ids: list[np.ndarray], count: int) -> bool:
    return len(np.unique(np.concatenate(ids))) == count
