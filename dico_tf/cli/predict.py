"""Classes of pictures by a trained run: dico predict --workdir=W pictures/*"""

import dataclasses

from dico_tf import flags, invocation, startup
from dico_tf.config import option
from dico_tf.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
    top: int = option(3, "classes shown per picture")
    json: bool = option(False, "one JSON object a picture")
    masks: str = option("", "folder for each picture's mask, a PNG of class numbers in colours, of a segmentation run")


SCRIPT = flags.Script(
    name="predict",
    about="Prints each picture's classes (of clips, those of each folder of frames) with probabilities and how far the "
    "branches disagree (nats); of a segmentation run the classes' shares of the pixels.",
    fields=(*flags.pick("workdir", "skip_unreadable"), *flags.of(Prediction)),
    positionals="PICTURE ...",
)


def main(arguments: list[str]) -> None:
    values, pictures = flags.parse(SCRIPT, arguments)
    if not values["workdir"]:
        raise UserError("--workdir is needed: the folder of a trained run")
    if not pictures:
        raise UserError(f"no picture given: {invocation.command('predict')} --workdir=W pictures/*")
    if values["top"] < 1:
        raise UserError(f"--top={values['top']} must be at least 1")
    from dico_tf.training.workdir import record

    record(values["workdir"])  # what is no run is said before TensorFlow takes its seconds
    startup.tensorflow()
    from dico_tf.evaluation import predict, predict_segmentation
    from dico_tf.training.build import trained_run

    run, asked = trained_run(values["workdir"]), (pictures, values["top"], values["skip_unreadable"])
    scenes = run.config.data.task == "segmentation"
    if values["masks"] and not scenes:
        raise UserError(f"--masks={values['masks']}: {run.workdir} is no segmentation run, it has no masks to write")
    module = predict_segmentation if scenes else predict
    options = {"masks": values["masks"]} if scenes else {}
    for prediction in module.predict(run, *asked, **options):
        print(module.as_json(prediction) if values["json"] else module.as_text(prediction), flush=True)
