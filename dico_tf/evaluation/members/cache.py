"""Disk cache of members' logits and costs, so that no network runs twice on the same images."""

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

_log = logging.getLogger(__name__)


def default() -> Path:
    """Return the default folder: $XDG_CACHE_HOME/dico_tf/logits, or ~/.cache/dico_tf/logits."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "dico_tf" / "logits"


class Cache:
    """Folder of logits by (member, images, split), and of costs by member.

    Unreadable files count as missing, and results that cannot be written are not cached; both are logged as warnings.
    """

    def __init__(self, folder: str | Path = "") -> None:
        """Create the folder if it does not exist; "" = the default folder. Raises UserError if it cannot be created."""
        self.folder = Path(folder).expanduser() if folder else default()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if self.folder == default():
                remedy = "set XDG_CACHE_HOME to a folder that can be written"
                raise UserError(f"cannot create the cache {self.folder}: {error.strerror}; {remedy}") from None
            raise UserError(f"cannot create --cache={self.folder}: {error.strerror}; give another folder") from None

    def logits(self, checksum: str, fingerprint: str, split: str, images: int) -> np.ndarray | None:
        """Return logits float32 [N, C] of a member, or None if they are not cached.

        Args:
            checksum: of the member.
            fingerprint: of the images.
            images: how many the split has.
        """
        path = self._path(checksum, fingerprint, split)
        try:
            stored = arrays.read(path)
            about, logits = str(stored["about"]), stored["logits"]
        except FileNotFoundError:
            return None
        except (UserError, KeyError) as error:
            _log.warning("%s cannot be read (%s): the network runs again", path, error)
            return None
        fits = logits.ndim == 2 and logits.dtype == np.float32 and len(logits) == images
        if not fits or about != self._about(checksum, fingerprint, split):
            _log.warning("%s does not have the logits of this member on these images: the network runs again", path)
            return None
        return logits

    def write_logits(self, checksum: str, fingerprint: str, split: str, logits: np.ndarray) -> None:
        """Store the logits [N, C] of a member on a split, as float32."""
        about = np.asarray(self._about(checksum, fingerprint, split))
        with _warn_if_full():
            path = self._path(checksum, fingerprint, split)
            arrays.write(path, {"logits": logits.astype(np.float32), "about": about})

    def cost(self, checksum: str, machine: str) -> tuple[Cost, str] | None:
        """Return a member's cost and the sentence that describes its outputs, or None if they are not cached.

        Args:
            checksum: of the member.
            machine: this machine; milliseconds that another one measured are NaN.
        """
        path = self._cost_path(checksum)
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            if stored["format"] != json_files.FORMAT:
                raise ValueError(f"expected format {json_files.FORMAT}, got {stored['format']!r}")
            if stored["checksum"] != checksum:
                raise ValueError("it is the cost of another member")
            numbers = {f.name: _number(stored["cost"][f.name]) for f in dataclasses.fields(Cost)}
            description, measured_on = str(stored["said"]), stored["machine"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("%s cannot be used (%r): the cost is determined again", path, error)
            return None
        if measured_on != machine:
            numbers = {name: numbers[name] for name in ("macs", "params")}
        return Cost(**numbers), description

    def outputs(self, checksum: str) -> str:
        """Return "logits" or "probabilities", which the member's outputs are; "" if that is not cached, or damaged."""
        try:
            stored = json.loads(self._cost_path(checksum).read_text(encoding="utf-8"))
            return str(stored.get("outputs", "")) if stored["checksum"] == checksum else ""
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return ""

    def write_cost(self, checksum: str, cost: Cost, machine: str, description: str, outputs: str = "") -> None:
        """Store a member's cost, and what its outputs are.

        Args:
            machine: that measured the milliseconds.
            description: sentence about the outputs.
            outputs: "logits" or "probabilities"; "" = unknown.
        """
        numbers = {name: None if math.isnan(v) else v for name, v in dataclasses.asdict(cost).items()}
        value = {"checksum": checksum, "machine": machine, "said": description, "outputs": outputs, "cost": numbers}
        with _warn_if_full():
            json_files.write(self._cost_path(checksum), value)

    def _about(self, checksum: str, fingerprint: str, split: str) -> str:
        return f"{json_files.FORMAT} {checksum} {fingerprint} {split}"

    def _path(self, checksum: str, fingerprint: str, split: str) -> Path:
        return self.folder / f"{checksum[:32]}-{fingerprint}-{split}.npz"

    def _cost_path(self, checksum: str) -> Path:
        return self.folder / f"{checksum[:32]}.json"


@contextlib.contextmanager
def _warn_if_full() -> Iterator[None]:
    """Context manager: warn if a file cannot be written, instead of raising UserError."""
    try:
        yield
    except UserError as error:
        _log.warning("the cache of members is not updated: %s", error)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
