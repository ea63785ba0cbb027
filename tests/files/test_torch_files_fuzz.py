"""Damaged PyTorch files give the right tensors or a UserError, in little time and memory."""

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dico_tf.errors import UserError
from dico_tf.files import torch_files
from dico_tf.files.torch_tensors import TorchTensor
from tests.fixtures.write_torch_files import FOLDER, NAMES, NUMBERS, weights

FILES = {name: (FOLDER / name).read_bytes() for name in NAMES}
ARCHIVES = [name for name in NAMES if name != "older.pth"]
CHECKED = {**weights(), **NUMBERS}
INTERESTING = st.sampled_from([0x00, 0x01, 0x7F, 0x80, 0xFF]) | st.integers(0, 255)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "x.pth"


@st.composite
def damages(draw, names):
    """Return the name of a file and its bytes: some changed, some left out, some twice, or the end missing."""
    name = draw(st.sampled_from(names))
    content = bytearray(FILES[name])
    for _ in range(draw(st.integers(1, 6))):
        place, length = draw(st.integers(0, max(len(content) - 1, 0))), draw(st.integers(1, 16))
        match draw(st.sampled_from(["set", "set", "set", "leave out", "repeat", "cut", "number"])):
            case "set":
                content[place : place + 1] = [draw(INTERESTING)]
            case "number":
                content[place : place + 8] = draw(st.integers(0, 2**64 - 1)).to_bytes(8, "little")
            case "leave out":
                del content[place : place + length]
            case "repeat":
                content[place:place] = content[place : place + length]
            case "cut":
                del content[place + 1 :]
    return name, bytes(content)


def tensors(value) -> dict[str, TorchTensor]:
    """Return all tensors in a value by name; it is not nested deeply."""
    result, waiting = {}, [("", value)]
    while waiting:
        name, item = waiting.pop()
        if isinstance(item, TorchTensor):
            result[str(name)] = item
        elif isinstance(item, dict):
            waiting += item.items()
        elif isinstance(item, list | tuple):
            waiting += [(f"{name}[{n}]", part) for n, part in enumerate(item) if part is not item]
        assert len(result) + len(waiting) < 10_000
    return result


def read(path, content: bytes) -> dict[str, np.ndarray] | None:
    """Return the tensors of a file with these bytes; None if it is refused. Fails if that takes much."""
    path.write_bytes(content)
    began = time.process_time()
    tracemalloc.start()
    try:
        arrays = {name: tensor.array() for name, tensor in tensors(torch_files.read(path)).items()}
    except UserError as error:
        assert "\n" not in str(error) and len(str(error)) < 400
        arrays = None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2**20 and time.process_time() - began < 10
    return arrays


@given(damages(ARCHIVES))
@settings(deadline=None, max_examples=80)
def test_a_damaged_archive_gives_exactly_its_tensors_or_an_error(path, damage):
    name, content = damage
    arrays = read(path, content)
    for name, array in (arrays or {}).items():
        assert (array.dtype, array.shape) == (CHECKED[name].dtype, CHECKED[name].shape)
        assert array.tobytes() == CHECKED[name].tobytes()


@given(damages(["older.pth"]))
@settings(deadline=None, max_examples=80)
def test_a_damaged_older_file_gives_tensors_within_its_size_or_an_error(path, damage):
    arrays = read(path, damage[1])
    for array in (arrays or {}).values():
        assert array.nbytes <= 16 * 2**20 + 16 * len(damage[1])


@pytest.mark.parametrize("name", NAMES)
def test_the_beginning_of_a_file_is_refused(name, path):
    content = FILES[name]
    lengths = np.random.default_rng(0).integers(0, len(content), 40)
    assert all(read(path, content[:length]) is None for length in (*lengths, 0, 1, len(content) - 1))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["zip.pth", "older.pth"])
def test_every_third_byte_of_a_file_may_be_damaged(name, path):
    content = FILES[name]
    for place in range(0, len(content), 3):
        changed = bytearray(content)
        changed[place] ^= 0x81
        arrays = read(path, bytes(changed))
        if arrays is not None and name == "zip.pth":
            assert all(array.tobytes() == CHECKED[name].tobytes() for name, array in arrays.items())
