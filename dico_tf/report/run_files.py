"""Files of a run's folder, as far as they exist and can be read."""

import contextlib
import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np

from dico_tf.committee import committee_file
from dico_tf.errors import UserError
from dico_tf.files import arrays, json_files, member_kinds, tables

SPLITS = ("test", "validation", "train")  # the page shows the first that was evaluated


@dataclasses.dataclass(frozen=True)
class RunFiles:
    """The folder of a run. A file that is missing or damaged, or that the run's version did not write, is None."""

    folder: Path

    @functools.cached_property
    def record(self) -> dict[str, Any]:
        """Content of config.json. Raises UserError if it is missing: the folder is not that of a run."""
        return json_files.read_of_run(self.folder / "config.json")

    @functools.cached_property
    def summary(self) -> dict[str, Any] | None:
        return self._json("summary.json")

    @functools.cached_property
    def evaluations(self) -> dict[str, dict[str, Any]]:
        """Evaluations by split, in the order of SPLITS."""
        contents = {split: self._json(f"evaluation_{split}.json") for split in SPLITS}
        contents["test"] = contents["test"] or self._json("evaluation.json")
        return {split: content for split, content in contents.items() if content}

    @functools.cached_property
    def evaluation(self) -> dict[str, Any] | None:
        return next(iter(self.evaluations.values()), None)

    @property
    def segmentation(self) -> bool:
        return bool(self.evaluation) and self.evaluation.get("task") == "segmentation"

    @functools.cached_property
    def epochs(self) -> list[dict[str, Any]]:
        """Rows of metrics.jsonl, up to the first damaged one."""
        rows = []
        with contextlib.suppress(OSError, ValueError):
            for line in (self.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
                rows.append(json.loads(line))
        return [row for row in rows if isinstance(row, dict) and "epoch" in row]

    @functools.cached_property
    def predictions(self) -> tables.Predictions | None:
        """Predictions of a classifier for the split of `evaluation`."""
        if not self.evaluation or self.segmentation:
            return None
        with contextlib.suppress(UserError):
            predictions = tables.read_predictions(self.folder / f"predictions_{self.evaluation['split']}.npz")
            same = predictions.logits.shape[1:] == (len(self.evaluation["branches"]), self._classes)
            return predictions if same and np.isfinite(predictions.logits).all() else None

    @property
    def _classes(self) -> int:
        return len(self.evaluation["class_names"])

    @functools.cached_property
    def views(self) -> dict[str, np.ndarray] | None:
        return self._arrays("views.npz")

    @functools.cached_property
    def gallery(self) -> dict[str, np.ndarray] | None:
        return self._arrays(f"gallery_{self.evaluation['split']}.npz") if self.evaluation else None

    @functools.cached_property
    def committees(self) -> dict[str, committee_file.CommitteeFile]:
        """Ensembles and cascades of this run's branches, by file, in this folder and in its subfolders."""
        result = {}
        for path in (*self.folder.glob("committee.json"), *sorted(self.folder.glob("*/committee.json"))):
            with contextlib.suppress(UserError):
                content = committee_file.load(path)
                if self._is_of_this_run(content):
                    result[str(path.relative_to(self.folder))] = content
        return result

    def _is_of_this_run(self, committee: committee_file.CommitteeFile) -> bool:
        """Return True if the committee is of branches that scored on the test images as the evaluation says."""
        evaluation, results = self.evaluation, committee.results
        if not evaluation or self.segmentation or evaluation["split"] != "test" or results.get("measure") != "macs":
            return False
        branches = {f"branch_{s}": scores["top1"] for s, scores in enumerate(evaluation["branches"])}
        accuracies = {row["name"]: row.get("test", {}).get("accuracy") for row in results["rows"]}
        return len(committee.members) > 1 and all(
            member.kind == member_kinds.RUN
            and None not in (branches.get(member.name), accuracies.get(member.name))
            and abs(accuracies[member.name] - branches[member.name]) < 1e-6
            for member in committee.members
        )

    def _json(self, name: str) -> dict[str, Any] | None:
        with contextlib.suppress(UserError):
            return json_files.read_of_run(self.folder / name)

    def _arrays(self, name: str) -> dict[str, np.ndarray] | None:
        with contextlib.suppress(UserError, FileNotFoundError):
            return arrays.read(self.folder / name)
