""".tflite files, float or quantised, run by LiteRT."""

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
_STEPS = {"UINT8", "INT8", "INT16"}


def members(uri: MemberURI, classes: int) -> list[Member]:
    uri.check(OPTIONS)
    path = Path(uri.place)
    if uri.part not in ("", BACKGROUND):
        raise UserError(f"{uri.source}: a .tflite file has no part {uri.part!r}; it may have :{BACKGROUND}")
    try:
        contents = tflite_graph.read(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{uri.source} cannot be read: {error}") from error
    image = image_of(contents, uri.source)
    size = _size(image, uri)
    described = _described(contents.outputs)
    scores = [t.name for t in contents.outputs if len(t.shape) == 2 and (t.kind == "FLOAT32" or t.kind in _STEPS)]
    output = chosen_output(sorted(scores), [t.name for t in contents.outputs], uri, described)
    found = next(t for t in contents.outputs if t.name == output)
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
            load=lambda: network(path, contents, image, found, size, ranges, uri.source),
            decoder=OutputDecoder(uri.options.get("outputs", "auto"), uri.background, classes),
            file=TFLiteFile(
                path=path, kind=contents.kind, pixels=ranges, output=output, place=contents.outputs.index(found)
            ),
        )
    ]


def _described(tensors: Sequence[TFLiteTensor]) -> str:
    return ", ".join(f"{t.name} {t.kind.lower()} {list(t.shape)}" for t in tensors) or "nothing"


def image_of(contents: TFLiteGraph, source: str) -> TFLiteTensor:
    if len(contents.inputs) == 1:
        image = contents.inputs[0]
        if len(image.shape) == 4 and image.shape[3] == 3 and image.kind in _IMAGES:
            return image
    raise UserError(f"{source} takes {_described(contents.inputs)}: a member takes one picture [B, side, side, 3] in "
                    "float32, uint8 or int8")  # fmt: skip


def map_of(contents: TFLiteGraph, uri: MemberURI) -> TFLiteTensor:
    """The output that gives every class of every place a score."""
    every = (*contents.outputs, *contents.scores)
    maps = {t.name: t for t in every if len(t.shape) == 4 and (t.kind == "FLOAT32" or t.kind in _STEPS)}
    asked = uri.options.get("output", "")
    if asked in maps:
        return maps[asked]
    if asked or len(maps) != 1:
        raise UserError(f"{uri.source} has {_described(contents.outputs)}: name one that is [B, h, w, classes] "
                        "as ?output=NAME")  # fmt: skip
    return next(iter(maps.values()))


def _size(image: TFLiteTensor, uri: MemberURI) -> int:
    return fixed_size(uri, *(None if size < 0 else size for size in image.shape[1:3]))


def network(
    path: Path, contents: TFLiteGraph, image: TFLiteTensor, found: TFLiteTensor, size: int, ranges: str, source: str
) -> LoadedNetwork:
    from dico_tf.runtime.litert import LiteRT

    batch, free = max(image.shape[0], 1), image.shape[0] < 0
    try:
        model = LiteRT(path, image_decoding.cores(), keep_tensors=found in contents.scores)
        model.prepare((batch, size, size, 3))
    except (RuntimeError, ValueError) as error:  # operations that LiteRT does not know
        raise UserError(f"{source} cannot be run by LiteRT: {str(error).splitlines()[0]}") from error
    output = model.tensor(found.index)

    def call(part: np.ndarray) -> np.ndarray:
        return model.run(part, output)

    forward = in_batches(call, None if free else batch)
    step = found.scale if found.kind in _STEPS else 0.0
    kind = _IMAGES[image.kind]
    return LoadedNetwork(
        answer=lambda images: forward(preprocessing.preprocess(images, ranges, kind, image.scale, image.zero)),
        cost=Cost(macs=math.nan if image.shape[1] < 0 else contents.macs, params=contents.params),
        step=step,
    )
