"""JSON files of this project: objects with `"format": 1`; committees and manifests also have a `"kind"`."""

import json
from pathlib import Path
from typing import Any

from dico_tf.errors import UserError
from dico_tf.files import atomic

FORMAT = 1  # "format" of every JSON object that this project writes


def write(path: Path, content: dict[str, Any], *, finite: bool = False) -> None:
    """Write `content`, preceded by `"format": 1`, atomically. With `finite`, NaN and infinity raise ValueError."""
    atomic.write_text(path, json.dumps({"format": FORMAT, **content}, indent=1, allow_nan=not finite) + "\n")


def read(path: Path, name: str, *, missing: str, again: str, kind: str = "", finite: bool = False) -> dict[str, Any]:
    """Load a JSON object and check its "format" and "kind".

    Args:
        name: what the file should be, e.g. "a committee.json". This and the next two are parts of messages.
        missing: why the file may not exist, or what to do then.
        again: what to do if the file cannot be used, e.g. "search again".
        kind: the value that "kind" must have; "" accepts any.
        finite: refuse NaN and infinity, which standard JSON does not have.

    Raises:
        UserError: if the file is missing, unreadable, damaged, or of another kind or format.
    """
    try:
        content = json.loads(path.read_bytes(), parse_constant=_refuse if finite else None)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: {missing}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not {name}, or is damaged ({error}): {again}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is not {name}: expected a JSON object, got {content!r:.60}: {again}")
    if kind and content.get("kind") != kind:
        raise UserError(f"{path} is not {name}: expected kind {kind!r}, got {content.get('kind')!r:.60}: {again}")
    if content.get("format") != FORMAT:
        raise UserError(f"{path}: expected format {FORMAT}, got {content.get('format')!r:.60}: {again}")
    return content


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON number")


def read_of_run(path: Path) -> dict[str, Any]:
    """Load a JSON file that lies in the folder of a run. Raises UserError as `read` does."""
    missing = f"{path.parent} is not the folder of a run"
    if (path.parent / "config.json").exists():
        missing = "the run has not written it yet; let its training and evaluation finish"
    return read(path, "a file of a run", missing=missing, again="train again, or give another folder")
