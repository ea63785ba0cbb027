"""mIoU over a whole set against sums by hand, and the files that keep what branches said."""

import json

import numpy as np
import pytest

from dico_tf.data.segmentation import VOID
from dico_tf.errors import UserError
from dico_tf.evaluation import segmentation, segmentation_predictions
from dico_tf.evaluation.segmentation import ConfusionCounts, confusion, enlarged, iou, miou
from dico_tf.evaluation.segmentation_predictions import SegmentationPredictions
from dico_tf.evaluation.table import evaluation_table

DRAW = np.random.default_rng(0)
MASKS = DRAW.integers(0, 4, (6, 16, 24)).astype(np.uint8)
MASKS[:, :3] = VOID
MASKS[2] = VOID
LOGITS = DRAW.normal(size=(6, 2, 4, 6, 5)).astype(np.float16)  # class 4 is never the truth


def by_hand(answers, masks, classes):
    """IoU of each class from sets of pixels, one class after another."""
    values = []
    for c in range(classes):
        predicted_c, true = (answers == c) & (masks != VOID), masks == c
        union = (predicted_c | true).sum()
        values.append((predicted_c & true).sum() / union if union else None)
    return values


def tallied(order=range(6)):
    tally = ConfusionCounts(2, 5)
    for n in order:
        tally.add(LOGITS[n], MASKS[n])
    return tally


def evaluated(tally):
    names = ["sky", "road", "car", "sign", "bus"]
    return segmentation.evaluation(tally, "logits", "test", "validation", "raw", names, images=6, frame=[16, 24])


def test_the_example_has_one_half():
    counts = confusion([0, 1, 1, 1], [0, 1, VOID, 2], 3)
    assert counts.tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0]]
    assert iou(counts) == [1, 0.5, 0] and miou(counts) == 0.5


def test_a_class_that_occurs_nowhere_is_left_out_of_the_mean():
    counts = confusion([0, 0, 3], [0, 0, 3], 5)
    assert iou(counts) == [1, None, None, 1, None] and miou(counts) == 1
    assert miou(confusion([0], [VOID], 5)) is None


def test_scores_are_those_of_sets_of_pixels():
    tally = tallied()
    large = enlarged(LOGITS, (16, 24))
    for s in range(2):
        expected = by_hand(large[:, s].argmax(-1), MASKS, 5)
        assert iou(tally.branches[s]) == pytest.approx(expected)
    together = by_hand(large.mean(1).argmax(-1), MASKS, 5)
    evaluation = evaluated(tally)
    assert evaluation["ensemble"]["iou"] == pytest.approx(together)
    assert evaluation["ensemble"]["miou"] == pytest.approx(np.mean(together))
    right = (large.mean(1).argmax(-1) == MASKS)[MASKS != VOID].mean()
    assert evaluation["ensemble"]["pixel_accuracy"] == pytest.approx(right)
    different = (large[:, 0].argmax(-1) != large[:, 1].argmax(-1))[MASKS != VOID].mean()
    assert evaluation["diversity"]["disagreement"] == pytest.approx(different)


def test_the_order_of_images_and_what_is_said_of_void_change_nothing():
    one, other = evaluated(tallied()), evaluated(tallied([5, 0, 3, 1, 4]))  # image 2 is void
    assert one == other
    assert json.loads(json.dumps(one)) == one


def test_enlarging_by_nothing_changes_nothing_and_one_place_fills_all():
    assert np.array_equal(enlarged(LOGITS, (4, 6)), LOGITS.astype(np.float32))
    point = enlarged(LOGITS[:, :, :1, :1], (5, 3))
    assert np.allclose(point, LOGITS[:, :, :1, :1].astype(np.float32))


@pytest.mark.parametrize("sides", [(16, 24), (33, 7), (5, 9)])
def test_enlarging_is_tensorflow_s_bilinear(sides):
    import tensorflow as tf

    expected = tf.image.resize(LOGITS[:, 0].astype(np.float32), sides).numpy()
    assert enlarged(LOGITS[:, 0], sides) == pytest.approx(expected, abs=1e-5)


def test_classes_that_do_not_exist_are_refused():
    with pytest.raises(UserError, match="masks: expected classes 0 to 2, got 0 to 7"):
        confusion([0, 0], [0, 7], 3)
    with pytest.raises(UserError, match="must have the same shape"):
        confusion([0], [0, 1], 3)


def test_the_table_shows_every_class_and_branch():
    table = evaluation_table(evaluated(tallied()))
    assert "test: 6 images" in table and "mIoU %" in table and "of the pixels" in table
    lines = {line.split()[0]: line.split() for line in table.splitlines() if line}
    assert len(lines["sign"]) == 4 and lines["bus"][1:] == ["0.00"] * 3


def predicted():
    confusions = np.zeros((3, 5, 5), np.int64)
    sizes = np.full((6, 2), (16, 24), np.int32)
    return SegmentationPredictions(LOGITS, MASKS, sizes, np.array([f"a/{n}.jpg" for n in range(6)]), confusions)


def test_predictions_are_read_as_they_were_written(tmp_path):
    segmentation_predictions.write(tmp_path / "predictions.npz", predicted())
    stored = segmentation_predictions.read(tmp_path / "predictions.npz")
    for mine, other in zip(stored, predicted(), strict=True):
        assert mine.dtype == other.dtype and np.array_equal(mine, other)
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.npz"]


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "predictions.npz"
    with pytest.raises(UserError, match="evaluate the run first"):
        segmentation_predictions.read(path)
    np.savez(path, logits=np.zeros((2, 2, 3), np.float32), labels=np.zeros(2, int), ids=np.array(["a", "b"]))
    with pytest.raises(UserError, match="not a file of segmentation predictions: it lacks masks, sizes, confusion"):
        segmentation_predictions.read(path)
    with pytest.raises(UserError, match=r"sizes have shape \[5, 2\], expected \[6, 2\]"):
        segmentation_predictions.write(path, predicted()._replace(sizes=np.zeros((5, 2), np.int32)))
    with pytest.raises(UserError, match=r"expected \[N, S, h, w, C\]"):
        segmentation_predictions.write(path, predicted()._replace(logits=LOGITS[0]))
    with pytest.raises(UserError, match=r"masks have shape \[6\], expected \[N, H, W\]"):
        segmentation_predictions.write(path, predicted()._replace(masks=np.zeros(6, np.uint8)))
