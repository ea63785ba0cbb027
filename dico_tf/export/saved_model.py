"""Writes a member as a SavedModel for TensorFlow Serving and the C API."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from dico_tf.export.graph import ExportMember, Servable, answers

NOISE = 8  # images of noise on which a file is compared with its network
CLASSIFY = "tensorflow/serving/classify"
_OF_XLA = ("_XlaMustCompile", "_noinline")  # attributes that Keras gives grouped convolutions


def write(member: ExportMember, folder: str | Path) -> None:
    """Write a SavedModel with all signatures of a member, in which each weight is stored once."""
    servable = Servable(member)
    tf.saved_model.save(servable, str(folder), signatures=servable.signatures)
    edit(Path(folder) / "saved_model.pb")


def noise(side: int) -> np.ndarray:
    """Return noise images, uint8 [NOISE, side, side, 3]; they are the same at each call."""
    return np.random.default_rng(0).integers(0, 256, (NOISE, side, side, 3)).astype(np.uint8)


def logits(member: ExportMember, images: np.ndarray) -> np.ndarray:
    """Return the logits [B, C] of a member for raw images [B, H, W, 3] of 0..255; a committee averages by its rule."""
    return answers(member, tf.constant(images, tf.float32))["logits"].numpy()


def edit(path: Path) -> None:
    """Edit a saved_model.pb: set the method name of `classify`, and remove attributes that make XLA compile functions.

    Keras sets these attributes for grouped convolutions; the stock server then refuses the model at its first request.
    """
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for graph in model.meta_graphs:
        if "classify" in graph.signature_def:
            graph.signature_def["classify"].method_name = CLASSIFY
        for attributes in _attributes(graph.graph_def):
            for name in _OF_XLA:
                attributes.pop(name, None)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _attributes(graph) -> Iterator:
    """Yield the attributes of every node and function of a graph."""
    for node in graph.node:
        yield node.attr
    for function in graph.library.function:
        yield function.attr
        for node in function.node_def:
            yield node.attr
