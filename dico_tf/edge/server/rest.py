"""The HTTP door: the Open Inference Protocol's JSON, pictures as they are, health and metrics, before any service."""

import time

from dico_tf import __version__
from dico_tf.edge import messages, tensors
from dico_tf.edge.errors import EdgeError, invalid, shown
from dico_tf.edge.server.http_server import JSON, HttpRequest, HttpResponse, Routes
from dico_tf.edge.server.metrics import TYPE, Metrics
from dico_tf.edge.service import SERVER, ModelService, Readiness, RequestMetrics

PUBLIC = frozenset({"/healthz", "/v2/health/live", "/v2/health/ready"})  # need no token
TIMEOUT = "timeout-ms"  # the header in which a client says how long it waits
PICTURES = ("image/jpeg", "image/png")
SAID_BY_CURL = "application/x-www-form-urlencoded"  # of any --data that nothing else is said about
OF_A_PICTURE = ("class_name", "class_id", "probabilities")  # outputs where none can be asked for
_LONGEST = 10 * 60 * 1000  # ms


class RestApi:
    def __init__(
        self,
        service: ModelService,
        readiness: Readiness,
        metrics: Metrics,
        numbers: RequestMetrics,
        default_seconds: float,
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

    async def _live(self, _: HttpRequest) -> HttpResponse:
        return _json({"live": True})

    async def _ready(self, _: HttpRequest) -> HttpResponse:
        return _json({"ready": self._readiness.ready}, 200 if self._readiness.ready else 503)

    async def _numbers_of_all(self, _: HttpRequest) -> HttpResponse:
        return HttpResponse(body=self._metrics.text().encode(), type=TYPE)

    async def _server(self, _: HttpRequest) -> HttpResponse:
        return _json({"name": SERVER, "version": __version__, "extensions": []})

    async def _model_ready(self, _: HttpRequest, model: str, version: str = "") -> HttpResponse:
        self._service.metadata(model, version)
        ready = self._readiness.ready
        return _json({"name": model, "ready": ready}, 200 if ready else 503)

    async def _model(self, _: HttpRequest, model: str, version: str = "") -> HttpResponse:
        found = self._service.metadata(model, version)
        inputs, outputs = (
            [{"name": name, "datatype": datatype, "shape": list(shape)} for name, datatype, shape in side]
            for side in (found.inputs, found.outputs)
        )
        said = {"name": found.name, "versions": [found.version], "platform": found.platform}
        return _json({**said, "inputs": inputs, "outputs": outputs, "properties": dict(found.properties)})

    async def _infer(self, request: HttpRequest, model: str, version: str = "") -> HttpResponse:
        start, code = time.monotonic(), "INTERNAL"
        try:
            asked = _asked(request, model, version)
            answer = await self._service.infer(asked, start + _seconds(request, self._default_seconds))
            code = "OK"
            return HttpResponse(body=messages.response_to_json(answer))
        except EdgeError as fault:
            code = fault.code
            raise
        finally:
            self._numbers.note("http", code, start)


def _asked(request: HttpRequest, model: str, version: str) -> messages.InferenceRequest:
    kind = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
    if kind in PICTURES:
        return messages.InferenceRequest(model, {"image_bytes": tensors.strings([request.body])}, OF_A_PICTURE, version)
    if kind not in (JSON, SAID_BY_CURL):
        raise EdgeError(
            "UNSUPPORTED_MEDIA_TYPE", f"Content-Type is {shown(kind)}: give {JSON} or {' or '.join(PICTURES)}"
        )
    if "inference-header-content-length" in request.headers:
        raise invalid("binary tensors behind JSON are not read here: give data, or ask over gRPC")
    return messages.request_from_json(request.body, model, version)


def _seconds(request: HttpRequest, default: float) -> float:
    text = request.headers.get(TIMEOUT)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and 0 < int(text[:9]) <= _LONGEST and len(text) < 9):
        raise invalid(f"{TIMEOUT} is {shown(text)}: give whole milliseconds, from 1 to {_LONGEST}")
    return int(text) / 1000


def _json(value: dict, status: int = 200) -> HttpResponse:
    return HttpResponse(status, messages.as_json(value))
