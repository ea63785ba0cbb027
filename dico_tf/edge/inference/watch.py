"""Watches for a new export and swaps it in while requests continue; a broken export is refused."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from dico_tf.edge.inference.engine import InferenceEngine
from dico_tf.edge.inference.model import ServedModel
from dico_tf.errors import UserError
from dico_tf.files import manifest

LOG = logging.getLogger(__name__)
RETRY_CHECKS = 10  # checks after which a refused export is tried again: its files may arrive after its manifest


class ExportWatcher:
    """A thread that looks for a new export every `seconds`, and whenever `check_now` is called."""

    def __init__(
        self,
        engine: InferenceEngine,
        path: str | Path,
        load: Callable[[], ServedModel],
        on_result: Callable[[str], None],
        seconds: float = 1.0,
        stamp: tuple[int, ...] | None = None,
    ):
        """Start the thread.

        Args:
            engine: runs the current model.
            path: the manifest, or its folder.
            load: loads and tries the export that is there; raises UserError if it cannot be used.
            on_result: called after each load with "swapped", "unchanged" or "refused". If an export is refused again
                for the same reason, it is not called again.
            seconds: time between checks.
            stamp: manifest.stamp(path) from before the engine's model was loaded. If the first check finds the same
                stamp, it loads nothing; None = the first check loads the export.
        """
        self._path, self._engine, self._load, self._on_result, self._seconds = path, engine, load, on_result, seconds
        self._stamp, self._refusal, self._checks = stamp, "", 0
        self._wake, self._ended = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def check_now(self) -> None:
        self._stamp = None
        self._wake.set()

    def stop(self) -> None:
        self._ended = True
        self._wake.set()

    def _run(self) -> None:
        while not self._ended:
            self._wake.wait(self._seconds)
            self._wake.clear()
            if not self._ended:
                self._check()

    def _check(self) -> None:
        stamp = manifest.stamp(self._path)
        self._checks += 1
        if stamp == self._stamp and not (self._refusal and self._checks % RETRY_CHECKS == 0):
            return
        self._stamp = stamp
        try:
            self._swap(self._load())
        except UserError as error:
            self._refuse(str(error))
        except Exception as error:  # whatever it is, the old export stays in use
            self._refuse(repr(error))

    def _swap(self, model: ServedModel) -> None:
        self._refusal, old = "", self._engine.model
        if (model.version, model.sha256, model.format) == (old.version, old.sha256, old.format):
            self._on_result("unchanged")
            return
        self._engine.swap(model)
        self._on_result("swapped")
        LOG.info("switched from export %s to export %s", old.version, model.version)

    def _refuse(self, reason: str) -> None:
        if reason != self._refusal:  # count and log a lasting problem once
            self._on_result("refused")
            LOG.error("the new export is refused and the old one stays in use: %s", reason)
        self._refusal = reason
