"""Evaluation of a trained run on one of its splits; results are written into the run's folder."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dico_tf.config import clips_and_crops
from dico_tf.data import source as sources
from dico_tf.data.pipeline import plain_faults
from dico_tf.data.segmentation import SegmentationSplit
from dico_tf.data.source import Split
from dico_tf.errors import UserError
from dico_tf.evaluation import evaluate_segmentation, gallery, report, segmentation_predictions
from dico_tf.evaluation.summary import describe, final_scores
from dico_tf.files import json_files
from dico_tf.files.tables import write_predictions
from dico_tf.models.presets import find
from dico_tf.training import steps
from dico_tf.training.build import TrainedRun, data_options, trained_run
from dico_tf.training.progress import Bar
from dico_tf.training.run import splits

Evaluated = tuple[dict[str, Any], Callable[[Path], None]]  # an evaluation, and a function that writes its predictions


def load_splits(run: TrainedRun, data_dir: str = "") -> dict[str, Any]:
    """Load a run's data and return its splits by name. Raises UserError if the data has changed since the training.

    Args:
        data_dir: folder of the TFDS data, as --data_dir; "" = that of the training.
    """
    config = run.config
    data = data_options(config, run.reference)
    data = dataclasses.replace(data, data_dir=data_dir or data.data_dir)
    source = sources.load(data, config.run.seed)
    if source.fingerprint != run.data["fingerprint"]:
        raise UserError(
            f"{source.name} is not the data that {run.workdir} was trained with: its name, image size, classes, "
            "labels, image names or video lengths differ; restore the data of the training"
        )
    return splits(config, source)


def summarize(workdir: str | Path, parts: dict[str, Any]) -> str:
    """Evaluate a run's best weights on validation and test, add `final` to summary.json, and return `describe` of it.

    The table and `final` have the scores on test, or on validation if there is no test split. The evaluation and
    predictions files of both splits are written, too.

    Args:
        parts: all splits of the run, as load_splits returns them.
    """
    run = trained_run(workdir)
    model = run.network()
    evaluations = {name: evaluate_split(run, model, name, parts) for name in ("validation", "test") if name in parts}
    evaluation = evaluations.get("test") or evaluations["validation"]
    summary = json_files.read_of_run(run.workdir / "summary.json")
    summary["final"] = final_scores(evaluation)
    json_files.write(run.workdir / "summary.json", summary)
    return describe(summary, evaluation)


def evaluate_split(run: TrainedRun, model, name: str, parts: dict[str, Any], test_views: str = "") -> dict[str, Any]:
    """Evaluate a split, write evaluation_<split>.json and predictions_<split>.npz, and return the evaluation.

    The test split is also written as evaluation.json and predictions.npz. For the run's page, a classifier's
    gallery_<split>.npz is written, too.

    Args:
        model: the run's network, as run.network() returns it.
        name: of the split.
        parts: all splits of the run, as load_splits returns them.
        test_views: clips of each video x crops of each clip that are averaged, e.g. "10x3"; "" = the run's own.
    """
    if name not in parts:
        raise UserError(f"--split={name}: {run.workdir} has no such split: choose one of {', '.join(parts)}")
    split, folder = parts[name], run.workdir
    if test_views and not split.videos:
        raise UserError(
            f"--test_views={test_views} is for video, and {run.workdir} was trained on images: leave it out"
        )
    views = clips_and_crops(test_views or run.config.run.test_views)
    evaluate = _segmentation if isinstance(split, SegmentationSplit) else _classification
    bar = Bar(f"evaluating {name}", split.size)
    try:
        with plain_faults():
            evaluation, save = evaluate(run, model, name, split, bar, views)
    finally:
        bar.close()
    _write(folder, name, save, evaluation)
    return evaluation


def _classification(run: TrainedRun, model, name: str, split: Split, bar: Bar, views: tuple[int, int]) -> Evaluated:
    logits = steps.predict(model, split, run.config.run.evaluation_batch_size, bar, views)
    evaluation = report.evaluate(
        logits,
        split.labels,
        average=run.config.cotraining.average,
        split=name,
        select=run.best["select"],
        weights=run.best["weights"],
        class_names=run.data["class_names"],
    )
    if split.videos:
        evaluation["views"] = _views(run, split, views)
    gallery.write(run.workdir, name, split, logits, evaluation["average"])
    return evaluation, functools.partial(write_predictions, logits=logits, labels=split.labels, ids=split.ids)


def _segmentation(
    run: TrainedRun, model, name: str, split: SegmentationSplit, bar: Bar, views: tuple[int, int]
) -> Evaluated:
    predictions, evaluation = evaluate_segmentation.evaluate(run, model, name, split, bar)
    return evaluation, functools.partial(segmentation_predictions.write, predictions=predictions)


def _views(run: TrainedRun, split: Split, views: tuple[int, int]) -> dict[str, int]:
    """Return the numbers of clips and crops averaged for a video, their size, and the multiply-adds of all branches.

    The multiply-adds are the sum of the branches, for one view (`macs_of_view`) and for all views (`macs`).

    Args:
        views: numbers of clips and of crops.
    """
    clips, crops = views
    size, classes, network = run.data["image_size"], len(run.data["class_names"]), run.config.network
    seen = split.views(*views)[0].image_size
    whole = find(run.reference or network.model).with_frames(run.data["frames"])
    branch = whole.divided(network.splits, network.division, size, classes)
    macs = network.splits * branch.cost(size, classes, seen).macs
    return {"clips": clips, "crops": crops, "size": seen, "macs_of_view": macs, "macs": macs * clips * crops}


def _write(folder: Path, name: str, save: Callable[[Path], None], evaluation: dict[str, Any]) -> None:
    for suffix in ("_test", "") if name == "test" else (f"_{name}",):
        save(folder / f"predictions{suffix}.npz")
        json_files.write(folder / f"evaluation{suffix}.json", evaluation)
