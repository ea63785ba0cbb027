"""The teacher of --method=distill: opens the model that --teacher names."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from dico_tf.config import Config
from dico_tf.cotrain.losses import combine
from dico_tf.data.source import Source, Split
from dico_tf.errors import UserError
from dico_tf.evaluation import averaging
from dico_tf.evaluation.members.cache import Cache
from dico_tf.evaluation.members.collect_logits import check_classes, check_width, collect_logits
from dico_tf.evaluation.members.image_batches import ImageBatches
from dico_tf.evaluation.members.member import Member
from dico_tf.evaluation.members.member_uri import parse
from dico_tf.evaluation.members.open_members import open_members
from dico_tf.evaluation.members.runs import ENSEMBLE
from dico_tf.evaluation.members.tf_graph import GraphNetwork
from dico_tf.training.build import trained_run

PROBED = 8  # training images that decide whether a member's outputs are logits or probabilities
Combine = Callable[[np.ndarray], np.ndarray]  # members' logits float32 [N, n, C] -> [N, C]
ReadCommittee = Callable[[str], tuple[list[str], int, Combine]]  # see dico_tf.committee.committee_file


@dataclasses.dataclass(frozen=True)
class Teacher:
    """Callable: images [B, H, W, 3] or clips [B, T, H, W, 3] of 0..255, and their index [B] -> logits.

    An index modulo the number of training images is a position in the training split. `checksum` identifies the
    weights.
    """

    checksum: str
    answer: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

    def __call__(self, images: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
        return self.answer(images, index)


def open_teacher(
    config: Config, source: Source, train: Split, say: Callable[[str], None], read_committee: ReadCommittee
) -> Teacher:
    """Return the teacher that --teacher names. Raises UserError if it cannot teach this task or has other classes.

    Args:
        config: settings of the run that learns from it.
        source: data of that run.
        train: its training split.
        say: called with messages about the members.
        read_committee: reads a committee.json: path -> (members' URIs, number of classes, function that combines them).
    """
    if config.data.task != "classification":
        return _run_teacher(config, source)
    members, combine_members = _members(config.cotraining.teacher, len(source.class_names), read_committee)
    check_classes(members, source)
    checksum = hashlib.sha256("\n".join(member.checksum for member in members).encode()).hexdigest()
    if config.cotraining.teacher_views == "clean":
        return Teacher(checksum, _from_table(combine_members, members, source, train, say))
    networks = [_network(member, source, train) for member in members]

    def answer(images: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
        return _combined(combine_members, tf.stack([call(images) for call in networks], axis=1))

    return Teacher(checksum, answer)


def _members(spec: str, classes: int, read_committee: ReadCommittee) -> tuple[list[Member], Combine]:
    """Return the members that --teacher=`spec` names, and the function that combines their logits.

    A run's folder names the run's ensemble, which is one member.
    """
    if Path(spec).suffix == ".json" and Path(spec).name != "manifest.json":
        sources, classes, combine_members = read_committee(spec)
        return open_members(sources, classes), combine_members
    uri = parse(spec)
    whole_run = uri.kind == "run" and not uri.part  # averages as its --average says
    members = open_members([uri.with_part(ENSEMBLE) if whole_run else spec], classes)
    return members, lambda logits: averaging.combine(logits, "logits").astype(np.float32)


def _combined(combine_members: Combine, logits: tf.Tensor) -> tf.Tensor:
    """Combine the logits of n members [B, n, C] to one [B, C]; those of a single member are not changed."""
    if logits.shape[1] == 1:
        return logits[:, 0]
    answer = tf.numpy_function(combine_members, [logits], tf.float32, stateful=False)
    return tf.ensure_shape(answer, (logits.shape[0], logits.shape[2]))


def _from_table(
    combine_members: Combine, members: Sequence[Member], source: Source, train: Split, say: Callable[[str], None]
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Return a lookup of logits, which are computed once from the unaugmented training images and cached on disk."""
    of_train = dataclasses.replace(source, splits={"train": train})
    collected = collect_logits(members, of_train, "train", Cache(), timed=False, say=say)
    logits = np.stack([collected.logits[member.name] for member in members], axis=1)
    table = tf.Variable(combine_members(logits), trainable=False)
    return lambda images, index: tf.gather(table, index % train.size)


def _network(member: Member, source: Source, train: Split) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return a function: images [B, H, W, 3] of 0..255, which it resizes to the member's size -> logits [B, C].

    Raises UserError if the member is a table, or if it does not give one logit for each class of `source`.

    Args:
        train: the member runs on a few of its images, to find out whether it gives logits or probabilities.
    """
    if member.stored:
        raise UserError(
            f"--teacher={member.source} is a table of logits, which has none for augmented images: give "
            "--teacher_views=clean"
        )
    size = member.input_size
    some = np.linspace(0, train.size - 1, min(PROBED, train.size)).round().astype(int)
    outputs = member.network.answer(ImageBatches(train, size, member.short_side).take(some))
    logits = member.decoder(outputs, member.network.step, member.name)
    check_width(member, logits.shape[1], source)
    graph = member.graph and GraphNetwork(member.graph(), member.decoder.kind, member.decoder.drops(outputs.shape[1]))

    def call(images: tf.Tensor) -> tf.Tensor:
        images = tf.cast(images, tf.float32)
        if images.shape[1:3] != (size, size):
            images = tf.image.resize(images, (size, size), antialias=True)
        if graph:
            return graph(images)
        pixels = tf.cast(tf.clip_by_value(tf.round(images), 0, 255), tf.uint8)
        answer = tf.numpy_function(member.run, [pixels], tf.float32, stateful=False)
        return tf.ensure_shape(answer, (images.shape[0], logits.shape[1]))

    return call


def _run_teacher(config: Config, source: Source) -> Teacher:
    """Return the ensemble of a segmentation or video run as teacher. Raises UserError if task or classes differ."""
    task, spec = config.data.task, config.cotraining.teacher
    if not (Path(spec) / "config.json").exists():
        raise UserError(f"--teacher={spec} is not the folder of a run: for --task={task} give a run of that task")
    run = trained_run(spec)
    if run.config.data.task != task:
        raise UserError(f"--teacher={spec} is a {run.config.data.task} run: for --task={task} give a run of that task")
    if list(run.data["class_names"]) != list(source.class_names):
        raise UserError(
            f"--teacher={spec}: {_difference(run.data['class_names'], source)}; both need the same classes in the same "
            "order"
        )
    model, average = run.network(), run.config.cotraining.average
    digest = hashlib.sha256("\n".join(run.checksums.values()).encode()).hexdigest()
    return Teacher(digest, lambda images, index: combine(model(tf.cast(images, tf.float32), training=False), average))


def _difference(names: Sequence[str], source: Source) -> str:
    """Return a clause on how the class `names` of a run differ from those of the data, which must not be equal.

    It gives both numbers of classes or, if these are equal, the first class whose names differ.
    """
    ours = source.class_names
    if len(names) != len(ours):
        return f"the run has {len(names)} classes and {source.name} has {len(ours)}"
    n = next(n for n, pair in enumerate(zip(names, ours, strict=True)) if pair[0] != pair[1])
    return f"class {n} is {names[n]!r} in the run and {ours[n]!r} in {source.name}"
