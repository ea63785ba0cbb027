"""Export of a committee.json, whose members may be of any kind."""

import dataclasses
import hashlib
import importlib.metadata
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dico_tf import __version__
from dico_tf.committee import serialization
from dico_tf.committee.committee_file import CommitteeFile
from dico_tf.errors import UserError
from dico_tf.evaluation.members.tf_graph import GraphNetwork
from dico_tf.export import cascade_from_bytes, committee_card, folder
from dico_tf.export.formats import registry
from dico_tf.export.formats.tflite import TFLite
from dico_tf.export.graph import ExportMember
from dico_tf.export.manifest_content import PACKAGES
from dico_tf.export.pipeline import Item, Pipeline
from dico_tf.export.resolve_members import ResolvedMember, resolve_members
from dico_tf.files import manifest
from dico_tf.files.manifest import COMMITTEE, READING, SAVED_MODEL

TFLITE = TFLite.name


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommitteeExport:
    """Writes the files, the manifest and the model card of one committee's export."""

    saved: CommitteeFile
    members: Sequence[ResolvedMember]
    pipeline: Pipeline

    @property
    def formats(self) -> Sequence[str]:
        return self.pipeline.formats

    @property
    def folder(self) -> Path:
        return self.pipeline.folder

    @property
    def class_names(self) -> list[str]:
        """The committee's class names; class_0, class_1, ... if it has none."""
        return list(self.saved.class_names or (f"class_{n}" for n in range(self.saved.classes)))

    def make(self) -> str:
        """Write all files. Return a sentence: where the committee's SavedModel is, or why there is none."""
        entries, items = [self._entry(resolved) for resolved in self.members], {}
        for resolved, entry in zip(self.members, entries, strict=True):
            if resolved.member.file:
                self._copy_file(resolved, entry)
            else:
                items[resolved.member.name] = Item(member=self._graph(resolved), entry=entry)
        graphs = {name: item.member for name, item in items.items()}
        self.pipeline.describe(list(items.values()), self.pipeline.write(list(items.values())))
        missing = self._missing(graphs)
        if not missing:
            entries.append(self._write_committee(graphs))
        content = self._content(entries)
        (self.folder / manifest.NAME).write_text(manifest.text(content), encoding="utf-8")
        (self.folder / "README.md").write_text(committee_card.card(content, self.saved, missing), encoding="utf-8")
        return missing or f"one SavedModel with the cascade inside: {SAVED_MODEL}/{COMMITTEE}, signature cascade"

    def _entry(self, resolved: ResolvedMember) -> dict[str, Any]:
        """Return a member's entry of the manifest, in which files and metrics are still empty."""
        member = resolved.member
        return {
            "name": member.name,
            "kind": member.kind,
            "input_size": member.input_size,
            "short_side": member.short_side,
            "class_names": self.class_names,
            "params": resolved.params,
            "macs": resolved.macs,
            "files": {},
            "metrics": {},
        }

    def _copy_file(self, resolved: ResolvedMember, entry: dict[str, Any]) -> None:
        """Copy a member's LiteRT file, and write into its entry how its input and output are to be converted."""
        name, file = resolved.member.name, resolved.member.file
        if TFLITE not in self.formats:
            raise UserError(
                f"{resolved.member.source} is a LiteRT file, which can only be copied: add {TFLITE} to --formats"
            )
        self.pipeline.say(f"{name}: {file.path.name}, copied unchanged ({file.kind})")
        path = registry.load(TFLITE).path(self.folder, name, file.kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file.path, path)
        about = {"batch": resolved.batch, "inputs": ["image"], "outputs": ["logits"]}
        entry["files"][file.kind] = {**manifest.measure(path, self.folder), **about}
        entry[READING] = {
            "pixels": file.pixels,
            "output": file.output,
            "place": file.place,
            "outputs": resolved.outputs,
            "background": "first" if resolved.dropped else "none",
        }

    def _graph(self, resolved: ResolvedMember) -> ExportMember:
        network = GraphNetwork(resolved.member.graph(), resolved.outputs, resolved.dropped)
        return ExportMember(
            name=resolved.member.name,
            networks=[network],
            class_names=self.class_names,
            image_size=resolved.member.input_size,
            short_side=resolved.member.short_side,
        )

    def _missing(self, graphs: dict[str, ExportMember]) -> str:
        """Return a clause on why there is no SavedModel of the whole committee, or "" if there is one.

        Args:
            graphs: members that TensorFlow can run, by name; the others are LiteRT files.
        """
        if SAVED_MODEL not in self.formats:
            return f"no SavedModel with the cascade inside: {SAVED_MODEL} is not among --formats"
        files = [m.member.name for m in self.members if m.member.name not in graphs]
        if not files:
            return ""
        who = f"{', '.join(files)} {'is a LiteRT file' if len(files) == 1 else 'are LiteRT files'}"
        return f"no SavedModel with the cascade inside: {who}, which TensorFlow cannot run"

    def _write_committee(self, graphs: dict[str, ExportMember]) -> dict[str, Any]:
        """Write the SavedModel of the whole committee. Return its entry of the manifest."""
        self.pipeline.say(f"{COMMITTEE}: SavedModel")
        path = self.folder / SAVED_MODEL / COMMITTEE
        views = [(m.member.input_size, m.member.short_side) for m in self.members]
        networks = [network for member in graphs.values() for network in member.networks]
        cascade_from_bytes.write(
            self.saved.committee, networks, views, [m.macs for m in self.members], self.saved.classes, path
        )
        sizes = {size for size, _ in views}
        return {
            "name": COMMITTEE,
            "kind": COMMITTEE,
            "input_size": sizes.pop() if len(sizes) == 1 else 0,
            "class_names": self.class_names,
            "params": sum(m.params for m in self.members),
            "macs": sum(m.macs for m in self.members),
            "files": {SAVED_MODEL: manifest.measure(path, self.folder)},
            "metrics": {},
        }

    def _content(self, entries: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the content of manifest.json."""
        committee, sizes = self.saved.committee, {(m.member.input_size, m.member.short_side) for m in self.members}
        size, short = sizes.pop() if len(sizes) == 1 else (0, 0)
        return {
            "id": identity(self.saved, self.members),
            "input": {"name": "image", "dtype": "float32", "range": [0, 255], "size": size, "short_side": short},
            "members": entries,
            "committee": {
                "members": list(committee.members),
                "average": committee.average,
                "temperature": 1.0,
                "weights": list(committee.weights),
                "temperatures": list(committee.temperatures),
                "cascade": serialization.cascade(committee),
            },
            "comparison": {"split": "", "images": 0, "calibration": {"images": 0, "sha256": ""}},
            "source": {
                "committee": dataclasses.asdict(self.saved.calibration),
                "fingerprint": self.saved.calibration.fingerprint,
                "members": {m.member.name: m.member.checksum for m in self.members},
            },
            "made_by": {"dico_tf": __version__, **{name: importlib.metadata.version(name) for name in PACKAGES}},
        }


def identity(saved: CommitteeFile, members: Sequence[ResolvedMember]) -> str:
    """Return the id of an export. Answers of exports with the same id may be averaged.

    It is a hash of the class names, and of the members' names, weights, preprocessing and reading of outputs.
    """
    content = [[m.member.name, m.member.checksum, m.outputs, m.dropped] for m in members]
    names = list(saved.class_names or ())
    return hashlib.sha256(json.dumps([saved.classes, names, content]).encode()).hexdigest()[:16]


def export(path: str | Path, out: Path, *, formats: Sequence[str], say: Callable[[str], None]) -> None:
    """Export the committee.json `path` to the folder `out`, whose files are all replaced in one step at the end.

    Only OUT/tf_serving, which an earlier export of a run may have made, stays as it is.

    Args:
        formats: names as in --formats. Members that are LiteRT files are copied, and need tflite among the formats.
        say: prints one line of progress.
    """
    saved, members = resolve_members(path)
    with folder.making(out) as place:
        pipeline = Pipeline(formats=formats, place=place, say=say)
        sentence = CommitteeExport(saved=saved, members=members, pipeline=pipeline).make()
        folder.publish(out, pipeline.folder)
        say(sentence)
