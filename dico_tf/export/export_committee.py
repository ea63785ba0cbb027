"""From a committee.json, whose members may be of any kind, to the folder that serves it."""

import dataclasses
import hashlib
import importlib.metadata
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dico_tf import __version__
from dico_tf.committee import words
from dico_tf.committee.saved import Saved
from dico_tf.errors import UserError
from dico_tf.evaluation.members.tf_graph import GraphNetwork
from dico_tf.export import cascade_from_bytes, committee_card, folder
from dico_tf.export.formats import registry
from dico_tf.export.formats.tflite import TFLite
from dico_tf.export.graph import Member
from dico_tf.export.manifest_content import PACKAGES
from dico_tf.export.pipeline import Item, Pipeline
from dico_tf.export.resolve_members import ResolvedMember, resolve_members
from dico_tf.files import manifest
from dico_tf.files.manifest import COMMITTEE, READING, SAVED_MODEL

TFLITE = TFLite.name


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommitteeExport:
    """The export of one committee of any members."""

    saved: Saved
    found: Sequence[ResolvedMember]
    pipeline: Pipeline

    @property
    def formats(self) -> Sequence[str]:
        return self.pipeline.formats

    @property
    def made(self) -> Path:
        return self.pipeline.made

    @property
    def class_names(self) -> list[str]:
        return list(self.saved.class_names or (f"class_{n}" for n in range(self.saved.classes)))

    def make(self) -> str:
        """The sentence about the SavedModel of all of them."""
        entries, items = [self._entry(found) for found in self.found], {}
        for found, entry in zip(self.found, entries, strict=True):
            if found.member.file:
                self._take(found, entry)
            else:
                items[found.member.name] = Item(member=self._graph(found), entry=entry)
        graphs = {name: item.member for name, item in items.items()}
        self.pipeline.describe(list(items.values()), self.pipeline.write(list(items.values())))
        missing = self._without(graphs)
        if not missing:
            entries.append(self._together(graphs))
        content = self._content(entries)
        (self.made / manifest.NAME).write_text(manifest.text(content), encoding="utf-8")
        (self.made / "README.md").write_text(committee_card.card(content, self.saved, missing), encoding="utf-8")
        return missing or f"one SavedModel with the cascade inside: {SAVED_MODEL}/{COMMITTEE}, signature cascade"

    def _entry(self, found: ResolvedMember) -> dict[str, Any]:
        member = found.member
        return {
            "name": member.name, "kind": member.kind, "input_size": member.input_size, "short_side": member.short_side,
            "class_names": self.class_names, "params": found.params, "macs": found.macs, "files": {}, "metrics": {},
        }  # fmt: skip

    def _take(self, found: ResolvedMember, entry: dict[str, Any]) -> None:
        """A LiteRT file as it is, and how it is fed and read."""
        name, file = found.member.name, found.member.file
        if TFLITE not in self.formats:
            raise UserError(f"{found.member.source} is a LiteRT file: add {TFLITE} to --formats")
        self.pipeline.say(f"{name}: {file.path.name} as it is ({file.kind})")
        path = registry.load(TFLITE).path(self.made, name, file.kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file.path, path)
        about = {"batch": found.batch, "inputs": ["image"], "outputs": ["logits"]}
        entry["files"][file.kind] = {**manifest.measure(path, self.made), **about}
        entry[READING] = {
            "pixels": file.pixels, "output": file.output, "place": file.place, "outputs": found.outputs,
            "background": "first" if found.dropped else "none",
        }  # fmt: skip

    def _graph(self, found: ResolvedMember) -> Member:
        network = GraphNetwork(found.member.graph(), found.outputs, found.dropped)
        return Member(
            name=found.member.name, networks=[network], class_names=self.class_names,
            image_size=found.member.input_size, short_side=found.member.short_side,
        )  # fmt: skip

    def _without(self, graphs: dict[str, Member]) -> str:
        """Why there is no SavedModel of all, or nothing."""
        if SAVED_MODEL not in self.formats:
            return f"no SavedModel with the cascade inside: {SAVED_MODEL} is not among --formats"
        files = [found.member.name for found in self.found if found.member.name not in graphs]
        if not files:
            return ""
        who = f"{', '.join(files)} {'is a LiteRT file' if len(files) == 1 else 'are LiteRT files'}"
        return f"no SavedModel with the cascade inside: {who}, and no graph of TensorFlow's"

    def _together(self, graphs: dict[str, Member]) -> dict[str, Any]:
        self.pipeline.say(f"{COMMITTEE}: SavedModel")
        path = self.made / SAVED_MODEL / COMMITTEE
        views = [(found.member.input_size, found.member.short_side) for found in self.found]
        networks = [network for member in graphs.values() for network in member.networks]
        cascade_from_bytes.write(
            self.saved.committee, networks, views, [f.macs for f in self.found], self.saved.classes, path
        )
        sizes = {size for size, _ in views}
        return {
            "name": COMMITTEE, "kind": COMMITTEE, "input_size": sizes.pop() if len(sizes) == 1 else 0,
            "class_names": self.class_names, "params": sum(f.params for f in self.found),
            "macs": sum(f.macs for f in self.found), "files": {SAVED_MODEL: manifest.measure(path, self.made)},
            "metrics": {},
        }  # fmt: skip

    def _content(self, entries: list[dict[str, Any]]) -> dict[str, Any]:
        committee, sizes = self.saved.committee, {(f.member.input_size, f.member.short_side) for f in self.found}
        size, short = sizes.pop() if len(sizes) == 1 else (0, 0)
        return {
            "id": identity(self.saved, self.found),
            "input": {"name": "image", "dtype": "float32", "range": [0, 255], "size": size, "short_side": short},
            "members": entries,
            "committee": {
                "members": list(committee.members), "average": committee.average, "temperature": 1.0,
                "weights": list(committee.weights), "temperatures": list(committee.temperatures),
                "cascade": words.cascade(committee),
            },
            "comparison": {"split": "", "images": 0, "calibration": {"images": 0, "sha256": ""}},
            "source": {
                "committee": dataclasses.asdict(self.saved.calibration),
                "fingerprint": self.saved.calibration.fingerprint,
                "members": {f.member.name: f.member.checksum for f in self.found},
            },
            "made_by": {"dico_tf": __version__, **{name: importlib.metadata.version(name) for name in PACKAGES}},
        }  # fmt: skip


def identity(saved: Saved, found: Sequence[ResolvedMember]) -> str:
    """The same for the same networks, fed and read alike: answers of such exports may be averaged."""
    seen = [[f.member.name, f.member.checksum, f.outputs, f.dropped] for f in found]
    names = list(saved.class_names or ())
    return hashlib.sha256(json.dumps([saved.classes, names, seen]).encode()).hexdigest()[:16]


def export(path: str | Path, out: Path, *, formats: Sequence[str], say: Callable[[str], None]) -> None:
    """All of it beside the old export first; then it takes the old one's place."""
    saved, found = resolve_members(path)
    with folder.making(out) as place:
        pipeline = Pipeline(formats=formats, place=place, say=say)
        about = CommitteeExport(saved=saved, found=found, pipeline=pipeline).make()
        folder.publish(out, pipeline.made)
        say(about)
