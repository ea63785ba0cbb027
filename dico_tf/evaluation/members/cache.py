"""What members said and cost, kept on the disk, so that no network runs twice over the same images."""

import dataclasses
import io
import json
import logging
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from dico_tf.errors import UserError
from dico_tf.evaluation.cost import Cost

FORMAT = 1


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
            with np.load(path, allow_pickle=False) as archive:
                said, logits = str(archive["about"]), archive["logits"]
        except FileNotFoundError:
            return None
        except Exception as error:  # numpy and zipfile raise a dozen kinds over bytes that are not theirs
            _warn(path, f"is damaged ({error})")
            return None
        fits = logits.ndim == 2 and logits.dtype == np.float32 and len(logits) == images
        if not fits or said != self._about(checksum, fingerprint, split):
            _warn(path, "holds something else than its name says")
            return None
        return logits

    def keep(self, checksum: str, fingerprint: str, split: str, logits: np.ndarray) -> None:
        stream = io.BytesIO()
        np.savez(stream, logits=logits.astype(np.float32), about=np.asarray(self._about(checksum, fingerprint, split)))
        self._write(self._path(checksum, fingerprint, split), stream.getvalue())

    def cost(self, checksum: str, machine: str) -> tuple[Cost, str] | None:
        """What was counted, and the sentence of what was found out; times only where this machine measured them."""
        path = self._cost_path(checksum)
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["format"] != FORMAT or found["checksum"] != checksum:
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
        value: dict[str, Any] = {
            "format": FORMAT, "checksum": checksum, "machine": machine, "said": said, "outputs": outputs,
            "cost": numbers,
        }  # fmt: skip
        self._write(self._cost_path(checksum), (json.dumps(value, indent=1) + "\n").encode())

    def _about(self, checksum: str, fingerprint: str, split: str) -> str:
        return f"{FORMAT} {checksum} {fingerprint} {split}"

    def _path(self, checksum: str, fingerprint: str, split: str) -> Path:
        return self.folder / f"{checksum[:32]}-{fingerprint}-{split}.npz"

    def _cost_path(self, checksum: str) -> Path:
        return self.folder / f"{checksum[:32]}.json"

    def _write(self, path: Path, content: bytes) -> None:
        """Beside, then renamed; without room the next search asks the network again."""
        beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with beside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        except OSError as error:
            logging.getLogger(__name__).warning("%s cannot be written (%s): nothing is kept", path, error.strerror)
        finally:
            beside.unlink(missing_ok=True)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _warn(path: Path, fault: str) -> None:
    logging.getLogger(__name__).warning("%s %s: the network is asked again", path, fault)
