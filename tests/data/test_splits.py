from pathlib import Path

import numpy as np
import pytest

from dico_tf.data.lazy_images import ImageFiles, LazyImages
from dico_tf.data.memory_budget import MemoryBudget
from dico_tf.data.source import Split
from dico_tf.data.splits import carve, nested_order, reduced, stratified
from dico_tf.errors import UserError


def _split(size):
    images = np.arange(size, dtype=np.uint8)[:, None, None, None].repeat(3, axis=-1)
    return Split(images=images, labels=np.arange(size) % 7, ids=[f"image_{n}" for n in range(size)])


def test_carved_images_are_in_one_part_only_and_none_is_lost():
    whole = _split(200)
    train, validation = carve(whole, 15, seed=4)
    assert (train.size, validation.size) == (185, 15)
    assert set(train.ids) | set(validation.ids) == set(whole.ids)
    assert not set(train.ids) & set(validation.ids)


def test_every_carved_image_keeps_its_label_and_id():
    for part in carve(_split(200), 15, seed=4):
        numbers = part.images[:, 0, 0, 0].astype(int)
        assert np.array_equal(part.labels, numbers % 7)
        assert part.ids.tolist() == [f"image_{n}" for n in numbers]


def test_the_seed_decides_which_images_are_carved():
    first, again, other = (carve(_split(200), 20, seed)[1].ids.tolist() for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize(("size", "requested", "given"), [(200, 5000, 20), (95, 9, 9), (95, 10, 9), (200, 1, 1)])
def test_at_most_a_tenth_is_carved(size, requested, given):
    assert carve(_split(size), requested, 0)[1].size == given


@pytest.mark.parametrize(("size", "requested"), [(200, 0), (9, 5)])
def test_carving_nothing_leaves_the_split_as_it_is(size, requested):
    whole = _split(size)
    assert carve(whole, requested, 0) == (whole, None)


def test_files_are_carved_without_being_read():
    lazy_images = LazyImages(
        ImageFiles(Path("/nowhere"), [f"{n}.jpg" for n in range(40)]), np.ones((40, 2)), 8, 8, MemoryBudget(0)
    )
    train, validation = carve(Split(lazy_images=lazy_images, labels=[0] * 40, ids=range(40)), 4, 0)
    assert sorted([*train.numbers, *validation.numbers]) == list(range(40))
    assert (train.image_size, validation.size) == (8, 4)


def test_a_stratified_draw_takes_the_same_share_of_every_class_and_never_its_last_image():
    labels = np.repeat([0, 1, 2, 3], [100, 50, 2, 1])
    rest, chosen = stratified(labels, 0.2, seed=0)
    assert np.bincount(labels[chosen], minlength=4).tolist() == [20, 10, 1, 0]
    assert np.array_equal(np.sort(np.concatenate([rest, chosen])), np.arange(153))


def _labelled(*counts):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    images = np.zeros((len(labels), 1, 1, 3), np.uint8)
    return Split(images=images, labels=labels, ids=np.arange(len(labels)).astype(str))


class _Masks:
    size = 50

    def subset(self, positions):
        return positions


def test_a_smaller_subset_is_part_of_a_larger_one_and_follows_the_seed():
    for split in (_labelled(30, 50, 20), _Masks()):
        first, again, other = (nested_order(split, seed).tolist() for seed in (1, 1, 2))
        assert first == again != other
        assert sorted(first) == list(range(split.size)), "so that the first n are in the first n + 1"


@pytest.mark.parametrize("count", range(10, 201, 10))
def test_equal_classes_have_equal_shares_of_a_subset(count):
    part = reduced(_labelled(*[20] * 10), count, 0.0, 10, seed=3)
    assert np.bincount(part.labels).tolist() == [count // 10] * 10


def test_classes_of_other_sizes_have_their_share_of_a_subset_and_at_least_one_image():
    split = _labelled(600, 300, 99, 1)
    for count in (4, 20, 100, 500, 999):
        counts = np.bincount(reduced(split, count, 0.0, 4, seed=0).labels, minlength=4)
        assert counts.sum() == count and counts.min() >= 1
        assert abs(counts - np.array([600, 300, 99, 1]) * count / 1000).max() <= 1.5, count


def test_fewer_images_than_classes_are_all_of_other_classes():
    assert sorted(np.bincount(reduced(_labelled(*[9] * 7), 5, 0.0, 7, seed=0).labels, minlength=7)) == [0, 0] + [1] * 5


def test_a_subset_keeps_the_stored_order_and_0_is_everything():
    split = _labelled(5, 7)
    positions = reduced(split, 6, 0.0, 2, seed=0).ids.astype(int)
    assert positions.tolist() == sorted(positions) and len(positions) == 6
    assert reduced(split, 0, 0.0, 2, seed=0) is split
    assert reduced(_Masks(), 5, 0.0, 2, seed=0).tolist() == sorted(nested_order(_Masks(), 0)[:5])


def test_more_images_than_there_are_is_refused_with_their_number():
    assert reduced(_labelled(5, 7), 12, 0.0, 2, seed=0).size == 12
    with pytest.raises(UserError, match=r"^--train_images=13 is more than the 12 training images: give at most"):
        reduced(_labelled(5, 7), 13, 0.0, 2, seed=0)


def test_a_share_of_the_labels_is_wrong_and_every_wrong_class_is_as_likely():
    split = _labelled(*[1000] * 4)
    noisy = reduced(split, 0, 0.3, 4, seed=5)
    wrong = noisy.labels != split.labels
    assert wrong.sum() == 1200 and np.array_equal(noisy.ids, split.ids)
    steps = np.bincount((noisy.labels - split.labels)[wrong] % 4, minlength=4)
    assert steps[0] == 0 and abs(steps[1:] - 400).max() < 60
    assert abs(np.bincount(split.labels[wrong]) - 300).max() < 60
    assert noisy.labels.tolist() == reduced(split, 0, 0.3, 4, seed=5).labels.tolist()
    assert noisy.labels.tolist() != reduced(split, 0, 0.3, 4, seed=6).labels.tolist()


def test_an_image_has_the_same_label_in_every_subset_and_stays_wrong_with_more_noise():
    split = _labelled(60, 40, 30)
    whole, part, noisier = (reduced(split, n, share, 3, seed=1) for n, share in ((0, 0.2), (50, 0.2), (0, 0.6)))
    assert part.labels.tolist() == whole.labels[part.ids.astype(int)].tolist()
    assert part.ids.tolist() == reduced(split, 50, 0.0, 3, seed=1).ids.tolist(), "chosen by the true classes"
    wrong = whole.labels != split.labels
    assert np.array_equal(noisier.labels[wrong], whole.labels[wrong])


def test_a_single_class_has_no_wrong_label():
    with pytest.raises(UserError, match=r"^--label_noise=0.5 needs at least two classes"):
        reduced(_labelled(5), 0, 0.5, 1, seed=0)


def test_files_get_wrong_labels_and_are_left_out_without_being_read():
    lazy_images = LazyImages(
        ImageFiles(Path("/nowhere"), [f"{n}.jpg" for n in range(40)]), np.ones((40, 2)), 8, 8, MemoryBudget(0)
    )
    split = Split(lazy_images=lazy_images, labels=[0, 1] * 20, ids=range(40))
    part = reduced(split, 10, 0.5, 2, seed=0)
    assert part.numbers.tolist() == part.ids.astype(int).tolist() and part.size == 10
    assert part.labels.tolist() == reduced(split, 0, 0.5, 2, seed=0).labels[part.numbers].tolist()
