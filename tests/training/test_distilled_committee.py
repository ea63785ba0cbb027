"""A committee that is distilled into one network as small as its members."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

from dico_tf.committee.committee_file import Calibration, CommitteeFile, SavedMember, combined, load, save
from dico_tf.committee.decision import Committee, decide
from dico_tf.config import Data, from_values
from dico_tf.data import source as sources
from dico_tf.evaluation.members.member import Member
from dico_tf.evaluation.members.open_members import open_members
from dico_tf.evaluation.teacher import open_teacher
from dico_tf.training import build
from tests.commands import command, succeeded
from tests.small_network import small

WORDS = ["--dataset=digits", "--batch_size=64", "--validation=100", "--views=none", "--seed=4"]


# Kept statistics, because 160 steps are too few for averages over batches.
LEARNS = ["--optimizer=adamw", "--lr=0.01", "--weight_decay=0", "--epochs=8", "--batch_statistics=keep"]
RULES = {"members": ("large", "little"), "temperatures": (1.5, 0.5)}


def digits(count: int) -> np.ndarray:
    """Return training images uint8 [N, 16, 16, 3]."""
    return sources.load(Data(dataset="digits", image_size=16), 0).splits["train"].take(np.arange(count))


def logits(members: list[Member], images: np.ndarray) -> np.ndarray:
    """Return the logits [N, n, C] of members that take images of 16 and of 12 pixels."""
    resized = keras.ops.image.resize(images.astype(np.float32), (12, 12), antialias=True)
    both = images, np.asarray(keras.ops.round(resized)).astype(np.uint8)
    return np.stack([member.run(sized) for member, sized in zip(members, both, strict=True)], 1)


@pytest.fixture(scope="module")
def committee(tmp_path_factory) -> Path:
    """Return a cascade of two networks with drawn weights, whose gate half of the images pass."""
    folder, members = tmp_path_factory.mktemp("committee"), []
    for name, size in (("large", 16), ("little", 12)):
        keras.utils.set_random_seed(size)
        network = small()
        network.get_layer("logits").kernel.assign(20 * network.get_layer("logits").kernel)
        network.save(folder / f"{name}.keras")
        members += open_members([f"{name}={folder}/{name}.keras@{size}"])
    confidence = decide(Committee(**RULES, gates=(0.5,)), logits(members, digits(64))).confidence[:, 0]
    content = CommitteeFile(
        committee=Committee(**RULES, gates=(float(np.median(confidence)),)),
        members=tuple(
            SavedMember(name=m.name, kind=m.kind, source=m.source, sha256="", input_size=m.input_size) for m in members
        ),
        classes=10,
        class_names=None,
        calibration=Calibration(name="digits", fingerprint="f", images=64),
    )
    save(folder / "committee.json", content)
    return folder / "committee.json"


def test_the_teachers_answers_are_those_of_the_committee(committee):
    config = from_values({"method": "distill", "teacher": str(committee), "dataset": "digits", "image_size": 16})
    source = sources.load(config.data, 0)
    teacher, images = open_teacher(config, source, source.splits["train"], print, combined), digits(40)
    members = open_members([f"{member.name}={member.source}" for member in load(committee).members], 10)
    decision = decide(load(committee).committee, logits(members, images))
    assert 0 < decision.stage.mean() < 1, "some images must stop early"
    np.testing.assert_allclose(teacher(images, np.arange(40)), decision.logits, atol=0.05)


@pytest.mark.slow
def test_a_committee_of_a_run_is_distilled_into_one_of_its_members(tmp_path):
    keras.utils.set_random_seed(1)
    small().save(tmp_path / "a.keras")
    branches = f"--branches={tmp_path}/a.keras@16,{tmp_path}/a.keras@12"
    succeeded("train", *WORDS, branches, *LEARNS, f"--workdir={tmp_path}/run")
    for split in ("validation", "test"):
        succeeded("evaluate", f"--workdir={tmp_path}/run", f"--split={split}")
    succeeded("committee", "search", f"--workdir={tmp_path}/run", f"--out={tmp_path}/committee", "--nofigures")
    words = [*WORDS, "--method=distill", f"--teacher={tmp_path}/committee/committee.json", "--label_weight=0"]
    words += ["--splits=1", f"--branches={tmp_path}/a.keras@12", f"--workdir={tmp_path}/student"]
    succeeded("train", *words, *LEARNS)
    summary = json.loads((tmp_path / "student/summary.json").read_text())
    assert summary["splits"] == 1 and len(summary["branches"]) == 1
    assert len(build.trained_run(tmp_path / "student").data["teacher"]) == 64
    assert summary["final"]["ensemble"] > 0.5, "it learns the classes from the committee alone"


def test_a_committee_of_other_classes_is_no_teacher(committee, tmp_path):
    shutil.copy(committee, tmp_path / "committee.json")
    words = [*WORDS, "--method=distill", f"--teacher={tmp_path}/committee.json", f"--workdir={tmp_path}/run"]
    words += ["--splits=1", f"--branches={committee.parent}/little.keras@12", "--classes=12"]
    status, _, err = command("train", *words)
    assert status == 2 and "large has 10 classes and digits has 12" in err and err.count("\n") == 1, err
