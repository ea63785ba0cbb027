"""Chooses the files of a member: what each kind loses, and which safer kind replaces one that loses too much."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dico_tf.errors import UserError
from dico_tf.evaluation.averaging import combine
from dico_tf.export import litert, paired_test, saved_model
from dico_tf.export.comparison_images import ComparisonImages
from dico_tf.export.formats.format import Format, Job
from dico_tf.export.graph import Member
from dico_tf.training.progress import Bar


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Converted:
    kind: str
    path: Path
    logits: np.ndarray | None = None  # [N, C]; where nothing was compared, None
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)
    error: str = ""  # why it could not be made


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conversions:
    """The files to make of every member, and what they may lose."""

    kinds: tuple[str, ...] = ("float32",)  # of formats that have several
    batch: int = 1  # images of a call; 0: any number
    max_accuracy_drop: float = 1.0  # points

    def of(self, format: Format) -> list[str]:
        """Return the kinds to make of a format, the safest first."""
        return [kind for kind in format.kinds if kind in self.kinds or len(format.kinds) == 1]

    def measure(self, logits: np.ndarray, expected: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
        """Return the scores of a conversion's logits [N, C] and what it loses against the network's."""
        found = paired_test.loss(expected, logits, labels, self.max_accuracy_drop)
        paired = {"lost": found.lost, "won": found.won, "p_value": found.p_value}
        return {**litert.compared(logits, expected, labels), **paired}

    def refusal(self, what: str, measured: dict[str, Any], images: int, split: str) -> str:
        """Return why a conversion may not stand for its network, or "". A loss that may be chance is no reason."""
        if not np.isfinite(measured["largest_difference"]):
            return f"{what}: some of {images} {split} images get NaN or infinity"
        return self.loss(what, measured, images, split) if measured["p_value"] < paired_test.SIGNIFICANCE else ""

    def loss(self, what: str, measured: dict[str, Any], images: int, split: str) -> str:
        """Return a sentence about an accuracy below the one allowed, or ""."""
        lost, won, p = measured["lost"], measured["won"], measured["p_value"]
        if p == 1:
            return ""
        verdict = "significantly more" if p < paired_test.SIGNIFICANCE else "not significantly more"
        return (
            f"{what} loses {100 * (lost - won) / images:.2f} points of accuracy, {verdict} than "
            f"--max_accuracy_drop={self.max_accuracy_drop:g} (p = {p:.2g}): of {images} {split} images {lost} became "
            f"wrong and {won} right (the same class in {100 * measured['same_class']:.2f} %, NLL "
            f"{measured['nll']:.4f}, ECE {measured['ece']:.4f}, logits differ by up to "
            f"{measured['largest_difference']:.3g})"
        )


def _safer(format: Format, kind: str, refusal: str, say: Callable[[str], None]) -> str:
    """Return the kind that replaces a refused one. Raises UserError if there is none."""
    if kind == format.kinds[0]:
        raise UserError(f"{refusal}; nothing was exported. Leave {format.name} out of --formats to export the rest")
    instead = format.kinds[format.kinds.index(kind) - 1]
    say(f"{refusal}; exporting {instead} instead of {kind}")
    return instead


@dataclasses.dataclass(kw_only=True, eq=False)
class MemberFiles:
    """A member's files of one format: for each kind asked for, that kind or a safer one."""

    format: Format
    member: Member
    saved_model: Path
    made: Path  # the folder of the export
    asked: Conversions
    material: ComparisonImages
    expected: np.ndarray | None  # the network's logits [N, C] of the material; None where nothing is compared
    say: Callable[[str], None]
    taken: dict[str, Converted] = dataclasses.field(default_factory=dict)  # by the kind that was asked for
    errors: dict[Path, str] = dataclasses.field(default_factory=dict)  # of files that could not be made
    _known: dict[str, Converted] = dataclasses.field(default_factory=dict)
    _mentioned: set[str] = dataclasses.field(default_factory=set)

    @property
    def name(self) -> str:
        return self.member.name

    @property
    def kinds(self) -> list[str]:
        return self.asked.of(self.format)

    def job(self, kinds: Sequence[str]) -> Job:
        return Job(self.member, self.saved_model, {kind: self._path(kind) for kind in kinds})

    def choose(self) -> None:
        """Among what was made: each kind that was asked for, or a safer one."""
        self.taken = {kind: self._first_good(kind) for kind in self.kinds}

    def take(self, asked: str, kind: str) -> None:
        """From now on `kind`, or a safer one, stands for the kind `asked`."""
        self.taken[asked] = self._first_good(kind)

    def settle(self) -> list[Converted]:
        """Those in use, the safest first; the others are removed."""
        used = {converted.kind: converted for converted in self.taken.values()}
        for kind in self.format.kinds:
            if kind not in used:
                self._path(kind).unlink(missing_ok=True)
        return [used[kind] for kind in self.format.kinds if kind in used]

    def _path(self, kind: str) -> Path:
        return self.format.path(self.made, self.name, kind)

    def _first_good(self, kind: str) -> Converted:
        while refusal := self._refusal(made := self._get(kind)):
            kind = _safer(self.format, kind, refusal, self.say)
        return made

    def _refusal(self, made: Converted) -> str:
        what = f"{self.name} as {made.kind}"
        if made.error:
            return f"{made.path.stem} cannot be converted to {self.format.title}: {made.error}"
        if self.expected is None:
            return ""
        of = (what, made.metrics, len(self.material.images), self.material.split)
        refusal = self.asked.refusal(*of)
        if not refusal and made.kind not in self._mentioned and (about := self.asked.loss(*of)):
            self._mentioned.add(made.kind)
            self.say(f"{about}; kept")
        return refusal

    def _get(self, kind: str) -> Converted:
        """Make and compare a kind once."""
        if kind not in self._known:
            path, errors = self._path(kind), self.errors
            if not path.exists() and path not in errors:
                errors = self.format.write([self.job([kind])], self.asked.batch, self.material.calibration)
            self._known[kind] = self._compared(kind, path, errors.get(path, ""))
        return self._known[kind]

    def _compared(self, kind: str, path: Path, error: str) -> Converted:
        if error:
            return Converted(kind=kind, path=path, error=error)
        if self.expected is None:
            return Converted(kind=kind, path=path, metrics=self._checked(kind, path))
        bar = Bar(f"comparing {path.name}", len(self.material.images))
        try:
            outcome = self.format.open(path)(self.material.images, lambda count: bar.advance(count, {}))
        finally:
            bar.close()
        measured = self.asked.measure(outcome.logits, self.expected, self.material.labels)
        measured["milliseconds"] = round(outcome.milliseconds, 4)
        return Converted(kind=kind, path=path, logits=outcome.logits, metrics=measured)

    def _checked(self, kind: str, path: Path) -> dict[str, float]:
        """Compare an exact kind on made-up images, which need no data; others are judged by their accuracy alone."""
        if kind not in self.format.exact:
            return {}
        images = saved_model.noise(self.member.image_size)
        return self.format.check(path, images, saved_model.logits(self.member, images))


def write(files: Sequence[MemberFiles]) -> None:
    """Make all files of one format together, and choose what is good enough."""
    first = files[0]
    jobs = [each.job(each.kinds) for each in files]
    errors = first.format.write(jobs, first.asked.batch, first.material.calibration)
    for each in files:
        each.errors |= errors
        each.choose()


def together(branches: Sequence[MemberFiles], average: str) -> dict[str, Any]:
    """Return, by the kind asked for, what the branches' files reach when each runs on a device of its own.

    The ensemble may lose no more than a branch may; else the least safe of its files are replaced.
    """
    first = branches[0]
    format, asked, material, say = first.format, first.asked, first.material, first.say
    expected, found = combine(material.logits, average), {}
    for kind in first.kinds:
        while True:
            taken = [files.taken[kind] for files in branches]
            logits = combine(np.stack([t.logits for t in taken], 1), average)
            measured = asked.measure(logits, expected, material.labels)
            refusal = asked.refusal(f"the branches together as {kind}", measured, len(material.images), material.split)
            if not refusal:
                break
            least = max((t.kind for t in taken), key=format.kinds.index)
            instead = _safer(format, least, refusal, say)
            for files in branches:
                if files.taken[kind].kind == least:
                    files.take(kind, instead)
        found[kind] = {**measured, "files": {files.name: files.taken[kind].kind for files in branches}}
    return found
