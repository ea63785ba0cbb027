"""A branch, or the committee, as a graph for inference: raw pixels or encoded pictures in, answers out."""

import dataclasses
import functools
from collections.abc import Sequence

import keras
import tensorflow as tf

from dico_tf.export import cascade as cascades
from dico_tf.export.decoding import squares

ANSWER = "answer"  # scope of what turns logits into answers, which stays in float32 in every file
_TINY = 1.2e-38  # about the smallest normal number: the logarithm of 0 is none
BYTES_FEATURES = ("image_bytes", "image/encoded")  # of a tf.train.Example: ours, and the one common elsewhere


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Member:
    """One branch; or all of them together, which then also say how far they disagree."""

    name: str
    networks: Sequence[keras.Model]
    class_names: Sequence[str]
    image_size: int
    short_side: int  # pixels to which pictures are resized before the centre is cut out
    average: str = "logits"
    cascade: cascades.Cascade | None = None  # of the committee, where it was given gates

    @property
    def committee(self) -> bool:
        return self.name == "committee"


class Servable(tf.Module):
    """image [B, H, W, 3], raw 0..255, or JPEG and PNG strings [B] -> answers, float32 but for class_id; B is free.

    Keras would store every weight twice: so the module holds the variables, and the networks hide in closures.
    """

    def __init__(self, member: Member):
        super().__init__()
        self.weights = [variable.value for network in member.networks for variable in network.variables]
        size = member.image_size
        image = tf.TensorSpec((None, size, size, 3), tf.float32, name="image")
        image_bytes = tf.TensorSpec((None,), tf.string, name="image_bytes")
        examples = tf.TensorSpec((None,), tf.string, name="inputs")

        def from_bytes(image_bytes):
            return self.serve(tf.cast(squares(image_bytes, size, member.short_side), tf.float32))

        def classify(inputs):
            scores = self.serve_bytes(_encoded(inputs))["probabilities"]
            names = tf.tile(tf.constant(list(member.class_names))[None], [tf.shape(inputs)[0], 1])
            return {"classes": names, "scores": scores}

        # Each calls the one before: tracing a network and the decoding of images takes seconds.
        self.serve = _function(lambda image: answers(member, image), image)
        self.serve_bytes = _function(from_bytes, image_bytes)
        self.classify = _function(classify, examples)
        self.cascade = _function(functools.partial(_cascaded, member.cascade), image) if member.cascade else None

    @property
    def signatures(self) -> dict[str, tf.types.experimental.GenericFunction]:
        found = {"serving_default": self.serve, "serving_bytes": self.serve_bytes, "classify": self.classify}
        return {**found, cascades.SIGNATURE: self.cascade} if self.cascade else found


def _cascaded(cascade: cascades.Cascade, image: tf.Tensor) -> dict[str, tf.Tensor]:
    found = cascades.answers(cascade, image)
    return {name: found[name] for name in cascades.OUTPUTS}


def _function(call, spec: tf.TensorSpec):
    return tf.function(call, input_signature=[spec], autograph=False)


def _encoded(examples: tf.Tensor) -> tf.Tensor:
    """The picture of each serialized tf.train.Example [B]."""
    absent = tf.io.FixedLenFeature((), tf.string, "")
    found = tf.io.parse_example(examples, dict.fromkeys(BYTES_FEATURES, absent))
    ours, other = (found[name] for name in BYTES_FEATURES)
    return tf.where(ours == "", other, ours)


def answers(member: Member, image: tf.Tensor) -> dict[str, tf.Tensor]:
    """Names and values of the signature's outputs; branch_probabilities [B, S, C] and disagreement [B] in nats."""
    apart = [tf.cast(network(image, training=False), tf.float32) for network in member.networks]
    with tf.name_scope(ANSWER):
        apart = tf.stack(apart, 1)
        logits = _COMBINE[member.average if member.committee else "logits"](apart)
        found = {
            "logits": logits,
            "probabilities": tf.nn.softmax(logits),
            "class_id": tf.argmax(logits, -1, output_type=tf.int64),
        }
        if member.committee:
            of_branches = _softmax(apart)
            spread = _entropy(tf.reduce_mean(of_branches, 1)) - tf.reduce_mean(_entropy(of_branches), 1)
            found |= {"branch_probabilities": of_branches, "disagreement": tf.maximum(spread, 0.0)}
    return {name: tf.identity(value, name=name) for name, value in found.items()}


_COMBINE = {  # [B, S, C] -> [B, C], as evaluation/averaging.py does in numpy
    "logits": lambda logits: tf.reduce_mean(logits, 1),
    "probs": lambda logits: _log(tf.reduce_mean(_softmax(logits), 1)),
    "max": lambda logits: tf.reduce_max(logits, 1),
}


def _softmax(logits: tf.Tensor) -> tf.Tensor:
    """Not as one operation: where more follows, int8 files would round its result to 1/256 whatever is asked for."""
    logits = logits - tf.reduce_max(logits, -1, keepdims=True)
    return tf.exp(logits - tf.math.log(tf.reduce_sum(tf.exp(logits), -1, keepdims=True)))


def _entropy(p: tf.Tensor) -> tf.Tensor:
    """-sum p log p over the classes, in nats; 0 log 0 = 0."""
    return -tf.reduce_sum(p * _log(p), -1)


def _log(p: tf.Tensor) -> tf.Tensor:
    return tf.math.log(tf.maximum(p, _TINY))
