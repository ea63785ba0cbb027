"""An export with a committee.json: its manifest and its committee's SavedModel stop early as the file says."""

import dataclasses
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from dico_tf.committee import serialization
from dico_tf.committee.committee_file import Calibration, CommitteeFile, SavedMember, save
from dico_tf.committee.decision import NEVER, Committee, average_cost, decide
from dico_tf.errors import UserError
from dico_tf.evaluation.averaging import softmax
from dico_tf.export import tf_serving
from dico_tf.export.run_gates import load_committee
from dico_tf.files import manifest
from dico_tf.files.tables import read_predictions
from dico_tf.training.build import trained_run
from tests.export.conftest import ROOT, script
from tests.export.test_consumers import HERE, NOISE

pytestmark = pytest.mark.slow  # trains or starts several processes

ORDER = ("branch_1", "branch_0")


@pytest.fixture(scope="module")
def stored(run) -> CommitteeFile:
    """A committee with a temperature for each branch and a gate that half of the noise images pass, none near it."""
    trained = trained_run(run)
    committee = Committee(members=ORDER, gates=(NEVER,), temperatures=(1.5, 0.8))
    sure = np.sort(decide(committee, _logits(trained, NOISE)).confidence[:, 0].astype(float))
    place = 8 + np.diff(sure)[8:-8].argmax()
    members = [
        SavedMember(name=name, kind="run", source=str(run), sha256=trained.checksums[name], input_size=32)
        for name in ORDER
    ]
    return CommitteeFile(
        committee=dataclasses.replace(committee, gates=((sure[place] + sure[place + 1]) / 2,)),
        members=tuple(members),
        classes=10,
        class_names=tuple("0123456789"),
        calibration=Calibration(name="validation", fingerprint="f", images=100),
    )


def _logits(trained, images) -> np.ndarray:
    """[B, S, C] in the cascade's order."""
    return np.asarray(trained.network(precision="float32")(images, training=False))[:, [1, 0]]


@pytest.fixture(scope="module")
def exported(run, stored, tmp_path_factory):
    out = tmp_path_factory.mktemp("exports") / "cascade"
    save(out.parent / "committee.json", stored)
    script(
        "export.py",
        f"--workdir={run}",
        f"--out={out}",
        f"--committee={out.parent / 'committee.json'}",
        "--compare_images=100",
    )
    return out


@pytest.fixture(scope="module")
def decided(run, stored):
    return decide(stored.committee, _logits(trained_run(run), NOISE))


def test_the_manifest_says_the_cascade_and_what_it_does(exported, stored, run):
    export = manifest.load(exported)
    committee = export.content["committee"]
    assert export.branches == ["branch_0", "branch_1"] and committee["average"] == "logits"
    assert committee["cascade"] == {
        "order": list(ORDER),
        "gates": list(stored.committee.gates),
        "confidence": "max_prob",
        "average": "logits",
        "weights": [],
        "temperatures": [1.5, 0.8],
    }
    assert serialization.committee(committee["cascade"]) == stored.committee
    scores, macs = export.content["comparison"]["cascade"], export.member("branch_0")["macs"]
    assert scores["reach"][0] == 1 >= scores["reach"][1] and scores["macs"] == pytest.approx(
        macs * sum(scores["reach"])
    )
    validation = read_predictions(run / "predictions_validation.npz")
    known = decide(stored.committee, validation.logits[:, [1, 0]])
    assert scores["top1"] == pytest.approx((known.classes == validation.labels).mean(), abs=0.03)  # bfloat16's
    assert "cascade" in (exported / "README.md").read_text()


def test_the_committees_saved_model_has_the_signature_and_no_branch_has(exported):
    for name, there in (("committee", True), ("branch_0", False)):
        content = (exported / "saved_model" / name / "saved_model.pb").read_bytes()
        signatures = saved_model_pb2.SavedModel.FromString(content).meta_graphs[0].signature_def
        assert ("cascade" in signatures) == there and "serving_default" in signatures
    signature = (
        saved_model_pb2.SavedModel.FromString((exported / "saved_model/committee/saved_model.pb").read_bytes())
        .meta_graphs[0]
        .signature_def["cascade"]
    )
    kinds = {key: tf.as_dtype(tensor.dtype) for key, tensor in signature.outputs.items()}
    assert kinds == {"probabilities": tf.float32, "class_id": tf.int64, "stage": tf.int64, "cost": tf.int64}
    assert list(signature.inputs) == ["image"]
    assert [[d.size for d in t.tensor_shape.dim] for t in (signature.inputs["image"], signature.outputs["stage"])] == [
        [-1, 32, 32, 3],
        [-1],
    ]


def test_the_signature_decides_as_the_definition_does(exported, decided):
    loaded = tf.saved_model.load(str(exported / "saved_model/committee"))
    call, macs = loaded.signatures["cascade"], manifest.load(exported).member("branch_0")["macs"]
    assert 5 < decided.stage.sum() < 27
    for batch in (1, 3, 8, 32, 0):
        outputs = {name: value.numpy() for name, value in call(image=tf.constant(NOISE[:batch])).items()}
        assert outputs["stage"].tolist() == decided.stage[:batch].tolist()
        assert outputs["probabilities"] == pytest.approx(softmax(decided.logits[:batch]).reshape(-1, 10), abs=1e-5)
        assert outputs["class_id"].tolist() == decided.classes[:batch].tolist()
        assert outputs["cost"].tolist() == (macs * (1 + decided.stage[:batch])).tolist()
    average = average_cost([macs, macs], decided.stage)
    assert call(image=tf.constant(NOISE))["cost"].numpy().mean() == pytest.approx(average)


def test_the_other_signatures_are_the_full_ensemble(exported, run):
    loaded = tf.saved_model.load(str(exported / "saved_model/committee"))
    outputs = loaded.signatures["serving_default"](image=tf.constant(NOISE))
    apart = _logits(trained_run(run), NOISE)
    assert outputs["logits"].numpy() == pytest.approx(apart.mean(1), rel=1e-5, abs=1e-5)
    assert outputs["branch_probabilities"].numpy()[:, [1, 0]] == pytest.approx(softmax(apart), abs=1e-5)


@pytest.mark.slow
def test_a_session_that_knows_no_keras_stops_early_and_replays_the_warm_up(exported, decided, tmp_path):
    np.savez(tmp_path / "questions.npz", cascade__image=NOISE)
    folder = exported / tf_serving.FOLDER / "committee" / "1"
    words = [
        HERE / "without_keras.py",
        folder,
        folder / tf_serving.WARM_UP,
        tmp_path / "questions.npz",
        tmp_path / "answers.npz",
    ]
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    outputs = np.load(tmp_path / "answers.npz")
    assert outputs["cascade__stage"].tolist() == decided.stage.tolist()
    assert outputs["cascade__probabilities"] == pytest.approx(softmax(decided.logits), abs=1e-5)
    assert outputs["replayed"] == len(tf_serving.SIZES) + 2


def test_every_weight_is_still_stored_once(exported):
    prefix = str(exported / "saved_model/committee/variables/variables")
    stored = tf.train.load_checkpoint(prefix).get_variable_to_shape_map()
    stored.pop("_CHECKPOINTABLE_OBJECT_GRAPH")
    params = manifest.load(exported).member("committee")["params"]
    assert params <= sum(int(np.prod(shape)) for shape in stored.values()) < 1.2 * params


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ("branch_1", "branch_7")}, "has the members branch_7, and"),
        ({"classes": 10, "class_names": tuple("abcdefghij")}, "has other classes than"),
        ({"classes": 3, "class_names": None}, "has other classes than"),
        ({"input_size": 64}, "images of 32 pixels, as in .*, got branch_1 at 64 pixels, branch_0 at 64 pixels"),
    ],
)
def test_a_committee_of_something_else_is_refused(run, stored, tmp_path, change, message):
    names = change.pop("names", ORDER)
    size = change.pop("input_size", 32)
    members = tuple(dataclasses.replace(m, name=n, input_size=size) for m, n in zip(stored.members, names, strict=True))
    committee = dataclasses.replace(stored.committee, members=names)
    path = tmp_path / "other.json"
    save(path, dataclasses.replace(stored, committee=committee, members=members, **change))
    with pytest.raises(UserError, match=f"--committee={re.escape(str(path))}:? .*{message}"):
        load_committee(path, trained_run(run))


def test_a_file_that_is_no_committee_ends_an_export_with_status_2_before_anything_is_made(run, tmp_path):
    (tmp_path / "other.json").write_text("{}")
    text = script(
        "export.py", f"--workdir={run}", f"--out={tmp_path / 'o'}", f"--committee={tmp_path / 'other.json'}", status=2
    )
    assert "other.json is not a committee.json" in text and "Traceback" not in text and not (tmp_path / "o").exists()


def test_gates_that_were_fitted_to_other_weights_are_stale(run, stored, tmp_path, caplog):
    other = (stored.members[0], dataclasses.replace(stored.members[1], sha256="0" * 64))
    save(tmp_path / "old.json", dataclasses.replace(stored, members=other))
    assert load_committee(tmp_path / "old.json", trained_run(run)) == stored.committee
    assert "the gates are stale: member branch_0 is not the one they were fitted to" in caplog.text
