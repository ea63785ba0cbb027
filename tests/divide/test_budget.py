"""The budget solver finds the nearest point of a grid."""

import pytest

from dico_tf.divide.budget import refine, solve
from dico_tf.divide.rules import multiple


def widths(scale: float) -> tuple[int, ...]:
    return tuple(multiple(scale * width, 4) for width in (64, 128, 256, 512))


def cost(point: tuple[int, ...]) -> int:
    return sum(9 * a * b for a, b in zip((3, *point), point, strict=False)) + 10 * point[-1]


@pytest.mark.parametrize("splits", range(2, 33))
def test_the_nearest_point_of_the_path_is_found(splits):
    target = cost(widths(1.0)) / splits
    every = {widths(n / 20_000) for n in range(1, 20_001)}
    nearest = min(abs(cost(point) / target - 1) for point in every)
    result = solve(widths, cost, target)
    assert abs(result.distance) <= max(nearest, 0.004)
    assert result.cost == cost(result.point) == pytest.approx(target * (1 + result.distance))
    assert result.point == widths(result.scale)


def test_a_search_asks_for_few_costs():
    points = []
    solve(widths, lambda point: points.append(point) or cost(point), cost(widths(1.0)) / 3)
    assert len(points) <= 12 and len(points) == len(set(points))


def test_a_target_out_of_reach_gives_the_end_of_the_path():
    assert solve(widths, cost, 1.0).point == (4, 4, 4, 4)
    assert solve(widths, cost, 1e12).point == widths(1.0)
    assert solve(widths, cost, cost(widths(1.0))).distance == 0


@pytest.mark.parametrize(("width", "legal"), [(0.1, 4), (5.9, 4), (6.1, 8), (64, 64), (45.25, 44)])
def test_a_width_goes_to_the_nearest_multiple_of_four(width, legal):
    assert multiple(width, 4) == legal


def test_single_steps_reach_what_the_path_passes_by():
    def neighbours(point):
        return [(*point[:i], w, *point[i + 1 :]) for i in range(4) for w in (point[i] - 4, point[i] + 4) if w > 0]

    target = cost(widths(1.0)) / 30
    result = solve(widths, cost, target)
    assert abs(result.distance) > 0.03
    nearer = refine(result, neighbours, cost, target, 0.02)
    assert abs(nearer.distance) <= 0.02 and cost(nearer.point) == nearer.cost
    assert refine(nearer, lambda point: [], cost, target, 0.0) == nearer


def test_steps_lead_past_points_that_are_no_nearer():
    costs = [10, 9, 8, 12, 20]  # at places 0 to 4: from 0 the way to 4 leads away from 20 first
    result = refine(
        solve(lambda scale: 0, costs.__getitem__, 20),
        lambda n: [m for m in (n - 1, n + 1) if 0 <= m < 5],
        costs.__getitem__,
        20,
        0.02,
    )
    assert (result.point, result.distance) == (4, 0)
