"""Members in .keras files, which are loaded in Keras' safe mode."""

import dataclasses
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from dico_tf.cotrain.dico import DiCo
from dico_tf.data import image_decoding
from dico_tf.divide.networks import architecture
from dico_tf.divide.networks.cost import cost as network_cost
from dico_tf.divide.networks.graph import copy_weights
from dico_tf.errors import UserError
from dico_tf.evaluation.cost import Cost
from dico_tf.evaluation.members import preprocessing, runs
from dico_tf.evaluation.members.member import Graph, LoadedNetwork, Member
from dico_tf.evaluation.members.member_uri import BACKGROUND, MemberURI
from dico_tf.evaluation.members.output_decoding import OutputDecoder
from dico_tf.evaluation.members.pixel_layers import on_raw_pixels
from dico_tf.evaluation.members.signature_checks import fixed_size
from dico_tf.evaluation.members.tf_graph import array_function, preprocess_tensor
from dico_tf.files.checksums import checksum
from dico_tf.layers import keras_internals
from dico_tf.registry import suggestion

OPTIONS = ("short_side", "pixels", "outputs", "background")


def members(uri: MemberURI, classes: int) -> list[Member]:
    """Return the network of the file as a member; of a saved DiCo each branch, or the branch or ensemble of the URI.

    `classes` is the number of classes of the data, by which a background class is recognised; 0 = unknown.
    """
    uri.check(OPTIONS)
    path = Path(uri.place)
    model = load_keras_file(path, uri.source)
    dico = isinstance(model, DiCo)
    size = _size(model, uri, model.get_config()["image_size"] if dico else 0)
    ranges = preprocessing.check_pixels(uri.options.get("pixels", preprocessing.OWN))
    shared = {
        "kind": uri.kind,
        "source": uri.source,
        "weights": checksum(path)[0],
        "input_size": size,
        "short_side": uri.number("short_side", image_decoding.short_side(size)),
    }
    if dico:
        return _dico_members(model, uri, shared)
    if uri.part not in ("", BACKGROUND):
        raise UserError(f"{uri.source}: expected no part, or :{BACKGROUND}, got {uri.part!r}")
    decoder = OutputDecoder(uri.options.get("outputs", "auto"), uri.background, classes)
    return [
        Member(
            name=uri.label(),
            settings={"pixels": ranges},
            load=lambda: _network(model, ranges, size),
            graph=lambda: _graph(model, ranges),
            keras_model=lambda: on_raw_pixels(in_float32(model), preprocessing.PIXELS[ranges], size),
            decoder=decoder,
            **shared,
        )
    ]


def _dico_members(model: DiCo, uri: MemberURI, shared: dict) -> list[Member]:
    """Return the members of a saved DiCo: each branch, or the branch or ensemble that the URI names.

    Args:
        shared: arguments of `Member` that all of them have.
    """
    names, settings = [f"branch_{s}" for s in range(model.splits)], dataclasses.asdict(model.settings)
    if uri.part and uri.part not in (*names, runs.ENSEMBLE):
        near = suggestion(uri.part, (*names, runs.ENSEMBLE))
        raise UserError(f"{uri.source}: the file has no {uri.part!r}; {near}")
    uri.check(("short_side",))

    def member(part: str) -> Member:
        chosen = model.branches if part == runs.ENSEMBLE else [model.branches[names.index(part)]]
        return Member(
            name=uri.label(part),
            settings={"part": part, "average": model.average},
            load=lambda: runs.network(chosen, model.average, shared["input_size"]),
            decoder=OutputDecoder("logits", "none"),
            graph=lambda: runs.graph([in_float32(branch) for branch in chosen], model.average),
            keras_model=(lambda: in_float32(chosen[0])) if len(chosen) == 1 else None,
            frozen=None if part == runs.ENSEMBLE else runs.frozen_layers(settings, names.index(part)),
            **{**shared, "source": uri.with_part(part)},
        )

    return [member(part) for part in ([uri.part] if uri.part else names)]


def load_keras_file(path: Path, source: str) -> keras.Model:
    """Load a .keras file in Keras' safe mode. Raises UserError, which begins with `source`, if it cannot be read."""
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises errors of many types
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{source} cannot be read: {reason}\nSave it with model.save in the .keras format, and "
            "register your own layers before you load it"
        ) from error


def _size(model: keras.Model, uri: MemberURI, dico_size: int) -> int:
    """Return the side of a member's images: the network's own, or that of the URI if the network takes any size.

    Raises UserError unless it has one input, square RGB images of this size, and one output [B, classes].

    Args:
        dico_size: image size of a DiCo; 0 = the model is no DiCo.
    """
    shapes = [(None, dico_size, dico_size, 3)] if dico_size else [tuple(x.shape) for x in model.inputs or ()]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][-1] != 3:
        raise UserError(f"{uri.source}: expected one input [side, side, 3], got {[s[1:] for s in shapes]}")
    height, width = shapes[0][1:3]
    outputs = [] if dico_size else [tuple(x.shape) for x in model.outputs]
    if not dico_size and (len(outputs) != 1 or len(outputs[0]) != 2):
        raise UserError(f"{uri.source}: expected one output [classes], got {[s[1:] for s in outputs]}")
    return fixed_size(uri, height, width)


def _graph(model: keras.Model, ranges: str) -> Graph:
    network, kind = in_float32(model), tf.as_dtype(model.inputs[0].dtype)
    kind = tf.float32 if kind.is_floating else kind
    return Graph(
        call=lambda images: network(preprocess_tensor(images, ranges, kind), training=False),
        trackables=[variable.value for variable in network.variables],
    )


def in_float32(model: keras.Model) -> keras.Model:
    """Return the network if it computes in float32, else a float32 copy with the same weights."""
    if all(layer.dtype_policy.name == "float32" for layer in keras_internals.sublayers(model)):
        return model
    copy = type(model).from_config(architecture.in_float32(model.get_config()))
    copy_weights(model, copy)
    return copy


def _network(model: keras.Model, ranges: str, size: int) -> LoadedNetwork:
    image = model.inputs[0]
    kind = np.dtype("float32" if "float" in image.dtype else image.dtype)
    forward = array_function(lambda images: model(images, training=False), size, tf.as_dtype(kind))
    if image.shape[1] is None:  # multiply-adds depend on the size
        sized = keras.Input((size, size, 3), dtype=image.dtype)
        cost = network_cost(keras.Model(sized, model(sized)))
    else:
        cost = network_cost(model)
    macs = float("nan") if cost.macs is None else float(cost.macs)
    return LoadedNetwork(
        answer=lambda images: forward(preprocessing.preprocess(images, ranges, kind)),
        cost=Cost(macs=macs, params=float(cost.params)),
    )
