"""Flags of the search for a committee, of image classifiers and of segmentation networks."""

import dataclasses

from dico_tf.config import option
from dico_tf.evaluation.cost import MEASURES
from dico_tf.formulas.averages import AVERAGES
from dico_tf.formulas.confidences import CONFIDENCES

GUARANTEES = ("probable", "expected")  # those of guarantee.py, which --help need not import


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
    """Flags of `committee search` for image classifiers."""

    task: str = option(
        "classification",
        "classification of whole images, or segmentation: a cascade over the cells of a grid, whose flags and "
        "defaults are those of the verb scenes",
        ("classification", "segmentation"),
    )
    members: tuple[str, ...] = option((), "models of any kind, comma separated, each as SOURCE or NAME=SOURCE")
    logits: str = option("", "table of precomputed logits: .npz with labels, ids, and [N, C] under each member's name")
    test_logits: str = option("", "a second table for testing (default: a part of --logits, drawn by --seed)")
    calibration_share: float = option(
        0.5,
        "share of the images to which members and gates are fitted, if one set (--logits, or the test images) "
        "must serve for fitting and for testing",
    )
    calibration: str = option(
        "",
        "images of --dataset to which gates are fitted: val, train (if no member learnt from them), or test, of which "
        "a part is used (default: val, or test if there is no val)",
    )
    costs: str = option(
        "", "JSON file {member: {macs, params, milliseconds}}: costs that are unknown, or that replace counted ones"
    )
    cache: str = option("", "folder that caches members' answers (default: ~/.cache/dico_tf/logits)")
    cost: str = option("macs", "cost that the search minimises", MEASURES)
    budget: float = option(0.0, "largest average cost of an image, in the unit of --cost; 0 = none")
    worst_case: float = option(
        0.0, "largest cost of an image on which every member runs, in the unit of --cost; 0 = none"
    )
    latency: float = option(0.0, "largest average milliseconds of an image; 0 = none")
    accuracy: float = option(
        0.0,
        "accuracy to reach at the lowest cost, e.g. 0.9; 0 = that of --reference, or none with --budget, --latency or "
        "--risk",
    )
    reference: str = option(
        "ensemble",
        "what the committee is compared with: ensemble (of all members), largest (the most expensive member), or a "
        "member's name",
    )
    largest: int = option(4, "most members of a committee; the ensemble of all members is always tried")
    percentiles: int = option(100, "number of values tried for each gate: quantiles of its confidences")
    gate: str = option("max_prob", "confidence that is compared with a gate", tuple(CONFIDENCES))
    average: str = option("logits", "how members' answers are averaged", tuple(AVERAGES))
    score: str = option(
        "right",
        "what is maximised: right answers, or smooth: these plus the labels' probabilities, which chance moves less",
        ("right", "smooth"),
    )
    temperatures: bool = option(False, "fit a temperature to each member; useful for members of different families")
    weights: bool = option(False, "fit the weights of the members in the average")
    risk: float = option(
        0.0,
        "guarantee: largest share of new images that --reference has right and the committee wrong; 0 = no guarantee",
    )
    confidence: float = option(0.95, "confidence of the guarantee")
    guarantee: str = option("probable", "probable: holds with --confidence; expected: holds on average", GUARANTEES)
    figures: bool = option(True, "draw figures in report.html")
    out: str = option("committee", "folder for committee.json and report.html")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SegmentationSearch:
    """Flags of `committee search --task=segmentation`, and of `committee scenes`."""

    members: tuple[str, ...] = option(
        (), "segmentation networks: runs, x.keras, x.tflite, comma separated, each as SOURCE or NAME=SOURCE"
    )
    calibration: str = option("val", "images of --dataset to which gates are fitted; the test images test them")
    cells: tuple[str, ...] = option(
        (), "sides of the grid's cells in pixels, 0 = the whole image (default: 0, and 1/8, 1/4, 1/2 of the short side)"
    )
    context: int = option(32, "pixels around a cell that later members also see")
    miou: float = option(
        0.0, "mIoU to reach at the lowest cost, e.g. 0.7; 0 = that of --reference, or none with --budget"
    )
    budget: float = option(0.0, "largest average multiply-adds of an image; 0 = none")
    reference: str = option(
        "largest",
        "what the committee is compared with: largest (the most expensive member), ensemble (of the most expensive "
        "members, as many as --largest), or a member's name",
    )
    largest: int = option(2, "most members of a cascade")
    percentiles: int = option(50, "number of values tried for each gate: quantiles of its confidences")
    gate: str = option("max_prob", "confidence that is compared with a gate", tuple(CONFIDENCES))
    average: str = option("probs", "how members' answers are averaged", tuple(AVERAGES))
    figures: bool = option(True, "draw mIoU against cost in report.html")
    out: str = option("committee", "folder for committee.json and report.html")
