"""HTTP routes of a model: Open Inference Protocol in JSON, JPEG and PNG bodies, health, and metrics."""

import time

from dico_tf import __version__
from dico_tf.edge import messages, tensors
from dico_tf.edge.errors import EdgeError, invalid, quote
from dico_tf.edge.server.http_server import JSON, HttpRequest, HttpResponse, Routes
from dico_tf.edge.server.metrics import TYPE, Metrics
from dico_tf.edge.service import SERVER, ModelService, Readiness, RequestMetrics

PUBLIC = frozenset({"/healthz", "/v2/health/live", "/v2/health/ready"})  # need no token
TIMEOUT = "timeout-ms"  # header: how long the client waits
IMAGE_TYPES = ("image/jpeg", "image/png")
CURL_TYPE = "application/x-www-form-urlencoded"  # what curl --data sends by default; its body is JSON
IMAGE_OUTPUTS = ("class_name", "class_id", "probabilities")  # for a request whose body is an image
_LONGEST_TIMEOUT = 10 * 60 * 1000  # ms


class RestApi:
    """Handlers of all HTTP routes for one model."""

    def __init__(
        self,
        service: ModelService,
        readiness: Readiness,
        metrics: Metrics,
        request_metrics: RequestMetrics,
        default_seconds: float,
    ):
        self._service, self._readiness, self._metrics, self._request_metrics = (
            service,
            readiness,
            metrics,
            request_metrics,
        )
        self._default_seconds = default_seconds

    def routes(self) -> Routes:
        model, version = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
        return Routes(
            {
                ("GET", "/healthz"): self._ready,
                ("GET", "/metrics"): self._metrics_text,
                ("GET", "/v2"): self._server,
                ("GET", "/v2/health/live"): self._live,
                ("GET", "/v2/health/ready"): self._ready,
                **{("GET", at): self._model for at in (model, version)},
                **{("GET", f"{at}/ready"): self._model_ready for at in (model, version)},
                **{("POST", f"{at}/infer"): self._infer for at in (model, version)},
            }
        )

    async def _live(self, _: HttpRequest) -> HttpResponse:
        return _json({"live": True})

    async def _ready(self, _: HttpRequest) -> HttpResponse:
        return _json({"ready": self._readiness.ready}, 200 if self._readiness.ready else 503)

    async def _metrics_text(self, _: HttpRequest) -> HttpResponse:
        return HttpResponse(body=self._metrics.text().encode(), type=TYPE)

    async def _server(self, _: HttpRequest) -> HttpResponse:
        return _json({"name": SERVER, "version": __version__, "extensions": []})

    async def _model_ready(self, _: HttpRequest, model: str, version: str = "") -> HttpResponse:
        self._service.metadata(model, version)
        ready = self._readiness.ready
        return _json({"name": model, "ready": ready}, 200 if ready else 503)

    async def _model(self, _: HttpRequest, model: str, version: str = "") -> HttpResponse:
        metadata = self._service.metadata(model, version)
        inputs, outputs = (
            [{"name": name, "datatype": datatype, "shape": list(shape)} for name, datatype, shape in side]
            for side in (metadata.inputs, metadata.outputs)
        )
        return _json(
            {
                "name": metadata.name,
                "versions": [metadata.version],
                "platform": metadata.platform,
                "inputs": inputs,
                "outputs": outputs,
                "properties": dict(metadata.properties),
            }
        )

    async def _infer(self, request: HttpRequest, model: str, version: str = "") -> HttpResponse:
        start, code = time.monotonic(), "INTERNAL"
        try:
            parsed = _inference_request(request, model, version)
            answer = await self._service.infer(parsed, start + _timeout(request, self._default_seconds))
            code = "OK"
            return HttpResponse(body=messages.response_to_json(answer))
        except EdgeError as error:
            code = error.code
            raise
        finally:
            self._request_metrics.add("http", code, start)


def _inference_request(request: HttpRequest, model: str, version: str) -> messages.InferenceRequest:
    kind = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
    if kind in IMAGE_TYPES:
        return messages.InferenceRequest(
            model, {"image_bytes": tensors.strings([request.body])}, IMAGE_OUTPUTS, version
        )
    if kind not in (JSON, CURL_TYPE):
        raise EdgeError(
            "UNSUPPORTED_MEDIA_TYPE", f"Content-Type must be {JSON}, {' or '.join(IMAGE_TYPES)}, got {quote(kind)}"
        )
    if "inference-header-content-length" in request.headers:
        raise invalid("binary tensors after the JSON are not supported: send the values as data, or use gRPC")
    return messages.request_from_json(request.body, model, version)


def _timeout(request: HttpRequest, default: float) -> float:
    text = request.headers.get(TIMEOUT)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and 0 < int(text[:9]) <= _LONGEST_TIMEOUT and len(text) < 9):
        raise invalid(f"{TIMEOUT} must be whole milliseconds from 1 to {_LONGEST_TIMEOUT}, got {quote(text)}")
    return int(text) / 1000


def _json(value: dict, status: int = 200) -> HttpResponse:
    return HttpResponse(status, messages.as_json(value))
