"""Settings of a run that do not reach the model: data, optimisation, devices, the folder, checkpoints and evaluations.

A setting is one field and one flag, as in `schema`.
"""

import dataclasses

from dico_tf.config.bounds import option
from dico_tf.config.schema import OPTIMIZERS, TASKS
from dico_tf.formulas.schedules import SCHEDULES


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
    train_images: int = option(
        0,
        "number of training images to use, with the classes in proportion, chosen by the seed after validation is set "
        "aside; a smaller number gives a part of the same images; 0 = all",
        at_least=0,
    )
    label_noise: float = option(
        0.0,
        "share of the training images that get a wrong label, chosen by the seed, for studies of robustness; 0 = none",
        at_least=0,
        below=1,
    )
    skip_unreadable: bool = option(False, "leave out image files that cannot be read, instead of stopping")
    skip_duplicates: bool = option(False, "use one of image files with equal bytes: of test if it has one, else of val")


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
    patience: int = option(
        0,
        "stop when this many evaluations in a row are not better than the best one; see --evaluate_every; 0 = off",
        at_least=0,
        free=True,
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
