"""Gateways in separate processes: `with gateways.running(path, {"branch_0": "host:port"}) as gateway: ...`."""

import contextlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from dico_tf.edge import messages, tensors
from tests.edge import workers

INFER = "/v2/models/committee/infer"


def command(manifest: Path, places: Mapping[str, str], *flags: str) -> list[str]:
    members = ",".join(f"{name}={place}" for name, place in places.items())
    return [sys.executable, "serve.py", "gateway", f"--manifest={manifest}", f"--members={members}", *flags]


@contextlib.contextmanager
def running(manifest: Path, places: Mapping[str, str], *flags: str, **more) -> Iterator[workers.Worker]:
    with workers.running(manifest, words=command(manifest, places, *flags), **more) as gateway:
        yield gateway


def infer(gateway: workers.Worker, image: np.ndarray, *outputs: str, **request) -> messages.InferenceResponse:
    return gateway.infer({"image": image}, outputs, model="committee", **request)


def body(image: np.ndarray) -> bytes:
    return messages.as_json({"inputs": [tensors.to_json("image", image)]})
