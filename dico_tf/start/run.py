"""Run the steps of a plan. A step that has finished is not run again."""

from collections.abc import Callable
from pathlib import Path

from dico_tf.errors import UserError
from dico_tf.files import json_files
from dico_tf.start.folder_report import FolderReport
from dico_tf.start.plan import CommandPlan, Step

NAME = "start.json"
Run = Callable[[str, list[str]], int | None]  # (command, arguments) -> exit status


class State:
    """The plan of the output folder `out`, and the number of its finished steps, in out/start.json."""

    def __init__(self, out: Path):
        self.path = out / NAME
        self.content = self._read() if self.path.exists() else {}

    def _read(self) -> dict:
        again = f"remove {self.path}, or give another --out"
        return json_files.read(self.path, "the state of a start", missing=again, again=again, kind="start")

    def plan(self, report: FolderReport, options: dict) -> CommandPlan | None:
        """Return the stored plan, or None if there is none.

        Raises UserError if it was made with other options (flags and folder of images), or if images have changed.
        """
        if not self.content:
            return None
        if self.content["options"] != options:
            raise UserError(
                f"{self.path} has a plan with other flags or for another folder: repeat the flags and the folder of "
                "that plan, or give another --out"
            )
        if self.content["images"] != report.fingerprint:
            raise UserError(f"the images have changed since {self.path} was written: give another --out")
        steps = [Step(command, tuple(arguments)) for command, arguments in self.content["steps"]]
        return CommandPlan(steps=tuple(steps[:-1]), serve=steps[-1])

    def begin(self, plan: CommandPlan, report: FolderReport, options: dict) -> None:
        """Store a plan of which no step has finished."""
        steps = [[step.command, list(step.arguments)] for step in (*plan.steps, plan.serve)]
        self.content = {
            "kind": "start",
            "options": options,
            "images": report.fingerprint,
            "steps": steps,
            "finished": 0,
        }
        self._write()

    @property
    def finished(self) -> int:
        """Number of steps that have finished."""
        return self.content["finished"]

    def finish_step(self) -> None:
        """Record that one more step has finished."""
        self.content["finished"] += 1
        self._write()

    def _write(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            json_files.write(self.path, {key: value for key, value in self.content.items() if key != "format"})
        except OSError as error:
            raise UserError(f"cannot write to --out={self.path.parent}: {error.strerror}; give another --out") from None


def run_steps(plan: CommandPlan, state: State, run: Run, print_line: Callable[[str], None]) -> int:
    """Run each unfinished step by `run(command, arguments)`, and record in `state` that it has finished.

    Return 0, or the exit status of the first step that fails; the steps after it do not run.
    """
    for number, step in enumerate(plan.steps):
        if number < state.finished:
            continue
        print_line(f"\n[{number + 1}/{len(plan.steps)}] {step.text}")
        status = run(step.command, list(step.arguments)) or 0
        if status:
            return status
        state.finish_step()
    return 0
