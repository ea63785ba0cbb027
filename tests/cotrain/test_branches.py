"""Co-training of listed branches, which differ in depth and image size."""

import keras
import numpy as np
import pytest

from dico_tf.cotrain import DiCo
from dico_tf.errors import UserError
from dico_tf.models.branch_list import BranchList, listed_branch
from dico_tf.training import variables
from dico_tf.training.lamb import Lamb
from dico_tf.training.optimizers import SGD
from tests.small_network import small_branches

DRAW = np.random.default_rng(0)
IMAGES, LABELS = DRAW.integers(0, 256, (8, 16, 16, 3), np.uint8), np.arange(8) % 3


def dico(network: BranchList, **settings) -> DiCo:
    keras.utils.set_random_seed(0)
    options = {"classes": 3, "image_size": 16, "views": "none", **settings}
    return DiCo(network.reference, len(network.listed), **options)


def step(model: DiCo, optimizer) -> DiCo:
    model.compile(optimizer, run_eagerly=True)
    history = model.fit(IMAGES, LABELS, batch_size=8, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    return model


def test_each_branch_has_its_own_depth_and_image_size():
    network = small_branches()
    model = dico(network)
    depths = [len(branch.trainable_variables) for branch in model.branches]
    assert depths == [11, 5] and model.predict(IMAGES, verbose=0).shape == (8, 2, 3)
    assert [any(layer.name == "branch_resize" for layer in branch.layers) for branch in model.branches] == [False, True]
    assert model.branches[1].get_layer("conv_0").input.shape[1:3] == (12, 12)


OPTIMIZERS = {
    "sgd": (lambda sizes: SGD(0.1), {"clip_norm": 0.05}),
    "lamb": (lambda sizes: Lamb(0.01, weight_decay=0.1, clip=0.05, networks=sizes), {}),
}


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "settings"), OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_each_branch_is_clipped_as_if_it_was_alone(optimizer, settings):
    """Without agreement, two branches learn together what each learns alone."""
    network = small_branches()
    together = dico(network, agreement="none", **settings)
    starts = [branch.get_weights() for branch in together.branches]
    step(together, optimizer([len(branch.trainable_variables) for branch in together.branches]))
    for s, start in enumerate(starts):
        alone = dico(BranchList(listed=network.listed[s : s + 1]), agreement="none", **settings)
        alone.branches[0].set_weights(start)
        step(alone, optimizer(1))
        pairs = zip(together.branches[s].get_weights(), alone.branches[0].get_weights(), strict=True)
        for one, other in pairs:
            np.testing.assert_allclose(one, other, atol=1e-6)
        assert any(not np.array_equal(a, b) for a, b in zip(start, alone.branches[0].get_weights(), strict=True))


SETTINGS = {
    "kl": {"agreement": "kl"},
    "other views": {"views": ("crop+flip", "cutout")},
    "mixup": {"mixup": 0.4, "cutmix": 1.0},
    "distill": {"method": "distill", "teacher": lambda images: keras.ops.zeros((len(images), 3))},
    "binary": {"target": "binary", "average": "probs"},
}


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_every_way_to_co_train_takes_them(settings):
    model = dico(small_branches(), **settings)
    starts = [branch.get_weights() for branch in model.branches]
    step(model, "sgd")
    for start, branch in zip(starts, model.branches, strict=True):
        assert any(not np.array_equal(old, new) for old, new in zip(start, branch.get_weights(), strict=True))


def test_a_saved_model_needs_no_other_file(tmp_path):
    model = step(dico(small_branches()), SGD(0.1, use_ema=True))
    model.save(tmp_path / "dico.keras")
    again = keras.saving.load_model(tmp_path / "dico.keras")
    assert np.array_equal(again.predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0))
    assert variables.weights(again).keys() == variables.weights(model).keys()


def test_what_divides_or_drops_is_refused():
    reference = small_branches().reference
    with pytest.raises(UserError, match=r"splits=3 differs from the number of branches: give splits=2"):
        DiCo(reference, 3, classes=3, image_size=16)
    with pytest.raises(UserError, match=r"--drop_path=0.1 is for presets"):
        DiCo(reference, 2, classes=3, image_size=16, drop_path=0.1)
    with pytest.raises(UserError, match="has no residual branches that are dropped"):
        DiCo(reference, 2, classes=3, image_size=16, drop_form="efficient")


def test_attention_of_keras_keeps_all_its_weights_in_checkpoints():
    image = keras.Input((4, 4, 3))
    tokens = keras.layers.Reshape((16, 3))(image)
    attention = keras.layers.MultiHeadAttention(2, 4, name="attention")(tokens, tokens)
    network = keras.Model(image, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling1D()(attention)))
    branch, arrays, _ = listed_branch(network, "a", 4, "a.keras")
    model = dico(BranchList(listed=(branch,)), image_size=4)
    branch.fill(model.branches[0], arrays)
    named = variables.weights(model)
    assert len(named) == len(model.branches[0].variables) == 10
    assert np.array_equal(named["branch_0/attention/value/kernel"], network.get_layer("attention").get_weights()[4])
