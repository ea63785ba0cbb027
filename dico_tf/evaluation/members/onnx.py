"""Members that are .onnx files, run by ONNX Runtime on the CPU, without TensorFlow."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dico_tf.data import image_decoding
from dico_tf.errors import UserError
from dico_tf.evaluation.cost import Cost
from dico_tf.evaluation.members import preprocessing
from dico_tf.evaluation.members.member import LoadedNetwork, Member
from dico_tf.evaluation.members.member_uri import BACKGROUND, MemberURI
from dico_tf.evaluation.members.output_decoding import OutputDecoder
from dico_tf.evaluation.members.signature_checks import chosen_output, fixed_size, in_batches
from dico_tf.files.checksums import checksum

OPTIONS = ("short_side", "pixels", "outputs", "background", "output")
_IMAGES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
_SCORES = ("tensor(float)", "tensor(float16)")


def members(uri: MemberURI, classes: int) -> list[Member]:
    """Return the one member of an .onnx file.

    `classes` is the number of classes of the data, by which a background class is recognised; 0 = unknown.
    """
    uri.check(OPTIONS)
    path = Path(uri.place)
    if uri.part not in ("", BACKGROUND):
        raise UserError(f"{uri.source}: expected no part, or :{BACKGROUND}, got {uri.part!r}")
    session = _session(path, uri.source)
    image, outputs = _image(session.get_inputs(), uri.source), session.get_outputs()
    size = fixed_size(uri, *(_length(length) for length in image.shape[1:3]))
    scores = sorted(value.name for value in outputs if value.type in _SCORES and len(value.shape) == 2)
    output = chosen_output(scores, [value.name for value in outputs], uri, _described(outputs))
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
            load=lambda: _network(session, image, output, ranges),
            decoder=OutputDecoder(uri.options.get("outputs", "auto"), uri.background, classes),
        )
    ]


def _session(path: Path, source: str) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise UserError(f'{source} needs onnxruntime, which is not installed: pip install "dico_tf[onnx]"') from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = image_decoding.cores()
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # damaged files and unknown operations raise errors of many types
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{source} cannot be read by ONNX Runtime: {reason}") from error


def _length(length: int | str | None) -> int | None:
    """Return the length of a dimension, or None if it may have any length, which ONNX writes as a name."""
    return length if isinstance(length, int) else None


def _described(values: Sequence[Any]) -> str:
    return ", ".join(f"{value.name} {value.type} {value.shape}" for value in values) or "nothing"


def _image(inputs: Sequence[Any], source: str) -> Any:
    if len(inputs) == 1 and inputs[0].type in _IMAGES and len(inputs[0].shape) == 4 and inputs[0].shape[3] == 3:
        return inputs[0]
    raise UserError(
        f"{source}: expected one input [B, side, side, 3] in float32, float16 or uint8, got {_described(inputs)}; "
        "a network with channels first must be converted to channels last"
    )


def _network(session: Any, image: Any, output: str, ranges: str) -> LoadedNetwork:
    def call(batch: np.ndarray) -> np.ndarray:
        return session.run([output], {image.name: batch})[0].astype(np.float32)

    forward, kind = in_batches(call, _length(image.shape[0])), _IMAGES[image.type]
    return LoadedNetwork(answer=lambda images: forward(preprocessing.preprocess(images, ranges, kind)), cost=Cost())
