"""Python client of a gateway or a worker."""

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
ImageSource = str | Path | bytes | np.ndarray
_SERVICE = "/inference.GRPCInferenceService"
_OUTPUTS = ("probabilities", "class_id")


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Prediction:
    """The answer for B images. Fields about a committee keep their defaults if a worker answered."""

    probabilities: np.ndarray  # float32 [B, C]
    class_id: np.ndarray  # int64 [B]
    class_names: tuple[str, ...]  # [C]
    export: str  # id of the export that answered; "mixed" if a gateway averaged several
    disagreement: np.ndarray | None = None  # float32 [B], nats
    used: tuple[str, ...] = ()  # members whose answers were combined
    late: tuple[str, ...] = ()  # members that had not answered in time
    missing: dict[str, str] = dataclasses.field(default_factory=dict)  # {member: reason} of other absent ones
    versions: dict[str, str] = dataclasses.field(default_factory=dict)  # {member: export} of the members used
    cascade: tuple[str, ...] = ()  # order in which members were asked; () = all at once
    stage: np.ndarray | None = None  # int64 [B] of a cascade: place of the last member that answered, from 0
    gate_passed: bool = True  # False if an image needed a further member that was missing

    @property
    def classes(self) -> list[str]:
        """Name of the most probable class of each image."""
        return [self.class_names[c] for c in self.class_id]


class Client:
    """A thread-safe client of a gateway or worker: `with Client("host:port") as client: client.predict(paths)`.

    It connects at the first call. Raises UserError if the token or a file cannot be used.

    Args:
        address: host:port of the gRPC server.
        model: the name of the model: "committee" at a gateway, the member's name at a worker.
        token: the bearer token itself; "" = none.
        tls_ca: PEM file of the CA that signed the server's certificate; "" = no TLS.
        tls_cert: PEM file of a client certificate, for servers that require one.
        tls_key: PEM file of its key, without a password.
    """

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
        self._channel = channels.blocking_channel(address, tls.ClientTLS(ca=tls_ca, cert=tls_cert, key=tls_key))
        self._metadata = (("authorization", f"Bearer {_checked_token(token)}"),) if token else ()
        self._class_names: dict[str, tuple[str, ...]] = {}  # by export, because the server may change to a new export

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def predict(self, images: ImageSource | Sequence[ImageSource], deadline: float = 10.0) -> Prediction:
        """Return the predictions for one or several images.

        Args:
            images: paths or bytes of JPEG or PNG files, or RGB arrays of 0 to 255 at the network's size: [H, W, 3]
                each, or one batch [B, H, W, 3].
            deadline: seconds for the whole call. A gateway answers before it, with the members that have answered by
                then; its own --deadline_ms may be shorter.

        Raises:
            EdgeError: the server cannot be reached, refuses or fails, or the deadline passes.
            UserError: there is no image, a file cannot be read, an array is neither an image nor a batch, arrays have
                different shapes, or arrays and files are mixed.
        """
        end = time.monotonic() + deadline
        request = messages.request_to_message(messages.InferenceRequest(self._model, _inputs(images)))
        response = self._infer(request, end)
        try:
            names = self._names(response.version, end)
        except EdgeError as error:
            if error.code != "NOT_FOUND":
                raise
            response = self._infer(request, end)  # the server has changed to a new export since
            names = self._names(response.version, end)
        parameters = {name: str(value) for name, value in response.parameters.items()}
        return Prediction(
            probabilities=response.outputs["probabilities"],
            class_id=response.outputs["class_id"],
            class_names=names,
            export=parameters.get("export", response.version),
            disagreement=response.outputs.get("disagreement"),
            used=_split(parameters.get("used", "")),
            late=_split(parameters.get("late", "")),
            missing={name: parameters.get(f"reason.{name}", "") for name in _split(parameters.get("missing", ""))},
            versions={name: parameters.get(f"version.{name}", "") for name in _split(parameters.get("used", ""))},
            cascade=_split(parameters.get("cascade", "")),
            stage=response.outputs.get("stage"),
            gate_passed=response.parameters.get("gate_passed", True) is True,
        )

    def ready(self, deadline: float = 1.0) -> bool:
        """Return True if the server says within `deadline` seconds that it is ready; False also after any error."""
        request = inference_pb2.ModelReadyRequest(name=self._model)
        try:
            return self._call(
                "ModelReady", request, inference_pb2.ModelReadyResponse, time.monotonic() + deadline
            ).ready
        except EdgeError:
            return False

    def _infer(self, request: inference_pb2.ModelInferRequest, end: float) -> messages.InferenceResponse:
        message = self._call("ModelInfer", request, inference_pb2.ModelInferResponse, end)
        try:
            response = messages.response_from_message(message)
        except EdgeError as error:
            raise self._unusable(error.sentence) from None
        if absent := [name for name in _OUTPUTS if name not in response.outputs]:
            raise self._unusable(f"it has no output {absent[0]}")
        return response

    def _names(self, export: str, end: float) -> tuple[str, ...]:
        """Return the class names of an export; those of the last export are cached. `end` is as in `_call`."""
        names = self._class_names.get(export)
        if names is None:
            version = "" if export == MIXED else export
            request = inference_pb2.ModelMetadataRequest(name=self._model, version=version)
            metadata = self._call("ModelMetadata", request, inference_pb2.ModelMetadataResponse, end)
            names = tuple(json.loads(metadata.properties.get("class_names", "[]")))
            self._class_names = {export: names}
        return names

    def _call(self, method: str, message: Message, kind: type[M], end: float) -> M:
        """Call a method and parse its response as a `kind`. `end`: a time of time.monotonic. Raises EdgeError."""
        call, content = self._channel.unary_unary(f"{_SERVICE}/{method}"), message.SerializeToString()
        try:
            try:
                response = call(content, timeout=_remaining(end), metadata=self._metadata)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.CANCELLED:
                    raise
                # That server was shutting down: the channel connects to the next one.
                response = call(content, timeout=_remaining(end), metadata=self._metadata)
            return kind.FromString(response)
        except grpc.RpcError as error:
            raise self._error(error) from None
        except DecodeError:
            raise self._unusable(f"it cannot be parsed as {kind.DESCRIPTOR.name}") from None

    def _unusable(self, reason: str) -> EdgeError:
        return EdgeError(
            "INTERNAL", f"the response of {self._address} is unusable, {reason}: is it a worker or a gateway?"
        )

    def _error(self, error: grpc.RpcError) -> EdgeError:
        code, sentence = error.code(), error.details() or ""
        if code is grpc.StatusCode.UNAVAILABLE and "members answered" not in sentence:
            sentence = (
                f"{self._address} cannot be reached: does a worker or gateway run there, and do both sides use TLS, "
                "or neither?"
            )
        elif code is grpc.StatusCode.DEADLINE_EXCEEDED and "members answered" not in sentence:
            sentence = f"{self._address} did not answer within the deadline"
        return EdgeError(code.name, sentence)


def _inputs(images: ImageSource | Sequence[ImageSource]) -> dict[str, np.ndarray]:
    if isinstance(images, np.ndarray):
        return {"image": _pixels(images[None] if images.ndim == 3 else images)}
    sources = [images] if isinstance(images, str | Path | bytes) else list(images)
    if not sources:
        raise UserError("expected at least one image: give paths, bytes or arrays")
    if all(isinstance(image, np.ndarray) for image in sources):
        if len(shapes := {image.shape for image in sources}) > 1:
            raise UserError(
                f"expected arrays of one shape, got {', '.join(map(str, sorted(map(list, shapes))))}: "
                "call predict once for each shape"
            )
        return {"image": _pixels(np.stack(sources))}
    if any(isinstance(image, np.ndarray) for image in sources):
        raise UserError("arrays and encoded images cannot be mixed: call predict once for each kind")
    return {"image_bytes": tensors.strings([_content(image) for image in sources])}


def _pixels(image: np.ndarray) -> np.ndarray:
    if image.ndim != 4 or image.shape[-1] != 3:
        raise UserError(f"expected an image [H, W, 3] or a batch [B, H, W, 3], got shape {list(image.shape)}")
    return image if image.dtype == np.uint8 else image.astype(np.float32)


def _content(source: str | Path | bytes) -> bytes:
    if isinstance(source, bytes):
        return source
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise UserError(f"{source} cannot be read: {error.strerror}") from None


def _remaining(end: float) -> float:
    return max(end - time.monotonic(), 0.0)


def _checked_token(token: str) -> str:
    """Return the token without surrounding whitespace. Raises UserError if a header cannot carry it."""
    token = token.strip()
    if not token.isascii() or not token.isprintable() or " " in token:
        raise UserError("the token must be one line of visible ASCII characters; give the token without any other text")
    return token


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()
