"""Parts of a network's channels: which each branch takes, and the weights cut to them."""

import keras
import numpy as np
import pytest

from dico_tf.divide.networks.channel_graph import channel_graph
from dico_tf.divide.networks.channel_labels import weight_name
from dico_tf.divide.networks.division import divide_model
from dico_tf.divide.networks.graph import weightless
from dico_tf.divide.networks.slices import importance, part, slices
from dico_tf.errors import UserError
from dico_tf.models.presets import PRESETS
from dico_tf.training.sliced_start import assign_slices
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
    carried = assign_slices(whole, [branch], "whole", new_head=True)
    assert carried.fresh == ["branch_0/logits/kernel", "branch_0/logits/bias"]
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
    assert assign_slices(whole, [branch], "whole").fresh == []
    np.testing.assert_array_equal(whole(images), branch(images))


@pytest.mark.slow
def test_a_network_of_ones_own_is_divided_as_divide_model_divides_it():
    keras.utils.set_random_seed(2)
    whole = _attending(32)
    branches = divide_model(whole, 4)
    assert assign_slices(whole, list(branches), "whole").fresh == []
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype(np.float32)
    assert all(np.isfinite(branch(images)).all() for branch in branches)
    assert not np.allclose(branches[0](images), branches[1](images))


FAMILIES = (
    "resnet_tiny", "wrn_tiny", "resnext_tiny", "se_resnet_tiny", "densenet_tiny", "pyramidnet_tiny", "shake_tiny",
    "resnexst_tiny", "efficientnet_tiny", "vit_tiny", "regnety_tiny", "pit_tiny", "xcit_tiny", "x3d_tiny",
)  # fmt: skip


def _drawn(model):
    """Return random values for a model's weights, and their shapes, by name."""
    rng, variables = np.random.default_rng(0), {weight_name(x, v): v for x in model.layers for v in x.variables}
    shapes = {name: tuple(v.shape) for name, v in variables.items() if "seed" not in name}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}, shapes


def _divide(name, splits, division):
    whole = PRESETS[name]
    network, branch = whole.build(32, 10), whole.divided(splits, division, 32, 10).build(32, 10)
    arrays, shapes = _drawn(network)
    graph = channel_graph(network)
    assert graph.layouts.keys() == shapes.keys()
    numbers = {name: np.arange(array.size, dtype=np.float64).reshape(array.shape) for name, array in arrays.items()}
    narrow = channel_graph(branch, graph)
    return graph, narrow, arrays, numbers, _drawn(branch)[1]


@pytest.mark.parametrize("name", slow_but(("densenet_tiny",), FAMILIES))
def test_every_weight_of_a_preset_is_cut_to_its_shape_in_a_branch(name):
    graph, narrow, arrays, numbers, shapes = weightless(_divide, name, 2, "params")
    parts = slices(graph, narrow, arrays, 2)
    for values in parts:
        assert values.keys() == shapes.keys()
        assert all(values[key].size == np.prod(shape) for key, shape in shapes.items())
    same = slices(graph, graph, arrays, 1)[0]
    assert all(np.array_equal(same[key].reshape(array.shape), array) for key, array in arrays.items())
    for key, layout in graph.layouts.items():  # weights of one axis are cut but not scaled: they name their entries
        if len(layout.axes) == 1 and _suffice(graph, narrow, key):
            chosen = np.concatenate([np.searchsorted(np.sort(arrays[key]), values[key]) for values in parts])
            assert len(np.unique(chosen)) == numbers[key].size, key


def _suffice(graph, narrow, key):
    """Return True if two branches have room for all channels of a weight: of each kind, and none of a larger unit."""
    (wide,), (part_of,) = graph.layouts[key].axes, narrow.layouts[key].axes
    of_whole, of_branch = graph.kinds()[wide], narrow.kinds()[part_of]
    alone = all((graph.units[np.unique(wide)] == unit).sum() == 1 for unit in graph.units[wide])
    return alone and all(2 * (of_branch == kind).sum() >= (of_whole == kind).sum() for kind in np.unique(of_whole))


def test_networks_that_are_not_followed_are_refused():
    image = keras.Input((8, 8, 3))
    x = K.Reshape((8, 8, 4, 2), name="apart")(K.Conv2D(8, 3, padding="same")(image))
    with pytest.raises(
        UserError, match=r"Reshape 'apart' cannot be divided into slices: it reshapes .*\(None, 8, 8, 8\)"
    ):
        channel_graph(keras.Model(image, x))
    with pytest.raises(
        UserError, match=r"W cannot be divided into slices: whole and branch differ in layers, e\.g\. attention"
    ):
        assign_slices(_attending(16), [_chain((4, 4))], "W")
