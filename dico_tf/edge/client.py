"""Asks a gateway, or a worker, what pictures show."""

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import grpc
import numpy as np
from google.protobuf.message import DecodeError, Message

from dico_tf.edge import channels, messages, tensors
from dico_tf.edge.errors import EdgeError
from dico_tf.edge.server import tls
from dico_tf.edge.service import MIXED
from dico_tf.errors import UserError
from dico_tf.files.manifest import COMMITTEE
from dico_tf.wire import inference_pb2

M = TypeVar("M", bound=Message)
Picture = str | Path | bytes | np.ndarray
_SERVICE = "/inference.GRPCInferenceService"
_OUTPUTS = ("probabilities", "class_id")


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Prediction:
    """Of B images; what only a committee has is empty where a lone worker answered."""

    probabilities: np.ndarray  # float32 [B, C]
    class_id: np.ndarray  # int64 [B]
    class_names: tuple[str, ...]  # [C]
    export: str  # the id of the export that answered
    disagreement: np.ndarray | None = None  # float32 [B], nats
    used: tuple[str, ...] = ()  # members in the average
    late: tuple[str, ...] = ()  # members that had not answered by the deadline
    missing: dict[str, str] = dataclasses.field(default_factory=dict)  # other members, and why
    versions: dict[str, str] = dataclasses.field(default_factory=dict)  # exports of the members used
    cascade: tuple[str, ...] = ()  # the order in which members were asked; () = all at once
    stage: np.ndarray | None = None  # int64 [B], place in it of the last member whose answer is in the image's
    gate_passed: bool = True  # False where an image would have gone on to a member that was missing

    @property
    def classes(self) -> list[str]:
        """The likeliest class of each image."""
        return [self.class_names[c] for c in self.class_id]


class Client:
    """Holds one channel, which threads may share: `with Client("host:port") as client: client.predict(paths)`."""

    def __init__(
        self,
        address: str,
        *,
        model: str = COMMITTEE,
        token: str = "",
        tls_ca: str = "",
        tls_cert: str = "",
        tls_key: str = "",
    ):
        self._address, self._model = address, model
        self._channel = channels.waiting(address, tls.ClientTLS(ca=tls_ca, cert=tls_cert, key=tls_key))
        self._metadata = (("authorization", f"Bearer {_visible(token)}"),) if token else ()
        self._class_names: dict[str, tuple[str, ...]] = {}  # by export: another may take its place at any time

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def predict(self, images: Picture | Sequence[Picture], deadline: float = 10.0) -> Prediction:
        """Paths or bytes of JPEG or PNG pictures, or raw RGB arrays, 0..255, of the network's own size.

        `deadline` is in seconds; a committee answers by then with the members it has. Raises EdgeError.
        """
        end = time.monotonic() + deadline
        asked = messages.request_to_message(messages.InferenceRequest(self._model, _input(images)))
        answer = self._answer(asked, end)
        try:
            names = self._names(answer.version, end)
        except EdgeError as fault:
            if fault.code != "NOT_FOUND":
                raise
            answer = self._answer(asked, end)  # another export has taken the place of that one in between
            names = self._names(answer.version, end)
        told = {name: str(value) for name, value in answer.parameters.items()}
        return Prediction(
            probabilities=answer.outputs["probabilities"],
            class_id=answer.outputs["class_id"],
            class_names=names,
            export=told.get("export", answer.version),
            disagreement=answer.outputs.get("disagreement"),
            used=_listed(told.get("used", "")),
            late=_listed(told.get("late", "")),
            missing={name: told.get(f"reason.{name}", "") for name in _listed(told.get("missing", ""))},
            versions={name: told.get(f"version.{name}", "") for name in _listed(told.get("used", ""))},
            cascade=_listed(told.get("cascade", "")),
            stage=answer.outputs.get("stage"),
            gate_passed=answer.parameters.get("gate_passed", True) is True,
        )

    def ready(self, deadline: float = 1.0) -> bool:
        """Whether it would answer now."""
        asked = inference_pb2.ModelReadyRequest(name=self._model)
        try:
            return self._call("ModelReady", asked, inference_pb2.ModelReadyResponse, time.monotonic() + deadline).ready
        except EdgeError:
            return False

    def _answer(self, asked: inference_pb2.ModelInferRequest, end: float) -> messages.InferenceResponse:
        found = self._call("ModelInfer", asked, inference_pb2.ModelInferResponse, end)
        try:
            answer = messages.response_from_message(found)
        except EdgeError as fault:
            raise self._strange(fault.sentence) from None
        if lost := [name for name in _OUTPUTS if name not in answer.outputs]:
            raise self._strange(f"without {lost[0]}")
        return answer

    def _names(self, export: str, end: float) -> tuple[str, ...]:
        if export not in self._class_names:
            version = "" if export == MIXED else export
            asked = inference_pb2.ModelMetadataRequest(name=self._model, version=version)
            found = self._call("ModelMetadata", asked, inference_pb2.ModelMetadataResponse, end)
            self._class_names = {export: tuple(json.loads(found.properties.get("class_names", "[]")))}
        return self._class_names[export]

    def _call(self, method: str, message: Message, kind: type[M], end: float) -> M:
        """What is answered by `end`, of time.monotonic."""
        call, content = self._channel.unary_unary(f"{_SERVICE}/{method}"), message.SerializeToString()
        try:
            try:
                found = call(content, timeout=_left(end), metadata=self._metadata)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.CANCELLED:
                    raise
                found = call(content, timeout=_left(end), metadata=self._metadata)  # it was stopping: ask the next one
            return kind.FromString(found)
        except grpc.RpcError as error:
            raise self._fault(error) from None
        except DecodeError:
            raise self._strange(f"what is no {kind.DESCRIPTOR.name}") from None

    def _strange(self, what: str) -> EdgeError:
        return EdgeError("INTERNAL", f"{self._address} answered {what}: is it a worker or a gateway?")

    def _fault(self, error: grpc.RpcError) -> EdgeError:
        code, said = error.code(), error.details() or ""
        if code is grpc.StatusCode.UNAVAILABLE and "members answered" not in said:
            said = (
                f"{self._address} cannot be reached: does serve.py run there, with TLS if and only if it is used here?"
            )
        elif code is grpc.StatusCode.DEADLINE_EXCEEDED and "members answered" not in said:
            said = f"{self._address} did not answer within the deadline"
        return EdgeError(code.name, said)


def _input(images: Picture | Sequence[Picture]) -> dict[str, np.ndarray]:
    if isinstance(images, np.ndarray):
        return {"image": _pixels(images[None] if images.ndim == 3 else images)}
    several = [images] if isinstance(images, str | Path | bytes) else list(images)
    if not several:
        raise UserError("no image given: give paths, bytes or arrays")
    if all(isinstance(image, np.ndarray) for image in several):
        return {"image": _pixels(np.stack(several))}
    if any(isinstance(image, np.ndarray) for image in several):
        raise UserError("arrays and pictures are mixed: ask for each kind by itself")
    return {"image_bytes": tensors.strings([_content(image) for image in several])}


def _pixels(image: np.ndarray) -> np.ndarray:
    if image.ndim != 4 or image.shape[-1] != 3:
        raise UserError(f"an array of shape {list(image.shape)} is no image: give [H, W, 3] or [B, H, W, 3]")
    return image if image.dtype == np.uint8 else image.astype(np.float32)


def _content(picture: str | Path | bytes) -> bytes:
    if isinstance(picture, bytes):
        return picture
    try:
        return Path(picture).read_bytes()
    except OSError as error:
        raise UserError(f"{picture} cannot be read: {error.strerror}") from None


def _left(end: float) -> float:
    return max(end - time.monotonic(), 0.0)


def _visible(token: str) -> str:
    """As a header can carry it; what was read from a file ends with a line break."""
    token = token.strip()
    if not token.isascii() or not token.isprintable():
        raise UserError("the token has characters that are not visible ASCII: give the token alone")
    return token


def _listed(text: str) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()
