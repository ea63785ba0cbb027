"""Members of segmentation committees: images of any size in, logits of the same height and width out."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from dico_tf.divide.networks.cost import cost as network_cost
from dico_tf.errors import UserError
from dico_tf.evaluation.averaging import combine
from dico_tf.evaluation.members import keras_files, preprocessing, runs, tflite
from dico_tf.evaluation.members.member_uri import MemberURI, parse
from dico_tf.evaluation.segmentation import enlarged
from dico_tf.files import member_kinds as kinds
from dico_tf.files.checksums import checksum
from dico_tf.models.presets import find
from dico_tf.training.build import trained_run

Sides = tuple[int, int]  # height, width
KINDS = (kinds.RUN, kinds.KERAS_FILE, kinds.TFLITE)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SegmentationMember:
    """A network that classifies each pixel: of a run, a .keras file or a .tflite file."""

    name: str
    kind: str
    source: str  # URI without the name
    checksum: str  # sha256 of the weights, or of their file
    classes: int
    answer: Callable[[np.ndarray], np.ndarray]  # uint8 [B, h, w, 3] -> float32 [B, h, w, C]
    macs: Callable[[Sides], float]  # multiply-adds of one image of this height and width
    params: float


def open_segmentation_members(sources: Sequence[str], classes: int) -> list[SegmentationMember]:
    """Return the members that the URIs name: .keras files, .tflite files, and each branch of a run.

    The part of a run's URI chooses one branch or the ensemble. Raises UserError if two members have the same name, if
    one has another number of classes than `classes`, or if a URI cannot be such a member.
    """
    members = [member for source in sources for member in _members(parse(source))]
    for member in members:
        if member.classes != classes:
            raise UserError(
                f"{member.source} has {member.classes} classes and the data has {classes}: members and data need the "
                "same classes in the same order"
            )
    names = [member.name for member in members]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(
            f"members need different names, but {', '.join(sorted(twice))} occurs more than once: give NAME=SOURCE"
        )
    return members


def _members(uri: MemberURI) -> list[SegmentationMember]:
    if uri.kind not in KINDS:
        raise UserError(
            f"{uri.source}: expected a run of --task=segmentation, x.keras or x.tflite, got a member of kind "
            f"{uri.kind.replace('_', ' ')}"
        )
    if uri.size:
        raise UserError(f"{uri.source}: members of --task=segmentation take images of any size: leave out @{uri.size}")
    return {kinds.RUN: _run_members, kinds.KERAS_FILE: _keras_file_members, kinds.TFLITE: _tflite_members}[uri.kind](
        uri
    )


def _by_shape(call: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[np.ndarray], np.ndarray]:
    """Return `call` as a function of arrays, traced once for each image size: dilated layers need a fixed size."""

    @functools.lru_cache(64)
    def forward(height: int, width: int):
        image = tf.TensorSpec((None, height, width, 3), tf.float32)
        return tf.function(call, input_signature=[image], autograph=False)

    return lambda images: np.asarray(tf.cast(forward(*images.shape[1:3])(tf.constant(images, tf.float32)), tf.float32))


def _run_members(uri: MemberURI) -> list[SegmentationMember]:
    uri.check(())
    run = trained_run(uri.place)
    if run.config.data.task != "segmentation":
        raise UserError(f"{run.workdir} is a {run.config.data.task} run: give one of --task=segmentation")
    names, network = [f"branch_{s}" for s in range(run.config.network.splits)], run.config.network
    parts = [uri.part] if uri.part else names
    if not set(parts) <= {*names, runs.ENSEMBLE}:
        raise UserError(f"{uri.source}: expected a part {', '.join(names)} or {runs.ENSEMBLE}, got {uri.part!r}")
    model, classes, average = run.network(), len(run.data["class_names"]), run.config.cotraining.average
    whole, size = find(run.reference or network.model), run.data["image_size"]
    branch = whole.divided(network.splits, whole.division(network.division), size, classes)

    def member(part: str) -> SegmentationMember:
        chosen = range(len(names)) if part == runs.ENSEMBLE else [names.index(part)]
        answers = [_by_shape(functools.partial(model.predictors[s], training=False)) for s in chosen]
        return SegmentationMember(
            name=uri.label(*([part] if len(names) > 1 else [])),
            kind=uri.kind,
            source=uri.source if uri.part else f"{uri.source}:{part}",
            checksum=runs.digest(run, [names.index(n) for n in (names if part == runs.ENSEMBLE else [part])]),
            classes=classes,
            answer=answers[0] if len(answers) == 1 else functools.partial(_averaged, answers, average),
            macs=lambda sides: len(chosen) * float(branch.macs(tuple(sides), classes, size)),
            params=float(sum(network_cost(model.branches[s]).params for s in chosen)),
        )

    return [member(part) for part in parts]


def _averaged(answers: Sequence[Callable[[np.ndarray], np.ndarray]], average: str, images: np.ndarray) -> np.ndarray:
    """Return the logits [B, h, w, C] of several networks, combined by the rule `average`."""
    logits = np.stack([answer(images) for answer in answers], axis=-2)  # [B, h, w, S, C]
    pixels = logits.reshape(-1, *logits.shape[-2:])
    return combine(pixels, average).astype(np.float32).reshape(*logits.shape[:3], -1)


def _keras_file_members(uri: MemberURI) -> list[SegmentationMember]:
    uri.check(("pixels",))
    model = keras_files.load_keras_file(Path(uri.place), uri.source)
    inputs, outputs = ([tuple(x.shape) for x in tensors or ()] for tensors in (model.inputs, model.outputs))
    shapes = [*inputs, *outputs]
    one = len(inputs) == len(outputs) == 1 and all(len(shape) == 4 for shape in shapes)
    if not one or shapes[0][-1] != 3 or shapes[1][-1] is None:
        raise UserError(
            f"{uri.source}: expected one image [B, H, W, 3] -> logits [B, h, w, classes], got {inputs} -> {outputs}"
        )
    ranges = preprocessing.check_pixels(uri.options.get("pixels", preprocessing.OWN))
    forward = _by_shape(lambda images: model(images, training=False))

    def answer(images: np.ndarray) -> np.ndarray:
        return forward(preprocessing.preprocess(images, ranges, np.float32))

    @functools.lru_cache(64)
    def macs(sides: Sides) -> float:
        sized = keras.Input((*sides, 3))
        count = network_cost(keras.Model(sized, model(sized))).macs
        return float("nan") if count is None else float(count)

    fixed = shapes[0][1:3]
    sized = None not in fixed
    return [
        SegmentationMember(
            name=uri.label(),
            kind=uri.kind,
            source=uri.source,
            checksum=checksum(Path(uri.place))[0],
            classes=shapes[1][-1],
            answer=_any_size(answer, fixed if sized else None),
            macs=(lambda _: macs(fixed)) if sized else macs,
            params=float(network_cost(model).params),
        )
    ]


def _tflite_members(uri: MemberURI) -> list[SegmentationMember]:
    uri.check(("pixels", "output"))
    path = Path(uri.place)
    contents = tflite.read_graph(path, uri.source)
    image, output = tflite.image_input(contents, uri.source), tflite.score_map(contents, uri)
    if -1 in image.shape[1:3]:
        raise UserError(
            f"{uri.source}: expected a file for images of one size, got one for any size: convert the network "
            "for one size"
        )
    ranges = preprocessing.check_pixels(uri.options.get("pixels", preprocessing.OWN))
    network = functools.cache(lambda: tflite.network(path, contents, image, output, image.shape[1], ranges, uri.source))
    return [
        SegmentationMember(
            name=uri.label(),
            kind=uri.kind,
            source=uri.source,
            checksum=checksum(path)[0],
            classes=output.shape[-1],
            answer=_any_size(lambda images: network().answer(images), tuple(image.shape[1:3])),
            macs=lambda _: contents.macs,
            params=contents.params,
        )
    ]


def _any_size(answer: Callable[[np.ndarray], np.ndarray], fixed: Sides | None) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function for images of any size whose logits have the size of the images.

    Args:
        answer: network; its logits may be smaller than its images.
        fixed: (height, width) to which images are resized first; None = the network takes any size.
    """

    def resize(image: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(image).resize(fixed[::-1], Image.Resampling.BILINEAR))

    def run(images: np.ndarray) -> np.ndarray:
        sides = images.shape[1:3]
        resized = images if fixed in (None, sides) else np.stack([resize(image) for image in images])
        logits = answer(resized)
        return logits if logits.shape[1:3] == sides else enlarged(logits, sides)

    return run
