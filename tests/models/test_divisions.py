"""Counted parameters and multiply-adds of the published rows, the goldens of every preset, and divisions by budget."""

import dataclasses
import json

import pytest

from dico_tf import config
from dico_tf.errors import UserError
from dico_tf.layers.image_input import Normalisation
from dico_tf.models import audit
from dico_tf.models.preset import REGULARISERS
from dico_tf.models.presets import FAMILIES, PRESETS, families
from tests.models.write_goldens import PATH, entries, entry
from tests.tiers import slow_but

GOLDENS = json.loads(PATH.read_text())["divisions"]
# model, S: total parameters and multiply-adds (G) on CIFAR-100
CIFAR100 = [
    ("resnet_110", 1, 1_170_868, 0.167),
    ("resnet_110", 2, 1_333_472, 0.189),
    ("resnet_110", 4, 1_214_256, 0.168),
    ("resnet_164", 1, 1_727_284, 0.248),
    ("resnet_164", 2, 1_962_464, 0.279),
    ("resnet_164", 4, 1_778_736, 0.248),
    ("se_resnet_110", 1, 1_693_684, 0.168),
    ("se_resnet_110", 2, 1_924_160, 0.189),
    ("se_resnet_110", 4, 1_743_792, 0.168),
    ("se_resnet_164", 1, 2_511_508, 0.248),
    ("se_resnet_164", 2, 2_848_496, 0.280),
    ("se_resnet_164", 4, 2_573_040, 0.249),
    ("efficientnet_b0", 1, 4_135_648, 0.228),
    ("efficientnet_b0", 2, 4_283_838, 0.232),
    ("efficientnet_b0", 4, 4_521_972, 0.250),
    ("efficientnet_b3", 1, 10_849_932, 0.593),
    ("efficientnet_b3", 2, 10_993_938, 0.592),
    ("efficientnet_b3", 4, 11_523_956, 0.634),
    ("wrn_16_8", 1, 11_009_332, 1.548),
    ("wrn_16_8", 2, 12_416_232, 1.750),
    ("wrn_16_8", 4, 11_091_664, 1.571),
    ("resnext_29_8x64d", 1, 34_518_948, 5.387),
    ("resnext_29_8x64d", 2, 35_309_384, 5.473),
    ("resnext_29_8x64d", 4, 36_890_256, 5.645),
    ("wrn_28_10", 1, 36_539_124, 5.243),
    ("wrn_28_10", 2, 35_855_016, 5.150),
    ("wrn_28_10", 4, 36_650_576, 5.271),
    ("wrn_40_10", 1, 55_901_684, 8.075),
    ("wrn_40_10", 2, 54_834_088, 7.925),
    ("wrn_40_10", 4, 56_022_096, 8.102),
    ("densenet_190_k40", 1, 25_821_780, 9.302),
    ("densenet_190_k40", 2, 25_506_324, 9.117),
    ("densenet_190_k40", 4, 26_300_360, 9.305),
    ("pyramidnet_272_a200", 1, 26_288_692, 4.489),
    ("pyramidnet_272_a200", 2, 28_867_010, 5.154),
    ("pyramidnet_272_a200", 4, 32_771_680, 6.193),
]
CIFAR10 = [
    ("se_resnet_110", 2, 1_889_420, None),
    ("se_resnet_110", 4, 1_697_352, None),
    ("se_resnet_164", 1, 2_488_378, 0.248),
    ("se_resnet_164", 2, 2_813_756, 0.280),
    ("se_resnet_164", 4, 2_526_600, None),
    ("resnext_29_8x64d", 1, 34_426_698, 5.387),
    ("resnext_29_8x64d", 2, 35_124_884, 5.473),
    ("wrn_28_10", 1, 36_481_434, 5.243),
    ("wrn_28_10", 2, 35_774_196, 5.150),
    ("wrn_28_10", 4, 36_535_016, 5.271),
    ("wrn_40_10", 1, 55_843_994, 8.074),
    ("wrn_40_10", 4, 55_906_536, 8.102),
    ("shake_26_2x96d", 1, 26_192_938, 3.777),
    ("shake_26_2x96d", 2, 23_307_988, 3.371),
    ("shake_26_2x96d", 4, 26_250_280, 3.808),
    ("pyramidnet_272_a200", 1, 26_210_842, 4.489),
    ("pyramidnet_272_a200", 4, 32_604_280, 6.193),
]
# model: published millions of parameters, the same with running statistics counted in, giga multiply-adds, image size
IMAGENET = [
    ("resnet_50", 25.7, False, 5.5, 224),
    ("resnet_101", 44.8, True, 9.2, 224),
    ("se_resnet_50", 28.2, False, 4.9, 224),
    ("wrn_50_2", 68.9, False, 12.8, 224),
    ("wrn_50_3", 135.0, False, 23.8, 224),
    ("resnext_101_64x4d", 83.6, False, 16.9, 224),
    ("resnexst_50_4x16d", 17.8, True, 4.3, 224),
    ("resnexst_50_8x16d", 30.5, True, 6.8, 224),
    ("resnexst_50_4x32d", 37.1, True, 8.3, 224),
    ("efficientnet_b7", 66.7, True, 10.6, 320),
]


RULED = [family for family in families() if family.divide]


def _counted(rows, classes):
    """The rows as they are found; multiply-adds only where they were published."""
    for model, splits, _, gmacs in rows:
        branch = PRESETS[model].divided(splits).cost(32, classes)
        yield model, splits, splits * branch.params, gmacs and splits * branch.macs / 1e9


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_published_cifar_rows_are_met_to_the_last_parameter(family):
    mine = {name for name in PRESETS if PRESETS[name].family_name == family}
    for published, classes in ((CIFAR100, 100), (CIFAR10, 10)):
        rows = [row for row in published if row[0] in mine]
        for row, result in zip(rows, _counted(rows, classes), strict=True):
            assert result[:3] == row[:3]
            assert result[3] == (row[3] and pytest.approx(row[3], rel=0.005)), row


def test_every_cifar_family_has_a_published_row():
    seen = {PRESETS[row[0]].family_name for row in CIFAR100 + CIFAR10}
    divided = [preset for preset in PRESETS.values() if len(preset.spec.splits) > 1]
    assert seen == {preset.family_name for preset in divided if preset.layout(32) == "cifar"}


@pytest.mark.parametrize(("model", "mparams", "statistics", "gmacs", "size"), slow_but(IMAGENET[:1], IMAGENET))
def test_published_imagenet_sizes_are_met_within_a_hundredth(model, mparams, statistics, gmacs, size):
    cost = PRESETS[model].cost(size, 1000)
    params = cost.params + (cost.running if statistics else 0)
    assert params / 1e6 == pytest.approx(mparams, rel=0.01)
    assert cost.macs / 1e9 == pytest.approx(gmacs, rel=0.0105)  # 5.444 of ResNet-50 is printed as 5.5


# of the networks that torchvision publishes weights of, and of the deeper one: exact parameters, giga multiply-adds
PLAIN = [("resnet_101", 44_549_160, 7.801), ("resnet_152", 60_192_808, 11.514), ("resnet_200", 64_673_832, 15.007)]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "params", "gmacs"), PLAIN)
def test_plain_resnets_cost_what_is_counted_of_them(model, params, gmacs):
    cost = PRESETS[f"{model}_plain"].cost(224, 1000)
    assert cost.params == params
    assert cost.macs / 1e9 == pytest.approx(gmacs, abs=0.0005)


def test_every_preset_has_its_goldens():
    assert [(g["model"], g["dataset"], g["splits"]) for g in GOLDENS] == list(entries())


@pytest.mark.parametrize("golden", [g for g in GOLDENS if PRESETS[g["model"]].tiny], ids=lambda g: g["model"])
def test_a_tiny_division_is_as_its_golden_says(golden):
    assert entry(golden["model"], golden["dataset"], golden["splits"]) == golden


@pytest.mark.slow
@pytest.mark.parametrize("name", list(PRESETS))
def test_a_division_is_as_its_golden_says(name):
    for golden in GOLDENS:
        if golden["model"] == name:
            assert entry(name, golden["dataset"], golden["splits"]) == golden


@pytest.mark.parametrize("name", list(PRESETS))
def test_dividing_by_one_changes_nothing(name):
    assert PRESETS[name].divided(1) == PRESETS[name].divided(1, "macs", 32, 10) == PRESETS[name]


def changes(model: str, splits: int) -> dict:
    widths, rates = PRESETS[model].differences([PRESETS[model].divided(splits)])
    return {**widths, **rates}


def test_imagenet_divisions_follow_the_published_rules():
    assert changes("resnet_101", 2) == {"width": [64, 44], "dropout": [0.1, 0.05]}
    assert changes("wrn_50_2", 2) == {"width": [2, 1]}
    assert changes("wrn_50_3", 2) == {"width": [3, 2]}
    assert changes("resnext_101_64x4d", 4) == {"groups": [64, 16]}
    assert changes("se_resnet_50", 4) == {"width": [64, 32], "dropout": [0.2, 0.1]}
    assert changes("se_resnext_101_64x4d", 2)["groups"] == [64, 32]
    assert changes("resnexst_50_8x16d", 8) == {"groups": [8, 1]}
    assert changes("efficientnet_b7", 4)["stem"] == [32, 16]


def test_regularisation_is_divided_with_the_network():
    assert changes("wrn_40_10", 4) == {"width": [10, 5], "dropout": [0.1, 0.025]}
    assert changes("pyramidnet_272_a200", 4) == {"alpha": [200, 100], "shake_drop": [0.5, 0.25]}
    assert changes("efficientnet_b3", 4)["dropout"] == [0.3, 0.15]
    assert changes("se_resnext_101_64x4d_b", 4) == {"groups": [64, 16], "dropout": [0.2, 0.1]}


def test_an_audit_adds_up():
    report = audit.one(config.from_values({"model": "wrn_40_10", "splits": 4, "dataset": "cifar100"}))
    assert report["total_params"] == 4 * report["branches"][0]["params"] == 56_022_096
    assert report["weight_decay"] == {"whole": 5e-4, "branch": 5e-4, "rule": "none"}


def test_an_unpublished_number_of_splits_is_refused_with_what_is_possible():
    with pytest.raises(UserError, match=r"published: 1, 2, 4, 8 and 16\. Give one of these, or --division=params"):
        PRESETS["resnet_110"].divided(3)
    with pytest.raises(
        UserError, match="groups=8 cannot be divided evenly into 3 branches; use --splits=2, 4 or 8, or --div"
    ):
        PRESETS["resnext_29_8x64d"].divided(3)
    with pytest.raises(UserError, match="published: 1 and 2"):
        PRESETS["wrn_50_2"].divided(4)


@pytest.mark.parametrize("name", [name for name in PRESETS if PRESETS[name].family not in RULED])
def test_what_nothing_is_published_of_is_divided_by_a_budget_alone(name):
    with pytest.raises(UserError, match=r"no paper divides .* into 2 branches; give --division=params"):
        PRESETS[name].divided(2)


def test_an_unknown_model_is_answered_with_a_suggestion():
    with pytest.raises(UserError, match="did you mean wrn_28_10"):
        PRESETS["wrn_28_1O"]


def test_a_data_set_without_a_known_shape_asks_for_one():
    with pytest.raises(UserError, match="give --image_size and --classes"):
        audit.one(config.from_values({"dataset": "mine"}))


BUDGETS = [
    ("wrn_10_4", 3),
    ("wrn_16_8", 32),
    ("resnet_56", 3),
    ("resnext_29_8x64d", 5),
    ("densenet_190_k40", 7),
    ("pyramidnet_164_a270", 3),
    ("shake_26_2x96d", 6),
    ("efficientnet_b0", 7),
    ("efficientnet_lite0", 3),
    ("vit_tiny", 2),
    ("vit_tiny", 4),
]
QUICK = [("wrn_10_4", 3, "params"), ("wrn_10_4", 3, "macs"), ("vit_tiny", 2, "params")]


@pytest.mark.parametrize(
    ("model", "splits", "division"),
    slow_but(QUICK, [(*row, division) for row in BUDGETS for division in ("params", "macs")]),
)
def test_any_number_of_branches_meets_a_budget(model, splits, division):
    settings = {"model": model, "splits": splits, "dataset": "cifar100", "division": division}
    report = audit.one(config.from_values(settings))
    assert report[f"total_{division}"] / report[f"whole_{division}"] - 1 == pytest.approx(report["distance"])
    assert abs(report["distance"]) <= 0.02


@pytest.mark.parametrize("family", RULED, ids=lambda family: family.name)
def test_a_budget_divides_regularisation_as_the_published_rule_does(family):
    preset = next(p for p in PRESETS.values() if p.family is family and not p.tiny)
    by_rule, by_budget = preset.divided(2).spec, family.narrow(family.regularised(preset.spec, 2), 0.7)
    for name in REGULARISERS:
        assert getattr(by_rule, name, 0) == getattr(by_budget, name, 0)


@pytest.mark.slow
def test_widths_of_a_budget_lie_on_the_grid_and_groups_are_whole():
    branch = PRESETS["resnext_29_8x64d"].divided(3, "params", 32, 10).build(32, 10)
    for layer in branch.layers:
        if hasattr(layer, "filters") and layer.name.endswith("conv3"):
            assert layer.filters % 4 == 0
        if getattr(layer, "groups", 1) > 1:
            assert layer.filters % layer.groups == layer.input.shape[-1] % layer.groups == 0


@pytest.mark.slow
def test_what_a_grid_cannot_meet_comes_with_its_distance():
    settings = {"model": "wrn_tiny", "splits": 32, "dataset": "cifar100", "division": "params"}
    report = audit.one(config.from_values(settings))
    assert abs(report["distance"]) > 0.02
    assert f"by params, {100 * report['distance']:+.2f}% from the whole's" in audit.describe(report)


@pytest.mark.slow
@pytest.mark.parametrize("division", ["params", "macs"])
def test_stages_step_by_themselves_where_the_path_passes_the_budget(division):
    settings = {"model": "resnet_20", "splits": 8, "dataset": "cifar100", "division": division}
    report = audit.one(config.from_values(settings))
    whole, branch = report["changes"]["planes"]
    assert abs(report["distance"]) <= 0.02 and whole == [16, 32, 64]
    assert all(width % 4 == 0 for width in branch)


@pytest.mark.parametrize(
    ("settings", "warning"),
    [
        (
            {},
            "the branches together have 200.0% of the whole's parameters; give another --splits, or --division=params",
        ),
        ({"division": "params"}, None),
        ({"splits": 1}, None),
        (
            {"division": "macs", "splits": 32},
            "the branches together have 343.6% of the whole's multiply-adds; give another --splits",
        ),
    ],
)
def test_a_division_far_off_its_target_is_warned_of(settings, warning):
    report = audit.one(config.from_values({"model": "wrn_tiny", "splits": 2, "dataset": "digits", **settings}))
    assert report["warning"] == warning
    lines = audit.describe(report).splitlines()
    assert [line for line in lines if line.startswith("warning")] == ([f"warning: {warning}"] if warning else [])
    advice = report["advice"]
    if report["splits"] == 1:
        assert advice is None and "evidence" not in lines[-1]
    else:
        assert lines[-1] == f"published evidence: {advice['text']} [{advice['source']}]"
        assert advice["favours"] is None and "here there are 1,438 training images" in advice["text"]


def test_a_network_outside_of_the_evidence_has_no_source():
    report = audit.one(config.from_values({"model": "vit_tiny", "splits": 2, "division": "params"}))
    assert report["advice"]["source"] is None
    assert audit.describe(report).splitlines()[-1] == f"published evidence: {report['advice']['text']}"


@pytest.mark.parametrize("family", [f for f in families() if f.stages], ids=lambda f: f.name)
def test_stages_of_one_width_halve_their_maps_all_the_same(family):
    """A budget may choose them so."""
    whole = next(p for p in PRESETS.values() if p.family is family and p.tiny)
    even = dataclasses.replace(whole.spec, planes=(16,) * len(family.stages(whole.spec)))
    sides = {
        layer.output.shape[1]
        for layer in family.build(even, 32, 7, Normalisation()).layers
        if layer.name.startswith("stage") and layer.name.endswith(("_add", "_put_back"))
    }
    assert len(sides) == len(even.planes)


@pytest.mark.slow
def test_the_table_stands_beside_the_published_figures():
    lines = audit.table(config.from_values({"dataset": "cifar100"}))
    head, rule = next(lines), next(lines)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for _, line in zip(range(20), lines, strict=False)]
    assert {len(line) for line in (head, rule)} == {len(head)}
    assert ["resnet_110", "2", "width 16 -> 12", "1,333,472", "1.33 M", "0.189", "0.2", "18.32"] in rows
