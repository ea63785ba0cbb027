"""A member as a SavedModel that TensorFlow Serving and the C API answer from."""

from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from dico_tf.export.graph import Member, Servable

CLASSIFY = "tensorflow/serving/classify"
_OF_XLA = ("_XlaMustCompile", "_noinline")  # what Keras' grouped convolution brings; LiteRT knows no calls


def write(member: Member, folder: str | Path) -> None:
    """The signatures serving_default, serving_bytes and classify; every weight once."""
    servable = Servable(member)
    tf.saved_model.save(servable, str(folder), signatures=servable.signatures)
    _edit(Path(folder) / "saved_model.pb")


def _edit(path: Path) -> None:
    """Names the method of `classify`, and takes back what would make XLA compile a function.

    Keras wraps grouped convolutions so, and the stock server refuses such a model at its first request.
    """
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for graph in model.meta_graphs:
        graph.signature_def["classify"].method_name = CLASSIFY
        for attributes in _attributes(graph.graph_def):
            for name in _OF_XLA:
                attributes.pop(name, None)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _attributes(graph) -> Iterator:
    """Of every node and function."""
    for node in graph.node:
        yield node.attr
    for function in graph.library.function:
        yield function.attr
        for node in function.node_def:
            yield node.attr
