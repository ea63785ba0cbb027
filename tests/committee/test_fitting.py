import numpy as np
import pytest

from dico_tf.committee import fitting
from tests.committee.generated import pool

FEW = pool(600, members=2, classes=4)


def test_a_temperature_undoes_a_scale_and_weights_add_up_to_one():
    logits = FEW.logits["m1"].astype(np.float64)
    own = fitting.temperature(logits, FEW.labels)
    assert fitting.temperature(4 * logits, FEW.labels) == pytest.approx(4 * own, rel=0.02)
    found = fitting.weights(FEW.stacked(FEW.members), FEW.labels)
    assert found.sum() == pytest.approx(1) and found[1] > found[0] > 0


def test_of_many_images_class_by_class_some_of_every_class_are_fitted_to(monkeypatch):
    """The last class alone is far too sure; the first images are all of others."""
    order = np.argsort(FEW.labels, kind="stable")
    labels, logits = FEW.labels[order], FEW.logits["m0"][order].astype(np.float64)
    logits[labels == 3] *= 20
    whole = fitting.temperature(logits, labels)
    monkeypatch.setattr(fitting, "_MOST", 300)
    assert fitting.temperature(logits, labels) == pytest.approx(whole, rel=0.2)
