"""Training from a Config: claim the folder, assemble, loop, say what it bought."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from dico_tf.config import Config, Data, NetworkOptions
from dico_tf.data import source as sources
from dico_tf.data.class_counts import class_counts
from dico_tf.data.source import Source, Split
from dico_tf.data.validation import carve
from dico_tf.divide import weight_decay
from dico_tf.errors import UserError
from dico_tf.files import atomic, json_files
from dico_tf.files.json_files import read_of_run
from dico_tf.models.audit import audit
from dico_tf.models.menu import PRESETS, find
from dico_tf.training import build, variables, workdir
from dico_tf.training.checkpoints import Checkpoints
from dico_tf.training.loop import Loop
from dico_tf.training.optimizers import optimizer
from dico_tf.training.strategy import Devices, devices, share, share_threads
from dico_tf.views.policies import parse_all


def splits(config: Config, source: Source) -> dict[str, Split]:
    """train and, where there are such images, validation and test; calibration and test never meet."""
    found = dict(source.splits)
    if "train" not in found:
        raise UserError(
            f"{source.name} has no images to train with: a table of labels needs a column split with train, val or test"
        )
    if "val" in found:
        found["validation"] = found.pop("val")
    elif config.data.validation:
        found["train"], found["validation"] = carve(found["train"], config.data.validation, config.run.seed)
    return {name: split for name, split in found.items() if split is not None}


def _needed_space(model, config: Config) -> int:
    """Checkpoints being kept and written, and the best: weights, momenta and averages."""
    weights, progress = variables.size(variables.weights(model)), variables.size(variables.progress(model))
    return (config.run.keep + 1) * (weights + progress) + 2 * weights


def _build(config: Config, place: Devices, data: dict[str, Any], reference: Any, steps_per_epoch: int):
    keras.utils.set_random_seed(config.run.seed)
    with place.strategy.scope():
        model = build.network(config, data, reference)
        build.check_rows(model, config, place.strategy.num_replicas_in_sync)
        decay = weight_decay.of_branch(config, data["image_size"])
        networks = len(model.learners)
        model.compile(optimizer(config.optimisation, steps_per_epoch, decay, model.branch_variables, networks))
        if not model.optimizer.built:  # mixed_float16 wraps it
            model.optimizer.build(model.branch_variables)
    return model


def _check_division(network: NetworkOptions) -> None:
    """Says what cannot be before data are read; a budget is searched when the image size is known."""
    if network.model in PRESETS and network.division == "published":
        PRESETS[network.model].divided(network.splits)


def _reference(config: Config, folder: Path, known: bool) -> str | dict[str, Any]:
    """What finds the network: a run that continues keeps its own, though the file it came from be gone."""
    kept = read_of_run(folder / "config.json").get("network") if known else None
    return kept or find(config.network.model).reference


OpenTeacher = Callable[[Config, Source, Split, Callable[[str], None]], Any]


def train(
    config: Config, flags_text: str, say: Callable[[str], None], open_teacher: OpenTeacher | None = None
) -> dict[str, Any]:
    """Train or continue a run; return its summary, which is also in summary.json.

    Args:
        open_teacher: returns the model that --teacher names, with its `checksum`; see `DiCo.learn_from`.

    Raises:
        Stopped: after a signal.
    """
    asked = build.wanted(config)
    _check_division(config.network)
    parse_all(config.views.views, config.network.splits, config.data.task)
    folder = Path(config.run.workdir) if config.run.workdir else workdir.default(config)
    share_threads(config.network.splits)
    place = devices(config.machine.strategy)
    share(config.optimisation.batch_size, place)
    claim = workdir.Claim(folder) if place.chief else None
    try:
        return _train(config, asked, flags_text, say, folder, place, open_teacher)
    finally:
        if claim:
            claim.release()


def _train(
    config: Config,
    asked: Data,
    flags_text: str,
    say: Callable[[str], None],
    folder: Path,
    place: Devices,
    open_teacher: OpenTeacher | None,
) -> dict[str, Any]:
    known = workdir.check_same(folder, config)
    reference = _reference(config, folder, known)
    source = sources.load(asked, config.run.seed)
    parts = splits(config, source)
    _check_sizes(config, source, parts)
    data, teacher = build.facts(source), None
    if config.cotraining.class_weights == ("balanced",):
        data["class_counts"] = class_counts(parts["train"], len(source.class_names))
    if config.cotraining.teacher and open_teacher:
        with place.strategy.scope():
            teacher = open_teacher(config, source, parts["train"], say)
        data["teacher"] = teacher.checksum
    if known:
        _check_unchanged(folder, data)
    del source  # or what was carved would be in memory twice, as long as the run lasts
    model = _build(config, place, data, reference, parts["train"].size // config.optimisation.batch_size)
    if teacher:
        model.learn_from(teacher)
    if place.chief:
        workdir.check_space(folder, _needed_space(model, config))
    checkpoints = Checkpoints(folder, config.run.keep, workdir.run_identity(config), place.chief)
    loop = Loop(config, place, model, parts["train"], parts[config.run.select], checkpoints, say)
    loop.resume()
    if not loop.step and config.run.init_from:
        _say_carried(build.start_from(model, config.run.init_from), config.run.init_from, say)
    if place.chief:  # of a run that continues, too: what is free may have changed
        json_files.write(folder / "config.json", workdir.describe(config, data, reference))
        atomic.write_text(folder / "run.flags", flags_text)
    say(_opening(config, folder, place, parts))
    return _loop_and_sum_up(config, loop, folder, place, data)


def _check_sizes(config: Config, source: Source, parts: dict[str, Split]) -> None:
    if config.run.select not in parts:
        raise UserError(f"--select={config.run.select}: {source.name} has no such images; it has {', '.join(parts)}")
    if parts["train"].size < config.optimisation.batch_size:
        raise UserError(
            f"--batch_size={config.optimisation.batch_size} is more than the {parts['train'].size} training images"
        )


def _say_carried(carried: Any, origin: str, say: Callable[[str], None]) -> None:
    remarks = {"fresh": carried.fresh, "never run and left out": carried.unused}
    details = [f"{what}: {_listed(names)}" for what, names in remarks.items() if names]
    say(", ".join([f"weights from {origin}", *details]))


def _listed(names: list[str]) -> str:
    """All of a few; of more how many, and the layers they begin and end with."""
    return ", ".join(names) if len(names) <= 8 else f"{len(names)} variables, {names[0]} to {names[-1]}"


def _loop_and_sum_up(config: Config, loop: Loop, folder: Path, place: Devices, data: dict[str, Any]) -> dict[str, Any]:
    started = time.monotonic()

    def summarize(status: str) -> dict[str, Any]:
        summary = _summary(config, loop, data, time.monotonic() - started, status)
        if place.chief:
            json_files.write(folder / "summary.json", summary)
        return summary

    try:
        loop.run()
    except BaseException as error:  # a signal, too
        try:
            summarize("failed" if isinstance(error, UserError) else "stopped")
        except UserError as second:  # never in the place of the error that ended the training
            logging.getLogger(__name__).warning("%s", second)
        raise
    return {**summarize("finished"), "workdir": str(folder), "chief": place.chief}


def _check_unchanged(folder: Path, data: dict[str, Any]) -> None:
    """Raise UserError where a run's images or teacher are not those it was begun with."""
    before = read_of_run(folder / "config.json")["data"]
    if before["fingerprint"] != data["fingerprint"]:
        raise UserError(
            f"the images of {data['name']} changed since --workdir={folder} was begun: give another --workdir"
        )
    if before.get("teacher") != data.get("teacher"):
        raise UserError(
            f"--teacher is another model, or has other weights, than when --workdir={folder} was begun: give that "
            "model, or another --workdir"
        )


def _opening(config: Config, folder: Path, place: Devices, parts: dict[str, Split]) -> str:
    counts = ", ".join(f"{part.size} {name}" for name, part in parts.items())
    replicas = place.strategy.num_replicas_in_sync
    each = f" of {config.cotraining.submodels} submodels" if "cosub" in config.cotraining.method else ""
    return (
        f"{config.network.model} in {config.network.splits} branches{each} on {config.data.dataset} ({counts}); "
        f"{replicas} replica{'s' if replicas > 1 else ''}, {config.machine.precision}; folder {folder}"
    )


def _summary(config: Config, loop: Loop, data: dict[str, Any], seconds: float, status: str) -> dict[str, Any]:
    network = find(loop.model.get_config()["model"])
    report = audit(config, data["image_size"], len(data["class_names"]), network)
    best = next((row for row in loop.rows if loop.best and row["epoch"] == loop.best["epoch"]), None)
    select = config.run.select
    name = f"{select}_ema" if config.optimisation.evaluate_ema else select
    judged = loop.model.scores.judged
    final = best and {"branches": best[name][judged.replace("ensemble", "branch")], "ensemble": best[name][judged]}
    return {
        "model": config.network.model,
        "splits": config.network.splits,
        "params": {"whole": report["whole_params"], "branches": report["total_params"]},
        "macs": {"whole": report["whole_macs"], "branches": report["total_macs"]},
        "epochs": loop.epochs_done,
        "steps": loop.step,
        "seconds": round(sum(row["seconds"] for row in loop.rows), 1),
        "seconds_of_last_start": round(seconds, 1),
        "best_epoch": loop.best and loop.best["epoch"],
        "select": select,
        "selected_on_test": select == "test",
        "final": final,
        "status": status,
    }
