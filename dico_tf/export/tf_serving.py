"""Folder for TensorFlow Serving: OUT/tf_serving/NAME/VERSION/, models.config and batching.config.

A version is prepared elsewhere and appears by one rename, so that a polling server never sees an incomplete one.
All models of an export have the same version number. models.config lists the versions to serve.
"""

import io
import os
import re
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from dico_tf.errors import UserError
from dico_tf.export import folder
from dico_tf.files import atomic
from dico_tf.files.manifest import COMMITTEE
from dico_tf.wire import tf_serving_pb2 as wire

FOLDER = "tf_serving"
MOUNT = "/models"  # path of the folder in the server's container
LARGEST = 32  # images of a batch
SIZES = (1, 2, 4, 8, 16, LARGEST)
MODELS, BATCHING = "models.config", "batching.config"
WARM_UP = "assets.extra/tf_serving_warmup_requests"
STABLE, PREVIOUS = "stable", "previous"
_OURS = re.compile(rf"branch_\d+|{COMMITTEE}")


def versions(served: Path, name: str) -> list[int]:
    """Return the version numbers of a model in the folder OUT/tf_serving, oldest first; [] if it has none."""
    place = served / name
    return sorted(int(path.name) for path in place.iterdir() if path.name.isdigit()) if place.is_dir() else []


def stage(saved_model: Path, place: Path, name: str, image_size: int, cascade: bool = False) -> None:
    """Prepare a version of a model in the new folder `place`: hard links to the SavedModel, and warm-up requests.

    Args:
        saved_model: folder of the model's SavedModel.
        name: the model's name in requests.
        image_size: side of the images that the model takes, in pixels.
        cascade: True if it has the signature `cascade`.
    """
    shutil.copytree(saved_model, place, copy_function=_link_or_copy)
    (place / WARM_UP).parent.mkdir()
    with tf.io.TFRecordWriter(str(place / WARM_UP)) as writer:
        for request in warm_up(name, image_size, cascade):
            log = wire.PredictionLog(predict_log=wire.PredictLog(request=request))
            writer.write(log.SerializeToString(deterministic=True))
    atomic.flush(place)


def _link_or_copy(source: str, target: str) -> None:
    """Create a hard link, or copy the file if the disk does not support links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def warm_up(name: str, image_size: int, cascade: bool = False) -> list[wire.PredictRequest]:
    """Return warm-up requests, because a graph's first run is slow: one per batch size in SIZES, and an encoded image.

    With `cascade`, one more request sends noise to the signature `cascade`, because it may be uncertain enough to reach
    all members.
    """
    requests = [_request(name, "serving_default", image=_grey(size, image_size)) for size in SIZES]
    encoded = io.BytesIO()
    Image.new("RGB", (image_size, image_size), "grey").save(encoded, "JPEG")
    image = wire.Tensor(dtype=wire.DT_STRING, tensor_shape=_shape(1), string_val=[encoded.getvalue()])
    requests.append(_request(name, "serving_bytes", image_bytes=image))
    if cascade:
        noise = np.random.default_rng(0).integers(0, 256, (1, image_size, image_size, 3)).astype("<f4")
        content = wire.Tensor(dtype=wire.DT_FLOAT, tensor_shape=_shape(*noise.shape), tensor_content=noise.tobytes())
        requests.append(_request(name, "cascade", image=content))
    return requests


def _request(name: str, signature: str, **inputs: wire.Tensor) -> wire.PredictRequest:
    return wire.PredictRequest(model_spec=wire.ModelSpec(name=name, signature_name=signature), inputs=inputs)


def _grey(batch: int, size: int) -> wire.Tensor:
    """Return grey images as a tensor that stores only one number.

    Stored in full, the warm-up images of a model with 224 x 224 pixels would take 38 MB on disk.
    """
    return wire.Tensor(dtype=wire.DT_FLOAT, tensor_shape=_shape(batch, size, size, 3), float_val=[128.0])


def _shape(*sides: int) -> wire.TensorShape:
    return wire.TensorShape(dim=[wire.TensorShape.Dim(size=side) for side in sides])


def publish(out: Path, staged: Path, keep: int) -> int:
    """Move the folders NAME of `staged` into OUT/tf_serving as the next version of each model. Return its number.

    Versions that neither the old nor the new models.config lists are deleted. Those of the old one stay because a
    server may not have read the new one yet.

    Args:
        keep: number of versions that the new models.config lists, counting the new one.
    """
    served = out / FOLDER
    served.mkdir(exist_ok=True)
    present = {number for name in _names(served) for number in versions(served, name)}
    before = _served(served) & present
    version = 1 + max(present, default=0)
    for name in sorted(path.name for path in staged.iterdir()):  # the committee last: a version that has it is complete
        (served / name).mkdir(exist_ok=True)
        (staged / name).rename(served / name / str(version))
        atomic.sync(served / name)
    configure(served, sorted({*before, version})[-keep:])
    _remove(served, staged, but={*before, version})
    return version


def _names(served: Path) -> list[str]:
    return sorted(path.name for path in served.iterdir() if path.is_dir() and _OURS.fullmatch(path.name))


def _served(served: Path) -> set[int]:
    """Return the versions that models.config in the folder `served` lists; none if there is no such file."""
    path = served / MODELS
    return {int(n) for n in re.findall(r"versions: (\d+)", path.read_text("utf-8"))} if path.exists() else set()


def _remove(served: Path, trash: Path, but: Collection[int]) -> None:
    """Move all versions except `but` to the folder `trash`: a server must not see a half deleted version."""
    for name in _names(served):
        for number in versions(served, name):
            if number not in but:
                (served / name / str(number)).rename(trash / f"{name}.{number}")
        if not any((served / name).iterdir()):
            (served / name).rmdir()


def configure(served: Path, numbers: Sequence[int]) -> None:
    """Write batching.config and models.config. `numbers` are the versions to load, oldest first.

    The newest version is labelled `stable`, the one before it `previous`. Models that the newest version lacks, such as
    a third branch of an earlier export, are not served.
    """
    models = {name: [n for n in versions(served, name) if n in numbers] for name in _names(served)}
    atomic.write_text(served / BATCHING, _batching())
    atomic.write_text(served / MODELS, _models({name: ns for name, ns in models.items() if numbers[-1] in ns}))


def roll_back(out: Path, version: int) -> list[str]:
    """List only the versions up to `version` in models.config, until the next export.

    Returns the models that have this version. Raises UserError if the committee does not have it.
    """
    served = out / FOLDER
    if not served.is_dir():
        raise UserError(f"--out={out} has no {FOLDER}/: export a run with saved_model among --formats first")
    with folder.claimed(out):
        complete = versions(served, COMMITTEE)
        if version not in complete:
            listed = ", ".join(map(str, complete)) or "none"
            raise UserError(f"--stable={version}: {served} has no such version; it has {listed}")
        configure(served, [number for number in complete if number <= version])
        return [name for name in _names(served) if version in versions(served, name)]


def _models(served: dict[str, list[int]]) -> str:
    entries = []
    for name, numbers in served.items():
        listed = " ".join(f"versions: {number}" for number in numbers)
        labels = dict(zip((STABLE, PREVIOUS), reversed(numbers), strict=False))
        lines = [
            f'name: "{name}"',
            f'base_path: "{MOUNT}/{name}"',
            'model_platform: "tensorflow"',
            f"model_version_policy {{ specific {{ {listed} }} }}",
            *(f'version_labels {{ key: "{label}" value: {number} }}' for label, number in labels.items()),
        ]
        entries.append("  config {\n" + "".join(f"    {line}\n" for line in lines) + "  }\n")
    return "model_config_list {\n" + "".join(entries) + "}\n"


def _batching() -> str:
    lines = [
        f"max_batch_size {{ value: {LARGEST} }}",
        "batch_timeout_micros { value: 1000 }",
        "num_batch_threads { value: 2 }",
        "max_enqueued_batches { value: 100 }",
        *(f"allowed_batch_sizes: {size}" for size in SIZES),
    ]
    return "".join(f"{line}\n" for line in lines)
