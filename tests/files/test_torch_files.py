"""Files of torch.save are read without PyTorch: right, or refused with one message."""

import os
import pickle
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from dico_tf.errors import UserError
from dico_tf.files import torch_files
from dico_tf.files.inert_pickle import UnsupportedError
from dico_tf.files.torch_tensors import TorchTensor
from tests.files.torch_pickles import FLOATS, REBUILD, START, state_dict, storage, tensor, value, write_older, write_zip
from tests.fixtures.write_torch_files import BRAIN, FOLDER, NAMES, NUMBERS, VALUES, weights

FOUR = np.float32([0.5, -1, 2, 4])


def same(tensor: TorchTensor, array: np.ndarray) -> bool:
    """Return True if type, shape and every bit are equal."""
    values = tensor.array()
    return (values.dtype, values.shape, values.tobytes()) == (array.dtype, array.shape, array.tobytes())


@pytest.mark.parametrize("name", NAMES)
def test_both_formats_are_read_as_they_were_written(name):
    content = torch_files.read(FOLDER / name)
    assert content["values"] == {**VALUES, "size": (2, 3), "milestones": {30: 1, 60: 1}}
    assert list(content["state_dict"]) == list(weights()) and list(content["numbers"]) == list(NUMBERS)
    assert all(same(content["state_dict"][name], array) for name, array in weights().items())
    assert all(same(content["numbers"][name], array) for name, array in NUMBERS.items())
    types = {name: tensor.dtype for name, tensor in content["numbers"].items()}
    assert types == {name: name for name in NUMBERS} and content["state_dict"][BRAIN].dtype == "bfloat16"


@pytest.mark.parametrize("name", NAMES)
def test_tensors_that_share_a_storage_share_memory(name):
    weights = torch_files.read(FOLDER / name)["state_dict"]
    assert np.shares_memory(weights["conv.bias"].array(), weights["conv.tied"].array())
    assert np.shares_memory(weights["conv.bias"].array(), weights["conv.weight"].array())


def test_a_view_that_older_files_describe_is_a_part_of_its_storage(tmp_path):
    window = storage(4, more=[("view", 1, 3)])
    path = write_older(tmp_path / "x.pth", state_dict("x", tensor(window, 1, (2,), (1,))), {"0": FOUR.tobytes()})
    assert same(torch_files.read(path)["x"], FOUR[2:])


def test_names_of_python_2_and_its_ordered_dict_are_read(tmp_path):
    name = b"U\x03\xc3\xa9."
    pairs = b"]](" + name + tensor(storage(4, more=[None]), 0, (4,), (1,)) + b"ea"
    content = START + b"ccollections\nOrderedDict\n(" + pairs + b"tR."
    assert same(torch_files.read(write_older(tmp_path / "x.pth", content, {"0": FOUR.tobytes()}))["é."], FOUR)


def test_any_name_of_the_top_folder_is_accepted_and_archives_without_byte_order_are_little_endian(tmp_path):
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("my model/data.pkl", state_dict("x", tensor(storage(4), 0, (2, 2), (1, 2))))
        archive.writestr("my model/data/0", FOUR.tobytes())
    assert same(torch_files.read(path)["x"], FOUR.reshape(2, 2).T)


def test_archives_without_checksums_are_read_and_others_compared_with_theirs(tmp_path):
    content = (FOLDER / "zip.pth").read_bytes()
    start = content.index(weights()["special"].tobytes())
    (tmp_path / "x.pth").write_bytes(content[:start] + b"\x01" + content[start + 1 :])
    damaged = torch_files.read(tmp_path / "x.pth")["state_dict"]
    with pytest.raises(UserError, match="the checksum of a tensor differs"):
        damaged["special"].array()
    with zipfile.ZipFile(tmp_path / "x.pth") as archive:
        sums = {struct.pack("<L", info.CRC) for info in archive.infolist() if info.CRC}
    content = (tmp_path / "x.pth").read_bytes()
    for checksum in sums:
        content = content.replace(checksum, bytes(4))
    (tmp_path / "x.pth").write_bytes(content)
    assert torch_files.read(tmp_path / "x.pth")["state_dict"]["special"].array()[1:3].tolist()[0] == -np.inf


def test_a_file_that_changes_before_its_numbers_are_read_is_refused(tmp_path):
    path = tmp_path / "x.pth"
    path.write_bytes((FOLDER / "older.pth").read_bytes())
    weights = torch_files.read(path)["state_dict"]
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match="is damaged or incomplete"):
        for value in weights.values():
            value.array()
    path.unlink()
    with pytest.raises(UserError, match="cannot be read: No such file"):
        torch_files.read(FOLDER / "gone.pth")


def _one(opcodes: bytes):
    return state_dict("x", opcodes)


LIMIT = 2**62
CONTENTS = [
    (tensor(storage(4), 1, (4,), (1,)), "a tensor reaches beyond its storage"),
    (tensor(storage(4), 0, (2, 2), (2, 2)), "a tensor reaches beyond its storage"),
    (tensor(storage(4), 5, (0,), (1,)), "a tensor reaches beyond its storage"),
    (tensor(storage(4), 0, (LIMIT,), (1,)), "a tensor reaches beyond its storage"),
    (tensor(storage(4), 0, (LIMIT,), (LIMIT,)), "a tensor reaches beyond its storage"),
    (tensor(storage(4), 0, (LIMIT,), (0,)), "tensors that repeat their values to over 8 times"),
    (tensor(storage(4), 0, (0, LIMIT), (0, 0)), "tensors that repeat their values to over 8 times"),
    (tensor(storage(4), 0, (2,) * 64, (0,) * 64), "tensors that repeat their values to over 8 times"),
    (tensor(storage(4), 0, (2**80,), (0,)), "its pickle: 'an integer that is too large'"),
    (tensor(storage(4), 0, (2**70,), (0,)), "impossible sizes or strides"),
    (tensor(storage(4), 3, (2,), (-1,)), "impossible sizes or strides"),
    (tensor(storage(4), -1, (2,), (1,)), "impossible sizes or strides"),
    (tensor(storage(4), 0, (2.0,), (1,)), "impossible sizes or strides"),
    (tensor(storage(4), 0, (1,) * 65, (1,) * 65), "a tensor with 65 dimensions"),
    (tensor(storage(4), 0, (2,), (1, 1)), "a tensor with 1 dimensions and 2 strides"),
    (tensor(storage(4), 0, [2], (1,)), "a tensor that is described in another way"),
    (tensor(storage(4), 0, 2, (1,)), "a tensor that is described in another way"),
    (tensor(value(4), 0, (2,), (1,)), "a tensor that is described in another way"),
    (tensor(storage(2**40), 0, (2,), (1,)), "storage '0' is larger than the file"),
    (tensor(storage(-1), 0, (2,), (1,)), "storage '0' is larger than the file"),
    (b"(" + storage(4) + storage(3) + b"t", "storage '0' is described in two ways"),
    (storage(4, more=[("v", 2, 3)]), "a view reaches beyond storage '0'"),
    (storage(4, more=[("v", -1, 3)]), "a view reaches beyond storage '0'"),
    (storage(4, more=[1]), "a storage that is described in another way"),
    (storage(4, key=7), "a storage that is described in another way"),
    (value("storage") + b"Q", "a storage that is described in another way"),
    (tensor(storage(4), 0, (2,), (1,), b"\x89}" + value({"conj": True})), "holds tensors with metadata"),
    (b"ctorch._utils\n_rebuild_parameter\n(N\x89}tR", "a parameter without a tensor"),
    (REBUILD + b"(tR", "a tensor that is described in another way"),
]


@pytest.mark.parametrize("write", [write_older, write_zip])
@pytest.mark.parametrize(("opcodes", "message"), CONTENTS)
def test_sizes_are_checked_before_memory_is_allocated(opcodes, message, write, tmp_path):
    path = write(tmp_path / "x.pth", _one(opcodes), {"0": FOUR.tobytes()})
    with pytest.raises(UserError, match=message):
        torch_files.read(path)


REFUSED = {
    "quantised tensors": b"ctorch._utils\n_rebuild_qtensor\n",
    "sparse tensors": b"ctorch._utils\n_rebuild_sparse_tensor\n",
    "tensors of another kind": b"ctorch._utils\n_rebuild_tensor_v3\n",
    "the pickle opcode NEWOBJ": FLOATS + b")\x81",
    "attributes of a TorchTensor": tensor(storage(4), 0, (4,), (1,)) + b"}b",
    "it names 'torch.nn.modules.linear.Linear'": b"ctorch.nn.modules.linear\nLinear\n",
    "it names 'argparse.Namespace'": b"cargparse\nNamespace\n",
}


@pytest.mark.parametrize("content", REFUSED)
def test_what_is_no_plain_tensor_is_refused_with_a_remedy(content, tmp_path):
    path = write_zip(tmp_path / "x.pth", _one(REFUSED[content]), {"0": FOUR.tobytes()})
    with pytest.raises(UnsupportedError, match=content) as caught:
        torch_files.read(path)
    assert "pip install torch" in str(caught.value) and ".safetensors" in str(caught.value)
    assert "torch.save(model.state_dict(), FILE)" in str(caught.value) and len(str(caught.value)) < 300


def _archive(path, **entries: bytes):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(f"a/{name}", content)
    return path


def test_archives_of_other_programs_are_refused(tmp_path):
    path, one = tmp_path / "x.pth", _one(tensor(storage(4), 0, (4,), (1,)))
    with pytest.raises(UnsupportedError, match="a TorchScript program"):
        torch_files.read(_archive(path, **{"data.pkl": b"", "constants.pkl": b""}))
    with pytest.raises(UserError, match=r"is a zip archive, but not of torch\.save"):
        torch_files.read(_archive(path, text=b""))
    with pytest.raises(UserError, match=r"entry 'data/0' is missing"):
        torch_files.read(_archive(path, **{"data.pkl": one}))
    with pytest.raises(UserError, match="unknown byte order b'middle'"):
        torch_files.read(_archive(path, **{"data.pkl": one, "byteorder": b"middle"}))
    with pytest.raises(UserError, match=r"entry 'data/0' is missing or of another length"):
        torch_files.read(write_zip(path, one, {"0": bytes(20)}))
    with pytest.raises(UnsupportedError, match="compressed or encrypted entries"):  # a bomb would be one
        torch_files.read(write_zip(path, one, {"0": bytes(16)}, compression=zipfile.ZIP_DEFLATED))


def test_entries_that_overlap_cannot_make_more_of_a_file_than_it_has(tmp_path):
    many = b"(" + b"".join(storage(1000, key=str(n)) for n in range(64)) + b"t"
    path = write_zip(tmp_path / "x.pth", _one(many), {str(n): b"" for n in range(64)})
    with pytest.raises(UserError, match="its storages are larger than the file"):
        torch_files.read(path)


def test_other_files_are_named_by_how_they_begin(tmp_path):
    path = tmp_path / "x.pth"
    for content, message in {
        b"": r"is damaged or incomplete \(it is empty\)",
        b"version https://git-lfs.github.com/spec/v1": "is not a PyTorch file, it begins with b'version https://git-lfs",
        pickle.dumps({"a": 1}): "is not a PyTorch file",
        bytes(257) + b"ustar" + bytes(1000): "data in the tar format of before PyTorch 0.1.10",
    }.items():
        path.write_bytes(content)
        with pytest.raises(UserError, match=message):
            torch_files.read(path)


def test_lists_of_storages_that_do_not_fit_the_tensors_are_refused(tmp_path):
    one, part = _one(tensor(storage(4), 0, (4,), (1,))), FOUR.tobytes()
    for storages, counts, message in (
        ({}, (), "the list of storages is not that of the tensors"),
        ({"1": part}, (), "the list of storages is not that of the tensors"),
        ({"0": part, "1": part}, (), "the list of storages is not that of the tensors"),
        ({"0": part}, (3,), "a storage has another length than its tensors say"),
        ({"0": part[:-1]}, (4,), "it ends within its tensors"),
    ):
        with pytest.raises(UserError, match=message):
            torch_files.read(write_older(tmp_path / "x.pth", one, storages, counts))


def test_reading_loads_neither_pickle_nor_a_framework():
    code = (
        "import sys; from pathlib import Path; from dico_tf.files import torch_files; "
        f"[t.array() for t in torch_files.read(Path({str(FOLDER / 'zip.pth')!r}))['state_dict'].values()]; "
        "from dico_tf.files import inert_pickle, torch_tensors; "
        "used = {name for m in (inert_pickle, torch_tensors, torch_files) for name in vars(m)}; "
        "print({'torch', 'tensorflow', 'keras'} & sys.modules.keys(), {'pickle', 'marshal', 'eval'} & used)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ})
    assert (done.stdout, done.stderr) == ("set() set()\n", "")
