"""The HTTP door: the Open Inference Protocol's JSON, pictures as they are, health and metrics, before any service."""

import time

from dico_tf import __version__
from dico_tf.edge import messages, tensors
from dico_tf.edge.errors import EdgeError, invalid, shown
from dico_tf.edge.server.http_server import JSON, Request, Response, Routes
from dico_tf.edge.server.metrics import TYPE, Metrics
from dico_tf.edge.service import SERVER, Numbers, Readiness, Service

PUBLIC = frozenset({"/healthz", "/v2/health/live", "/v2/health/ready"})  # need no token
TIMEOUT = "timeout-ms"  # the header in which a client says how long it waits
PICTURES = ("image/jpeg", "image/png")
SAID_BY_CURL = "application/x-www-form-urlencoded"  # of any --data that nothing else is said about
OF_A_PICTURE = ("class_name", "class_id", "probabilities")  # outputs where none can be asked for
_LONGEST = 10 * 60 * 1000  # ms


class Rest:
    def __init__(
        self, service: Service, readiness: Readiness, metrics: Metrics, numbers: Numbers, default_seconds: float
    ):
        self._service, self._readiness, self._metrics, self._numbers = service, readiness, metrics, numbers
        self._default_seconds = default_seconds

    def routes(self) -> Routes:
        model, version = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
        return Routes({
            ("GET", "/healthz"): self._ready,
            ("GET", "/metrics"): self._numbers_of_all,
            ("GET", "/v2"): self._server,
            ("GET", "/v2/health/live"): self._live,
            ("GET", "/v2/health/ready"): self._ready,
            **{("GET", at): self._model for at in (model, version)},
            **{("GET", f"{at}/ready"): self._model_ready for at in (model, version)},
            **{("POST", f"{at}/infer"): self._infer for at in (model, version)},
        })  # fmt: skip

    async def _live(self, _: Request) -> Response:
        return _json({"live": True})

    async def _ready(self, _: Request) -> Response:
        return _json({"ready": self._readiness.ready}, 200 if self._readiness.ready else 503)

    async def _numbers_of_all(self, _: Request) -> Response:
        return Response(body=self._metrics.text().encode(), type=TYPE)

    async def _server(self, _: Request) -> Response:
        return _json({"name": SERVER, "version": __version__, "extensions": []})

    async def _model_ready(self, _: Request, model: str, version: str = "") -> Response:
        self._service.metadata(model, version)
        ready = self._readiness.ready
        return _json({"name": model, "ready": ready}, 200 if ready else 503)

    async def _model(self, _: Request, model: str, version: str = "") -> Response:
        found = self._service.metadata(model, version)
        inputs, outputs = (
            [{"name": name, "datatype": datatype, "shape": list(shape)} for name, datatype, shape in side]
            for side in (found.inputs, found.outputs)
        )
        said = {"name": found.name, "versions": [found.version], "platform": found.platform}
        return _json({**said, "inputs": inputs, "outputs": outputs, "properties": dict(found.properties)})

    async def _infer(self, request: Request, model: str, version: str = "") -> Response:
        start, code = time.monotonic(), "INTERNAL"
        try:
            asked = _asked(request, model, version)
            answer = await self._service.infer(asked, start + _seconds(request, self._default_seconds))
            code = "OK"
            return Response(body=messages.answer_to_json(answer))
        except EdgeError as fault:
            code = fault.code
            raise
        finally:
            self._numbers.note("http", code, start)


def _asked(request: Request, model: str, version: str) -> messages.Asked:
    kind = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
    if kind in PICTURES:
        return messages.Asked(model, {"image_bytes": tensors.strings([request.body])}, OF_A_PICTURE, version)
    if kind not in (JSON, SAID_BY_CURL):
        raise EdgeError(
            "UNSUPPORTED_MEDIA_TYPE", f"Content-Type is {shown(kind)}: give {JSON} or {' or '.join(PICTURES)}"
        )
    if "inference-header-content-length" in request.headers:
        raise invalid("binary tensors behind JSON are not read here: give data, or ask over gRPC")
    return messages.asked_from_json(request.body, model, version)


def _seconds(request: Request, default: float) -> float:
    text = request.headers.get(TIMEOUT)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and 0 < int(text[:9]) <= _LONGEST and len(text) < 9):
        raise invalid(f"{TIMEOUT} is {shown(text)}: give whole milliseconds, from 1 to {_LONGEST}")
    return int(text) / 1000


def _json(value: dict, status: int = 200) -> Response:
    return Response(status, messages.as_json(value))
