"""committee.py from tables, runs and mistakes to files."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dico_tf import flags
from dico_tf.cli import committee
from dico_tf.committee import guarantee, options
from dico_tf.committee.committee_file import load
from dico_tf.committee.decision import average_cost, decide
from dico_tf.errors import UserError
from dico_tf.files import tables
from dico_tf.files.arrays import write_folder
from tests.committee.generated import pool
from tests.report.pages import checked, headings, table_of

ROOT = Path(__file__).parents[2]
POOL = pool(800)


@pytest.fixture
def table(tmp_path):
    """(path of the table, path of its costs)"""
    np.savez(tmp_path / "logits.npz", labels=POOL.labels, ids=POOL.ids, **POOL.logits)
    costs = {member: {"macs": cost.macs, "milliseconds": cost.milliseconds} for member, cost in POOL.costs.items()}
    (tmp_path / "costs.json").write_text(json.dumps(costs))
    return tmp_path / "logits.npz", tmp_path / "costs.json"


def search(table, out, *more):
    path, costs = table
    words = ["search", f"--logits={path}", f"--costs={costs}", f"--out={out}", "--percentiles=20", *more]
    committee.main([word for word in words if not word.endswith("=")])


def test_choices_are_those_the_rooms_know():
    assert options.GUARANTEES == guarantee.KINDS


def test_a_table_becomes_a_committee_and_a_page_with_figures(table, tmp_path, capsys):
    search(table, tmp_path / "out")
    said, saved = capsys.readouterr().out, load(tmp_path / "out/committee.json")
    assert said.startswith("ask m") and "reference: ensemble of 3" in said and "calibration less test" in said
    test = POOL.random_split(0.5, 0)[1]
    decision = decide(saved.committee, test.stacked(saved.committee.members))
    ours = saved.results["rows"][0]["test"]
    assert ours["accuracy"] == pytest.approx((decision.classes == test.labels).mean())
    price = [POOL.cost(member, "macs") for member in saved.committee.members]
    assert ours["cost"] == pytest.approx(average_cost(price, decision.stage))
    assert saved.calibration.images == 400 and saved.calibration.fingerprint == POOL.random_split(0.5, 0)[0].fingerprint
    assert said.endswith(f"report: {tmp_path / 'out/report.html'}\n")
    root = checked((tmp_path / "out/report.html").read_text())
    sections = ["Accuracy against cost", "Exits", "Reliability", "Disagreement of the members", "Classes"]
    assert headings(root) == ["Results", *sections, "Command"] and "committee search --logits=" in root.text
    row = table_of(root, "Accuracy and cost")[1]
    assert row[0] == "the committee" and row[2] == f"{100 * ours['accuracy']:.2f}"
    stopped = [
        f"{member}: {100 * (decision.stage == k).mean():.1f} %" for k, member in enumerate(saved.committee.members)
    ]
    assert "; ".join(stopped) in root.text
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"committee.json", "report.html"}
    committee.main(["show", f"--committee={tmp_path / 'out/committee.json'}"])
    assert "fitted to 400 images" in capsys.readouterr().out
    committee.main(["show", f"--committee={tmp_path / 'out/committee.json'}", "--check"])
    assert "cannot be compared: only answers are known" in capsys.readouterr().out
    content = json.loads((tmp_path / "out/committee.json").read_text())
    (tmp_path / "old.json").write_text(json.dumps(content | {"results": {"rows": [{"top1": 0.5}]}}))
    committee.main(["show", f"--committee={tmp_path / 'old.json'}"])
    assert "in another form" in capsys.readouterr().out


def test_without_a_budget_the_reference_is_matched_for_less(table, tmp_path, capsys):
    search(table, tmp_path, "--nofigures")
    rows = {row["name"]: row["calibration"] for row in load(tmp_path / "committee.json").results["rows"]}
    assert rows["the committee"]["accuracy"] >= rows["reference: ensemble of 3"]["accuracy"]
    assert rows["the committee"]["cost"] < rows["reference: ensemble of 3"]["cost"]
    assert headings(checked((tmp_path / "report.html").read_text())) == ["Results", "Command"]


def test_a_guarantee_is_said_and_kept_in_the_file(table, tmp_path, capsys):
    search(table, tmp_path, "--nofigures", "--risk=0.05")
    promise = load(tmp_path / "committee.json").promise
    assert (promise["risk"], promise["confidence"], promise["images"]) == (0.05, 0.95, 200)
    assert "with 95 % confidence, at most 5 % of new images" in capsys.readouterr().out
    search(table, tmp_path, "--nofigures", "--risk=0.001", "--reference=largest")
    assert "no early exit" in capsys.readouterr().out
    assert not load(tmp_path / "committee.json").promise["stops_early"]


def test_the_branches_of_a_run_become_a_cascade(tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    for split, part in zip(("validation", "test"), POOL.random_split(0.5, 1), strict=True):
        tables.write_predictions(run / f"predictions_{split}.npz", part.stacked(POOL.members), part.labels, part.ids)
    whole = {"macs": {"branches": 300, "whole": 310}, "params": {"branches": 30, "whole": 31}, "splits": 3}
    (run / "summary.json").write_text(json.dumps({"format": 1, **whole}))
    weights = {f"branch_{s}/kernel": np.full(3, s, np.float32) for s in range(3)}
    write_folder(run / "best", {"weights": weights}, {})
    names = [f"class {c}" for c in range(10)]
    (run / "config.json").write_text(json.dumps({"format": 1, "data": {"image_size": 32, "class_names": names}}))
    committee.main(["search", f"--workdir={run}", f"--out={tmp_path}", "--nofigures", "--percentiles=10"])
    saved = load(tmp_path / "committee.json")
    assert {member.kind for member in saved.members} == {"run"} and saved.class_names == tuple(names)
    assert all(member.cost.macs == 100 for member in saved.members)
    assert saved.results["rows"][0]["calibration"]["cost"] < 300
    capsys.readouterr()
    show = ["show", f"--committee={tmp_path / 'committee.json'}", "--check"]
    committee.main(show)
    assert "every member is the one that the gates were fitted to" in capsys.readouterr().out
    first = saved.members[0].name
    write_folder(run / "best", {"weights": weights | {f"{first}/kernel": np.full(3, 9, np.float32)}}, {})
    committee.main(show)
    assert f"the gates are stale: member {first} is not the one" in capsys.readouterr().out
    (run / "best").rename(tmp_path / "moved")
    committee.main(show)
    said = capsys.readouterr().out
    assert f"{first} cannot be compared" in said and "every member" not in said
    told = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(told | {"config": {"task": "segmentation"}}))
    with pytest.raises(UserError, match=r"is a segmentation run: use dico committee scenes"):
        committee.main(["search", f"--workdir={run}"])
    (run / "config.json").write_text(json.dumps(told))
    (run / "predictions_validation.npz").unlink()
    with pytest.raises(UserError, match=r"run dico evaluate --workdir=.* --split=validation first"):
        committee.main(["search", f"--workdir={run}"])


def test_members_of_odd_scales_are_warned_of(table, tmp_path, caplog):
    odd = POOL.logits | {"m1": POOL.logits["m1"] / 50, "m2": (100 * POOL.logits["m2"]).astype(np.float16)}
    np.savez(table[0], labels=POOL.labels, ids=POOL.ids, **odd)
    search(table, tmp_path, "--nofigures")
    assert "give --temperatures, or --average=probs" in caplog.text
    caplog.clear()
    search(table, tmp_path, "--nofigures", "--temperatures")
    assert not caplog.text and load(tmp_path / "committee.json").committee.temperatures


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_member_that_says_no_numbers_is_warned_of_and_is_right_about_nothing(table, tmp_path, caplog, bad):
    np.savez(table[0], labels=POOL.labels, ids=POOL.ids, **POOL.logits | {"m1": np.full((800, 10), bad, np.float32)})
    search(table, tmp_path, "--score=smooth", "--nofigures" if bad == np.inf else "--figures")
    assert "m1 gives NaN or infinity for 400 of 400 images" in caplog.text and "wrong" in caplog.text
    saved = load(tmp_path / "committee.json")
    rows = {row["name"]: row["test"] for row in saved.results["rows"]}
    assert rows["m1"]["accuracy"] == rows["reference: ensemble of 3"]["accuracy"] == 0
    assert rows["m1"]["lost"] == 400 and "m1" not in saved.committee.members
    search(table, tmp_path, "--reference=m1", "--risk=0.1", "--nofigures")
    assert load(tmp_path / "committee.json").promise["losses"] == 0  # who is never right is never lost


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected one of --workdir"),
        (["--logits=a.npz", "--workdir=b"], "got --logits and --workdir"),
        (["--logits=no.npz"], "no.npz does not exist: expected a table of logits"),
        (["--logits=README.md"], "README.md is damaged, cut short or not an .npz"),
        (["--logits={table}"], "the macs of m0, m1, m2 are not known: give them with --costs"),
        (["--logits={table}", "--costs=none.json"], "--costs=none.json does not exist"),
        (["--logits={table}", "--costs={costs}", "--budget=3"], "the cheapest member, m0, takes 10 macs"),
        (
            ["--logits={table}", "--costs={costs}", "--worst_case=-1"],
            "must be a finite number from 0, got -1; 0 = no limit",
        ),
        (["--logits={table}", "--costs={costs}", "--accuracy=91"], "--accuracy must be a share from 0 to 1, got 91"),
        (
            ["--logits={table}", "--costs={costs}", "--accuracy=1"],
            "within the limits reaches --accuracy=1.0000",
        ),
        (["--logits={table}", "--costs={costs}", "--reference=m9"], "must be ensemble, largest or a member"),
        (["--logits={table}", "--costs={costs}", "--risk=0.1", "--accuracy=0.5"], "contradict each other"),
        (["--logits={table}", "--costs={costs}", "--calibration_share=1"], "must be above 0 and below 1"),
        (["--logits={table}", "--costs={costs}", "--calibration_share=0.0001"], "one part would be empty"),
        (["--logits={table}", "--test_logits={table}", "--costs={costs}"], "800 images are in the calibration and"),
        (["--logits={table}", "--costs={costs}", "--largest=9"], "more than 20 million settings"),
        (["--logits=no.npz", "--out=/proc/no"], "--out=/proc/no cannot be written"),
        (["--logits=no.npz", "--out=README.md"], "--out=README.md cannot be written"),
        (["--logits=no.npz", "--risk=2"], "--risk and --confidence must be above 0 and below 1, got 2 and 0.95"),
    ],
)
def test_mistakes_are_one_message(table, words, message, monkeypatch):
    monkeypatch.chdir(ROOT)
    told = [word.format(table=table[0], costs=table[1]) for word in words]
    with pytest.raises(UserError) as caught:
        committee.main(["search", *told])
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"m1": np.zeros((800, 9), np.float32)}, "m0 has 10 classes and m1 9"),
        ({"m1": np.zeros((700, 10), np.float32)}, "m0 has logits of 800 images and m1 of 700"),
        ({"m1": np.zeros((800, 10), np.int64)}, "for m1, got int64"),
        ({"labels": np.full(800, 12)}, "800 of 800 labels lie outside 0..9"),
        ({"labels": POOL.labels[:-1]}, "for each of 800 images, got 799 labels and 800 ids"),
        ({"ids": np.array(["same"] * 800)}, "expected each id once, got same 800 times"),
        ({"ids": POOL.ids[:, None]}, r"expected ids \[N\], one for each image, got shape \[800, 1\]"),
        ({"labels": np.array(3)}, r"expected labels \[N\], one for each image, got shape \[\]"),
    ],
)
def test_tables_that_do_not_fit_are_refused(table, tmp_path, change, message):
    np.savez(table[0], **({"labels": POOL.labels, "ids": POOL.ids} | POOL.logits | change))
    with pytest.raises(UserError, match=message):
        search(table, tmp_path)


def test_a_second_table_of_other_classes_is_refused_and_names_are_kept(table, tmp_path):
    one, other = POOL.random_split(0.5, 0)
    names = np.array([f"class {c}" for c in range(10)])
    np.savez(table[0], labels=one.labels, ids=one.ids, class_names=names, **one.logits)
    for wrong, message in (
        (
            {"class_names": names[::-1]},
            "class 0 is 'class 0' in .* and 'class 9' in .*: give tables of the same classes",
        ),
        ({"class_names": names[1:]}, "the table has 10 classes but 9 class_names: give one"),
        ({m: v[:, :9] for m, v in other.logits.items()} | {"labels": other.labels % 9}, "10 classes and .* 9: give"),
    ):
        np.savez(tmp_path / "test.npz", **{"labels": other.labels, "ids": other.ids} | other.logits | wrong)
        with pytest.raises(UserError, match=message):
            search(table, tmp_path, f"--test_logits={tmp_path / 'test.npz'}")
    np.savez(tmp_path / "test.npz", labels=other.labels, ids=other.ids, **other.logits)
    search(table, tmp_path, f"--test_logits={tmp_path / 'test.npz'}", "--nofigures")
    assert load(tmp_path / "committee.json").class_names == tuple(names)


def test_what_is_fitted_does_not_know_the_test_images(table, tmp_path):
    one, other = POOL.random_split(0.5, 0)
    np.savez(table[0], labels=one.labels, ids=one.ids, **one.logits)
    found = []
    for turn in range(2):
        noise = {member: logits[::-1] if turn else logits for member, logits in other.logits.items()}
        np.savez(tmp_path / "test.npz", labels=other.labels, ids=other.ids, **noise)
        search(
            table,
            tmp_path,
            f"--test_logits={tmp_path / 'test.npz'}",
            "--nofigures",
            "--temperatures",
            "--weights",
            "--risk=0.05",
        )
        found.append(load(tmp_path / "committee.json"))
    rows = [each.results["rows"][0] for each in found]
    assert found[0].committee == found[1].committee and rows[0]["calibration"] == rows[1]["calibration"]
    assert rows[0]["test"]["accuracy"] > rows[1]["test"]["accuracy"] + 0.3


def test_help_and_verbs_as_a_user_sees_them():
    script = [sys.executable, str(ROOT / "committee.py")]
    told = subprocess.run([*script, "search", "--help"], capture_output=True, text=True, check=True)
    assert "--risk=" in told.stdout and not told.stderr
    wrong = subprocess.run([*script, "serach"], capture_output=True, text=True)
    assert wrong.returncode == 2 and "did you mean search" in wrong.stderr
    light = "import sys; from dico_tf.cli import committee; committee.script('search'); print('numpy' in sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", light], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "False"
    with pytest.raises(flags.Help):
        committee.main(["show", "--help"])
