"""A folder of one's own films, each a folder of its frames: DIR/{train,val,test}/CLASS/FILM/*.jpg."""

import bisect
import functools
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dico_tf.config import Data
from dico_tf.data import clips, folder_layout, image_decoding, memory_budget
from dico_tf.data.folder import with_test
from dico_tf.data.folder_layout import Listing, counted, several
from dico_tf.data.lazy_images import LazyImages
from dico_tf.data.source import Source, Split
from dico_tf.errors import UserError

MEAN, STD = (0.45,) * 3, (0.225,) * 3  # of X3D's recipe


def load(data: Data, seed: int) -> Source:
    """Frames are decoded when asked for; of each film the first is looked at, whose size is the others' too."""
    place = data.dataset.removeprefix("folder").removeprefix(":")
    if not place:
        raise UserError(f"--dataset={data.dataset} names no folder: give --dataset=folder:DIR")
    root = Path(place).expanduser()
    found = folder_layout.listing(root, films=True)
    facts = _looked_at(root, found, data.skip_unreadable)
    room = memory_budget.MemoryBudget(memory_budget.limit())
    splits = {part: _split(root, part, classes, facts, data, room) for part, classes in found.items()}
    return Source(
        name=f"folder:{root.resolve().name}",
        class_names=tuple(next(iter(found.values()))),
        image_size=data.image_size,
        splits=with_test(splits, seed),
        mean=MEAN,
        std=STD,
        short_side=clips.short_side(data.image_size),
    )


class FrameFiles:
    """Frames numbered film after film; a film's names are listed when one of its frames is asked for."""

    def __init__(self, films: Sequence[str], lengths: Sequence[int]) -> None:
        self._films, self._firsts = films, np.concatenate([[0], np.cumsum(lengths)]).tolist()
        self._frames = functools.lru_cache(1024)(folder_layout.frames)

    def open(self, number: int) -> str:
        return self.name(number)

    def name(self, number: int) -> str:
        film = bisect.bisect_right(self._firsts, number) - 1
        frames, place = self._frames(self._films[film]), number - self._firsts[film]
        if place >= len(frames):
            raise FileNotFoundError(f"{self._films[film]} had more than {len(frames)} frames when the run began")
        return frames[place]


def opened(
    films: Sequence[str], facts: dict[str, tuple], size: int, room: memory_budget.MemoryBudget
) -> tuple[LazyImages, list[int]]:
    """The films' frames as lazy images, and how many each film has."""
    lengths = [facts[film][0] for film in films]
    sizes = np.repeat(np.asarray([facts[film][1] for film in films]).reshape(-1, 2), lengths, axis=0)
    return LazyImages(FrameFiles(films, lengths), sizes, size, clips.short_side(size), room), lengths


def look(film: str) -> tuple[int, tuple[int, int]]:
    """(frames, (width, height) of the first); raises what Pillow raises, ValueError where there is no frame."""
    found = folder_layout.frames(film)
    if not found:
        raise ValueError(f"no frames ({' '.join(image_decoding.EXTENSIONS)})")
    return len(found), image_decoding.check(found[0])


def _split(
    root: Path, part: str, classes: dict[str, list[str]], facts: dict, data: Data, room: memory_budget.MemoryBudget
) -> Split:
    films = [film for members in classes.values() for film in members]
    lazy_images, lengths = opened(films, facts, data.image_size, room)
    return Split(
        labels=np.repeat(np.arange(len(classes)), [len(members) for members in classes.values()]),
        ids=np.asarray([Path(film).relative_to(root).as_posix() for film in films], np.str_),
        lazy_images=clips.videos(lazy_images, lengths, data.frames, data.frame_rate, str(root / part)),
    )


def _looked_at(root: Path, found: Listing, skip: bool) -> dict[str, tuple[int, tuple[int, int]]]:
    """{film: (frames, size)}; films that cannot be read are named, and with `skip` taken out."""
    films = [film for classes in found.values() for members in classes.values() for film in members]
    seen = image_decoding.pool().map(lambda film: image_decoding.tried(look, film), films)
    facts = dict(zip(films, image_decoding.progress(seen, len(films), "looking at films"), strict=True))
    faults = {film: error for film, error in facts.items() if isinstance(error, Exception)}
    if faults:
        _report(faults, skip)
        for classes in found.values():
            for name, members in classes.items():
                classes[name] = [film for film in members if film not in faults]
        empty = [str(root / part / name) for part in found for name, members in found[part].items() if not members]
        if empty:
            raise UserError(f"no film of {counted(len(empty), 'class', 'classes')} can be read\n{several(empty)}")
    return facts


def _report(faults: dict[str, Exception], skip: bool) -> None:
    lines = several([f"{film}: {error}" for film, error in faults.items()])
    text = f"{counted(len(faults), 'film', 'films')} cannot be read"
    if not skip:
        raise UserError(f"{text}: repair or remove them, or leave them out with --skip_unreadable\n{lines}")
    logging.getLogger(__name__).warning("%s, left out\n%s", text, lines)
