"""The folder of a run: who may train in it, and what it says about itself."""

import hashlib
import importlib.metadata
import json
import shutil
from pathlib import Path
from typing import Any

from dico_tf import __version__
from dico_tf.config import Config, from_json, from_values, identity, to_values
from dico_tf.errors import UserError
from dico_tf.files.json_files import read_of_run
from dico_tf.files.locks import lock

PACKAGES = ("tensorflow", "keras", "keras-cv", "tensorflow-datasets", "numpy")


def default(config: Config) -> Path:
    name = config.data.dataset.replace(":", "_").replace("/", "_")
    return Path("runs") / f"{name}-{Path(config.network.model).name}-s{config.network.splits}-seed{config.run.seed}"


def run_identity(config: Config) -> str:
    """Return a digest of the settings that make a run what it is; a continued run must have the same."""
    return hashlib.sha256(json.dumps(identity(config), sort_keys=True).encode()).hexdigest()


def record(folder: str | Path) -> dict[str, Any]:
    """What a run's folder says of its config and data; UserError where it holds no run."""
    path = Path(folder) / "config.json"
    found = read_of_run(path)
    if not all(isinstance(found.get(part), dict) for part in ("config", "data")):
        raise UserError(f"{path} says nothing of the run's config or data: it is damaged")
    return found


class Claim:
    """This process trains in the folder and no other does, until it ends."""

    def __init__(self, folder: Path):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = (folder / ".lock").open("a")
        except OSError as error:
            raise UserError(f"cannot write to --workdir={folder}: {error.strerror}") from None
        try:
            lock(self._lock)
        except OSError:
            raise UserError(
                f"another process is training in --workdir={folder}: wait for it, or give another"
            ) from None

    def release(self) -> None:
        self._lock.close()


def check_same(folder: Path, config: Config) -> bool:
    """Whether the folder holds a run; UserError where it is a run of another config."""
    path = folder / "config.json"
    if not path.exists():
        return False
    before, now = to_values(from_json(read_of_run(path)["config"], str(folder))), to_values(config)
    fixed = identity(config).keys() | identity(from_values(before)).keys()
    changed = [f"--{n} was {before[n]}, is {now[n]}" for n in before if n in fixed and before[n] != now[n]]
    if changed:
        raise UserError(
            f"--workdir={folder} holds a run of another config ({'; '.join(changed)}): "
            "give another --workdir, or the same flags to continue it"
        )
    return True


def check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"--workdir={folder} has {free / 1e6:.0f} MB free and the run needs {needed / 1e6:.0f} MB: "
            "make room, lower --keep, or give another --workdir"
        )


def describe(config: Config, data: dict[str, Any], network: str | dict[str, Any]) -> dict[str, Any]:
    """config.json: what was asked for, of which data, which network it named, with which versions."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    values = {n: list(v) if isinstance(v, tuple) else v for n, v in to_values(config).items()}
    return {"config": values, "data": data, "network": network, "versions": {"dico_tf": __version__, **versions}}
