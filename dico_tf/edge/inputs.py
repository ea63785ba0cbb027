"""What was sent as images, as float32 [B, H, W, 3] of 0 to 255."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from dico_tf.edge.errors import EdgeError, invalid, shown
from dico_tf.edge.server.limits import Limits, decode_views
from dico_tf.edge.tensors import datatype

IMAGE, IMAGE_BYTES = "image", "image_bytes"


class View(Protocol):
    size: int  # of the square images that a network takes
    short: int  # pixels of the short side of which the centre is cut out


def accepted(*views: View) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
    """One of these inputs is to be given; `image`, which may be UINT8 too, where all networks take the same size."""
    sizes = {view.size for view in views}
    tensors = [(IMAGE, "FP32", (-1, size, size, 3)) for size in sizes if len(sizes) == 1]
    return (*tensors, (IMAGE_BYTES, "BYTES", (-1,)))


def images(inputs: Mapping[str, np.ndarray], view: View, limits: Limits, deadline: float) -> Callable[[], np.ndarray]:
    """As a network takes them: float32."""
    made = pixels(inputs, [view], limits, deadline)
    return lambda: made()[0].astype(np.float32, copy=False)


def pixels(
    inputs: Mapping[str, np.ndarray], views: Sequence[View], limits: Limits, deadline: float
) -> Callable[[], list[np.ndarray]]:
    """For each view as they were sent, float32 or uint8; pictures are uint8.

    Refuses what can be refused at once; calling what is returned may take as long as decoding does, to the deadline.
    """
    if len(inputs) != 1 or not inputs.keys() <= {IMAGE, IMAGE_BYTES}:
        given = ", ".join(inputs) or "none"
        raise invalid(f"the inputs are {shown(given)}: give {IMAGE} (FP32 or UINT8) or {IMAGE_BYTES} (JPEG or PNG)")
    (name, found), = inputs.items()  # fmt: skip
    if len(found) > limits.batch:
        raise invalid(f"{name} holds {len(found)} images: at most {limits.batch} a request")
    if name == IMAGE_BYTES:
        if datatype(found) != "BYTES" or found.ndim != 1:
            raise invalid(f"{name} is {datatype(found)} of shape {_shape(found)}: give BYTES of shape [B]")
        return lambda: _decoded(found, views, limits, deadline)
    _check(found, views)
    return lambda: [found] * len(views)


def _check(image: np.ndarray, views: Sequence[View]) -> None:
    sizes = sorted({view.size for view in views})
    if len(sizes) > 1:
        several = f"{', '.join(map(str, sizes[:-1]))} and {sizes[-1]}"
        raise invalid(f"the members take images of {several} pixels, each its own: give {IMAGE_BYTES} (JPEG or PNG)")
    (size,) = sizes
    if datatype(image) not in ("FP32", "UINT8"):
        raise invalid(f"{IMAGE} is {datatype(image)}: give FP32 or UINT8, of 0 to 255")
    if image.shape[1:] != (size, size, 3):
        given, wanted = _shape(image), f"[B, {size}, {size}, 3]"
        raise invalid(f"{IMAGE} has shape {given}: give {wanted}, or {IMAGE_BYTES} of any size")
    if image.dtype.kind != "f":
        return
    if not np.isfinite(image).all():
        raise invalid(f"{IMAGE} holds values that are not finite")
    if image.min() < 0 or image.max() > 255:  # whoever normalises twice gets nonsense
        raise invalid(f"{IMAGE} holds values beyond 0 to 255: give raw pixels, the network normalises them itself")


def _shape(array: np.ndarray) -> str:
    return "x".join(map(str, array.shape))


def _decoded(found: np.ndarray, views: Sequence[View], limits: Limits, deadline: float) -> list[np.ndarray]:
    """[B, size, size, 3] of each view."""
    wanted = [(view.size, view.short) for view in views]
    made: list[list[np.ndarray]] = []
    for content in found:
        if time.monotonic() > deadline:  # nobody waits any more, and others wait for this thread
            raise EdgeError("DEADLINE_EXCEEDED", f"the deadline passed after {len(made)} of {len(found)} images")
        made.append(decode_views(content, wanted, limits))
    return [np.stack(squares) for squares in zip(*made, strict=True)]
