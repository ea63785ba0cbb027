"""Every variable of a run under a stable name, and folders of arrays that are whole or refused."""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dico_tf.config import FORMAT
from dico_tf.errors import UserError
from dico_tf.training.workdir import read_json


def weights(model) -> dict[str, Any]:
    """Variables of the branches as branch_0/stem_conv/kernel: what is needed to answer."""
    named = {}
    for s, learner in enumerate(model.learners):
        for layer in learner.layers:
            for variable in layer.variables:
                named[f"branch_{s}/{layer.name}/{variable.name}"] = variable
    return named


def progress(model) -> dict[str, Any]:
    """Counters, optimizer and running means: what is needed to go on."""
    named = {name: getattr(model, name) for name in ("epoch", "step", "seen")}
    for i, variable in enumerate(model.optimizer.variables):
        named[f"optimizer/{i}/{variable.name}"] = variable
    for metric in model.metrics:
        for variable in metric.variables:
            named[f"metrics/{metric.name}/{variable.name}"] = variable
    return named


def averages(model) -> dict[str, Any]:
    """The moving average of each trainable variable, under the names of `weights`."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    names = {id(variable): name for name, variable in weights(model).items()}
    held = optimizer._model_variables_moving_average  # public only as an overwrite of the raw weights
    return {names[id(v)]: average for v, average in zip(model.branch_variables, held, strict=True)}


def read(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.asarray(variable.numpy()) for name, variable in variables.items()}


def size(variables: Mapping[str, Any]) -> int:
    """Bytes, without reading a value."""
    return sum(math.prod(v.shape) * np.dtype(v.dtype).itemsize for v in variables.values())


def assign(variables: Mapping[str, Any], arrays: Mapping[str, np.ndarray], origin: str) -> None:
    """All or nothing: names and shapes are compared before the first assignment."""
    missing = sorted(set(variables) - set(arrays))
    foreign = sorted(set(arrays) - set(variables))
    shapes = [
        f"{name} is {arrays[name].shape}, not {tuple(v.shape)}"
        for name, v in variables.items()
        if name in arrays and tuple(arrays[name].shape) != tuple(v.shape)
    ]
    faults = [f"{n} is missing" for n in missing] + [f"{n} is foreign" for n in foreign] + shapes
    if faults:
        more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
        raise UserError(f"{origin} is of another network: {'; '.join(faults[:3])}{more}")
    for name, variable in variables.items():
        variable.assign(arrays[name])


def write_folder(path: Path, parts: Mapping[str, Mapping[str, np.ndarray]], facts: Mapping[str, Any]) -> None:
    """PART.npz for each part and state.json with their checksums; appears whole, by one rename."""
    beside = path.with_name(f".{path.name}.writing")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir(parents=True)
        files = {}
        for name, arrays in parts.items():
            file = beside / f"{name}.npz"
            with file.open("wb") as stream:
                np.savez(stream, **arrays)
                _flush(stream)
            files[file.name] = _checksum(file)
        with (beside / "state.json").open("w", encoding="utf-8") as stream:
            json.dump({"format": FORMAT, **facts, "files": files}, stream, indent=1)
            _flush(stream)
        _replace(beside, path)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise UserError(f"cannot write {path}: {error.strerror}; what was saved before is intact") from error


def _flush(stream) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _replace(beside: Path, path: Path) -> None:
    """A folder cannot replace a folder: the old one steps aside, and `settled` finds it should we die in between."""
    aside = path.with_name(f".{path.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    if path.exists():
        path.rename(aside)
    beside.rename(path)
    shutil.rmtree(aside, ignore_errors=True)


def settled(path: Path) -> Path:
    """`path`, or what stepped aside for it when its writer was killed between two renames."""
    aside = path.with_name(f".{path.name}.old")
    return aside if not path.exists() and aside.exists() else path


def _checksum(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_facts(path: Path) -> dict[str, Any]:
    """state.json after its files are compared with their checksums; UserError says what is wrong."""
    path = settled(path)
    facts = read_json(path / "state.json")
    if not isinstance(facts.get("files"), dict):
        raise UserError(f"{path}/state.json names no files: it is damaged, or another program's")
    for name, checksum in facts["files"].items():
        if not (path / name).exists():
            raise UserError(f"{path}/{name} is missing")
        if _checksum(path / name) != checksum:
            raise UserError(f"{path}/{name} is truncated or changed: its checksum differs")
    return facts


def checksums(arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    """{branch_0: sha256 of its weights, ...}, of arrays under the names of `weights`."""
    digests: dict[str, Any] = {}
    for name in sorted(arrays):
        branch, _, rest = name.partition("/")
        digests.setdefault(branch, hashlib.sha256()).update(f"\0{rest}\0".encode() + arrays[name].tobytes())
    return {name: digest.hexdigest() for name, digest in digests.items()}


def read_part(path: Path, name: str) -> dict[str, np.ndarray]:
    with np.load(settled(path) / f"{name}.npz", allow_pickle=False) as arrays:
        return dict(arrays)
