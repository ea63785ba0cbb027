"""The benchmark of lost members: every set that remains, and its curve as a picture."""

import numpy as np

from benchmarks.members_lost import curve, draw


def test_every_set_that_remains_is_averaged_and_drawn(tmp_path):
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 50)
    logits = random.normal(size=(50, 3, 4)) + 2 * np.eye(4)[labels][:, None] * [[[1.0], [0.5], [0.1]]]
    points = curve(logits, labels, "logits")
    assert [(lost, len(shares)) for lost, shares in points] == [(0, 1), (1, 3), (2, 3)]
    assert points[2][1] == [(logits[:, k].argmax(1) == labels).mean() for k in range(3)]
    draw(points, tmp_path / "curve.svg")
    first = (tmp_path / "curve.svg").read_text()
    assert all(f">{100 * np.mean(shares):.1f}<" in first for _, shares in points) and "branches lost" in first
    draw(points, tmp_path / "curve.svg")
    assert (tmp_path / "curve.svg").read_text() == first
