import io

import numpy as np
import pytest
from PIL import Image

from dico_tf.data import image_decoding
from dico_tf.data.epoch_order import plan
from dico_tf.data.pipeline import training_batches
from dico_tf.data.source import Split

BICUBIC = Image.Resampling.BICUBIC


def _photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth colours under detail of every size, as photos have them."""
    draw = np.random.default_rng(seed)
    whole = np.zeros((height, width, 3), np.float32)
    for cells, strength in ((4, 90), (16, 45), (64, 25), (256, 12)):
        noise = draw.uniform(0, 255, (cells, cells, 3)).astype(np.uint8)
        part = Image.fromarray(noise).resize((width, height), BICUBIC)
        whole += strength * (np.asarray(part, np.float32) / 127.5 - 1)
    return Image.fromarray(np.clip(whole + 128, 0, 255).astype(np.uint8))


@pytest.fixture
def photo(tmp_path):
    def write(width: int, height: int, name: str = "photo.jpg", seed: int = 0, **options):
        _photo(width, height, seed).save(tmp_path / name, quality=90, **options)
        return tmp_path / name

    return write


def _reference(path, box, size: int) -> np.ndarray:
    """Of the picture as its file has it: crop, then resize."""
    return np.asarray(Image.open(path).convert("RGB").crop(box).resize((size, size), BICUBIC))


@pytest.mark.parametrize("shape", [(500, 375), (375, 500), (1300, 160)])
def test_a_window_is_the_crop_of_the_original_resized(photo, lazy_images, shape):
    path = photo(*shape)
    boxes = np.array([[0, 0, *shape], [10, 20, 140, 150], [shape[0] - 90, shape[1] - 120, *shape]], np.float32)
    got = lazy_images([path], 96).windows(np.array([0]), boxes[None])[0]
    for view, box in zip(got, boxes.astype(int).tolist(), strict=True):
        np.testing.assert_array_equal(view, _reference(path, box, 96))


@pytest.mark.parametrize("window", [(0, 0, 3000, 2000), (700, 300, 1700, 1100), (1000, 1000, 1775, 1775)])
def test_a_large_photo_decoded_at_a_fraction_shows_nearly_the_same(photo, lazy_images, window):
    """Largest, middle and smallest windows of a photo of 6 megapixels: within half a level on the mean."""
    path = photo(3000, 2000)
    assert image_decoding.whole(str(path), 3 * 224).size == (1500, 1000)
    got = lazy_images([path], 224).windows(np.array([0]), np.float32(window)[None, None])[0, 0]
    difference = np.abs(got.astype(float) - _reference(path, window, 224))
    assert difference.mean() < 0.5


def test_a_window_is_counted_in_the_upright_picture(tmp_path, lazy_images):
    lying = np.zeros((40, 80, 3), np.uint8)
    lying[:, :40] = 255  # upright: 40 wide, 80 high, white on top
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(lying).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    result = lazy_images([tmp_path / "turned.jpg"], 16)
    assert result.sizes.tolist() == [[40, 80]]
    top, bottom = result.windows(np.array([0]), np.float32([[[0, 0, 40, 32], [0, 48, 40, 80]]]))[0]
    assert top.mean() > 245 and bottom.mean() < 10


@pytest.mark.parametrize("shape", [(500, 375), (375, 500), (400, 400)])
@pytest.mark.parametrize(("size", "short"), [(224, 257), (96, 110)])
def test_an_evaluation_resizes_the_short_side_to_1_15_times_and_takes_the_centre(
    photo, lazy_images, shape, size, short
):
    path = photo(*shape)
    assert image_decoding.short_side(size) == short
    got = lazy_images([path], size).squares(np.array([0]))[0]
    image = Image.open(path).convert("RGB")
    scale = short / min(shape)
    resized = image.resize((int(shape[0] * scale), int(shape[1] * scale)), BICUBIC)  # torchvision's Resize
    left, top = (round((side - size) / 2) for side in resized.size)  # and its CenterCrop
    want = resized.crop((left, top, left + size, top + size))
    np.testing.assert_allclose(got.astype(int), np.asarray(want, int), atol=1)


def test_small_images_have_no_margin_and_stay_bilinear(photo, lazy_images):
    path = photo(90, 60)
    assert image_decoding.short_side(32) == 32 and image_decoding.short_side(64) == 64
    want = Image.open(path).resize((32, 32), Image.Resampling.BILINEAR, box=(15, 0, 75, 60))
    np.testing.assert_array_equal(lazy_images([path], 32).squares(np.array([0]))[0], want)


def test_a_place_without_area_is_the_evaluations_square(photo, lazy_images):
    result = lazy_images([photo(500, 375)], 96)
    nothing = result.windows(np.array([0]), np.zeros((1, 1, 4), np.float32))[0, 0]
    np.testing.assert_array_equal(nothing, result.squares(np.array([0]))[0])


def _places(count: int, branches: int) -> np.ndarray:
    draw = np.random.default_rng(3)
    start = draw.integers(0, 20, (count, branches, 2))
    return np.concatenate([start, start + draw.integers(10, 40, (count, branches, 2))], -1).astype(np.float32)


def test_a_place_without_area_is_that_square_in_small_images_too(photo, lazy_images):
    result = lazy_images([photo(130, 130)], 32)  # of which the evaluation decodes half of the sides, and windows all
    nothing = result.windows(np.array([0]), np.zeros((1, 1, 4), np.float32))[0, 0]
    np.testing.assert_array_equal(nothing, result.squares(np.array([0]))[0])


def test_what_is_kept_changes_nothing_and_is_not_read_again(photo, lazy_images):
    paths = [photo(70, 60, f"{n}.jpg", seed=n) for n in range(6)]
    numbers, places = np.arange(6), _places(6, 2)
    plain, keeping = lazy_images(paths, 24), lazy_images(paths, 24, room=2**20)
    want = plain.windows(numbers, places), plain.squares(numbers)
    for _ in range(2):
        np.testing.assert_array_equal(keeping.windows(numbers, places), want[0])
        np.testing.assert_array_equal(keeping.squares(numbers), want[1])
        for path in paths:
            path.unlink(missing_ok=True)


def test_no_more_is_kept_than_there_is_room_for(photo, lazy_images):
    paths = [photo(70, 60, f"{n}.jpg", seed=n) for n in range(6)]
    result = lazy_images(paths, 24, room=int(2.5 * 70 * 60 * 3))
    result.windows(np.arange(6), _places(6, 1))
    assert len(result._cache) == 2


def test_windows_of_an_order_per_branch_are_each_of_their_own_picture(photo, lazy_images):
    result = lazy_images([photo(70, 60, f"{n}.jpg", seed=n) for n in range(4)], 24)
    numbers, places = np.array([[0, 3], [2, 2], [1, 0]]), _places(3, 2)
    got = result.windows(numbers, places)
    for row in range(3):
        for branch in range(2):
            alone = result.windows(numbers[row, branch : branch + 1], places[row : row + 1, branch : branch + 1])
            np.testing.assert_array_equal(got[row, branch], alone[0, 0])


@pytest.mark.parametrize("branches", [None, 2])
def test_batches_are_cut_where_the_windows_say_and_go_on_at_any_step(photo, lazy_images, branches):
    paths = [photo(60 + n, 80 - n, f"{n}.jpg", seed=n) for n in range(20)]
    split = Split(lazy_images=lazy_images(paths, 24), labels=range(20), ids=range(20)).subset(np.arange(20)[::-1])

    def windows(index, sizes):
        """Of each branch its own corner, as large as the picture's width says."""
        import tensorflow as tf

        wide = tf.cast(sizes[..., 0], tf.float32)
        wide = tf.stack([wide, wide], 1) if branches is None else wide
        zero = tf.zeros_like(wide)
        return tf.stack([zero, zero, wide / [2.0, 3.0], wide / [2.0, 3.0]], axis=-1)

    indices = plan(20, 4, 0, 0, branches=branches)
    whole = list(training_batches(split, indices, windows).as_numpy_iterator())
    for batch in whole:
        assert batch["image"].shape == (4, 2, 24, 24, 3) and batch["window"].shape == (4, 2, 4)
        np.testing.assert_array_equal(batch["image"], split.windows(batch["index"], batch["window"]))
        wide = split.image_sizes(batch["index"])[..., 0]
        np.testing.assert_allclose(batch["window"][:, 0, 2], (wide if branches is None else wide[:, 0]) / 2)
    for first in (1, 3):
        rest = training_batches(split, plan(20, 4, 0, 0, first_step=first, branches=branches), windows)
        for batch, want in zip(rest.as_numpy_iterator(), whole[first:], strict=True):
            assert batch.keys() == want.keys() and all(np.array_equal(batch[key], want[key]) for key in want)


def test_encoded_pictures_in_memory_serve_as_well():
    from dico_tf.data.lazy_images import ImagesInMemory, LazyImages
    from dico_tf.data.memory_budget import MemoryBudget

    stream = io.BytesIO()
    _photo(50, 40).save(stream, "PNG")
    result = LazyImages(
        ImagesInMemory("made", [stream.getvalue(), b"nothing"]), [(50, 40), (1, 1)], 40, 40, MemoryBudget(0)
    )
    np.testing.assert_array_equal(result.squares(np.array([0]))[0], np.asarray(_photo(50, 40))[:, 5:45])
    from dico_tf.errors import UserError

    with pytest.raises(UserError, match=r"cannot read image 1 of made: .*repair"):
        result.squares(np.array([0, 1]))
