"""Checks of a network's input and outputs: a member takes square images and gives one score per class."""

from collections.abc import Callable, Sequence

import numpy as np

from dico_tf.errors import UserError
from dico_tf.evaluation.members.member_uri import MemberURI

PREFERRED = ("logits", "probabilities")  # names of outputs, the preferred first
Call = Callable[[np.ndarray], np.ndarray]


def fixed_size(uri: MemberURI, height: int | None, width: int | None) -> int:
    """Return the side of a network's square images: the fixed one, or that of the URI for a network of any size.

    Raises UserError if the images are not squares, if the URI has another size than the fixed one, or if none is given.

    Args:
        height, width: of its input; None = any.
    """
    if height is None and width is None:
        if not uri.size:
            raise UserError(f"{uri.source} takes images of any size: add a size, as in {uri.with_size(224)}")
        return uri.size
    if height != width:
        sides = "x".join("any" if side is None else str(side) for side in (height, width))
        raise UserError(f"{uri.source}: expected a network for square images, got one for {sides} pixels")
    if uri.size not in (0, height):
        raise UserError(
            f"{uri.source}: the network takes images of {height} pixels only: leave out @{uri.size}. Runs, keras:, "
            "preset: and files for any size can be used at another size"
        )
    return height


def chosen_output(scores: Sequence[str], every: Sequence[str], uri: MemberURI, described: str) -> str:
    """Return the output with the scores: that of ?output, else logits, else probabilities, else the only one.

    Raises UserError if there is no output of that name or, without ?output, if none or several could be the scores.
    That of ?output may be any of `every`: whether it has scores is not checked.

    Args:
        scores: names of the outputs that give one score per class.
        every: names of all outputs.
        described: all outputs with their types and shapes, for messages.
    """
    name = uri.options.get("output", "")
    if name and name not in every:
        raise UserError(f"{uri.source} has no output {name!r}; it has {described}")
    name = name or next((key for key in PREFERRED if key in scores), scores[0] if len(scores) == 1 else "")
    if not name:
        if not scores:
            raise UserError(f"{uri.source}: expected an output [B, classes], got {described}")
        raise UserError(
            f"{uri.source} has several outputs that may be the scores; add ?output=NAME with one of {', '.join(scores)}"
        )
    return name


def in_batches(call: Call, batch: int | None) -> Call:
    """Return a function that calls a network of fixed batch size on any number of images.

    The last batch is padded with zeros, whose outputs are left out.

    Args:
        call: network: images [batch, H, W, 3] -> outputs [batch, outputs].
        batch: its batch size; None = any, and `call` is returned unchanged.
    """
    if batch is None:
        return call

    def answer(images: np.ndarray) -> np.ndarray:
        outputs = []
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            padded = np.concatenate([part, np.zeros((batch - len(part), *part.shape[1:]), part.dtype)])
            outputs.append(call(padded)[: len(part)])
        return np.concatenate(outputs)

    return answer
