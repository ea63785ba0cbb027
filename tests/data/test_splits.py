from pathlib import Path

import numpy as np
import pytest

from dico_tf.data.lazy_images import ImageFiles, LazyImages
from dico_tf.data.memory_budget import MemoryBudget
from dico_tf.data.source import Split
from dico_tf.data.splits import carve, stratified


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
