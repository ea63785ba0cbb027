"""Graphs for inference of one network or of a committee: raw pixels or encoded images in, probabilities out."""

import dataclasses
import functools
from collections.abc import Sequence

import keras
import tensorflow as tf

from dico_tf.export import cascade as cascades
from dico_tf.export.decoding import squares
from dico_tf.formulas.averages import AVERAGES
from dico_tf.formulas.softmax import log_softmax

ANSWER = "answer"  # scope of the operations after the logits, which stay in float32 in every file
_TINY = 1.2e-38  # about the smallest normal number: log 0 would be -infinity
BYTES_FEATURES = ("image_bytes", "image/encoded")  # features of a tf.train.Example: ours, and the usual one


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ExportMember:
    """Member of an export: one network, or the committee of several, whose graph also gives their disagreement."""

    name: str
    networks: Sequence[keras.Model]  # one, or those of the committee; raw images -> logits [B, C]
    class_names: Sequence[str]
    image_size: int
    short_side: int  # images are resized to this short side, then the centre is cut out
    average: str = "logits"  # how the committee averages its networks, as --average
    cascade: cascades.Cascade | None = None  # of a committee with gates

    @property
    def committee(self) -> bool:
        """True for the committee, False for a single network."""
        return self.name == "committee"


class Servable(tf.Module):
    """Module with the signatures of an ExportMember.

    Inputs are raw images [B, H, W, 3] of 0..255, or JPEG and PNG strings [B]; `classify` takes tf.train.Examples.
    Outputs are float32; class_id, and stage and cost of a cascade, are int64; class names are strings.
    The networks are hidden in closures, and the module holds their variables: Keras would store each weight twice.
    """

    def __init__(self, member: ExportMember):
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

        # Each function calls the one before, because tracing networks and image decoding takes seconds.
        self.serve = _function(lambda image: answers(member, image), image)
        self.serve_bytes = _function(from_bytes, image_bytes)
        self.classify = _function(classify, examples)
        self.cascade = _function(functools.partial(_cascaded, member.cascade), image) if member.cascade else None

    @property
    def signatures(self) -> dict[str, tf.types.experimental.GenericFunction]:
        """The functions by the names of their signatures; `cascade` is there only if the member has one."""
        functions = {"serving_default": self.serve, "serving_bytes": self.serve_bytes, "classify": self.classify}
        return {**functions, cascades.SIGNATURE: self.cascade} if self.cascade else functions


def _cascaded(cascade: cascades.Cascade, image: tf.Tensor) -> dict[str, tf.Tensor]:
    outputs = cascades.answers(cascade, image)
    return {name: outputs[name] for name in cascades.OUTPUTS}


def _function(call, spec: tf.TensorSpec):
    return tf.function(call, input_signature=[spec], autograph=False)


def _encoded(examples: tf.Tensor) -> tf.Tensor:
    """Return the feature image_bytes, or else image/encoded, of each serialized tf.train.Example [B]."""
    absent = tf.io.FixedLenFeature((), tf.string, "")
    features = tf.io.parse_example(examples, dict.fromkeys(BYTES_FEATURES, absent))
    ours, other = (features[name] for name in BYTES_FEATURES)
    return tf.where(ours == "", other, ours)


def answers(member: ExportMember, image: tf.Tensor) -> dict[str, tf.Tensor]:
    """Return the outputs for raw images [B, H, W, 3] by name: logits and probabilities [B, C], class_id [B].

    A committee also has branch_probabilities [B, S, C], and disagreement [B] in nats: the entropy of the branches' mean
    distribution minus their mean entropy.
    """
    apart = [tf.cast(network(image, training=False), tf.float32) for network in member.networks]
    with tf.name_scope(ANSWER):
        apart = tf.stack(apart, 1)
        average = AVERAGES[member.average if member.committee else "logits"]
        logits = average.combine(keras.ops, average.values(keras.ops, apart))
        outputs = {
            "logits": logits,
            "probabilities": tf.nn.softmax(logits),
            "class_id": tf.argmax(logits, -1, output_type=tf.int64),
        }
        if member.committee:
            of_branches = tf.exp(log_softmax(keras.ops, apart))  # softmax would be rounded in int8 files
            spread = _entropy(tf.reduce_mean(of_branches, 1)) - tf.reduce_mean(_entropy(of_branches), 1)
            outputs |= {"branch_probabilities": of_branches, "disagreement": tf.maximum(spread, 0.0)}
    return {name: tf.identity(value, name=name) for name, value in outputs.items()}


def _entropy(p: tf.Tensor) -> tf.Tensor:
    """Return -sum p log p over the classes, in nats; 0 log 0 = 0."""
    return -tf.reduce_sum(p * tf.math.log(tf.maximum(p, _TINY)), -1)
