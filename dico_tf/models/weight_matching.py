"""Matching of our layers with those of a PyTorch checkpoint, by order and shape, block by block.

Both sides are lists of layers: convolutions and dense layers ("matrix", a dense one as a 1x1 convolution) and batch
normalisations ("norm"). A state dict lists layers in the order of their definition, not always that of execution.

1. Blocks are in the order of execution. Each takes as many layers of the checkpoint as it has.
2. Layers of a block's shortcut are recognised by name (downsample, shortcut, skip); the others are its path. In each,
   convolutions are matched in order, and so are normalisations. If the shapes contradict this order, layers are matched
   by shape, and no two may have the same shape.
3. A shortcut without such a name is searched for: a contiguous part of the block that fits our shortcut in order, while
   the rest fits our path in order. It is accepted if exactly one part fits.
4. Two parallel paths are told apart by two names within the block.
5. For a block whose shortcut is the identity, the checkpoint may have shortcut layers that are never executed. They are
   skipped if they are named as a shortcut and have the shapes of our first shortcut, only with as many channels, in and
   out, as this block puts out. Nothing else may be left over, and nothing may be missing.
"""

import dataclasses
import itertools
import re
from collections.abc import Sequence

from dico_tf.errors import UserError

SHORTCUT = re.compile(r"down_?sample|short_?cut|skip", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Entry:
    """A layer of either side. Its shape is [out, in / groups, height, width] or [channels]."""

    name: str
    kind: str  # matrix or norm
    shape: tuple[int, ...]
    bias: bool = True  # True if the layer has a bias

    def like(self, other: "Entry") -> bool:
        """Return True if both have the same kind and shape, and both or neither have a bias."""
        return (self.kind, self.shape, self.bias) == (other.kind, other.shape, other.bias)

    def __str__(self) -> str:
        bias = " with bias" if self.bias and self.kind == "matrix" else ""
        return f"{self.name} {'x'.join(map(str, self.shape))}{bias}"


@dataclasses.dataclass(frozen=True)
class Block:
    """Layers of a residual block: parallel paths and a shortcut. Layers between blocks form a block of one path."""

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
    """Pairs of matched layers, and the checkpoint's layers that are not used."""

    pairs: list[tuple[Entry, Entry]]  # ours, theirs
    unused: list[Entry]  # theirs, never run


class _Misfit(Exception):  # noqa: N818 - becomes a UserError once it is known where
    """Reason why a block does not fit."""


def match(blocks: Sequence[Block], theirs: Sequence[Entry]) -> Match:
    """Match every layer of ours with one of the checkpoint.

    Raises UserError if a layer is missing, does not fit or is left over, except for shortcuts that are never run.
    """
    pairs, unused, rest = [], [], list(theirs)
    pattern = next((block.shortcut for block in blocks if block.shortcut), ())
    for block in blocks:
        if len(rest) < len(block):
            last = f"only {_few(rest)}" if rest else "no more layers"
            raise UserError(f"the checkpoint ends before {block.name}: expected {_few(block.layers)}, got {last}")
        own, idle = _share(block, rest, pattern)
        rest = rest[len(own) + len(idle) :]
        try:
            pairs += _fit(block, own)
        except _Misfit as misfit:
            raise UserError(f"{block.name} does not fit the checkpoint: {misfit}") from None
        unused += idle
    if rest:
        raise UserError(f"the checkpoint has layers that the network lacks: {_few(rest)}")
    return Match(pairs, unused)


def _share(block: Block, rest: list[Entry], pattern: Sequence[Entry]) -> tuple[list[Entry], list[Entry]]:
    """Return the next layers of the checkpoint: those of this block, and those within it that are never executed.

    Args:
        rest: all layers of the checkpoint that earlier blocks have not taken.
        pattern: layers of one of our shortcuts; layers that are never executed are recognised by their likeness to it.
    """
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
    """Return True if `idle` is like the shortcut `pattern`, with as many channels in and out as `last` puts out."""
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
    """Return the pairs of one block; raise _Misfit if it does not fit."""
    start = len(_prefix(theirs))
    named = [entry for entry in theirs if SHORTCUT.search(entry.name[start:])]
    if not block.shortcut:
        return _fit_paths(block, theirs)
    if not named:
        return _fit_unnamed(block, theirs)
    return _fit_paths(block, [entry for entry in theirs if entry not in named]) + _in_order(block.shortcut, named)


def _fit_unnamed(block: Block, theirs: list[Entry]) -> list[tuple[Entry, Entry]]:
    """Return the pairs of a block whose shortcut has no telling name, by rule 3; raise _Misfit if it does not fit."""
    size, fits = len(block.shortcut), []
    for start in range(len(theirs) - size + 1):
        shortcut, path = theirs[start : start + size], theirs[:start] + theirs[start + size :]
        if _alike(block.shortcut, shortcut) and _alike([*itertools.chain(*block.paths)], path):
            fits.append((path, shortcut))
    if len(fits) != 1:
        reason = f"its shortcut fits in {len(fits)} places"
        raise _Misfit(
            f"{reason} among {_few(theirs)}; expected {_few(block.layers)}; "
            "name its layers downsample, shortcut or skip"
        )
    path, shortcut = fits[0]
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
            f"expected {len(block.paths)} parallel paths under as many names, got {len(groups)} in {_few(theirs)}"
        )
    return [pair for path, group in zip(block.paths, groups.values(), strict=True) for pair in _in_order(path, group)]


def _in_order(ours: Sequence[Entry], theirs: Sequence[Entry]) -> list[tuple[Entry, Entry]]:
    """Return the pairs of a path by rule 2: in order or, if shapes contradict it, by shape; else raise _Misfit."""
    pairs = []
    for kind in ("matrix", "norm"):
        one, other = ([entry for entry in side if entry.kind == kind] for side in (ours, theirs))
        if not _alike(one, other):
            other = _by_shape(one, other)
        pairs += zip(one, other, strict=True)
    return pairs


def _by_shape(ours: list[Entry], theirs: list[Entry]) -> list[Entry]:
    candidates = [[their for their in theirs if our.like(their)] for our in ours]
    if len(ours) == len(theirs) and all(len(equal) == 1 for equal in candidates):
        return [equal[0] for equal in candidates]
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if not a.like(b)), len(ours))
    raise _Misfit(f"expected {_few(ours[at:]) or 'nothing more'}; got {_few(theirs[at:]) or 'nothing more'}")


def _alike(ours: Sequence[Entry], theirs: Sequence[Entry]) -> bool:
    return len(ours) == len(theirs) and all(map(Entry.like, ours, theirs))


def _prefix(entries: Sequence[Entry]) -> str:
    """Return what all names begin with, such as "layer1.0."; it ends at a dot, and before a shortcut's name."""
    parts = zip(*(entry.name.split(".")[:-1] for entry in entries), strict=False)
    shared = itertools.takewhile(lambda part: len(set(part)) == 1 and not SHORTCUT.search(part[0]), parts)
    return "".join(f"{part[0]}." for part in shared)


def _few(entries: Sequence[Entry]) -> str:
    """Return the first four layers as text, and the number of the others."""
    more = f" and {len(entries) - 4} more" if len(entries) > 4 else ""
    return ", ".join(map(str, entries[:4])) + more


_NAME = re.compile(r"([a-z]+\d+_[a-z]+\d+)_(?:(shortcut|[ab])_)?\w+")  # stage1_block2_shortcut_conv


def blocks(ours: Sequence[Entry]) -> list[Block]:
    """Group our layers into blocks, and those of a block into paths and a shortcut, by their names.

    Blocks are in the order of the graph.
    """
    result = []
    for name, members in itertools.groupby(ours, lambda entry: _place(entry)[0]):
        paths_by_name: dict[str, list[Entry]] = {}
        for entry in members:
            paths_by_name.setdefault(_place(entry)[1], []).append(entry)
        shortcut = tuple(paths_by_name.pop("shortcut", ()))
        paths = tuple(tuple(paths_by_name[path]) for path in sorted(paths_by_name))
        result.append(Block(name or paths[0][0].name, paths, shortcut))
    return result


def _place(entry: Entry) -> tuple[str, str]:
    """Return (block, path), both empty outside of blocks."""
    parts = _NAME.fullmatch(entry.name)
    return (parts[1], parts[2] or "") if parts else ("", "")
