"""Networks that cannot be branches: each is refused by one message, before the data are read."""

import http.client
import socket
from pathlib import Path

import keras
import numpy as np
import pytest
from keras.src.utils import file_utils

from dico_tf.evaluation.members import applications
from tests.commands import command
from tests.files.torch_pickles import write_arrays
from tests.small_network import small


def refusal(spec: str, *words: str) -> str:
    """Return the message with which a run of this branch is refused; it must be one line."""
    status, _, err = command("train", "--dataset=digits", f"--branches={spec}", *words)
    assert status == 2 and err.count("\n") == 1, err
    return err


def write(path: Path, head) -> Path:
    """Write a network that ends in the outputs of head(its features)."""
    network = small()
    keras.Model(network.input, head(network.get_layer("pool").output)).save(path)
    return path


HEADS = {
    "features": (lambda x: x, "it must end in a dense layer of one output per class"),
    "normalised": (
        lambda x: keras.layers.UnitNormalization(name="unit")(keras.layers.Dense(4)(x)),
        "got UnitNormalization 'unit'; replace its head, and save it again",
    ),
    "two heads": (lambda x: [keras.layers.Dense(4)(x), keras.layers.Dense(2)(x)], "expected one output [classes], got"),
    "a map": (lambda x: keras.layers.Reshape((4, 4, 1))(x), "expected one output [classes], got [(4, 4, 1)]"),
}


@pytest.mark.parametrize(("head", "message"), HEADS.values(), ids=HEADS)
def test_a_network_that_ends_without_one_dense_head(head, message, tmp_path):
    path = write(tmp_path / "x.keras", head)
    err = refusal(f"{path}@16", f"--workdir={tmp_path}/run")
    assert f"train.py: --branches: {path}@16" in err and message in err


@pytest.mark.parametrize("channels", [1, 4])
def test_a_network_that_cannot_see_the_images(channels, tmp_path):
    image = keras.Input((8, 8, channels))
    keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(image))).save(tmp_path / "x.keras")
    err = refusal(f"{tmp_path}/x.keras", f"--workdir={tmp_path}/run")
    assert f"expected one input [side, side, 3], got [(8, 8, {channels})]" in err


def test_published_weights_of_another_network(tmp_path):
    file = write_arrays(tmp_path / "other.pth", {"stem.weight": np.ones((4, 3, 3, 3)), "fc.bias": np.ones(10)})
    err = refusal(f"preset:wrn_tiny?weights={file}", f"--workdir={tmp_path}/run")
    assert f"train.py: --branches: preset:wrn_tiny: {file}: branch 0: expected a" in err


def test_own_weights_of_another_network(tmp_path):
    small().save_weights(tmp_path / "small.weights.h5")
    uri = f"keras:MobileNet@64?alpha=0.25&weights={tmp_path}/small.weights.h5"
    assert "small.weights.h5 holds no weights of this network" in refusal(uri, f"--workdir={tmp_path}/run")


ENDINGS = {
    "no network": (
        OSError(101, "Network is unreachable"),
        ("mobilenet_2_5_224_tf.h5 are not in", "download https://", "another machine and put it there"),
    ),
    "a broken connection": (
        http.client.RemoteDisconnected("Remote end closed connection"),
        ("cannot be loaded: Remote end closed connection; try again, or give ?weights=FILE",),
    ),
}


@pytest.mark.parametrize(("ending", "messages"), ENDINGS.values(), ids=ENDINGS)
def test_weights_that_cannot_be_downloaded(ending, messages, tmp_path, monkeypatch):
    """The first ends when a socket connects, the second when the server should answer."""

    def fails(*_, **__):
        raise ending

    if isinstance(ending, http.client.RemoteDisconnected):
        monkeypatch.setattr(file_utils, "urlretrieve", fails)
    monkeypatch.setattr(socket, "create_connection", fails)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(file_utils.config, "keras_home", lambda: str(tmp_path), raising=False)
    applications._base.cache_clear()
    err = refusal("keras:MobileNet?alpha=0.25", f"--workdir={tmp_path}/run")
    assert "--branches: keras:MobileNet: its ImageNet weights " in err and all(part in err for part in messages)
