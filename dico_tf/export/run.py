"""From a trained run to the folder that serves it."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dico_tf.committee.decision import Committee
from dico_tf.cotrain.dico import DiCo
from dico_tf.errors import UserError
from dico_tf.evaluation.averaging import combine
from dico_tf.export import description, fitted, folder, litert, saved_model, tf_serving
from dico_tf.export.cascade import Cascade
from dico_tf.export.conversions import Conversions, Files, convert, together
from dico_tf.export.graph import Member
from dico_tf.export.material import Material
from dico_tf.files import manifest
from dico_tf.files.manifest import COMMITTEE, SAVED_MODEL
from dico_tf.training.assemble import TrainedRun

TFLITE = "tflite"
FORMATS = (SAVED_MODEL, TFLITE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exporting:
    """One export while it is made in `place`, out of sight."""

    run: TrainedRun
    model: DiCo  # in float32
    material: Material
    conversions: Conversions
    formats: Sequence[str]
    place: Path
    say: Callable[[str], None]
    committee: Committee | None = None  # of branches, whose gates make a cascade

    @property
    def made(self) -> Path:
        """What O will show."""
        return self.place / "export"

    @property
    def staged(self) -> Path:
        """What the server will find."""
        return self.place / "staged"

    def members(self) -> list[Member]:
        data, average = self.run.data, self.run.config.cotraining.average
        shared = {"class_names": data["class_names"], "image_size": data["image_size"], "average": average}
        networks = {f"branch_{s}": [branch] for s, branch in enumerate(self.model.branches)}
        networks[COMMITTEE] = self.model.branches
        shared["short_side"] = self.run.short_side
        cascades = {COMMITTEE: self.cascade()}
        return [Member(name=n, networks=nets, cascade=cascades.get(n), **shared) for n, nets in networks.items()]

    def cascade(self) -> Cascade | None:
        if not self.committee:
            return None
        places = [int(name.removeprefix("branch_")) for name in self.committee.members]
        branches, prices = self.model.branches, description.costs(self.run)
        return Cascade(
            committee=self.committee,
            networks=[functools.partial(branches[s], training=False) for s in places],
            costs=[prices[s]["macs"] for s in places],
            classes=len(self.run.data["class_names"]),
        )

    def make(self) -> None:
        for kind in self.formats:
            (self.made / kind).mkdir(parents=True)
        members = self.members()
        entries = [description.member(self.run, member) for member in members]
        sources = list(map(self._saved_model, members, entries))
        files = list(map(self._litert, members, entries, sources)) if TFLITE in self.formats else []
        if files:
            self.say(f"{', '.join(found.name for found in files)}: LiteRT {', '.join(self.conversions.ordered)}")
            convert(files, self.conversions, self.material)
        reached = self._together(files)
        for entry, found in zip(entries, files, strict=False):
            self._describe(entry, found)
        content = description.export(self.run, self.model, entries, self.material, self.committee)
        content["comparison"]["ensemble_of_branches"] = reached
        if self.committee and self.material.logits is not None:
            content["comparison"]["cascade"] = fitted.judged(self.committee, self.material, description.costs(self.run))
        (self.made / manifest.NAME).write_text(manifest.text(content), encoding="utf-8")
        (self.made / "README.md").write_text(description.card(self.run, content), encoding="utf-8")

    def _saved_model(self, member: Member, entry: dict[str, Any]) -> Path:
        self.say(f"{member.name}: SavedModel")
        wanted = SAVED_MODEL in self.formats
        path = (self.made if wanted else self.place) / SAVED_MODEL / member.name
        saved_model.write(member, path)
        difference = saved_model.difference(member, path)
        if wanted:
            entry["metrics"][SAVED_MODEL] = {"largest_difference": difference}
            entry["files"][SAVED_MODEL] = manifest.measure(path, self.made)
            stops_early = member.cascade is not None
            tf_serving.stage(path, self.staged / member.name, member.name, member.image_size, stops_early)
        return path

    def _litert(self, member: Member, entry: dict[str, Any], source: Path) -> Files:
        expected = self._expected(member)
        if expected is not None:
            entry["metrics"]["keras"] = litert.scores(expected, self.material.labels)
        return Files(
            name=member.name,
            saved_model=source,
            folder=self.made / TFLITE,
            asked=self.conversions,
            material=self.material,
            expected=expected,
            say=self.say,
        )

    def _expected(self, member: Member) -> np.ndarray | None:
        """The networks' own logits [N, C]."""
        if self.material.logits is None:
            return None
        if member.name == COMMITTEE:
            return combine(self.material.logits, member.average)
        return self.material.logits[:, int(member.name.removeprefix("branch_"))]

    def _together(self, files: Sequence[Files]) -> dict[str, Any]:
        if self.material.logits is None:
            return {}
        branches = [found for found in files if found.name != COMMITTEE]
        return together(branches, self.conversions, self.material, self.run.config.cotraining.average, self.say)

    def _describe(self, entry: dict[str, Any], files: Files) -> None:
        for converted in files.settle():
            about = {"batch": self.conversions.batch, **litert.signature(converted.path)}
            entry["files"][converted.kind] = {**manifest.measure(converted.path, self.made), **about}
            entry["metrics"] |= {converted.kind: converted.metrics} if converted.metrics else {}
        entry["instead"] = {asked: found.kind for asked, found in files.taken.items() if found.kind != asked}


def export(
    run: TrainedRun,
    out: Path,
    *,
    formats: Sequence[str],
    conversions: Conversions,
    compare: int,
    calibrate: int,
    data_dir: str,
    keep_versions: int,
    say: Callable[[str], None],
    committee: Committee | None = None,
) -> None:
    """All of it beside the old export first; then it takes the old one's place, and is served as the next version."""
    run.check_images(
        "exports",
        "use it by predict.py, or save a branch from Python: "
        "trained_run(WORKDIR).network().branches[0].save('branch.keras')",
    )
    if not all(np.isfinite(array).all() for array in run.arrays.values()):
        raise UserError(f"{run.workdir}/best holds weights that are no numbers: the training diverged; train again")
    with folder.making(out) as place:
        model = run.network(precision="float32")
        wanted = {"compare": compare, "calibrate": calibrate if "int8" in conversions.kinds else 0}
        material = Material.of(run, model, place, data_dir, **wanted) if TFLITE in formats else Material()
        work = Exporting(
            run=run, model=model, material=material, conversions=conversions, formats=formats, place=place, say=say,
            committee=committee,
        )  # fmt: skip
        work.make()
        folder.publish(out, work.made)
        if SAVED_MODEL in formats:
            version = tf_serving.publish(out, work.staged, keep_versions)
            say(f"version {version} in {out / tf_serving.FOLDER}")
