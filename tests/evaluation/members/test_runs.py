"""Branches of a run, and the files exported of them, as members."""

import json
import shutil

import keras
import numpy as np
import pytest

from dico_tf.data import source as sources
from dico_tf.errors import UserError
from dico_tf.evaluation import evaluate, metrics
from dico_tf.evaluation.averaging import combine
from dico_tf.evaluation.members import runs
from dico_tf.evaluation.members.cache import Cache
from dico_tf.evaluation.members.collect_logits import collect_logits
from dico_tf.evaluation.members.member import Member
from dico_tf.evaluation.members.open_members import open_members
from dico_tf.files import manifest, tables
from dico_tf.training.build import trained_run

pytestmark = pytest.mark.slow  # trains or starts several processes


@pytest.fixture(scope="module")
def digits(workdir):
    run = trained_run(workdir)
    return sources.load(run.config.data, run.config.run.seed)


@pytest.fixture(scope="module")
def evaluated(workdir):
    """Return the predictions that evaluate.py writes for the run."""
    run = trained_run(workdir)
    evaluate.evaluate_split(run, run.network(), "test", evaluate.load_splits(run))
    return tables.read_predictions(workdir / "predictions_test.npz")


def test_branches_say_what_the_evaluation_of_the_run_says(workdir, digits, evaluated):
    collected = collect_logits(open_members([str(workdir)], 10), digits, "test", timed=False)
    assert list(collected.logits) == ["digits.branch_0", "digits.branch_1"]
    assert (collected.ids == evaluated.ids).all() and (collected.labels == evaluated.labels).all()
    for s, logits in enumerate(collected.logits.values()):
        np.testing.assert_allclose(logits, evaluated.logits[:, s], rtol=1e-4, atol=1e-5)
        assert metrics.top_k(logits, collected.labels, 1) == metrics.top_k(evaluated.logits[:, s], evaluated.labels, 1)


def test_the_ensemble_is_the_mean_at_the_price_of_all(workdir, digits, evaluated):
    collected = collect_logits(
        open_members([f"all={workdir}:ensemble", f"{workdir}:branch_1"], 10), digits, "test", timed=False
    )
    np.testing.assert_allclose(collected.logits["all"], combine(evaluated.logits), rtol=1e-4, atol=1e-5)
    summary = json.loads((workdir / "summary.json").read_text())
    assert collected.costs["all"].macs == summary["macs"]["branches"] == 2 * collected.costs["digits.branch_1"].macs
    assert collected.costs["all"].params == summary["params"]["branches"]


def test_a_second_search_runs_no_network(workdir, digits, tmp_path, monkeypatch):
    calls = []
    run = Member.run
    monkeypatch.setattr(Member, "run", lambda self, images: calls.append(self.name) or run(self, images))
    cache = Cache(tmp_path)
    first = collect_logits(open_members([str(workdir)], 10), digits, "test", cache)
    assert set(calls) == set(first.computed) == {"digits.branch_0", "digits.branch_1"}
    calls.clear()
    again = collect_logits(open_members([str(workdir)], 10), digits, "test", cache)
    assert calls == [] and again.computed == () and again.costs == first.costs
    assert all((again.logits[name] == first.logits[name]).all() for name in first.logits)
    for cost in again.costs.values():
        assert cost.milliseconds > 0
    third = collect_logits(open_members([f"{workdir}:ensemble"], 10), digits, "test", cache, timed=False)
    assert third.computed == ("digits.ensemble",)


def test_a_self_cascade_shares_every_weight_and_costs_as_the_square_of_the_side(workdir):
    small, large = open_members([f"{workdir}:branch_0", f"{workdir}:branch_0@48"], 10)
    assert (small.name, large.name) == ("digits.branch_0", "digits.branch_0@48")
    assert small.weights == large.weights and small.checksum != large.checksum
    assert (small.input_size, large.input_size) == (32, 48)
    assert large.cost.macs / small.cost.macs == pytest.approx((48 / 32) ** 2, rel=0.05)
    assert large.cost.params == small.cost.params
    run = trained_run(workdir)
    before, after = (runs.branches(run, size)[0].get_weights() for size in (0, 48))
    assert [a.tobytes() for a in before] == [b.tobytes() for b in after]


def test_both_resolutions_answer_for_the_same_images(workdir, digits):
    collected = collect_logits(
        open_members([f"{workdir}:branch_0", f"{workdir}:branch_0@40"], 10), digits, "test", timed=False
    )
    small, large = collected.logits.values()
    assert small.shape == large.shape == (359, 10) and not np.allclose(small, large)
    assert metrics.top_k(large, collected.labels, 1) > 0.2  # chance is 0.1


def test_a_part_that_is_none_is_refused_with_those_that_are(workdir):
    with pytest.raises(UserError, match=r"no 'branch_7'; did you mean branch_"):
        open_members([f"{workdir}:branch_7"])


def test_a_run_knows_its_classes_and_data_with_others_are_refused(workdir, source):
    members = open_members([f"{workdir}:branch_0"], 10)
    names = [str(n) for n in (1, 0, *range(2, 10))]
    with pytest.raises(UserError, match=r"in another order than noise: class 0 is '0' in .* and '1' in"):
        collect_logits(members, source(32, names=names), "test")
    with pytest.raises(UserError, match=r"has other classes than noise: class 0 is '0' .* 'a'"):
        collect_logits(members, source(32, names=list("abcdefghij")), "test")
    with pytest.raises(UserError, match=r"has 10 classes and noise has 3 \('a' to 'c'\)"):
        collect_logits(members, source(32, names=list("abc")), "test")
    assert collect_logits(members, source(32), "test", timed=False).logits  # class_0 ... are only numbers


def test_a_half_trained_run_is_refused(tmp_path, workdir):
    (tmp_path / "config.json").write_text((workdir / "config.json").read_text())
    with pytest.raises(UserError, match="has no best/ yet"):
        open_members([str(tmp_path)])


@pytest.mark.slow
def test_files_of_an_export_answer_as_the_run_does(run, exported):
    trained = trained_run(run)
    data = sources.load(trained.config.data, trained.config.run.seed)
    apart = trained.network("float32").predict(data.splits["test"].images, verbose=0)  # it was trained in bfloat16
    given = [
        str(exported),
        f"{exported}/manifest.json:committee",
        f"lite={exported}:branch_0?format=float32",
        f"folder={exported}/saved_model/branch_1",
    ]
    collected = collect_logits(open_members(given, 10), data, "test", timed=False)
    assert list(collected.logits) == ["export.branch_0", "export.branch_1", "export.committee", "lite", "folder"]
    assert all(member.class_names == data.class_names for member in open_members(given, 10))
    expected = [*np.moveaxis(apart, 1, 0), combine(apart), *np.moveaxis(apart, 1, 0)]
    for (name, logits), right in zip(collected.logits.items(), expected, strict=True):
        np.testing.assert_allclose(logits, right, rtol=1e-3, atol=1e-3, err_msg=name)
    about = manifest.load(exported).member("branch_0")
    assert collected.costs["lite"].macs == about["macs"]


def test_what_is_counted_in_the_files_is_what_the_manifest_says(exported):
    """The counters of TensorFlow graphs and of .tflite files against the one of Keras."""
    about = manifest.load(exported).member("branch_0")
    lite = f"{exported}/{about['files']['float32']['path']}"
    plain, file = open_members([f"{exported}/saved_model/branch_0?outputs=logits", lite], 10)
    assert (plain.kind, file.kind) == ("saved_model", "tflite")
    assert plain.cost.macs == file.cost.macs == about["macs"]
    assert plain.cost.params == about["params"]
    assert file.cost.params == pytest.approx(about["params"], rel=0.05)  # normalisations are folded into kernels


def test_a_cost_that_the_manifest_does_not_know_is_counted_in_the_file(exported, tmp_path):
    copy = tmp_path / "export"
    shutil.copytree(exported, copy)
    content = manifest.load(copy).content
    known = content["members"][0]["macs"]
    content["members"][0]["macs"] = content["members"][0]["params"] = 0
    for path in copy.rglob("manifest.json"):
        path.write_text(manifest.text(content))
    cost = open_members([f"{copy}:branch_0?format=float32"], 10)[0].cost
    assert cost.macs == known and cost.params > 0


def test_a_file_that_is_not_the_exported_one_is_refused(exported, tmp_path):
    content = json.loads((exported / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="saved_model/branch_0 is missing"):
        open_members([str(tmp_path)])
    path = tmp_path / "saved_model" / "branch_0" / "saved_model.pb"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"other")
    with pytest.raises(UserError, match="is not the one exported"):
        open_members([str(tmp_path)])
    with pytest.raises(UserError, match=r"no member 'branch_9'; did you mean branch_"):
        open_members([f"{exported}:branch_9"])
    with pytest.raises(UserError, match=r"\?format=int4: branch_.* has no such file; give one of saved_model, float32"):
        open_members([f"{exported}:branch_0?format=int4"])
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(UserError, match="is not the manifest of an export"):
        open_members([str(tmp_path)])


def test_a_saved_dico_gives_its_branches(workdir, tmp_path, images):
    model = trained_run(workdir).network()
    model.save(tmp_path / "both.keras")
    members = open_members([f"{tmp_path}/both.keras", f"{tmp_path}/both.keras:ensemble"], 10)
    assert [member.name for member in members] == ["both.branch_0", "both.branch_1", "both.ensemble"]
    expected = np.asarray(model(images(32), training=False))
    np.testing.assert_allclose(members[1].run(images(32)), expected[:, 1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(members[2].run(images(32)), combine(expected), rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="did you mean branch_"):
        open_members([f"{tmp_path}/both.keras:branch_5"])


def test_the_policy_of_the_process_stays_when_a_run_is_rebuilt(workdir):
    before = keras.config.dtype_policy().name
    runs.branches(trained_run(workdir), 40)
    assert keras.config.dtype_policy().name == before
