"""Threads that answer for one model: a bounded queue before them, deadlines within, and another model at any time."""

import concurrent.futures
import dataclasses
import logging
import queue
import threading
import time
from collections.abc import Callable

import numpy as np

from dico_tf.edge.errors import EdgeError
from dico_tf.edge.inference.model import ServedModel

LOG = logging.getLogger(__name__)
Images = Callable[[], np.ndarray]  # made where they are used: decoding takes as long as some networks do


@dataclasses.dataclass(frozen=True)
class _Job:
    model: ServedModel  # of when it was asked: another may have taken its place since
    images: Images
    deadline: float
    outcome: concurrent.futures.Future


class InferenceEngine:
    """`deadline` is absolute, of time.monotonic."""

    def __init__(
        self, model: ServedModel, lanes: int, waiting: int, timed: Callable[[float, int], None] = lambda *_: None
    ):
        self.model = model
        self._timed = timed  # seconds and images of each answer
        self._queue: queue.Queue[_Job | None] = queue.Queue(waiting)
        self._threads = [
            threading.Thread(target=self._work, args=(lane,), name=f"lane {lane}", daemon=True) for lane in range(lanes)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        return self._queue.qsize()

    def submit(self, model: ServedModel, images: Images, deadline: float) -> concurrent.futures.Future:
        """A future of outputs; refused at once where too many wait already."""
        job = _Job(model, images, deadline, concurrent.futures.Future())
        try:
            self._queue.put_nowait(job)
        except queue.Full:
            raise EdgeError("RESOURCE_EXHAUSTED", f"{self._queue.maxsize} requests wait already: ask later") from None
        return job.outcome

    def swap(self, model: ServedModel) -> None:
        """What was asked before is answered by the model it was asked of."""
        self.model = model

    def stop(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        for _ in self._threads:
            try:
                self._queue.put(None, timeout=max(0.0, until - time.monotonic()))
            except queue.Full:
                return
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _work(self, lane: int) -> None:
        while (job := self._queue.get()) is not None:
            if job.outcome.set_running_or_notify_cancel():  # else nobody waits for it any more
                self._answer(lane, job)
            del job  # or an idle lane would keep an old model alive

    def _answer(self, lane: int, job: _Job) -> None:
        try:
            if time.monotonic() > job.deadline:
                raise EdgeError("DEADLINE_EXCEEDED", "the deadline passed while the request waited")
            images = job.images()
            start = time.monotonic()
            outputs = job.model.answer(lane, images, job.deadline)
            self._timed(time.monotonic() - start, len(images))
            job.outcome.set_result(outputs)
        except EdgeError as fault:
            job.outcome.set_exception(fault)
        except Exception as error:
            LOG.exception("an inference failed")
            job.outcome.set_exception(error)
