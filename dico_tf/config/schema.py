"""Settings of the network and its training as frozen dataclasses; `run_schema` has those of data, epochs and folders.

A setting is one field and one flag, with its help text and its bounds. Fields of NetworkOptions, ViewOptions,
CotrainingOptions, StepOptions, FinetuningOptions are also arguments of `DiCo`.
"""

import dataclasses

from dico_tf.config.bounds import option
from dico_tf.formulas.averages import AVERAGES

DIVISIONS = ("published", "params", "macs")
# {--task or --method: its class in dico_tf/cotrain/tasks or methods}, imported when a model is built
TASKS = {
    "classification": "classification.Classification",
    "segmentation": "segmentation.Segmentation",
    "video": "classification.Classification",
}
METHODS = {
    "dico": "dico.Dico",
    "cosub": "cosub.Cosub",
    "dico+cosub": "cosub.Cosub",
    "distill": "distill.Distill",
}
# {--optimizer: its class in dico_tf/training}, imported when a run starts
OPTIMIZERS = {
    "sgd": "optimizers.SGD",
    "adamw": "optimizers.AdamW",
    "lamb": "lamb.Lamb",
}
COUPLED_DECAY = ("sgd",)  # optimizers whose weight decay is part of the gradient; the others decay weights directly
SUBMODEL_METHODS = ("cosub", "dico+cosub")


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """The whole network, its division, and its stochastic depth."""

    model: str = option("wrn_28_10", "preset of the whole network, e.g. wrn_28_10, or a .keras file of your own")
    splits: int = option(1, "number of branches (S) that the whole network is divided into", at_least=1)
    division: str = option(
        "published",
        "how the branches' widths are chosen: by the published rule, or so that all branches together have the "
        "parameters (params) or the multiply-adds (macs) of the whole network",
        DIVISIONS,
    )
    drop_path: float = option(
        -1.0,
        "rate at which residual branches of the whole network are dropped in training (stochastic depth); -1 = the "
        "preset's own",
        at_least=0,
        below=1,
        special={-1: "the preset's own"},
    )
    drop_form: str = option(
        "auto",
        "how residual branches are dropped: masked = computed and set to zero, efficient = not computed; auto = "
        "masked up to a rate of 0.1",
        ("auto", "masked", "efficient"),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class BranchOptions:
    """Branches that are networks of any kind, in place of a division."""

    branches: tuple[str, ...] = option(
        (),
        "branches in place of --model and --splits: networks of any kind, comma separated, named like members of a "
        "committee, e.g. keras:MobileNetV2@96?alpha=0.5,small.keras,runs/a:branch_0; each keeps its weights and gets a "
        "new head",
    )
    whole: str = option("", "network with which the cost of --branches is compared, named like one of them", free=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewOptions:
    """Augmentations that each branch sees, and mixing of images."""

    views: tuple[str, ...] = option(
        ("crop+flip",),
        "augmentations of all branches, joined by +, or one such policy for each branch, comma separated",
    )
    same_views: bool = option(False, "show all branches the same view")
    mixup: float = option(0.0, "alpha of mixup's Beta distribution; 0 = off", at_least=0)
    cutmix: float = option(0.0, "alpha of CutMix's Beta distribution; 0 = off", at_least=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CotrainingOptions:
    """Method of co-training, its losses, and how the ensemble combines the branches."""

    method: str = option(
        "dico",
        "dico: branches that agree; cosub: submodels of one network teach each other; dico+cosub: both; distill: "
        "branches that agree and also learn the answers of --teacher",
        tuple(METHODS),
    )
    submodels: int = option(
        2,
        "number of submodels that learn from each view; each drops different residual branches",
        at_least=2,
        methods=SUBMODEL_METHODS,
    )
    label_weight: float = option(
        0.5,
        "weight of the labels in the loss; the rest is the weight of the other submodels' or the teacher's answers",
        at_least=0,
        at_most=1,
        methods=(*SUBMODEL_METHODS, "distill"),
    )
    teacher: str = option(
        "",
        "model whose answers the branches learn: a run's folder, a committee.json, or any member of a committee",
        methods=("distill",),
        free=True,  # its path may change; the run keeps a checksum of its weights
    )
    teacher_views: str = option(
        "same",
        "images that the teacher sees: same = the branch's view, computed in each step; clean = the unchanged image, "
        "computed once and cached on disk",
        ("same", "clean"),
        methods=("distill",),
    )
    temperature: float = option(
        4.0, "temperature that softens the teacher's and the branches' answers", above=0, methods=("distill",)
    )
    target: str = option(
        "auto",
        "softmax: an image has one class; binary: each class is learned separately, so that a mixed image has the "
        "classes of both images; auto = binary for cosub and dico+cosub, except in segmentation, else softmax",
        ("auto", "softmax", "binary"),
    )
    training: str = option(
        "together",
        "together: all branches see the same images and agree; independent: each is trained as if alone",
        ("together", "independent"),
    )
    agreement: str = option(
        "js",
        "agreement loss between the branches: Jensen-Shannon (js), Kullback-Leibler (kl), or none",
        ("js", "kl", "none"),
    )
    agreement_weight: float = option(0.5, "weight of the agreement loss after its warm-up", at_least=0)
    agreement_warmup_epochs: int = option(0, "epochs over which the agreement weight grows from 0.005", at_least=0)
    label_smoothing: float = option(
        0.0, "share of the target that is spread evenly over all classes", at_least=0, below=1
    )
    class_weights: tuple[str | float, ...] = option(
        ("none",),
        "weight of each class in the loss on the labels: none, balanced (images / (classes x images of the class)), or "
        "one number per class",
    )
    auxiliary_weight: float = option(
        0.5,
        "weight of the loss of the auxiliary head, which exists in training only; 0 = no auxiliary head",
        at_least=0,
        task="segmentation",
    )
    average: str = option(
        "logits",
        "how the ensemble combines the branches: mean of the logits, mean of the probabilities (probs), or the largest "
        "(max) or median logit of each class",
        tuple(AVERAGES),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepOptions:
    """Details of one training step."""

    accumulation: int = option(
        1, "number of pieces in which a batch is processed; more pieces need less memory", at_least=1
    )
    clip_norm: float = option(0.0, "norm to which the gradient of each branch is clipped; 0 = off", at_least=0)
    sync_batch_norm: bool = option(False, "compute the statistics of batch normalisation over all replicas")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinetuningOptions:
    """Training of a backbone, the layers below the head, that starts from trained weights."""

    freeze: str = option(
        "none",
        "backbone: only the heads learn; a number N: only they learn in the first N epochs; none: all layers learn",
    )
    backbone_lr: float = option(1.0, "factor of the learning rate for all layers but the heads", above=0)
    batch_statistics: str = option(
        "train",
        "how the backbone normalises in training: train = by statistics of the batch; keep = by those it has",
        ("train", "keep"),
    )
