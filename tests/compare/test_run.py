"""compare.py with a stand-in for training: order, choice of values, continuing, stopping, failures."""

import functools
import json
import math
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from dico_tf.compare import latency, processes, run
from dico_tf.compare.run import claim
from tests.report.pages import checked, headings

ARMS = "--arms=whole:--splits=1;divided:--splits=4 --lr=0.2"
TUNE = "--tune=weight_decay=0,0.01,0.02"


@pytest.fixture
def compare(here, tmp_path, monkeypatch):
    """Run compare.py with the stand-in, in tmp_path/out: (status, standard output, standard error)."""
    monkeypatch.setattr(processes, "TRAIN", (sys.executable, str(Path(__file__).with_name("stand_in.py"))))
    shared = ["--dataset=digits", "--warmup_epochs=0", f"--out={tmp_path / 'out'}", "--nomilliseconds"]
    return lambda *words: here("compare", *shared, *words)


def calls(out: Path) -> dict[str, int]:
    """Return how often each run was started, by its folder relative to `out`."""
    return {str(path.parent.relative_to(out)): path.read_text().count("\n") for path in out.glob("**/calls")}


def content(out: Path) -> dict:
    return json.loads((out / "comparison.json").read_text())


def test_arms_are_tuned_with_one_seed_and_compared_with_others(compare, tmp_path):
    out = tmp_path / "out"
    ended = compare(ARMS, TUNE, "--seeds=3", "--jobs=3")
    assert (ended.status, ended.err) == (0, "")
    trials = [f"{arm}/seed_0/weight_decay={value}" for arm in ("divided", "whole") for value in ("0", "0.01", "0.02")]
    finals = [f"{arm}/seed_{seed}" for arm in ("divided", "whole") for seed in (1, 2, 3)]
    assert calls(out) == dict.fromkeys([*trials, *finals], 1)
    result = content(out)
    assert list(result) == [
        "format", "command", "flagfile", "versions", "score", "split", "images", "class_names", "seeds", "missing",
        "arms", "differences", "conclusion",
    ]  # fmt: skip
    assert result["command"].startswith("python compare.py --dataset=digits") and result["flagfile"] == ""
    assert (result["score"], result["split"], result["images"], result["missing"]) == ("top1", "test", 600, 0)
    assert (result["seeds"], result["class_names"]) == ([1, 2, 3], ["a", "b", "c"])
    whole, divided = result["arms"]
    assert (whole["name"], whole["flags"], whole["chosen"]) == ("whole", ["--splits=1"], {"weight_decay": 0.02})
    assert [trial["nll"] for trial in whole["trials"]] == pytest.approx([0.8, 0.6, 0.4])
    assert whole["trials"][1]["values"] == {"weight_decay": 0.01} and whole["at_edge"] == ["weight_decay"]
    assert whole["trials"][1]["run"] == "whole/seed_0/weight_decay=0.01"
    assert divided["runs"] == ["divided/seed_1", "divided/seed_2", "divided/seed_3"]
    assert divided["cost"] == {
        "params": 1004, "macs": 200_000, "milliseconds": None, "relative_macs": 4.0,
        "relative_params": 1004 / 1001,
    }  # fmt: skip
    assert divided["cost_differs"] and not whole["cost_differs"]
    assert set(divided["scores"]) == {"top1", "top5", "nll", "brier", "ece", "disagreement"}
    scores = divided["scores"]["top1"]
    assert scores["mean"] == pytest.approx(sum(scores["values"]) / 3) and len(scores["values"]) == 3
    (difference,) = result["differences"]
    assert difference["mean"] == pytest.approx(scores["mean"] - whole["scores"]["top1"]["mean"])
    assert difference["low"] == pytest.approx(difference["mean"] - difference["half"])
    assert difference["p"] == difference["p_holm"] < 0.05
    assert (difference["seeds"], difference["images"]) == (3, 600)
    assert result["conclusion"].startswith("divided is ahead of whole by ") and "4.00 times" in result["conclusion"]
    assert ended.out.endswith(f"{result['conclusion']}\nreport: {out / 'report.html'}\n")
    root = checked((out / "report.html").read_text())
    sections = ["Conclusion", "Arms", "Differences", "Accuracy against cost", "Trials", "Commands and versions"]
    assert headings(root) == sections and result["conclusion"] in root.text
    assert "(12 of 12 finished)" in ended.out and " left)" in ended.out
    assert "--weight_decay is at the edge of the values tried" in ended.out
    assert "another line" in (out / "whole" / "seed_1" / "train.log").read_text()
    settings = (out / "divided" / "arm.flags").read_text()
    assert "\n--splits=4\n" in settings and "\n--lr=0.2\n" in settings


def test_what_has_finished_is_not_run_again_and_values_stay_chosen(compare, tmp_path):
    out = tmp_path / "out"
    assert compare(ARMS, TUNE, "--seeds=1").status == 0
    before = calls(out)
    trial = out / "whole" / "seed_0" / "weight_decay=0" / "evaluation_validation.json"
    trial.write_text(json.dumps({"format": 1, "ensemble": {"nll": 0.1}}))  # would now be chosen
    ended = compare(ARMS, TUNE, "--seeds=2")
    assert ended.status == 0 and "chosen" not in ended.out
    assert calls(out) == {**before, "divided/seed_2": 1, "whole/seed_2": 1}
    assert content(out)["arms"][0]["chosen"] == {"weight_decay": 0.02}
    assert "--weight_decay=0.02 --seed=2" in (out / "whole" / "seed_2" / "calls").read_text()
    assert "Nothing can be concluded about divided with 2 seeds" in content(out)["conclusion"]
    assert content(out)["differences"][0]["half"] is content(out)["differences"][0]["p_holm"] is None


def test_arms_may_be_added_but_not_changed(compare, tmp_path):
    assert compare(ARMS, "--seeds=1").status == 0
    third = f"{ARMS};alone:--splits=2 --training=independent"
    assert compare(third, "--seeds=1").status == 0
    assert [arm["name"] for arm in content(tmp_path / "out")["arms"]] == ["whole", "divided", "alone"]
    ended = compare("--arms=whole:--splits=2;divided:--splits=4 --lr=0.2", "--seeds=1", TUNE)
    assert ended.status == 2 and ended.err.splitlines()[1:] == [
        "--tune was '', is 'weight_decay=0,0.01,0.02': all arms need the same trials",
        "arm whole was defined otherwise (--splits was the default, is 2): give it another name",
        "repeat its flags, or give another --out",
    ]
    ended = compare(ARMS, "--seeds=1", "--epochs=7")
    assert ended.status == 2 and "arm whole was defined otherwise (--epochs was the default, is 7)" in ended.err


def test_a_flag_file_gives_the_flags_of_all_arms_but_not_the_folder(compare, tmp_path):
    path = tmp_path / "mine.flags"
    path.write_text("--workdir=elsewhere\n--seed=5\n--epochs=7\n--lr=0.3\n")
    assert compare(f"--flagfile={path}", ARMS, "--seeds=1", "--epochs=8").status == 0
    out = tmp_path / "out"
    assert content(out)["flagfile"] == str(path) and calls(out).keys() == {"whole/seed_0", "divided/seed_0"}
    for arm, lr in (("whole", 0.3), ("divided", 0.2)):
        lines = (out / arm / "arm.flags").read_text().splitlines()
        assert {"--epochs=8", f"--lr={lr}", "--seed=0", "--workdir="} <= set(lines)


def test_milliseconds_are_measured_once_when_all_runs_have_finished(compare, tmp_path, monkeypatch):
    measured = []

    def fake(folders: list[str], log: Path) -> dict[str, float]:
        measured.append([str(Path(folder).relative_to(tmp_path / "out")) for folder in folders])
        return {folder: 2.5 + len(measured) for folder in folders}

    monkeypatch.setattr(run, "_measured", fake)
    for _ in range(2):
        assert compare(ARMS, "--seeds=1", "--milliseconds").status == 0
    assert measured == [["whole/seed_0", "divided/seed_0"]]
    assert [arm["cost"]["milliseconds"] for arm in content(tmp_path / "out")["arms"]] == [3.5, 3.5]
    ended = compare(f"{ARMS};third:--splits=2", "--seeds=1", "--milliseconds")
    assert len(measured) == 2 and " 4.50 " in ended.out  # all are measured again, in turn
    assert [arm["cost"]["milliseconds"] for arm in content(tmp_path / "out")["arms"]] == [4.5, 4.5, 4.5]


def test_timed_calls_take_turns():
    order: list[str] = []
    times = latency.interleaved({name: functools.partial(order.append, name) for name in "ab"})
    assert times.keys() == {"a", "b"} and min(times.values()) > 0
    assert order == ["a", "b"] * (latency.WARM_UP + latency.MOST)


def test_a_failed_training_is_reported_and_the_others_are_stopped_and_saved(compare, tmp_path):
    ended = compare("--arms=bad:--lr=8;slow:--lr=7", "--seeds=1", "--jobs=2")
    log = tmp_path / "out" / "bad" / "seed_0" / "train.log"
    assert ended.status == 3
    assert ended.out.splitlines()[-4:] == [
        "    one line",
        "    another line",
        "    train.py: no such data",
        f"bad/seed_0 failed with exit status 3; all of its output is in {log}",
    ]


def test_a_trial_that_diverges_is_not_chosen(compare, tmp_path):
    ended = compare("--arms=a:--splits=1;b:--splits=2", "--tune=lr=0.1,9", "--seeds=1")
    assert ended.status == 0, ended.err
    arm = content(tmp_path / "out")["arms"][0]
    assert arm["chosen"] == {"lr": 0.1} and arm["trials"][1]["nll"] is None and arm["at_edge"] == ["lr"]
    assert compare("--arms=a:--splits=1;b:--splits=2", "--tune=lr=0.1,9", "--seeds=1").status == 0
    assert len(calls(tmp_path / "out")) == 6  # it is not tried again
    ended = compare("--arms=a:--splits=1;b:--splits=2", "--tune=lr=9", f"--out={tmp_path / 'other'}")
    assert ended.status == 2 and "all trials of arm a diverged: give other values to --tune" in ended.err


def test_minutes_stop_it_and_the_same_command_goes_on(compare, tmp_path, monkeypatch):
    out = tmp_path / "out"

    def clock() -> float:
        """Return a late time as soon as one run has finished and the other waits."""
        return math.inf if content(out)["missing"] == 1 and (out / "slow/seed_0/waiting").exists() else 0.0

    words = ("--arms=slow:--lr=7;quick:--splits=2", "--seeds=1", "--jobs=2")
    with monkeypatch.context() as patch:
        patch.setattr(run, "time", SimpleNamespace(monotonic=clock, sleep=time.sleep))
        ended = compare(*words, "--minutes=5")
    assert ended.status == 0 and "--minutes is over: the same command goes on (1 of 2 finished" in ended.out
    assert (out / "slow/seed_0/saved").exists()
    assert content(out)["missing"] == 1 and "1 run is missing" in ended.out
    assert compare(*words).status == 0 and content(out)["missing"] == 0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_all_trainings_saved(compare, tmp_path, number, status):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored in tests that run in background

    def send() -> None:
        while len(list((tmp_path / "out").glob("*/seed_0/waiting"))) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=send)
    thread.start()
    ended = compare("--arms=a:--lr=7;b:--lr=7 --splits=2", "--seeds=1", "--jobs=2")
    thread.join()
    signal.signal(signal.SIGINT, before)
    assert ended.status == status and "stopped, and saved: the same command goes on" in ended.out
    assert len(list((tmp_path / "out").glob("*/seed_0/saved"))) == 2


def test_only_one_compare_runs_in_a_folder(compare, tmp_path):
    with claim(tmp_path / "out"):
        ended = compare(ARMS)
    assert ended.status == 2
    assert ended.err == (
        f"compare.py: another compare is running in --out={tmp_path}/out: wait for it, or give another --out\n"
    )


@pytest.mark.parametrize(
    ("words", "faults"),
    [
        (["--arms="], ["--arms needs at least two arms, got 0"]),
        (["--arms=a:--splits=1;a:--splits=2"], ["--arms has two arms a", "--arms needs at least two arms, got 1"]),
        (["--arms=a b:;../c:"], ["--arms: 'a b' is no name", "--arms: '../c' is no name"]),
        (["--arms=a:--lr='0;b:"], ["--arms: the flags of a cannot be split", "--arms needs at least two arms, got 1"]),
        (["--arms=a:--spilts=1;b:--jobs=2"], ["arm a: unknown flag --spilts; ", "arm b: unknown flag --jobs; "]),
        (["--arms=a:--splits=0;b:--views=nix"], ["arm a: --splits=0 must be at least 1", "arm b: "]),
        (["--arms=a:;b:", "--epochs=0", "--seeds=0"], ["--seeds=0 must be at least 1", "--epochs=0 must be"]),
        (["--arms=a:--seed=3;b:", "--workdir=w"], ["--workdir cannot be given", "arm a: --seed cannot be given"]),
        (["--arms=a:;b:--dataset=cifar10"], ["--dataset must be the same for all arms"]),
        (["--arms=a:;b:", "--tune=nix=1;lr"], ["--tune=nix=1: 'nix' is no flag", "--tune=lr: expected values"]),
        (["--arms=a:;b:", "--tune=splits=0,2"], ["--splits=0 must be at least 1"]),
        (["--arms=a:;b:", "--tune=lr=0.1,1e-1"], ["arm a: --tune has the same value twice", "arm b: --tune has"]),
        (
            ["--arms=a:;b:", "--tune=lr=0.1,0.2", "--validation=0", "--select=test"],
            ["--tune chooses by validation images: give --validation above 0"],
        ),
    ],
)
def test_all_mistakes_are_reported_before_anything_is_written(compare, tmp_path, words, faults):
    ended = compare(*words)
    lines = ended.err.removeprefix("compare.py: ").splitlines()
    assert (ended.status, len(lines)) == (2, len(faults)), ended.err
    for line, fault in zip(lines, faults, strict=True):
        assert line.startswith(fault)
    assert not (tmp_path / "out").exists()
