"""train.py, evaluate.py and committee.py search write the page, with images from the training and the evaluation."""

import json

import numpy as np
import pytest

from dico_tf.files import tables
from tests.commands import command as here
from tests.commands import succeeded
from tests.report.pages import checked, headings
from tests.small_network import small_file

RECIPE = [
    "--dataset=digits", f"--model={small_file()}", "--splits=2", "--views=crop,crop+cutout:2", "--image_size=8",
    "--batch_size=256", "--epochs=1", "--warmup_epochs=0", "--validation=100", "--seed=3",
]  # fmt: skip
ALL = [
    "Summary", "Learning curves", "Accuracy against cost", "Reliability", "Disagreement of the branches", "Classes",
    "Views of each branch", "Images that the branches disagree on", "Surest mistakes", "Commands and versions",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "digits"
    output = succeeded("train", *RECIPE, f"--workdir={folder}")
    assert output.endswith(f"report: {folder / 'report.html'}\n")
    return folder


def page(folder):
    return checked((folder / "report.html").read_text(encoding="utf-8"))


def test_a_training_ends_with_a_page_of_everything(run):
    assert headings(page(run)) == ALL


def test_the_gallery_has_the_images_that_were_evaluated(run):
    from dico_tf.config import Data
    from dico_tf.data.digits import load

    source = load(Data(dataset="digits", image_size=8), 3)
    test = source.splits["test"]
    places = {name: n for n, name in enumerate(test.ids.tolist())}
    with np.load(run / "gallery_test.npz") as stored:
        gallery = dict(stored)
    positions = [places[name] for name in gallery["ids"].tolist()]
    np.testing.assert_array_equal(gallery["images"], test.take(np.array(positions)))
    logits, labels, _ = tables.read_predictions(run / "predictions_test.npz")
    np.testing.assert_array_equal(gallery["classes"][:, :-1], logits[positions].argmax(2))
    assert (gallery["classes"][gallery["mistakes"], -1] != labels[positions][gallery["mistakes"]]).all()
    with np.load(run / "views.npz") as stored:
        assert set(stored) == {"image", "branch_0", "branch_1"}
        assert all(view.shape == (8, 8, 8, 3) and view.dtype == np.uint8 for view in stored.values())
        assert (stored["branch_0"] != stored["branch_1"]).any()


def test_an_evaluation_writes_the_page_again_and_shows_committees_of_the_branches(run):
    succeeded("committee", "search", f"--workdir={run}", f"--out={run}/committee", "--percentiles=10", "--nofigures")
    content = json.loads((run / "committee/committee.json").read_text())
    (run / "report.html").unlink()
    (run / "gallery_test.npz").unlink()
    output = succeeded("evaluate", f"--workdir={run}")
    assert output.endswith(f"report: {run / 'report.html'}\n")
    root = page(run)
    assert headings(root) == ALL
    chosen = len(content["members"]) > 1
    assert ("of committee/committee.json" in root.text) == chosen


def test_a_page_that_cannot_be_written_does_not_fail_the_evaluation(run):
    (run / "report.html").unlink(missing_ok=True)
    (run / "report.html").mkdir()
    try:
        ended = here("evaluate", f"--workdir={run}", "--split=validation")
        assert ended.status == 0 and "warning: no report: cannot write" in ended.out.splitlines()[-1]
    finally:
        (run / "report.html").rmdir()
