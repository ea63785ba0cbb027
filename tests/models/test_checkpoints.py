"""Files of weights, read without PyTorch."""

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from dico_tf.errors import UserError
from dico_tf.models import checkpoints

ONES = np.ones((2, 3), np.float32)


def test_safetensors_of_every_width_become_float32(tmp_path):
    kinds = {"full": np.float32, "half": np.float16, "brain": ml_dtypes.bfloat16, "double": np.float64}
    arrays = {name: (1.5 * ONES).astype(kind) for name, kind in kinds.items()}
    save_file({**arrays, "norm.num_batches_tracked": np.array(3)}, tmp_path / "x.safetensors")
    (result,) = checkpoints.read(tmp_path / "x.safetensors")
    assert set(result) == set(kinds)
    assert all(array.dtype == np.float32 and np.array_equal(array, 1.5 * ONES) for array in result.values())


def test_safetensors_may_hold_several_branches(tmp_path):
    save_file({"models.1.a": 2 * ONES, "models.0.a": ONES}, tmp_path / "x.safetensors")
    first, second = checkpoints.read(tmp_path / "x.safetensors")
    assert np.array_equal(first["a"], ONES) and np.array_equal(second["a"], 2 * ONES)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"steps": np.arange(3)}, r"x.safetensors holds 'steps' of type int64, expected floats"),
        ({"a.num_batches_tracked": np.array(1)}, r"x.safetensors holds no weights"),
    ],
)
def test_what_is_no_weight_is_named(arrays, message, tmp_path):
    save_file(arrays, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match=message):
        checkpoints.read(tmp_path / "x.safetensors")


def test_half_a_file_and_none_are_named(tmp_path):
    save_file({"a": ONES}, tmp_path / "x.safetensors")
    (tmp_path / "half.safetensors").write_bytes((tmp_path / "x.safetensors").read_bytes()[:-7])
    with pytest.raises(UserError, match=r"half.safetensors cannot be read as safetensors"):
        checkpoints.read(tmp_path / "half.safetensors")
    with pytest.raises(UserError, match=r"gone.safetensors does not exist"):
        checkpoints.read(tmp_path / "gone.safetensors")


def test_numbers_that_numpy_does_not_know_and_folders_are_named(tmp_path):
    header = b'{"a":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}'
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"11")
    with pytest.raises(UserError, match=r"x.safetensors holds numbers of a type that NumPy does not know"):
        checkpoints.read(tmp_path / "x.safetensors")
    with pytest.raises(UserError, match=r"is a folder, expected a file"):
        checkpoints.read(tmp_path)


def test_names_of_branches_are_for_all_or_for_none():
    one = np.zeros(1)
    assert checkpoints.by_branch({"module.models.1.a": one, "module.models.0.b": one}) == [{"b": one}, {"a": one}]
    assert checkpoints.by_branch({"module.a": one}) == [{"a": one}]
    for keys in (["models.0.a", "stem.b"], ["models.0.a", "models.2.a"], ["models.1.a"]):
        with pytest.raises(UserError, match=r"expected models.0., models.1. and so on for all tensors, or for none"):
            checkpoints.by_branch(dict.fromkeys(keys, one))
