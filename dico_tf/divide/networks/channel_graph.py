"""Read the channels of a network: which are joined by sums, and which weights read and write them.

The layers' calls are followed in order; a rule for each class of layers says how its output's channels follow from its
inputs'. Channels are the last axis of a tensor.
"""

import dataclasses
from typing import Any

import keras
import numpy as np

from dico_tf.divide.networks import channel_rules  # registers the rules
from dico_tf.divide.networks.channel_labels import LabelledCall, Reader, Rule, passed
from dico_tf.divide.networks.graph import calls
from dico_tf.divide.networks.slices import ChannelGraph, components

LABELS = channel_rules.LABELS


def channel_graph(model: keras.Model, whole: ChannelGraph | None = None) -> ChannelGraph:
    """Return the channels of a functional model without nested models. Raises UserError if a layer has no rule.

    Args:
        whole: channels of the network that the model is a branch of. Convolutions that are grouped there are treated as
            grouped in the branch, too, even if they have one group.
    """
    layouts = whole.layouts.items() if whole else ()
    reader = Reader(frozenset(name.split("/")[0] for name, layout in layouts if layout.groups > 1))
    tensors: dict[int, np.ndarray | None] = {id(x): reader.new(x.shape[-1]) for x in model.inputs}
    first: dict[Any, tuple] = {}
    for call in calls(model):
        inputs = [tensors[id(x)] for x in call.inputs]
        labelled = LabelledCall(call, inputs, reader)
        if call.operation in first and call.operation.weights:  # a shared layer: the same weights, the same channels
            before, outputs = first[call.operation]
            for one, other in zip(before, inputs, strict=True):
                if one is not None and other is not None:
                    reader.join(one, other)
        else:
            outputs = _rule(call.operation)(labelled)
            outputs = outputs if isinstance(outputs, list) else [outputs]
            first[call.operation] = inputs, outputs
        tensors.update(zip(map(id, call.outputs), outputs, strict=True))
    root = components(reader.count, reader.equal)
    units = components(reader.count, [*reader.equal, *reader.together])
    return ChannelGraph(
        layouts={
            name: dataclasses.replace(one, axes=tuple(x if x is None else _rooted(root, x) for x in one.axes))
            for name, one in reader.layouts.items()
        },
        units=units,
        outputs=_rooted(root, np.concatenate([tensors[id(x)] for x in model.outputs])),
    )


def _rooted(root: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.where(labels >= 0, root[labels], -1)


def _rule(operation: Any) -> Rule:
    return next((LABELS[kind.__name__] for kind in type(operation).__mro__ if kind.__name__ in LABELS), passed)
