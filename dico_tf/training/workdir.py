"""The folder of a run: its lock, its config.json, and checks before training."""

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


def folder_of(config: Config) -> Path:
    """Return the folder of a run: --workdir, or without it the default one."""
    return Path(config.run.workdir) if config.run.workdir else default(config)


def default(config: Config) -> Path:
    """Return the folder of a run without --workdir: runs/DATASET-MODEL-sSPLITS-seedSEED.

    In DATASET, ":" and "/" become "_". MODEL is a preset or a file's name, or "branches" with --branches.
    """
    name = config.data.dataset.replace(":", "_").replace("/", "_")
    model = "branches" if config.branch_list.branches else Path(config.network.model).name
    return Path("runs") / f"{name}-{model}-s{config.network.splits}-seed{config.run.seed}"


def run_identity(config: Config) -> str:
    """Return the SHA-256 of the settings that may not change when a run continues."""
    return hashlib.sha256(json.dumps(identity(config), sort_keys=True).encode()).hexdigest()


def record(folder: str | Path) -> dict[str, Any]:
    """Load a run's config.json. Raises UserError if the folder is not that of a run."""
    path = Path(folder) / "config.json"
    content = read_of_run(path)
    if not all(isinstance(content.get(part), dict) for part in ("config", "data")):
        raise UserError(f"{path} has no config or data of the run: it is damaged; restore it, or train again")
    return content


class Claim:
    """Lock on a run's folder, which is made if it is missing: only one process may train in it.

    The lock ends with `release` or with the process. Raises UserError if the folder cannot be written or locked.
    """

    def __init__(self, folder: Path):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = (folder / ".lock").open("a")
        except OSError as error:
            raise UserError(f"cannot write to --workdir={folder}: {error.strerror}; give another --workdir") from None
        try:
            lock(self._lock)
        except BlockingIOError:
            raise UserError(
                f"another process is training in --workdir={folder}: wait for it, or give another"
            ) from None
        except OSError as error:
            raise UserError(
                f"cannot lock --workdir={folder}: {error.strerror}; give a --workdir on a file system with locks"
            ) from None

    def release(self) -> None:
        self._lock.close()


def check_same(folder: Path, config: Config) -> bool:
    """Return True if the folder contains a run, False if it has no config.json.

    Raises UserError if a setting that may not change differs between that run and `config`.
    """
    path = folder / "config.json"
    if not path.exists():
        return False
    before, now = to_values(from_json(read_of_run(path)["config"], str(folder))), to_values(config)
    fixed = identity(config).keys() | identity(from_values(before)).keys()
    changed = [f"--{n} was {before[n]}, is {now[n]}" for n in before if n in fixed and before[n] != now[n]]
    if changed:
        raise UserError(
            f"--workdir={folder} contains a run with other settings ({'; '.join(changed)}): "
            "give another --workdir, or the same flags to continue it"
        )
    return True


def check_space(folder: Path, needed: int) -> None:
    """Raise UserError if the disk has less than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"--workdir={folder} has {free / 1e6:.0f} MB free and the run needs {needed / 1e6:.0f} MB: "
            "make room, lower --keep, or give another --workdir"
        )


def describe(config: Config, data: dict[str, Any], network: str | dict[str, Any]) -> dict[str, Any]:
    """Return the content of config.json: settings, facts about the data, the network's reference, and versions.

    Args:
        network: the name of a preset, or the saved description of a network.
    """
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    values = {n: list(v) if isinstance(v, tuple) else v for n, v in to_values(config).items()}
    return {"config": values, "data": data, "network": network, "versions": {"dico_tf": __version__, **versions}}
