"""Files of weights, read without PyTorch."""

import sys
import types

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from dico_tf.errors import UserError
from dico_tf.models import checkpoints
from tests.files.torch_pickles import START, state_dict, storage, tensor, value, write_older, write_zip
from tests.fixtures import write_torch_files

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


@pytest.fixture
def without_torch(monkeypatch):
    """Let `import torch` fail, also where it is installed."""
    monkeypatch.setitem(sys.modules, "torch", None)


@pytest.mark.parametrize("name", write_torch_files.NAMES)
def test_files_of_pytorch_become_float32(name, without_torch):
    (result,) = checkpoints.read(write_torch_files.FOLDER / name)
    expected = write_torch_files.weights()
    assert list(result) == list(expected)  # layers are matched by their order
    assert {array.dtype for array in result.values()} == {np.dtype(np.float32)}
    assert all(np.array_equal(result[name], array, equal_nan=True) for name, array in expected.items())


@pytest.mark.parametrize("write", [write_zip, write_older])
def test_a_file_of_pytorch_may_hold_several_branches(write, tmp_path, without_torch):
    tensors = [tensor(storage(6, str(n)), 0, (2, 3), (3, 1)) for n in range(2)]
    names = ("module.models.1.a", "module.models.0.a")
    content = START + b"}" + b"".join(value(name) + part + b"s" for name, part in zip(names, tensors, strict=True))
    path = write(tmp_path / "x.pth.tar", content + b".", {"0": (2 * ONES).tobytes(), "1": ONES.tobytes()})
    first, second = checkpoints.read(path)
    assert np.array_equal(first["a"], ONES) and np.array_equal(second["a"], 2 * ONES)


@pytest.mark.parametrize("key", ["state_dict", "model", "net"])
def test_weights_may_be_under_the_key_that_a_training_program_gives_them(key, tmp_path, without_torch):
    weights = b"}" + value(f"{key}.a") + tensor(storage(6), 0, (2, 3), (3, 1)) + b"s"
    content = START + b"}" + value("epoch") + value(3) + b"s" + value(key) + weights + b"s."
    (result,) = checkpoints.read(write_zip(tmp_path / "x.pth", content, {"0": ONES.tobytes()}))
    assert list(result) == [f"{key}.a"] and np.array_equal(result[f"{key}.a"], ONES)


def test_a_tensor_named_model_is_a_weight(tmp_path, without_torch):
    content = state_dict("model", tensor(storage(6), 0, (2, 3), (3, 1)))
    (result,) = checkpoints.read(write_zip(tmp_path / "x.pth", content, {"0": ONES.tobytes()}))
    assert list(result) == ["model"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (START + value([1, 2]) + b".", "x.pth holds a list, not a state dict"),
        (START + b"}.", "x.pth holds no weights"),
        (state_dict("epoch", value(3)), "x.pth holds 'epoch' of type int, expected a tensor of floats"),
        (START + value({5: 1.0}) + b".", "x.pth has the key 5, expected names of tensors"),
        (
            state_dict("steps", tensor(storage(1, kind=b"ctorch\nLongStorage\n"), 0, (), ())),
            "x.pth holds 'steps' of type int64, expected a tensor of floats",
        ),
        (state_dict("args", b"cargparse\nNamespace\n"), "x.pth holds more than tensors: it names 'argparse.Namespace'"),
        (state_dict("x", b"ctorch._utils\n_rebuild_qtensor\n"), "x.pth holds quantised tensors.*pip install torch"),
    ],
)
def test_what_is_no_weight_of_pytorch_is_named(content, message, tmp_path, without_torch):
    path = write_zip(tmp_path / "x.pth", content, {"0": bytes(8)})
    with pytest.raises(UserError, match=message) as caught:
        checkpoints.read(path)
    assert str(caught.value).startswith(str(path)) and str(caught.value).count(str(path)) == 1


@pytest.mark.parametrize(
    ("opcodes", "used"),
    [
        (b"ctorch._utils\n_rebuild_tensor_v3\n", True),  # float8
        (b"cargparse\nNamespace\n", True),  # its user may have allowed it
        (b"}))s", False),  # a tuple as a key
        (tensor(storage(2), 0, (2**62,), (0,)), False),
        (tensor(storage(2), 0, (3,), (1,)), False),
    ],
)
def test_pytorch_is_only_tried_where_it_may_know_more(opcodes, used, tmp_path, monkeypatch):
    calls = []
    torch = types.SimpleNamespace(load=lambda path, **options: calls.append(options) or {})
    monkeypatch.setitem(sys.modules, "torch", torch)
    with pytest.raises(UserError, match="holds no weights" if used else "x.pth (holds|is damaged)"):
        checkpoints.read(write_zip(tmp_path / "x.pth", state_dict("x", opcodes), {"0": bytes(8)}))
    assert calls == [{"map_location": "cpu", "weights_only": True}] * used


def test_names_of_branches_are_for_all_or_for_none():
    one = np.zeros(1)
    assert checkpoints.by_branch({"module.models.1.a": one, "module.models.0.b": one}) == [{"b": one}, {"a": one}]
    assert checkpoints.by_branch({"module.a": one}) == [{"a": one}]
    for keys in (["models.0.a", "stem.b"], ["models.0.a", "models.2.a"], ["models.1.a"]):
        with pytest.raises(UserError, match=r"expected models.0., models.1. and so on for all tensors, or for none"):
            checkpoints.by_branch(dict.fromkeys(keys, one))
