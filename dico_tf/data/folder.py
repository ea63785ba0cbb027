"""A folder of image files: `--dataset=folder:DIR` or `folder:DIR/labels.csv`."""

import itertools
import logging
from collections.abc import Collection
from pathlib import Path

import numpy as np

from dico_tf.config import Data
from dico_tf.data import folder_layout, image_decoding, label_table, memory_budget
from dico_tf.data.duplicates import duplicates
from dico_tf.data.folder_layout import Listing, counted, several
from dico_tf.data.lazy_images import ImageFiles, LazyImages
from dico_tf.data.memory_budget import MemoryBudget
from dico_tf.data.source import Source, Split
from dico_tf.data.splits import stratified
from dico_tf.errors import UserError

DEFAULT_SIZE, LARGEST_OWN_SIZE = 224, 256  # pixels
TEST_SHARE = 0.2


def load(data: Data, seed: int) -> Source:
    """Check every file and return the dataset; `seed` draws the test split of a folder that has none.

    If the squares of all images take at most 1 GiB together, they are decoded now, else on demand. Windows for training
    are always decoded on demand.
    """
    place = data.dataset.removeprefix("folder").removeprefix(":")
    if not place:
        raise UserError(
            f"--dataset={data.dataset} names no folder: give --dataset=folder:DIR, or folder:DIR/labels.csv"
        )
    root = Path(place).expanduser()
    name = root.resolve().name
    if label_table.is_table(root):
        listing, root = label_table.listing(root), root.parent
        name = f"{root.resolve().name}/{name}"
    else:
        listing = folder_layout.listing(root)
    names = tuple(next(iter(listing.values())))
    sizes = _check_files(root, listing, data.skip_unreadable)
    if data.skip_duplicates:
        _skip_duplicates(root, listing)
    size = data.image_size or _own_size(set(sizes.values()))
    at_once = len(sizes) * size * size * 3
    budget = MemoryBudget(memory_budget.limit() - (at_once if at_once <= memory_budget.AT_ONCE else 0))
    splits = {part: _split(root, classes, size, sizes, budget) for part, classes in listing.items()}
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
    budget: MemoryBudget,
) -> Split:
    paths = [path for members in classes.values() for path in members]
    ids = np.asarray([Path(path).relative_to(root).as_posix() for path in paths], np.str_)
    return Split(
        labels=np.repeat(np.arange(len(classes)), [len(members) for members in classes.values()]),
        ids=ids,
        lazy_images=LazyImages(
            ImageFiles(root, ids),
            np.asarray([sizes[path] for path in paths]),
            size,
            image_decoding.short_side(size),
            budget,
        ),
    )


def with_test(splits: dict[str, Split], seed: int) -> dict[str, Split]:
    """Move a random fifth of every class from train to a new split `test`, unless there is one.

    Without parts, in DIR/CLASS/*, all images are first train. Nothing changes if val is the only split.

    Raises:
        UserError: if no class has two images or videos.
    """
    if "test" in splits or set(splits) == {"val"}:
        return splits
    whole = splits.pop("train" if "train" in splits else "")
    train, test = stratified(whole.labels, TEST_SHARE, seed)
    if not len(test):
        members = "videos" if whole.videos else "images"
        raise UserError(
            f"no class has two {members}, so that none can be taken for the test: give at least two per class, or "
            f"test {members} of their own"
        )
    return {"train": whole.subset(train), **splits, "test": whole.subset(test)}


def _check_files(root: Path, listing: Listing, skip: bool) -> dict[str, tuple[int, int]]:
    """Return {path: (width, height)} of the readable images; with `skip`, remove the others from the listing.

    Raises:
        UserError: if images cannot be read and `skip` is off, or if no image of a class can be read.
    """
    paths = [path for classes in listing.values() for members in classes.values() for path in members]
    results = image_decoding.check_all(paths)
    faults = {path: error for path, error in results.items() if isinstance(error, Exception)}
    if faults:
        _report(faults, skip)
        empty = _leave_out(listing, faults)
        if empty:
            raise UserError(
                f"no image of {counted(len(empty), 'class', 'classes')} of {root} can be read: repair or replace the "
                f"images\n{several(empty)}"
            )
    return {path: size for path, size in results.items() if path not in faults}


def _skip_duplicates(root: Path, listing: Listing) -> None:
    """Remove all but one of equal files from the listing. Raises UserError if a class of a part becomes empty."""
    copies = duplicates({part: [*itertools.chain(*classes.values())] for part, classes in listing.items()})
    if not copies:
        return
    empty = _leave_out(listing, copies)
    lines = [f"{path} equals {original}" for path, original in copies.items()]
    if empty:
        raise UserError(
            f"all images of {counted(len(empty), 'class', 'classes')} of {root} equal others, so none would be left: "
            f"replace them, or leave out --skip_duplicates\n{several(empty)}\n{several(lines)}"
        )
    logging.getLogger(__name__).warning(
        "%s left out, equal to others\n%s", counted(len(copies), "image", "images"), several(lines)
    )


def _leave_out(listing: Listing, paths: Collection[str]) -> list[str]:
    """Remove paths from the listing; return the PART/CLASS that had images and now have none."""
    empty = []
    for part, classes in listing.items():
        for name, members in classes.items():
            classes[name] = [path for path in members if path not in paths]
            empty += [(Path(part) / name).as_posix()] if members and not classes[name] else []
    return empty


def _report(faults: dict[str, Exception], skip: bool) -> None:
    lines = several([f"{path}: {_reason(path, error)}" for path, error in faults.items()])
    text = f"{counted(len(faults), 'image', 'images')} cannot be read"
    if not skip:
        raise UserError(f"{text}: repair or remove them, or leave them out with --skip_unreadable\n{lines}")
    logging.getLogger(__name__).warning("%s, left out\n%s", text, lines)


def _reason(path: str, error: Exception) -> str:
    if Path(path).stat().st_size == 0:
        return "the file is empty"
    return str(error).replace(f"'{path}'", "it").replace(path, "it")


def _own_size(sizes: set[tuple[int, int]]) -> int:
    """Return the common side if all images are squares of one size of up to 256 pixels, else 224."""
    (width, height), *others = sizes
    return width if not others and width == height <= LARGEST_OWN_SIZE else DEFAULT_SIZE


def _decoded(split: Split, part: str, skip: bool) -> Split:
    images, faults = split.lazy_images.decoded(split.numbers, f"decoding {part} images")
    if faults:
        _report({split.lazy_images.name(split.numbers[n]): error for n, error in faults.items()}, skip)
    decoded = split.with_squares(images)
    return decoded.subset(np.setdiff1d(np.arange(split.size), list(faults))) if faults else decoded
