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
from dico_tf.evaluation.members.graph_network import Network
from dico_tf.export import assembly_card, folder, litert, pictured, saved_model
from dico_tf.export.description import PACKAGES
from dico_tf.export.gathered import Found, gathered
from dico_tf.export.graph import Member
from dico_tf.files import manifest
from dico_tf.files.manifest import COMMITTEE, READING, SAVED_MODEL

TFLITE, FLOAT32 = "tflite", "float32"
_NEAR = 1e-3  # of the largest logit: how far a LiteRT file may be from its network


@dataclasses.dataclass(frozen=True, kw_only=True)
class Assembly:
    """One export while it is made in `place`, out of sight."""

    saved: Saved
    found: Sequence[Found]
    formats: Sequence[str]
    place: Path
    say: Callable[[str], None]

    @property
    def made(self) -> Path:
        """What O will show."""
        return self.place / "export"

    @property
    def class_names(self) -> list[str]:
        return list(self.saved.class_names or (f"class_{n}" for n in range(self.saved.classes)))

    def make(self) -> str:
        """The sentence about the SavedModel of all of them."""
        for found in self.found:
            kinds = [TFLITE] if found.member.file else self.formats
            for kind in kinds:
                (self.made / kind).mkdir(parents=True, exist_ok=True)
        entries, graphs = [self._entry(found) for found in self.found], {}
        for found, entry in zip(self.found, entries, strict=True):
            if found.member.file:
                self._take(found, entry)
            else:
                graphs[found.member.name] = self._saved_model(found, entry)
        if TFLITE in self.formats and graphs:
            self._convert(graphs, {entry["name"]: entry for entry in entries})
        missing = self._without(graphs)
        if not missing:
            entries.append(self._together(graphs))
        content = self._content(entries)
        (self.made / manifest.NAME).write_text(manifest.text(content), encoding="utf-8")
        (self.made / "README.md").write_text(assembly_card.card(content, self.saved, missing), encoding="utf-8")
        return missing or f"one SavedModel with the cascade inside: {SAVED_MODEL}/{COMMITTEE}, signature cascade"

    def _entry(self, found: Found) -> dict[str, Any]:
        member = found.member
        return {
            "name": member.name, "kind": member.kind, "input_size": member.input_size, "short_side": member.short_side,
            "class_names": self.class_names, "params": found.params, "macs": found.macs, "files": {}, "metrics": {},
        }  # fmt: skip

    def _take(self, found: Found, entry: dict[str, Any]) -> None:
        """A LiteRT file as it is, and how it is fed and read."""
        name, file = found.member.name, found.member.file
        if TFLITE not in self.formats:
            raise UserError(f"{found.member.source} is a LiteRT file: add {TFLITE} to --formats")
        self.say(f"{name}: {file.path.name} as it is ({file.kind})")
        path = self.made / TFLITE / f"{name}_{file.kind}.tflite"
        shutil.copyfile(file.path, path)
        about = {"batch": found.batch, "inputs": ["image"], "outputs": ["logits"]}
        entry["files"][file.kind] = {**manifest.measure(path, self.made), **about}
        entry[READING] = {
            "pixels": file.pixels, "output": file.output, "place": file.place, "outputs": found.outputs,
            "background": "first" if found.dropped else "none",
        }  # fmt: skip

    def _saved_model(self, found: Found, entry: dict[str, Any]) -> Member:
        network = Network(found.member.graph(), found.outputs, found.dropped)
        member = Member(
            name=found.member.name, networks=[network], class_names=self.class_names,
            image_size=found.member.input_size, short_side=found.member.short_side,
        )  # fmt: skip
        self.say(f"{member.name}: SavedModel")
        path = self._place(member.name)
        saved_model.write(member, path)
        away = saved_model.difference(member, path)
        if SAVED_MODEL in self.formats:
            entry["files"][SAVED_MODEL] = manifest.measure(path, self.made)
            entry["metrics"][SAVED_MODEL] = {"largest_difference": away}
        return member

    def _place(self, name: str) -> Path:
        """Of its SavedModel, which is converted also where it is not shown."""
        return (self.made if SAVED_MODEL in self.formats else self.place) / SAVED_MODEL / name

    def _convert(self, members: dict[str, Member], entries: dict[str, dict[str, Any]]) -> None:
        self.say(f"{', '.join(members)}: LiteRT {FLOAT32}")
        paths = {name: self.made / TFLITE / f"{name}_{FLOAT32}.tflite" for name in members}
        litert.convert({self._place(name): {FLOAT32: path} for name, path in paths.items()})
        for name, path in paths.items():
            about = {"batch": 1, **litert.signature(path)}
            entries[name]["metrics"][FLOAT32] = _compared(members[name], path)
            entries[name]["files"][FLOAT32] = {**manifest.measure(path, self.made), **about}

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
        self.say(f"{COMMITTEE}: SavedModel")
        path = self.made / SAVED_MODEL / COMMITTEE
        views = [(found.member.input_size, found.member.short_side) for found in self.found]
        networks = [network for member in graphs.values() for network in member.networks]
        pictured.write(self.saved.committee, networks, views, [f.macs for f in self.found], self.saved.classes, path)
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


def _compared(member: Member, path: Path) -> dict[str, float]:
    images = saved_model.noise(member.image_size)
    expected = saved_model.logits(member, images)
    outcome = litert.run(path, images)
    away = float(abs(outcome.logits - expected).max())
    if not away <= _NEAR * max(1.0, float(abs(expected).max())):
        raise UserError(f"{member.name} as a LiteRT file answers other than its network: logits {away:.3g} away")
    return {"largest_difference": away, "milliseconds": round(outcome.milliseconds, 4)}


def identity(saved: Saved, found: Sequence[Found]) -> str:
    """The same for the same networks, fed and read alike: answers of such exports may be averaged."""
    seen = [[f.member.name, f.member.checksum, f.outputs, f.dropped] for f in found]
    names = list(saved.class_names or ())
    return hashlib.sha256(json.dumps([saved.classes, names, seen]).encode()).hexdigest()[:16]


def export(path: str | Path, out: Path, *, formats: Sequence[str], say: Callable[[str], None]) -> None:
    """All of it beside the old export first; then it takes the old one's place."""
    saved, found = gathered(path)
    with folder.making(out) as place:
        work = Assembly(saved=saved, found=found, formats=formats, place=place, say=say)
        about = work.make()
        folder.publish(out, work.made)
        say(about)
