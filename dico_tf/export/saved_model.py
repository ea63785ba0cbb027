"""A member as a SavedModel that TensorFlow Serving and the C API answer from."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from dico_tf.export.graph import Member, Servable, answers

NOISE = 8  # made-up pictures on which every SavedModel is compared with its network
ROUNDING = 1e-4  # of the largest logit
CLASSIFY = "tensorflow/serving/classify"
_OF_XLA = ("_XlaMustCompile", "_noinline")  # what Keras' grouped convolution brings; LiteRT knows no calls


def write(member: Member, folder: str | Path) -> None:
    """The signatures serving_default, serving_bytes and classify; every weight once."""
    servable = Servable(member)
    tf.saved_model.save(servable, str(folder), signatures=servable.signatures)
    edit(Path(folder) / "saved_model.pb")


def noise(side: int) -> np.ndarray:
    """uint8 [NOISE, side, side, 3], the same every time."""
    return np.random.default_rng(0).integers(0, 256, (NOISE, side, side, 3)).astype(np.uint8)


def difference(member: Member, path: Path) -> float:
    """Largest one of a logit on made-up pictures; an error where it is not rounding."""
    images = noise(member.image_size).astype(np.float32)
    loaded = tf.saved_model.load(str(path))
    found, expected = (
        loaded.signatures["serving_default"](image=tf.constant(images)),
        answers(member, tf.constant(images)),
    )
    away = float(abs(found["logits"] - expected["logits"]).numpy().max())
    if not away <= ROUNDING * max(1.0, float(abs(expected["logits"]).numpy().max())):
        raise RuntimeError(f"the SavedModel of {member.name} answers other than its network: logits {away} away")
    return away


def logits(member: Member, images: np.ndarray) -> np.ndarray:
    """[B, C] of the networks themselves."""
    return answers(member, tf.constant(images, tf.float32))["logits"].numpy()


def edit(path: Path) -> None:
    """Names the method of `classify`, and takes back what would make XLA compile a function.

    Keras wraps grouped convolutions so, and the stock server refuses such a model at its first request.
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
    """Of every node and function."""
    for node in graph.node:
        yield node.attr
    for function in graph.library.function:
        yield function.attr
        for node in function.node_def:
            yield node.attr
