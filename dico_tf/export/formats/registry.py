"""Registry of export formats by their names in --formats. Does not import TensorFlow."""

import importlib
from typing import TYPE_CHECKING

from dico_tf.registry import Registry

if TYPE_CHECKING:
    from dico_tf.export.formats.format import Format

FORMATS: Registry[str] = Registry("format")  # name -> module with a constant FORMAT
FORMATS.add("saved_model", "dico_tf.export.formats.saved_model")
FORMATS.add("tflite", "dico_tf.export.formats.tflite")
FORMATS.add("onnx", "dico_tf.export.formats.onnx")
DEFAULT = ("saved_model", "tflite")


def load(name: str) -> "Format":
    """Import a format's module and return the format."""
    return importlib.import_module(FORMATS[name]).FORMAT


def require(names: tuple[str, ...]) -> None:
    """Raise UserError if a package that one of these formats needs is not installed."""
    for name in names:
        load(name).require()
