"""Tests of the choice of kinds: how much accuracy a file may lose, and which kind replaces one that loses more."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from dico_tf.errors import UserError
from dico_tf.export import choose_kinds, converter_process
from dico_tf.export.choose_kinds import Conversions
from dico_tf.export.comparison_images import ComparisonImages
from dico_tf.export.formats.format import Job, TimedLogits
from dico_tf.export.formats.tflite import TFLite

LABELS = np.arange(100) % 4
RIGHT = np.eye(4, dtype=np.float32)[LABELS]


def losing(points: int) -> np.ndarray:
    """Logits that are wrong for as many of the hundred images."""
    logits = RIGHT.copy()
    logits[:points] = np.roll(logits[:points], 1, axis=1)
    return logits


MATERIAL = ComparisonImages(
    split="validation", images=np.zeros((100, 2, 2, 3), np.uint8), labels=LABELS, logits=np.stack([RIGHT, RIGHT], 1)
)


@pytest.fixture
def fake(tmp_path):
    """Makes MemberFiles with given logits by file name; records the kinds that were written and the sentences."""

    def start(answers: dict[str, np.ndarray]):
        written, sentences = [], []

        class Fake(TFLite):
            def write(self, jobs, batch, calibration):
                for job in jobs:
                    written.extend(job.files)
                    for path in job.files.values():
                        path.parent.mkdir(exist_ok=True)
                        path.write_bytes(b"weights")
                return {}

            def open(self, path):
                return lambda images, advance: TimedLogits(answers[path.stem], 1.5)

        def files(conversions: Conversions, name: str = "branch_0", expected: np.ndarray = RIGHT, material=MATERIAL):
            chosen = choose_kinds.MemberFiles(
                format=Fake(),
                member=SimpleNamespace(name=name),
                saved_model=tmp_path,
                folder=tmp_path,
                conversions=conversions,
                images=material,
                expected=expected,
                say=sentences.append,
            )
            choose_kinds.write([chosen])
            return chosen

        return files, written, sentences

    return start


@pytest.fixture
def files(fake, tmp_path):
    """For a branch whose kinds lose these points: chosen files, kinds written, files left, sentences."""

    def make(lost: dict[str, int], **settings):
        files, written, sentences = fake({f"branch_0_{kind}": losing(points) for kind, points in lost.items()})
        chosen = {converted.kind: converted for converted in files(Conversions(**settings)).remove_others()}
        return chosen, written, sorted(path.name for path in (tmp_path / "tflite").iterdir()), sentences

    return make


def test_what_loses_no_more_than_allowed_is_kept(files):
    chosen, written, names, sentences = files({"float32": 0, "int8": 1}, kinds=("int8", "float32"))
    assert list(chosen) == written == ["float32", "int8"] and sentences == []
    assert names == ["branch_0_float32.tflite", "branch_0_int8.tflite"]
    assert chosen["int8"].metrics["top1"] == pytest.approx(0.99) and chosen["int8"].metrics["same_class"] == 0.99
    assert chosen["int8"].metrics["milliseconds"] == 1.5


def test_a_loss_that_may_be_chance_is_kept_and_reported(files):
    chosen, written, names, sentences = files({"int8": 2}, kinds=("int8",))
    assert list(chosen) == written == ["int8"] and names == ["branch_0_int8.tflite"]
    assert len(sentences) == 1 and sentences[0].startswith(
        "branch_0 as int8 loses 2.00 points of accuracy, not significantly more than --max_accuracy_drop=1 (p = 0.56): "
        "of 100 validation images 2 became wrong and 0 right"
    )
    assert sentences[0].endswith("kept")
    assert {name: chosen["int8"].metrics[name] for name in ("lost", "won")} == {"lost": 2, "won": 0}
    assert chosen["int8"].metrics["p_value"] == pytest.approx(0.75**2)


def test_the_next_safer_kind_takes_the_place_of_a_significant_loss(files):
    chosen, written, names, sentences = files(
        {"float32": 0, "int8": 20, "dynamic": 10, "float16": 0}, kinds=("float32", "int8")
    )
    assert (list(chosen), written) == (["float32", "float16"], ["float32", "int8", "dynamic", "float16"])
    assert names == ["branch_0_float16.tflite", "branch_0_float32.tflite"]
    assert (
        len(sentences) == 2
        and "branch_0 as int8 loses 20.00 points of accuracy, significantly more than" in sentences[0]
    )
    assert sentences[0].endswith("exporting dynamic instead of int8")
    assert sentences[1].endswith("exporting float16 instead of dynamic")


def test_a_kind_that_is_there_already_is_not_made_twice(files):
    chosen, written, _, _ = files({"int8": 9, "dynamic": 9, "float16": 9, "float32": 0}, kinds=("int8", "float32"))
    assert (list(chosen), written) == (["float32"], ["float32", "int8", "dynamic", "float16"])


def test_float32_has_nothing_safer_to_fall_back_to(files):
    with pytest.raises(UserError, match=r"float32 loses 12\.00 points"):
        files({"float32": 12}, kinds=("float32",))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_answer_that_is_no_number_is_refused_however_accurate(fake, value):
    answers = RIGHT.copy()
    answers[5, LABELS[5]] = value  # as large as can be, so the class is right
    files, _, sentences = fake({"branch_0_float16": answers, "branch_0_float32": RIGHT})
    assert [file.kind for file in files(Conversions(kinds=("float16",))).remove_others()] == ["float32"]
    assert sentences[0].startswith("branch_0 as float16 gives NaN or infinity for some of 100 validation images")


def test_all_branches_fall_back_where_they_lose_too_much_together(fake):
    """Ten images that one branch alone knows, so surely that both together are right; its int8 is less sure."""
    unsure, sure, timid = losing(10), RIGHT.copy(), RIGHT.copy()
    sure[:10] *= 5
    timid[:10] *= 0.5
    answers = {"branch_0_int8": unsure, "branch_1_int8": timid, "branch_0_dynamic": unsure, "branch_1_dynamic": sure}
    files, _, sentences = fake(answers)
    conversions = Conversions(kinds=("int8",))
    material = dataclasses.replace(MATERIAL, logits=np.stack([unsure, sure], 1))
    branches = [files(conversions, "branch_0", unsure, material), files(conversions, "branch_1", sure, material)]
    scores = choose_kinds.measure_ensemble(branches, "logits")
    assert scores["int8"]["top1"] == 1 and scores["int8"]["files"] == {"branch_0": "dynamic", "branch_1": "dynamic"}
    assert [[file.kind for file in each.remove_others()] for each in branches] == [["dynamic"], ["dynamic"]]
    assert len(sentences) == 1 and "the ensemble as int8 loses 10.00 points" in sentences[0]


@pytest.mark.slow
def test_a_network_that_litert_does_not_know_is_refused_by_the_operation(tmp_path):
    import tensorflow as tf

    class Odd(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 3, 3, 3), tf.float32, name="image")])
        def serve(self, image):
            return {"logits": tf.linalg.inv(image)[:, 0]}

    odd = Odd()
    tf.saved_model.save(odd, str(tmp_path / "model"), signatures={"serving_default": odd.serve})
    errors = converter_process.convert(
        TFLite(), [Job(None, tmp_path / "model", {"float32": tmp_path / "odd_float32.tflite"})]
    )
    assert list(errors) == [tmp_path / "odd_float32.tflite"]
    assert "MatrixInverse" in errors[tmp_path / "odd_float32.tflite"]
    assert not list(tmp_path.glob("*.json"))
