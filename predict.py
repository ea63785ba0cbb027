"""Classes of pictures by a trained run: python predict.py --workdir=W pictures/*"""

import dataclasses

from dico_tf import flags, quiet
from dico_tf.config import option
from dico_tf.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
    top: int = option(3, "classes shown per picture")
    json: bool = option(False, "one JSON object a picture")


SCRIPT = flags.Script(
    name="predict.py",
    about="Prints the classes of each picture (of clips, of each folder of frames) with probabilities, and how far the "
    "branches disagree (nats).",
    fields=(*flags.pick("workdir", "skip_unreadable"), *flags.of(Prediction)),
    positionals="PICTURE ...",
)


def main(arguments: list[str]) -> None:
    values, pictures = flags.parse(SCRIPT, arguments)
    if not values["workdir"]:
        raise UserError("--workdir is needed: the folder of a trained run")
    if not pictures:
        raise UserError("no picture given: python predict.py --workdir=W pictures/*")
    if values["top"] < 1:
        raise UserError(f"--top={values['top']} must be at least 1")
    quiet.tensorflow()
    from dico_tf.evaluation.answers import answers, as_json, as_text
    from dico_tf.training.assemble import trained_run

    show = as_json if values["json"] else as_text
    for answer in answers(trained_run(values["workdir"]), pictures, values["top"], values["skip_unreadable"]):
        print(show(answer), flush=True)


if __name__ == "__main__":
    flags.run(main)
