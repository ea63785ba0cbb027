"""A trained run on one of its splits: predictions and evaluation, written into its folder."""

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dico_tf.data import source as sources
from dico_tf.data.pipeline import plain_faults
from dico_tf.errors import UserError
from dico_tf.evaluation import predictions, report, scene_predictions, scenes
from dico_tf.training import passes
from dico_tf.training.assemble import TrainedRun
from dico_tf.training.progress import Bar
from dico_tf.training.run import splits
from dico_tf.training.workdir import write_text


def images(run: TrainedRun, data_dir: str = "") -> dict[str, Any]:
    """The run's splits, which must still be the images it was trained with."""
    config = run.config
    data = dataclasses.replace(config.data, data_dir=data_dir or config.data.data_dir)
    source = sources.load(data, config.run.seed)
    if source.fingerprint != run.data["fingerprint"]:
        raise UserError(f"the images of {source.name} are not those {run.workdir} was trained with")
    return splits(config, source)


def judge(run: TrainedRun, model, name: str, parts: dict[str, Any]) -> dict[str, Any]:
    """evaluation_<split>.json, as written; for test also as evaluation.json and predictions.npz."""
    if name not in parts:
        raise UserError(f"--split={name}: {run.data['name']} has no such images; it has {', '.join(parts)}")
    split, folder = parts[name], run.workdir
    bar = Bar(f"evaluating {name}", split.size)
    try:
        with plain_faults():
            if run.config.data.task == "segmentation":
                kept, found = scenes.evaluate(run, model, name, split, bar)
                save = functools.partial(scene_predictions.write, predictions=kept)
            else:
                found, save = _evaluate(run, model, name, split, bar)
    finally:
        bar.close()
    _write(folder, name, save, found)
    return found


def _evaluate(run: TrainedRun, model, name: str, split, bar: Bar) -> tuple[dict[str, Any], Callable[[Path], None]]:
    logits = passes.predict(model, split, run.config.run.evaluation_batch_size, bar)
    found = report.evaluate(
        logits,
        split.labels,
        average=run.config.cotraining.average,
        split=name,
        select=run.best["select"],
        weights=run.best["weights"],
        class_names=run.data["class_names"],
    )
    return found, functools.partial(predictions.write, logits=logits, labels=split.labels, ids=split.ids)


def _write(folder: Path, name: str, save: Callable[[Path], None], found: dict[str, Any]) -> None:
    for suffix in ("_test", "") if name == "test" else (f"_{name}",):
        save(folder / f"predictions{suffix}.npz")
        try:
            write_text(folder / f"evaluation{suffix}.json", json.dumps(found, indent=1) + "\n")
        except OSError as error:
            raise UserError(f"cannot write into {folder}: {error.strerror}") from None
