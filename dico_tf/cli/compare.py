"""Train several arms with several seeds and compare them: dico compare --flagfile=F --arms="a:...;b:..." --out=DIR"""

import dataclasses
import functools
import itertools
import math
import re
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dico_tf import config, flags, invocation
from dico_tf.config import option
from dico_tf.errors import UserError

EXAMPLE = '--arms="whole:--splits=1;divided:--splits=4"'
FIXED = {"seed": "--seeds sets the number of seeds", "workdir": "--out is the folder of all runs"}
SAME = ("task", "dataset")  # flags that all arms share, so that they are tested on the same images


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """Flags of `compare` that a run does not have."""

    arms: str = option(
        "",
        'what is compared, as "NAME:--flag=value ...;NAME:..."; an arm is trained with these flags and those of all '
        "arms, which --flagfile and the rest of the command line give; the others are compared with the first",
    )
    seeds: int = option(5, "number of seeds with which each arm is trained; an interval needs at least 3", at_least=1)
    tune: str = option(
        "",
        'values to try, as "flag=value,value,..."; several flags, separated by ";", are tried in all combinations; '
        "each arm uses its best ones, by the NLL of one seed on validation images",
    )
    out: str = option("", "folder of all runs and of comparison.json; the same command goes on in it")
    jobs: int = option(1, "number of trainings at once", at_least=1)
    minutes: float = option(0.0, "stop after this time, with everything saved; 0 = go on to the end", at_least=0)
    milliseconds: bool = option(True, "measure the milliseconds of one image in each arm, at the end")


SCRIPT = flags.Script(
    name="compare",
    about="Trains several arms with the same seeds, and says which is more accurate, with 95 % intervals. The same "
    "command goes on after a stop. Besides its own flags it takes all flags of train, for all arms.",
    fields=(*flags.of(CompareOptions), *flags.every_field()),
)
TRAINING = flags.Script(name="train", about="", fields=flags.every_field())


def main(arguments: list[str]) -> int:
    begun = time.monotonic()
    values, _ = flags.parse(SCRIPT, arguments)
    options = CompareOptions(**{field.name: values[field.name] for field in flags.of(CompareOptions)})
    arms, grid = _definition(options, arguments)
    from dico_tf.compare.plan import ComparisonPlan
    from dico_tf.compare.run import ComparisonRun, claim
    from dico_tf.files import atomic
    from dico_tf.report.comparison import write_page

    out = Path(options.out)
    with claim(out), atomic.refusals("out", out):
        plan = ComparisonPlan(out, arms, grid, options.seeds)
        command = f"{invocation.command('compare')} {shlex.join(arguments)}"
        run = ComparisonRun(plan, command, _flagfile(arguments), options.jobs, functools.partial(print, flush=True))
        status = run.go_on(begun + (60 * options.minutes or math.inf), options.milliseconds)
        if not status:  # the last lines of a failed training stay the last ones
            print(write_page(out))
        return status


def _flagfile(arguments: Sequence[str]) -> str:
    """Return the value of --flagfile, or ""; several values are joined by a comma."""
    pairs = zip(arguments, [*arguments[1:], ""], strict=True)
    files = [word.partition("=")[2] or following for word, following in pairs if re.match("--?flagfile(=|$)", word)]
    return ",".join(files)


def _definition(options: CompareOptions, arguments: Sequence[str]):
    """Return (arms, tuning grid). Raises one UserError that names every fault of the command line."""
    faults = [*_own_faults(options), *_fixed_faults("", arguments)]
    texts, more = _arm_texts(options.arms)
    points, tune_faults = _tuned_texts(options.tune)
    faults += more + tune_faults
    by_arm: dict[str, list[str]] = {}
    configs: dict[str, dict[tuple[str, ...], config.Config]] = {}
    for name, words in texts.items():
        configs[name], by_arm[name] = _configs(words, arguments, points)
    everywhere = [fault for fault in next(iter(by_arm.values()), []) if all(fault in own for own in by_arm.values())]
    faults += everywhere
    faults += [f"arm {name}: {fault}" for name, own in by_arm.items() for fault in own if fault not in everywhere]
    if not faults:
        faults = _faults_between(configs, bool(points))
    if faults:
        raise UserError("\n".join(dict.fromkeys(faults)))
    return _built(texts, configs, points)


def _built(texts, configs, points):
    from dico_tf.compare.plan import Arm, TuningGrid

    command = invocation.command("compare")
    arms = [
        Arm(
            name=name,
            flags=tuple(words),
            config=configs[name][()],
            settings=flags.flagfile(configs[name][()], f"arm {name} of {command}"),
        )
        for name, words in texts.items()
    ]
    values: dict[str, dict[str, Any]] = {flag: {} for flag in points}
    for texts_of_point, settings in configs[arms[0].name].items():
        tuned = config.to_values(settings)
        for flag, text in zip(points, texts_of_point, strict=False):  # none of the arm itself
            values[flag][text] = list(tuned[flag]) if isinstance(tuned[flag], tuple) else tuned[flag]
    return arms, TuningGrid(values=values)


def _own_faults(options: CompareOptions) -> list[str]:
    faults = [] if options.out else ["--out is needed: the folder of all runs and of their comparison"]
    for field in flags.of(CompareOptions):
        bounds, value = field.metadata["bounds"], getattr(options, field.name)
        if bounds and value not in bounds:
            faults.append(f"--{field.name}={value:g} must be {bounds}")
    return faults


def _fixed_faults(where: str, words: Sequence[str]) -> list[str]:
    """Return a fault for each flag that a comparison sets itself."""
    names = [word.lstrip("-").partition("=")[0] for word in words if word.startswith("-")]
    return [f"{where}--{name} cannot be given: {reason}" for name, reason in FIXED.items() if name in names]


def _arm_texts(text: str) -> tuple[dict[str, list[str]], list[str]]:
    """Return ({arm: its flags}, faults) of --arms."""
    arms: dict[str, list[str]] = {}
    faults = []
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, _, rest = part.partition(":")
        name = name.strip()
        try:
            words = shlex.split(rest)
        except ValueError as error:
            faults.append(f"--arms: the flags of {name} cannot be split into words: {error}")
            continue
        if not re.fullmatch(r"\w[\w+-]*", name):
            faults.append(f"--arms: {name!r} is no name: letters, digits, _, + and - make one, then a colon: {EXAMPLE}")
        elif name in arms:
            faults.append(f"--arms has two arms {name}: give each its own name")
        faults += _fixed_faults(f"arm {name}: ", words)
        arms[name] = words
    if len(arms) < 2:
        faults.append(f"--arms needs at least two arms, got {len(arms)}: write {EXAMPLE}")
    return arms, faults


def _tuned_texts(text: str) -> tuple[dict[str, list[str]], list[str]]:
    """Return ({flag: texts of its values}, faults) of --tune."""
    points: dict[str, list[str]] = {}
    faults = []
    known = {field.name for field in TRAINING.fields} - FIXED.keys()
    for part in filter(None, (part.strip() for part in text.split(";"))):
        flag, _, values = part.partition("=")
        flag = flag.strip().lstrip("-")
        texts = [value.strip() for value in values.split(",") if value.strip()]
        if flag not in known:
            faults.append(f"--tune={part}: {flag!r} is no flag of train that can be tuned: write lr=0.1,0.2")
        elif flag in points or not texts:
            faults.append(f"--tune={part}: expected values, and each flag once: write {flag}=A,B")
        else:
            points[flag] = texts
    return (points, []) if not faults else ({}, faults)


def _configs(words: Sequence[str], shared: Sequence[str], points: dict[str, list[str]]):
    """Return ({texts of the tuned values: Config}, faults) of an arm; the key () is that of the arm itself."""
    from dico_tf.views.policies import parse_all

    configs, faults = {}, []
    keys = [(), *itertools.product(*points.values())] if points else [()]
    for key in keys:
        tuned = [f"--{flag}={text}" for flag, text in zip(points, key, strict=False)]
        try:
            flags.parse(TRAINING, words)  # an arm has only flags of train
            values, _ = flags.parse(SCRIPT, [*shared, *words, *tuned, "--seed=0", "--workdir="])
            settings = config.from_values({field.name: values[field.name] for field in TRAINING.fields})
            parse_all(settings.views.views, settings.network.splits, settings.data.task)
            configs[key] = settings
        except UserError as error:
            faults += str(error).splitlines()
    return configs, list(dict.fromkeys(faults))


def _faults_between(configs, tuned: bool) -> list[str]:
    """Return the faults of arms that cannot be compared with each other."""
    faults = []
    arms = {name: config.to_values(own[()]) for name, own in configs.items()}
    for flag in SAME:
        if len({values[flag] for values in arms.values()}) > 1:
            given = ", ".join(f"{name} has {values[flag]}" for name, values in arms.items())
            faults.append(f"--{flag} must be the same for all arms, which are tested on the same images: {given}")
    if any(values["task"] == "segmentation" for values in arms.values()):
        faults.append("--task=segmentation cannot be compared: compare takes classification and video, by top-1")
    if tuned and any(not values["validation"] for values in arms.values()):
        faults.append("--tune chooses by validation images: give --validation above 0")
    for name, own in configs.items():
        tried = [settings for key, settings in own.items() if key]
        if any(tried.count(settings) > 1 for settings in tried):
            faults.append(f"arm {name}: --tune has the same value twice: give each once")
    return faults
