"""What members said and cost, kept on the disk, so that no network runs twice over the same images."""

import contextlib
import dataclasses
import json
import logging
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dico_tf.errors import UserError
from dico_tf.evaluation.cost import Cost
from dico_tf.files import arrays, json_files


def default() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "dico_tf" / "logits"


class Cache:
    """Files that are whole or made anew: logits by member, images and split; costs by member."""

    def __init__(self, folder: str | Path = "") -> None:
        self.folder = Path(folder).expanduser() if folder else default()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--cache={self.folder} cannot be made: {error.strerror}; give another folder") from None

    def logits(self, checksum: str, fingerprint: str, split: str, images: int) -> np.ndarray | None:
        """float32 [N, C]; None where there is no whole file."""
        path = self._path(checksum, fingerprint, split)
        try:
            stored = arrays.read(path)
            said, logits = str(stored["about"]), stored["logits"]
        except FileNotFoundError:
            return None
        except (UserError, KeyError) as error:
            _warn(path, f"is damaged ({error})")
            return None
        fits = logits.ndim == 2 and logits.dtype == np.float32 and len(logits) == images
        if not fits or said != self._about(checksum, fingerprint, split):
            _warn(path, "holds something else than its name says")
            return None
        return logits

    def keep(self, checksum: str, fingerprint: str, split: str, logits: np.ndarray) -> None:
        about = np.asarray(self._about(checksum, fingerprint, split))
        with _warned():
            path = self._path(checksum, fingerprint, split)
            arrays.write(path, {"logits": logits.astype(np.float32), "about": about})

    def cost(self, checksum: str, machine: str) -> tuple[Cost, str] | None:
        """What was counted, and the sentence of what was found out; times only where this machine measured them."""
        path = self._cost_path(checksum)
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["format"] != json_files.FORMAT or found["checksum"] != checksum:
                raise ValueError("it is of another member or version")
            numbers = {f.name: _number(found["cost"][f.name]) for f in dataclasses.fields(Cost)}
            said, measured = str(found["said"]), found["machine"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            _warn(path, f"is damaged ({error})")
            return None
        if measured != machine:
            numbers = {name: numbers[name] for name in ("macs", "params")}
        return Cost(**numbers), said

    def outputs(self, checksum: str) -> str:
        """What the member's outputs were found to be; nothing where that is not kept."""
        try:
            found = json.loads(self._cost_path(checksum).read_text(encoding="utf-8"))
            return str(found.get("outputs", "")) if found["checksum"] == checksum else ""
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return ""

    def keep_cost(self, checksum: str, cost: Cost, machine: str, said: str, outputs: str = "") -> None:
        numbers = {name: None if math.isnan(v) else v for name, v in dataclasses.asdict(cost).items()}
        value = {"checksum": checksum, "machine": machine, "said": said, "outputs": outputs, "cost": numbers}
        with _warned():
            json_files.write(self._cost_path(checksum), value)

    def _about(self, checksum: str, fingerprint: str, split: str) -> str:
        return f"{json_files.FORMAT} {checksum} {fingerprint} {split}"

    def _path(self, checksum: str, fingerprint: str, split: str) -> Path:
        return self.folder / f"{checksum[:32]}-{fingerprint}-{split}.npz"

    def _cost_path(self, checksum: str) -> Path:
        return self.folder / f"{checksum[:32]}.json"


@contextlib.contextmanager
def _warned() -> Iterator[None]:
    """Warn if the disk refuses a write: the next search then computes the answers again."""
    try:
        yield
    except UserError as error:
        logging.getLogger(__name__).warning("%s: nothing is cached", error)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _warn(path: Path, fault: str) -> None:
    logging.getLogger(__name__).warning("%s %s: the network is asked again", path, fault)
