"""Asks a gateway, or a worker, what pictures show."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import grpc
import numpy as np

from dico_tf.edge import channels, messages, tensors
from dico_tf.edge.errors import EdgeError
from dico_tf.edge.front import tls
from dico_tf.errors import UserError
from dico_tf.export.manifest import COMMITTEE
from dico_tf.wire import inference_pb2

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
        self._channel = channels.waiting(address, tls.Client(ca=tls_ca, cert=tls_cert, key=tls_key))
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
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
        asked = messages.Asked(self._model, _input(images))
        content = self._call("ModelInfer", messages.asked_to_message(asked), deadline)
        answer = messages.answer_from_message(inference_pb2.ModelInferResponse.FromString(content))
        told = {name: str(value) for name, value in answer.parameters.items()}
        if lost := [name for name in _OUTPUTS if name not in answer.outputs]:
            raise EdgeError("INTERNAL", f"{self._address} answered without {lost[0]}: is it a worker or a gateway?")
        return Prediction(
            probabilities=answer.outputs["probabilities"],
            class_id=answer.outputs["class_id"],
            class_names=self._names(answer.version, deadline),
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
        try:
            content = self._call("ModelReady", inference_pb2.ModelReadyRequest(name=self._model), deadline)
        except EdgeError:
            return False
        return inference_pb2.ModelReadyResponse.FromString(content).ready

    def _names(self, export: str, deadline: float) -> tuple[str, ...]:
        if export not in self._class_names:
            content = self._call("ModelMetadata", inference_pb2.ModelMetadataRequest(name=self._model), deadline)
            found = inference_pb2.ModelMetadataResponse.FromString(content)
            self._class_names = {export: tuple(json.loads(found.properties.get("class_names", "[]")))}
        return self._class_names[export]

    def _call(self, method: str, message, deadline: float) -> bytes:
        call = self._channel.unary_unary(f"{_SERVICE}/{method}")
        try:
            return call(message.SerializeToString(), timeout=deadline, metadata=self._metadata)
        except grpc.RpcError as error:
            raise self._fault(error) from None

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


def _listed(text: str) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()
