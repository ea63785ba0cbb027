"""What was sent as images, as float32 [B, H, W, 3] of 0 to 255."""

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from dico_tf.edge import guard
from dico_tf.edge.errors import invalid, shown
from dico_tf.edge.tensors import datatype

IMAGE, IMAGE_BYTES = "image", "image_bytes"


class Model(Protocol):
    size: int  # of the square images it takes
    short: int  # pixels of the short side of which the centre is cut out


def accepted(model: Model) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
    """One of these inputs is to be given; `image` may be UINT8 too."""
    return (IMAGE, "FP32", (-1, model.size, model.size, 3)), (IMAGE_BYTES, "BYTES", (-1,))


def images(inputs: Mapping[str, np.ndarray], model: Model, limits: guard.Limits) -> Callable[[], np.ndarray]:
    """As a network takes them: float32."""
    made = pixels(inputs, model, limits)
    return lambda: made().astype(np.float32, copy=False)


def pixels(inputs: Mapping[str, np.ndarray], model: Model, limits: guard.Limits) -> Callable[[], np.ndarray]:
    """As they were sent, float32 or uint8; pictures are uint8.

    Refuses what can be refused at once; calling what is returned may take as long as decoding does.
    """
    if len(inputs) != 1 or not inputs.keys() <= {IMAGE, IMAGE_BYTES}:
        given = ", ".join(inputs) or "none"
        raise invalid(f"the inputs are {shown(given)}: give {IMAGE} (FP32 or UINT8) or {IMAGE_BYTES} (JPEG or PNG)")
    (name, found), = inputs.items()  # fmt: skip
    shape = "x".join(map(str, found.shape))
    if len(found) > limits.batch:
        raise invalid(f"{name} holds {len(found)} images: at most {limits.batch} a request")
    if name == IMAGE_BYTES:
        if datatype(found) != "BYTES" or found.ndim != 1:
            raise invalid(f"{name} is {datatype(found)} of shape {shape}: give BYTES of shape [B]")
        return lambda: _decoded(found, model, limits)
    if datatype(found) not in ("FP32", "UINT8"):
        raise invalid(f"{name} is {datatype(found)}: give FP32 or UINT8, of 0 to 255")
    if found.shape[1:] != (model.size, model.size, 3):
        raise invalid(
            f"{name} has shape {shape}: give [B, {model.size}, {model.size}, 3], or {IMAGE_BYTES} of any size"
        )
    if not np.isfinite(found).all():
        raise invalid(f"{name} holds values that are not finite")
    return lambda: found


def _decoded(found: np.ndarray, model: Model, limits: guard.Limits) -> np.ndarray:
    return np.stack([guard.picture(content, model.size, model.short, limits) for content in found])
