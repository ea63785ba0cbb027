"""Listed branches: any network below its head, at its own image size, with a new head and its old weights."""

import json

import keras
import numpy as np
import pytest
from keras import layers

from dico_tf.cotrain import DiCo
from dico_tf.errors import UserError
from dico_tf.layers.normalisation import BatchNorm
from dico_tf.models import branch_list
from dico_tf.models.branch_list import BranchList, listed_branch
from dico_tf.models.presets import find
from tests.small_network import small

IMAGES = np.random.default_rng(0).uniform(0, 255, (4, 16, 16, 3)).astype(np.float32)


def below_head(model: keras.Model) -> keras.Model:
    """Return the model up to the input of its layer `logits`."""
    return keras.Model(model.inputs, model.get_layer("logits").input)


def with_statistics(model: keras.Model) -> keras.Model:
    """Return the model with batch statistics that are not those of a new network."""
    draw = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([draw.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    return model


def test_a_branch_computes_the_features_of_its_network_and_has_a_new_head():
    network = with_statistics(small(classes=7))
    branch, arrays, _ = listed_branch(network, "a", 16, "a.keras")
    built = branch.build(16, 3)
    branch.fill(built, arrays)
    np.testing.assert_allclose(below_head(built)(IMAGES), below_head(network)(IMAGES), atol=1e-5)
    assert built.output_shape == (None, 3) and built.inputs[0].name == "image"
    assert float(np.abs(built(IMAGES)).max()) < 1, "the head is new"
    assert branch.cost(16, 3).params == sum(np.size(v) for v in built.trainable_variables)


def test_a_smaller_branch_sees_the_image_as_tf_resizes_it_with_antialiasing():
    tf = pytest.importorskip("tensorflow")
    network = small()
    branch, arrays, _ = listed_branch(network, "a", 10, "a.keras")
    small_macs, large_macs = branch.cost(16, 10).macs, listed_branch(network, "a", 16, "a.keras")[0].cost(16, 10).macs
    assert small_macs < 0.5 * large_macs, "multiply-adds are those of its own size"
    built = branch.build(16, 10)
    branch.fill(built, arrays)
    expected = below_head(network)(tf.image.resize(IMAGES, (10, 10), antialias=True))
    np.testing.assert_allclose(below_head(built)(IMAGES), expected, atol=1e-4)


def test_the_reference_gives_the_branches_back():
    listed = [listed_branch(small(), "a", 12, "a.keras")[0], listed_branch(small(), "b", 16, "b.keras")[0]]
    network = BranchList(listed=tuple(listed), whole=("c", listed[0].cost(12, 10)))
    assert find(json.loads(json.dumps(network.reference))) == network
    assert (network.image_size, network.name) == (16, "a+b")
    with pytest.raises(UserError, match=r"splits=3 differs from the number of branches: give splits=2"):
        network.branches(3)


def test_a_branch_keeps_the_settings_of_its_layers():
    image = keras.Input((8, 8, 3))
    x = layers.Flatten()(BatchNorm(decay_gamma=False, name="norm")(image))
    branch, _, _ = listed_branch(keras.Model(image, layers.Dense(2)(x)), "a", 8, "a.keras")
    assert branch.build(8, 3).get_layer("norm").gamma.decays is False


def convolutional_head(x):
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    return layers.Activation("softmax")(layers.Flatten(name="flatten")(layers.Conv2D(5, 1, name="scores")(x)))


HEADS = {
    "softmax in the layer": lambda x: layers.Dense(5, activation="softmax")(layers.Flatten(name="flatten")(x)),
    "softmax after it": lambda x: layers.Softmax()(layers.Dense(5)(layers.GlobalAveragePooling2D()(x))),
    "a convolution": convolutional_head,
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_heads_of_several_kinds_are_replaced(head):
    image = keras.Input((8, 8, 3))
    network = keras.Model(image, head(layers.Conv2D(4, 3, name="conv")(image)))
    branch, arrays, _ = listed_branch(network, "a", 8, "a.keras")
    assert list(arrays) == ["conv"]
    assert branch.build(8, 3).output_shape == (None, 3)


def test_nested_networks_keep_their_weights():
    inner = with_statistics(small())
    image = keras.Input((16, 16, 3))
    x = layers.Dense(8, activation="relu", name="conv_0")(inner(image))  # the name of a layer in `inner`
    network = keras.Model(image, layers.Dense(2, name="logits")(x))
    branch, arrays, _ = listed_branch(keras.Sequential([keras.Input((16, 16, 3)), network]), "a", 16, "a.keras")
    built = branch.build(16, 3)
    branch.fill(built, arrays)
    np.testing.assert_allclose(below_head(built)(IMAGES), below_head(network)(IMAGES), atol=1e-5)


def test_networks_without_a_head_are_refused():
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="conv")(image)
    pooled = keras.Model(image, layers.GlobalAveragePooling2D(name="pool")(x))
    with pytest.raises(UserError, match=r"^a.keras cannot be a branch: it must end in .* GlobalAver.* 'pool'"):
        listed_branch(pooled, "a", 8, "a.keras")


def test_weights_of_another_network_are_refused():
    branch, _, _ = listed_branch(small(), "a", 16, "a.keras")
    with pytest.raises(UserError, match=r"a\.keras is another network than when the run was started"):
        branch.fill(branch.build(16, 3), {"conv_0": [np.zeros((3, 3, 3, 8))]})


def test_precision_is_refused():
    reference = BranchList(listed=(listed_branch(small(), "a", 16, "a.keras")[0],)).reference
    with pytest.raises(UserError, match="precision mixed_bfloat16 is for presets"):
        DiCo(reference, 1, classes=3, image_size=16, dtype="mixed_bfloat16")


def test_a_seed_gives_the_same_weights_whether_or_not_the_branch_was_built_before():
    branch, _, _ = listed_branch(small(), "a", 16, "a.keras")
    results = []
    for clear in (True, False):
        if clear:
            branch_list._skeleton.cache_clear()
        keras.utils.set_random_seed(0)
        results.append(branch.build(16, 3).get_weights())
    assert all(map(np.array_equal, *results))
