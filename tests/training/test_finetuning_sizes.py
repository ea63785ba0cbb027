"""Fine-tuning at another image size: weights are kept, position tables resized, and the head may be new."""

import keras
import numpy as np
import pytest

from dico_tf.config import Config, from_values
from dico_tf.errors import UserError
from dico_tf.files import json_files
from dico_tf.files.arrays import write_folder
from dico_tf.layers.resizing import bicubic
from dico_tf.training import build, variables, workdir


def data(size: int, classes: int = 3) -> dict:
    return {"class_names": list("abcde"[:classes]), "image_size": size, "mean": (0.5,) * 3, "std": (0.25,) * 3}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Write the folder of a run at 32 pixels with untrained weights."""
    folder = tmp_path_factory.mktemp("run")
    config = from_values({"model": "vit_tiny", "method": "cosub"})
    model = build.network(config, data(32))
    weights = variables.values(variables.weights(model))
    write_folder(folder / "best", {"weights": weights}, {"epoch": 0})
    json_files.write(folder / "config.json", workdir.describe(config, data(32), "vit_tiny"))
    return folder, weights


def started(folder, config: Config, size: int, classes: int = 3):
    model = build.network(config, data(size, classes))
    return build.start_from(model, folder).fresh, variables.values(variables.weights(model))


@pytest.mark.parametrize("method", ["dico", "cosub"])
def test_a_larger_picture_takes_all_weights_and_resizes_the_places(run, method):
    folder, before = run
    fresh, after = started(folder, from_values({"model": "vit_tiny", "method": method}), 48)
    assert fresh == [] and before.keys() == after.keys()
    table = "branch_0/positions/table"
    assert (before[table].shape, after[table].shape) == ((8, 8, 64), (12, 12, 64))
    np.testing.assert_allclose(after[table], bicubic(before[table], (12, 12)), atol=1e-6)
    rest = [name for name in before if name != table and not name.endswith("seed_generator_state")]
    assert len(rest) > 50 and all(np.array_equal(before[name], after[name]) for name in rest)


def test_what_a_run_drops_is_drawn_by_its_own_seed_whatever_it_begins_with(run):
    folder, before = run
    result = []
    for seed in (1, 2):
        keras.utils.set_random_seed(seed)
        model = build.network(from_values({"model": "vit_tiny", "method": "cosub"}), data(32))
        fresh = variables.values(variables.weights(model))
        build.start_from(model, folder)
        after = variables.values(variables.weights(model))
        result.append([after[name] for name in after if name.endswith("seed_generator_state")])
        assert np.array_equal(result[-1], [fresh[name] for name in fresh if name.endswith("seed_generator_state")])
        assert np.array_equal(after["branch_0/block1_dense1/kernel"], before["branch_0/block1_dense1/kernel"])
    assert len(result[0]) == 8 and not np.array_equal(*result)


def test_other_classes_get_a_fresh_head_at_a_larger_picture_too(run):
    folder, _ = run
    fresh, _ = started(folder, from_values({"model": "vit_tiny"}), 48, classes=5)
    assert sorted(fresh) == ["branch_0/logits/bias", "branch_0/logits/kernel"]


def test_another_network_is_refused_though_its_places_could_be_resized(run):
    folder, _ = run
    with pytest.raises(UserError, match=r"which does not fit: .* variables differ"):
        started(folder, from_values({"model": "pit_tiny"}), 48)
