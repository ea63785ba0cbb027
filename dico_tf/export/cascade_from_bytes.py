"""SavedModel of a cascade that takes encoded images, and decodes them for each member at its own size."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow as tf

from dico_tf.committee.decision import Committee
from dico_tf.evaluation.members.tf_graph import GraphNetwork
from dico_tf.export import cascade as cascades
from dico_tf.export import saved_model
from dico_tf.export.cascade import Cascade
from dico_tf.export.decoding import squares


class CascadeFromBytes(tf.Module):
    """Module with the function of the signature `cascade`.

    It maps image_bytes, JPEG or PNG strings [B], to probabilities, class_id, stage and cost; see cascade.answers.
    """

    def __init__(
        self,
        committee: Committee,
        networks: Sequence[GraphNetwork],
        views: Sequence[tuple[int, int]],
        costs: Sequence[int],
        classes: int,
    ):
        """Build the module.

        Args:
            networks: raw images float32 [B, H, W, 3] -> logits [B, C], in the order of the committee's members.
            views: (image size, short side) of each member.
            costs: multiply-adds of each member for one image.
            classes: number of classes C.
        """
        super().__init__()
        self.weights = [variable.value for network in networks for variable in network.variables]
        decoding = [_with_decoding(network, *view) for network, view in zip(networks, views, strict=True)]
        cascade = Cascade(committee=committee, networks=decoding, costs=costs, classes=classes)
        spec = tf.TensorSpec((None,), tf.string, name="image_bytes")
        call = functools.partial(_answers, cascade)
        self.cascade = tf.function(lambda image_bytes: call(image_bytes), input_signature=[spec], autograph=False)


def _with_decoding(network: GraphNetwork, size: int, short: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return a function: JPEG or PNG strings [B] -> logits [B, C]. `size` and `short` are those of decoding.squares."""
    return lambda contents: network(tf.cast(squares(contents, size, short), tf.float32))


def _answers(cascade: Cascade, contents: tf.Tensor) -> dict[str, tf.Tensor]:
    outputs = cascades.answers(cascade, contents)
    return {name: outputs[name] for name in cascades.OUTPUTS}


def write(
    committee: Committee,
    networks: Sequence[GraphNetwork],
    views: Sequence[tuple[int, int]],
    costs: Sequence[int],
    classes: int,
    folder: Path,
) -> None:
    """Write a SavedModel with the signature `cascade`; arguments as for CascadeFromBytes."""
    module = CascadeFromBytes(committee, networks, views, costs, classes)
    tf.saved_model.save(module, str(folder), signatures={cascades.SIGNATURE: module.cascade})
    saved_model.edit(folder / "saved_model.pb")
