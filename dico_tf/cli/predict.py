"""Classify or segment images with a trained run: dico predict --workdir=W images/*"""

import dataclasses

from dico_tf import flags, invocation, startup
from dico_tf.config import option
from dico_tf.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """Flags of `predict` that a run does not have."""

    top: int = option(3, "number of classes printed for each image")
    json: bool = option(False, "print one JSON object for each image")
    masks: str = option(
        "",
        "folder for the masks of a segmentation run: PNG files with a colour palette, whose values are class numbers",
    )


SCRIPT = flags.Script(
    name="predict",
    about="Prints the most probable classes of each image (of a video run: each folder of frames), with probabilities "
    "and the disagreement of the branches in nats; for a segmentation run, the share of pixels of each class.",
    fields=(*flags.pick("workdir", "skip_unreadable"), *flags.of(PredictOptions)),
    positionals="IMAGE ...",
)


def main(arguments: list[str]) -> None:
    values, images = flags.parse(SCRIPT, arguments)
    if not values["workdir"]:
        raise UserError("--workdir is needed: the folder of a trained run")
    if not images:
        raise UserError(f"expected images or folders: {invocation.command('predict')} --workdir=W images/*")
    if values["top"] < 1:
        raise UserError(f"--top={values['top']} must be at least 1")
    from dico_tf.training.workdir import record

    record(values["workdir"])  # fail before TensorFlow is imported, which takes seconds
    startup.tensorflow()
    from dico_tf.evaluation import predict, predict_segmentation
    from dico_tf.training.build import trained_run

    run, options = trained_run(values["workdir"]), (images, values["top"], values["skip_unreadable"])
    scenes = run.config.data.task == "segmentation"
    if values["masks"] and not scenes:
        raise UserError(
            f"--masks={values['masks']}: {run.workdir} is not a segmentation run and has no masks; leave out --masks"
        )
    module = predict_segmentation if scenes else predict
    mask_option = {"masks": values["masks"]} if scenes else {}
    for prediction in module.predict(run, *options, **mask_option):
        print(module.as_json(prediction) if values["json"] else module.as_text(prediction), flush=True)
