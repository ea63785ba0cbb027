"""What a committee asks: pictures in, logits out, at a size, a price and under a checksum of its own."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dico_tf.errors import UserError
from dico_tf.evaluation.cost import Cost
from dico_tf.evaluation.members.output_decoding import OutputDecoder


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadedNetwork:
    """A member that stands ready, as it says things itself."""

    answer: Callable[[np.ndarray], np.ndarray]  # uint8 [B, H, W, 3] -> float32 [B, outputs], B is free
    cost: Cost  # without milliseconds
    step: float = 0.0  # between neighbouring values of what it says, where that was quantised


@dataclasses.dataclass(frozen=True, kw_only=True)
class Graph:
    """A network as TensorFlow computes it, in float32."""

    call: Callable[[Any], Any]  # raw pixels float32 [B, H, W, 3] -> [B, outputs]
    holds: Sequence[Any]  # what is to be stored with it: its variables, or the object they belong to


@dataclasses.dataclass(frozen=True, kw_only=True)
class TFLiteFile:
    """A file that answers as it is."""

    path: Path
    kind: str  # as exports call it: float32, float16, dynamic or int8
    pixels: str
    output: str
    place: int  # of the output, among the file's


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Member:
    """Nothing is loaded before it is asked for the first time."""

    name: str
    kind: str
    source: str  # as given
    weights: str  # sha256; the same for one network at two resolutions
    input_size: int  # pixels of a side; 0 where it sees no pictures
    short_side: int  # pixels of the short side of which the middle is cut out
    load: Callable[[], LoadedNetwork]
    class_names: tuple[str, ...] | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # whatever else its answers depend on
    decoder: OutputDecoder = dataclasses.field(default_factory=OutputDecoder)
    stored: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None  # (ids, labels) -> logits, of a table
    graph: Callable[[], Graph] | None = None  # None: it is no graph of TensorFlow's
    file: TFLiteFile | None = None  # None: it is no such file

    @functools.cached_property
    def network(self) -> LoadedNetwork:
        return self.load()

    @property
    def cost(self) -> Cost:
        """Multiply-adds and parameters; milliseconds are measured on pictures."""
        return self.network.cost

    @functools.cached_property
    def checksum(self) -> str:
        """sha256 of the weights, the resolution, the preprocessing, and how its outputs are read."""
        seen = {
            "kind": self.kind,
            "weights": self.weights,
            "input_size": self.input_size,
            "short_side": self.short_side,
            "settings": dict(self.settings),
            "reading": self.decoder.settings,
        }
        return hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()

    def run(self, images: np.ndarray) -> np.ndarray:
        """uint8 [B, H, W, 3] -> logits float32 [B, C]."""
        if self.stored:
            raise UserError(f"{self.source} is a table of logits: it says nothing about pictures that are not in it")
        side = self.input_size
        if images.dtype != np.uint8 or images.shape[1:] != (side, side, 3):
            raise ValueError(f"{self.name} takes uint8 [B, {side}, {side}, 3], not {images.dtype} {images.shape}")
        return self.decoder(self.network.answer(images), self.network.step, self.name)
