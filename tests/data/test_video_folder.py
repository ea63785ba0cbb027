"""Videos in folders, and the drawn ones: which frames a clip has, what is refused, and which splits share nothing."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dico_tf.config import Data
from dico_tf.data import clips, folder_layout, moving_digits, pipeline
from dico_tf.data import source as sources
from dico_tf.data.splits import carve
from dico_tf.errors import UserError
from tests.data import films


def load(place, frames=3, rate=2, size=16, **options):
    name = place if place == "moving" else f"folder:{place}"
    data = Data(dataset=name, task="video", frames=frames, frame_rate=rate, image_size=size, **options)
    return sources.load(data, seed=0)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    result = tmp_path_factory.mktemp("films")
    films.write(result, "train", 10, frames=12)
    films.write(result, "test", 3, frames=12, seed=1)
    return result


class Numbered:
    """Frames whose pixels say their number, and their window's left edge."""

    image_size = 4

    def __init__(self, count: int, size=(4, 4)):
        self.sizes = np.tile(np.int32([size]), (count, 1))

    def squares(self, numbers):
        return np.broadcast_to(numbers[..., None, None, None], (*numbers.shape, 4, 4, 3)).astype(np.uint8)

    def windows(self, numbers, places):
        result = self.squares(numbers).copy()
        result[..., 0] = places[..., 0, None, None]
        return result

    def at(self, image_size, short_side):
        other = Numbered(len(self.sizes), tuple(self.sizes[0]))
        other.image_size = image_size
        return other


def frames_of(clip: np.ndarray) -> list:
    return clip[..., 0, 0, 1].tolist()


def made(lengths, count, rate, size=(4, 4)) -> clips.Videos:
    return clips.videos(Numbered(sum(lengths), size), lengths, count, rate, "films")


def test_one_clip_of_a_test_lies_in_the_middle_of_its_film():
    result = made([10, 5], 3, 2)
    assert result.image_shape == (3, 4, 4, 3) and result.span == 5
    assert frames_of(result.squares(np.array([0, 1]))) == [[3, 5, 7], [10, 12, 14]]


def test_several_clips_lie_evenly_from_end_to_end():
    views = made([11], 3, 2).views(4, 1)
    assert [frames_of(view.squares(np.array([0])))[0] for view in views] == [
        [0, 2, 4],
        [2, 4, 6],
        [4, 6, 8],
        [6, 8, 10],
    ]


def test_three_crops_go_along_the_long_side_at_the_short_sides_size():
    result = made([5], 2, 1, size=(10, 6))
    views = result.views(1, 3)
    assert [view.squares(np.array([0]))[0, 0, 0, 0, 0] for view in views] == [0, 2, 4]
    assert clips.short_side(4) == 4
    assert [clips.short_side(size) for size in (160, 224, 312)] == [182, 256, 356]


def test_a_film_that_is_too_short_begins_again_and_that_is_said(caplog):
    with caplog.at_level(logging.WARNING):
        result = made([3, 9], 4, 2)
    assert (
        "1 of 2 videos of films have fewer than 7 frames, which a clip of 4 frames with --frame_rate=2 spans"
        in caplog.text
    )
    assert frames_of(result.squares(np.array([0])))[0] == [0, 2, 1, 0]


def test_windows_name_the_first_frame_and_each_branch_has_its_own():
    result = made([10, 10], 3, 2)
    places = np.float32([[[0, 0, 0, 0, 4], [1, 0, 3, 2, -1]], [[0, 0, 0, 0, 0], [2, 0, 3, 1, 5]]])
    cut = result.windows(np.array([0, 1]), places)
    assert cut.shape == (2, 2, 3, 4, 4, 3)
    assert frames_of(cut) == [[[4, 6, 8], [3, 5, 7]], [[10, 12, 14], [15, 17, 19]]]
    assert cut[0, 1, :, 0, 0, 0].tolist() == [1, 1, 1]
    again = result.windows(np.array([[0, 1], [1, 0]]), places)  # an order per branch
    assert frames_of(again)[0][1] == [13, 15, 17]


def test_a_folder_of_films_is_read_in_the_order_of_its_numbers(root):
    source = load(root)
    assert source.class_names == ("brighter", "darker") and (source.mean[0], source.std[0]) == (0.45, 0.225)
    assert {name: split.size for name, split in source.splits.items()} == {"train": 20, "test": 6}
    assert source.splits["train"].ids[0] == "train/brighter/film_00"
    clip = source.splits["train"].take(np.arange(20)).astype(float).mean((2, 3, 4))  # [N, T]
    assert clip.shape == (20, 3)
    assert (np.diff(clip[:10]) > 0).all() and (np.diff(clip[10:]) < 0).all()


def test_numbers_in_names_count_as_numbers(tmp_path):
    for name in ("10.jpg", "9.jpg", "1.jpg", "b2.jpg", "b11.jpg", "x.txt"):
        (tmp_path / name).touch()
    assert [path.rsplit("/", 1)[1] for path in folder_layout.frames(tmp_path)] == [
        "1.jpg",
        "9.jpg",
        "10.jpg",
        "b2.jpg",
        "b11.jpg",
    ]


def test_clips_pass_in_batches_with_their_windows(root):
    split = load(root).splits["train"]
    places = np.float32([[[0, 0, 16, 16, 2]], [[0, 0, 0, 0, -1]]])
    batch = next(iter(pipeline.training_batches(split, np.array([[[3, 12]]]), lambda index, sizes: places)))
    assert batch["image"].shape == (2, 1, 3, 16, 16, 3) and batch["window"].shape == (2, 1, 5)
    np.testing.assert_array_equal(batch["image"][1, 0], split.take(np.array([12]))[0])
    (whole,) = pipeline.evaluation_batches(split, 32)
    assert whole["image"].shape == (20, 3, 16, 16, 3)


def test_films_held_out_are_whole_films(root):
    train, validation = carve(load(root).splits["train"], 2, 0)
    assert not set(train.ids) & set(validation.ids) and validation.size == 2
    whole = load(root).splits["train"]
    place = whole.ids.tolist().index(validation.ids[0])
    np.testing.assert_array_equal(validation.take(np.array([0])), whole.take(np.array([place])))


def test_the_fingerprint_knows_frames_rate_size_and_lengths(root, tmp_path):
    films.write(tmp_path / root.name, "train", 10, frames=12)
    films.write(tmp_path / root.name, "test", 3, frames=11, seed=1)
    shapes = [(root, 3, 2, 16), (root, 2, 2, 16), (root, 3, 1, 16), (root, 3, 2, 12), (tmp_path / root.name, 3, 2, 16)]
    prints = {load(place, frames, rate, size).fingerprint for place, frames, rate, size in shapes}
    assert len(prints) == len(shapes) and load(root).fingerprint in prints


def test_without_a_test_folder_a_fifth_of_the_films_is_drawn(tmp_path):
    films.write(tmp_path, "", 10)
    source = load(tmp_path)
    assert {name: split.size for name, split in source.splits.items()} == {"train": 16, "test": 4}
    assert not set(source.splits["train"].ids) & set(source.splits["test"].ids)


def test_films_that_cannot_be_read_are_named_or_left_out(tmp_path):
    films.write(tmp_path, "train", 4)
    films.write(tmp_path, "test", 2)
    (tmp_path / "train/darker/film_00/1.png").write_text("none")
    (tmp_path / "train/darker/empty").mkdir()
    with pytest.raises(
        UserError, match="2 videos cannot be read: repair or remove them, or leave them out with --skip"
    ) as caught:
        load(tmp_path)
    assert "darker/empty: no frames" in str(caught.value) and "darker/film_00: " in str(caught.value)
    assert load(tmp_path, skip_unreadable=True).splits["train"].size == 7


def test_a_frame_that_cannot_be_read_is_named_when_it_is_asked_for(tmp_path):
    films.write(tmp_path, "train", 4)
    films.write(tmp_path, "test", 2)
    (tmp_path / "test/darker/film_00/4.png").write_text("none")
    with pytest.raises(UserError, match=r"cannot read .*test/darker/film_00/4\.png"):
        load(tmp_path, frames=6, rate=1).splits["test"].take(np.arange(4))


def test_a_video_that_lost_frames_since_the_run_began_is_named(tmp_path):
    films.write(tmp_path, "train", 4)
    films.write(tmp_path, "test", 2)
    split = load(tmp_path, frames=6, rate=1).splits["test"]
    video = tmp_path / "test/darker/film_00"
    for path in folder_layout.frames(video)[2:]:
        Path(path).unlink()
    with pytest.raises(UserError, match=r"cannot read frame \d of .*darker/film_00: the video has 2 frames now"):
        split.take(np.arange(4))


def test_pictures_in_the_place_of_films_are_told(tmp_path):
    for kind in "ab":
        (tmp_path / "train" / kind).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "train" / kind / "1.png")
    with pytest.raises(UserError, match=r"2 classes of .* without videos \(folders of frames\)"):
        load(tmp_path)


def test_films_in_the_place_of_pictures_are_told_too(root):
    with pytest.raises(UserError, match=r"if the folders in them are videos, give --task=video\n"):
        sources.load(Data(dataset=f"folder:{root}"), 0)


@pytest.mark.parametrize("name", ["digits", "cifar10"])
def test_sets_of_images_hold_no_clips(name):
    with pytest.raises(UserError, match=f"--dataset={name} has no clips for --task=video: give folder:DIR or moving"):
        sources.load(Data(dataset=name, task="video", frames=3, frame_rate=1), 0)


@pytest.fixture(scope="module")
def drawn():
    return load("moving", frames=8, rate=2, size=32)


def test_the_drawn_films_are_the_same_for_every_seed_and_evenly_classed(drawn):
    data = Data(dataset="moving", task="video", frames=8, frame_rate=2, image_size=32)
    other = sources.load(data, seed=7)
    assert other.fingerprint == drawn.fingerprint
    some = np.arange(0, 240, 17)
    np.testing.assert_array_equal(other.splits["test"].take(some), drawn.splits["test"].take(some))
    for split in drawn.splits.values():
        assert len(set(np.bincount(split.labels))) == 1 and split.take(np.arange(2)).shape == (2, 8, 32, 32, 3)


@pytest.mark.parametrize("kind", range(0, 8, 2))
def test_a_film_backwards_is_one_of_the_opposite_class(kind):
    """So that no single frame tells the two apart."""
    film = {"class": kind, "speed": 0.4, "phase": 0.3, "x": 0.5, "y": 0.2, "angle": 0.1, "scale": 0.6}
    speed = moving_digits.SPEED[0] + (moving_digits.SPEED[1] - moving_digits.SPEED[0]) * 0.4
    back = {**film, "class": kind + 1, "phase": (0.3 + speed * 10) % 1}
    forth = [moving_digits.state(film, frame) for frame in range(11)]
    np.testing.assert_allclose(forth[::-1], [moving_digits.state(back, frame) for frame in range(11)], atol=1e-9)


def test_the_names_of_the_classes_say_what_is_seen():
    line = np.zeros((32, 32), np.uint8)
    line[14:18, 16:] = 255  # a hand of a clock that shows three
    film = dict.fromkeys(("x", "y", "angle", "scale", "red", "green", "blue", "ground"), 0.5)
    film |= {"speed": 1.0, "phase": 0.1, "digit": line}

    def middle(kind: str, frame: int) -> np.ndarray:
        picture = (
            moving_digits.draw({**film, "class": moving_digits.CLASSES.index(kind)}, frame, 64).sum(2).astype(float)
        )
        bright = picture - picture.min()
        return np.array([(bright.sum(axis) * np.arange(64)).sum() / bright.sum() for axis in (0, 1)])  # x, y

    ways = {"right": (8, (1, 0)), "left": (12, (-1, 0)), "down": (8, (0, 1)), "up": (12, (0, -1))}
    for kind, (frame, way) in ways.items():  # a frame from which on it is in the picture
        assert np.sign(np.round((middle(kind, frame + 4) - middle(kind, frame)) / 4)).tolist() == list(way), kind
    hands = [middle(kind, 0) - 32 for kind in ("clockwise", "counterclockwise")]
    later = [middle(kind, 3) - 32 for kind in ("clockwise", "counterclockwise")]
    turned = [a[0] * b[1] - a[1] * b[0] for a, b in zip(hands, later, strict=True)]  # y points down
    assert turned[0] > 0 > turned[1]
    sizes = [(moving_digits.draw({**film, "class": 6}, frame, 64).max(2) > 150).sum() for frame in (0, 4, 8)]
    assert sizes[0] < sizes[1] < sizes[2]


def test_digits_of_the_test_are_not_those_of_training():
    train = {digit.tobytes() for digit in moving_digits.digits("train")}
    assert len(moving_digits.digits("test")) > 300 and not train & {d.tobytes() for d in moving_digits.digits("test")}
