"""Networks of keras.applications with logits at the end, their family's own preprocessing, and ImageNet's weights.

Another resolution is another instance with the same weights: Keras builds these networks for one size each.
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
from dico_tf.divide.networks.cost import cost as counted
from dico_tf.divide.networks.graph import Call, calls, replay, weightless
from dico_tf.errors import UserError
from dico_tf.evaluation.cost import Cost
from dico_tf.evaluation.members.member import Graph, LoadedNetwork, Member
from dico_tf.evaluation.members.member_uri import MemberURI
from dico_tf.evaluation.members.output_decoding import OutputDecoder
from dico_tf.evaluation.members.tf_graph import array_function
from dico_tf.registry import suggestion

OPTIONS = ("weights", "alpha", "short_side")
IMAGENET, NONE = "imagenet", "none"
CLASSES = 1000  # of the published weights
_OPEN = 224  # pixels, of networks that take any size
NAMES = tuple(name for name in dir(keras.applications) if name[0].isupper())


def members(uri: MemberURI, classes: int) -> list[Member]:
    uri.check(OPTIONS)
    if uri.place not in NAMES:
        raise UserError(f"{uri.source}: keras.applications has no {uri.place!r}; "
                        f"{suggestion(uri.place, NAMES)}")  # fmt: skip
    weights = uri.options.get("weights", IMAGENET)
    family = getattr(keras.applications, uri.place)
    if "alpha" in uri.options and "alpha" not in inspect.signature(family).parameters:
        raise UserError(f"{uri.source}: {uri.place} comes in one width, without ?alpha")
    alpha = uri.number("alpha", 0.0, float)
    wanted = CLASSES if weights == IMAGENET else classes or CLASSES
    base = _base(uri.place, weights, wanted, alpha)
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
            weights=digest(base),
            input_size=size,
            short_side=uri.number("short_side", image_decoding.short_side(size)),
            settings={"network": uri.place, "alpha": alpha},
            load=lambda: _network(sized(), preprocessing(family)),
            decoder=OutputDecoder("logits", "none"),
            graph=lambda: _graph(sized(), preprocessing(family)),
        )
    ]


def preprocessing(family: Callable) -> Callable:
    """The `preprocess_input` of its module."""
    return importlib.import_module(f"keras.applications.{family.__module__.rsplit('.', 1)[-1]}").preprocess_input


@functools.lru_cache(32)
def _base(name: str, weights: str, classes: int, alpha: float) -> keras.Model:
    """At its native size; two members of one network share it."""
    source = f"keras:{name}"
    family = getattr(keras.applications, name)
    options: dict[str, Any] = {"classes": classes, "classifier_activation": None, **_wide(alpha)}
    native = weightless(lambda: family(weights=None, **options)).input_shape[1] or _OPEN
    options["input_shape"] = (native, native, 3)
    if weights != IMAGENET:
        model = family(weights=None, **options)
        return model if weights == NONE else _with_file(model, weights, source)
    try:
        return family(weights=IMAGENET, **options)
    except Exception as error:  # a missing network, a half file, a width without published weights
        raise UserError(_not_there(source, error)) from error


def _with_file(model: keras.Model, weights: str, source: str) -> keras.Model:
    if not Path(weights).expanduser().is_file():
        raise UserError(f"{source}: there is no file {weights}; ?weights is {IMAGENET}, {NONE}, or a file that "
                        "save_weights wrote")  # fmt: skip
    try:
        model.load_weights(Path(weights).expanduser())
    except Exception as error:  # h5py and Keras raise any kind
        raise UserError(f"{source}: {weights} holds no weights of this network of {model.output_shape[-1]} classes: "
                        f"{(str(error) or type(error).__name__).splitlines()[0]}") from error  # fmt: skip
    return model


def _wide(alpha: float) -> dict[str, float]:
    return {"alpha": alpha} if alpha else {}


def _not_there(source: str, error: Exception) -> str:
    url = re.search(r"https?://\S+\.h5", str(error))
    if not url:
        return f"{source}: its ImageNet weights cannot be loaded: {str(error).splitlines()[0]}"
    folder = Path(keras.config.keras_home() if hasattr(keras.config, "keras_home") else _home()) / "models"
    return (
        f"{source}: its ImageNet weights {url[0].rsplit('/', 1)[-1]} are not in {folder} and could not be downloaded: "
        f"fetch {url[0]} elsewhere and put it there"
    )


def _home() -> str:
    return os.environ.get("KERAS_HOME") or str(Path("~/.keras").expanduser())


def digest(model: keras.Model) -> str:
    """sha256 of all its weights."""
    found = hashlib.sha256()
    for number, array in enumerate(model.get_weights()):
        found.update(f"\0{number} {array.dtype} {array.shape}\0".encode() + array.tobytes())
    return found.hexdigest()


def _check_size(base: keras.Model, family: Callable, size: int, alpha: float, source: str) -> None:
    """Before anything is asked, and without building it."""
    try:
        shapes = weightless(lambda: [tuple(weight.shape) for weight in family(**_at(base, size, alpha)).weights])
    except ValueError as error:  # too small
        raise UserError(f"{source}: {family.__name__} cannot be built for {size} pixels: {error}") from error
    if shapes != [tuple(weight.shape) for weight in base.weights]:
        raise UserError(f"{source}: {family.__name__} has weights for {base.input_shape[1]} pixels only, as its dense "
                        "layers count positions; leave out the size")  # fmt: skip


def _at(base: keras.Model, size: int, alpha: float) -> dict[str, Any]:
    return {
        "weights": None, "classes": base.output_shape[-1], "classifier_activation": None,
        "input_shape": (size, size, 3), **_wide(alpha),
    }  # fmt: skip


def resized(base: keras.Model, family: Callable, size: int, alpha: float) -> keras.Model:
    """The same weights in an instance that was built for another size."""
    model = family(**_at(base, size, alpha))
    model.set_weights(base.get_weights())
    return _completed(model, base)


def _completed(model: keras.Model, base: keras.Model) -> keras.Model:
    """With the layer that Keras adds to EfficientNet where it loads ImageNet's weights itself, and else leaves out."""
    ours, theirs = ([call.operation for call in calls(m)] for m in (model, base))
    if len(ours) == len(theirs):
        return model
    place = next(n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if type(a) is not type(b))
    extra = theirs[place]
    rest = theirs[:place] + theirs[place + 1 :]
    if extra.weights or [type(operation) for operation in rest] != [type(operation) for operation in ours]:
        raise RuntimeError(f"{model.name} built for another size differs by more than {extra.name}")
    before, added = ours[place - 1], type(extra).from_config(extra.get_config())

    def answer(call: Call, args: tuple, kwargs: dict) -> Any:
        found = call.operation(*args, **kwargs)
        return added(found) if call.operation is before else found

    return replay(model, answer, model.name)


def _graph(model: keras.Model, prepare: Callable) -> Graph:
    holds = [variable.value for variable in model.variables]
    return Graph(call=lambda images: model(prepare(images), training=False), holds=holds)


def _network(model: keras.Model, prepare: Callable) -> LoadedNetwork:
    side = model.input_shape[1]
    forward = array_function(lambda images: model(prepare(keras.ops.cast(images, "float32")), training=False), side)
    price = counted(model)
    return LoadedNetwork(answer=forward, cost=Cost(macs=float(price.macs), params=float(price.params)))
