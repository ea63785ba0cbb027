"""Members `preset:NAME`: presets of dico_tf with weights from a PyTorch checkpoint, or with random weights."""

import functools
from pathlib import Path

import keras

from dico_tf.data import image_decoding
from dico_tf.errors import UserError
from dico_tf.evaluation.members import runs
from dico_tf.evaluation.members.applications import weights_digest
from dico_tf.evaluation.members.member import Member
from dico_tf.evaluation.members.member_uri import MemberURI
from dico_tf.evaluation.members.output_decoding import OutputDecoder
from dico_tf.files.checksums import checksum
from dico_tf.layers.image_input import Normalisation
from dico_tf.models import efficientnet_lite, pretrained, torch_weights
from dico_tf.models.checkpoints import SAFE
from dico_tf.models.preset import Preset
from dico_tf.models.presets import PRESETS

OPTIONS = ("weights", "short_side", "pixels")
NONE = "none"  # random weights
CLASSES = 1000  # unless the data say otherwise
PIXELS = {  # value of ?pixels, the range that the network was trained with -> its normalisation of raw pixels
    "imagenet": Normalisation(),
    "-1..1": Normalisation(mean=(0.5,) * 3, std=(0.5,) * 3),
    "0..1": Normalisation(mean=(0.0,) * 3, std=(1.0,) * 3),
    "lite": efficientnet_lite.PIXELS,
}


def members(uri: MemberURI, classes: int) -> list[Member]:
    """Return the one member of a `preset:` URI, with as many classes as the data, or 1,000 if `classes` is 0."""
    uri.check(OPTIONS)
    preset, pixels = PRESETS[uri.place], uri.options.get("pixels")
    if preset.task != "classification":
        raise UserError(f"{uri.source}: expected a preset for classification, got {preset.name} for {preset.task}")
    if pixels and pixels not in PIXELS:
        raise UserError(f"{uri.source}: ?pixels={pixels} must be one of {', '.join(PIXELS)}")
    weights = _weights(uri, preset)
    preset = torch_weights.preset_of(preset, weights) if weights else preset
    size, pixels = uri.size or preset.spec.image_size, pixels or _pixels(preset)

    def build(heads: str) -> keras.Model:
        try:
            return _build(preset, size, classes or CLASSES, PIXELS[pixels], weights, heads)
        except UserError as error:
            raise UserError(f"preset:{preset.name}: {error}") from None

    built = functools.cache(lambda: build("same"))
    return [
        Member(
            name=uri.label(),
            kind=uri.kind,
            source=uri.source,
            weights=checksum(weights)[0] if weights else weights_digest(built()),
            input_size=size,
            short_side=uri.number("short_side", image_decoding.short_side(size)),
            settings={"network": preset.name, "pixels": pixels},
            load=lambda: runs.network([built()], "logits", size),
            decoder=OutputDecoder("logits", "none"),
            graph=lambda: runs.graph([built()], "logits"),
            keras_model=lambda: build("any"),
        )
    ]


def _pixels(preset: Preset) -> str:
    """Return the value of ?pixels, a key of PIXELS, that fits a preset's published weights."""
    own = preset.normalisation or Normalisation()
    return next(pixels for pixels, normalisation in PIXELS.items() if normalisation == own)


def _weights(uri: MemberURI, preset: Preset) -> Path | None:
    """Return the file of ?weights, for ?weights=auto that of an installed package; None (random) for ?weights=none.

    Raises UserError if ?weights is not given or there is no such file.
    """
    file = uri.options.get("weights")
    if file == NONE:
        return None
    if file == pretrained.AUTO:
        try:
            return pretrained.weights_file(preset)
        except UserError as error:
            raise UserError(f"{uri.source}: {error}") from None
    if file is None:
        raise UserError(
            f"{uri.source}: presets come without weights: add ?weights=FILE, a {SAFE} file or a PyTorch checkpoint, "
            f"?weights={pretrained.AUTO} for weights in an installed package, or ?weights={NONE} for random weights"
        )
    path = Path(file).expanduser()
    if not path.is_file():
        raise UserError(f"{uri.source}: there is no file {file}")
    return path


def _build(
    preset: Preset, size: int, classes: int, normalisation: Normalisation, weights: Path | None, heads: str
) -> keras.Model:
    """Return a preset's float32 network with the weights of a checkpoint, or random ones.

    Args:
        weights: checkpoint; None = random weights.
        heads: for a checkpoint with another number of classes: "same" = raise UserError, "any" = leave the head random.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        model = preset.build(size, classes, normalisation)
    finally:
        keras.config.set_dtype_policy(before)
    if weights:
        torch_weights.fill([model], weights, preset, heads)
    return model
