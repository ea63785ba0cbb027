"""Train or continue a run from its Config."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from dico_tf.config import Config, RunOptions
from dico_tf.cotrain.dico import DiCo
from dico_tf.data import source as sources
from dico_tf.data.source import Source, Split
from dico_tf.data.splits import carve, class_counts, reduced
from dico_tf.errors import UserError
from dico_tf.files import atomic, json_files
from dico_tf.files.json_files import read_of_run
from dico_tf.models.audit import audit, remarks
from dico_tf.models.branch_list import BranchList
from dico_tf.models.presets import PRESETS, branch_weight_decay, check_task, find
from dico_tf.models.torch_weights import Carried
from dico_tf.training import build, variables, workdir
from dico_tf.training.averaging import recalibrate
from dico_tf.training.checkpoints import Checkpoints
from dico_tf.training.loop import Loop
from dico_tf.training.optimizers import optimizer
from dico_tf.training.sliced_start import start_from_slices
from dico_tf.training.strategy import Devices, devices, share, share_threads
from dico_tf.views.policies import parse_all


def splits(config: Config, source: Source) -> dict[str, Split]:
    """Return the splits train, validation and test of a run, as far as there are images for them.

    Validation is the source's val split. Without one, --validation images are set aside from train, never from test.
    Then --train_images and --label_noise change train.
    """
    parts = dict(source.splits)
    if "train" not in parts:
        raise UserError(
            f"{source.name} has no training images: a table of labels needs rows with train in a column `split`"
        )
    if "val" in parts:
        parts["validation"] = parts.pop("val")
    elif config.data.validation:
        parts["train"], parts["validation"] = carve(parts["train"], config.data.validation, config.run.seed)
    data, classes = config.data, len(source.class_names)
    parts["train"] = reduced(parts["train"], data.train_images, data.label_noise, classes, config.run.seed)
    return {name: split for name, split in parts.items() if split is not None}


def _needed_space(model, config: Config) -> int:
    """Return the bytes that checkpoints of a run need: those that stay, and best/, and a new one of each."""
    weights, progress = variables.size(variables.weights(model)), variables.size(variables.progress(model))
    return (config.run.keep + 1) * (weights + progress) + 2 * weights


def _build(config: Config, place: Devices, data: dict[str, Any], reference: Any, steps_per_epoch: int):
    keras.utils.set_random_seed(config.run.seed)
    with place.strategy.scope():
        model = build.network(config, data, reference)
        build.check_rows(model, config, place.strategy.num_replicas_in_sync)
        decay = branch_weight_decay(config, data["image_size"])
        networks = [len(learner.trainable_variables) for learner in model.learners]
        model.compile(optimizer(config.optimisation, steps_per_epoch, decay, model.branch_variables, networks))
        if not model.optimizer.built:  # mixed_float16 wraps it
            model.optimizer.build(model.branch_variables)
    return model


def _check_network(config: Config) -> None:
    """Raise UserError if the model is not for the task, or cannot be divided by --division=published."""
    network = config.network
    if config.branch_list.branches:
        return
    check_task(network.model, config.data.task)
    if network.model in PRESETS and network.division == "published":
        PRESETS[network.model].divided(network.splits)


def _reference(config: Config, folder: Path, known: bool) -> str | dict[str, Any]:
    """Return the network's name or description; for a `known` run, which continues, the saved one, not its file's."""
    saved = read_of_run(folder / "config.json").get("network") if known else None
    return saved or find(config.network.model).reference


OpenTeacher = Callable[[Config, Source, Split, Callable[[str], None]], Any]
OpenBranches = Callable[[Config], Any]


def train(
    config: Config,
    flags_text: str,
    say: Callable[[str], None],
    open_teacher: OpenTeacher | None = None,
    open_branches: OpenBranches | None = None,
) -> dict[str, Any]:
    """Train or continue a run. Return the content of summary.json, and the entries `workdir`, `chief` and `parts`.

    `parts` are the splits of the run.

    Args:
        flags_text: content of run.flags.
        say: prints a line.
        open_teacher: returns the model that --teacher names, with its `checksum`; see `DiCo.learn_from`.
        open_branches: returns the networks that --branches names, an `OpenedBranches`; needed with that flag.

    Raises:
        Stopped: after a signal.
        UserError: if the run cannot start, or a loss is not finite.
    """
    _check_network(config)
    parse_all(config.views.views, config.network.splits, config.data.task)
    folder = workdir.folder_of(config)
    share_threads(config.network.splits)
    place = devices(config.machine.strategy)
    share(config.optimisation.batch_size, place)
    claim = workdir.Claim(folder) if place.chief else None
    try:
        return _train(config, flags_text, say, folder, place, open_teacher, open_branches)
    finally:
        if claim:
            claim.release()


def _train(
    config: Config,
    flags_text: str,
    say: Callable[[str], None],
    folder: Path,
    place: Devices,
    open_teacher: OpenTeacher | None,
    open_branches: OpenBranches | None,
) -> dict[str, Any]:
    known = workdir.check_same(folder, config)
    opened = open_branches(config) if config.branch_list.branches and not known else None
    reference = opened.network.reference if opened else _reference(config, folder, known)
    source = sources.load(build.data_options(config, reference), config.run.seed)
    parts = splits(config, source)
    _check_sizes(config, source, parts)
    data, teacher = build.facts(source, find(reference)), None
    if config.data.train_images or config.data.label_noise:
        data["trained_on"] = {"images": parts["train"].size, "label_noise": config.data.label_noise}
    if config.cotraining.class_weights == ("balanced",):
        data["class_counts"] = class_counts(parts["train"], len(source.class_names))
    if config.cotraining.teacher and open_teacher:
        with place.strategy.scope():
            teacher = open_teacher(config, source, parts["train"], say)
        data["teacher"] = teacher.checksum
    if known:
        _check_unchanged(folder, data)
    data.update(build.owner_frozen(config, folder if known else None, opened and opened.owner_frozen))
    del source  # otherwise the images set aside would stay in memory twice
    model = _build(config, place, data, reference, parts["train"].size // config.optimisation.batch_size)
    if teacher:
        model.learn_from(teacher)
    if place.chief:
        workdir.check_space(folder, _needed_space(model, config))
    checkpoints = Checkpoints(folder, config.run.keep, workdir.run_identity(config), place.chief)
    loop = Loop(config, place, model, parts["train"], parts[config.run.select], checkpoints, say)
    loop.resume()
    if not loop.step:
        _start(config, model, loop, say)
    if not loop.step and config.branch_list.branches:  # also if a run was killed before its first checkpoint
        (opened or open_branches(config)).fill(model)
        _say_branches(model, find(reference), say)
    if place.chief:  # also when a run continues: some settings may change
        json_files.write(folder / "config.json", workdir.describe(config, data, reference))
        atomic.write_text(folder / "run.flags", flags_text)
    say(_first_line(config, folder, place, parts))
    if not loop.step:
        for line in remarks(_audit(config, loop, data)):
            say(line)
    return {**_loop_and_sum_up(config, loop, folder, place, data), "parts": parts}


def _check_sizes(config: Config, source: Source, parts: dict[str, Split]) -> None:
    if config.run.select not in parts:
        others = [name for name in parts if name != "train"]
        remedy = f"give --select={others[0]}" if others else "give --select=validation and a --validation above 0"
        raise UserError(f"--select={config.run.select}: {source.name} has no such split; {remedy}")
    if parts["train"].size < config.optimisation.batch_size:
        raise UserError(
            f"--batch_size={config.optimisation.batch_size} is more than the {parts['train'].size} training images: "
            "give a smaller batch"
        )


def _load(model: DiCo, options: RunOptions, loop: Loop) -> Carried:
    """Load the weights of --init_from; with --init=slices, recompute the statistics of batch normalisation."""
    if options.init == "weights":
        return build.start_from(model, options.init_from)
    carried = start_from_slices(model, options.init_from)
    recalibrate(model, loop.recalibration_batches())
    return carried


def _start(config: Config, model: DiCo, loop: Loop, say: Callable[[str], None]) -> None:
    """Load the weights of --init_from, if there are any, and say which weights and layers are new or never learn."""
    origin, file = config.run.init_from, config.network.model
    if not origin:
        if not config.branch_list.branches and isinstance(model.settings.model, dict):
            say(f"{file} gives the architecture; add --init_from={file} to start from its weights")
        return
    carried = _load(model, config.run, loop)
    remarks = {"fresh": carried.fresh, "not used": carried.unused}
    details = [f"{what}: {_listed(names, 'variables')}" for what, names in remarks.items() if names]
    say(", ".join([f"weights from {origin}", *details]))
    _say_frozen(origin, model.backbones.owner_frozen, say)
    if config.run.init == "slices" and (frozen := build.frozen_in(origin, 1)):
        layers = [name.removeprefix("branch_0/") for names in frozen.values() for name in names]
        say(
            f"frozen or called with training=False in {origin}, but their slices learn: "
            f"{_listed(list(dict.fromkeys(layers)), 'layers')}"
        )


def _say_branches(model: DiCo, network: BranchList, say: Callable[[str], None]) -> None:
    """Say which network each of --branches is, and which of its layers never learn."""
    for s, branch in enumerate(network.listed):
        say(f"branch_{s}: {branch.source} at {branch.image_size} pixels, with its weights and a new head")
        own = [name for name in model.backbones.owner_frozen if name.startswith(f"branch_{s}/")]
        _say_frozen(branch.source, own, say)


def _say_frozen(origin: str, layers: list[str], say: Callable[[str], None]) -> None:
    if layers:
        say(f"frozen in {origin}, and so in all epochs: {_listed(layers, 'layers')}")


def _listed(names: list[str], noun: str) -> str:
    """Return a few names in full; of more, their number and the first and last."""
    return ", ".join(names) if len(names) <= 8 else f"{len(names)} {noun}, {names[0]} to {names[-1]}"


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
        except UserError as second:  # must not replace the error that ended the training
            logging.getLogger(__name__).warning("the training stopped, and its summary is not saved: %s", second)
        raise
    return {**summarize("finished"), "workdir": str(folder), "chief": place.chief}


def _check_unchanged(folder: Path, data: dict[str, Any]) -> None:
    """Raise UserError if the images or the teacher changed since the run was started."""
    before = read_of_run(folder / "config.json")["data"]
    if before["fingerprint"] != data["fingerprint"]:
        raise UserError(
            f"the images, labels or classes of {data['name']} changed since --workdir={folder} was started: give "
            "another --workdir"
        )
    if before.get("teacher") != data.get("teacher"):
        raise UserError(
            f"--teacher is another model, or has other weights, than when --workdir={folder} was started: give the "
            "same model, or another --workdir"
        )


def _first_line(config: Config, folder: Path, place: Devices, parts: dict[str, Split]) -> str:
    counts = ", ".join(f"{part.size} {name}" for name, part in parts.items())
    replicas = place.strategy.num_replicas_in_sync
    each = f" of {config.cotraining.submodels} submodels" if "cosub" in config.cotraining.method else ""
    return (
        f"{config.title} in {config.network.splits} branches{each} on {config.data.dataset} ({counts}); "
        f"{replicas} replica{'s' if replicas > 1 else ''}, {config.machine.precision}; folder {folder}"
    )


def _summary(config: Config, loop: Loop, data: dict[str, Any], seconds: float, status: str) -> dict[str, Any]:
    report = _audit(config, loop, data)
    best = next((row for row in loop.rows if loop.best and row["epoch"] == loop.best["epoch"]), None)
    select = config.run.select
    name = f"{select}_ema" if config.optimisation.evaluate_ema else select
    score = loop.model.scores.best_by
    final = best and {"branches": best[name][score.replace("ensemble", "branch")], "ensemble": best[name][score]}
    return {
        "model": config.title,
        "splits": config.network.splits,
        "branches": report["branches"],
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
        "stopped_early": loop.stopped_early,
        "status": status,
        "advice": report["advice"],
    }


def _audit(config: Config, loop: Loop, data: dict[str, Any]) -> dict[str, Any]:
    """Return the audit of the network that a run trains, on its own classes and training images."""
    network = find(loop.model.get_config()["model"])
    return audit(config, data["image_size"], len(data["class_names"]), network, loop.train.size)
