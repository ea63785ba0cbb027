"""Reading of PyTorch checkpoints and safetensors files, without running code in them. PyTorch is not needed."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dico_tf.errors import UserError
from dico_tf.files import torch_files
from dico_tf.files.inert_pickle import UnsupportedError
from dico_tf.files.torch_tensors import TorchTensor

SAFE = ".safetensors"
SUFFIXES = (".pth", ".pt", ".tar", SAFE)
Arrays = dict[str, np.ndarray]
_KEYS = ("state_dict", "model", "net")  # under which training programs save a state dict
_FLOATS = {"float16", "bfloat16", "float32", "float64"}


def read(path: str | Path) -> list[Arrays]:
    """Return the tensors of a PyTorch checkpoint or .safetensors file in float32, one {name: array} for each branch.

    A checkpoint has a state dict, alone or under "state_dict", "model" or "net". All names may begin with `module.`,
    and with `models.0.`, `models.1.` ... for several branches. The result has no such prefixes, and no
    `num_batches_tracked`. Raises UserError, which names the file, if it cannot be read or is not such a state dict of
    floats.
    """
    path = Path(path).expanduser()
    try:
        if not path.is_file():
            raise UserError("is a folder, expected a file" if path.is_dir() else "does not exist")
        arrays = _safe(path) if path.suffix == SAFE else _state_dict(_loaded(path))
        if not arrays:
            raise UserError("holds no weights: expected a state dict of float tensors")
        return by_branch(arrays)
    except UserError as error:
        raise UserError(f"{path} {error}") from None


def _safe(path: Path) -> Arrays:
    import keras  # noqa: F401, teaches NumPy bfloat16
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        arrays = load_file(path)
    except SafetensorError as error:
        raise UserError(
            f"cannot be read as safetensors ({str(error).splitlines()[0]}): the file is incomplete or of another kind"
        ) from None
    except (AttributeError, KeyError, TypeError) as error:  # from NumPy
        raise UserError(f"holds numbers of a type that NumPy does not know ({error}): save them as float32") from None
    return {name: _floats(name, array) for name, array in arrays.items() if _is_weight(name)}


def _is_weight(name: Any) -> bool:
    return not str(name).endswith("num_batches_tracked")


def _floats(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "fV":  # V: bfloat16
        raise UserError(f"holds {name!r} of type {array.dtype}, expected floats: save the state dict alone")
    return array.astype(np.float32)


def _loaded(path: Path) -> Any:
    """Return the object in a file of torch.save.

    Files are read by `torch_files`. Only what it refuses as unsupported, such as float8 numbers or compressed entries,
    is tried with `torch.load(weights_only=True)` if PyTorch is installed. If that fails too, the error of `torch_files`
    is raised.
    """
    try:
        return torch_files.read(path)
    except UnsupportedError as error:
        try:
            import torch

            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception:  # torch is missing, or raises many kinds of errors by what is wrong with a file
            raise error from None


def _state_dict(loaded: Any) -> Arrays:
    if isinstance(loaded, Mapping):
        key = next((key for key in _KEYS if isinstance(loaded.get(key), Mapping)), "state_dict")
        loaded = loaded.get(key, loaded)
    if not isinstance(loaded, Mapping):
        kind = type(loaded).__name__
        raise UserError(f"holds a {kind}, not a state dict: save one with torch.save(model.state_dict(), FILE)")
    return {name: _array(name, value) for name, value in loaded.items() if _is_weight(name)}


def _array(name: Any, value: Any) -> np.ndarray:
    if not isinstance(name, str):
        raise UserError(
            f"has the key {name!r}, expected names of tensors: save the state dict alone with "
            "torch.save(model.state_dict(), FILE)"
        )
    array = _float_tensor(value)
    if array is None:
        kind = value.dtype if hasattr(value, "dtype") else type(value).__name__
        raise UserError(
            f"holds {name!r} of type {kind}, expected a tensor of floats: save the state dict alone with "
            "torch.save(model.state_dict(), FILE)"
        )
    return array


def _float_tensor(value: Any) -> np.ndarray | None:
    """Return a tensor of floats as float32; None for any other value."""
    if isinstance(value, TorchTensor):
        return value.array().astype(np.float32, copy=False) if value.dtype in _FLOATS else None
    torch = sys.modules.get("torch")  # imported only where the value may be of it
    dense = torch and isinstance(value, torch.Tensor) and value.is_floating_point() and value.layout == torch.strided
    return value.detach().float().numpy() if dense else None


def by_branch(arrays: Arrays) -> list[Arrays]:
    """Split tensors by their prefix models.<s>.; without such prefixes there is one branch.

    The result is without the prefixes, and without `module.` if all names begin with it. Raises UserError if
    only some names have the prefix, or if the numbers s are not 0, 1, 2 ...
    """
    if all(name.startswith("module.") for name in arrays):
        arrays = {name.removeprefix("module."): array for name, array in arrays.items()}
    branches: dict[int, Arrays] = {}
    for name, array in arrays.items():
        match = re.fullmatch(r"models\.(\d+)\.(.+)", name)
        s, inner = (int(match[1]), match[2]) if match else (-1, name)
        branches.setdefault(s, {})[inner] = array
    numbers = sorted(branches)
    if numbers != list(range(len(numbers))) and numbers != [-1]:
        names = [f"models.{s}." if s >= 0 else next(iter(branches[s])) for s in numbers]
        raise UserError(
            f"holds {', '.join(names)}: expected models.0., models.1. and so on for all tensors, or for none"
        )
    return [branches[s] for s in numbers]
