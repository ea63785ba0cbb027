"""DIR/{train,val,test}/CLASS/* or DIR/CLASS/*: what is where, and what is wrong with it.

A class holds pictures, or films, which are folders of their frames.
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
_NAMED = 10  # faults named in a message; the rest is counted
Listing = dict[str, dict[str, list[str]]]  # part -> class -> paths; the only part of DIR/CLASS is ""


def listing(root: Path, films: bool = False) -> Listing:
    """Every picture file, or every film's folder; parts and classes and these sorted by name."""
    if not root.is_dir():
        raise UserError(f"--dataset=folder:{root}: there is no such folder")
    names = folders(root)
    if set(names) & set(PARTS):
        check_parts(root, names)
        found = {part: _classes(root / part, films) for part in PARTS if part in names}
    else:
        found = {"": _classes(root, films)}
    _check(root, found, "films (folders of frames)" if films else f"pictures ({' '.join(EXTENSIONS)})")
    return found


def frames(film: str | Path) -> list[str]:
    """A film's pictures, sorted by name, numbers in it by their value: 9.jpg before 10.jpg."""
    return sorted(pictures_in(Path(film)), key=_in_turn)


def _in_turn(path: str) -> tuple:
    parts = re.split(r"(\d+)", Path(path).name)  # words and numbers in turn
    return (tuple((int(part), "") if n % 2 else (-1, part) for n, part in enumerate(parts)), path)


def counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def several(faults: Sequence[str]) -> str:
    """The first ten, one a line, and how many more."""
    more = [f"and {len(faults) - _NAMED} more"] if len(faults) > _NAMED else []
    return "\n".join(f"  {line}" for line in (*faults[:_NAMED], *more))


def _names(folder: Path, kind: Callable[[os.DirEntry], bool]) -> list[str]:
    """Sorted, of what is of the kind and not hidden."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith(".") and kind(entry))
    except OSError as error:  # a folder of somebody else, links that lead round in a circle
        raise UserError(f"cannot look into {error.filename or folder}: {error.strerror}") from None


def folders(folder: Path) -> list[str]:
    return _names(folder, os.DirEntry.is_dir)


def pictures_in(folder: Path) -> list[str]:
    names = _names(folder, os.DirEntry.is_file)
    return [str(folder / name) for name in names if name.lower().endswith(EXTENSIONS)]


def _classes(folder: Path, films: bool) -> dict[str, list[str]]:
    return {name: _films(folder / name) if films else pictures_in(folder / name) for name in folders(folder)}


def _films(folder: Path) -> list[str]:
    return [str(folder / name) for name in folders(folder)]


def check_parts(root: Path, names: list[str], content: str = "CLASS/*") -> None:
    if "train" not in names:
        raise UserError(f"{root} holds {', '.join(n for n in names if n in PARTS)} but no train: add train/{content}")
    for name in names:
        meant = _MEANT.get(name.lower(), name)
        if meant in PARTS and meant not in names:
            raise UserError(f"{root} holds {name}, which is none of {', '.join(PARTS)}: call it {meant}")


def _check(root: Path, found: Listing, members: str) -> None:
    for part, classes in found.items():
        folder = root / part
        if not classes:
            loose = len(pictures_in(folder))
            holds = f"{counted(loose, 'picture', 'pictures')} but no folder per class" if loose else "no pictures"
            raise UserError(f"{folder} holds {holds}: lay them out as {folder}/CLASS/*.jpg")
    _check_same_classes(root, found)
    first, classes = next(iter(found.items()))
    if len(classes) < 2:
        raise UserError(f"{root / first} holds one class only, {next(iter(classes))}: at least two are needed")
    empty = [f"{root / part / name}" for part in found for name, paths in found[part].items() if not paths]
    if empty:
        films = " (folders within them would be films: --task=video)" if any(map(_films, map(Path, empty))) else ""
        raise UserError(
            f"{counted(len(empty), 'class', 'classes')} of {root} without {members} "
            f"of their own: fill or remove their folders{films}\n{several(empty)}"
        )


def _check_same_classes(root: Path, found: Listing) -> None:
    known = set(found.get("train", next(iter(found.values()))))
    faults = []
    for part, classes in found.items():
        faults += [f"{part} lacks {name}" for name in sorted(known - set(classes))]
        faults += [f"{part} has {name}, which train has not" for name in sorted(set(classes) - known)]
    if faults:
        raise UserError(f"the classes of {root} differ between its parts\n{several(faults)}")
