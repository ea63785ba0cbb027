"""Members that are branches of a trained run, or its ensemble, at the image size of the training or at another."""

import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from dico_tf.data import image_decoding
from dico_tf.data.known_datasets import CIFAR_LARGEST
from dico_tf.divide.networks.architecture import in_float32
from dico_tf.divide.networks.cost import cost as network_cost
from dico_tf.divide.networks.graph import FrozenLayers
from dico_tf.errors import UserError
from dico_tf.evaluation.averaging import combine
from dico_tf.evaluation.cost import Cost
from dico_tf.evaluation.members.member import Graph, LoadedNetwork, Member
from dico_tf.evaluation.members.member_uri import MemberURI
from dico_tf.evaluation.members.output_decoding import OutputDecoder
from dico_tf.evaluation.members.tf_graph import array_function
from dico_tf.formulas.averages import AVERAGES
from dico_tf.invocation import command
from dico_tf.layers.embeddings import resize_positions
from dico_tf.layers.image_input import Normalisation
from dico_tf.models.preset import Preset
from dico_tf.models.presets import find
from dico_tf.models.submodel import shorter
from dico_tf.registry import suggestion
from dico_tf.training.build import OWNER_FROZEN, TrainedRun, trained_run

ENSEMBLE = "ensemble"
OPTIONS = ("blocks",)


def members(uri: MemberURI, classes: int) -> list[Member]:
    """Return each branch of a classification run, or the branch or ensemble that the URI names.

    `classes` is not used: a run knows its classes.
    """
    uri.check(OPTIONS)
    run = trained_run(uri.place)
    run.check_images("members", f"give a classification run; {command('committee scenes')} takes those of segmentation")
    names = [f"branch_{s}" for s in range(run.config.network.splits)]
    if uri.part and uri.part not in (*names, ENSEMBLE):
        raise UserError(
            f"{uri.source}: the run {run.workdir} has no {uri.part!r}; {suggestion(uri.part, (*names, ENSEMBLE))}"
        )
    blocks = uri.number("blocks", 0)

    @functools.cache
    def build(precision: str = "") -> list[keras.Model]:
        return _with_blocks(branches(run, uri.size, precision), blocks, uri.source)

    return [_member(uri, run, part, build) for part in ([uri.part] if uri.part else names)]


def _member(uri: MemberURI, run: TrainedRun, part: str, build: Callable[..., list[keras.Model]]) -> Member:
    blocks = uri.number("blocks", 0)
    size, config = run.data["image_size"], run.config
    input_size = uri.size or size
    chosen = range(config.network.splits) if part == ENSEMBLE else [int(part.removeprefix("branch_"))]
    return Member(
        name=uri.label(part, *([f"{blocks}_blocks"] if blocks else [])),
        kind=uri.kind,
        source=uri.with_part(part),
        weights=digest(run, chosen, blocks),
        input_size=input_size,
        short_side=_short_side(run, input_size),
        class_names=tuple(run.data["class_names"]),
        settings={"part": part, "average": config.cotraining.average, "precision": config.machine.precision},
        load=lambda: network([build()[s] for s in chosen], config.cotraining.average, input_size),
        decoder=OutputDecoder("logits", "none"),
        graph=lambda: graph([build("float32")[s] for s in chosen], config.cotraining.average),
        keras_model=(lambda: build("float32")[chosen[0]]) if len(chosen) == 1 else None,
        frozen=frozen_layers(run.data, chosen[0]),
    )


def frozen_layers(settings: Mapping[str, Any], branch: int) -> FrozenLayers:
    """Return the layers of a branch that the owner of the network froze, not those of --freeze.

    Args:
        settings: may have `frozen_layers` and `inference_layers`, names such as branch_0/conv_1; they are returned
            without branch_0/.
    """
    return FrozenLayers(
        *(
            tuple(name.split("/", 1)[1] for name in settings.get(kind, ()) if name.startswith(f"branch_{branch}/"))
            for kind in OWNER_FROZEN
        )
    )


def _short_side(run: TrainedRun, size: int) -> int:
    """Return the run's short side; for an image size other than the run's, int(1.15 size), or `size` without margin.

    A run has no margin if its short side is its image size.
    """
    if size == run.data["image_size"]:
        return run.short_side
    return int(image_decoding.MARGIN * size) if run.short_side > run.data["image_size"] else size


def _with_blocks(models: list[keras.Model], blocks: int, source: str) -> list[keras.Model]:
    """Return the models with this many blocks each, spread evenly; 0 = all. Raises UserError if a model has fewer."""
    try:
        return [shorter(model, blocks) for model in models] if blocks else models
    except UserError as error:
        raise UserError(f"{source}: {error}") from None


def digest(run: TrainedRun, chosen: Sequence[int], blocks: int = 0) -> str:
    """Return the sha256 of architecture, pixel normalisation and weights of the branches with the numbers `chosen`.

    Args:
        blocks: number of residual blocks that are used; 0 = all.
    """
    network = run.reference or [run.config.network.model, run.config.network.splits, run.config.network.division]
    fewer = [blocks] if blocks else []
    digest = hashlib.sha256(json.dumps([network, run.data["mean"], run.data["std"], *fewer]).encode())
    for name in sorted(run.arrays):
        if int(name.partition("/")[0].removeprefix("branch_")) in chosen:
            digest.update(f"\0{name}\0".encode() + run.arrays[name].tobytes())
    return digest.hexdigest()


def network(models: Sequence[keras.Model], average: str, side: int) -> LoadedNetwork:
    """Return models for images of `side` pixels as one LoadedNetwork.

    Args:
        average: key of AVERAGES, the rule that combines the logits of several models.
    """
    costs = [network_cost(model) for model in models]
    total = Cost(macs=float(sum(c.macs for c in costs)), params=float(sum(c.params for c in costs)))
    if len(models) == 1:
        return LoadedNetwork(answer=array_function(lambda x: models[0](x, training=False), side), cost=total)
    forward = array_function(lambda x: keras.ops.stack([model(x, training=False) for model in models], axis=1), side)
    return LoadedNetwork(answer=lambda images: combine(forward(images), average).astype(np.float32), cost=total)


def graph(models: Sequence[keras.Model], average: str) -> Graph:
    """Return models as one Graph.

    Args:
        average: key of AVERAGES, the rule that combines the logits of several models.
    """
    variables = [variable.value for model in models for variable in model.variables]
    if len(models) == 1:
        return Graph(call=lambda x: models[0](x, training=False), trackables=variables)

    def call(images):
        logits = [keras.ops.cast(model(images, training=False), "float32") for model in models]
        rule = AVERAGES[average]
        return rule.combine(keras.ops, rule.values(keras.ops, keras.ops.stack(logits, axis=1)))

    return Graph(call=call, trackables=variables)


def branches(run: TrainedRun, size: int = 0, precision: str = "") -> list[keras.Model]:
    """Return a run's trained branches; for another image size, branches that are rebuilt for it with the same weights.

    Raises UserError if a network for that size has other layers, or weights of other shapes.

    Args:
        size: of images, in pixels; 0 = that of the training.
        precision: policy such as "float32"; "" = that of the training.
    """
    trained = run.network(precision).branches
    if not size or size == run.data["image_size"]:
        return trained
    others = _rebuild(run, size, precision or run.config.machine.precision)
    for old, new in zip(trained, others, strict=True):
        pairs = zip(new.weights, old.get_weights(), strict=False)
        arrays = [resize_positions(variable, array) for variable, array in pairs]
        if [array.shape for array in arrays] != [tuple(w.shape) for w in new.weights]:
            raise UserError(
                f"{run.workdir} cannot take images of {size} pixels: its weights have other shapes at another size; "
                f"use that of the training, {run.data['image_size']}"
            )
        new.set_weights(arrays)
    return others


def _rebuild(run: TrainedRun, size: int, precision: str) -> list[keras.Model]:
    config, data, native = run.config, run.data, run.data["image_size"]
    reference = in_float32(run.reference) if precision == "float32" else run.reference
    whole: Any = find(reference or config.network.model)
    if isinstance(whole, Preset) and whole.layout(size) != whole.layout(native):
        sizes = f"{'at most' if native <= CIFAR_LARGEST else 'more than'} {CIFAR_LARGEST} pixels"
        raise UserError(
            f"{run.workdir}: {whole.name} has other layers at {size} pixels than at the training's {native}: "
            f"give a size of {sizes}"
        )
    sized = native if isinstance(whole, Preset) else size  # a preset is divided as in the training
    untrained = whole.branches(config.network.splits, config.network.division, sized, len(data["class_names"]))
    normalisation = Normalisation(mean=tuple(data["mean"]), std=tuple(data["std"]))
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        return [branch.build(size, len(data["class_names"]), normalisation) for branch in untrained]
    finally:
        keras.config.set_dtype_policy(before)
