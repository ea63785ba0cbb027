"""Equations between widths hold for every choice of free widths."""

import random

import pytest

from dico_tf.divide.networks.reshaping import ReshapeError, reshaped
from dico_tf.divide.networks.widths import Axis, Width, cut, evenly, fixed, free, freeze, groups, join, side_by_side


def choose(axes: list[Axis], draw: random.Random) -> dict[Width, int]:
    """Return a random size for every free width."""
    roots = {width for axis in axes for width, _ in axis.roots() if width.free}
    return {width: draw.randint(1, width.size) for width in roots}


def test_joined_axes_are_equally_wide_whatever_is_chosen():
    a, b, c, d = free(64), free(32), free(32), free(64)
    join(side_by_side([a, b]), side_by_side([c, d]))
    draw = random.Random(0)
    for _ in range(20):
        widths = choose([a, b, c, d], draw)
        assert a.value(widths) + b.value(widths) == c.value(widths) + d.value(widths)
    assert len({width for axis in (a, b, c, d) for width, _ in axis.roots()}) == 3  # a = c + p, d = p + b


def test_one_width_joined_with_two_is_both_of_them():
    a, b, total = free(10), free(6), free(16)
    join(total, side_by_side([a, b]))
    (p, _), (q, _) = total.roots()
    assert total.value({p: 7, q: 2}) == 9 and (a.value({p: 7, q: 2}), b.value({p: 7, q: 2})) == (7, 2)


def test_a_multiple_ties_its_factor():
    a, b = free(12), free(8)
    join(a.each(2), b.each(3))  # 24 = 24: a = 3 p, b = 2 p
    ((root, three),), ((same, two),) = a.roots(), b.roots()
    assert root is same and (three, two, root.size) == (3, 2, 4)


def test_what_is_joined_with_something_fixed_is_fixed():
    a, b = free(10), free(6)
    join(side_by_side([a, b]), fixed(16))
    assert not a.free and not b.free and (a.size, b.size) == (10, 6)


def test_a_piece_of_something_repeated_ties_every_repetition():
    a = free(6)
    head, tail = cut(a.each(3), [9, 9])
    draw = random.Random(0)
    for _ in range(20):
        widths = choose([a], draw)
        assert head.value(widths) + tail.value(widths) == 3 * a.value(widths)


def test_groups_stay_whole():
    a, b = free(64), free(32)
    both = side_by_side([a, b])
    count = groups(both, 8)
    draw = random.Random(0)
    for _ in range(20):
        widths = choose([both], draw)
        assert both.value(widths) == 8 * count.value(widths)
    assert count.size == 12


def test_groups_that_reach_from_one_width_into_the_next_fix_them():
    both = side_by_side([free(10), free(6)])
    assert groups(both, 4).size == 4 and not both.free


def test_a_grid_of_channels_counts_all_that_come_at_once():
    a = free(64)
    groups(a, 2)
    ((width, _),) = a.roots()
    assert [2 * width.narrowed(scale, False) for scale in (0.7, 0.2, 0.01)] == [44, 12, 4]
    assert [2 * width.narrowed(scale, True) for scale in (0.7, 0.2, 0.01)] == [44, 12, 2]


@pytest.mark.parametrize(
    ("size", "scale", "width"), [(64, 0.7, 44), (16, 0.7, 12), (10, 0.71, 7), (6, 0.1, 3), (1, 0.1, 1)]
)
def test_a_width_is_rounded_by_an_eighth_at_most_and_stays_half_of_a_narrow_one(size, scale, width):
    assert Width(size, free=True).narrowed(scale, fine=False) == width


@pytest.mark.parametrize("fine", [False, True])
def test_narrowing_never_widens_and_grows_with_the_scale(fine):
    for size in range(1, 70):
        steps = [Width(size, free=True).narrowed(n / 200, fine) for n in range(1, 201)]
        assert steps == sorted(steps) and steps[0] >= 1 and steps[-1] == size


@pytest.mark.parametrize("seed", range(60))
def test_any_sequence_of_ties_holds_for_any_choice(seed):
    """Random joins, cuts, groups and even pieces of random axes against their definitions."""
    draw = random.Random(seed)
    plain = [free(draw.choice([4, 6, 8, 12, 24])) for _ in range(6)]
    axes, rules = list(plain), []
    for _ in range(8):
        kind = draw.choice(["concatenate", "multiply", "join", "cut", "evenly", "groups"])
        axis = draw.choice(axes)
        if kind == "concatenate" and axis.size < 60:
            axes.append(side_by_side([axis, draw.choice(axes)]))
        elif kind == "multiply" and axis.size < 60:
            axes.append(axis.each(draw.choice([2, 3])))
        elif kind == "join":
            for other in axes:
                if other.size == axis.size:
                    join(axis, other)
                    rules.append(lambda w, a=axis, b=other: a.value(w) == b.value(w))
        elif kind == "cut" and axis.size > 1:
            at = draw.randint(1, axis.size - 1)
            pieces = cut(axis, [at, axis.size - at])
            axes += pieces
            rules.append(lambda w, a=axis, p=pieces: a.value(w) == sum(x.value(w) for x in p))
        elif kind == "evenly":
            count = draw.choice([n for n in (2, 3, 4) if axis.size % n == 0] or [1])
            piece = evenly(axis, count)
            rules.append(lambda w, a=axis, p=piece, n=count: a.value(w) == n * p.value(w))
        elif kind == "groups":
            members = draw.choice([n for n in (2, 3, 4) if axis.size % n == 0] or [1])
            count = groups(axis, members)
            rules.append(lambda w, a=axis, c=count, n=members: a.value(w) == n * c.value(w))
    whole = [axis.value({}) for axis in plain]
    assert whole == [axis.size for axis in plain]
    for _ in range(5):
        widths = choose(axes, draw)
        assert all(rule(widths) for rule in rules)
        assert all(1 <= axis.value(widths) <= axis.size for axis in axes)


@pytest.mark.parametrize(
    ("before", "after", "at_half"),
    [
        ([7, 7, "64"], [49 * 64], [49 * 32]),
        (["64"], [1, 1, 64], [1, 1, 32]),
        ([1, 1, "64"], [64], [32]),
        (["64"], [4, 16], [4, 8]),
        ([4, "16"], [64], [32]),
        (["16", 4], [64], [32]),
        ([8, 8, "6"], [64, 6], [64, 3]),
        ([64, "6"], [8, 8, 6], [8, 8, 3]),
        ([4, 9, "64"], [4, 9, 8, 8], [4, 9, 8, 4]),
        ([None, None, "64"], [None, None, 8, 8], [None, None, 8, 4]),
    ],
)
def test_a_reshaped_width_narrows_with_what_it_came_from(before, after, at_half):
    axes = [free(int(size)) if isinstance(size, str) else fixed(size) for size in before]
    result = reshaped(axes, after)
    assert [axis.size for axis in result] == after
    roots = {width for axis in axes for width, _ in axis.roots() if width.free}
    assert [axis.value({w: w.size // 2 for w in roots}) for axis in result] == at_half


@pytest.mark.parametrize(
    ("axes", "after", "reason"),
    [
        ([free(6), free(8)], [48], "two axes whose widths may change are merged"),
        ([fixed(None), free(64)], [None], "reshaped together with one of open size"),
        ([fixed(None), free(8)], [None, 16], "reshaped together with one of open size"),
    ],
)
def test_a_width_that_cannot_be_reshaped_is_refused_with_its_reason(axes, after, reason):
    with pytest.raises(ReshapeError, match=reason):
        reshaped(axes, after)


def test_freezing_an_axis_fixes_all_it_is_made_of():
    a, b = free(8), free(4)
    freeze(side_by_side([a, b.each(2)]))
    assert not a.free and not b.free
