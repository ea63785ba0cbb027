"""Score a trained run on one of its splits: dico evaluate --workdir=W --split=test"""

import dataclasses

from dico_tf import flags, startup
from dico_tf.config import clips_and_crops, option
from dico_tf.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Flags of `evaluate` that a run does not have."""

    split: str = option("test", "images to score: test, validation or train")
    test_views: str = option(
        "", "clips of each video x crops of each clip that are averaged, e.g. 10x3 (default: the run's own)"
    )
    manifest: str = option(
        "", "manifest.json of an export of the run: score its LiteRT files instead, and write no files"
    )
    format: str = option(
        "float32", "kind of the LiteRT files that are scored with --manifest", ("float32", "float16", "dynamic", "int8")
    )


SCRIPT = flags.Script(
    name="evaluate",
    about="Writes scores, predictions and report.html to the run's folder, and prints the scores.",
    fields=(*flags.pick("workdir", "data_dir"), *flags.of(EvaluateOptions)),
)


def main(arguments: list[str]) -> None:
    values, _ = flags.parse(SCRIPT, arguments)
    if not values["workdir"]:
        raise UserError("--workdir is needed: the folder of a trained run")
    from dico_tf.training.workdir import record

    record(values["workdir"])  # fail before TensorFlow is imported, which takes seconds
    startup.tensorflow()
    from dico_tf.evaluation.evaluate import evaluate_split, load_splits
    from dico_tf.evaluation.table import evaluation_table
    from dico_tf.report.run_page import write_page
    from dico_tf.training.build import trained_run

    run = trained_run(values["workdir"])
    if values["test_views"]:
        clips_and_crops(values["test_views"])
    if values["manifest"]:
        run.check_images("exports", "leave out --manifest")
    parts = load_splits(run, values["data_dir"])
    if values["manifest"]:
        from dico_tf.export import evaluate_export

        print(
            evaluation_table(
                evaluate_export.evaluate_export(run, values["manifest"], values["format"], values["split"], parts)
            )
        )
        return
    print(evaluation_table(evaluate_split(run, run.network(), values["split"], parts, values["test_views"])))
    print(write_page(run.workdir))
