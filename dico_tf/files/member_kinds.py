"""Kinds of committee members, as written in committee.json and manifest.json."""

RUN = "run"  # a branch of a trained run, or all of its branches together
EXPORT = "export"
SAVED_MODEL = "saved_model"
KERAS_FILE = "keras_file"
TFLITE = "tflite"
ONNX = "onnx"
TABLE = "table"  # a file of logits computed before
APPLICATION = "application"  # a network of keras.applications
PRESET = "preset"
_EARLIER = {"branch": RUN, "logits": TABLE}  # names that version 0.1.0 wrote


def current(kind: str) -> str:
    """Return the present name of a kind that version 0.1.0 named differently; other kinds as they are."""
    return _EARLIER.get(kind, kind)
