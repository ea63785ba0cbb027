"""Cubic resizing against what PyTorch answers, and tables of places that are carried to another grid."""

import numpy as np
import pytest

from dico_tf.layers import bicubic
from dico_tf.layers.tokens import ClassToken, Positions, fitted

MAP = np.array([[((3 * i * i + 5 * j * j + 2 * i * j) % 11) / 4 for j in range(3)] for i in range(4)])
# torch.nn.functional.interpolate(mode="bicubic", align_corners=False) of it in float64, PyTorch 2
LARGER = [
    [-0.197020773, 0.065201601, 0.509477749, 1.141493056, 1.769955155, 2.20801319, 2.467488409],
    [0.263005649, 0.599945335, 1.28298105, 1.875, 1.955357143, 1.742984694, 1.684334001],
    [0.517795982, 0.974512573, 1.975841229, 2.630208333, 2.24977223, 1.440195275, 1.096855682],
    [-0.012473764, 0.548066995, 1.724990889, 2.630208333, 2.50062257, 1.866640853, 1.627125429],
    [0.575004555, 0.850856414, 1.430575802, 1.875, 1.807762391, 1.492073615, 1.372335095],
    [1.358158963, 1.315884911, 1.245173814, 1.141493056, 1.034259091, 0.957329881, 0.912308673],
]
SMALLER = [[0.390315303, 1.992528845], [1.032318115, 1.840911865], [1.183935095, 1.198909053]]


@pytest.mark.parametrize("golden", [LARGER, SMALLER], ids=["larger", "smaller"])
def test_a_map_is_resized_as_pytorch_does_it(golden):
    sides = np.shape(golden)
    channels = np.stack([MAP, 1 - MAP], axis=-1)
    found = bicubic.resized(channels, sides)
    assert found[..., 0] == pytest.approx(np.array(golden), abs=1e-8)
    assert found[..., 1] == pytest.approx(1 - np.array(golden), abs=1e-8)


def test_a_map_of_the_same_size_stays_as_it_is():
    assert np.array_equal(bicubic.resized(MAP[..., None], (4, 3))[..., 0], MAP)


@pytest.mark.parametrize("sides", [(28, 28), (24, 24), (9, 16), (7, 7)])
def test_places_of_a_vit_are_resized_as_pytorch_does_it(sides):
    torch = pytest.importorskip("torch", reason="PyTorch, the other side of the comparison, is not installed")
    table = np.random.default_rng(0).normal(size=(14, 14, 8)).astype(np.float32)
    theirs = torch.nn.functional.interpolate(
        torch.tensor(table.transpose(2, 0, 1)[None]), size=sides, mode="bicubic", align_corners=False
    )
    ours = bicubic.resized(table, sides)
    assert ours.dtype == np.float32
    assert ours == pytest.approx(theirs[0].numpy().transpose(1, 2, 0), abs=1e-4)


def test_only_tables_of_places_are_fitted_and_the_class_token_is_not_touched():
    places, token = Positions(), ClassToken(placed=True)
    places.build((None, 6, 7, 5)), token.build((None, 42, 5))
    table = np.random.default_rng(1).normal(size=(4, 3, 5)).astype(np.float32)
    assert np.array_equal(fitted(places.table, table), bicubic.resized(table, (6, 7)))
    assert fitted(places.table, table[..., :4]).shape == (4, 3, 4)  # of another width: refused by whoever assigns it
    for variable in (token.token, token.place):
        assert np.array_equal(fitted(variable, table[0, 0]), table[0, 0])
