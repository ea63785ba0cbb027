"""timm, also where torchvision was built for GPUs and PyTorch was not, so that operations of it are missing."""

import pytest

torch = pytest.importorskip("torch")
_MISSING = ("nms", "qnms")  # which torchvision describes when it is imported, and timm never runs
_LIBRARY = []  # what is defined in one goes with it


def timm():
    """The module; the test is skipped where there is none."""
    try:
        return pytest.importorskip("timm")
    except RuntimeError:
        _LIBRARY.append(torch.library.Library("torchvision", "DEF"))
        for name in _MISSING:
            _LIBRARY[0].define(f"{name}(Tensor boxes, Tensor scores, float threshold) -> Tensor")
        return pytest.importorskip("timm")
