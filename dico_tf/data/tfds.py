"""Any image classification set of TensorFlow Datasets, decoded once into memory."""

import dataclasses
import itertools
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from dico_tf.config import Data
from dico_tf.data import pictures, prepared
from dico_tf.data.shapes import KNOWN
from dico_tf.data.source import IMAGENET_MEAN, IMAGENET_STD, Source, Split
from dico_tf.data.validation import stratified
from dico_tf.errors import UserError

STATISTICS = {  # mean and std of RGB in 0..1, those of the published recipes
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}
SPLIT_SEED = 0  # of a test split drawn where there is none; not the run's, a public set has one test split
_BLOCK = 512  # images decoded at a time


@dataclasses.dataclass(frozen=True)
class Keys:
    """Which features are the picture, its class, and (or "") its name."""

    image: str
    label: str
    id: str


def load(data: Data, seed: int) -> Source:
    """train; test or validation or a fixed fifth of train; val where both others are there."""
    builder = prepared.builder(data)
    name = builder.info.full_name.rsplit("/", 1)[0]  # without its version
    keys = _keys(builder.info)
    size = _image_size(builder, keys, data, name)
    prepared.prepare(builder, data.data_dir)
    sets = {part: _examples(builder, split, keys) for part, split in _parts(builder, name).items()}
    _check_memory(sets, size, name)
    splits = {part: _in_memory(found, size, name, part) for part, found in sets.items()}
    if not _distinct([split.ids for split in splits.values()]):
        splits = {part: dataclasses.replace(split, ids=_numbers(part, split.size)) for part, split in splits.items()}
    if "test" not in splits:
        kept, drawn = stratified(splits["train"].labels, 0.2, SPLIT_SEED)
        splits = {"train": splits["train"].subset(kept), "test": splits["train"].subset(drawn)}
    mean, std = STATISTICS.get(builder.name, (IMAGENET_MEAN, IMAGENET_STD))
    classes = _class_names(builder.info.features[keys.label], splits)
    return Source(
        name=name,
        class_names=classes,
        image_size=size,
        splits=splits,
        mean=mean,
        std=std,
        short_side=pictures.short_side(size),
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
            f"--dataset={info.name} is no image classification set: one picture and one class are needed, "
            f"its examples hold {', '.join(f'{k} ({type(f).__name__})' for k, f in features.items()) or 'neither'}"
        )
    if features[pair[0]].np_dtype != np.uint8:
        raise UserError(f"--dataset={info.name} has pictures of {features[pair[0]].np_dtype.__name__}, not of uint8")
    return Keys(*pair, "id" if isinstance(features.get("id"), kinds.Text) else "")


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
        raise UserError(f"the pictures of {name} {what}: give --image_size, e.g. --image_size=224")
    return size


def _parts(builder: Any, name: str) -> dict[str, str]:
    """Ours -> TFDS's name of a split; tfds.testing.mock_data serves any and knows none."""
    has = list(builder.info.splits) or ["train", "test"]
    if "train" not in has:
        raise UserError(f"--dataset={name} has no split named train; it has {', '.join(has)}")
    if "test" in has:
        return {"train": "train", **({"val": "validation"} if "validation" in has else {}), "test": "test"}
    return {"train": "train", **({"test": "validation"} if "validation" in has else {})}


def _examples(builder: Any, split: str, keys: Keys) -> Any:
    """A tf.data set of {image, label(, id)} in the order of the files."""
    import tensorflow_datasets as tfds

    wanted = {"image": keys.image, "label": keys.label, **({"id": keys.id} if keys.id else {})}
    in_turn = tfds.ReadConfig(interleave_cycle_length=1)
    found = builder.as_dataset(split=split, shuffle_files=False, read_config=in_turn)
    chosen = found.map(lambda example: {ours: example[theirs] for ours, theirs in wanted.items()}, num_parallel_calls=2)
    return chosen.apply(_with_known_size(int(found.cardinality())))


def _with_known_size(count: int):
    import tensorflow as tf

    return tf.data.experimental.assert_cardinality(count)


def _check_memory(sets: dict[str, Any], size: int, name: str) -> None:
    count = sum(int(found.cardinality()) for found in sets.values())
    needed, budget = count * size * size * 3, memory_budget()
    if needed > budget:
        raise UserError(
            f"{name} has {count} pictures, {needed / 2**30:.1f} GiB at {size}x{size}, and this machine can hold "
            f"{budget / 2**30:.1f} GiB: give a smaller --image_size, or write them to files as "
            "DIR/{train,test}/CLASS/* and give --dataset=folder:DIR, whose pictures are decoded when needed"
        )


def memory_budget() -> int:
    """Half of the machine's memory, in bytes: carving a validation split copies the rest."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return 8 * 2**30


def _in_memory(found: Any, size: int, name: str, part: str) -> Split:
    import tensorflow as tf

    count = int(found.cardinality())
    images = np.empty((count, size, size, 3), np.uint8)
    columns: dict[str, list] = {"label": [], "id": []}
    rows = pictures.progress(_blocks(found, size), None, f"decoding {name} {part}")
    start = 0
    try:
        for block in rows:
            block_images = block.pop("image")
            images[start : start + len(block_images)] = block_images
            start += len(block_images)
            for key, values in block.items():
                columns[key].extend(values)
    except tf.errors.OpError as error:
        raise UserError(f"cannot read {name} {part}, its files seem damaged: {error.message.splitlines()[0]}") from None
    ids = [text.decode(errors="replace") for text in columns["id"]] or _numbers(part, count)
    return Split(images=images, labels=np.asarray(columns["label"], np.int64), ids=ids)


def _blocks(found: Any, size: int) -> Iterator[dict[str, Any]]:
    """Examples in blocks, their images uint8 [b, size, size, 3]."""
    height, width, channels = found.element_spec["image"].shape
    if height == width == size and channels in (1, 3):
        for block in found.batch(_BLOCK).prefetch(2).as_numpy_iterator():
            yield {**block, "image": np.broadcast_to(block["image"], (*block["image"].shape[:3], 3))}
        return
    rest = found.prefetch(_BLOCK).as_numpy_iterator()
    while examples := list(itertools.islice(rest, _BLOCK)):
        block = {key: [example[key] for example in examples] for key in examples[0]}
        images = pictures.pool().map(lambda image: pictures.from_array(image, size), block["image"])
        yield {**block, "image": np.stack(list(images))}


def _numbers(part: str, count: int) -> list[str]:
    return [f"{part}_{n:06d}" for n in range(count)]


def _distinct(ids: list[np.ndarray]) -> bool:
    return len(np.unique(np.concatenate(ids))) == sum(map(len, ids))
