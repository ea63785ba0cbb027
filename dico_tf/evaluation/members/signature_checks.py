"""What a network's inputs and outputs must be to answer for pictures."""

from collections.abc import Callable, Sequence

import numpy as np

from dico_tf.errors import UserError
from dico_tf.evaluation.members.member_uri import MemberURI

PREFERRED = ("logits", "probabilities")  # of several outputs; the first that is there
Call = Callable[[np.ndarray], np.ndarray]


def fixed_size(uri: MemberURI, height: int | None, width: int | None) -> int:
    """The side of the pictures that a network with this input takes."""
    if height is None and width is None:
        if not uri.size:
            raise UserError(f"{uri.source} takes pictures of any size: say which, as in {uri.source}@224")
        return uri.size
    if height != width:
        raise UserError(f"{uri.source} takes pictures of {height}x{width} pixels: members here see squares")
    if uri.size not in (0, height):
        raise UserError(
            f"{uri.source}: the file is made for {height} pixels and cannot be built for {uri.size}; runs, "
            "keras: networks and files that take any size can"
        )
    return height


def chosen_output(scores: Sequence[str], every: Sequence[str], uri: MemberURI, described: str) -> str:
    """The output asked for, the preferred one, or the only one that gives one score per class."""
    asked = uri.options.get("output", "")
    if asked and asked not in every:
        raise UserError(f"{uri.source} has no output {asked!r}: {described}")
    found = asked or next((key for key in PREFERRED if key in scores), scores[0] if len(scores) == 1 else "")
    if not found:
        several = "several outputs that may be scores: add ?output=NAME" if scores else "no output [B, classes]"
        raise UserError(f"{uri.source} has {several}: {described}")
    return found


def in_batches(call: Call, batch: int | None) -> Call:
    """Of a network that takes so many pictures at a time and no others; the last time it is filled up."""
    if batch is None:
        return call

    def answer(images: np.ndarray) -> np.ndarray:
        found = []
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            filled = np.concatenate([part, np.zeros((batch - len(part), *part.shape[1:]), part.dtype)])
            found.append(call(filled)[: len(part)])
        return np.concatenate(found)

    return answer
