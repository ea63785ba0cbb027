"""Worker threads that run one model, behind a bounded queue; the model can be replaced at any time."""

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
Decode = Callable[[], np.ndarray]  # runs in the worker thread, because decoding can take as long as the network


@dataclasses.dataclass(frozen=True)
class _Job:
    model: ServedModel  # at the time of the request; the engine may have another one since
    decode: Decode
    deadline: float
    result: concurrent.futures.Future


class InferenceEngine:
    """A pool of threads that run one model; `swap` replaces it. Deadlines are times of time.monotonic.

    Args:
        model: has an interpreter for each thread.
        threads: requests that are computed at the same time.
        most_waiting: requests that may wait for a thread.
        on_done: called with the seconds and the number of images of each successful inference.
    """

    def __init__(
        self,
        model: ServedModel,
        threads: int,
        most_waiting: int,
        on_done: Callable[[float, int], None] = lambda *_: None,
    ):
        self.model = model
        self._on_done = on_done
        self._queue: queue.Queue[_Job | None] = queue.Queue(most_waiting)
        self._threads = [
            threading.Thread(target=self._work, args=(number,), name=f"inference {number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Requests that wait for a thread."""
        return self._queue.qsize()

    def submit(self, model: ServedModel, decode: Decode, deadline: float) -> concurrent.futures.Future:
        """Return a future of {output: array}. Raises EdgeError RESOURCE_EXHAUSTED if the queue is full.

        The future raises EdgeError if the deadline passes, an image cannot be decoded or an output is not finite, and
        passes on any other error.

        Args:
            model: computes the outputs, even if `swap` replaces it meanwhile.
            decode: returns the images, float32 [N, H, W, 3]; called in a thread of the pool.
            deadline: of the whole request, as a time of time.monotonic().
        """
        job = _Job(model, decode, deadline, concurrent.futures.Future())
        try:
            self._queue.put_nowait(job)
        except queue.Full:
            raise EdgeError(
                "RESOURCE_EXHAUSTED", f"{self._queue.maxsize} requests wait already, the most allowed: try again later"
            ) from None
        return job.result

    def swap(self, model: ServedModel) -> None:
        """Replace the attribute `model`. Requests in the queue still run on the model that `submit` got with them."""
        self.model = model

    def stop(self, seconds: float) -> None:
        """Finish the queue and end the threads; give up after `seconds`."""
        end = time.monotonic() + seconds
        for _ in self._threads:
            try:
                self._queue.put(None, timeout=max(0.0, end - time.monotonic()))
            except queue.Full:
                return
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _work(self, thread: int) -> None:
        while (job := self._queue.get()) is not None:
            if job.result.set_running_or_notify_cancel():  # False: the client has stopped waiting
                self._run(thread, job)
            del job  # an idle thread must not keep an old model in memory

    def _run(self, thread: int, job: _Job) -> None:
        try:
            if time.monotonic() > job.deadline:
                raise EdgeError("DEADLINE_EXCEEDED", "the deadline passed while the request waited")
            images = job.decode()
            start = time.monotonic()
            outputs = job.model.run(thread, images, job.deadline)
            self._on_done(time.monotonic() - start, len(images))
            job.result.set_result(outputs)
        except EdgeError as error:
            job.result.set_exception(error)
        except Exception as error:
            LOG.exception("an inference failed with an unexpected error")
            job.result.set_exception(error)
