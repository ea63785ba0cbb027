"""Members that are SavedModels of any origin with a signature from images to scores."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from dico_tf.data import image_decoding
from dico_tf.errors import UserError
from dico_tf.evaluation.members import preprocessing
from dico_tf.evaluation.members.member import Graph, LoadedNetwork, Member
from dico_tf.evaluation.members.member_uri import BACKGROUND, MemberURI
from dico_tf.evaluation.members.output_decoding import OutputDecoder
from dico_tf.evaluation.members.signature_checks import chosen_output, fixed_size, in_batches
from dico_tf.evaluation.members.tf_graph import array_function, graph_cost, preprocess_tensor
from dico_tf.files.checksums import checksum

OPTIONS = ("short_side", "pixels", "outputs", "background", "output")
DEFAULT = "serving_default"
_FLOATS = (tf.float32.as_datatype_enum, tf.float16.as_datatype_enum, tf.bfloat16.as_datatype_enum)
_IMAGES = (*_FLOATS, tf.uint8.as_datatype_enum)


def members(uri: MemberURI, classes: int) -> list[Member]:
    """Return the one member of a SavedModel; the part of the URI names a signature or is `background`.

    `classes` is the number of classes of the data, by which a background class is recognised; 0 = unknown.
    """
    uri.check(OPTIONS)
    path = Path(uri.place)
    signatures = _signatures(path, uri.source)
    name = _chosen(signatures, uri)
    key, image = _image(signatures[name], name, uri.source)
    output = _output(signatures[name], name, uri)
    dims = [None if d.size < 0 else d.size for d in image.tensor_shape.dim] or [None] * 4
    size = fixed_size(uri, *dims[1:3])
    ranges = preprocessing.check_pixels(uri.options.get("pixels", preprocessing.OWN))
    kind = tf.dtypes.as_dtype(image.dtype)
    part = "" if uri.part == BACKGROUND else uri.part
    return [
        Member(
            name=uri.label(part),
            kind=uri.kind,
            source=uri.source,
            weights=checksum(path)[0],
            input_size=size,
            short_side=uri.number("short_side", image_decoding.short_side(size)),
            settings={"pixels": ranges, "signature": name, "output": output},
            load=lambda: _network(path, name, key, output, size, kind, dims[0], ranges, uri.source),
            decoder=OutputDecoder(uri.options.get("outputs", "auto"), uri.background, classes),
            graph=lambda: _graph(path, name, key, output, kind, dims[0], ranges, uri.source),
        )
    ]


def _signatures(path: Path, source: str) -> dict[str, meta_graph_pb2.SignatureDef]:
    try:
        model = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    except Exception as error:  # protobuf has errors of its own
        raise UserError(
            f"{source} cannot be read: saved_model.pb is damaged or cannot be opened; copy or save the model again"
        ) from error
    graph = next((g for g in model.meta_graphs if "serve" in g.meta_info_def.tags), None)
    if graph is None:
        raise UserError(f"{source} cannot be used: no graph in saved_model.pb has the tag serve; save it again")
    return {name: signature for name, signature in graph.signature_def.items() if not name.startswith("__")}


def _described(signatures: Mapping[str, meta_graph_pb2.SignatureDef]) -> str:
    lines = []
    for name, signature in sorted(signatures.items()):
        inputs = ", ".join(f"{key} {_shape(info)}" for key, info in sorted(signature.inputs.items()))
        lines.append(f"{name} ({inputs or 'nothing'}) -> {', '.join(sorted(signature.outputs)) or 'nothing'}")
    return "; ".join(lines)


def _shape(info: meta_graph_pb2.TensorInfo) -> str:
    dims = "?" if info.tensor_shape.unknown_rank else ", ".join(str(d.size) for d in info.tensor_shape.dim)
    return f"{tf.dtypes.as_dtype(info.dtype).name} [{dims}]"


def _chosen(signatures: Mapping[str, Any], uri: MemberURI) -> str:
    if not signatures:
        raise UserError(
            f"{uri.source} has no signature: save it with tf.saved_model.save(module, DIR, "
            "signatures=module.CALL), or a Keras model with model.export(DIR)"
        )
    requested = "" if uri.part == BACKGROUND else uri.part
    name = requested or (DEFAULT if DEFAULT in signatures else next(iter(sorted(signatures))))
    if name not in signatures or (not requested and name != DEFAULT and len(signatures) > 1):
        raise UserError(
            f"{uri.source} has no signature {requested or DEFAULT!r}: write :SIGNATURE with one of "
            f"{_described(signatures)}"
        )
    return name


def _image(signature: Any, name: str, source: str) -> tuple[str, meta_graph_pb2.TensorInfo]:
    """Return the key and type of a signature's input. Raises UserError unless its only input can be images."""
    items = list(signature.inputs.items())
    if len(items) == 1:
        key, info = items[0]
        dims = [d.size for d in info.tensor_shape.dim]
        if info.dtype in _IMAGES and (info.tensor_shape.unknown_rank or (len(dims) == 4 and dims[3] in (3, -1))):
            return key, info
    raise UserError(
        f"{source}: expected a signature whose only input is images [B, side, side, 3] in uint8 or floats, got "
        f"{_described({name: signature})}; name another with :SIGNATURE"
    )


def _output(signature: Any, name: str, uri: MemberURI) -> str:
    def may_be_scores(info) -> bool:
        return info.dtype in _FLOATS and (info.tensor_shape.unknown_rank or len(info.tensor_shape.dim) == 2)

    scores = sorted(key for key, info in signature.outputs.items() if may_be_scores(info))
    return chosen_output(scores, sorted(signature.outputs), uri, _described({name: signature}))


def _load(path: Path, name: str, source: str) -> tuple[Any, Any]:
    """Return a SavedModel and its signature `name`. Raises UserError, which begins with `source`, if it cannot load."""
    try:
        loaded = tf.saved_model.load(str(path))
        return loaded, loaded.signatures[name]
    except Exception as error:  # missing or damaged files, unknown operations
        raise UserError(f"{source} cannot be loaded: {(str(error) or type(error).__name__).splitlines()[0]}") from error


def _graph(
    path: Path, name: str, key: str, output: str, kind: tf.DType, batch: int | None, ranges: str, source: str
) -> Graph:
    loaded, signature = _load(path, name, source)

    def call(images: tf.Tensor) -> tf.Tensor:
        return tf.cast(signature(**{key: preprocess_tensor(images, ranges, kind)})[output], tf.float32)

    def image_by_image(images: tf.Tensor) -> tf.Tensor:
        """Return the outputs of any number of images: the network runs on a full batch of copies of each image."""
        spec = tf.TensorSpec(signature.structured_outputs[output].shape[1:], tf.float32)
        return tf.map_fn(lambda image: call(tf.stack([image] * batch))[0], images, fn_output_signature=spec)

    return Graph(call=call if batch is None else image_by_image, trackables=[loaded])


def _network(
    path: Path, name: str, key: str, output: str, size: int, kind: tf.DType, batch: int | None, ranges: str, source: str
) -> LoadedNetwork:
    loaded, signature = _load(path, name, source)

    def call(images: tf.Tensor) -> tf.Tensor:
        return signature(**{key: images})[output]

    forward = in_batches(array_function(call, size, kind, batch), batch)
    numbers = np.uint8 if kind == tf.uint8 else np.float32

    def answer(images: np.ndarray) -> np.ndarray:
        _ = loaded  # keeps its variables alive
        values = preprocessing.preprocess(images, ranges, numbers)
        return forward(values if kind in (tf.uint8, tf.float32) else values.astype(kind.as_numpy_dtype))

    cost = graph_cost(call, size, kind, list(signature.variables), batch or 1)
    return LoadedNetwork(answer=answer, cost=cost)
