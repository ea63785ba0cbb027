"""Parts of a network's channels: which each branch takes, and the weights cut to them."""

import keras
import numpy as np
import pytest

from dico_tf.cotrain import DiCo
from dico_tf.divide.networks.channel_graph import channel_graph
from dico_tf.divide.networks.channel_labels import weight_name
from dico_tf.divide.networks.division import divide_model
from dico_tf.divide.networks.graph import weightless
from dico_tf.divide.networks.slices import importance, part, slices
from dico_tf.errors import UserError
from dico_tf.models.presets import PRESETS
from dico_tf.training.sliced_start import assign_slices, undivided
from tests.models.test_contract import TINY, pictures
from tests.tiers import slow_but

K = keras.layers


def test_branches_take_turns_in_the_order_and_share_only_what_does_not_suffice():
    order = [4, 2, 0, 5, 1, 3]
    assert [part(order, 3, s, 2) for s in (0, 1)] == [[0, 1, 4], [2, 3, 5]]
    assert [part(order, 2, s, 2) for s in (0, 1)] == [[0, 4], [2, 5]]
    assert [part(order, 4, s, 2) for s in (0, 1)] == [[0, 1, 2, 4], [2, 3, 4, 5]]
    assert part(order, 6, 1, 2) == sorted(order)


@pytest.mark.parametrize("size", range(1, 13))
@pytest.mark.parametrize("branches", [2, 3, 4])
def test_no_channel_is_left_out_if_the_branches_have_room(size, branches):
    used = np.bincount(np.concatenate([part(range(12), size, s, branches) for s in range(branches)]), minlength=12)
    assert used.sum() == size * branches
    assert used.max() - used.min() <= (2 if used.min() else 1) or size * branches < 12
    assert used.min() >= (size * branches >= 12)


def _chain(widths, name="chain"):
    first, second = widths
    x = image = keras.Input((6, 6, 3))
    x = K.Conv2D(first, 3, padding="same", name="one")(x)
    x = K.ReLU()(x)
    x = K.Conv2D(second, 3, padding="same", name="two")(x)
    x = K.GlobalAveragePooling2D()(K.ReLU()(x))
    return keras.Model(image, K.Dense(5, name="logits")(x), name=name)


def test_the_channels_of_a_chain_are_those_computed_by_hand():
    keras.utils.set_random_seed(3)
    whole, branches = _chain((8, 12)), [_chain((4, 6), f"branch_{s}") for s in (0, 1)]
    for layer in whole.layers:
        if layer.weights:
            layer.bias.assign(np.random.default_rng(len(layer.name)).normal(size=layer.bias.shape))
    assign_slices(whole, branches, "whole")
    one, two, logits = (whole.get_layer(name).kernel.numpy() for name in ("one", "two", "logits"))

    def norm(kernel, axis):
        norms = np.sqrt((kernel.astype(np.float64) ** 2).sum(axis))
        return norms / norms.mean()

    first = np.argsort(-norm(one, (0, 1, 2)) * norm(two, (0, 1, 3)))
    second = np.argsort(-norm(two, (0, 1, 2)) * norm(logits, 1))
    for s, branch in enumerate(branches):
        a, b = np.sort(first[s::2]), np.sort(second[s::2])
        np.testing.assert_array_equal(branch.get_layer("one").kernel, one[..., a])
        np.testing.assert_array_equal(branch.get_layer("one").bias, whole.get_layer("one").bias.numpy()[a])
        np.testing.assert_allclose(branch.get_layer("two").kernel, 2 * two[:, :, a][..., b], rtol=1e-6)
        np.testing.assert_allclose(branch.get_layer("logits").kernel, 2 * logits[b], rtol=1e-6)
        np.testing.assert_array_equal(branch.get_layer("logits").bias, whole.get_layer("logits").bias)


def test_a_head_for_other_classes_starts_anew():
    keras.utils.set_random_seed(1)
    whole, branch = _chain((8, 12)), _chain((4, 6))
    before = branch.get_layer("logits").kernel.numpy()
    fresh = assign_slices(whole, [branch], "whole", new_layers={"logits"})
    assert fresh == ["branch_0/logits/kernel", "branch_0/logits/bias"]
    np.testing.assert_array_equal(branch.get_layer("logits").kernel, before)


def test_gamma_decides_where_a_layer_is_normalised():
    image = keras.Input((4, 4, 3))
    x = K.BatchNormalization(name="norm")(K.Conv2D(4, 1, use_bias=False, name="conv")(image))
    model = keras.Model(image, K.Dense(2, name="logits")(K.GlobalAveragePooling2D()(x)))
    model.get_layer("norm").gamma.assign([1, -4, 2, 1])
    model.get_layer("logits").kernel.assign([[1, 0], [1, 0], [1, 0], [4, 3]])
    graph = channel_graph(model)
    arrays = {weight_name(layer, v): v.numpy() for layer in model.layers for v in layer.variables}
    scores = importance(graph, arrays)[graph.layouts["norm/gamma"].axes[0]]
    np.testing.assert_allclose(scores, [1 / 4, 1, 2 / 4, 5 / 4])  # gamma / 2, times the norm of the row / 2


def _attending(width):
    x = image = keras.Input((8, 8, 3))
    x = K.Conv2D(width, 3, strides=2, padding="same", name="stem")(x)
    y = K.SeparableConv2D(width, 3, padding="same", name="separable")(x)
    y = K.DepthwiseConv2D(3, padding="same", name="depthwise")(y)
    y = K.GroupNormalization(groups=width // 4, name="groups")(K.Add()([x, y]))
    x = K.Concatenate()([y, K.Conv2D(width // 2, 1, name="side")(x)])
    x = K.Reshape((16, -1))(x)
    x = K.Add()([x, K.MultiHeadAttention(2, width // 2, name="attention")(x, x)])
    x = K.LayerNormalization(name="norm")(x)
    return keras.Model(image, K.Dense(4, name="logits")(K.Flatten()(x)))


def test_one_part_is_the_whole_for_layers_of_every_kind():
    keras.utils.set_random_seed(2)
    whole, branch = _attending(16), _attending(16)
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype(np.float32)
    assert not np.allclose(whole(images), branch(images))
    assert assign_slices(whole, [branch], "whole") == []
    np.testing.assert_array_equal(whole(images), branch(images))


@pytest.mark.slow
def test_a_network_of_ones_own_is_divided_as_divide_model_divides_it():
    keras.utils.set_random_seed(2)
    whole = _attending(32)
    branches = divide_model(whole, 4)
    assert assign_slices(whole, list(branches), "whole") == []
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype(np.float32)
    assert all(np.isfinite(branch(images)).all() for branch in branches)
    assert not np.allclose(branches[0](images), branches[1](images))


def test_a_branch_that_is_wider_than_the_whole_is_refused():
    with pytest.raises(UserError, match=r"W cannot be divided into slices: branches are wider than the whole in two"):
        assign_slices(_chain((8, 12)), [_chain((4, 16))], "W")


def test_layers_that_are_joined_in_the_branch_alone_are_refused():
    def joined(widths):
        image = keras.Input((6, 6, 3))
        one, two = (K.Conv2D(width, 3, name=name)(image) for name, width in zip(("one", "two"), widths, strict=True))
        x = K.Add()([one, two]) if widths[0] == widths[1] else K.Concatenate()([one, two])
        return keras.Model(image, K.Dense(5, name="logits")(K.GlobalAveragePooling2D()(x)))

    with pytest.raises(UserError, match="one and two share channels in a branch, but not in the whole"):
        assign_slices(joined((8, 12)), [joined((4, 4))], "W")


WIDER = {  # presets whose branches are wider than the whole somewhere, and where
    "resnexst_tiny": "in a head or group of stage1_block1_split_reduce: 32 channels, the whole has 16",
    "swin_mini": "in stage1_block1_dense1: 160 channels, the whole has 128",
    "upernet_swin_mini": "in stage1_block1_dense1: 152 channels, the whole has 128",
}


def _drawn(model):
    """Return random values for a model's weights, and their shapes, by name."""
    rng, variables = np.random.default_rng(0), {weight_name(x, v): v for x in model.layers for v in x.variables}
    shapes = {name: tuple(v.shape) for name, v in variables.items() if "seed" not in name}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}, shapes


def _network(name, splits):
    """Return what is trained of a preset or its branch: a segmentation network has its auxiliary head."""
    return _dico(name, splits, "published" if 2 in PRESETS[name].spec.splits else "params").learners[0]


def _dico(name, splits, division="params"):
    frames = 4 if PRESETS[name].task == "video" else 0
    return DiCo(name, splits, classes=10, image_size=32, frames=frames, views="none", division=division)


def _divide(name):
    network, branch = _network(name, 1), _network(name, 2)
    arrays, shapes = _drawn(network)
    graph = channel_graph(network)
    assert graph.layouts.keys() == shapes.keys()
    return graph, channel_graph(branch, graph), arrays, _drawn(branch)[1]


@pytest.mark.parametrize("name", slow_but(("wrn_tiny", "vit_tiny"), [name for name in TINY if name not in WIDER]))
def test_every_weight_of_a_preset_is_cut_to_its_shape_in_a_branch(name):
    graph, narrow, arrays, shapes = weightless(_divide, name)
    parts = slices(graph, narrow, arrays, 2)
    for values in parts:
        assert values.keys() == shapes.keys()
        assert all(values[key].size == np.prod(shape) for key, shape in shapes.items())
    same = slices(graph, graph, arrays, 1)[0]
    assert all(np.array_equal(same[key].reshape(array.shape), array) for key, array in arrays.items())
    for key, layout in graph.layouts.items():  # weights of one axis are cut but not scaled: they name their entries
        if len(layout.axes) == 1 and (count := _distinct(graph, narrow, key)):
            chosen = np.concatenate([np.searchsorted(np.sort(arrays[key]), values[key]) for values in parts])
            assert len(np.unique(chosen)) == count, key


def _distinct(graph, narrow, key):
    """Return how many entries of a weight two branches have at most; 0 if its channels belong to larger units."""
    (wide,), (part_of,) = graph.layouts[key].axes, narrow.layouts[key].axes
    if any((graph.units == unit).sum() > 1 for unit in np.unique(graph.units[wide])):
        return 0
    of_whole, of_branch = graph.kinds()[wide], narrow.kinds()[part_of]
    return sum(min((of_whole == kind).sum(), 2 * (of_branch == kind).sum()) for kind in np.unique(of_whole))


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_branches_that_start_from_slices_of_a_preset_answer_differently(name):
    model = _dico(name, 2)
    whole = undivided(model)
    if name in WIDER:
        with pytest.raises(UserError, match=f"branches are wider than the whole {WIDER[name]}"):
            assign_slices(whole.learners[0], model.learners, name)
        return
    assert assign_slices(whole.learners[0], model.learners, name) == []
    one, other = (np.asarray(branch(pictures(name))) for branch in model.branches)
    assert np.isfinite(one).all() and np.isfinite(other).all() and not np.array_equal(one, other)


def test_networks_that_are_not_followed_are_refused():
    image = keras.Input((8, 8, 3))
    x = K.Reshape((8, 8, 4, 2), name="apart")(K.Conv2D(8, 3, padding="same")(image))
    with pytest.raises(
        UserError, match=r"channels cannot be followed through Reshape 'apart': it reshapes .*\(None, 8, 8, 8\)"
    ):
        channel_graph(keras.Model(image, x))
    with pytest.raises(
        UserError, match=r"W cannot be divided into slices: whole and branch differ in layers: the whole has attention"
    ):
        assign_slices(_attending(16), [_chain((4, 4))], "W")
