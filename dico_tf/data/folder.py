"""A folder of one's own pictures."""

import logging
from pathlib import Path

import numpy as np

from dico_tf.config import Data
from dico_tf.data import image_decoding, label_table, memory_budget
from dico_tf.data.folder_layout import Listing, counted, listing, several
from dico_tf.data.lazy_images import ImageFiles, LazyImages
from dico_tf.data.source import Source, Split
from dico_tf.data.validation import stratified
from dico_tf.errors import UserError

DEFAULT_SIZE, LARGEST_OWN_SIZE = 224, 256  # pixels
TEST_SHARE = 0.2


def load(data: Data, seed: int) -> Source:
    """Checks every file; squares of up to 1 GiB are decoded at once, more of them, and windows, when asked for."""
    place = data.dataset.removeprefix("folder").removeprefix(":")
    if not place:
        raise UserError(
            f"--dataset={data.dataset} names no folder: give --dataset=folder:DIR, or folder:DIR/labels.csv"
        )
    root = Path(place).expanduser()
    name = root.resolve().name
    if label_table.named(root):
        found, root = label_table.listing(root), root.parent
        name = f"{root.resolve().name}/{name}"
    else:
        found = listing(root)
    names = tuple(next(iter(found.values())))
    sizes = _check_files(root, found, data.skip_unreadable)
    size = data.image_size or _own_size(set(sizes.values()))
    at_once = len(sizes) * size * size * 3
    room = memory_budget.MemoryBudget(memory_budget.limit() - (at_once if at_once <= memory_budget.AT_ONCE else 0))
    splits = {part: _split(root, classes, size, sizes, room) for part, classes in found.items()}
    splits = with_test(splits, seed)
    if at_once <= memory_budget.AT_ONCE:
        splits = {part: _decoded(split, part, data.skip_unreadable) for part, split in splits.items()}
    return Source(
        name=f"folder:{name}",
        class_names=names,
        image_size=size,
        splits=splits,
        short_side=image_decoding.short_side(size),
    )


def _split(
    root: Path,
    classes: dict[str, list[str]],
    size: int,
    sizes: dict[str, tuple[int, int]],
    room: memory_budget.MemoryBudget,
) -> Split:
    paths = [path for members in classes.values() for path in members]
    ids = np.asarray([Path(path).relative_to(root).as_posix() for path in paths], np.str_)
    found = np.asarray([sizes[path] for path in paths])
    return Split(
        labels=np.repeat(np.arange(len(classes)), [len(members) for members in classes.values()]),
        ids=ids,
        lazy_images=LazyImages(ImageFiles(root, ids), found, size, image_decoding.short_side(size), room),
    )


def with_test(splits: dict[str, Split], seed: int) -> dict[str, Split]:
    """Where there is no test folder, a fifth of every class is drawn by seed."""
    if "test" in splits:
        return splits
    whole = splits.pop("train" if "train" in splits else "")
    kept, drawn = stratified(whole.labels, TEST_SHARE, seed)
    if not len(drawn):
        raise UserError(f"{whole.size} pictures in {whole.size} classes leave none for a test: give two of each class")
    return {"train": whole.subset(kept), **splits, "test": whole.subset(drawn)}


def _check_files(root: Path, found: Listing, skip: bool) -> dict[str, tuple[int, int]]:
    """(width, height) of every readable picture; what cannot be read is named, and with `skip` taken out."""
    paths = [path for classes in found.values() for members in classes.values() for path in members]
    seen = image_decoding.pool().map(lambda path: image_decoding.tried(image_decoding.check, path), paths)
    results = dict(zip(paths, image_decoding.progress(seen, len(paths), "checking pictures"), strict=True))
    faults = {path: error for path, error in results.items() if isinstance(error, Exception)}
    if faults:
        _report(faults, skip)
        empty = []
        for part, classes in found.items():
            for name, members in classes.items():
                classes[name] = [path for path in members if path not in faults]
                empty += [str(root / part / name)] if members and not classes[name] else []
        if empty:
            raise UserError(f"no picture of {counted(len(empty), 'class', 'classes')} can be read\n{several(empty)}")
    return {path: size for path, size in results.items() if path not in faults}


def _report(faults: dict[str, Exception], skip: bool) -> None:
    lines = several([f"{path}: {_reason(path, error)}" for path, error in faults.items()])
    text = f"{counted(len(faults), 'picture', 'pictures')} cannot be read"
    if not skip:
        raise UserError(f"{text}: repair or remove them, or leave them out with --skip_unreadable\n{lines}")
    logging.getLogger(__name__).warning("%s, left out\n%s", text, lines)


def _reason(path: str, error: Exception) -> str:
    if Path(path).stat().st_size == 0:
        return "the file is empty"
    return str(error).replace(f"'{path}'", "it").replace(path, "it")


def _own_size(sizes: set[tuple[int, int]]) -> int:
    """The side of small squares that are all alike, else 224."""
    (width, height), *others = sizes
    return width if not others and width == height <= LARGEST_OWN_SIZE else DEFAULT_SIZE


def _decoded(split: Split, part: str, skip: bool) -> Split:
    images, faults = split.lazy_images.decoded(split.numbers, f"decoding {part} pictures")
    if faults:
        _report({split.lazy_images.name(split.numbers[n]): error for n, error in faults.items()}, skip)
    found = split.with_squares(images)
    return found.subset(np.setdiff1d(np.arange(split.size), list(faults))) if faults else found
