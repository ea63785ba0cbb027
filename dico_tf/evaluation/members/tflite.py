"""Members that are .tflite files, float or quantised, run by LiteRT."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dico_tf.data import image_decoding
from dico_tf.errors import UserError
from dico_tf.evaluation.cost import Cost
from dico_tf.evaluation.members import preprocessing, tflite_graph
from dico_tf.evaluation.members.member import LoadedNetwork, Member, TFLiteFile
from dico_tf.evaluation.members.member_uri import BACKGROUND, MemberURI
from dico_tf.evaluation.members.output_decoding import OutputDecoder
from dico_tf.evaluation.members.signature_checks import chosen_output, fixed_size, in_batches
from dico_tf.evaluation.members.tflite_graph import TFLiteGraph, TFLiteTensor
from dico_tf.files.checksums import checksum

OPTIONS = ("short_side", "pixels", "outputs", "background", "output")
_IMAGES = {"FLOAT32": np.float32, "UINT8": np.uint8, "INT8": np.int8}
_QUANTISED = {"UINT8", "INT8", "INT16"}


def members(uri: MemberURI, classes: int) -> list[Member]:
    """Return the one member of a .tflite file.

    `classes` is the number of classes of the data, by which a background class is recognised; 0 = unknown.
    """
    uri.check(OPTIONS)
    path = Path(uri.place)
    if uri.part not in ("", BACKGROUND):
        raise UserError(f"{uri.source}: expected no part, or :{BACKGROUND}, got {uri.part!r}")
    graph = read_graph(path, uri.source)
    image = image_input(graph, uri.source)
    size = _size(image, uri)
    described = _described(graph.outputs)
    names = [t.name for t in graph.outputs if len(t.shape) == 2 and (t.kind == "FLOAT32" or t.kind in _QUANTISED)]
    output = chosen_output(sorted(names), [t.name for t in graph.outputs], uri, described)
    scores = next(t for t in graph.outputs if t.name == output)
    ranges = preprocessing.check_pixels(uri.options.get("pixels", preprocessing.OWN))
    return [
        Member(
            name=uri.label(),
            kind=uri.kind,
            source=uri.source,
            weights=checksum(path)[0],
            input_size=size,
            short_side=uri.number("short_side", image_decoding.short_side(size)),
            settings={"pixels": ranges, "output": output},
            load=lambda: network(path, graph, image, scores, size, ranges, uri.source),
            decoder=OutputDecoder(uri.options.get("outputs", "auto"), uri.background, classes),
            file=TFLiteFile(
                path=path, kind=graph.kind, pixels=ranges, output=output, place=graph.outputs.index(scores)
            ),
        )
    ]


def read_graph(path: Path, source: str) -> TFLiteGraph:
    """Read the graph of a .tflite file. Raises UserError, which begins with `source`, if it cannot be read."""
    try:
        return tflite_graph.read(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{source} cannot be read: {error}") from error


def _described(tensors: Sequence[TFLiteTensor]) -> str:
    return ", ".join(f"{t.name} {t.kind.lower()} {list(t.shape)}" for t in tensors) or "nothing"


def image_input(graph: TFLiteGraph, source: str) -> TFLiteTensor:
    """Return the only input of a graph. Raises UserError unless it is [B, H, W, 3] in float32, uint8 or int8."""
    if len(graph.inputs) == 1:
        image = graph.inputs[0]
        if len(image.shape) == 4 and image.shape[3] == 3 and image.kind in _IMAGES:
            return image
    raise UserError(
        f"{source}: expected one input [B, H, W, 3] in float32, uint8 or int8, got {_described(graph.inputs)}"
    )


def score_map(graph: TFLiteGraph, uri: MemberURI) -> TFLiteTensor:
    """Return the output [B, h, w, classes] of a segmentation network: the one of ?output, or the only one.

    If the file ends with an argmax, the scores it is computed from count as an output. Raises UserError if ?output is
    not such an output, or if it is missing and there is not exactly one.
    """
    every = (*graph.outputs, *graph.scores)
    maps = {t.name: t for t in every if len(t.shape) == 4 and (t.kind == "FLOAT32" or t.kind in _QUANTISED)}
    name = uri.options.get("output", "")
    if name in maps:
        return maps[name]
    if name or len(maps) != 1:
        raise UserError(
            f"{uri.source}: expected one output [B, h, w, classes], or ?output=NAME with the name of one, got "
            f"the outputs {_described(graph.outputs)}"
        )
    return next(iter(maps.values()))


def _size(image: TFLiteTensor, uri: MemberURI) -> int:
    return fixed_size(uri, *(None if size < 0 else size for size in image.shape[1:3]))


def network(
    path: Path, graph: TFLiteGraph, image: TFLiteTensor, scores: TFLiteTensor, size: int, ranges: str, source: str
) -> LoadedNetwork:
    """Load a .tflite file.

    Args:
        graph: of the file.
        image: its input.
        scores: the output to return.
        size: side of the images in pixels.
        ranges: value of ?pixels, a key of preprocessing.PIXELS.
        source: member's URI, for messages.
    """
    from dico_tf.runtime.litert import LiteRT

    batch, free = max(image.shape[0], 1), image.shape[0] < 0
    try:
        model = LiteRT(path, image_decoding.cores(), keep_tensors=scores in graph.scores)
        model.prepare((batch, size, size, 3))
    except (RuntimeError, ValueError) as error:  # operations that LiteRT does not have
        raise UserError(f"{source} cannot be run by LiteRT: {str(error).splitlines()[0]}") from error
    output = model.tensor(scores.index)

    def call(batch_of_images: np.ndarray) -> np.ndarray:
        return model.run(batch_of_images, output)

    forward = in_batches(call, None if free else batch)
    step = scores.scale if scores.kind in _QUANTISED else 0.0
    kind = _IMAGES[image.kind]
    return LoadedNetwork(
        answer=lambda images: forward(preprocessing.preprocess(images, ranges, kind, image.scale, image.zero)),
        cost=Cost(macs=math.nan if image.shape[1] < 0 else graph.macs, params=graph.params),
        step=step,
    )
