"""One member of an export, answering: `python serve.py worker`."""

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
from dico_tf.edge.errors import EdgeError, invalid, shown
from dico_tf.edge.inference.engine import InferenceEngine
from dico_tf.edge.inference.model import CLASS_ID, ServedModel, load
from dico_tf.edge.inference.watch import ExportWatcher
from dico_tf.edge.messages import InferenceRequest, InferenceResponse
from dico_tf.edge.server.limits import ConcurrencyLimit, Limits
from dico_tf.edge.server.listener import Listener
from dico_tf.edge.server.metrics import Metrics
from dico_tf.edge.service import ModelMetadata, unknown
from dico_tf.files import manifest

CLASS_NAME = "class_name"
_DATATYPES = {CLASS_ID: "INT64", CLASS_NAME: "BYTES"}  # of outputs; the others are FP32


class Worker:
    """The service of one member, whatever export it has at the moment."""

    def __init__(self, engine: InferenceEngine, limits: Limits):
        self._engine, self._limits, self._gate = engine, limits, ConcurrencyLimit(limits.concurrency)
        self.name = engine.model.member

    @property
    def inside(self) -> int:
        return self._gate.inside

    def _model(self, name: str, version: str) -> ServedModel:
        model = self._engine.model
        if name != self.name:
            raise unknown("the model", name, self.name)
        if version not in ("", model.version):
            raise unknown("the version", version, f"{model.version}, the id of the export")
        return model

    def metadata(self, model: str, version: str) -> ModelMetadata:
        found = self._model(model, version)
        properties = {
            "export": found.version, "format": found.format, "sha256": found.sha256, "average": found.average,
            "input_size": str(found.size), "class_names": json.dumps(found.class_names),
        }  # fmt: skip
        outputs = {**found.shapes, CLASS_NAME: []}
        return ModelMetadata(
            name=self.name,
            version=found.version,
            inputs=inputs.accepted(found),
            outputs=tuple((name, _DATATYPES.get(name, "FP32"), (-1, *shape)) for name, shape in outputs.items()),
            properties=properties,
        )

    async def infer(self, asked: InferenceRequest, deadline: float) -> InferenceResponse:
        with self._gate.entered():
            model = self._model(asked.model, asked.version)
            names = _outputs(model, asked.outputs)
            images = inputs.images(asked.inputs, model, self._limits, deadline)
            future = asyncio.wrap_future(self._engine.submit(model, images, deadline))
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    found = await future
            except TimeoutError:
                raise EdgeError("DEADLINE_EXCEEDED", "the deadline passed before the answer was there") from None
        outputs = {name: _class_names(model, found) if name == CLASS_NAME else found[name] for name in names}
        return InferenceResponse(
            self.name, outputs, model.version, asked.id, {"export": model.version, "format": model.format}
        )


def _outputs(model: ServedModel, asked: tuple[str, ...]) -> tuple[str, ...]:
    known = (*model.shapes, CLASS_NAME)
    for name in asked:
        if name not in known:
            raise invalid(f"there is no output {shown(name)}; known: {', '.join(known)}")
    return tuple(dict.fromkeys(asked)) or tuple(model.shapes)


def _class_names(model: ServedModel, found: dict[str, np.ndarray]) -> np.ndarray:
    return tensors.strings([model.class_names[number] for number in found[CLASS_ID]])


def run(asked: options.WorkerOptions, door: options.ServerOptions, say: Callable[[str], None]) -> None:
    """Until SIGTERM or SIGINT; `say` is told one line of JSON when it is ready."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it can be heeded
    open_model = functools.partial(
        load, os.path.abspath(asked.manifest), asked.member, asked.format, asked.threads, asked.threads_each
    )
    asyncio.run(_serve(asked, Listener(door), open_model, say))


async def _serve(
    asked: options.WorkerOptions, door: Listener, open_model: Callable[[], ServedModel], say: Callable[[str], None]
) -> None:
    noted = door.metrics.counter("dico_exports_total", "New exports, by what became of them.", "result")
    seen = manifest.stamp(asked.manifest)
    engine = InferenceEngine(open_model(), asked.threads, asked.queue, _timed(door.metrics))
    worker = Worker(engine, door.limits)
    _gauges(door.metrics, engine, worker)
    addresses = await door.open(worker)
    watch = ExportWatcher(engine, asked.manifest, open_model, noted.add, asked.watch_seconds, seen)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, watch.look_now)
    model = engine.model
    say(json.dumps({"ready": True, "member": model.member, "export": model.version, "format": model.format,
                    **addresses}))  # fmt: skip
    await door.until_told_to_stop()
    await door.close()
    watch.stop()
    engine.stop(5.0)


def _timed(metrics: Metrics) -> Callable[[float, int], None]:
    images = metrics.counter("dico_images_total", "Images answered.")
    seconds = metrics.histogram("dico_inference_seconds", "Of a request in the network, without waiting.")

    def timed(taken: float, count: int) -> None:
        images.add(by=count)
        seconds.observe(taken)

    return timed


def _gauges(metrics: Metrics, engine: InferenceEngine, worker: Worker) -> None:
    metrics.gauge("dico_waiting_requests", "Requests that wait for a thread.", lambda: engine.waiting)
    metrics.gauge("dico_requests_inside", "Requests that came and are not answered yet.", lambda: worker.inside)
    metrics.info(
        "dico_export_info",
        "What answers here.",
        lambda: {"member": worker.name, "export": engine.model.version, "format": engine.model.format},
    )
