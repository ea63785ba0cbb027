import dataclasses
import json
from pathlib import Path

import pytest

from dico_tf.errors import UserError
from dico_tf.start.plan import CommandPlan, Step
from dico_tf.start.run import State, run_steps
from tests.start.test_plan import report

STEPS = (Step("train", ("--workdir=W",)), Step("evaluate", ("--workdir=W",)), Step("export", ("--out=E",)))
PLAN = CommandPlan(steps=STEPS, serve=Step("serve", ("local",)))
OPTIONS = {"macs": 0.0, "folder": "photos"}


class Commands:
    """Records the commands that are run; each ends with its status, 0 if there is none."""

    def __init__(self, **statuses):
        self.statuses, self.calls = statuses, []

    def __call__(self, command, arguments):
        self.calls.append((command, *arguments))
        return self.statuses.get(command)


def begun(out: Path) -> State:
    state = State(out)
    state.begin(PLAN, report(), OPTIONS)
    return state


def test_steps_run_in_order_and_are_told(tmp_path):
    commands, lines = Commands(), []
    assert run_steps(PLAN, begun(tmp_path), commands, lines.append) == 0
    assert commands.calls == [(step.command, *step.arguments) for step in STEPS]
    assert [line.split("]")[0] for line in lines] == ["\n[1/3", "\n[2/3", "\n[3/3"]


def test_a_step_that_stopped_is_run_again_and_finished_ones_are_not(tmp_path):
    state = begun(tmp_path)
    assert run_steps(PLAN, state, Commands(evaluate=143), lambda line: None) == 143
    with pytest.raises(UserError):
        run_steps(PLAN, State(tmp_path), raising, lambda line: None)
    commands, again = Commands(), State(tmp_path)
    assert again.plan(report(), OPTIONS) == PLAN and again.finished == 1
    assert run_steps(PLAN, again, commands, lambda line: None) == 0
    assert [call[0] for call in commands.calls] == ["evaluate", "export"]
    assert run_steps(PLAN, State(tmp_path), Commands(train=1), lambda line: None) == 0, "nothing is left to run"


def raising(command, arguments):
    raise UserError("a mistake")


def test_a_plan_is_not_continued_with_other_flags_or_images(tmp_path):
    begun(tmp_path)
    state = State(tmp_path)
    with pytest.raises(UserError, match="plan with other flags"):
        state.plan(report(), {**OPTIONS, "macs": 1e6})
    with pytest.raises(UserError, match="the images have changed"):
        state.plan(dataclasses.replace(report(), fingerprint="other"), OPTIONS)


def test_a_new_folder_has_no_plan(tmp_path):
    assert State(tmp_path / "new").plan(report(), OPTIONS) is None


def test_a_damaged_state_is_one_message(tmp_path):
    (tmp_path / "start.json").write_text("{")
    with pytest.raises(UserError, match=r"start\.json is not the state of a start, or is damaged"):
        State(tmp_path)
    (tmp_path / "start.json").write_text(json.dumps({"format": 1, "kind": "other"}))
    with pytest.raises(UserError, match="expected kind 'start'"):
        State(tmp_path)


def test_a_folder_that_cannot_be_written_is_one_message(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to --out="):
        State(tmp_path / "file" / "out").begin(PLAN, report(), OPTIONS)
