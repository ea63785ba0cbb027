"""Run a comparison: train what is missing, choose by trials, and write comparison.json after each finished run."""

import contextlib
import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dico_tf import child_process
from dico_tf.compare import comparison, finished
from dico_tf.compare.conclusion import comparison_table
from dico_tf.compare.plan import ArmRun, ComparisonPlan
from dico_tf.compare.processes import EndedTraining, TrainingProcesses
from dico_tf.compare.remaining import RemainingTime, duration
from dico_tf.errors import UserError
from dico_tf.files import json_files
from dico_tf.files.locks import lock

_POLL = 0.2  # seconds between looks at the processes


@contextlib.contextmanager
def claim(out: Path) -> Iterator[None]:
    """Lock the folder of a comparison, which is made if it is missing, until the block ends.

    Raises UserError if another process has locked it, or if it cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        stream = (out / ".lock").open("a")
    except OSError as error:
        raise UserError(f"cannot write to --out={out}: {error.strerror}; give another --out") from None
    with stream:
        try:
            lock(stream)
        except BlockingIOError:
            raise UserError(f"another compare is running in --out={out}: wait for it, or give another --out") from None
        yield


@contextlib.contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """Turn SIGTERM into SystemExit within the block, so that child processes are stopped."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class ComparisonRun:
    """A comparison in progress.

    Args:
        plan: the arms, trials and seeds.
        command: that the user typed, as text.
        flagfile: value of its --flagfile, or "".
        jobs: most trainings at once.
        print_line: prints a line.
    """

    def __init__(self, plan: ComparisonPlan, command: str, flagfile: str, jobs: int, print_line: Callable[[str], None]):
        self.plan, self.command, self.flagfile, self.print_line = plan, command, flagfile, print_line
        self.runs: dict[ArmRun, finished.FinishedRun] = {}
        self.losses: dict[ArmRun, float] = {}
        self._processes = TrainingProcesses(plan.out, jobs)
        self._remaining = RemainingTime(jobs)
        self._all = list(plan.runs())

    def go_on(self, until: float, milliseconds: bool) -> int:
        """Train until nothing is missing, or until this time of time.monotonic(). Return the exit status.

        Raises UserError if a finished run cannot be used, or if the folder cannot be written.

        Args:
            until: time to stop; infinity = never.
            milliseconds: measure the time of each arm's ensemble, once all runs have finished.
        """
        self._collect()
        self.plan.begin()
        self._choose()
        self._write()
        with _stopped_by_sigterm():
            try:
                failed = self._train(until)
            except (KeyboardInterrupt, SystemExit):
                self._processes.stop()
                self.print_line("stopped, and saved: the same command goes on")
                raise
            finally:
                self._processes.stop()
            self._collect()  # some may have finished while they were stopped
            self._choose()
            self._write()
            if failed:
                return self._report_failure(failed)
            if milliseconds and not self._left() and not self.plan.milliseconds:
                self.plan.set_milliseconds(self._milliseconds())
        self.print_line("\n" + comparison_table(self._write()))
        return 0

    def _left(self) -> list[ArmRun]:
        return [run for run in self._all if run not in self.runs and run not in self.losses]

    def _collect(self) -> None:
        for run in self._left():
            folder = self.plan.out / run.folder
            if finished.is_finished(folder) or (run.trial and finished.has_diverged(folder)):
                self._add(run)

    def _add(self, run: ArmRun) -> None:
        folder = self.plan.out / run.folder
        if run.trial:
            self.losses[run] = finished.validation_nll(folder)
        else:
            self.runs[run] = finished.read(folder)

    def _choose(self) -> None:
        """Choose and store the values of each arm whose trials have finished, unless they are stored already."""
        for arm in self.plan.arms:
            trials = self.plan.trials(arm.name)
            if self.plan.chosen(arm.name) is not None or any(run not in self.losses for run in trials):
                continue
            best = min(trials, key=lambda run: self.losses[run])  # of equals, the first
            if not math.isfinite(self.losses[best]):
                raise UserError(f"all trials of arm {arm.name} diverged: give other values to --tune, in another --out")
            self.plan.choose(arm.name, dict(best.trial))
            values = " ".join(f"--{flag}={text}" for flag, text in best.trial)
            self.print_line(f"chosen    {arm.name}: {values}, by the ensemble's NLL on validation images")

    def _write(self) -> dict[str, Any]:
        content = comparison.content(self.plan, self.runs, self.losses, self.command, self.flagfile)
        json_files.write(self.plan.out / comparison.NAME, content)
        return content

    def _next(self) -> ArmRun | None:
        """Return the next run that can start: one whose arm has its values, or a trial."""
        running = self._processes.running
        for run in self._left():
            if run not in running and (run.trial or self.plan.chosen(run.arm) is not None):
                return run
        return None

    def _train(self, until: float) -> EndedTraining | None:
        """Train what is missing. Return the first training that fails, or None."""
        while self._left() and time.monotonic() < until:
            while len(self._processes) < self._processes.jobs and (run := self._next()):
                self._processes.start(run, self.plan.words(run))
                self.print_line(f"started   {run.folder}{self._state()}")
            time.sleep(_POLL)
            for ended in self._processes.ended():
                if not self._is_usable(ended):
                    return ended
                self._add(ended.run)
                self._remaining.add(ended.run, ended.seconds)
                self.print_line(f"finished  {ended.run.folder} in {duration(ended.seconds)}{self._score(ended.run)}")
                self._choose()
                self._write()
        if self._left():
            self.print_line(f"--minutes is over: the same command goes on{self._state()}")
        return None

    def _is_usable(self, ended: EndedTraining) -> bool:
        folder = self.plan.out / ended.run.folder
        return finished.is_finished(folder) or bool(ended.run.trial and finished.has_diverged(folder))

    def _state(self) -> str:
        left = self._left()
        about = self._remaining.text(left, self._processes.running)
        return f" ({len(self._all) - len(left)} of {len(self._all)} finished{about})"

    def _score(self, run: ArmRun) -> str:
        if run.trial:
            return f": NLL {self.losses[run]:.4f}{self._state()}"
        return f": top-1 {100 * self.runs[run].scores['top1']:.2f} %{self._state()}"

    def _report_failure(self, ended: EndedTraining) -> int:
        """Print the last lines of a failed training, and return the exit status of the comparison."""
        log = self.plan.out / ended.run.folder / finished.LOG
        for line in finished.last_lines(log):
            self.print_line(f"    {line}")
        if ended.status == 0:
            reason = "ended without an evaluation, perhaps by --max_steps before its first epoch"
        elif ended.status < 0:
            reason = f"was ended by signal {-ended.status}"
        else:
            reason = f"failed with exit status {ended.status}"
        self.print_line(f"{ended.run.folder} {reason}; all of its output is in {log}")
        return ended.status if ended.status > 0 else 128 - ended.status if ended.status else 1

    def _milliseconds(self) -> dict[str, float]:
        self.print_line("measuring the milliseconds of one image in each arm")
        names = {arm.name: str(self.plan.out / ArmRun(arm.name, self.plan.seeds[0]).folder) for arm in self.plan.arms}
        times = _measured(list(names.values()), self.plan.out / "milliseconds.log")
        return {name: times[folder] for name, folder in names.items()}


def _measured(folders: Sequence[str], log: Path) -> dict[str, float]:
    """Return the milliseconds of each run's ensemble, from a process of its own, whose messages go to `log`."""
    command = [*child_process.PYTHON, "dico_tf.compare.latency", *folders]
    with log.open("wb") as errors:
        process = child_process.start(command, stdout=subprocess.PIPE, stderr=errors)
        try:
            output, _ = process.communicate()
        except BaseException:
            process.kill()
            process.wait()
            raise
    if process.returncode:
        reason = "".join(finished.last_lines(log)[-1:])
        raise UserError(
            f"the milliseconds could not be measured ({reason}); {log} has more; --nomilliseconds leaves them out"
        )
    return json.loads(output.splitlines()[-1])
