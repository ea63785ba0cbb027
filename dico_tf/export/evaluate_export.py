"""The LiteRT files of an export on one of its run's splits, scored as the run itself is."""

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
    """What evaluation_<split>.json would hold if the branches' files had answered; nothing is written."""
    found = manifest.load(path)
    if name not in parts:
        raise UserError(f"--split={name}: {run.data['name']} has no such images; it has {', '.join(parts)}")
    if found.content["source"]["fingerprint"] != run.data["fingerprint"]:
        raise UserError(f"{found.folder} was exported from a run on other images than {run.workdir}: give its own run")
    split = parts[name]
    with plain_faults():
        images = split.take(np.arange(split.size))
    logits = [_answers(found, branch, kind, images) for branch in found.branches]
    return report.evaluate(
        np.stack(logits, 1),
        split.labels,
        average=found.average,
        split=name,
        select=run.best["select"],
        weights=run.best["weights"],
        class_names=run.data["class_names"],
    )


def _answers(found: manifest.Manifest, branch: str, kind: str, images: np.ndarray) -> np.ndarray:
    manifest.verify(found, branch, kind)
    bar = Bar(f"{branch} as {kind}", len(images))
    try:
        return litert.run(found.path(branch, kind), images, lambda count: bar.advance(count, {})).logits
    finally:
        bar.close()
