"""The committee, answering as one model: `python serve.py gateway`."""

import asyncio
import json
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dico_tf.data import pictures
from dico_tf.edge import inputs, options, tensors
from dico_tf.edge.asking import addresses
from dico_tf.edge.asking.committee import Committee, Rules, convene
from dico_tf.edge.asking.poll import BelowQuorum, Poll
from dico_tf.edge.asking.tally import Tally
from dico_tf.edge.asking.verdict import Verdict
from dico_tf.edge.errors import EdgeError, invalid, shown
from dico_tf.edge.front import guard, tls
from dico_tf.edge.front.door import Door
from dico_tf.edge.messages import Answer, Asked, Value
from dico_tf.edge.service import MIXED, Metadata, unknown
from dico_tf.errors import UserError
from dico_tf.evaluation.averaging import softmax
from dico_tf.export import manifest

LOG = logging.getLogger(__name__)
FOLLOWED_EVERY = 0.5  # seconds: the workers of `serve.py local` look every second
OUTPUTS = ("logits", "probabilities", "class_id", "disagreement")  # where none are asked for
BRANCHES, CLASS_NAME = "branch_probabilities", "class_name"  # only where asked for; of the members used


class Gateway:
    """The service of the committee."""

    name = manifest.COMMITTEE

    def __init__(self, committee: Committee, limits: guard.Limits, tally: Tally):
        self.committee, self._limits, self._tally = committee, limits, tally
        self._gate = guard.Gate(limits.concurrency)
        about = _about(committee.manifest)
        self.size = about["input_size"]  # the same in every export that is taken
        self.short = about.get("short_side", self.size)

    @property
    def export(self) -> str:
        return self.committee.manifest.id

    def _manifest(self, model: str, version: str) -> manifest.Manifest:
        """While members change over, also the one before."""
        if model != self.name:
            raise unknown("the model", model, self.name)
        if version and version not in self.committee.exports:
            raise unknown("the version", version, f"{self.export}, the id of the export")
        return self.committee.source([version or self.export])

    def metadata(self, model: str, version: str) -> Metadata:
        found = self._manifest(model, version)
        names = _about(found)["class_names"]
        classes = len(names)
        shapes = {"logits": (classes,), "probabilities": (classes,), BRANCHES: (-1, classes), "disagreement": ()}
        outputs = [(name, "FP32", (-1, *shape)) for name, shape in shapes.items()]
        properties = {
            "export": found.id, "average": found.average, "input_size": str(self.size),
            "class_names": json.dumps(names), "members": ",".join(self.committee.members),
            "quorum": str(self.committee.rules.quorum),
        }  # fmt: skip
        outputs += [("class_id", "INT64", (-1,)), (CLASS_NAME, "BYTES", (-1,))]
        return Metadata(self.name, found.id, inputs.accepted(self), tuple(outputs), properties, "dico_tf_gateway")

    async def infer(self, asked: Asked, deadline: float) -> Answer:
        self._manifest(asked.model, asked.version)
        outputs = _outputs(asked.outputs)
        with self._gate.entered():
            deadline = self.committee.deadline(deadline)  # decoding counts
            image = await _in_time(self._image(asked.inputs, deadline), deadline)
            try:
                poll, told = await self.committee.ask(image, deadline)
            except BelowQuorum as error:
                self._tally.count(error.poll)
                raise
            self._tally.count(poll)
        source = self.committee.source(told.versions.values())
        export = self._export(told, source)
        if asked.version not in ("", export):
            raise unknown("the version", asked.version, f"{export}, which most members have")
        names = _about(source)["class_names"]
        found = {name: _output(name, poll, told, names) for name in outputs}
        return Answer(self.name, found, export, asked.id, parameters(told, export))

    async def _image(self, sent: Mapping[str, np.ndarray], deadline: float) -> np.ndarray:
        """uint8 or float32 [B, H, W, 3]; pictures are decoded once, here."""
        made = inputs.pixels(sent, self, self._limits, deadline)
        if inputs.IMAGE in sent:
            return made()
        size = len(sent[inputs.IMAGE_BYTES]) * self.size * self.size * 3
        if size > self._limits.request_bytes:
            raise invalid(f"the images are {size} bytes when they are decoded: send fewer in one request")
        return await asyncio.get_running_loop().run_in_executor(pictures.pool(), made)

    def _export(self, told: Verdict, source: manifest.Manifest) -> str:
        """Of all members used, or that there were several; a TensorFlow Serving server knows of none."""
        mixed = self.committee.rules.mixed_exports and set(told.versions.values()) != {source.id}
        return MIXED if mixed else source.id


def _about(found: manifest.Manifest) -> dict[str, Any]:
    """Any branch: they take the same images and know the same classes."""
    return found.member(found.branches[0])


def _output(name: str, poll: Poll, told: Verdict, class_names: Sequence[str]) -> np.ndarray:
    if name == BRANCHES:
        return softmax(np.stack([vote.logits for vote in poll.votes.values()], 1)).astype(np.float32)
    if name == CLASS_NAME:
        return tensors.strings([class_names[number] for number in told.class_id])
    return getattr(told, name)


def parameters(told: Verdict, export: str) -> dict[str, Value]:
    """Flat, as the protocol wants them: lists with commas, and one parameter for each member's version and reason."""
    return {
        "export": export,
        "used": ",".join(told.versions),
        "late": ",".join(told.late),
        "missing": ",".join(told.missing),
        **{f"version.{name}": version for name, version in told.versions.items()},
        **{f"reason.{name}": reason for name, reason in told.missing.items()},
    }


def _outputs(asked: tuple[str, ...]) -> tuple[str, ...]:
    known = (*OUTPUTS, BRANCHES, CLASS_NAME)
    for name in asked:
        if name not in known:
            raise invalid(f"there is no output {shown(name)}; known: {', '.join(known)}")
    return tuple(dict.fromkeys(asked)) or OUTPUTS


async def _in_time(decoding: Awaitable[np.ndarray], deadline: float) -> np.ndarray:
    try:
        async with asyncio.timeout_at(deadline):
            return await decoding
    except TimeoutError:
        raise EdgeError("DEADLINE_EXCEEDED", "the images were not decoded by the deadline: send fewer") from None


def run(asked: options.Committee, door: options.Door, say: Callable[[str], None]) -> None:
    """Until SIGTERM or SIGINT; `say` is told one line of JSON when it listens."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    found = manifest.load(os.path.abspath(asked.manifest))
    places = addresses.read(asked.members, found.branches)
    security = tls.Client(ca=asked.member_tls_ca, cert=asked.member_tls_cert, key=asked.member_tls_key)
    token = guard.token(asked.member_token_file, "member_token_file") if asked.member_token_file else ""
    _check_token(token, security, places, door.insecure)
    hedges, mixed = asked.hedge, asked.allow_mixed_exports
    rules = Rules(quorum=asked.majority(len(places)), seconds=asked.deadline_ms / 1000, hedges=hedges,
                  mixed_exports=mixed)  # fmt: skip
    entry = Door(door)
    asyncio.run(_serve(lambda: convene(found, places, rules, security, token), entry, say))


def _check_token(
    token: str, security: tls.Client, places: Mapping[str, Sequence[addresses.Address]], insecure: bool
) -> None:
    open_to_all = [str(place) for found in places.values() for place in found if not guard.loopback(place.host)]
    if token and open_to_all and not security and not insecure:
        raise UserError(
            f"--member_token_file would be sent to {open_to_all[0]} for all to read: give --member_tls_ca, "
            "or --insecure where the network itself is trusted"
        )


async def _serve(convened: Callable[[], Committee], door: Door, say: Callable[[str], None]) -> None:
    await serve(convened(), door, lambda told: say(json.dumps(told)))


async def follow(committee: Committee, path: Path) -> None:
    """Takes each new export that is written in the old one's place, until it is cancelled."""
    seen = None  # the committee's own manifest may be an old one already: its members took their time to start
    while True:
        stamp = await asyncio.to_thread(manifest.stamp, path)  # a disk of another machine may take any time
        if stamp != seen:
            seen = stamp
            await _take(committee, path)
        await asyncio.sleep(FOLLOWED_EVERY)


async def _take(committee: Committee, path: Path) -> None:
    try:
        found = await asyncio.to_thread(manifest.load, path)
        if found.content != committee.manifest.content:
            committee.take(found)
            LOG.warning("the committee is of export %s now", found.id)
    except UserError as error:
        LOG.error("the new export is refused, the old one goes on: %s", error)
    except Exception:  # whatever it is, the next one is looked at again
        LOG.exception("the new export is refused, the old one goes on")


async def serve(committee: Committee, door: Door, listening: Callable[[dict], None]) -> None:
    """Until it is told to stop; `listening` is told where, and who is there."""
    following = asyncio.create_task(follow(committee, committee.manifest.folder / manifest.NAME))
    gateway = Gateway(committee, door.limits, Tally(door.metrics, committee))
    await committee.probe()
    found = await door.open(gateway)
    door.readiness.set(committee.ready)
    watching = asyncio.create_task(committee.watch(door.readiness.set))
    listening({"ready": committee.ready, "committee": list(committee.members), "present": committee.present,
               "quorum": committee.rules.quorum, "export": gateway.export, **found})  # fmt: skip
    try:
        await door.until_told_to_stop()
    finally:
        following.cancel()
        watching.cancel()
        await door.close()
        await committee.close()
