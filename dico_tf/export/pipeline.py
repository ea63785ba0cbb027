"""The pipeline of every export: writes files of all formats for all members, and their entries of the manifest."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dico_tf.export import choose_kinds, comparison, saved_model
from dico_tf.export.choose_kinds import Conversions, MemberFiles
from dico_tf.export.comparison_images import ComparisonImages
from dico_tf.export.formats import registry
from dico_tf.export.formats.format import Format, Job
from dico_tf.export.graph import ExportMember
from dico_tf.files import manifest
from dico_tf.files.manifest import SAVED_MODEL


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Item:
    """A member, its entry of the manifest, and `expected`, its network's logits [N, C] of the comparison images.

    `expected` is None if there are no comparison images.
    """

    member: ExportMember
    entry: dict[str, Any]
    expected: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Pipeline:
    """Writes the files of one export into the hidden folder `place`."""

    formats: Sequence[str]
    place: Path
    say: Callable[[str], None]
    conversions: Conversions = dataclasses.field(default_factory=Conversions)
    images: ComparisonImages = dataclasses.field(default_factory=ComparisonImages)

    @property
    def folder(self) -> Path:
        """Folder in `place` that will be published as the export."""
        return self.place / "export"

    def saved_model(self, name: str) -> Path:
        """Return the path of a member's SavedModel, which is written even if only other formats are exported."""
        return (self.folder if SAVED_MODEL in self.formats else self.place) / SAVED_MODEL / name

    def write(self, items: Sequence[Item]) -> dict[str, list[MemberFiles]]:
        """Write and check all files, and choose which of them to export.

        SavedModels are added to the items' entries here; all other files are added by `describe`.
        Returns for each format but SavedModel the files of every item, in the items' order.
        """
        for item in items:
            self._saved_model(item)
        chosen = {}
        for format in (registry.load(name) for name in self.formats if name != SAVED_MODEL and items):
            (self.folder / format.name).mkdir(parents=True, exist_ok=True)
            files = [self._files(format, item) for item in items]
            self.say(f"{', '.join(each.name for each in files)}: {format.title} {', '.join(files[0].kinds)}")
            choose_kinds.write(files)
            chosen[format.name] = files
        return chosen

    def _saved_model(self, item: Item) -> None:
        self.say(f"{item.member.name}: SavedModel")
        format, path = registry.load(SAVED_MODEL), self.saved_model(item.member.name)
        format.write([Job(item.member, path, {SAVED_MODEL: path})], 0, None)
        noise = saved_model.noise(item.member.image_size)
        metrics = format.check(path, noise, saved_model.logits(item.member, noise))
        if SAVED_MODEL in self.formats:
            item.entry["metrics"][SAVED_MODEL] = metrics
            item.entry["files"][SAVED_MODEL] = {**manifest.measure(path, self.folder), **format.describe(path)}
        if item.expected is not None:
            item.entry["metrics"]["keras"] = comparison.scores(item.expected, self.images.labels)

    def _files(self, format: Format, item: Item) -> MemberFiles:
        return MemberFiles(
            format=format,
            member=item.member,
            saved_model=self.saved_model(item.member.name),
            folder=self.folder,
            conversions=self.conversions,
            images=self.images,
            expected=item.expected,
            say=self.say,
        )

    def describe(self, items: Sequence[Item], chosen: dict[str, list[MemberFiles]]) -> None:
        """Add the chosen files of each item to its entry, and delete the files that were not chosen.

        Args:
            chosen: the result of `write` for the same items.
        """
        for files in chosen.values():
            for item, each in zip(items, files, strict=True):
                self._describe(item.entry, each)

    def _describe(self, entry: dict[str, Any], files: MemberFiles) -> None:
        batch = self.conversions.batch if files.format.fixed_batch else 0
        for converted in files.remove_others():
            about = {"batch": batch, **files.format.describe(converted.path)}
            entry["files"][converted.kind] = {**manifest.measure(converted.path, self.folder), **about}
            entry["metrics"] |= {converted.kind: converted.metrics} if converted.metrics else {}
        replaced = {kind: file.kind for kind, file in files.chosen.items() if file.kind != kind}
        entry["instead"] = entry.get("instead", {}) | replaced
