"""ONNX files of every family, run by ONNX Runtime; and as members of committees."""

import subprocess
import sys

import numpy as np
import pytest

from dico_tf.errors import UserError
from dico_tf.export.formats.format import installed
from dico_tf.export.formats.registry import load
from dico_tf.models.presets import PRESETS
from tests.export import networks
from tests.tiers import slow_but

needed = pytest.mark.skipif(
    not all(map(installed, load("onnx").packages)),
    reason="needs tf2onnx, onnx and onnxruntime: requirements-dev.txt",
)
TINY = [name for name in PRESETS if PRESETS[name].tiny and PRESETS[name].task == "classification"]
QUICK = ()  # a convolutional network is tested below
IMAGES = networks.images(3, np.random.default_rng(0))


def written(folder, *branches):
    """Return the path of an ONNX file of these networks."""
    import tensorflow as tf

    from dico_tf.export import convert, saved_model

    saved_model.write(networks.member(*branches), folder / "model")
    path = folder / "network.onnx"
    frozen = convert.freeze(tf.saved_model.load(str(folder / "model")), None)
    path.write_bytes(load("onnx").convert(frozen, "onnx", None))
    return path


@pytest.fixture(scope="module")
def branch():
    return networks.branch("wrn_tiny")


@pytest.fixture(scope="module")
def path(branch, tmp_path_factory):
    """Return the ONNX file of `branch`."""
    return written(tmp_path_factory.mktemp("onnx"), branch)


@needed
@pytest.mark.parametrize("preset", slow_but(QUICK, TINY))
def test_a_branch_of_every_family_answers_as_keras_does(preset, tmp_path):
    branch = networks.branch(preset)
    path = written(tmp_path, branch)
    expected = np.asarray(branch(IMAGES, training=False))
    metrics = load("onnx").check(path, IMAGES.astype(np.uint8), expected)
    assert metrics["largest_difference"] <= 1e-5 * abs(expected).max() and metrics["milliseconds"] > 0
    about = load("onnx").describe(path)
    assert (about["inputs"], about["outputs"]) == (["image"], ["class_id", "logits", "probabilities"])


@pytest.mark.slow
@needed
def test_a_committee_is_one_file_that_takes_any_number_of_images(branch, tmp_path):
    import onnxruntime

    branches = [branch, networks.branch("wrn_tiny", 2)]
    path = written(tmp_path, *branches)
    session = onnxruntime.InferenceSession(path)
    apart = np.stack([np.asarray(branch(IMAGES, training=False)) for branch in branches], 1)
    for count in (1, 3):
        logits, p = session.run(["logits", "branch_probabilities"], {"image": IMAGES[:count]})
        assert logits == pytest.approx(apart[:count].mean(1), rel=1e-4, abs=1e-4)
        assert p.shape == (count, 2, 7) and p.sum(-1) == pytest.approx(1, abs=1e-5)


@needed
def test_a_file_of_another_network_is_refused(branch, path):
    other = np.asarray(branch(255 - IMAGES, training=False))
    with pytest.raises(UserError, match=r"network\.onnx: expected the logits of its network"):
        load("onnx").check(path, IMAGES.astype(np.uint8), other)


@needed
def test_a_file_is_a_member_of_a_committee(branch, path):
    from dico_tf.evaluation.members.open_members import open_members

    (member,) = open_members([f"mine={path}"], 7)
    images = IMAGES.astype(np.uint8)
    assert (member.name, member.kind, member.input_size) == ("mine", "onnx", 32)
    assert member.run(images) == pytest.approx(np.asarray(branch(IMAGES, training=False)), rel=1e-4, abs=1e-4)
    assert member.settings["output"] == "logits" and np.isnan(member.cost.macs)


@needed
def test_a_damaged_file_is_refused_in_a_sentence(tmp_path):
    from dico_tf.evaluation.members.open_members import open_members

    (tmp_path / "x.onnx").write_bytes(b"no network")
    with pytest.raises(UserError, match=r"x\.onnx cannot be read by ONNX Runtime: "):
        open_members([str(tmp_path / "x.onnx")], 7)


@needed
def test_opening_and_asking_a_member_needs_no_tensorflow(path):
    code = (
        "import sys, numpy as np; from dico_tf.evaluation.members.open_members import open_members\n"
        f"member = open_members([{str(path)!r}], 7)[0]\n"
        "assert member.run(np.zeros((2, 32, 32, 3), np.uint8)).shape == (2, 7)\n"
        "assert not {'tensorflow', 'keras'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(
        UserError,
        match=r"--formats=onnx needs tf2onnx, onnx, onnxruntime, and .*tf2onnx.* cannot be "
        r'imported: pip install "dico_tf\[onnx\]"',
    ):
        load("onnx").require()


def test_a_member_without_onnxruntime_is_refused_with_the_command_that_installs_it(monkeypatch, tmp_path):
    from dico_tf.evaluation.members.open_members import open_members

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (tmp_path / "x.onnx").write_bytes(b"")
    with pytest.raises(UserError, match=r'needs onnxruntime, which is not installed: pip install "dico_tf\[onnx\]"'):
        open_members([str(tmp_path / "x.onnx")], 7)
