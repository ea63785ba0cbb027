"""Settings of the search for a committee, of classifiers and of networks that classify pixels."""

import dataclasses

from dico_tf.config import option
from dico_tf.evaluation.cost import MEASURES
from dico_tf.formulas.averages import AVERAGES
from dico_tf.formulas.confidences import CONFIDENCES

GUARANTEES = ("probable", "expected")  # those of guarantee.py, which --help need not import


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
    task: str = option(
        "classification",
        "classification of whole images, or segmentation: a cascade over the cells of a grid, whose flags and "
        "defaults are those of the verb scenes",
        ("classification", "segmentation"),
    )
    members: tuple[str, ...] = option((), "models of any kind, comma separated, each as SOURCE or NAME=SOURCE")
    logits: str = option("", "table of precomputed logits: .npz with labels, ids, and [N, C] under each member's name")
    test_logits: str = option("", "a second table, which judges (default: a part of --logits, drawn by --seed)")
    calibration_share: float = option(
        0.5, "share of --logits, or of the test images, that members and gates are fitted to"
    )
    calibration: str = option(
        "",
        "images of --dataset that gates are fitted to: val, train (if no member learnt from them), or test: "
        "a part of it (default: val where there is one, else test)",
    )
    costs: str = option("", "JSON file {member: {macs, params, milliseconds}}, for members whose costs are not known")
    cache: str = option("", "folder where members' answers are kept (default: ~/.cache/dico_tf/logits)")
    cost: str = option("macs", "what is to be saved", MEASURES)
    budget: float = option(0.0, "largest average cost of an image; 0 = none")
    worst_case: float = option(0.0, "largest cost of an image for which all members are asked; 0 = none")
    latency: float = option(0.0, "largest average milliseconds of an image; 0 = none")
    accuracy: float = option(
        0.0, "share of right answers to reach at the least cost; 0 = that of --reference, unless a budget is given"
    )
    reference: str = option(
        "ensemble", "what the committee is held against: ensemble of all members, largest member, or a member's name"
    )
    largest: int = option(4, "members of a committee at most; the ensemble of all is always looked at")
    percentiles: int = option(100, "candidates of each gate: quantiles of its confidences")
    gate: str = option("max_prob", "confidence that is compared with a gate", tuple(CONFIDENCES))
    average: str = option("logits", "how members' answers are averaged", tuple(AVERAGES))
    score: str = option(
        "right",
        "what is maximised: right answers, or smooth: with the labels' probabilities, less moved by chance",
        ("right", "smooth"),
    )
    temperatures: bool = option(False, "fit a temperature to each member: for members of different families")
    weights: bool = option(False, "fit members' weights in the average")
    risk: float = option(0.0, "largest share of new images lost against the reference, as a guarantee; 0 = none")
    confidence: float = option(0.95, "of the guarantee")
    guarantee: str = option("probable", "hold with --confidence, or expected: in the mean", GUARANTEES)
    figures: bool = option(True, "draw PNG figures, and put them into the page")
    out: str = option("committee", "folder for committee.json, report.html and figures")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SegmentationSearch:
    members: tuple[str, ...] = option(
        (), "networks that classify pixels: runs, x.keras, x.tflite, comma separated, each as SOURCE or NAME=SOURCE"
    )
    calibration: str = option("val", "images of --dataset that gates are fitted to; those of test judge them")
    cells: tuple[str, ...] = option(
        (), "sides of the grid's cells in pixels, 0 = the whole image (default: 0, and 1/8, 1/4, 1/2 of the short side)"
    )
    context: int = option(32, "pixels around a cell that later members see, too")
    miou: float = option(0.0, "mIoU to reach at the least cost; 0 = that of --reference, unless a budget is given")
    budget: float = option(0.0, "largest average multiply-adds of an image; 0 = none")
    reference: str = option("largest", "what the committee is held against: largest, ensemble, or a member's name")
    largest: int = option(2, "members of a cascade at most")
    percentiles: int = option(50, "candidates of each gate: quantiles of its confidences")
    gate: str = option("max_prob", "confidence that is compared with a gate", tuple(CONFIDENCES))
    average: str = option("probs", "how members' answers are averaged", tuple(AVERAGES))
    figures: bool = option(True, "draw mIoU against cost, and put it into the page")
    out: str = option("committee", "folder for committee.json, report.html and the figure")
