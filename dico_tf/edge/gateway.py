"""The committee, answering as one model: `python serve.py gateway`."""

import asyncio
import dataclasses
import json
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dico_tf.data import image_decoding
from dico_tf.edge import inputs, options, tensors
from dico_tf.edge.errors import EdgeError, invalid, shown
from dico_tf.edge.members import addresses
from dico_tf.edge.members.ask_all import BelowQuorum, MemberAnswers
from dico_tf.edge.members.combine import CombinedAnswer
from dico_tf.edge.members.committee import CommitteePolicy, RemoteCommittee, connect
from dico_tf.edge.members.member_metrics import MemberMetrics
from dico_tf.edge.members.outcome import Images
from dico_tf.edge.messages import InferenceRequest, InferenceResponse, Value
from dico_tf.edge.server import access, tls
from dico_tf.edge.server.limits import ConcurrencyLimit, Limits
from dico_tf.edge.server.listener import Listener
from dico_tf.edge.service import MIXED, ModelMetadata, unknown
from dico_tf.errors import UserError
from dico_tf.evaluation.averaging import softmax
from dico_tf.files import manifest

LOG = logging.getLogger(__name__)
FOLLOWED_EVERY = 0.5  # seconds: the workers of `serve.py local` look every second
OUTPUTS = ("logits", "probabilities", "class_id", "disagreement")  # where none are asked for
BRANCHES, CLASS_NAME = "branch_probabilities", "class_name"  # only where asked for; of the members used
STAGE = "stage"  # by default only where members are asked in turn


class Gateway:
    """The service of the committee."""

    name = manifest.COMMITTEE

    def __init__(self, committee: RemoteCommittee, limits: Limits, tally: MemberMetrics):
        self.committee, self._limits, self._tally = committee, limits, tally
        self._gate = ConcurrencyLimit(limits.concurrency)
        # the same in every export that is taken
        self._views = {name: _View.of(committee.manifest.member(name)) for name in committee.manifest.branches}
        self._different = tuple(dict.fromkeys(self._views.values()))

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

    def metadata(self, model: str, version: str) -> ModelMetadata:
        found = self._manifest(model, version)
        names = _about(found)["class_names"]
        classes = len(names)
        shapes = {"logits": (classes,), "probabilities": (classes,), BRANCHES: (-1, classes), "disagreement": ()}
        outputs = [(name, "FP32", (-1, *shape)) for name, shape in shapes.items()]
        properties = {
            "export": found.id, "average": found.average, "input_size": self._sizes(),
            "class_names": json.dumps(names), "members": ",".join(self.committee.members),
            "quorum": str(self.committee.rules.quorum), "cascade": ",".join(self.order),
        }  # fmt: skip
        outputs += [("class_id", "INT64", (-1,)), (CLASS_NAME, "BYTES", (-1,))]
        outputs += [(STAGE, "INT64", (-1,))] if self.order else []
        taken = inputs.accepted(*self._different)
        return ModelMetadata(self.name, found.id, taken, tuple(outputs), properties, "dico_tf_gateway")

    async def infer(self, asked: InferenceRequest, deadline: float) -> InferenceResponse:
        self._manifest(asked.model, asked.version)
        outputs = _outputs(asked.outputs, in_turn=bool(self.order))
        with self._gate.entered():
            deadline = self.committee.deadline(deadline)  # decoding counts
            images = await _in_time(self._images(asked.inputs, deadline), deadline)
            try:
                poll, told = await self.committee.ask(images, deadline)
            except BelowQuorum as error:
                self._tally.count(error.poll)
                raise
            self._tally.count(poll)
            self._tally.exits(told)
        source = self.committee.source(told.versions.values())
        export = self._export(told, source)
        if asked.version not in ("", export):
            raise unknown("the version", asked.version, f"{export}, which most members have")
        names = _about(source)["class_names"]
        found = {name: _output(name, poll, told, names) for name in outputs}
        return InferenceResponse(self.name, found, export, asked.id, parameters(told, export))

    @property
    def order(self) -> tuple[str, ...]:
        """In which members are asked, one after the other; () = all at once."""
        return self.committee.plan.members if self.committee.plan else ()

    def _sizes(self) -> str:
        """One, or one for each member."""
        sizes = [view.size for view in self._views.values()]
        return ",".join(map(str, sizes if len(set(sizes)) > 1 else sizes[:1]))

    async def _images(self, sent: Mapping[str, np.ndarray], deadline: float) -> Images:
        """uint8 or float32 [B, H, W, 3]; pictures are decoded once, here, and cut out for each member."""
        made = inputs.pixels(sent, self._different, self._limits, deadline)
        if inputs.IMAGE in sent:
            return made()[0]
        size = len(sent[inputs.IMAGE_BYTES]) * sum(view.size * view.size * 3 for view in self._different)
        if size > self._limits.request_bytes:
            raise invalid(f"the images are {size} bytes when they are decoded: send fewer in one request")
        found = await asyncio.get_running_loop().run_in_executor(image_decoding.pool(), made)
        by_view = dict(zip(self._different, found, strict=True))
        return found[0] if len(found) == 1 else {name: by_view[view] for name, view in self._views.items()}

    def _export(self, told: CombinedAnswer, source: manifest.Manifest) -> str:
        """Of all members used, or that there were several; a TensorFlow Serving server knows of none."""
        mixed = self.committee.rules.mixed_exports and set(told.versions.values()) != {source.id}
        return MIXED if mixed else source.id


@dataclasses.dataclass(frozen=True)
class _View:
    size: int
    short: int

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> "_View":
        return cls(about["input_size"], about.get("short_side", about["input_size"]))


def _about(found: manifest.Manifest) -> dict[str, Any]:
    """Any branch: they know the same classes."""
    return found.member(found.branches[0])


def _output(name: str, poll: MemberAnswers, told: CombinedAnswer, class_names: Sequence[str]) -> np.ndarray:
    if name == BRANCHES:
        if told.order:  # since a moment ago, by a new export
            raise _not_in_turn()
        return softmax(np.stack([vote.logits for vote in poll.votes.values()], 1)).astype(np.float32)
    if name == CLASS_NAME:
        return tensors.strings([class_names[number] for number in told.class_id])
    return getattr(told, name)


def parameters(told: CombinedAnswer, export: str) -> dict[str, Value]:
    """Flat, as the protocol wants them: lists with commas, and one parameter for each member's version and reason."""
    return {
        "export": export,
        "used": ",".join(told.versions),
        "late": ",".join(told.late),
        "missing": ",".join(told.missing),
        **({"cascade": ",".join(told.order), "gate_passed": told.gate_passed} if told.order else {}),
        **{f"version.{name}": version for name, version in told.versions.items()},
        **{f"reason.{name}": reason for name, reason in told.missing.items()},
    }


def _outputs(asked: tuple[str, ...], in_turn: bool) -> tuple[str, ...]:
    known = (*OUTPUTS, BRANCHES, CLASS_NAME, STAGE)
    for name in asked:
        if name not in known:
            raise invalid(f"there is no output {shown(name)}; known: {', '.join(known)}")
    if in_turn and BRANCHES in asked:
        raise _not_in_turn()
    return tuple(dict.fromkeys(asked)) or ((*OUTPUTS, STAGE) if in_turn else OUTPUTS)


def _not_in_turn() -> EdgeError:
    return invalid(f"{BRANCHES} are not known where members are asked in turn: a gateway with --nocascade asks all")


async def _in_time(decoding: Awaitable[np.ndarray], deadline: float) -> np.ndarray:
    try:
        async with asyncio.timeout_at(deadline):
            return await decoding
    except TimeoutError:
        raise EdgeError("DEADLINE_EXCEEDED", "the images were not decoded by the deadline: send fewer") from None


def run(asked: options.GatewayOptions, door: options.ServerOptions, say: Callable[[str], None]) -> None:
    """Until SIGTERM or SIGINT; `say` is told one line of JSON when it listens."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    found = manifest.load(os.path.abspath(asked.manifest))
    places = addresses.read(asked.members, found.branches)
    security = tls.ClientTLS(ca=asked.member_tls_ca, cert=asked.member_tls_cert, key=asked.member_tls_key)
    token = access.token(asked.member_token_file, "member_token_file") if asked.member_token_file else ""
    _check_token(token, security, places, door.insecure)
    hedges, mixed = asked.hedge, asked.allow_mixed_exports
    rules = CommitteePolicy(quorum=asked.majority(len(places)), seconds=asked.deadline_ms / 1000, hedges=hedges,
                  mixed_exports=mixed, cascade=asked.cascade)  # fmt: skip
    entry = Listener(door)
    asyncio.run(_serve(lambda: connect(found, places, rules, security, token), entry, say))


def _check_token(
    token: str, security: tls.ClientTLS, places: Mapping[str, Sequence[addresses.Address]], insecure: bool
) -> None:
    open_to_all = [str(place) for found in places.values() for place in found if not access.loopback(place.host)]
    if token and open_to_all and not security and not insecure:
        raise UserError(
            f"--member_token_file would be sent to {open_to_all[0]} for all to read: give --member_tls_ca, "
            "or --insecure where the network itself is trusted"
        )


async def _serve(convened: Callable[[], RemoteCommittee], door: Listener, say: Callable[[str], None]) -> None:
    await serve(convened(), door, lambda told: say(json.dumps(told)))


async def follow(committee: RemoteCommittee, path: Path) -> None:
    """Takes each new export that is written in the old one's place, until it is cancelled."""
    seen = None  # the committee's own manifest may be an old one already: its members took their time to start
    while True:
        stamp = await asyncio.to_thread(manifest.stamp, path)  # a disk of another machine may take any time
        if stamp != seen:
            seen = stamp
            await _take(committee, path)
        await asyncio.sleep(FOLLOWED_EVERY)


async def _take(committee: RemoteCommittee, path: Path) -> None:
    try:
        found = await asyncio.to_thread(manifest.load, path)
        if found.content != committee.manifest.content:
            committee.take(found)
            LOG.warning("the committee is of export %s now", found.id)
    except UserError as error:
        LOG.error("the new export is refused, the old one goes on: %s", error)
    except Exception:  # whatever it is, the next one is looked at again
        LOG.exception("the new export is refused, the old one goes on")


async def serve(committee: RemoteCommittee, door: Listener, listening: Callable[[dict], None]) -> None:
    """Until it is told to stop; `listening` is told where, and who is there."""
    following = asyncio.create_task(follow(committee, committee.manifest.folder / manifest.NAME))
    gateway = Gateway(committee, door.limits, MemberMetrics(door.metrics, committee))
    await committee.probe()
    found = await door.open(gateway)
    door.readiness.set(committee.ready)
    watching = asyncio.create_task(committee.watch(door.readiness.set))
    listening({"ready": committee.ready, "committee": list(committee.members), "present": committee.present,
               "quorum": committee.rules.quorum, "cascade": list(gateway.order), "export": gateway.export,
               **found})  # fmt: skip
    try:
        await door.until_told_to_stop()
    finally:
        following.cancel()
        watching.cancel()
        await door.close()
        await committee.close()
