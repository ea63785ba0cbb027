"""Train a divided network: dico train --flagfile=configs/cifar10.flags"""

import os
import shlex
import sys

from dico_tf import config, flags, invocation, startup

SCRIPT = flags.Script(
    name="train",
    about="Divides a network into branches, co-trains them on their own views, and prints the scores.",
    fields=flags.every_field(),
)


def _open_teacher(*arguments):
    from dico_tf.committee.committee_file import combined
    from dico_tf.evaluation.teacher import open_teacher

    return open_teacher(*arguments, combined)


def _open_branches(settings):
    from dico_tf.evaluation.members.open_branches import open_branches

    return open_branches(settings)


def main(arguments: list[str]) -> int:
    values, _ = flags.parse(SCRIPT, arguments)
    settings = config.from_values(values)
    from dico_tf.views.policies import parse_all

    # report mistakes before TensorFlow is imported
    parse_all(settings.views.views, settings.network.splits, settings.data.task)
    if not os.environ.get("TF_CONFIG"):  # several machines end together, or not at all
        from dico_tf.evaluation.summary import summary_of_finished

        if text := summary_of_finished(settings):
            from dico_tf.report.written import existing
            from dico_tf.training.workdir import folder_of

            print("\n".join([text, *existing(folder_of(settings))]))
            return 0
    startup.tensorflow()
    from dico_tf.evaluation.evaluate import summarize
    from dico_tf.report.run_page import write_page
    from dico_tf.training.loop import Stopped
    from dico_tf.training.run import train

    command = f"{invocation.command('train')} {shlex.join(arguments)}"

    def say(line: str) -> None:
        print(line, flush=True)

    try:
        summary = train(settings, flags.flagfile(settings, command), say, _open_teacher, _open_branches)
    except Stopped as stop:
        print(f"{invocation.command('train').removeprefix('python ')}: {stop}", file=sys.stderr)
        return 128 + stop.signal
    if summary["chief"] and summary["best_epoch"] is None:
        print(
            f"stopped at step {summary['steps']} by --max_steps, before the first epoch ended: nothing to evaluate yet"
        )
    elif summary["chief"]:
        print(summarize(summary["workdir"], summary["parts"]))
        print(write_page(summary["workdir"]))
    return 0
