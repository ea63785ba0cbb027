"""Branches of a trained run, or all of them together, at the size they were trained for or at another."""

import functools
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from dico_tf.data import image_decoding
from dico_tf.data.known_datasets import CIFAR_LARGEST
from dico_tf.divide.networks.architecture import in_float32
from dico_tf.divide.networks.cost import cost as counted
from dico_tf.errors import UserError
from dico_tf.evaluation.averaging import combine
from dico_tf.evaluation.cost import Cost
from dico_tf.evaluation.members.member import Graph, LoadedNetwork, Member
from dico_tf.evaluation.members.member_uri import MemberURI
from dico_tf.evaluation.members.output_decoding import OutputDecoder
from dico_tf.evaluation.members.tf_graph import array_function
from dico_tf.invocation import command
from dico_tf.layers.embeddings import resize_positions
from dico_tf.layers.image_input import Normalisation
from dico_tf.models.preset import Preset
from dico_tf.models.presets import find
from dico_tf.models.submodel import shorter
from dico_tf.registry import suggestion
from dico_tf.training.build import TrainedRun, trained_run

ENSEMBLE = "ensemble"
OPTIONS = ("blocks",)


def members(uri: MemberURI, classes: int) -> list[Member]:
    """Each branch, unless a part names one or all of them together."""
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
    def built(precision: str = "") -> list[keras.Model]:
        return _shortened(branches(run, uri.size, precision), blocks, uri.source)

    return [_member(uri, run, part, built) for part in ([uri.part] if uri.part else names)]


def _member(uri: MemberURI, run: TrainedRun, part: str, built: Callable[..., list[keras.Model]]) -> Member:
    blocks = uri.number("blocks", 0)
    size, config = run.data["image_size"], run.config
    margin = run.short_side > size
    wanted = uri.size or size
    chosen = range(config.network.splits) if part == ENSEMBLE else [int(part.removeprefix("branch_"))]
    return Member(
        name=uri.label(part, *([f"{blocks}_blocks"] if blocks else [])),
        kind=uri.kind,
        source=uri.spelt(part),
        weights=digest(run, chosen, blocks),
        input_size=wanted,
        short_side=run.short_side if wanted == size else int(image_decoding.MARGIN * wanted) if margin else wanted,
        class_names=tuple(run.data["class_names"]),
        settings={"part": part, "average": config.cotraining.average, "precision": config.machine.precision},
        load=lambda: network([built()[s] for s in chosen], config.cotraining.average, wanted),
        decoder=OutputDecoder("logits", "none"),
        graph=lambda: graph([built("float32")[s] for s in chosen], config.cotraining.average),
    )


def _shortened(models: list[keras.Model], blocks: int, source: str) -> list[keras.Model]:
    """With so many of their blocks each; 0 = all."""
    try:
        return [shorter(model, blocks) for model in models] if blocks else models
    except UserError as error:
        raise UserError(f"{source}: {error}") from None


def digest(run: TrainedRun, chosen: Sequence[int], blocks: int = 0) -> str:
    """Of the branches' weights, and of what else makes up a network."""
    network = run.reference or [run.config.network.model, run.config.network.splits, run.config.network.division]
    fewer = [blocks] if blocks else []
    digest = hashlib.sha256(json.dumps([network, run.data["mean"], run.data["std"], *fewer]).encode())
    for name in sorted(run.arrays):
        if int(name.partition("/")[0].removeprefix("branch_")) in chosen:
            digest.update(f"\0{name}\0".encode() + run.arrays[name].tobytes())
    return digest.hexdigest()


def network(models: Sequence[keras.Model], average: str, side: int) -> LoadedNetwork:
    """One network, or several whose logits are averaged."""
    costs = [counted(model) for model in models]
    together = Cost(macs=float(sum(c.macs for c in costs)), params=float(sum(c.params for c in costs)))
    if len(models) == 1:
        return LoadedNetwork(answer=array_function(lambda x: models[0](x, training=False), side), cost=together)
    apart = array_function(lambda x: keras.ops.stack([model(x, training=False) for model in models], axis=1), side)
    return LoadedNetwork(answer=lambda images: combine(apart(images), average).astype(np.float32), cost=together)


def graph(models: Sequence[keras.Model], average: str) -> Graph:
    """As `network`."""
    holds = [variable.value for model in models for variable in model.variables]
    if len(models) == 1:
        return Graph(call=lambda x: models[0](x, training=False), holds=holds)

    def call(images):
        apart = [keras.ops.cast(model(images, training=False), "float32") for model in models]
        return _COMBINE[average](keras.ops.stack(apart, axis=1))

    return Graph(call=call, holds=holds)


_COMBINE = {  # [B, S, C] -> [B, C], as evaluation/averaging.py in numpy
    "logits": lambda logits: keras.ops.mean(logits, 1),
    "probs": lambda logits: keras.ops.logsumexp(keras.ops.log_softmax(logits), 1) - math.log(logits.shape[1]),
    "max": lambda logits: keras.ops.max(logits, 1),
}


def branches(run: TrainedRun, size: int = 0, precision: str = "") -> list[keras.Model]:
    """The trained networks; for pictures of another size the same weights in networks built for it."""
    trained = run.network(precision).branches
    if not size or size == run.data["image_size"]:
        return trained
    others = [_rebuilt(run, size, precision or run.config.machine.precision) for _ in trained]
    for old, new in zip(trained, others, strict=True):
        pairs = zip(new.weights, old.get_weights(), strict=False)
        arrays = [resize_positions(variable, array) for variable, array in pairs]
        if [array.shape for array in arrays] != [tuple(w.shape) for w in new.weights]:
            raise UserError(f"{run.workdir} cannot take pictures of {size} pixels: its weights are made for "
                            f"{run.data['image_size']}")  # fmt: skip
        new.set_weights(arrays)
    return others


def _rebuilt(run: TrainedRun, size: int, precision: str) -> keras.Model:
    config, data, native = run.config, run.data, run.data["image_size"]
    reference = in_float32(run.reference) if precision == "float32" else run.reference
    whole: Any = find(reference or config.network.model)
    if isinstance(whole, Preset) and whole.layout(size) != whole.layout(native):
        side = "at most" if native <= CIFAR_LARGEST else "more than"
        raise UserError(
            f"{run.workdir}: {whole.name} is another network at {size} pixels than at {native}: give {side} "
            f"{CIFAR_LARGEST}"
        )
    sized = native if isinstance(whole, Preset) else size  # a division by budget is that of the training
    branch = whole.divided(config.network.splits, config.network.division, sized, len(data["class_names"]))
    normalisation = Normalisation(mean=tuple(data["mean"]), std=tuple(data["std"]))
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        return branch.build(size, len(data["class_names"]), normalisation)
    finally:
        keras.config.set_dtype_policy(before)
