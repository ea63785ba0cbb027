"""Committees for tests, whose members may be faulty processes."""

import asyncio
import contextlib
from pathlib import Path

import numpy as np

from dico_tf.edge.members.addresses import Address
from dico_tf.edge.members.committee import CommitteePolicy, connect
from dico_tf.evaluation.averaging import combine, softmax
from dico_tf.files import manifest
from tests.edge.faulty_member import CLASSES, EXPORT, SIZE, logits

IMAGE = np.random.default_rng(7).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)


def content(names, average="logits", export=EXPORT, class_names="abcde"[:CLASSES]) -> dict:
    """Return the content of a manifest whose members have no files."""
    about = {
        "kind": "run",
        "input_size": SIZE,
        "class_names": list(class_names),
        "params": 1,
        "macs": 1,
        "metrics": {},
        "files": {},
    }
    members = [{"name": name, **about} for name in names]
    return {"id": export, "members": members, "committee": {"members": list(names), "average": average}}


def written(folder: Path, names, **more) -> Path:
    path = folder / "manifest.json"
    path.write_text(manifest.text(content(names, **more)))
    return path


def expected(names, image=IMAGE, average="logits") -> np.ndarray:
    """Return the probabilities of these members' average, computed in this process."""
    return softmax(combine(np.stack([logits(name, image) for name in names], 1), average))


@contextlib.asynccontextmanager
async def committee(places: dict, quorum=1, seconds=20.0, average="logits", watched=False, **more):
    """Connect to members at {name: "host:port"}, or {name: [several of them]}."""
    lists = {name: [place] if isinstance(place, str) else place for name, place in places.items()}
    addresses = {name: [Address(*place.split("/")) for place in replicas] for name, replicas in lists.items()}
    policy = CommitteePolicy(quorum=quorum, seconds=seconds, **more)
    remote = connect(manifest.Manifest(Path(), content(places, average)), addresses, policy)
    watching = asyncio.create_task(remote.watch()) if watched else None
    try:
        yield remote
    finally:
        if watching:
            watching.cancel()
        await remote.close()
