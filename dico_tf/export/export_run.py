"""Export of a trained run."""

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
from dico_tf.export import folder, manifest_content, run_gates, tf_serving
from dico_tf.export.cascade import Cascade
from dico_tf.export.choose_kinds import Conversions, MemberFiles, measure_ensemble
from dico_tf.export.comparison_images import ComparisonImages
from dico_tf.export.formats.tflite import TFLite
from dico_tf.export.graph import ExportMember
from dico_tf.export.pipeline import Item, Pipeline
from dico_tf.files import manifest
from dico_tf.files.manifest import COMMITTEE, SAVED_MODEL
from dico_tf.training.build import TrainedRun


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunExport:
    """Writes the files, the manifest and the model card of one run's export."""

    run: TrainedRun
    model: DiCo  # in float32
    pipeline: Pipeline
    committee: Committee | None = None  # of branches of the run, with gates: adds a cascade; None = no cascade

    @property
    def staged(self) -> Path:
        """The folder in which the next version for TensorFlow Serving is prepared."""
        return self.pipeline.place / "staged"

    def members(self) -> list[ExportMember]:
        """Return what is exported: each branch, then the committee of all branches."""
        data, average = self.run.data, self.run.config.cotraining.average
        shared = {"class_names": data["class_names"], "image_size": data["image_size"], "average": average}
        networks = {f"branch_{s}": [branch] for s, branch in enumerate(self.model.branches)}
        networks[COMMITTEE] = self.model.branches
        shared["short_side"] = self.run.short_side
        cascades = {COMMITTEE: self.cascade()}
        return [ExportMember(name=n, networks=nets, cascade=cascades.get(n), **shared) for n, nets in networks.items()]

    def cascade(self) -> Cascade | None:
        """Return the cascade for the committee's graph, or None if the export has no gates."""
        if not self.committee:
            return None
        places = [int(name.removeprefix("branch_")) for name in self.committee.members]
        branches, costs = self.model.branches, manifest_content.branch_costs(self.run)
        return Cascade(
            committee=self.committee,
            networks=[functools.partial(branches[s], training=False) for s in places],
            costs=[costs[s]["macs"] for s in places],
            classes=len(self.run.data["class_names"]),
        )

    def make(self) -> None:
        """Write all files, the manifest and the model card; with SavedModels, put a version for serving in `staged`."""
        pipeline, images = self.pipeline, self.pipeline.images
        items = [
            Item(member=member, entry=manifest_content.member_entry(self.run, member), expected=self._expected(member))
            for member in self.members()
        ]
        chosen = pipeline.write(items)
        ensemble = self._measure_ensemble(chosen)
        pipeline.describe(items, chosen)
        if SAVED_MODEL in pipeline.formats:
            self._stage([item.member for item in items])
        content = manifest_content.run_manifest(
            self.run, self.model, [item.entry for item in items], images, self.committee
        )
        content["comparison"]["ensemble_of_branches"] = ensemble
        if self.committee and images.logits is not None:
            content["comparison"]["cascade"] = run_gates.measure_cascade(
                self.committee, images, manifest_content.branch_costs(self.run)
            )
        (pipeline.folder / manifest.NAME).write_text(manifest.text(content), encoding="utf-8")
        (pipeline.folder / "README.md").write_text(manifest_content.run_card(self.run, content), encoding="utf-8")

    def _stage(self, members: Sequence[ExportMember]) -> None:
        for member in members:
            path = self.pipeline.saved_model(member.name)
            stops_early = member.cascade is not None
            tf_serving.stage(path, self.staged / member.name, member.name, member.image_size, stops_early)

    def _expected(self, member: ExportMember) -> np.ndarray | None:
        """Return the logits [N, C] of a branch, or the combined ones of the committee, for the comparison images.

        Returns None if there are no such images.
        """
        logits = self.pipeline.images.logits
        if logits is None:
            return None
        if member.name == COMMITTEE:
            return combine(logits, member.average)
        return logits[:, int(member.name.removeprefix("branch_"))]

    def _measure_ensemble(self, chosen: dict[str, list[MemberFiles]]) -> dict[str, Any]:
        if self.pipeline.images.logits is None:
            return {}
        average = self.run.config.cotraining.average
        branches = [[each for each in files if each.name != COMMITTEE] for files in chosen.values()]
        return {kind: scores for files in branches for kind, scores in measure_ensemble(files, average).items()}


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
    """Export a run of image classification to the folder `out`, whose files are all replaced in one step at the end.

    If `formats` has saved_model, OUT/tf_serving also gets one more version.

    Args:
        formats: names as in --formats.
        conversions: kinds of files, their batch size, and the accuracy that they may lose.
        compare: number of images on which files are compared with their networks; 0 = none.
        calibrate: number of training images that calibrate int8 files.
        data_dir: folder of the TFDS data, as --data_dir; "" = that of the training.
        keep_versions: number of versions that models.config lists for TensorFlow Serving, counting the new one; a
            version that is no longer listed is deleted one export later.
        say: prints one line of progress.
        committee: branches of the run with gates; adds the signature `cascade`.
    """
    run.check_images(
        "exports",
        "use predict.py, or save a branch from Python: trained_run(WORKDIR).network().branches[0].save('branch.keras')",
    )
    if not all(np.isfinite(array).all() for array in run.arrays.values()):
        raise UserError(
            f"{run.workdir}/best holds weights that are NaN or infinite: the training diverged; train again"
        )
    with folder.making(out) as place:
        model = run.network(precision="float32")
        calibrate = calibrate if TFLite.name in formats and "int8" in conversions.kinds else 0
        images = ComparisonImages()
        if any(name != SAVED_MODEL for name in formats):
            images = ComparisonImages.load(run, model, place, data_dir, compare, calibrate)
        pipeline = Pipeline(formats=formats, place=place, say=say, conversions=conversions, images=images)
        work = RunExport(run=run, model=model, pipeline=pipeline, committee=committee)
        work.make()
        folder.publish(out, pipeline.folder)
        if SAVED_MODEL in formats:
            version = tf_serving.publish(out, work.staged, keep_versions)
            say(f"version {version} in {out / tf_serving.FOLDER}")
