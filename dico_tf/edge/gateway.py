"""`serve.py gateway`: serves the committee as one model; its members are workers or TensorFlow Serving servers."""

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
from dico_tf.edge.errors import EdgeError, invalid, not_found, quote
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
from dico_tf.edge.service import MIXED, ModelMetadata
from dico_tf.errors import UserError
from dico_tf.evaluation.averaging import softmax
from dico_tf.files import manifest

LOG = logging.getLogger(__name__)
MANIFEST_CHECK_SECONDS = 0.5  # twice as often as the workers of `serve.py local` check
OUTPUTS = ("logits", "probabilities", "class_id", "disagreement")  # of requests that name none
BRANCHES, CLASS_NAME = "branch_probabilities", "class_name"  # only on request
STAGE = "stage"  # by default only of a cascade


class Gateway:
    """The ModelService of a committee."""

    name = manifest.COMMITTEE

    def __init__(self, committee: RemoteCommittee, limits: Limits, member_metrics: MemberMetrics):
        self.committee, self._limits, self._member_metrics = committee, limits, member_metrics
        self._concurrency = ConcurrencyLimit(limits.concurrency)
        # Input sizes never change: an export with other sizes is refused.
        branches = committee.manifest.branches
        self._sizes = {name: _MemberSize.of(committee.manifest.member(name)) for name in branches}
        self._distinct_sizes = tuple(dict.fromkeys(self._sizes.values()))

    @property
    def export(self) -> str:
        """The id of the current export."""
        return self.committee.manifest.id

    @property
    def cascade(self) -> tuple[str, ...]:
        """The order in which members are asked; () = all at once."""
        return self.committee.cascade.members if self.committee.cascade else ()

    def _manifest(self, model: str, version: str) -> manifest.Manifest:
        """Return the manifest of a version: "" or the id of the current export, or the id of the export before it.

        Raises EdgeError NOT_FOUND for other versions and models.
        """
        if model != self.name:
            raise not_found("model", model, self.name)
        if version and version not in self.committee.exports:
            raise not_found("version", version, f"{self.export}, the id of the export")
        return self.committee.manifest_of([version or self.export])

    def metadata(self, model: str, version: str) -> ModelMetadata:
        export = self._manifest(model, version)
        names = _class_names(export)
        classes = len(names)
        shapes = {"logits": (classes,), "probabilities": (classes,), BRANCHES: (-1, classes), "disagreement": ()}
        outputs = [(name, "FP32", (-1, *shape)) for name, shape in shapes.items()]
        outputs += [("class_id", "INT64", (-1,)), (CLASS_NAME, "BYTES", (-1,))]
        outputs += [(STAGE, "INT64", (-1,))] if self.cascade else []
        properties = {
            "export": export.id,
            "average": export.average,
            "input_size": self._input_sizes(),
            "class_names": json.dumps(names),
            "members": ",".join(self.committee.members),
            "quorum": str(self.committee.policy.quorum),
            "cascade": ",".join(self.cascade),
        }
        tensors_in = inputs.input_tensors(*self._distinct_sizes)
        return ModelMetadata(self.name, export.id, tensors_in, tuple(outputs), properties, "dico_tf_gateway")

    async def infer(self, request: InferenceRequest, deadline: float) -> InferenceResponse:
        self._manifest(request.model, request.version)
        names = _output_names(request.outputs, cascade=bool(self.cascade))
        with self._concurrency.entered():
            deadline = self.committee.deadline(deadline)  # set first: the time for decoding counts
            images = await _decoded_by(deadline, self._images(request.inputs, deadline))
            try:
                answers, combined = await self.committee.ask(images, deadline)
            except BelowQuorum as error:
                self._member_metrics.count(error.answers)
                raise
            self._member_metrics.count(answers)
            self._member_metrics.count_stages(combined)
        source = self.committee.manifest_of(combined.versions.values())
        export = self._export_id(combined, source)
        if request.version not in ("", export):
            raise not_found("version", request.version, f"{export}, the export that answered")
        outputs = {name: _output(name, answers, combined, _class_names(source)) for name in names}
        return InferenceResponse(self.name, outputs, export, request.id, parameters(combined, export))

    def _input_sizes(self) -> str:
        """Return the input size as text; one for each member, separated by commas, if they differ."""
        sizes = [size.size for size in self._sizes.values()]
        return ",".join(map(str, sizes if len(set(sizes)) > 1 else sizes[:1]))

    async def _images(self, request_inputs: Mapping[str, np.ndarray], deadline: float) -> Images:
        """Return the images as members take them; encoded images are decoded once, then resized for each size."""
        decode = inputs.images(request_inputs, self._distinct_sizes, self._limits, deadline)
        if inputs.IMAGE in request_inputs:
            return decode()[0]
        pixels = sum(size.size * size.size for size in self._distinct_sizes)
        decoded_bytes = len(request_inputs[inputs.IMAGE_BYTES]) * pixels * 3
        if decoded_bytes > self._limits.request_bytes:
            raise invalid(
                f"the decoded images have {decoded_bytes} bytes, more than the limit of {self._limits.request_bytes}: "
                "send fewer images per request"
            )
        batches = await asyncio.get_running_loop().run_in_executor(image_decoding.pool(), decode)
        by_size = dict(zip(self._distinct_sizes, batches, strict=True))
        return batches[0] if len(batches) == 1 else {name: by_size[size] for name, size in self._sizes.items()}

    def _export_id(self, combined: CombinedAnswer, source: manifest.Manifest) -> str:
        """Return the id of `source`; "mixed" if --allow_mixed_exports is set and a member used has another export.

        A member on TensorFlow Serving does not report its export, which counts as another one.
        """
        mixed = self.committee.policy.mixed_exports and set(combined.versions.values()) != {source.id}
        return MIXED if mixed else source.id


@dataclasses.dataclass(frozen=True)
class _MemberSize:
    size: int
    short: int

    @classmethod
    def of(cls, member: Mapping[str, Any]) -> "_MemberSize":
        return cls(member["input_size"], member.get("short_side", member["input_size"]))


def _class_names(export: manifest.Manifest) -> list[str]:
    return export.member(export.branches[0])["class_names"]  # all members have the same classes


def _output(name: str, answers: MemberAnswers, combined: CombinedAnswer, class_names: Sequence[str]) -> np.ndarray:
    if name == BRANCHES:
        if combined.order:  # a new export with a cascade has arrived since the request was checked
            raise _no_branches_error()
        return softmax(np.stack([vote.logits for vote in answers.votes.values()], 1)).astype(np.float32)
    if name == CLASS_NAME:
        return tensors.strings([class_names[number] for number in combined.class_id])
    return getattr(combined, name)


def parameters(combined: CombinedAnswer, export: str) -> dict[str, Value]:
    """Return the parameters of a response; `export` is the id of the export, or "mixed".

    The protocol allows no lists in them, so names are joined by commas.
    """
    return {
        "export": export,
        "used": ",".join(combined.versions),
        "late": ",".join(combined.late),
        "missing": ",".join(combined.missing),
        **({"cascade": ",".join(combined.order), "gate_passed": combined.gate_passed} if combined.order else {}),
        **{f"version.{name}": version for name, version in combined.versions.items()},
        **{f"reason.{name}": reason for name, reason in combined.missing.items()},
    }


def _output_names(requested: tuple[str, ...], cascade: bool) -> tuple[str, ...]:
    available = (*OUTPUTS, BRANCHES, CLASS_NAME, STAGE)
    for name in requested:
        if name not in available:
            raise invalid(f"unknown output {quote(name)}; known: {', '.join(available)}")
    if cascade and BRANCHES in requested:
        raise _no_branches_error()
    return tuple(dict.fromkeys(requested)) or ((*OUTPUTS, STAGE) if cascade else OUTPUTS)


def _no_branches_error() -> EdgeError:
    return invalid(f"a cascade does not ask all members, so it has no {BRANCHES}: start the gateway with --nocascade")


async def _decoded_by(deadline: float, decoding: Awaitable[Images]) -> Images:
    try:
        async with asyncio.timeout_at(deadline):
            return await decoding
    except TimeoutError:
        raise EdgeError(
            "DEADLINE_EXCEEDED", "the deadline passed before the images were decoded: send fewer images per request"
        ) from None


def run(settings: options.GatewayOptions, server: options.ServerOptions, print_line: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; give `print_line` one line of JSON when listening.

    Raises UserError if a setting, the manifest, or a file of keys or tokens cannot be used.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    export = manifest.load(os.path.abspath(settings.manifest))
    places = addresses.parse(settings.members, export.branches)
    security = tls.ClientTLS(
        ca=settings.member_tls_ca, cert=settings.member_tls_cert, key=settings.member_tls_key, prefix="--member_"
    )
    token = access.token(settings.member_token_file, "member_token_file") if settings.member_token_file else ""
    _check_token(token, security, places, server.insecure)
    policy = CommitteePolicy(
        quorum=settings.majority(len(places)),
        seconds=settings.deadline_ms / 1000,
        hedge_share=settings.hedge,
        mixed_exports=settings.allow_mixed_exports,
        cascade=settings.cascade,
    )
    listener = Listener(server)
    asyncio.run(_serve(lambda: connect(export, places, policy, security, token), listener, print_line))


def _check_token(
    token: str, security: tls.ClientTLS, places: Mapping[str, Sequence[addresses.Address]], insecure: bool
) -> None:
    """Raise UserError if the token would be sent over a network without TLS, unless `insecure` allows it."""
    remote = [str(address) for replicas in places.values() for address in replicas if not access.loopback(address.host)]
    if token and remote and not security and not insecure:
        raise UserError(
            f"--member_token_file would be sent unencrypted to {remote[0]}: give --member_tls_ca, "
            "or --insecure if the network itself is trusted"
        )


async def _serve(
    make_committee: Callable[[], RemoteCommittee], listener: Listener, print_line: Callable[[str], None]
) -> None:
    await serve(make_committee(), listener, lambda status: print_line(json.dumps(status)))


async def follow_manifest(committee: RemoteCommittee, path: Path) -> None:
    """Switch to each new export whose manifest is written to `path`; refuse and log one that cannot be served.

    Runs until it is cancelled.
    """
    last = None  # check at once: the manifest may have changed while members started
    while True:
        stamp = await asyncio.to_thread(manifest.stamp, path)  # a network disk may be slow
        if stamp != last:
            last = stamp
            await _switch_export(committee, path)
        await asyncio.sleep(MANIFEST_CHECK_SECONDS)


async def _switch_export(committee: RemoteCommittee, path: Path) -> None:
    try:
        export = await asyncio.to_thread(manifest.load, path)
        if export.content != committee.manifest.content:
            committee.switch_export(export)
            LOG.warning("switched to export %s", export.id)
    except UserError as error:
        LOG.error("the new export is refused and the old one stays in use: %s", error)
    except Exception:  # whatever it is, the next manifest is tried again
        LOG.exception("the new export is refused and the old one stays in use")


async def serve(committee: RemoteCommittee, listener: Listener, on_listening: Callable[[dict], None]) -> None:
    """Serve a committee until SIGTERM or SIGINT; call `on_listening` once with addresses, members and readiness."""
    following = asyncio.create_task(follow_manifest(committee, committee.manifest.folder / manifest.NAME))
    gateway = Gateway(committee, listener.limits, MemberMetrics(listener.metrics, committee))
    await committee.probe()
    places = await listener.start(gateway)
    listener.readiness.set(committee.ready)
    watching = asyncio.create_task(committee.watch(listener.readiness.set))
    on_listening(
        {
            "ready": committee.ready,
            "committee": list(committee.members),
            "present": committee.present,
            "quorum": committee.policy.quorum,
            "cascade": list(gateway.cascade),
            "export": gateway.export,
            **places,
        }
    )
    try:
        await listener.wait_for_stop()
    finally:
        following.cancel()
        watching.cancel()
        await listener.stop()
        await committee.close()
