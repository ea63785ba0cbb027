"""The command `start`."""

import json
import shlex
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from PIL import Image

from dico_tf.cli import start
from dico_tf.start import plan
from tests.commands import command as here

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(photos):
    return photos({"a": 20, "b": 20}, size=40)


def test_a_dry_run_prints_the_plan_and_writes_nothing(folder, tmp_path):
    out = tmp_path / "out"
    ended = here("start", folder, f"--out={out}", "--dry_run")
    assert ended.status == 0, ended.err
    lines = ended.out.splitlines()
    assert lines[0].startswith("images     40 of 2 classes, 20 each")
    assert any(line.startswith("training   ") and "min in all" in line for line in lines)
    commands = [shlex.split(line) for line in lines[lines.index("commands") + 1 :]]
    names = [f"{name}.py" for name in ("train", "evaluate", "evaluate", "committee", "export", "serve")]
    assert [words[1] for words in commands] == names
    assert f"--workdir={out}/run" in commands[0]
    assert not out.exists() and len(lines) <= 12


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected one folder of images, got 0: python start.py DIR"),
        (["a", "b"], "expected one folder of images, got 2"),
        (["none"], "there is no such folder"),
        (["a", "--macs=1e6", "--devices=2"], "--macs and --devices contradict each other"),
        (["a", "--devices=-1"], "--devices=-1 must be above 0"),
        (["a", "--serve", "--dry_run"], "--serve contradicts --dry_run"),
        (["a", "--epochs=3"], "unknown flag --epochs"),
    ],
)
def test_mistakes_are_one_message_and_status_2(words, message):
    ended = here("start", *words)
    assert ended.status == 2 and message in ended.err and "Traceback" not in ended.err


@pytest.mark.slow
def test_milliseconds_become_multiply_adds_on_this_machine(folder, tmp_path):
    ended = here("start", folder, f"--out={tmp_path}/out", "--milliseconds=1000", "--dry_run")
    assert ended.status == 0, ended.err
    assert "M multiply-adds in a millisecond on one core, measured in float32" in ended.out


def test_a_stop_says_how_to_go_on(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(start, "_run", lambda command, arguments: 143)
    ended = here("start", folder, f"--out={tmp_path}/out", "--devices=1")
    assert ended.status == 143
    assert f"to go on: python start.py {folder} --out={tmp_path}/out --devices=1" in ended.err
    again = here("start", folder, f"--out={tmp_path}/out", "--devices=2")
    assert again.status == 2 and "has a plan with other flags" in again.err


@pytest.mark.slow
def test_a_folder_becomes_a_committee_that_answers_a_photo(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "PASSES", {True: (1, 1, 1), False: (1, 2, 2)})
    out = tmp_path / "out"
    ended = here("start", folder, f"--out={out}")
    assert ended.status == 0, ended.err
    assert "[5/5] " in ended.out
    serve = shlex.split(ended.out.splitlines()[-1].removeprefix("to serve the committee: "))[1:]
    assert serve == ["serve.py", "local", f"--manifest={out}/export/manifest.json"]
    members = json.loads((out / "export/manifest.json").read_text())["members"]
    assert {"int8"} in [set(member["files"]) - {"saved_model"} for member in members]
    again = here("start", folder, f"--out={out}")
    assert again.status == 0 and "5 of 5 steps have finished" in again.out and "[1/5]" not in again.out
    process = subprocess.Popen([sys.executable, *serve, "--port=0", "--http_port=0"], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        address = json.loads(process.stdout.readline())["http"]
        Image.open(folder / "a/000.png").save(tmp_path / "photo.jpg")
        request = urllib.request.Request(
            f"http://{address}/v2/models/committee/infer",
            (tmp_path / "photo.jpg").read_bytes(),
            {"content-type": "image/jpeg"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            outputs = {one["name"]: one["data"] for one in json.load(answer)["outputs"]}
        assert sum(outputs["probabilities"]) == pytest.approx(1, abs=1e-3)
    finally:
        process.terminate()
        process.wait(60)
