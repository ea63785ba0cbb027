"""Networks with fewer of their blocks answer as the submodels they were trained as."""

import keras
import numpy as np
import pytest

from dico_tf.divide.networks.cost import cost
from dico_tf.errors import UserError
from dico_tf.layers.stochastic_depth import droppings, set_form
from dico_tf.models.presets import PRESETS
from dico_tf.models.submodel import blocks, shorter, without

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    built = PRESETS["vit_tiny"].with_drop_path(0.5).build(32, 7)
    for variable in built.trainable_variables:
        if variable.name == "scale":
            variable.assign(np.random.default_rng(1).uniform(0.5, 1.5, variable.shape))
    set_form(built, "masked")
    return built


def test_a_block_is_its_attention_and_its_mlp(network):
    assert blocks(network) == [[f"block{n}_attention", f"block{n}_mlp"] for n in (1, 2, 3, 4)]


@pytest.mark.parametrize(("count", "remaining"), [(2, {1, 3}), (3, {1, 2, 3}), (1, {1})])
def test_fewer_blocks_answer_as_the_same_submodel_does_in_training(network, count, remaining, monkeypatch):
    result = np.asarray(shorter(network, count)(IMAGES))
    for layer in network.layers:
        if hasattr(layer, "rate"):
            monkeypatch.setattr(layer, "rate", 1 - count / 4)
    for layer in droppings(network):
        stays = int(layer.name[5]) in remaining
        rows = np.arange(3, dtype=np.int32) if stays else np.full(3, -1, np.int32)
        monkeypatch.setattr(layer, "call", lambda x, training=False, rows=rows: (x, keras.ops.convert_to_tensor(rows)))
    assert result == pytest.approx(np.asarray(network(IMAGES, training=True)), abs=1e-5)


def test_all_blocks_are_the_network_and_fewer_cost_their_share(network):
    assert np.array_equal(shorter(network, 4)(IMAGES), network(IMAGES))
    whole, half = cost(network), cost(shorter(network, 2))
    outside = 64 * 48 * 64 + 64 * 7
    assert half.macs - outside == (whole.macs - outside) // 2
    assert half.params < 0.6 * whole.params


def test_a_number_of_blocks_it_has_not_is_refused(network):
    with pytest.raises(UserError, match="vit cannot answer with 5 blocks: it has 4 that can be dropped"):
        shorter(network, 5)
    with pytest.raises(UserError, match="wrn cannot answer with 1 blocks: none of its"):
        shorter(PRESETS["wrn_tiny"].build(32, 7), 1)


def test_branches_are_left_out_one_by_one_too(network):
    assert np.array_equal(without(network, [])(IMAGES), network(IMAGES))
    left = without(network, ["block1_attention", "block3_mlp"])
    attention, mlp = 4 * 64 * 64 * 65 + 2 * 65 * 65 * 64, 8 * 64 * 64 * 65
    assert cost(network).macs - cost(left).macs == attention + mlp
    assert {id(v) for v in left.variables} < {id(v) for v in network.variables}
    with pytest.raises(UserError, match="no droppable branch 'block9_mlp'"):
        without(network, ["block9_mlp"])
    with pytest.raises(UserError, match="only 8 droppable ones"):
        without(network, [f"block{n}_{part}" for n in range(1, 5) for part in ("attention", "mlp")])
