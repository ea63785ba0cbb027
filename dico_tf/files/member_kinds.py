"""Kinds of committee members: one word each, in committee.json, in manifest.json and for whoever opens them."""

RUN = "run"  # a branch of a trained run, or all of its branches together
EXPORT = "export"
SAVED_MODEL = "saved_model"
KERAS_FILE = "keras_file"
TFLITE = "tflite"
ONNX = "onnx"
TABLE = "table"  # logits that were computed before
APPLICATION = "application"  # a network of keras.applications
PRESET = "preset"
_EARLIER = {"branch": RUN, "logits": TABLE}  # as version 0.1.0 wrote them


def current(kind: str) -> str:
    """Return the kind under its present name."""
    return _EARLIER.get(kind, kind)
