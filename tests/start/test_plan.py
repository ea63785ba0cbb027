import itertools
from pathlib import Path

import pytest

from dico_tf.cli.train import SCRIPT
from dico_tf.config import from_values
from dico_tf.errors import UserError
from dico_tf.flags import parse
from dico_tf.models import pretrained
from dico_tf.models.presets import find
from dico_tf.start import networks, plan
from dico_tf.start.folder_report import FolderReport
from dico_tf.start.networks import Candidates, PlannedBranches


def report(count=400, classes=4, **changes):
    parts = {"": {f"class_{n}": count // classes for n in range(classes)}}
    facts = {"parts": parts, "short_side": 256, "unreadable": 0, "copies": 0, "leaked": 0, "mislabelled": 0}
    return FolderReport(folder=Path("photos"), fingerprint="", **(facts | changes))


@pytest.fixture
def installed(monkeypatch):
    """Makes the weights of Lite0 to Lite2 appear to be installed, or not."""

    def appear(present: bool) -> None:
        def weights_file(network):
            if not present:
                raise UserError("not installed")
            return Path("weights.pth")

        monkeypatch.setattr(pretrained, "weights_file", weights_file)

    return appear


def macs(size, *names):
    return sum(find(name).cost(size, 4).macs for name in names)


def test_two_small_pretrained_networks_are_the_usual_branches(installed):
    installed(True)
    branches = Candidates(256, 4).choose(0, 0)
    assert branches.networks == ("efficientnet_lite0", "efficientnet_lite1") and branches.image_size == 128
    assert branches.macs == macs(128, *branches.networks)
    assert branches.flags == [
        "--branches=preset:efficientnet_lite0@128?weights=auto,preset:efficientnet_lite1@128?weights=auto",
        "--image_size=128",
    ]


def test_a_budget_is_used_and_never_exceeded(installed):
    installed(True)
    candidates = Candidates(96, 4)
    names = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
    for budget in (100e6, 300e6):
        branches = candidates.choose(0, budget)
        others = (
            macs(size, *choice)
            for size in (64, 96)
            for count in (2, 3)
            for choice in itertools.combinations(names, count)
        )
        assert branches.macs == max(cost for cost in others if cost <= budget)
    assert candidates.choose(0, 40e6).networks == ("efficientnet_lite0",)
    with pytest.raises(UserError, match=r"budget of 5.0 M multiply-adds; the smallest is efficientnet_lite0"):
        candidates.choose(0, 5e6)


def test_each_device_has_a_branch(installed):
    installed(True)
    assert len(Candidates(256, 4).choose(1, 0).networks) == 1
    four = Candidates(256, 4).choose(4, 0).networks
    assert sorted(four) == ["efficientnet_lite0", "efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]


@pytest.mark.parametrize(("short_side", "size"), [(28, 96), (96, 96), (100, 128), (500, 128)])
def test_small_images_are_enlarged_to_the_next_size(installed, short_side, size):
    installed(True)
    assert Candidates(short_side, 4).choose(0, 0).image_size == size


def test_without_weights_a_divided_network_is_trained_from_scratch(installed):
    installed(False)
    branches = Candidates(40, 4).choose(0, 0)
    assert not branches.pretrained and branches.divided == ("wrn_10_2", 2, "published")
    assert branches.flags == ["--model=wrn_10_2", "--splits=2", "--image_size=48"]
    assert "from scratch" in branches.text
    three = Candidates(40, 4).choose(3, 0)
    assert three.divided == ("wrn_10_2", 3, "params") and "--division=params" in three.flags


LITE = PlannedBranches(image_size=128, macs=3e8, networks=("efficientnet_lite0", "efficientnet_lite1"))
OWN = PlannedBranches(image_size=64, macs=1e8, divided=("wrn_10_2", 2, "published"))


@pytest.mark.parametrize("branches", [LITE, OWN])
def test_the_commands_of_a_plan_have_flags_that_exist(branches):
    steps = plan.make(report(), branches, Path("out")).steps
    assert [step.command for step in steps] == ["train", "evaluate", "evaluate", "committee", "export"]
    values, _ = parse(SCRIPT, list(steps[0].arguments))
    settings = from_values(values)
    assert settings.data.dataset == "folder:photos" and settings.run.workdir == "out/run"
    assert settings.network.splits == 2 and not settings.data.skip_duplicates


def test_the_plan_follows_the_folder():
    parts = {"": {"a": 10, "b": 90}}
    arguments = plan.make(report(parts=parts, unreadable=2, copies=1), LITE, Path("out")).steps[0].arguments
    assert {"--skip_unreadable", "--skip_duplicates", "--class_weights=balanced"} <= set(arguments)
    assert "--batch_size=16" in arguments


@pytest.mark.parametrize(("count", "branches", "epochs"), [(400, LITE, 7), (40_000, LITE, 5), (40, OWN, 200)])
def test_few_images_are_shown_more_often(count, branches, epochs):
    assert plan.epochs(report(count), branches) == epochs


def test_a_few_validation_images_choose_no_epoch():
    few, many = (plan.make(report(count), LITE, Path("out")).steps[0].arguments for count in (400, 40_000))
    assert "--evaluate_every=7" in few and not any("evaluate_every" in word for word in many)
    parts = {"train": {"a": 50, "b": 50}, "val": {"a": 250, "b": 250}}
    assert plan.validation_images(report(parts=parts)) == 500


def test_images_of_test_and_validation_are_not_trained_on():
    assert plan.training_images(report(400)) == 288
    parts = {"train": {"a": 50, "b": 50}, "val": {"a": 5, "b": 5}, "test": {"a": 9, "b": 9}}
    assert plan.training_images(report(parts=parts)) == 100


def test_the_estimate_grows_with_the_work(monkeypatch):
    monkeypatch.setattr(plan, "speed", lambda: 1e10)
    short, long = (plan.seconds(report(count), LITE) for count in (200_000, 400_000))
    assert long - plan.FIXED_SECONDS == pytest.approx(2 * (short - plan.FIXED_SECONDS))
    assert plan.speed() > 0 and networks.SIZES[0] < networks.USUAL_SIZE
