"""The scripts as a user starts them: each test here costs a process."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from dico_tf import config
from dico_tf.cli import serve

ROOT = Path(__file__).parents[2]
SCRIPTS = ("train.py", "divide.py", "evaluate.py", "predict.py", "compare.py", "export.py")
HEAVY = {"tensorflow", "keras", "keras_cv", "tensorflow_datasets", "numpy"}


class Ended(NamedTuple):
    status: int
    out: str
    err: str
    loaded: set[str]


def run(*words: str) -> Ended:
    """`python SCRIPT ...` as on a user's screen; the interpreter itself tells which modules it loads."""
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    command = [sys.executable, "-X", "importtime", *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    lines = done.stderr.splitlines()
    loaded = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines if line.startswith("import time:")}
    err = "\n".join(line for line in lines if not line.startswith("import time:"))
    return Ended(done.returncode, done.stdout, err, loaded)


def mistake(*words: str) -> str:
    """The message of a user's mistake: status 2, nothing on standard output, no traceback."""
    ended = run(*words)
    assert (ended.status, ended.out) == (2, ""), ended
    assert "Traceback" not in ended.err
    assert "dico_tf" in ended.loaded and not ended.loaded & HEAVY
    assert ended.err.startswith(f"{words[0]}: ")
    return ended.err.removeprefix(f"{words[0]}: ")


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_answers_without_loading_a_framework(script):
    ended = run(script, "--help")
    assert (ended.status, ended.err) == (0, "")
    assert f"usage: python {script} [--flagfile=FILE] [--flag=value ...]" in ended.out
    assert "dico_tf" in ended.loaded and not ended.loaded & HEAVY


def test_the_help_of_train_lists_every_flag():
    out = run("train.py", "--help").out
    for _, field in config.fields():
        assert f"  --[no]{field.name}\n" in out or f"  --{field.name}=" in out


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_unknown_flag_is_one_line_and_status_2(script):
    message = mistake(script, "--spilts=4")
    assert message.startswith("unknown flag --spilts; ") and "\n" not in message


@pytest.mark.parametrize("script", ["train.py", "divide.py", "evaluate.py", "compare.py"])
def test_a_stray_word_is_refused(script):
    assert mistake(script, "splits=4") == "unexpected argument 'splits=4': write --flag=value"


def test_contradictions_come_together_and_before_anything_is_loaded():
    lines = mistake("train.py", "--validation=0", "--evaluate_ema", "--lr=0.2").split("\n")
    assert len(lines) == 2
    assert lines[0].startswith("--validation=0 sets no images aside") and lines[1].startswith("--evaluate_ema needs")


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("crop+flipp", "unknown piece of a view policy 'flipp'; did you mean flip"),
        ("erase:0.5:0.1", "'erase:0.5:0.1': the areas must satisfy"),
    ],
)
def test_a_view_policy_that_cannot_be_read_is_reported_before_anything_is_loaded(policy, message):
    assert mistake("train.py", "--dataset=digits", "--splits=2", f"--views=crop,{policy}").startswith(message)


def test_an_explicit_flag_wins_over_a_shipped_recipe():
    message = mistake("train.py", "--epochs=5", "--flagfile=configs/cifar10.flags")
    assert message == "--warmup_epochs=20 must be below --epochs=5"


def test_divide_checks_its_flags_before_anything_is_loaded():
    assert mistake("divide.py", "--splits=0", "--weight_decay=-3").count("\n") == 1


@pytest.mark.parametrize("script", ["evaluate.py", "predict.py"])
def test_a_run_must_be_named(script):
    assert mistake(script) == "--workdir is needed: the folder of a trained run"


def test_predict_needs_pictures_and_a_class_to_show():
    assert mistake("predict.py", "--workdir=w").startswith("expected images or folders")
    assert mistake("predict.py", "a.png", "--workdir=w", "--top=0") == "--top=0 must be at least 1"


@pytest.mark.parametrize("words", [["evaluate.py"], ["predict.py", "a.png"], ["export.py", "--out=o"]])
def test_what_is_no_run_is_said_before_anything_is_loaded(words, tmp_path):
    assert f"{tmp_path} is not the folder of a run" in mistake(*words, f"--workdir={tmp_path}")


def test_an_unknown_model_has_a_suggestion(here):
    status, _, message = here("divide", "--model=wrn_28_1")
    assert status == 2 and message.startswith("divide.py: unknown model 'wrn_28_1'; did you mean wrn_28_10")


def test_a_network_is_not_divided_by_a_number_it_has_no_rule_for(here):
    status, _, message = here("divide", "--model=resnet_110", "--splits=3")
    assert status == 2 and "--splits=3" in message and "published: 1, 2, 4, 8 and 16" in message


@pytest.mark.slow
def test_divide_prints_one_json_object_last():
    words = ["--model=wrn_28_10", "--splits=4", "--dataset=cifar100", "--weight_decay_division=linear", "--json"]
    ended = run("divide.py", *words)
    assert ended.status == 0 and "Traceback" not in ended.err
    assert "keras" in ended.loaded and not ended.loaded & {"joblib", "pyparsing"}  # of scikit-learn and of matplotlib
    report = json.loads(ended.out.splitlines()[-1])
    assert set(report) == {
        "format",
        "model",
        "splits",
        "division",
        "dataset",
        "image_size",
        "classes",
        "changes",
        "branches",
        "total_params",
        "total_macs",
        "whole_params",
        "whole_macs",
        "weight_decay",
        "regularisation",
        "warning",
        "advice",
    }
    assert report["warning"] is None and set(report["advice"]) == {"text", "source", "favours"}
    assert (report["format"], report["model"], report["splits"], report["classes"]) == (1, "wrn_28_10", 4, 100)
    assert report["changes"] == {"width": [10, 5]}
    assert [set(branch) for branch in report["branches"]] == [{"params", "macs"}] * 4
    assert report["total_params"] == sum(branch["params"] for branch in report["branches"])
    assert report["weight_decay"] == {"whole": 5e-4, "branch": 1.25e-4, "rule": "linear"}


@pytest.mark.parametrize("verb", serve.VERBS)
def test_the_help_of_a_verb_answers_without_loading_what_serves(verb):
    ended = run("serve.py", verb, "--help")
    assert (ended.status, ended.err) == (0, "")
    assert f"usage: python serve.py {verb} [--flagfile=FILE] [--flag=value ...]\n" in ended.out
    assert "dico_tf" in ended.loaded and not ended.loaded & {*HEAVY, "grpc", "google", "PIL", "ai_edge_litert"}


def test_serve_wants_one_verb_first_and_no_other_word():
    assert mistake("serve.py").startswith("a verb is missing: write python serve.py worker|gateway|local")
    assert "did you mean worker?" in mistake("serve.py", "workers")
    assert mistake("serve.py", "worker", "branch_0") == "unexpected argument 'branch_0': write --flag=value"
    assert run("serve.py", "--help").status == 0


def test_a_worker_says_everything_it_was_not_told():
    lines = mistake("serve.py", "worker", "--queue=0", "--port=70000").split("\n")
    assert [line.split()[0] for line in lines] == ["--manifest", "--member", "--queue=0"]
    arguments = ("--manifest=m", "--member=branch_0", "--port=70000", "--max_batch=0")
    faults = "--max_batch=0 must be at least 1\n--port=70000 must be at most 65535"
    assert mistake("serve.py", "worker", *arguments) == faults
