"""`serve.py worker`: serves one member of an export."""

import asyncio
import functools
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable

import numpy as np

from dico_tf.edge import inputs, options, tensors
from dico_tf.edge.errors import EdgeError, invalid, not_found, quote
from dico_tf.edge.inference.engine import InferenceEngine
from dico_tf.edge.inference.model import CLASS_ID, ServedModel, load
from dico_tf.edge.inference.watch import ExportWatcher
from dico_tf.edge.messages import InferenceRequest, InferenceResponse
from dico_tf.edge.server.limits import ConcurrencyLimit, Limits
from dico_tf.edge.server.listener import Listener
from dico_tf.edge.server.metrics import Metrics
from dico_tf.edge.service import ModelMetadata
from dico_tf.files import manifest

CLASS_NAME = "class_name"
_DATATYPES = {CLASS_ID: "INT64", CLASS_NAME: "BYTES"}  # other outputs are FP32


class Worker:
    """The ModelService of one member. It answers with the export that the engine runs at the moment."""

    def __init__(self, engine: InferenceEngine, limits: Limits):
        self._engine, self._limits = engine, limits
        self._concurrency = ConcurrencyLimit(limits.concurrency)
        self.name = engine.model.member

    @property
    def active(self) -> int:
        """Requests without a response yet."""
        return self._concurrency.active

    def _model(self, name: str, version: str) -> ServedModel:
        model = self._engine.model
        if name != self.name:
            raise not_found("model", name, self.name)
        if version not in ("", model.version):
            raise not_found("version", version, f"{model.version}, the id of the export")
        return model

    def metadata(self, model: str, version: str) -> ModelMetadata:
        served = self._model(model, version)
        properties = {
            "export": served.version,
            "format": served.format,
            "sha256": served.sha256,
            "average": served.average,
            "input_size": str(served.size),
            "class_names": json.dumps(served.class_names),
        }
        outputs = {**served.shapes, CLASS_NAME: []}
        return ModelMetadata(
            name=self.name,
            version=served.version,
            inputs=inputs.input_tensors(served),
            outputs=tuple((name, _DATATYPES.get(name, "FP32"), (-1, *shape)) for name, shape in outputs.items()),
            properties=properties,
        )

    async def infer(self, request: InferenceRequest, deadline: float) -> InferenceResponse:
        with self._concurrency.entered():
            model = self._model(request.model, request.version)
            names = _output_names(model, request.outputs)
            decode = inputs.float_images(request.inputs, model, self._limits, deadline)
            future = asyncio.wrap_future(self._engine.submit(model, decode, deadline))
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    results = await future
            except TimeoutError:
                raise EdgeError("DEADLINE_EXCEEDED", "the deadline passed before the answer was computed") from None
        outputs = {name: _class_names(model, results) if name == CLASS_NAME else results[name] for name in names}
        parameters = {"export": model.version, "format": model.format}
        return InferenceResponse(self.name, outputs, model.version, request.id, parameters)


def _output_names(model: ServedModel, requested: tuple[str, ...]) -> tuple[str, ...]:
    available = (*model.shapes, CLASS_NAME)
    for name in requested:
        if name not in available:
            raise invalid(f"unknown output {quote(name)}; known: {', '.join(available)}")
    return tuple(dict.fromkeys(requested)) or tuple(model.shapes)


def _class_names(model: ServedModel, results: dict[str, np.ndarray]) -> np.ndarray:
    return tensors.strings([model.class_names[number] for number in results[CLASS_ID]])


def run(settings: options.WorkerOptions, server: options.ServerOptions, print_line: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; give `print_line` one line of JSON when ready.

    Raises UserError if the export cannot be served, or the server's ports, certificates or token cannot be used.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the default would end the process before the watcher exists
    load_model = functools.partial(
        load,
        os.path.abspath(settings.manifest),
        settings.member,
        settings.format,
        settings.threads,
        settings.threads_each,
    )
    asyncio.run(_serve(settings, Listener(server), load_model, print_line))


async def _serve(
    settings: options.WorkerOptions,
    listener: Listener,
    load_model: Callable[[], ServedModel],
    print_line: Callable[[str], None],
) -> None:
    metrics = listener.metrics
    exports = metrics.counter("dico_exports_total", "New exports: swapped in, unchanged or refused.", "result")
    stamp = manifest.stamp(settings.manifest)
    engine = InferenceEngine(load_model(), settings.threads, settings.queue, _inference_metrics(metrics))
    worker = Worker(engine, listener.limits)
    _add_gauges(metrics, engine, worker)
    addresses = await listener.start(worker)
    watcher = ExportWatcher(engine, settings.manifest, load_model, exports.add, settings.watch_seconds, stamp)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, watcher.check_now)
    model = engine.model
    ready = {"ready": True, "member": model.member, "export": model.version, "format": model.format}
    print_line(json.dumps({**ready, **addresses}))
    await listener.wait_for_stop()
    await listener.stop()
    watcher.stop()
    engine.stop(5.0)


def _inference_metrics(metrics: Metrics) -> Callable[[float, int], None]:
    """Return the function that counts one inference: its seconds and its images."""
    images = metrics.counter("dico_images_total", "Images answered.")
    histogram = metrics.histogram("dico_inference_seconds", "Time to compute a request, without decoding or waiting.")

    def count(seconds: float, batch: int) -> None:
        images.add(by=batch)
        histogram.observe(seconds)

    return count


def _add_gauges(metrics: Metrics, engine: InferenceEngine, worker: Worker) -> None:
    metrics.gauge("dico_waiting_requests", "Requests that wait for a thread.", lambda: engine.waiting)
    metrics.gauge("dico_requests_inside", "Requests that have no response yet.", lambda: worker.active)
    metrics.info(
        "dico_export_info",
        "The member, export and format that this worker serves.",
        lambda: {"member": worker.name, "export": engine.model.version, "format": engine.model.format},
    )
