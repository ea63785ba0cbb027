"""Evaluation of an export's LiteRT files on one of its run's splits."""

from pathlib import Path
from typing import Any

import numpy as np

from dico_tf.data.pipeline import plain_faults
from dico_tf.errors import UserError
from dico_tf.evaluation import report
from dico_tf.export import litert
from dico_tf.files import manifest
from dico_tf.training.build import TrainedRun
from dico_tf.training.progress import Bar


def evaluate_export(run: TrainedRun, path: str | Path, kind: str, name: str, parts: dict[str, Any]) -> dict[str, Any]:
    """Return the scores of an export's branches and their ensemble, in the form of evaluation_<split>.json.

    Writes nothing. Runs the branches' LiteRT files on every image of the split.

    Args:
        run: the run that was exported.
        path: manifest.json or folder of the export.
        kind: kind of the files, e.g. "int8".
        name: name of the split.
        parts: {name: split} of the run's data.
    """
    export = manifest.load(path)
    if name not in parts:
        raise UserError(f"--split={name}: {run.data['name']} has no such split: choose one of {', '.join(parts)}")
    if export.content["source"]["fingerprint"] != run.data["fingerprint"]:
        raise UserError(
            f"{export.folder} was exported from a run on other data than {run.workdir}: give the --workdir that was "
            "exported"
        )
    split = parts[name]
    with plain_faults():
        images = split.take(np.arange(split.size))
    logits = [_logits(export, branch, kind, images) for branch in export.branches]
    return report.evaluate(
        np.stack(logits, 1),
        split.labels,
        average=export.average,
        split=name,
        select=run.best["select"],
        weights=run.best["weights"],
        class_names=run.data["class_names"],
    )


def _logits(export: manifest.Manifest, branch: str, kind: str, images: np.ndarray) -> np.ndarray:
    manifest.verify(export, branch, kind)
    bar = Bar(f"{branch} as {kind}", len(images))
    try:
        return litert.run(export.path(branch, kind), images, lambda count: bar.advance(count, {})).logits
    finally:
        bar.close()
