"""From a trained run to the folder that serves it."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from dico_tf.cotrain.dico import DiCo
from dico_tf.errors import UserError
from dico_tf.evaluation.averaging import combine
from dico_tf.export import description, folder, litert, manifest, saved_model, tf_serving
from dico_tf.export.conversions import Conversions, Converted
from dico_tf.export.graph import Member, answers
from dico_tf.export.manifest import COMMITTEE, SAVED_MODEL
from dico_tf.export.material import Material
from dico_tf.training.assemble import TrainedRun

TFLITE = "tflite"
FORMATS = (SAVED_MODEL, TFLITE)
_NOISE = 8  # made-up pictures on which every SavedModel is compared with its network
_ROUNDING = 1e-4  # of the largest logit


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
        return [Member(name=n, networks=nets, short_side=self.run.short_side, **shared) for n, nets in networks.items()]

    def make(self) -> None:
        for kind in self.formats:
            (self.made / kind).mkdir(parents=True)
        entries, outcomes = [], {}
        for member in self.members():
            entry = description.member(self.run, member)
            source = self._saved_model(member, entry)
            if TFLITE in self.formats:
                outcomes[member.name] = self._litert(member, entry, source)
            entries.append(entry)
        content = description.export(self.run, self.model, entries, self.material)
        content["comparison"]["ensemble_of_branches"] = self._ensembles(outcomes)
        (self.made / manifest.NAME).write_text(manifest.text(content), encoding="utf-8")
        (self.made / "README.md").write_text(description.card(self.run, content), encoding="utf-8")

    def _saved_model(self, member: Member, entry: dict[str, Any]) -> Path:
        self.say(f"{member.name}: SavedModel")
        wanted = SAVED_MODEL in self.formats
        path = (self.made if wanted else self.place) / SAVED_MODEL / member.name
        saved_model.write(member, path)
        difference = _difference(member, path)
        if wanted:
            entry["metrics"][SAVED_MODEL] = {"largest_difference": difference}
            entry["files"][SAVED_MODEL] = manifest.measure(path, self.made)
            tf_serving.stage(path, self.staged / member.name, member.name, member.image_size)
        return path

    def _litert(self, member: Member, entry: dict[str, Any], source: Path) -> dict[str, Converted]:
        self.say(f"{member.name}: LiteRT {', '.join(self.conversions.kinds)}")
        expected = self._expected(member)
        if expected is not None:
            entry["metrics"]["keras"] = litert.scores(expected, self.material.labels)
        found = self.conversions.files(member.name, source, self.made / TFLITE, self.material, expected)
        for kind, converted in found.items():
            about = {"batch": self.conversions.batch, **litert.signature(converted.path)}
            entry["files"][kind] = {**manifest.measure(converted.path, self.made), **about}
            entry["metrics"] |= {kind: converted.metrics} if converted.metrics else {}
        return found

    def _expected(self, member: Member) -> np.ndarray | None:
        """The networks' own logits [N, C]."""
        if self.material.logits is None:
            return None
        if member.name == COMMITTEE:
            return combine(self.material.logits, member.average)
        return self.material.logits[:, int(member.name.removeprefix("branch_"))]

    def _ensembles(self, outcomes: dict[str, dict[str, Converted]]) -> dict[str, Any]:
        """What the branches' files reach together when every branch runs on its own device."""
        if self.material.logits is None or not outcomes:
            return {}
        branches = [found for name, found in outcomes.items() if name != COMMITTEE]
        average = self.run.config.cotraining.average
        expected, together = combine(self.material.logits, average), {}
        for kind in set.intersection(*(set(found) for found in branches)):
            logits = combine(np.stack([found[kind].logits for found in branches], 1), average)
            together[kind] = litert.compared(logits, expected, self.material.labels)
        return together


def _difference(member: Member, path: Path) -> float:
    """Largest one of a logit on made-up pictures; an error where it is not rounding."""
    side = member.image_size
    noise = np.random.default_rng(0).integers(0, 256, (_NOISE, side, side, 3)).astype(np.float32)
    loaded = tf.saved_model.load(str(path))
    found, expected = (
        loaded.signatures["serving_default"](image=tf.constant(noise)),
        answers(member, tf.constant(noise)),
    )
    difference = float(abs(found["logits"] - expected["logits"]).numpy().max())
    if not difference <= _ROUNDING * max(1.0, float(abs(expected["logits"]).numpy().max())):
        raise RuntimeError(f"the SavedModel of {member.name} answers other than its network: logits {difference} away")
    return difference


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
) -> None:
    """All of it beside the old export first; then it takes the old one's place, and is served as the next version."""
    if run.config.data.task != "classification":
        raise UserError(
            f"{run.workdir} is a {run.config.data.task} run, and exports answer with one class an image: use it by "
            "predict.py, or save a branch from Python: trained_run(WORKDIR).network().branches[0].save('branch.keras')"
        )
    with folder.making(out) as place:
        model = run.network(precision="float32")
        wanted = {"compare": compare, "calibrate": calibrate if "int8" in conversions.kinds else 0}
        material = Material.of(run, model, place, data_dir, **wanted) if TFLITE in formats else Material()
        work = Exporting(
            run=run, model=model, material=material, conversions=conversions, formats=formats, place=place, say=say
        )
        work.make()
        folder.publish(out, work.made)
        if SAVED_MODEL in formats:
            version = tf_serving.publish(out, work.staged, keep_versions)
            say(f"version {version} in {out / tf_serving.FOLDER}")
