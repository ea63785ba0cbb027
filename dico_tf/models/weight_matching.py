"""Which layer of ours a layer of a PyTorch checkpoint is: by order and shape, block by block.

Both sides are lists of layers: convolutions and dense layers ("matrix", a dense one as a 1x1 convolution) and batch
normalisations ("norm"). A state dict lists them as they were written down, which need not be as they are run.

1. Blocks follow each other as they are run. Each takes as many layers of the checkpoint as it has.
2. A layer of a block's shortcut is known by its name (downsample, shortcut, skip). The rest is the path. In each, the
   first convolution is the first, the first normalisation the first, and so on. Where their shapes contradict this
   order, shapes decide, if no two are alike.
3. A shortcut without such a name stands somewhere in the block in one piece, path and shortcut each strictly as run.
   It is taken where exactly one place fits.
4. Two paths side by side are known by two names within the block.
5. A block that passes its input on unchanged may come with a shortcut that is never run. It is left out if it is named
   as one and has the shape that one here would have. Nothing else may be left over, and nothing may be missing.
"""

import dataclasses
import itertools
import re
from collections.abc import Sequence

from dico_tf.errors import UserError

SHORTCUT = re.compile(r"down_?sample|short_?cut|skip", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Entry:
    """A layer of either side; the shape is [out, in / groups, height, width] or [channels]."""

    name: str
    kind: str  # matrix or norm
    shape: tuple[int, ...]
    bias: bool = True

    def like(self, other: "Entry") -> bool:
        return (self.kind, self.shape, self.bias) == (other.kind, other.shape, other.bias)

    def __str__(self) -> str:
        bias = " with bias" if self.bias and self.kind == "matrix" else ""
        return f"{self.name} {'x'.join(map(str, self.shape))}{bias}"


@dataclasses.dataclass(frozen=True)
class Block:
    """Layers between two points that all signals pass; layers outside of blocks are blocks of one path."""

    name: str
    paths: tuple[tuple[Entry, ...], ...]
    shortcut: tuple[Entry, ...] = ()

    @property
    def layers(self) -> list[Entry]:
        return [*itertools.chain(*self.paths), *self.shortcut]

    def __len__(self) -> int:
        return len(self.layers)


@dataclasses.dataclass(frozen=True)
class Match:
    pairs: list[tuple[Entry, Entry]]  # ours, theirs
    unused: list[Entry]  # theirs, never run


class _Misfit(Exception):  # noqa: N818 - becomes a UserError once it is known where
    """What does not fit."""


def match(blocks: Sequence[Block], theirs: Sequence[Entry]) -> Match:
    """Every layer of ours with its one of theirs; UserError where any is left."""
    pairs, unused, rest = [], [], list(theirs)
    pattern = next((block.shortcut for block in blocks if block.shortcut), ())
    for block in blocks:
        if len(rest) < len(block):
            found = f"; only {_few(rest)} is left" if rest else ""
            raise UserError(f"the checkpoint ends where {block.name} is wanted: {_few(block.layers)}{found}")
        own, idle = _share(block, rest, pattern)
        rest = rest[len(own) + len(idle) :]
        try:
            pairs += _fit(block, own)
        except _Misfit as misfit:
            raise UserError(f"{block.name} does not fit the checkpoint: {misfit}") from None
        unused += idle
    if rest:
        raise UserError(f"the checkpoint goes on where the network ends: {_few(rest)}")
    return Match(pairs, unused)


def _share(block: Block, rest: list[Entry], pattern: Sequence[Entry]) -> tuple[list[Entry], list[Entry]]:
    """The next layers of theirs that are this block's, and those among them that never run."""
    own = rest[: len(block)]
    prefix = _prefix(own)
    named = list(itertools.takewhile(lambda entry: entry.name.startswith(prefix), rest))
    if block.shortcut or not pattern or not prefix or len(named) != len(block) + len(pattern):
        return own, []
    idle = [entry for entry in named if SHORTCUT.search(entry.name[len(prefix) :])]
    if not _identity_like(pattern, idle, block.paths[0][-1]):
        return own, []
    return [entry for entry in named if entry not in idle], idle


def _identity_like(pattern: Sequence[Entry], idle: list[Entry], last: Entry) -> bool:
    """Whether `idle` is the shortcut `pattern` between equal numbers of channels, those of the path's `last`."""
    channels, whole = last.shape[0], next((e.shape[0] for e in pattern if e.kind == "norm"), 0)
    if len(idle) != len(pattern) or not whole:
        return False
    for entry, like in zip(idle, pattern, strict=True):
        width = like.shape[0] * channels // whole
        shape = (width, channels, *like.shape[2:]) if like.kind == "matrix" else (width,)
        if not entry.like(dataclasses.replace(like, shape=shape)):
            return False
    return True


def _fit(block: Block, theirs: list[Entry]) -> list[tuple[Entry, Entry]]:
    start = len(_prefix(theirs))
    named = [entry for entry in theirs if SHORTCUT.search(entry.name[start:])]
    if not block.shortcut:
        return _fit_paths(block, theirs)
    if not named:
        return _fit_unnamed(block, theirs)
    return _fit_paths(block, [entry for entry in theirs if entry not in named]) + _in_order(block.shortcut, named)


def _fit_unnamed(block: Block, theirs: list[Entry]) -> list[tuple[Entry, Entry]]:
    """Rule 3: path and shortcut each in a row, the shortcut in one piece."""
    size, found = len(block.shortcut), []
    for start in range(len(theirs) - size + 1):
        shortcut, path = theirs[start : start + size], theirs[:start] + theirs[start + size :]
        if _alike(block.shortcut, shortcut) and _alike([*itertools.chain(*block.paths)], path):
            found.append((path, shortcut))
    if len(found) != 1:
        what = "its shortcut fits in no place" if not found else f"its shortcut fits in {len(found)} places"
        raise _Misfit(
            f"{what} among {_few(theirs)}; wanted {_few(block.layers)}; name its layers downsample, shortcut or skip"
        )
    path, shortcut = found[0]
    return _fit_paths(block, path) + list(zip(block.shortcut, shortcut, strict=True))


def _fit_paths(block: Block, theirs: list[Entry]) -> list[tuple[Entry, Entry]]:
    if len(block.paths) == 1:
        return _in_order(block.paths[0], theirs)
    start = len(_prefix(theirs))
    groups: dict[str, list[Entry]] = {}
    for entry in theirs:
        groups.setdefault(entry.name[start:].split(".")[0], []).append(entry)
    if len(groups) != len(block.paths):
        raise _Misfit(
            f"its {len(block.paths)} paths cannot be told apart in {_few(theirs)}, "
            f"which stand under {len(groups)} names and not {len(block.paths)}"
        )
    return [pair for path, group in zip(block.paths, groups.values(), strict=True) for pair in _in_order(path, group)]


def _in_order(ours: Sequence[Entry], theirs: Sequence[Entry]) -> list[tuple[Entry, Entry]]:
    """Rule 2: kind by kind in order, or by shape where no two of a kind are alike."""
    pairs = []
    for kind in ("matrix", "norm"):
        one, other = ([entry for entry in side if entry.kind == kind] for side in (ours, theirs))
        if not _alike(one, other):
            other = _by_shape(one, other)
        pairs += zip(one, other, strict=True)
    return pairs


def _by_shape(ours: list[Entry], theirs: list[Entry]) -> list[Entry]:
    found = [[their for their in theirs if our.like(their)] for our in ours]
    if len(ours) == len(theirs) and all(len(fitting) == 1 for fitting in found):
        return [fitting[0] for fitting in found]
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if not a.like(b)), len(ours))
    raise _Misfit(f"wanted {_few(ours[at:]) or 'nothing more'}; found {_few(theirs[at:]) or 'nothing more'}")


def _alike(ours: Sequence[Entry], theirs: Sequence[Entry]) -> bool:
    return len(ours) == len(theirs) and all(map(Entry.like, ours, theirs))


def _prefix(entries: Sequence[Entry]) -> str:
    """What all names begin with, up to a dot and a shortcut's name: layer1.0."""
    parts = zip(*(entry.name.split(".")[:-1] for entry in entries), strict=False)
    shared = itertools.takewhile(lambda part: len(set(part)) == 1 and not SHORTCUT.search(part[0]), parts)
    return "".join(f"{part[0]}." for part in shared)


def _few(entries: Sequence[Entry]) -> str:
    more = f" and {len(entries) - 4} more" if len(entries) > 4 else ""
    return ", ".join(map(str, entries[:4])) + more


_NAME = re.compile(r"([a-z]+\d+_[a-z]+\d+)_(?:(shortcut|[ab])_)?\w+")  # stage1_block2_shortcut_conv


def blocks(ours: Sequence[Entry]) -> list[Block]:
    """Our layers, in the order of the graph, as the blocks and ways that their names tell."""
    found = []
    for name, members in itertools.groupby(ours, lambda entry: _place(entry)[0]):
        ways: dict[str, list[Entry]] = {}
        for entry in members:
            ways.setdefault(_place(entry)[1], []).append(entry)
        shortcut = tuple(ways.pop("shortcut", ()))
        paths = tuple(tuple(ways[way]) for way in sorted(ways))
        found.append(Block(name or paths[0][0].name, paths, shortcut))
    return found


def _place(entry: Entry) -> tuple[str, str]:
    """(block, way), both empty outside of blocks."""
    parts = _NAME.fullmatch(entry.name)
    return (parts[1], parts[2] or "") if parts else ("", "")
