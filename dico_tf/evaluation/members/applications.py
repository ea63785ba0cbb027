"""Members `keras:NAME`: networks of keras.applications, by default with ImageNet weights, that answer with logits.

Images are preprocessed by the `preprocess_input` of the network. Keras builds a network for one image size; a member at
another size is a second instance with the same weights.
"""

import functools
import hashlib
import importlib
import inspect
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from dico_tf.data import image_decoding
from dico_tf.divide.networks.cost import cost as network_cost
from dico_tf.divide.networks.graph import Call, calls, copy_weights, replay, weightless
from dico_tf.errors import UserError
from dico_tf.evaluation.cost import Cost
from dico_tf.evaluation.members.member import Graph, LoadedNetwork, Member
from dico_tf.evaluation.members.member_uri import MemberURI
from dico_tf.evaluation.members.output_decoding import OutputDecoder
from dico_tf.evaluation.members.pixel_layers import on_raw_pixels
from dico_tf.evaluation.members.tf_graph import array_function
from dico_tf.registry import suggestion

OPTIONS = ("weights", "alpha", "short_side")
IMAGENET, NONE = "imagenet", "none"
CLASSES = 1000  # classes of the ImageNet weights
_OPEN = 224  # image size of networks that take any size
NAMES = tuple(name for name in dir(keras.applications) if name[0].isupper())


def members(uri: MemberURI, classes: int) -> list[Member]:
    """Return the one member of a `keras:` URI.

    Without ImageNet weights it has as many classes as the data, or 1,000 if `classes` is 0.
    """
    uri.check(OPTIONS)
    if uri.place not in NAMES:
        raise UserError(f"{uri.source}: keras.applications has no {uri.place!r}; {suggestion(uri.place, NAMES)}")
    weights = uri.options.get("weights", IMAGENET)
    family = getattr(keras.applications, uri.place)
    if "alpha" in uri.options and "alpha" not in inspect.signature(family).parameters:
        raise UserError(f"{uri.source}: {uri.place} has no option ?alpha: its width is fixed")
    alpha = uri.number("alpha", 0.0, float)
    outputs = CLASSES if weights == IMAGENET else classes or CLASSES
    base = _base(uri.place, weights, outputs, alpha)
    native = base.input_shape[1]
    size = uri.size or native
    if size != native:
        _check_size(base, family, size, alpha, uri.source)
    sized = functools.cache(lambda: base if size == native else resized(base, family, size, alpha))
    return [
        Member(
            name=uri.label(),
            kind=uri.kind,
            source=uri.source,
            weights=weights_digest(base),
            input_size=size,
            short_side=uri.number("short_side", image_decoding.short_side(size)),
            settings={"network": uri.place, "alpha": alpha},
            load=lambda: _network(sized(), preprocessing(family)),
            decoder=OutputDecoder("logits", "none"),
            graph=lambda: _graph(sized(), preprocessing(family)),
            keras_model=lambda: on_raw_pixels(sized(), preprocessing(family), size),
        )
    ]


def preprocessing(family: Callable) -> Callable:
    """Return the function `preprocess_input` for networks made by `family`, e.g. keras.applications.ResNet50."""
    return importlib.import_module(f"keras.applications.{family.__module__.rsplit('.', 1)[-1]}").preprocess_input


@functools.lru_cache(32)
def _base(name: str, weights: str, classes: int, alpha: float) -> keras.Model:
    """Return a network with logits at its native image size. Cached, so that two members of one network share it.

    Args:
        name: class or function of keras.applications, e.g. "ResNet50".
        weights: "imagenet", "none" for random ones, or a path.
        alpha: factor of the width; 0 = the network's default.
    """
    source = f"keras:{name}"
    family = getattr(keras.applications, name)
    options: dict[str, Any] = {"classes": classes, "classifier_activation": None, **_width(alpha)}
    native = weightless(lambda: family(weights=None, **options)).input_shape[1] or _OPEN
    options["input_shape"] = (native, native, 3)
    if weights != IMAGENET:
        model = family(weights=None, **options)
        return model if weights == NONE else _load_weights(model, weights, source)
    try:
        return family(weights=IMAGENET, **options)
    except Exception as error:  # no internet, a damaged file, a width without published weights
        raise UserError(_missing_weights(source, error)) from error


def _load_weights(model: keras.Model, weights: str, source: str) -> keras.Model:
    if not Path(weights).expanduser().is_file():
        raise UserError(
            f"{source}: there is no file {weights}; ?weights must be {IMAGENET}, {NONE}, or a file that save_weights "
            "wrote"
        )
    try:
        model.load_weights(Path(weights).expanduser())
    except Exception as error:  # h5py and Keras raise any kind
        raise UserError(
            f"{source}: {weights} holds no weights of this network of {model.output_shape[-1]} classes: "
            f"{(str(error) or type(error).__name__).splitlines()[0]}"
        ) from error
    return model


def _width(alpha: float) -> dict[str, float]:
    return {"alpha": alpha} if alpha else {}


def _missing_weights(source: str, error: Exception) -> str:
    url = re.search(r"https?://\S+\.h5", str(error))
    if not url:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        return (
            f"{source}: its ImageNet weights cannot be loaded: {reason}; try again, or give ?weights=FILE, written by "
            f"save_weights, or ?weights={NONE} for random weights"
        )
    folder = Path(keras.config.keras_home() if hasattr(keras.config, "keras_home") else _home()) / "models"
    return (
        f"{source}: its ImageNet weights {url[0].rsplit('/', 1)[-1]} are not in {folder} and could not be downloaded: "
        f"download {url[0]} on another machine and put it there"
    )


def _home() -> str:
    return os.environ.get("KERAS_HOME") or str(Path("~/.keras").expanduser())


def weights_digest(model: keras.Model) -> str:
    """Return the sha256, as hexadecimal digits, of all weights of a network: their order, types, shapes and values."""
    digest = hashlib.sha256()
    for number, array in enumerate(model.get_weights()):
        digest.update(f"\0{number} {array.dtype} {array.shape}\0".encode() + array.tobytes())
    return digest.hexdigest()


def _check_size(base: keras.Model, family: Callable, size: int, alpha: float, source: str) -> None:
    """Raise UserError if the network cannot take images of this size. Checks shapes without allocating weights."""
    try:
        shapes = weightless(lambda: [tuple(weight.shape) for weight in family(**_arguments(base, size, alpha)).weights])
    except ValueError as error:  # the size is too small
        raise UserError(
            f"{source}: {family.__name__} cannot be built for {size} pixels: {error}; give another size"
        ) from error
    if shapes != [tuple(weight.shape) for weight in base.weights]:
        raise UserError(
            f"{source}: {family.__name__} has weights for {base.input_shape[1]} pixels only, because "
            "its dense layers depend on the image size; leave out the size"
        )


def _arguments(base: keras.Model, size: int, alpha: float) -> dict[str, Any]:
    """Return the arguments that build a network of keras.applications for another image size."""
    return {
        "weights": None,
        "classes": base.output_shape[-1],
        "classifier_activation": None,
        "input_shape": (size, size, 3),
        **_width(alpha),
    }


def resized(base: keras.Model, family: Callable, size: int, alpha: float) -> keras.Model:
    """Return a network for images of `size` pixels with the weights of `base`, which `family` built with `alpha`."""
    model = family(**_arguments(base, size, alpha))
    copy_weights(base, model)
    return _completed(model, base)


def _completed(model: keras.Model, base: keras.Model) -> keras.Model:
    """Return the model, with the weightless layer that only `base` has, if there is one.

    Keras adds a layer to EfficientNet only when it loads the ImageNet weights itself.
    """
    ours, theirs = ([call.operation for call in calls(m)] for m in (model, base))
    if len(ours) == len(theirs):
        return model
    place = next(n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if type(a) is not type(b))
    extra = theirs[place]
    rest = theirs[:place] + theirs[place + 1 :]
    if extra.weights or [type(operation) for operation in rest] != [type(operation) for operation in ours]:
        raise RuntimeError(f"{model.name} built for another size differs by more than {extra.name}")
    before, added = ours[place - 1], type(extra).from_config(extra.get_config())

    def run(call: Call, args: tuple, kwargs: dict) -> Any:
        output = call.operation(*args, **kwargs)
        return added(output) if call.operation is before else output

    return replay(model, run, model.name)


def _graph(model: keras.Model, prepare: Callable) -> Graph:
    return Graph(
        call=lambda images: model(prepare(images), training=False),
        trackables=[variable.value for variable in model.variables],
    )


def _network(model: keras.Model, prepare: Callable) -> LoadedNetwork:
    side = model.input_shape[1]
    forward = array_function(lambda images: model(prepare(keras.ops.cast(images, "float32")), training=False), side)
    cost = network_cost(model)
    return LoadedNetwork(answer=forward, cost=Cost(macs=float(cost.macs), params=float(cost.params)))
