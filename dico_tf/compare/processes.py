"""Processes that train the runs of a comparison, several at once."""

import dataclasses
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from dico_tf import child_process
from dico_tf.compare.finished import LOG
from dico_tf.compare.plan import ArmRun
from dico_tf.data.image_decoding import cores
from dico_tf.files.locks import lock

TRAIN = (*child_process.PYTHON, "dico_tf.cli", "train")
THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
_LOCK_SECONDS = 60.0  # a training that a killed comparison has left saves its state and ends in this time


@dataclasses.dataclass(frozen=True)
class EndedTraining:
    """A training that ended by itself."""

    run: ArmRun
    status: int  # negative: the signal that ended it
    seconds: float


class TrainingProcesses:
    """Processes of `dico train`, each with its output in train.log in the run's folder.

    Args:
        out: folder of the comparison.
        jobs: most processes at once. They share the cores, unless the environment sets TensorFlow's threads.
    """

    def __init__(self, out: Path, jobs: int):
        self.out, self.jobs = out, jobs
        self._running: dict[ArmRun, tuple[subprocess.Popen, float]] = {}

    def __len__(self) -> int:
        return len(self._running)

    @property
    def running(self) -> dict[ArmRun, float]:
        """Seconds since the start of each process."""
        return {run: time.monotonic() - started for run, (_, started) in self._running.items()}

    def start(self, run: ArmRun, words: Sequence[str]) -> None:
        """Train or continue a run; `words` are the flags of train.py."""
        folder = self.out / run.folder
        folder.mkdir(parents=True, exist_ok=True)
        _wait_until_unlocked(folder)
        with (folder / LOG).open("ab") as log:
            process = child_process.start(
                [*TRAIN, *words],
                end_signal=signal.SIGTERM,  # it saves its state
                environment=self._threads(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._running[run] = process, time.monotonic()

    def _threads(self) -> dict[str, str]:
        if self.jobs == 1 or {*THREADS, "OMP_NUM_THREADS"} & os.environ.keys():
            return {}
        return dict.fromkeys(THREADS, str(max(1, cores() // self.jobs)))

    def ended(self) -> list[EndedTraining]:
        """Return the trainings that have ended since the last call."""
        result = []
        for run, (process, started) in list(self._running.items()):
            if process.poll() is not None:
                del self._running[run]
                result.append(EndedTraining(run, process.returncode, time.monotonic() - started))
        return result

    def stop(self) -> None:
        """Send SIGTERM to all processes, and wait until they have saved their state and ended.

        Ctrl-C during this time kills them; what they had saved before remains.
        """
        for process, _ in self._running.values():
            process.terminate()
        try:
            for process, _ in self._running.values():
                process.wait()
        except BaseException:
            for process, _ in self._running.values():
                process.kill()
                process.wait()
            raise
        finally:
            self._running.clear()


def _wait_until_unlocked(folder: Path) -> None:
    """Wait until no process has the run's lock: one that a killed comparison started may still be saving its state."""
    until = time.monotonic() + _LOCK_SECONDS
    while time.monotonic() < until:
        with (folder / ".lock").open("a") as stream:
            try:
                lock(stream)
                return
            except BlockingIOError:
                time.sleep(0.2)
