"""A new export takes the place of the old one while requests are answered; one that is broken does not."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from dico_tf.edge.inference.engine import InferenceEngine
from dico_tf.edge.inference.model import ServedModel
from dico_tf.errors import UserError
from dico_tf.files import manifest

LOG = logging.getLogger(__name__)
AGAIN = 10  # looks after which a refused export is tried again: its files may have come after its manifest


class ExportWatcher:
    """Looks at the manifest every so many seconds, and whenever `look_now` is called."""

    def __init__(
        self,
        engine: InferenceEngine,
        path: str | Path,
        load: Callable[[], ServedModel],
        noted: Callable[[str], None],
        seconds: float = 1.0,
        seen: tuple[int, ...] | None = None,
    ):
        """`seen`: the manifest's stamp before the engine's model was loaded."""
        self._path, self._engine, self._load, self._noted, self._seconds = path, engine, load, noted, seconds
        self._seen, self._refused, self._looks = seen, "", 0
        self._asked, self._ended = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def look_now(self) -> None:
        self._seen = None
        self._asked.set()

    def stop(self) -> None:
        self._ended = True
        self._asked.set()

    def _run(self) -> None:
        while not self._ended:
            self._asked.wait(self._seconds)
            self._asked.clear()
            if not self._ended:
                self._look()

    def _look(self) -> None:
        stamp = manifest.stamp(self._path)
        self._looks += 1
        if stamp == self._seen and not (self._refused and self._looks % AGAIN == 0):
            return
        self._seen = stamp
        try:
            self._take(self._load())
        except UserError as error:
            self._refuse(str(error))
        except Exception as error:  # whatever it is, the old one goes on
            self._refuse(repr(error))

    def _take(self, model: ServedModel) -> None:
        self._refused, old = "", self._engine.model
        if (model.version, model.sha256, model.format) == (old.version, old.sha256, old.format):
            self._noted("unchanged")
            return
        self._engine.swap(model)
        self._noted("swapped")
        LOG.info("export %s now answers in place of %s", model.version, old.version)

    def _refuse(self, why: str) -> None:
        if why != self._refused:
            self._noted("refused")
            LOG.error("the new export is refused, the old one goes on: %s", why)
        self._refused = why
