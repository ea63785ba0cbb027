"""Which LiteRT files are made of a member, what each of them loses, and what is done about one that loses too much."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dico_tf.errors import UserError
from dico_tf.evaluation.averaging import combine
from dico_tf.export import litert
from dico_tf.export.material import Material
from dico_tf.files.manifest import LITERT
from dico_tf.training.progress import Bar

_SAME = 1e-6  # points: none of ten million images


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Converted:
    kind: str
    path: Path
    logits: np.ndarray | None = None  # [N, C]; where nothing was compared, None
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conversions:
    """What was asked for."""

    kinds: tuple[str, ...] = ("float32",)
    batch: int = 1  # pictures of a call; 0: any number
    max_accuracy_drop: float = 1.0  # points
    fallback: bool = False

    @property
    def ordered(self) -> list[str]:
        """The safest first."""
        return sorted(self.kinds, key=LITERT.index)

    def refusal(self, what: str, measured: dict[str, Any], expected: np.ndarray, material: Material) -> str:
        """Why the answers are not those of the network, or nothing."""
        if not np.isfinite(measured["largest_difference"]):
            return f"{what} answers some of {len(material.images)} {material.split} images with what is no number"
        before, now = 100 * litert.scores(expected, material.labels)["top1"], 100 * measured["top1"]
        if before - now <= self.max_accuracy_drop + _SAME:
            return ""
        return (
            f"{what} loses {before - now:.2f} points of accuracy, more than --max_accuracy_drop="
            f"{self.max_accuracy_drop:g}: {before:.2f} % became {now:.2f} % on {len(material.images)} "
            f"{material.split} images (the same class in {100 * measured['same_class']:.2f} %, NLL "
            f"{measured['nll']:.4f}, ECE {measured['ece']:.4f}, logits up to "
            f"{measured['largest_difference']:.3g} away)"
        )

    def safer(self, kind: str, refusal: str, say: Callable[[str], None]) -> str:
        """The kind that takes the place of one that was refused; UserError where none may."""
        if self.fallback and kind != LITERT[0]:
            instead = LITERT[LITERT.index(kind) - 1]
            say(f"{refusal}: {instead} takes its place")
            return instead
        raise UserError(
            f"{refusal}; nothing was exported. Leave {kind} out of --quantise, give --fallback to take the next safer "
            "kind instead, or a larger --max_accuracy_drop"
        )


@dataclasses.dataclass(kw_only=True, eq=False)
class Files:
    """A member's LiteRT files: what was asked for, or what takes its place."""

    name: str
    saved_model: Path
    folder: Path
    asked: Conversions
    material: Material
    expected: np.ndarray | None  # the network's logits [N, C]; None where nothing is compared
    say: Callable[[str], None]
    taken: dict[str, Converted] = dataclasses.field(default_factory=dict)  # by the kind that was asked for
    _known: dict[str, Converted] = dataclasses.field(default_factory=dict)

    @property
    def wanted(self) -> litert.Wanted:
        return self._of(self.asked.ordered)

    def choose(self) -> None:
        """Among what was made: each kind that was asked for, or a safer one."""
        self.taken = {kind: self._first_good(kind) for kind in self.asked.ordered}

    def take(self, asked: str, kind: str) -> None:
        """From now on `kind`, or a safer one, stands for the kind `asked`."""
        self.taken[asked] = self._first_good(kind)

    def settle(self) -> list[Converted]:
        """Those in use, the safest first; the others are removed."""
        used = {converted.kind: converted for converted in self.taken.values()}
        for kind in LITERT:
            if kind not in used:
                self._path(kind).unlink(missing_ok=True)
        return [used[kind] for kind in LITERT if kind in used]

    def _path(self, kind: str) -> Path:
        return self.folder / f"{self.name}_{kind}.tflite"

    def _of(self, kinds: Sequence[str]) -> litert.Wanted:
        return {self.saved_model: {kind: self._path(kind) for kind in kinds}}

    def _first_good(self, kind: str) -> Converted:
        while True:
            made = self._get(kind)
            refusal = "" if self.expected is None else self._refusal(made)
            if not refusal:
                return made
            kind = self.asked.safer(kind, refusal, self.say)

    def _refusal(self, made: Converted) -> str:
        return self.asked.refusal(f"{self.name} as {made.kind}", made.metrics, self.expected, self.material)

    def _get(self, kind: str) -> Converted:
        """Made and compared once."""
        if kind not in self._known:
            if not self._path(kind).exists():
                litert.convert(self._of([kind]), self.asked.batch, self.material.calibration)
            self._known[kind] = _compared(kind, self._path(kind), self.material, self.expected)
        return self._known[kind]


def convert(files: Sequence[Files], asked: Conversions, material: Material) -> None:
    """All that was asked for of all members at once."""
    wanted = {saved_model: kinds for each in files for saved_model, kinds in each.wanted.items()}
    litert.convert(wanted, asked.batch, material.calibration)
    for each in files:
        each.choose()


def _compared(kind: str, path: Path, material: Material, expected: np.ndarray | None) -> Converted:
    if expected is None:
        return Converted(kind=kind, path=path)
    bar = Bar(f"comparing {path.name}", len(material.images))
    try:
        outcome = litert.run(path, material.images, bar)
    finally:
        bar.close()
    measured = litert.compared(outcome.logits, expected, material.labels)
    measured["milliseconds"] = round(outcome.milliseconds, 4)
    return Converted(kind=kind, path=path, logits=outcome.logits, metrics=measured)


def together(
    branches: Sequence[Files], asked: Conversions, material: Material, average: str, say: Callable[[str], None]
) -> dict[str, Any]:
    """By the kind that was asked for: what the branches' files reach when each runs on a device of its own.

    The ensemble may lose no more than a branch may; else the least safe of its files give way.
    """
    expected, found = combine(material.logits, average), {}
    for kind in asked.ordered:
        while True:
            taken = [files.taken[kind] for files in branches]
            measured = litert.compared(
                combine(np.stack([t.logits for t in taken], 1), average), expected, material.labels
            )
            refusal = asked.refusal(f"the branches together as {kind}", measured, expected, material)
            if not refusal:
                break
            least = max((t.kind for t in taken), key=LITERT.index)
            instead = asked.safer(least, refusal, say)
            for files in branches:
                if files.taken[kind].kind == least:
                    files.take(kind, instead)
        found[kind] = {**measured, "files": {files.name: files.taken[kind].kind for files in branches}}
    return found
