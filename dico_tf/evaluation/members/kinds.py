"""Registry of the kinds of members: the module that opens each kind, and how its URI is recognised."""

import dataclasses

from dico_tf.files import member_kinds as names
from dico_tf.registry import Registry


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of member. Its URIs are recognised by exactly one of prefix, suffix and marker."""

    module: str  # of this package, with `members(uri, classes: int) -> list[Member]`; imported when needed
    prefix: str = ""  # of the URI, e.g. keras:
    suffix: str = ""  # of a file's name, e.g. .keras
    marker: str = ""  # file that a folder of this kind contains


KINDS: Registry[Kind] = Registry("kind of member")
KINDS.add(names.APPLICATION, Kind(module="applications", prefix="keras:"))
KINDS.add(names.PRESET, Kind(module="presets", prefix="preset:"))
KINDS.add(names.KERAS_FILE, Kind(module="keras_files", suffix=".keras"))
KINDS.add(names.TFLITE, Kind(module="tflite", suffix=".tflite"))
KINDS.add(names.ONNX, Kind(module="onnx", suffix=".onnx"))
KINDS.add(names.TABLE, Kind(module="tables", suffix=".npz"))
KINDS.add(names.EXPORT, Kind(module="exports", marker="manifest.json"))  # before a run: it may hold a config.json
KINDS.add(names.RUN, Kind(module="runs", marker="config.json"))
KINDS.add(names.SAVED_MODEL, Kind(module="saved_models", marker="saved_model.pb"))


def kinds_by(field: str) -> dict[str, str]:
    """Return {value: kind} of a field (prefix, suffix or marker), without the kinds that leave it empty."""
    return {getattr(KINDS[name], field): name for name in KINDS if getattr(KINDS[name], field)}
