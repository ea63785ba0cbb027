"""Small networks, one for each way in which a width passes from layer to layer."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from tests.divide.networks.contract import divided, sizes


def conv(x, filters, name, kernel=1, **options):
    return layers.Conv2D(filters, kernel, padding="same", name=name, **options)(x)


def head(x):
    return layers.Dense(5, name="head")(layers.GlobalAveragePooling2D()(x))


@pytest.fixture
def image():
    return keras.Input((8, 8, 3), name="image")


def test_a_sum_ties_its_terms(image):
    a = conv(image, 24, "a", 3)
    b = conv(conv(a, 48, "hidden"), 24, "b")
    _, branch = divided(keras.Model(image, head(layers.Add()([a, b]))))
    wide, other, hidden = sizes(branch, "a", "b", "hidden")
    assert wide == other < 24 and wide < hidden < 48 and sizes(branch, "head") == [5]


def test_a_sum_with_the_input_keeps_its_width(image):
    x = layers.Average()([image, conv(conv(image, 32, "hidden"), 3, "back")])
    _, branch = divided(keras.Model(image, head(x)))
    assert sizes(branch, "back") == [3] and sizes(branch, "hidden")[0] < 32


def test_concatenations_of_unlike_widths_meet_in_a_sum_and_pass_a_depthwise_convolution(image):
    a, b = conv(image, 16, "a"), conv(image, 40, "b")
    left = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="depthwise")(layers.Concatenate()([a, b]))
    right = conv(image, 112, "right")
    _, branch = divided(keras.Model(image, head(layers.Maximum()([left, right]))))
    a, b, depthwise, right = sizes(branch, "a", "b", "depthwise", "right")
    assert depthwise == right == 2 * (a + b) < 112


def test_two_concatenations_whose_pieces_overlap_meet_in_a_sum(image):
    left = layers.Concatenate()([conv(image, 32, "a"), conv(image, 16, "b")])
    right = layers.Concatenate()([conv(image, 16, "c"), conv(image, 32, "d")])
    _, branch = divided(keras.Model(image, head(layers.Add()([left, right]))))
    a, b, c, d = sizes(branch, "a", "b", "c", "d")
    assert a + b == c + d < 48


def test_squeeze_and_excite_by_a_reshape(image):
    x = conv(image, 32, "wide", 3)
    s = layers.Reshape((1, 1, 32), name="reshape")(layers.GlobalAveragePooling2D()(x))
    s = conv(conv(s, 8, "squeeze"), 32, "excite")
    _, branch = divided(keras.Model(image, head(layers.Multiply()([x, s]))))
    wide, excite, squeeze = sizes(branch, "wide", "excite", "squeeze")
    assert wide == excite < 32 and squeeze < 8 and branch.get_layer("reshape").target_shape == (1, 1, wide)


def test_a_gate_of_one_channel_broadcasts(image):
    x = conv(image, 32, "wide", 3)
    _, branch = divided(keras.Model(image, head(x * conv(x, 1, "gate", activation="sigmoid"))))
    assert sizes(branch, "gate") == [1] and sizes(branch, "wide")[0] < 32


def test_many_narrow_groups_become_fewer(image):
    x = conv(conv(image, 64, "before"), 128, "groups", 3, groups=16)
    _, branch = divided(keras.Model(image, head(x)))
    layer = branch.get_layer("groups")
    assert layer.groups < 16 and layer.filters == 8 * layer.groups and sizes(branch, "before") == [4 * layer.groups]
    assert type(layer).__name__ == "GroupedConvolution"


def test_few_wide_groups_become_narrower(image):
    x = conv(conv(image, 64, "before"), 96, "groups", 3, groups=2)
    _, branch = divided(keras.Model(image, head(x)))
    layer = branch.get_layer("groups")
    assert layer.groups == 2 and layer.filters < 96 and layer.filters % 2 == 0
    assert sizes(branch, "before")[0] < 64 and sizes(branch, "before")[0] % 2 == 0


def test_groups_of_the_inputs_channels_stay(image):
    _, branch = divided(keras.Model(image, head(conv(conv(image, 24, "groups", 3, groups=3), 32, "after"))))
    assert branch.get_layer("groups").groups == 3 and sizes(branch, "groups")[0] % 3 == 0


def test_a_depthwise_convolution_of_the_input_narrows_by_its_multiplier(image):
    x = layers.DepthwiseConv2D(3, depth_multiplier=12, name="depthwise")(image)
    _, branch = divided(keras.Model(image, head(conv(x, 32, "after"))))
    layer = branch.get_layer("depthwise")
    assert sizes(branch, "depthwise") == [3 * layer.depth_multiplier] and layer.depth_multiplier < 12


@pytest.mark.parametrize(("width", "count", "members"), [(64, 32, 2), (64, 4, None), (12, 12, 1), (64, 1, None)])
def test_groups_of_a_normalisation_stay_whole(image, width, count, members):
    x = layers.GroupNormalization(groups=count, name="norm")(conv(image, width, "wide", 3))
    division, branch = divided(keras.Model(image, head(conv(x, 40, "after"))))
    norm, (wide,) = branch.get_layer("norm"), sizes(branch, "wide")
    assert wide < width and wide % norm.groups == 0 and division.met
    assert norm.groups == (count if members is None else wide // members)


def test_normalisations_and_activations_with_weights_are_made_for_what_comes(image):
    x = conv(image, 48, "wide", 3)
    for layer in (
        layers.BatchNormalization(),
        layers.LayerNormalization(),
        layers.PReLU(shared_axes=[1, 2]),
        layers.RMSNormalization(),
    ):
        x = layer(x)
    _, branch = divided(keras.Model(image, head(x)))
    assert {w.shape[-1] for layer in branch.layers[2:-2] for w in layer.weights} == set(sizes(branch, "wide"))


def test_channels_first_is_followed_as_well():
    image = keras.Input((3, 8, 8))
    x = layers.Conv2D(32, 3, data_format="channels_first", name="wide")(image)
    x = layers.BatchNormalization(axis=1)(x)
    x = layers.Dense(5)(layers.GlobalAveragePooling2D(data_format="channels_first")(x))
    from dico_tf.divide.networks.division import plan
    from dico_tf.divide.networks.graph import weightless

    division = plan(keras.Model(image, x), 2)  # no processor here convolves it
    assert weightless(division.build).get_layer("wide").output.shape[1] < 32


def test_positions_pass_through_pooling_padding_cropping_and_upsampling(image):
    x = conv(image, 32, "wide", 3)
    for layer in (
        layers.ZeroPadding2D(1),
        layers.MaxPooling2D(2),
        layers.UpSampling2D(2),
        layers.Cropping2D(1),
        layers.SpatialDropout2D(0.1),
    ):
        x = layer(x)
    _, branch = divided(keras.Model(image, head(layers.AveragePooling2D(2)(layers.GaussianNoise(0.1)(x)))))
    assert sizes(branch, "wide")[0] < 32


def test_channels_that_a_convolution_runs_along_keep_their_number(image):
    x = layers.Reshape((32, 1))(layers.GlobalAveragePooling2D()(conv(conv(image, 48, "before"), 32, "wide", 3)))
    x = layers.Flatten()(layers.Conv1D(4, 3, name="along")(x))
    _, branch = divided(keras.Model(image, layers.Dense(5)(x)))
    assert sizes(branch, "wide") == [32] and sizes(branch, "before")[0] < 48


def test_transposed_and_separable_convolutions_have_filters(image):
    x = layers.Conv2DTranspose(24, 3, strides=2, name="up")(image)
    x = layers.SeparableConv2D(40, 3, depth_multiplier=2, name="separable")(x)
    division, branch = divided(keras.Model(image, head(x)))
    assert sizes(branch, "up")[0] < 24 and sizes(branch, "separable")[0] < 40 and division.met


def test_flattened_positions_narrow_with_their_channels(image):
    x = layers.Flatten(name="flat")(conv(image, 16, "wide", 3))
    _, branch = divided(keras.Model(image, layers.Dense(5)(layers.Dense(32, activation="relu")(x))))
    assert sizes(branch, "flat") == [64 * sizes(branch, "wide")[0]] and sizes(branch, "wide")[0] < 16


def test_a_dense_layer_may_make_an_image():
    seed = keras.Input((6,))
    x = layers.Reshape((4, 4, 16), name="image")(layers.Dense(256, name="dense")(seed))
    _, branch = divided(keras.Model(seed, layers.Conv2D(3, 3)(x)))
    (width,) = sizes(branch, "image")
    assert width < 16 and sizes(branch, "dense") == [16 * width]


def test_a_channel_shuffle_keeps_its_groups(image):
    x = layers.Reshape((64, 4, 16))(conv(image, 64, "wide", 3))
    x = layers.Reshape((8, 8, 64), name="shuffled")(layers.Permute((1, 3, 2))(x))
    _, branch = divided(keras.Model(image, head(conv(x, 32, "after", 3))))
    assert sizes(branch, "shuffled") == sizes(branch, "wide") and sizes(branch, "wide")[0] % 4 == 0


def test_operations_and_constants_are_followed(image):
    x = conv(image, 32, "wide", 3)
    x = ops.relu(x + 3.0) * (1 / 6) - 1.0
    x = x / ops.sqrt(ops.mean(ops.square(x), axis=-1, keepdims=True) + 1e-5)
    gate = ops.expand_dims(ops.expand_dims(ops.mean(x, axis=(1, 2)), 1), 1)
    x = ops.concatenate([x * ops.sigmoid(gate), ops.max(x, axis=-1, keepdims=True)], axis=-1)
    _, branch = divided(keras.Model(image, head(conv(x, 24, "after"))))
    assert branch.get_layer("after").kernel.shape[2] == sizes(branch, "wide")[0] + 1 < 33


def test_a_constant_of_every_channel_fixes_them(image):
    x = conv(image, 24, "scaled") * np.linspace(0, 1, 24).astype("float32")
    _, branch = divided(keras.Model(image, head(conv(x, 64, "after"))))
    assert sizes(branch, "scaled") == [24] and sizes(branch, "after")[0] < 64


def test_slices_and_pieces_move_with_the_widths(image):
    x = conv(image, 48, "wide", 3)
    first_half, passed = x[..., :16], x[:, 1:-1, :, 16:]
    a, b = ops.split(conv(first_half, 64, "gated"), 2, axis=-1)
    model = keras.Model(
        image, [head(a * ops.sigmoid(b)), layers.Dense(4, name="other")(layers.GlobalMaxPooling2D()(passed))]
    )
    _, branch = divided(model)
    assert (
        branch.get_layer("gated").kernel.shape[2] + branch.get_layer("other").kernel.shape[0]
        == sizes(branch, "wide")[0]
    )
    assert sizes(branch, "gated") == [2 * branch.get_layer("head").kernel.shape[0]]


def test_a_shared_layer_has_one_width_for_all_its_calls(image):
    shared = layers.Conv2D(32, 1, name="shared")
    a, b = conv(image, 32, "a"), conv(image, 32, "b")
    x = layers.Add()([shared(a), shared(shared(b))])
    _, branch = divided(keras.Model(image, head(x)))
    assert len({branch.get_layer(n).filters for n in ("a", "b", "shared")}) == 1
    assert len(branch.get_layer("shared").weights) == 2


def test_models_within_a_model_are_divided_with_it(image):
    inner_image = keras.Input((8, 8, 16))
    inner = keras.Model(inner_image, conv(conv(inner_image, 64, "within"), 16, "same"), name="inner")
    x = conv(image, 16, "stem")
    chain = keras.Sequential(
        [layers.GlobalAveragePooling2D(), layers.Dense(32, name="stem"), layers.Dense(5)], name="answer"
    )
    division, branch = divided(keras.Model(image, chain(layers.Add()([x, inner(inner(x))]))))
    assert sizes(branch, "within")[0] < 64 and division.met and branch.output_names == ["answer"]
    assert [layer.name for layer in branch.layers if "stem" in layer.name] == ["stem", "stem_1"]


def test_several_inputs_and_outputs_keep_names_and_sizes(image):
    facts = keras.Input((7,), name="facts")
    x = layers.Concatenate()(
        [layers.GlobalAveragePooling2D()(conv(image, 32, "wide", 3)), layers.Dense(32, name="dense")(facts)]
    )
    model = keras.Model(
        {"image": image, "facts": facts},
        {"label": layers.Dense(5, name="label")(x), "age": layers.Dense(1, name="age")(x)},
    )
    from dico_tf.divide import divide_model

    branches = divide_model(model, 2)
    answer = branches[1]({"image": np.zeros((2, 8, 8, 3)), "facts": np.zeros((2, 7))})
    assert {key: value.shape for key, value in answer.items()} == {"label": (2, 5), "age": (2, 1)}
    assert set(branches[1].output_names) == {"label", "age"}


def test_a_network_of_open_size_is_divided_by_its_parameters():
    image = keras.Input((None, None, 3))
    x = layers.Concatenate()([conv(image, 32, "a", 3), conv(image, 16, "b", 3)])
    division, branch = divided(keras.Model(image, conv(x, 4, "mask")))
    assert division.met and division.branch.macs is None and branch.output_shape == (None, None, None, 4)
