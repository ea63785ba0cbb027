"""Folders of images, DIR/{train,val,test}/CLASS/* or DIR/CLASS/*: listing them, and checking their layout.

A class holds images, or videos, which are folders of their frames.
"""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from dico_tf.data.image_decoding import EXTENSIONS
from dico_tf.errors import UserError

PARTS = ("train", "val", "test")
_MEANT = {
    "train": "train",
    "val": "val",
    "test": "test",
    "training": "train",
    "validation": "val",
    "valid": "val",
    "dev": "val",
    "testing": "test",
}
_NAMED = 10  # faults that a message lists; the others are counted
Listing = dict[str, dict[str, list[str]]]  # part -> class -> paths; the only part of DIR/CLASS is ""


def listing(root: Path, videos: bool = False) -> Listing:
    """Return {part: {class: [paths]}}: of image files, or with `videos` of folders that each hold a video's frames.

    Parts come in the order train, val, test; the only part of DIR/CLASS/* is "". Classes and paths are sorted by name.

    Raises:
        UserError: if the folder is missing or laid out otherwise, if a class is empty, or if there is only one class.
    """
    if not root.is_dir():
        raise UserError(f"--dataset=folder:{root}: there is no such folder")
    names = folders(root)
    if set(names) & set(PARTS):
        check_parts(root, names, "CLASS/VIDEO/*" if videos else "CLASS/*")
        listing = {part: _classes(root / part, videos) for part in PARTS if part in names}
    else:
        listing = {"": _classes(root, videos)}
    _check(root, listing, videos)
    return listing


def frames(video: str | Path) -> list[str]:
    """Return a video's image files, sorted by name; numbers in names count by value, 9.jpg before 10.jpg."""
    return sorted(images_in(Path(video)), key=_natural_order)


def _natural_order(path: str) -> tuple:
    parts = re.split(r"(\d+)", Path(path).name)  # text and numbers alternate
    return (tuple((int(part), "") if n % 2 else (-1, part) for n, part in enumerate(parts)), path)


def counted(number: int, one: str, many: str) -> str:
    """Return the number with its noun, e.g. "1 image" or "3 images"."""
    return f"{number} {one if number == 1 else many}"


def several(faults: Sequence[str]) -> str:
    """Return the first ten faults as indented lines, and the number of the others, if any, on a last line."""
    more = [f"and {len(faults) - _NAMED} more"] if len(faults) > _NAMED else []
    return "\n".join(f"  {line}" for line in (*faults[:_NAMED], *more))


def _names(folder: Path, kind: Callable[[os.DirEntry], bool]) -> list[str]:
    """Return the sorted names of the entries for which `kind` is true, without hidden ones (.NAME)."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith(".") and kind(entry))
    except OSError as error:  # no permission, or links that form a circle
        raise UserError(f"cannot read the folder {error.filename or folder}: {error.strerror}") from None


def folders(folder: Path) -> list[str]:
    """Return the sorted names of the folders in a folder, without hidden ones."""
    return _names(folder, os.DirEntry.is_dir)


def images_in(folder: Path) -> list[str]:
    """Return the paths of the image files in a folder, sorted by name, without hidden ones."""
    names = _names(folder, os.DirEntry.is_file)
    return [str(folder / name) for name in names if name.lower().endswith(EXTENSIONS)]


def _classes(folder: Path, videos: bool) -> dict[str, list[str]]:
    return {name: _videos(folder / name) if videos else images_in(folder / name) for name in folders(folder)}


def _videos(folder: Path) -> list[str]:
    return [str(folder / name) for name in folders(folder)]


def check_parts(root: Path, names: list[str], content: str) -> None:
    """Raise UserError if `names`, the folders in `root`, lack train, or one seems to be a misnamed train, val or test.

    Args:
        content: layout below train, for the message, such as "CLASS/*".
    """
    if "train" not in names:
        raise UserError(f"{root} has {', '.join(n for n in names if n in PARTS)} but no train: add train/{content}")
    for name in names:
        meant = _MEANT.get(name.lower(), name)
        if meant in PARTS and meant not in names:
            raise UserError(f"{root} has a folder {name}; it must be one of {', '.join(PARTS)}: rename it to {meant}")


def _check(root: Path, listing: Listing, videos: bool) -> None:
    for part, classes in listing.items():
        folder = root / part
        if not classes:
            loose = len(images_in(folder))
            holds = f"{counted(loose, 'image', 'images')} but no folder per class" if loose else "no folder per class"
            place = f"videos in {folder}/CLASS/VIDEO/*.jpg" if videos else f"images in {folder}/CLASS/*.jpg"
            raise UserError(f"{folder} has {holds}: put {place}")
    _check_same_classes(root, listing)
    first, classes = next(iter(listing.items()))
    if len(classes) < 2:
        raise UserError(f"{root / first} has one class only, {next(iter(classes))}: at least two are needed")
    empty = [f"{root / part / name}" for part in listing for name, paths in listing[part].items() if not paths]
    if empty:
        members = "videos (folders of frames)" if videos else f"images ({' '.join(EXTENSIONS)})"
        nested = not videos and any(map(_videos, map(Path, empty)))
        raise UserError(
            f"{counted(len(empty), 'class', 'classes')} of {root} without {members}: fill or remove their folders"
            f"{'; if the folders in them are videos, give --task=video' if nested else ''}\n{several(empty)}"
        )


def _check_same_classes(root: Path, listing: Listing) -> None:
    known = set(listing.get("train", next(iter(listing.values()))))
    faults = []
    for part, classes in listing.items():
        faults += [f"{part} lacks {name}" for name in sorted(known - set(classes))]
        faults += [f"{part} has {name}, which train does not have" for name in sorted(set(classes) - known)]
    if faults:
        raise UserError(
            f"the classes of {root} differ between its parts: every part needs the same folders\n{several(faults)}"
        )
