"""Networks with fewer residual branches on the same weights."""

import keras
import numpy as np
import pytest

from dico_tf.divide.networks.cost import cost
from dico_tf.errors import UserError
from dico_tf.models.menu import PRESETS
from dico_tf.models.submodel import droppable, shallower, without

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def vit() -> keras.Model:
    """With scales at which branches matter, as they do after training."""
    network = PRESETS["vit_tiny"].build(32, 10)
    for variable in network.trainable_variables:
        if variable.name == "gamma" or "scale" in variable.path:
            variable.assign(keras.ops.ones(variable.shape))
    return network


def test_what_is_left_out_adds_nothing_and_is_not_computed(vit):
    names = droppable(vit)
    assert len(names) == 8
    assert np.array_equal(without(vit, [])(IMAGES), vit(IMAGES))
    left = without(vit, names[1:3])
    assert droppable(left) == [names[0], *names[3:]] and not np.allclose(left(IMAGES), vit(IMAGES))
    attention, mlp = 4 * 64 * 64 * 65 + 2 * 65 * 65 * 64, 8 * 64 * 64 * 65
    assert cost(vit).macs - cost(left).macs == attention + mlp
    tokens = keras.Model(vit.input, vit.get_layer("norm").output)
    assert without(vit, names).get_layer("norm").output.shape == tokens.output.shape


def test_weights_are_shared_and_not_copied(vit):
    part = shallower(vit, 0.5)
    own = {id(v) for v in part.variables}
    assert own < {id(v) for v in vit.variables}


@pytest.mark.parametrize(("share", "blocks"), [(1.0, [1, 2, 3, 4]), (0.75, [2, 3, 4]), (0.5, [2, 4]), (0.25, [4])])
def test_blocks_stay_or_go_whole_and_spread_over_the_depth(vit, share, blocks):
    assert droppable(shallower(vit, share)) == [f"block{b}_{k}_put_back" for b in blocks for k in ("attention", "mlp")]


def test_what_cannot_be_left_out_is_said(vit):
    with pytest.raises(UserError, match="no residual branch 'block9_mlp_put_back'"):
        without(vit, ["block9_mlp_put_back"])
    with pytest.raises(UserError, match=r"submodel=1\.5 is no share"):
        shallower(vit, 1.5)
    with pytest.raises(UserError, match="there is none to leave out"):
        shallower(PRESETS["wrn_tiny"].build(32, 10), 0.5)
