"""Settings of a run as frozen dataclasses. A setting is one field here and one flag, with its help text and its bounds.

Fields of NetworkOptions, ViewOptions, CotrainingOptions, StepOptions, FinetuningOptions are also arguments of `DiCo`.
"""

import dataclasses

from dico_tf.config.bounds import option
from dico_tf.formulas.averages import AVERAGES
from dico_tf.formulas.schedules import SCHEDULES

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
class Data:
    """Task of a run, and the images, clips and labels that it loads."""

    task: str = option(
        "classification",
        "what the network predicts: one class for each image, for each pixel, or for each video clip",
        tuple(TASKS),
    )
    dataset: str = option(
        "cifar10",
        "data set: digits, cifar10, cifar100, any image classification set of TFDS, or folder:DIR for your own images; "
        "for segmentation folder:DIR; for video folder:DIR, or moving, which is drawn by the program",
    )
    frames: int = option(0, "frames of a clip; 0 = the preset's own", at_least=0, task="video")
    frame_rate: int = option(0, "use every n-th frame of a video; 0 = the preset's own", at_least=0, task="video")
    data_dir: str = option("", "folder that holds prepared TFDS data (default: TFDS's own)", free=True)
    image_size: int = option(
        0,
        "side of the square images in pixels; up to 64 they show the whole central square, above that they are cut "
        "out of a larger one; 0 = the data set's own",
        at_least=4,
        special={0: "the data set's own"},
    )
    void: int = option(
        255,
        "value of the mask pixels that have no class; -1 = every pixel has a class",
        at_least=-1,
        at_most=255,
        task="segmentation",
    )
    classes: int = option(0, "number of classes; 0 = the data set's own", at_least=0)
    validation: int = option(
        5000,
        "training images set aside for validation if the data set has no validation split, chosen by the seed (at most "
        "a tenth); 0 = none, needs --select=test",
        at_least=0,
    )
    skip_unreadable: bool = option(False, "leave out image files that cannot be read, instead of stopping")
    skip_duplicates: bool = option(False, "use one of image files with equal bytes: of test if it has one, else of val")


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimisationOptions:
    """Batches, epochs, optimizer, learning rate, weight decay and averaged weights."""

    batch_size: int = option(128, "images per step, on all replicas and machines together", at_least=1)
    repeated_augmentation: int = option(
        1,
        "how often a batch contains each image, with different views; an epoch has the same number of steps and so "
        "shows fewer images",
        at_least=1,
    )
    epochs: int = option(300, "passes over the training images", at_least=1)
    max_steps: int = option(0, "stop after this many steps; 0 = off", at_least=0, free=True)
    optimizer: str = option(
        "sgd",
        "sgd (Nesterov momentum, weight decay as part of the gradient), adamw or lamb (decoupled weight decay)",
        tuple(OPTIMIZERS),
    )
    lr: float = option(0.1, "learning rate after the warm-up", at_least=0)
    momentum: float = option(0.9, "momentum of sgd", at_least=0, below=1)
    schedule: str = option(
        "cosine",
        "how the learning rate falls after the warm-up; cosine_floor is the cosine of timm, over all epochs and down "
        "to min_lr",
        tuple(SCHEDULES),
    )
    warmup_epochs: int = option(
        0,
        "epochs in which the learning rate rises linearly; -1 = none, and the cosine starts at its second epoch, as in "
        "the published 1800-epoch runs",
        at_least=-1,
    )
    warmup_lr: float = option(0.005, "learning rate at the start of the warm-up", at_least=0)
    min_lr: float = option(1e-4, "lowest learning rate of the cosine schedules", at_least=0)
    step_epochs: tuple[int, ...] = option(
        (), "epochs at which the step schedule lowers the learning rate (default: 30, 60 and 90% of --epochs)"
    )
    step_factor: float = option(
        0.1, "factor by which the step schedule multiplies the learning rate", above=0, at_most=1
    )
    poly_power: float = option(
        0.9,
        "exponent of the poly schedule: lr (1 - share of the steps after the warm-up that are done) ^ exponent",
        above=0,
    )
    weight_decay: float = option(
        -1.0,
        "weight decay of the whole; -1 = that of the preset's recipe: its coupled value for sgd, its decoupled one, if "
        "it has any, for adamw and lamb",
        at_least=0,
        special={-1: "the published one"},
    )
    weight_decay_division: str = option(
        "none",
        "weight decay of a branch: none = that of the whole, linear = whole / S, exp = whole x exp(1 / S - 1)",
        ("none", "linear", "exp"),
    )
    ema: float = option(0.0, "decay of the moving average of the weights, e.g. 0.999; 0 = off", at_least=0, below=1)
    evaluate_ema: bool = option(False, "use the averaged weights to select the best epoch, to evaluate and to export")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MachineOptions:
    """Devices and number format."""

    precision: str = option(
        "float32", "number format in which the network computes", ("float32", "mixed_bfloat16", "mixed_float16")
    )
    strategy: str = option(
        "auto",
        "devices to train on: one, all GPUs of this machine (mirrored), or several machines (multi_worker); auto "
        "takes all there are",
        ("auto", "one", "mirrored", "multi_worker"),
        free=True,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """A run's folder, initial weights, seed, checkpoints and evaluations."""

    workdir: str = option(
        "",
        "folder of the run; training again with the same folder continues the run; without it, train.py uses "
        "runs/DATASET-MODEL-sSPLITS-seedSEED",
        free=True,
    )
    init_from: str = option(
        "",
        "start from the weights of another run's folder, a .keras file or a published checkpoint, or with auto from "
        "those in an installed package; a head for other classes starts anew",
    )
    init: str = option(
        "weights",
        "what --init_from gives: weights = those of the same network; slices = each branch starts from a part of the "
        "channels of the undivided network",
        ("weights", "slices"),
    )
    seed: int = option(0, "seed of initial weights, image order, views and mixing", at_least=0, below=2**31)
    save_every: int = option(0, "steps between checkpoints; 0 = at the end of each epoch only", at_least=0, free=True)
    keep: int = option(2, "number of checkpoints kept, besides the best", at_least=1, free=True)
    evaluate_every: int = option(
        1, "epochs between evaluations on the --select split; the last epoch is always evaluated", at_least=1
    )
    select: str = option("validation", "split on which the best epoch is chosen", ("validation", "test"))
    evaluation_batch_size: int = option(
        250, "images per step of an evaluation; each frame of a clip counts as an image", at_least=1, free=True
    )
    test_views: str = option(
        "1x1",
        "clips of each video x crops of each clip whose logits are averaged in an evaluation, e.g. 10x3",
        task="video",
        free=True,
    )
