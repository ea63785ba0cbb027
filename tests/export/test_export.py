"""From a trained run to its folder, as a user does it; what is in it answers as the run does."""

import json
import shutil

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from dico_tf.errors import UserError
from dico_tf.evaluation.averaging import combine
from dico_tf.files import manifest
from dico_tf.files.arrays import read_facts, read_part, write_folder
from dico_tf.files.tables import read_predictions
from tests.export.conftest import script

BRANCH = {"probabilities", "class_id", "logits"}
COMMITTEE = BRANCH | {"branch_probabilities", "disagreement"}


def images(count: int = 100) -> np.ndarray:
    """The run's validation images."""
    from dico_tf.config import from_values
    from dico_tf.data import source
    from dico_tf.training.run import splits

    config = from_values({"dataset": "digits", "validation": 100, "seed": 3})
    split = splits(config, source.load(config.data, 3))["validation"]
    return split.take(np.arange(count))


def answer(path, pictures: np.ndarray) -> dict[str, np.ndarray]:
    """By LiteRT, picture by picture."""
    call = Interpreter(model_path=str(path), num_threads=1).get_signature_runner("serving_default")
    results = [call(image=picture[None].astype(np.float32)) for picture in pictures]
    return {name: np.concatenate([one[name] for one in results]) for name in results[0]}


def test_every_file_is_there_and_is_the_one_described(described, exported):
    assert described.names == ["branch_0", "branch_1", "committee"] and described.branches == ["branch_0", "branch_1"]
    for name in described.names:
        assert described.member(name)["files"].keys() == {"saved_model", *manifest.LITERT}
        assert described.file(name, "saved_model").path == f"saved_model/{name}"
        for kind in manifest.LITERT:
            assert described.file(name, kind).path == f"tflite/{name}_{kind}.tflite"
            assert (exported / "tflite" / f"{name}_{kind}.tflite").is_file()
    manifest.verify(described)
    strangers = {"tflite/extra.tflite", "calibration.npy"} & {p.name for p in exported.rglob("*")}
    assert not strangers and not list(exported.glob(".making*"))


def test_the_manifest_says_what_a_device_must_know(described):
    content, branch = described.content, described.member("branch_0")
    assert content["input"] == {"name": "image", "dtype": "float32", "range": [0, 255], "size": 32, "short_side": 32}
    assert branch["input_size"] == branch["short_side"] == 32 and branch["class_names"] == list("0123456789")
    assert branch["params"] > 0 and described.member("committee")["params"] == 2 * branch["params"]
    assert described.member("committee")["macs"] == 2 * branch["macs"] > 0
    assert content["committee"] == {
        "members": ["branch_0", "branch_1"],
        "average": "logits",
        "temperature": 1.0,
        "cascade": None,
    }
    assert {"dico_tf", "tensorflow", "keras", "ai-edge-litert"} <= content["made_by"].keys()
    assert content["comparison"]["split"] == "validation" and content["comparison"]["images"] == 100
    assert content["comparison"]["calibration"]["images"] == 200
    assert len(content["comparison"]["calibration"]["sha256"]) == 64
    assert content["source"]["run"] == "digits" and content["source"]["splits"] == 2
    assert "/" not in json.dumps({key: content[key] for key in ("source", "made_by", "input")})  # no machine's folders


def test_what_each_file_loses_is_measured(described, run):
    logits = read_predictions(run / "predictions_validation.npz")
    for name in described.names:
        scores = described.member(name)["metrics"]
        assert scores.keys() == {"keras", "saved_model", *manifest.LITERT}
        for kind in manifest.LITERT:
            assert scores[kind].keys() >= {"top1", "nll", "ece", "largest_difference", "same_class", "milliseconds"}
            assert scores[kind]["milliseconds"] > 0
        assert scores["saved_model"]["largest_difference"] < 1e-4 and scores["float32"]["largest_difference"] < 1e-4
        assert scores["float32"]["top1"] == scores["keras"]["top1"] > 0.2  # chance is 0.1
        assert 1e-6 < scores["float16"]["largest_difference"] < scores["int8"]["largest_difference"]
    top1 = (combine(logits.logits).argmax(1) == logits.labels).mean()
    assert described.member("committee")["metrics"]["keras"]["top1"] == pytest.approx(top1, abs=0.03)  # bfloat16's
    together = described.content["comparison"]["ensemble_of_branches"]
    assert all(of["files"] == {"branch_0": kind, "branch_1": kind} for kind, of in together.items())
    assert together.keys() == set(manifest.LITERT) and together["float32"]["largest_difference"] < 1e-4
    sizes = [described.file("branch_0", kind).bytes for kind in ("float32", "float16", "dynamic")]
    assert sizes[0] > sizes[1] > sizes[2]


@pytest.mark.parametrize("kind", manifest.LITERT)
def test_a_litert_file_takes_raw_pixels_and_gives_every_output_in_float32(described, kind):
    pictures = images(20)
    for name in described.names:
        path = described.path(name, kind)
        interpreter = Interpreter(model_path=str(path))
        entry = interpreter.get_input_details()[0]
        assert entry["dtype"] is np.float32 and entry["shape_signature"].tolist() == [1, 32, 32, 3]
        assert not [d["op_name"] for d in interpreter._get_ops_details() if d["op_name"].startswith(("Flex", "CUSTOM"))]
        outputs, about = answer(path, pictures), described.member(name)["files"][kind]
        assert outputs.keys() == set(about["outputs"]) == (COMMITTEE if name == "committee" else BRANCH)
        assert about["inputs"] == ["image"] and about["batch"] == 1
        assert {v.dtype.name for k, v in outputs.items() if k != "class_id"} == {"float32"}
        assert outputs["class_id"].tolist() == outputs["logits"].argmax(1).tolist()
        for probabilities in (outputs["probabilities"], outputs.get("branch_probabilities", np.ones((20, 1)))):
            assert probabilities.sum(-1) == pytest.approx(1, abs=1e-5)  # int8 would round to 1/256


def test_the_committees_file_is_the_mean_of_the_branches_files(described):
    pictures = images(20)
    branches = [answer(described.path(name, "float32"), pictures) for name in described.branches]
    outputs = answer(described.path("committee", "float32"), pictures)
    assert outputs["logits"] == pytest.approx(np.mean([b["logits"] for b in branches], 0), rel=1e-6, abs=1e-6)
    apart = np.stack([b["probabilities"] for b in branches], 1)
    assert outputs["branch_probabilities"] == pytest.approx(apart, abs=1e-6)
    assert (outputs["disagreement"] >= 0).all()


def test_a_convolutional_branch_is_one_piece_for_the_fast_kernels(described):
    interpreter = Interpreter(model_path=str(described.path("branch_0", "float32")))
    interpreter.allocate_tensors()
    operations = interpreter._get_ops_details()
    assert [d["op_name"] for d in operations].count("DELEGATE") == 1


def test_an_exports_files_are_scored_as_the_run_is(run, exported):
    words = ["evaluate.py", f"--workdir={run}", "--split=validation"]
    own, theirs = script(*words), script(*words, f"--manifest={exported / 'manifest.json'}", "--format=int8")
    assert own.splitlines()[0] == theirs.splitlines()[0] and "branch_1" in theirs and own != theirs
    message = script(*words, f"--manifest={exported}", "--split=none", status=2)
    assert "--split=none" in message and "validation" in message


def test_the_readme_says_what_how_good_and_whose(exported):
    text = (exported / "README.md").read_text(encoding="utf-8")
    for words in (
        "wrn_tiny in 2 branches",
        "| committee | int8 |",
        "| branches together | int8 |",
        "CC BY 4.0",
        "## Limits",
        "On the test images",
    ):
        assert words in text


@pytest.mark.slow
def test_the_files_are_the_same_when_they_are_made_again(run, exported, described, tmp_path):
    kinds = ("float32", "int8")  # the others differ from float32 by what the converter does alone
    script(
        "export.py",
        f"--workdir={run}",
        f"--out={tmp_path}",
        "--quantise=none,int8",
        "--compare_images=0",
        "--formats=tflite",
    )
    again = manifest.load(tmp_path)
    assert again.id == described.id
    assert not (tmp_path / "saved_model").exists() and not (tmp_path / "tf_serving").exists()
    for name in described.names:
        for kind in kinds:
            assert again.file(name, kind).sha256 == described.file(name, kind).sha256, (name, kind)
        metrics = again.member(name)["metrics"]  # without labelled images, the exact file is held to the network alone
        assert metrics.keys() == {"float32"} and metrics["float32"].keys() == {"largest_difference", "milliseconds"}
        assert metrics["float32"]["largest_difference"] < 1e-4


@pytest.mark.parametrize("harm", ["tflite/branch_1_int8.tflite", "saved_model/committee/saved_model.pb"])
def test_a_tampered_export_is_refused(exported, tmp_path, harm):
    copy = tmp_path / "copy"
    shutil.copytree(exported, copy)
    manifest.verify(manifest.load(copy))
    content = bytearray((copy / harm).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / harm).write_bytes(content)
    with pytest.raises(UserError, match="is not the one exported"):
        manifest.verify(manifest.load(copy))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--quantise=int4"], "--quantise=int4 is unknown; did you mean int8?"),
        (["--formats=tflight"], "--formats=tflight is unknown; did you mean tflite?"),
        (["--keep_versions=0"], "--keep_versions=0 must be at least 1"),
        (["--workdir=nowhere"], "nowhere/config.json does not exist: nowhere is not the folder of a run"),
        (["--out="], "--out is needed"),
        (["--formats=saved_model", "--quantise=int8"], "--quantise=int8 makes LiteRT files: add tflite to --formats"),
        (["--max_accuracy_drop=nan"], "--max_accuracy_drop=nan must be at least 0"),
    ],
)
def test_a_users_mistake_is_said_in_a_sentence(run, tmp_path, words, message):
    assert message in script("export.py", f"--workdir={run}", f"--out={tmp_path / 'o'}", *words, status=2)
    assert not (tmp_path / "o" / "manifest.json").exists()


def damaged(run, folder, harm):
    shutil.copytree(run, folder)
    harm(folder)
    return folder


def _nan(folder):

    arrays, facts = read_part(folder / "best", "weights"), read_facts(folder / "best")
    next(iter(arrays.values()))[...] = np.nan
    write_folder(folder / "best", {"weights": arrays}, facts)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda run: (run / "config.json").write_text('{"format": 1}'), "config.json has no config or data of the run"),
        (lambda run: (run / "best/state.json").write_text('{"format": 1}'), "best/state.json lists no files"),
        (lambda run: (run / "best/weights.npz").write_bytes(b"PK"), "weights.npz is truncated or changed"),
        (lambda run: shutil.rmtree(run / "best"), "has no best/ yet"),
        (_nan, "best holds weights that are NaN or infinite: the training diverged"),
    ],
    ids=["config", "state", "weights", "best", "diverged"],
)
def test_a_damaged_run_is_refused_in_a_sentence(run, here, tmp_path, harm, message):
    folder = damaged(run, tmp_path / "run", harm)
    status, _, err = here("export", f"--workdir={folder}", f"--out={tmp_path / 'o'}")
    assert status == 2 and message in err
    assert not (tmp_path / "o").exists()


def test_a_folder_with_other_things_is_left_alone(run, here, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    status, _, err = here("export", f"--workdir={run}", f"--out={tmp_path}")
    assert status == 2 and "expected an empty folder or one that export.py made, got one with thesis.txt" in err
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
