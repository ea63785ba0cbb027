"""Networks in .keras files."""

import keras
import numpy as np
import pytest

from dico_tf.errors import UserError
from dico_tf.evaluation.averaging import softmax
from dico_tf.evaluation.members.open_members import open_members


def network(side=16, outputs=10, ending="softmax", channels=3) -> keras.Model:
    image = keras.Input((side, side, channels))
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(8, 3)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(outputs, activation=ending)(x))


@pytest.fixture
def saved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def save(name: str, model: keras.Model) -> keras.Model:
        model.save(f"{name}.keras")
        return model

    return save


def test_a_network_that_ends_in_softmax_answers_the_logarithms(saved, images):
    model = saved("net", network())
    (member,) = open_members(["net.keras"], 10)
    assert (member.name, member.kind, member.input_size, member.class_names) == ("net", "keras_file", 16, None)
    np.testing.assert_allclose(softmax(member.run(images(16))), model(images(16).astype("float32")), atol=1e-5)
    assert member.cost.macs == 14 * 14 * 9 * 3 * 8 + 8 * 10
    assert member.cost.params == model.count_params()


def test_a_network_of_logits_and_a_background_answers_the_others(saved, images):
    model = saved("net", network(outputs=11, ending=None))
    (member,) = open_members(["net.keras"], 10)
    np.testing.assert_allclose(member.run(images(16)), model(images(16).astype("float32"))[:, 1:], rtol=1e-4, atol=1e-5)
    (explicit,) = open_members(["net.keras:background"])
    assert explicit.run(images(16)).shape == (4, 10)


def test_a_file_for_any_size_is_a_member_at_each(saved, images):
    model = saved("net", network(side=None, ending=None))
    small, large = open_members(["net.keras@16", "net.keras@24"], 10)
    assert small.weights == large.weights and [m.name for m in (small, large)] == ["net@16", "net@24"]
    assert large.cost.macs > small.cost.macs == 14 * 14 * 9 * 3 * 8 + 8 * 10
    np.testing.assert_allclose(large.run(images(24)), model(images(24).astype("float32")), rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match=r"any size: add a size, as in net.keras@224"):
        open_members(["net.keras"])
    with pytest.raises(UserError, match=r"as in net.keras@224\?pixels=0..1"):
        open_members(["net.keras?pixels=0..1"])


def test_ranges_of_pixels_are_made_before_the_network(saved, images):
    model = saved("net", network(ending=None))
    (member,) = open_members(["net.keras?pixels=-1..1"], 10)
    given = images(16).astype("float32") / 127.5 - 1
    np.testing.assert_allclose(member.run(images(16)), model(given), rtol=1e-4, atol=1e-5)
    (plain,) = open_members(["net.keras"], 10)
    assert plain.checksum != member.checksum and plain.weights == member.weights


def test_the_checksum_follows_the_weights_the_size_and_the_preprocessing(saved):
    saved("a", network())
    saved("b", network())
    first, other, cropped = open_members(["a.keras", "b.keras", "a.keras?short_side=20"], 10)
    assert len({member.checksum for member in (first, other, cropped)}) == 3
    assert cropped.short_side == 20 and len(first.checksum) == 64
    (again,) = open_members(["renamed=a.keras"], 10)
    assert again.checksum == first.checksum


@pytest.mark.parametrize(
    ("model", "source", "message"),
    [
        (lambda: network(), "net.keras@32", "takes images of 16 pixels only: leave out @32"),
        (lambda: network(), "net.keras:other", "expected no part, or :background, got 'other'"),
        (lambda: network(), "net.keras?size=4", "no option 'size'; known: background"),
        (lambda: network(), "net.keras?pixels=0..2", "must be one of 0..255, 0..1, -1..1, imagenet"),
        (lambda: network(), "net.keras?short_side=x", "must be a whole number above 0"),
        (lambda: network(channels=1), "net.keras", r"expected one input \[side, side, 3\]"),
        (
            lambda: keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(4, 3)]),
            "net.keras",
            r"expected one output \[classes\]",
        ),
    ],
)
def test_what_cannot_be_a_member_says_why(saved, model, source, message):
    saved("net", model())
    with pytest.raises(UserError, match=message):
        open_members([source], 10)


def test_a_damaged_file_and_code_in_a_file_are_refused(saved, tmp_path):
    (tmp_path / "half.keras").write_bytes(b"PK\3\4 and no more")
    with pytest.raises(UserError, match=r"half.keras cannot be read"):
        open_members(["half.keras"])
    image = keras.Input((16, 16, 3))
    x = keras.layers.Lambda(lambda x: x / 255)(image)
    saved("code", keras.Model(image, keras.layers.Dense(4)(keras.layers.Flatten()(x))))
    with pytest.raises(UserError, match=r"code.keras cannot be read"):
        open_members(["code.keras"])


def test_pictures_of_another_size_are_a_mistake_of_the_caller(saved, images):
    saved("net", network())
    (member,) = open_members(["net.keras"], 10)
    with pytest.raises(ValueError, match=r"expected uint8 images \[B, 16, 16, 3\]"):
        member.run(images(24))
