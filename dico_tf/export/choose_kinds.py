"""Choice of a member's files: measures what each kind loses, and replaces a kind that loses too much by a safer one.

A kind is a form of a file in one format, such as float32, float16 or int8. A safer kind rounds less.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dico_tf.errors import UserError
from dico_tf.evaluation.averaging import combine
from dico_tf.export import comparison, saved_model
from dico_tf.export.comparison_images import ComparisonImages
from dico_tf.export.formats.format import Format, Job
from dico_tf.export.graph import ExportMember
from dico_tf.training.progress import Bar


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Converted:
    """A file and its comparison with the network, or the reason why it could not be written."""

    kind: str
    path: Path
    logits: np.ndarray | None = None  # [N, C]; None = not compared
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)
    error: str = ""  # why it could not be written; "" = it was


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conversions:
    """The kinds of files to write for every member, and how much accuracy they may lose."""

    kinds: tuple[str, ...] = ("float32",)  # applies to formats with several kinds
    batch: int = 1  # batch size of LiteRT files; 0 = any
    max_accuracy_drop: float = 1.0  # percentage points

    def of(self, format: Format) -> list[str]:
        """Return the kinds of a format to write, the safest first; a format of one kind is always written."""
        return [kind for kind in format.kinds if kind in self.kinds or len(format.kinds) == 1]

    def measure(self, logits: np.ndarray, expected: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
        """Compare a file's logits [N, C] with the network's logits `expected`.

        Returns what comparison.compare does, and "lost", "won" and "p_value" of AccuracyLoss: how many images became
        wrong and right, and how likely that is if the true loss is just the allowed one.
        """
        loss = comparison.accuracy_loss(expected, logits, labels, self.max_accuracy_drop)
        paired = {"lost": loss.lost, "won": loss.won, "p_value": loss.p_value}
        return {**comparison.compare(logits, expected, labels), **paired}

    def refusal(self, what: str, measured: dict[str, Any], images: int, split: str) -> str:
        """Return why a file must not be exported: it gives NaN or infinity, or loses too much accuracy; else "".

        A loss that may be chance is not too much.

        Args:
            what: the file, for the message.
            measured: its scores and losses, as `measure` returns them.
            images, split: number and split of the comparison images, for the message.
        """
        if not np.isfinite(measured["largest_difference"]):
            return f"{what} gives NaN or infinity for some of {images} {split} images"
        loss = self.describe_loss(what, measured, images, split)
        return loss if measured["p_value"] < comparison.SIGNIFICANCE else ""

    def describe_loss(self, what: str, measured: dict[str, Any], images: int, split: str) -> str:
        """Return a sentence about a loss of accuracy above the allowed one, even if it may be chance; else "".

        The arguments are those of `refusal`.
        """
        lost, won, p = measured["lost"], measured["won"], measured["p_value"]
        if p == 1:
            return ""
        verdict = "significantly more" if p < comparison.SIGNIFICANCE else "not significantly more"
        return (
            f"{what} loses {100 * (lost - won) / images:.2f} points of accuracy, {verdict} than "
            f"--max_accuracy_drop={self.max_accuracy_drop:g} (p = {p:.2g}): of {images} {split} images {lost} became "
            f"wrong and {won} right (the same class in {100 * measured['same_class']:.2f} %, NLL "
            f"{measured['nll']:.4f}, ECE {measured['ece']:.4f}, logits differ by up to "
            f"{measured['largest_difference']:.3g})"
        )


def _safer(format: Format, kind: str, refusal: str, say: Callable[[str], None]) -> str:
    """Return the next safer kind, and call `say` with the refusal. Raises UserError if `kind` is the safest."""
    if kind == format.kinds[0]:
        raise UserError(f"{refusal}; nothing was exported. Leave {format.name} out of --formats to export the rest")
    instead = format.kinds[format.kinds.index(kind) - 1]
    say(f"{refusal}; exporting {instead} instead of {kind}")
    return instead


@dataclasses.dataclass(kw_only=True, eq=False)
class MemberFiles:
    """A member's files of one format: for each requested kind, that kind or a safer one."""

    format: Format
    member: ExportMember
    saved_model: Path
    folder: Path  # becomes the export
    conversions: Conversions
    images: ComparisonImages
    expected: np.ndarray | None  # the network's logits [N, C] of the comparison images; None = no comparison
    say: Callable[[str], None]
    chosen: dict[str, Converted] = dataclasses.field(default_factory=dict)  # by requested kind
    errors: dict[Path, str] = dataclasses.field(default_factory=dict)  # of files that could not be written
    _converted: dict[str, Converted] = dataclasses.field(default_factory=dict)
    _reported: set[str] = dataclasses.field(default_factory=set)

    @property
    def name(self) -> str:
        return self.member.name

    @property
    def kinds(self) -> list[str]:
        """The kinds of this format to write, the safest first."""
        return self.conversions.of(self.format)

    def job(self, kinds: Sequence[str]) -> Job:
        """Return the job that writes files of these kinds."""
        return Job(self.member, self.saved_model, {kind: self._path(kind) for kind in kinds})

    def choose(self) -> None:
        """Choose a file for each requested kind: of that kind, or of a safer one. Raises UserError if there is none."""
        self.chosen = {kind: self._first_good(kind) for kind in self.kinds}

    def replace(self, requested: str, kind: str) -> None:
        """Use the file of `kind` for the kind `requested`; if that file is refused, use one of a safer kind."""
        self.chosen[requested] = self._first_good(kind)

    def remove_others(self) -> list[Converted]:
        """Return the chosen files, the safest first, and delete the member's other files of the format."""
        used = {converted.kind: converted for converted in self.chosen.values()}
        for kind in self.format.kinds:
            if kind not in used:
                self._path(kind).unlink(missing_ok=True)
        return [used[kind] for kind in self.format.kinds if kind in used]

    def _path(self, kind: str) -> Path:
        return self.format.path(self.folder, self.name, kind)

    def _first_good(self, kind: str) -> Converted:
        """Return the file of this kind, or of the next safer kind that is not refused; UserError if all are refused."""
        while refusal := self._refusal(file := self._get(kind)):
            kind = _safer(self.format, kind, refusal, self.say)
        return file

    def _refusal(self, file: Converted) -> str:
        """Return why a file cannot be exported, or "". An insignificant loss is reported once, and the file stays."""
        what = f"{self.name} as {file.kind}"
        if file.error:
            return f"{file.path.stem} cannot be converted to {self.format.title}: {file.error}"
        if self.expected is None:
            return ""
        arguments = (what, file.metrics, len(self.images.images), self.images.split)
        refusal = self.conversions.refusal(*arguments)
        if not refusal and file.kind not in self._reported and (loss := self.conversions.describe_loss(*arguments)):
            self._reported.add(file.kind)
            self.say(f"{loss}; kept")
        return refusal

    def _get(self, kind: str) -> Converted:
        """Return the file of a kind; it is written and compared at the first call."""
        if kind not in self._converted:
            path, errors = self._path(kind), self.errors
            if not path.exists() and path not in errors:
                errors = self.format.write([self.job([kind])], self.conversions.batch, self.images.calibration)
            self._converted[kind] = self._compared(kind, path, errors.get(path, ""))
        return self._converted[kind]

    def _compared(self, kind: str, path: Path, error: str) -> Converted:
        if error:
            return Converted(kind=kind, path=path, error=error)
        if self.expected is None:
            return Converted(kind=kind, path=path, metrics=self._checked(kind, path))
        bar = Bar(f"comparing {path.name}", len(self.images.images))
        try:
            outcome = self.format.open(path)(self.images.images, lambda count: bar.advance(count, {}))
        finally:
            bar.close()
        measured = self.conversions.measure(outcome.logits, self.expected, self.images.labels)
        measured["milliseconds"] = round(outcome.milliseconds, 4)
        return Converted(kind=kind, path=path, logits=outcome.logits, metrics=measured)

    def _checked(self, kind: str, path: Path) -> dict[str, float]:
        """Return how an exact kind's file differs from its network on noise images; {} for kinds that are not exact."""
        if kind not in self.format.exact:
            return {}
        images = saved_model.noise(self.member.image_size)
        return self.format.check(path, images, saved_model.logits(self.member, images))


def write(files: Sequence[MemberFiles]) -> None:
    """Write the files of one format for all members in one process, and choose which are good enough."""
    first = files[0]
    jobs = [each.job(each.kinds) for each in files]
    errors = first.format.write(jobs, first.conversions.batch, first.images.calibration)
    for each in files:
        each.errors |= errors
        each.choose()


def measure_ensemble(branches: Sequence[MemberFiles], average: str) -> dict[str, Any]:
    """Return {requested kind: scores of the ensemble of the branches' files}, after replacing files if necessary.

    While the ensemble gives NaN or infinity, or loses significantly more accuracy than a file may, its least safe files
    are replaced by the next safer ones. Raises UserError if only the safest are left.

    Args:
        branches: the files of each branch, all of one format.
        average: how the branches are averaged, as --average.
    """
    first = branches[0]
    format, conversions, images, say = first.format, first.conversions, first.images, first.say
    expected, scores = combine(images.logits, average), {}
    for kind in first.kinds:
        while True:
            chosen = [files.chosen[kind] for files in branches]
            logits = combine(np.stack([file.logits for file in chosen], 1), average)
            measured = conversions.measure(logits, expected, images.labels)
            refusal = conversions.refusal(f"the ensemble as {kind}", measured, len(images.images), images.split)
            if not refusal:
                break
            least = max((file.kind for file in chosen), key=format.kinds.index)
            instead = _safer(format, least, refusal, say)
            for files in branches:
                if files.chosen[kind].kind == least:
                    files.replace(kind, instead)
        scores[kind] = {**measured, "files": {files.name: files.chosen[kind].kind for files in branches}}
    return scores
