"""Tests of the collection of members' logits: images at each member's size, the cache, times, tables."""

import time

import numpy as np
import pytest
from PIL import Image

from dico_tf.config import Data
from dico_tf.data import image_decoding
from dico_tf.data import source as sources
from dico_tf.errors import UserError
from dico_tf.evaluation.cost import Cost
from dico_tf.evaluation.members import collect_logits as collecting
from dico_tf.evaluation.members.cache import Cache
from dico_tf.evaluation.members.collect_logits import collect_logits
from dico_tf.evaluation.members.image_batches import ImageBatches, fingerprint
from dico_tf.evaluation.members.member import LoadedNetwork, Member
from dico_tf.evaluation.members.open_members import open_members


@pytest.fixture
def member():
    """Makes members whose outputs are mean values of bands of rows, with the list of images they received."""

    def made(name="m", size=16, short_side=None, fails_after=None, classes=10):
        received = []

        def answer(images):
            received.append(images)
            if fails_after is not None and len(received) > fails_after:
                raise KeyboardInterrupt
            rows = np.array_split(images.astype(np.float32), classes, axis=1)
            return np.stack([part.mean((1, 2, 3)) if part.size else np.zeros(len(images)) for part in rows], 1)

        member = Member(
            name=name,
            kind="made",
            source=name,
            weights=name,
            input_size=size,
            short_side=short_side or size,
            load=lambda: LoadedNetwork(answer=answer, cost=Cost(macs=7, params=3)),
        )
        return member, received

    return made


@pytest.fixture
def folder(tmp_path):
    """Twelve photos of several sizes in two classes, test and train."""
    random = np.random.default_rng(0)
    for n in range(12):
        path = tmp_path / "photos" / ("test" if n % 2 else "train") / ("cat" if n % 3 else "dog") / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (int(random.integers(90, 200)), int(random.integers(90, 200)), 3)
        Image.fromarray(random.integers(0, 256, shape, np.uint8)).save(path)
    return tmp_path / "photos"


def test_each_member_sees_every_photo_decoded_at_its_own_size(folder, member):
    source = sources.load(Data(dataset=f"folder:{folder}", image_size=32), 0)
    (small, of_small), (large, of_large) = member("a", 32, classes=2), member("b", 80, 92, classes=2)
    collect_logits([small, large], source, "test", timed=False)
    for received, size, short in ((of_small, 32, 32), (of_large, 80, 92)):
        expected = [image_decoding.decode(str(folder / name), size, short) for name in source.splits["test"].ids]
        assert (np.concatenate(received) == np.stack(expected)).all()


def test_images_in_memory_are_resampled_as_pillow_does(source, member):
    data = source(16)
    (same, of_same), (other, of_other) = member("a", 16), member("b", 24)
    collect_logits([same, other], data, "test", timed=False)
    originals = data.splits["test"].images
    assert (np.concatenate(of_same) == originals).all()
    expected = [Image.fromarray(image).resize((24, 24), Image.Resampling.BILINEAR) for image in originals]
    assert (np.concatenate(of_other) == np.stack(expected)).all()


def test_batches_come_in_order_and_whole(source):
    data = source(8, count=600)
    batches = list(ImageBatches(data.splits["test"], 8, 8).batches())
    assert [len(batch) for batch in batches] == [256, 256, 88]
    assert (np.concatenate(batches) == data.splits["test"].images).all()


def test_what_is_complete_when_interrupted_is_not_asked_again(source, member, tmp_path):
    data, cache = source(8, count=600), Cache(tmp_path)
    (first, of_first), (second, _) = member("first", 8), member("second", 8, fails_after=1)
    with pytest.raises(KeyboardInterrupt):
        collect_logits([first, second], data, "test", cache, timed=False)
    assert len(of_first) == 3
    healthy, of_healthy = member("second", 8)
    collected = collect_logits([first, healthy], data, "test", cache, timed=False)
    assert len(of_first) == 3 and len(of_healthy) == 3 and collected.computed == ("second",)


def test_other_images_are_asked_about_anew(source, member, tmp_path):
    one, received = member("m", 16)
    cache = Cache(tmp_path)
    collect_logits([one], source(), "test", cache, timed=False)
    collect_logits([one], source(), "test", cache, timed=False)
    assert len(received) == 1
    collect_logits([one], source(seed=1), "test", cache, timed=False)
    assert len(received) == 2


def test_the_fingerprint_follows_the_files(folder):
    def seen():
        data = sources.load(Data(dataset=f"folder:{folder}", image_size=80), 0)
        return fingerprint(data, data.splits["test"])

    before = seen()
    assert seen() == before
    path = next((folder / "test" / "cat").iterdir())
    Image.new("RGB", Image.open(path).size, "red").save(path)
    assert seen() != before


def test_every_member_is_timed_on_the_same_images(source, member, monkeypatch):
    monkeypatch.setattr(collecting, "_SECONDS", 0.0)
    one, of_one = member("a", 16)
    two, of_two = member("b", 16)
    collected = collect_logits([one, two], source(count=5), "test")
    assert len(of_one) == len(of_two) == 1 + collecting._WARM + collecting._LEAST
    assert all((x == y).all() for x, y in zip(of_one, of_two, strict=True))
    for cost in collected.costs.values():
        assert cost.macs == 7 and cost.milliseconds > 0


def test_a_known_delay_is_measured(source, member):
    slow, _ = member("slow", 16)
    wait = LoadedNetwork(answer=lambda images: time.sleep(0.02) or np.zeros((len(images), 10)), cost=Cost())
    slow.__dict__["network"] = wait
    assert collecting.measure_milliseconds(slow, source().splits["test"].images) >= 20


def test_empty_and_unknown_splits_are_refused(source, member):
    data = source()
    with pytest.raises(UserError, match="has no split 'validation': choose one of test"):
        collect_logits([member()[0]], data, "validation")
    data.splits["test"] = data.splits["test"].subset(np.arange(0))
    with pytest.raises(UserError, match="the split 'test' of noise has no images"):
        collect_logits([member()[0]], data, "test")


def test_numbers_that_are_none_are_warned_of_and_kept(source, member, caplog):
    one, _ = member()
    one.__dict__["network"] = LoadedNetwork(answer=lambda images: np.full((len(images), 10), np.nan), cost=Cost())
    collected = collect_logits([one], source(), "test", timed=False)
    assert np.isnan(collected.logits["m"]).all() and "NaN or infinity in the logits of 20 of 20 images" in caplog.text


@pytest.fixture
def table(tmp_path, source):
    """An .npz of the noise's labels and ids, and how it may be changed."""

    def write(name="t.npz", **changes):
        part = source().splits["test"]
        logits = np.eye(10, dtype=np.float16)[part.labels]
        arrays = {"labels": part.labels, "ids": part.ids, "right": logits, "wrong": logits[::-1], **changes}
        path = tmp_path / name
        np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
        return str(path)

    return write


def test_a_table_answers_by_ids_in_any_order(table, source):
    part = source().splits["test"]
    order = np.random.default_rng(0).permutation(20)
    path = table(labels=part.labels[order], ids=part.ids[order], right=np.eye(10)[part.labels[order]])
    collected = collect_logits(open_members([f"{path}:right"], 10), source(), "test")
    assert (collected.logits["right"].argmax(1) == part.labels).all() and np.isnan(
        collected.costs["right"].milliseconds
    )
    both = open_members([path])
    assert [member.name for member in both] == ["right", "wrong"]
    with pytest.raises(UserError, match="which cannot run on images"):
        both[0].run(part.images)


def test_ids_that_are_file_names_are_found_by_their_stems(table, source):
    path = table(ids=None, image_ids=np.array([f"images/image_{n}.jpg" for n in range(20)]))
    assert collect_logits(open_members([f"{path}:right"], 10), source(), "test").logits["right"].shape == (20, 10)


def test_a_runs_predictions_are_a_table_of_its_branches(table):
    logits = np.zeros((20, 2, 10), np.float32)
    assert [m.name for m in open_members([f"p={table(right=None, wrong=None, logits=logits)}"])] == [
        "p.branch_0",
        "p.branch_1",
    ]


@pytest.mark.parametrize(
    ("changes", "words", "message"),
    [
        ({"labels": None}, "", "expected a table of logits with labels and ids or image_ids"),
        ({}, ":none", "no 'none'; known: right, wrong"),
        ({}, "?macs=5", "the options are the cost of one member"),
        ({}, ":right?macs=much", "must be a number above 0"),
        (
            {"right": np.zeros((20, 10), int)},
            ":right",
            r"right: expected floats \[N, C\].* got int64 \[20, 10\]",
        ),
        ({"right": np.zeros((19, 10))}, ":right", r"a row for each id"),
    ],
)
def test_tables_that_are_none_are_refused(table, changes, words, message):
    with pytest.raises(UserError, match=message):
        open_members([table(**changes) + words])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": (np.arange(20) + 1) % 10}, "20 of 20 labels differ between table and data, such as 1 and 0"),
        ({"ids": np.array([f"other_{n}" for n in range(20)])}, "has no logits of 20 of 20 images, such as image_0"),
        ({"ids": np.array(["image_0"] * 20)}, "the table has the id image_0 twice"),
        ({"right": np.zeros((20, 3))}, "right has 3 classes and noise has 10"),
        ({"class_names": np.array(list("abc"))}, "has 3 classes and noise has 10"),
    ],
)
def test_tables_about_other_images_or_classes_are_refused(table, source, changes, message):
    with pytest.raises(UserError, match=message):
        collect_logits(open_members([f"{table(**changes)}:right"], 10), source(), "test")


def test_a_damaged_table_is_refused(tmp_path):
    (tmp_path / "t.npz").write_bytes(b"PK\3\4 and no more")
    with pytest.raises(UserError, match=r"t.npz is damaged"):
        open_members([str(tmp_path / "t.npz")])


def test_names_are_unique_and_those_given_are_kept(table):
    first, second = table(), table("u.npz")
    names = [m.name for m in open_members([first, second])]
    assert names == ["right", "wrong", "right_2", "wrong_2"]
    assert [m.name for m in open_members([f"{first}:wrong", f"wrong={second}:right"])] == ["wrong_2", "wrong"]
    with pytest.raises(UserError, match="two members are called a"):
        open_members([f"a={first}:right", f"a={second}:right"])
