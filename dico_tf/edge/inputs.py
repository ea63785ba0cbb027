"""Image inputs of a request, checked and decoded to [B, H, W, 3] with values 0 to 255."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from dico_tf.edge.errors import EdgeError, invalid, quote
from dico_tf.edge.server.limits import Limits, decode_views
from dico_tf.edge.tensors import datatype

IMAGE, IMAGE_BYTES = "image", "image_bytes"


class InputSize(Protocol):
    """The image size that a network takes: `size` pixels in height and width.

    An encoded image is resized to the short side `short`, then its centre is cropped to `size`.
    """

    size: int
    short: int


def input_tensors(*sizes: InputSize) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
    """Return (name, datatype, shape) of each possible input; a request has exactly one of them.

    `image_bytes`, encoded images, is always listed; `image` only if all networks take the same size. `image` is listed
    as FP32, though a request may also send UINT8.
    """
    sides = {size.size for size in sizes}
    tensors = [(IMAGE, "FP32", (-1, side, side, 3)) for side in sides if len(sides) == 1]
    return (*tensors, (IMAGE_BYTES, "BYTES", (-1,)))


def float_images(
    inputs: Mapping[str, np.ndarray], size: InputSize, limits: Limits, deadline: float
) -> Callable[[], np.ndarray]:
    """Check a request's inputs; return a function that gives them as float32 [B, size, size, 3]. See `images`."""
    decode = images(inputs, [size], limits, deadline)
    return lambda: decode()[0].astype(np.float32, copy=False)


def images(
    inputs: Mapping[str, np.ndarray], sizes: Sequence[InputSize], limits: Limits, deadline: float
) -> Callable[[], list[np.ndarray]]:
    """Check a request's inputs; return a function that gives the images [B, size, size, 3] for each size.

    Images that were sent as pixels keep their dtype, float32 or uint8. Encoded images are decoded to uint8 when the
    function is called. Both it and this check raise EdgeError; the function also if it is not finished by the deadline,
    a time of time.monotonic.
    """
    if len(inputs) != 1 or not inputs.keys() <= {IMAGE, IMAGE_BYTES}:
        names = ", ".join(inputs) or "none"
        raise invalid(f"expected one input, {IMAGE} (FP32 or UINT8) or {IMAGE_BYTES} (JPEG or PNG), got {quote(names)}")
    ((name, array),) = inputs.items()
    if len(array) > limits.batch:
        raise invalid(f"{name} contains {len(array)} images: send at most {limits.batch} per request")
    if name == IMAGE_BYTES:
        if datatype(array) != "BYTES" or array.ndim != 1:
            raise invalid(f"{name} must be BYTES of shape [B], got {datatype(array)} of shape {_shape(array)}")
        return lambda: _decode(array, sizes, limits, deadline)
    _check_pixels(array, sizes)
    return lambda: [array] * len(sizes)


def _check_pixels(image: np.ndarray, sizes: Sequence[InputSize]) -> None:
    sides = sorted({size.size for size in sizes})
    if len(sides) > 1:
        listed = f"{', '.join(map(str, sides[:-1]))} and {sides[-1]}"
        raise invalid(f"the members take images of different sizes, {listed} pixels: send {IMAGE_BYTES} (JPEG or PNG)")
    (side,) = sides
    if datatype(image) not in ("FP32", "UINT8"):
        raise invalid(f"{IMAGE} must be FP32 or UINT8 with values 0 to 255, got {datatype(image)}")
    if image.shape[1:] != (side, side, 3):
        raise invalid(
            f"{IMAGE} must have shape [B, {side}, {side}, 3], got {_shape(image)}: "
            f"send that shape, or {IMAGE_BYTES} of any size"
        )
    if image.dtype.kind != "f":
        return
    if not np.isfinite(image).all():
        raise invalid(f"{IMAGE} contains NaN or infinity: send values 0 to 255")
    if image.min() < 0 or image.max() > 255:  # most likely the client has normalised the image already
        raise invalid(f"{IMAGE} contains values outside 0 to 255: send raw pixels, the network normalises them itself")


def _shape(array: np.ndarray) -> str:
    return "x".join(map(str, array.shape))


def _decode(encoded: np.ndarray, sizes: Sequence[InputSize], limits: Limits, deadline: float) -> list[np.ndarray]:
    """Decode BYTES [B] to uint8 [B, size, size, 3] for each size.

    Raises EdgeError if an image cannot be decoded or is beyond the limits, or if the deadline passes before the last.
    """
    views = [(size.size, size.short) for size in sizes]
    decoded: list[list[np.ndarray]] = []
    for content in encoded:
        if time.monotonic() > deadline:  # the client has stopped waiting, and other requests need this thread
            progress = f"{len(decoded)} of {len(encoded)} images"
            raise EdgeError("DEADLINE_EXCEEDED", f"the deadline passed after decoding {progress}")
        decoded.append(decode_views(content, views, limits))
    return [np.stack(batch) for batch in zip(*decoded, strict=True)]
