"""Networks of keras.applications: their weights, sizes, costs and preprocessing."""

import urllib.error
from pathlib import Path

import keras
import numpy as np
import pytest
from keras.src.applications import efficientnet, mobilenet
from keras.src.utils import file_utils

from dico_tf.divide.networks.cost import cost
from dico_tf.divide.networks.graph import weightless
from dico_tf.errors import UserError
from dico_tf.evaluation.members import applications
from dico_tf.evaluation.members.open_members import open_members
from tests.tiers import slow_but

SMALL = "keras:MobileNet?weights=none&alpha=0.25"
GIGA = {  # multiply-adds at the native size
    "EfficientNetB0": 0.386, "EfficientNetB1": 0.687, "EfficientNetB2": 0.994, "EfficientNetB3": 1.827,
    "ResNet50": 3.86, "ResNet101": 7.570, "ResNet152": 11.282, "ResNet101V2": 7.194, "ResNet152V2": 10.907,
    "MobileNetV2": 0.3008,
}  # fmt: skip
LARGE = {"EfficientNetB4": 4.394, "EfficientNetB5": 10.266, "EfficientNetB6": 19.068, "EfficientNetB7": 37.75}
PARAMS = {  # trained ones, and all of them
    "ResNet101": (44_601_832, 44_707_176), "ResNet152": (60_268_520, 60_419_944),
    "ResNet101V2": (44_577_896, 44_675_560), "ResNet152V2": (60_236_904, 60_380_648),
    "MobileNetV2": (3_504_872, 3_538_984),
}  # fmt: skip


def counted(name, **options):
    family = getattr(keras.applications, name)
    return weightless(lambda: cost(family(weights=None, classifier_activation=None, **options)))


@pytest.mark.parametrize("name", slow_but(("EfficientNetB0", "MobileNetV2"), GIGA))
def test_multiply_adds_are_the_published_ones(name):
    cost = counted(name)
    assert cost.macs / 1e9 == pytest.approx(GIGA[name], rel=0.001 if name in PARAMS else 0.01)
    assert (cost.params, cost.params + cost.running) == PARAMS.get(name, (cost.params, cost.params + cost.running))


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_multiply_adds_of_large_networks_are_the_published_ones(name):
    assert counted(name).macs / 1e9 == pytest.approx(LARGE[name], rel=0.01)


MOBILENETS = [
    (0.75, 160, 0.1073), (0.75, 192, 0.1539), (0.75, 224, 0.2091), (1.0, 160, 0.1541), (1.0, 192, 0.2213),
    (1.4, 160, 0.2979), (1.4, 192, 0.4282), (1.4, 224, 0.5822),
]  # fmt: skip


@pytest.mark.parametrize(("alpha", "size", "giga"), slow_but(MOBILENETS[:1], MOBILENETS))
def test_mobilenets_of_every_width_and_size_are_counted(alpha, size, giga):
    cost = counted("MobileNetV2", alpha=alpha, input_shape=(size, size, 3))
    assert cost.macs / 1e9 == pytest.approx(giga, rel=1e-3)
    of_width = {0.75: (2_636_424, 2_663_064), 1.0: (3_504_872, 3_538_984), 1.4: (6_108_776, 6_156_712)}
    assert (cost.params, cost.params + cost.running) == of_width[alpha]


def test_every_network_has_a_preprocessing_of_its_own():
    assert len(applications.NAMES) >= 38
    assert all(callable(applications.preprocessing(getattr(keras.applications, name))) for name in applications.NAMES)


def test_a_member_answers_logits_of_its_own_preprocessing_at_its_native_size(images):
    (member,) = open_members([SMALL], 10)
    assert (member.name, member.input_size, member.short_side) == ("MobileNet", 224, 257)
    model = applications._base("MobileNet", "none", 10, 0.25)
    given = keras.applications.mobilenet.preprocess_input(images(224, 2).astype("float32"))
    assert given.min() < 0
    np.testing.assert_allclose(member.run(images(224, 2)), model(given), rtol=1e-3, atol=1e-5)
    assert member.cost.macs == cost(model).macs


def test_a_self_cascade_shares_every_weight_and_costs_as_the_square_of_the_side(images):
    small, large = open_members(
        ["keras:MobileNet@96?weights=none&alpha=0.25", "keras:MobileNet@160?weights=none&alpha=0.25"], 10
    )
    assert [m.name for m in (small, large)] == ["MobileNet@96", "MobileNet@160"] and small.weights == large.weights
    assert large.cost.macs / small.cost.macs == pytest.approx((160 / 96) ** 2, rel=0.05)
    base = applications._base("MobileNet", "none", 10, 0.25)
    model = applications.resized(base, keras.applications.MobileNet, 160, 0.25)
    assert [w.tobytes() for w in model.get_weights()] == [w.tobytes() for w in base.get_weights()]


@pytest.mark.slow
def test_a_file_of_weights_is_loaded(tmp_path, images):
    model = keras.applications.MobileNet(weights=None, alpha=0.25, classes=10, classifier_activation=None)
    model.save_weights(tmp_path / "own.weights.h5")
    (member,) = open_members([f"keras:MobileNet@64?alpha=0.25&weights={tmp_path}/own.weights.h5"], 10)
    assert member.weights == applications.weights_digest(model) and member.run(images(64)).shape == (4, 10)
    with pytest.raises(UserError, match="holds no weights of this network of 7 classes"):
        open_members([f"keras:MobileNet@64?alpha=0.25&weights={tmp_path}/own.weights.h5"], 7)
    with pytest.raises(UserError, match=r"there is no file .*gone.h5; \?weights must be imagenet, none, or a file"):
        open_members(["keras:MobileNet?weights=gone.h5"], 10)


def _keeps(monkeypatch, module, model: keras.Model, path: Path) -> None:
    """The file that Keras would find in its folder, of drawn weights."""
    model.save_weights(path)
    monkeypatch.setattr(module.file_utils, "get_file", lambda *_, **__: str(path))
    applications._base.cache_clear()


@pytest.mark.slow
def test_imagenets_weights_are_read_as_keras_reads_them(monkeypatch, tmp_path, images):
    model = keras.applications.MobileNet(weights=None, alpha=0.25, classifier_activation=None)
    _keeps(monkeypatch, mobilenet, model, tmp_path / "m.weights.h5")
    (member,) = open_members(["keras:MobileNet?alpha=0.25"], 1000)
    assert member.weights == applications.weights_digest(model)
    given = keras.applications.mobilenet.preprocess_input(images(224, 1).astype("float32"))
    np.testing.assert_allclose(member.run(images(224, 1)), model(given), rtol=1e-3, atol=1e-5)
    applications._base.cache_clear()


@pytest.mark.slow
def test_an_efficientnet_of_another_size_keeps_the_layer_that_comes_with_imagenets_weights(monkeypatch, tmp_path):
    """Keras divides by the roots of the deviations only where it loads the weights itself, at the native size."""
    plain = keras.applications.EfficientNetB0(weights=None, classifier_activation=None)
    _keeps(monkeypatch, efficientnet, plain, tmp_path / "b0.weights.h5")
    base = applications._base("EfficientNetB0", "imagenet", 1000, 0.0)
    again = applications.resized(base, keras.applications.EfficientNetB0, 224, 0.0)
    noise = np.random.default_rng(0).uniform(0, 255, (1, 224, 224, 3)).astype("float32")
    np.testing.assert_allclose(again(noise), base(noise), rtol=1e-3, atol=1e-6)
    assert not np.allclose(again(noise), plain(noise), rtol=1e-3, atol=1e-6)
    small = applications.resized(base, keras.applications.EfficientNetB0, 128, 0.0)
    assert cost(base).macs / cost(small).macs == pytest.approx((224 / 128) ** 2, rel=0.05)
    applications._base.cache_clear()


def test_without_a_network_the_missing_file_and_its_place_are_said(monkeypatch, tmp_path):
    def unreachable(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(file_utils.config, "keras_home", lambda: str(tmp_path), raising=False)
    monkeypatch.setattr(file_utils, "urlretrieve", unreachable)
    applications._base.cache_clear()
    with pytest.raises(UserError) as error:
        open_members(["keras:MobileNet?alpha=0.25"], 1000)
    message = str(error.value)
    assert "mobilenet_2_5_224_tf.h5 are not in" in message and "https://storage.googleapis.com/" in message
    assert "put it there" in message and len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("keras:EfficientNetB9", "did you mean EfficientNetB"),
        ("keras:VGG16@64?weights=none", "weights for 224 pixels only"),
        ("keras:MobileNet@8?weights=none&alpha=0.25", "cannot be built for 8 pixels"),
        ("keras:ResNet50?alpha=0.5", "its width is fixed"),
        ("keras:MobileNet?classes=3", "no option 'classes'"),
    ],
)
@pytest.mark.slow
def test_what_cannot_be_built_says_why(source, message):
    with pytest.raises(UserError, match=message):
        open_members([source], 10)


def test_an_unknown_network_is_refused_with_those_that_are_near():
    with pytest.raises(UserError, match="did you mean EfficientNetB"):
        open_members(["keras:EfficientNetB9"], 10)
