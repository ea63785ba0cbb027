"""Videos as folders of frames (.jpg, .png ...): `--dataset=folder:DIR` with DIR/{train,val,test}/CLASS/VIDEO/*."""

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
from dico_tf.data.memory_budget import MemoryBudget
from dico_tf.data.source import Source, Split
from dico_tf.errors import UserError

MEAN, STD = (0.45,) * 3, (0.225,) * 3  # those of X3D's recipe


def load(data: Data, seed: int) -> Source:
    """Check the first frame of every video and return the dataset; frames are decoded on demand.

    The other frames of a video are assumed to have the size of the first. Without test videos, the test split is a
    fifth of the training videos of each class, drawn by `seed`.

    Raises:
        UserError: if the folder is missing or laid out otherwise, or if videos cannot be read. With
            `data.skip_unreadable` those are left out, unless they are all videos of a class.
    """
    place = data.dataset.removeprefix("folder").removeprefix(":")
    if not place:
        raise UserError(f"--dataset={data.dataset} names no folder: give --dataset=folder:DIR")
    root = Path(place).expanduser()
    listing = folder_layout.listing(root, videos=True)
    facts = _check_videos(root, listing, data.skip_unreadable)
    budget = MemoryBudget(memory_budget.limit())
    splits = {part: _split(root, part, classes, facts, data, budget) for part, classes in listing.items()}
    return Source(
        name=f"folder:{root.resolve().name}",
        class_names=tuple(next(iter(listing.values()))),
        image_size=data.image_size,
        splits=with_test(splits, seed),
        mean=MEAN,
        std=STD,
        short_side=clips.short_side(data.image_size),
    )


class FrameFiles:
    """The frames of several videos, numbered from 0 through all videos. A video's folder is listed on demand."""

    def __init__(self, videos: Sequence[str], lengths: Sequence[int]) -> None:
        self._videos, self._firsts = videos, np.concatenate([[0], np.cumsum(lengths)]).tolist()
        self._frames = functools.lru_cache(1024)(folder_layout.frames)

    def open(self, number: int) -> str:
        _, place, frames = self._frame(number)
        if place >= len(frames):
            raise FileNotFoundError(f"the video has {len(frames)} frames now, but had more when the run began")
        return frames[place]

    def name(self, number: int) -> str:
        video, place, frames = self._frame(number)
        return frames[place] if place < len(frames) else f"frame {place} of {video}"

    def _frame(self, number: int) -> tuple[str, int, list[str]]:
        """Return the folder of a frame's video, the frame's place in it, and the paths of all frames of the video."""
        video = bisect.bisect_right(self._firsts, number) - 1
        return self._videos[video], number - self._firsts[video], self._frames(self._videos[video])


def opened(
    videos: Sequence[str], facts: dict[str, tuple], size: int, budget: MemoryBudget
) -> tuple[LazyImages, list[int]]:
    """Return the frames of all videos, one video after another, as lazy images; and each video's number of frames.

    Args:
        videos: the folders of the videos.
        facts: {video: (number of frames, (width, height))}, as `look` returns them.
        size: side of the squares in pixels.
        budget: for the cache of decoded frames.
    """
    lengths = [facts[video][0] for video in videos]
    sizes = np.repeat(np.asarray([facts[video][1] for video in videos]).reshape(-1, 2), lengths, axis=0)
    return LazyImages(FrameFiles(videos, lengths), sizes, size, clips.short_side(size), budget), lengths


def look(video: str) -> tuple[int, tuple[int, int]]:
    """Return (number of frames, (width, height) of the first frame) of a video, given its folder.

    Raises:
        ValueError: if there is no frame. A damaged first frame raises whatever Pillow raises.
    """
    frames = folder_layout.frames(video)
    if not frames:
        raise ValueError(f"no frames, files named *{' *'.join(image_decoding.EXTENSIONS)}")
    return len(frames), image_decoding.check(frames[0])


def _split(
    root: Path, part: str, classes: dict[str, list[str]], facts: dict, data: Data, budget: MemoryBudget
) -> Split:
    videos = [video for members in classes.values() for video in members]
    lazy_images, lengths = opened(videos, facts, data.image_size, budget)
    return Split(
        labels=np.repeat(np.arange(len(classes)), [len(members) for members in classes.values()]),
        ids=np.asarray([Path(video).relative_to(root).as_posix() for video in videos], np.str_),
        lazy_images=clips.videos(lazy_images, lengths, data.frames, data.frame_rate, str(root / part)),
    )


def _check_videos(root: Path, listing: Listing, skip: bool) -> dict[str, tuple[int, tuple[int, int]]]:
    """Return {video: (number of frames, (width, height) of the first frame)} of the videos that can be read.

    With `skip`, the others are removed from the listing, and a warning names them.

    Raises:
        UserError: if videos cannot be read and `skip` is off, or if no video of a class can be read.
    """
    videos = [video for classes in listing.values() for members in classes.values() for video in members]
    checks = image_decoding.pool().map(lambda video: image_decoding.tried(look, video), videos)
    facts = dict(zip(videos, image_decoding.progress(checks, len(videos), "checking videos"), strict=True))
    faults = {video: error for video, error in facts.items() if isinstance(error, Exception)}
    if faults:
        _report(faults, skip)
        for classes in listing.values():
            for name, members in classes.items():
                classes[name] = [video for video in members if video not in faults]
        empty = [str(root / part / name) for part in listing for name, members in listing[part].items() if not members]
        if empty:
            raise UserError(
                f"no video can be read in {counted(len(empty), 'class', 'classes')}: repair or replace the first frame "
                f"of each video, or add frames if it has none\n{several(empty)}"
            )
    return {video: fact for video, fact in facts.items() if video not in faults}


def _report(faults: dict[str, Exception], skip: bool) -> None:
    lines = several([f"{video}: {error}" for video, error in faults.items()])
    text = f"{counted(len(faults), 'video', 'videos')} cannot be read"
    if not skip:
        raise UserError(f"{text}: repair or remove them, or leave them out with --skip_unreadable\n{lines}")
    logging.getLogger(__name__).warning("%s, left out\n%s", text, lines)
