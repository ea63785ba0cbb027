"""Every kind of member: the module that opens it, and how its uri is recognised."""

import dataclasses

from dico_tf.files import member_kinds as names
from dico_tf.registry import Registry


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of member; exactly one of prefix, suffix and marker says which spellings are of it."""

    module: str  # in this room, with `members(uri, classes) -> list[Member]`; imported when it is chosen
    prefix: str = ""  # of the uri, e.g. keras:
    suffix: str = ""  # of a file's name
    marker: str = ""  # file that a folder of this kind holds


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


def by(what: str) -> dict[str, str]:
    """Return {prefix, suffix or marker: kind} of the kinds that have one."""
    return {getattr(KINDS[name], what): name for name in KINDS if getattr(KINDS[name], what)}
