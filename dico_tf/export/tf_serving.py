"""The bundle that TensorFlow Serving answers from: O/tf_serving/NAME/VERSION/, models.config and batching.config.

A version appears by one rename from outside of the served folder, so a server that looks for new ones never sees half.
"""

import io
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from dico_tf.errors import UserError
from dico_tf.export import folder
from dico_tf.training.workdir import write_text
from dico_tf.wire import tf_serving_pb2 as wire

FOLDER = "tf_serving"
MOUNT = "/models"  # where the server sees the folder
LARGEST = 32  # pictures of a batch
SIZES = (1, 2, 4, 8, 16, LARGEST)
MODELS, BATCHING = "models.config", "batching.config"
WARM_UP = "assets.extra/tf_serving_warmup_requests"
STABLE, PREVIOUS = "stable", "previous"


def versions(served: Path, name: str) -> list[int]:
    """Those that a server would find, oldest first."""
    place = served / name
    return sorted(int(path.name) for path in place.iterdir() if path.name.isdigit()) if place.is_dir() else []


def stage(saved_model: Path, place: Path, name: str, image_size: int, cascade: bool = False) -> None:
    """A version as it will be served: the SavedModel's files, linked, and its warm-up requests."""
    shutil.copytree(saved_model, place, copy_function=_same)
    (place / WARM_UP).parent.mkdir()
    with tf.io.TFRecordWriter(str(place / WARM_UP)) as writer:
        for request in warm_up(name, image_size, cascade):
            log = wire.PredictionLog(predict_log=wire.PredictLog(request=request))
            writer.write(log.SerializeToString(deterministic=True))
    folder.flush(place)


def _same(source: str, target: str) -> None:
    """A second name of the file, where the disk has such."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def warm_up(name: str, image_size: int, cascade: bool = False) -> list[wire.PredictRequest]:
    """A request of each batch size, and one of an encoded picture: a graph's first answer takes long.

    One of noise for a cascade, of which it may be unsure enough to ask all members.
    """
    grey = np.full((image_size, image_size, 3), 128, np.float32)
    requests = [_request(name, "serving_default", "image", np.stack([grey] * size)) for size in SIZES]
    encoded = io.BytesIO()
    Image.fromarray(grey.astype(np.uint8)).save(encoded, "JPEG")
    requests.append(_request(name, "serving_bytes", "image_bytes", np.array([encoded.getvalue()], object)))
    if cascade:
        noise = np.random.default_rng(0).integers(0, 256, (LARGEST, image_size, image_size, 3)).astype(np.float32)
        requests.append(_request(name, "cascade", "image", noise))
    return requests


def _request(name: str, signature: str, entry: str, value: np.ndarray) -> wire.PredictRequest:
    spec = wire.ModelSpec(name=name, signature_name=signature)
    tensor = wire.Tensor.FromString(tf.make_tensor_proto(value).SerializeToString())
    return wire.PredictRequest(model_spec=spec, inputs={entry: tensor})


def publish(out: Path, staged: Path, keep: int) -> int:
    """The folders NAME of `staged` become the next version of each; the number of that version."""
    served, names = out / FOLDER, sorted(path.name for path in staged.iterdir())
    served.mkdir(exist_ok=True)
    version = 1 + max((number for name in _names(served) + names for number in versions(served, name)), default=0)
    for name in names:
        (served / name).mkdir(exist_ok=True)
        (staged / name).rename(served / name / str(version))
        folder.sync(served / name)
    kept = {name: versions(served, name)[-keep:] for name in _names(served)}
    configure(served, kept)
    for name, numbers in kept.items():
        _remove(served, staged, name, [n for n in versions(served, name) if n not in numbers])
    return version


def _names(served: Path) -> list[str]:
    return sorted(path.name for path in served.iterdir() if path.is_dir())


def _remove(served: Path, trash: Path, name: str, numbers: Sequence[int]) -> None:
    """Out of the server's sight first: half a version must not be seen when it goes, either."""
    for number in numbers:
        (served / name / str(number)).rename(trash / f"{name}.{number}")


def configure(served: Path, kept: dict[str, list[int]]) -> None:
    """models.config names the versions to load; the newest is `stable`, the one before it `previous`."""
    write_text(served / BATCHING, _batching())
    write_text(served / MODELS, _models({name: numbers for name, numbers in kept.items() if numbers}))


def roll_back(out: Path, version: int) -> list[str]:
    """Serves nothing newer than a version that is kept; the names it is of. The next export is served again."""
    served = out / FOLDER
    if not served.is_dir():
        raise UserError(f"--out={out} has no {FOLDER}/: export with saved_model among --formats first")
    kept = {name: versions(served, name) for name in _names(served)}
    having = [name for name, numbers in kept.items() if version in numbers]
    if not having:
        known = sorted({number for numbers in kept.values() for number in numbers})
        raise UserError(f"--stable={version} is no version in {served}; it has {', '.join(map(str, known))}")
    configure(served, {name: [n for n in numbers if n <= version] for name, numbers in kept.items()})
    return having


def _models(kept: dict[str, list[int]]) -> str:
    entries = []
    for name, numbers in kept.items():
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
