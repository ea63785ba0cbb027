"""Plan of a comparison: its arms, the values to try for each, and all runs in their order; stored in plan.json."""

import dataclasses
import itertools
import json
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dico_tf import config
from dico_tf.config import Config
from dico_tf.errors import UserError
from dico_tf.files import atomic, json_files

NAME = "plan.json"
SETTINGS = "arm.flags"  # in an arm's folder
TUNING_SEED = 0
OWN = ("seed", "workdir")  # flags that differ between the runs of an arm


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arm:
    """A way to train: the same flags for all seeds."""

    name: str
    flags: tuple[str, ...]  # those of --arms
    config: Config  # of its runs, except for seed, folder and tuned values
    settings: str  # flag file of `config`

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that may not change when a comparison continues, as JSON has them; defaults are left out."""
        values = {name: value for name, value in config.identity(self.config).items() if name not in OWN}
        return json.loads(json.dumps(values))


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuningGrid:
    """Values to try, of one or several flags: {flag: {text on the command line: value}}; {} = nothing is tuned."""

    values: Mapping[str, Mapping[str, Any]]

    @property
    def points(self) -> list[dict[str, str]]:
        """All combinations, as {flag: text}; [] if nothing is tuned."""
        if not self.values:
            return []
        return [dict(zip(self.values, texts, strict=True)) for texts in itertools.product(*self.values.values())]

    def typed(self, point: Mapping[str, str]) -> dict[str, Any]:
        """Return {flag: value} of a combination {flag: text}."""
        return {flag: self.values[flag][text] for flag, text in point.items()}

    def at_edge(self, point: Mapping[str, str]) -> list[str]:
        """Return the flags whose value in `point` is the lowest or the highest that was tried.

        Flags with a single value, and flags that are no numbers, are left out.
        """
        result = []
        for flag, value in self.typed(point).items():
            numbers = [n for n in self.values[flag].values() if isinstance(n, int | float) and not isinstance(n, bool)]
            if len(numbers) == len(self.values[flag]) > 1 and value in (min(numbers), max(numbers)):
                result.append(flag)
        return result


@dataclasses.dataclass(frozen=True)
class ArmRun:
    """One run: an arm with a seed and, if it is a trial, with (flag, text) of each tuned flag."""

    arm: str
    seed: int
    trial: tuple[tuple[str, str], ...] = ()

    @property
    def folder(self) -> str:
        """The run's folder, relative to that of the comparison."""
        values = ",".join(f"{flag}={urllib.parse.quote(text, safe='=+@:')}" for flag, text in self.trial)
        return "/".join(filter(None, [self.arm, f"seed_{self.seed}", values]))


class ComparisonPlan:
    """The arms, trials and seeds of a comparison, and the values that its trials chose, which are stored.

    Raises UserError if the folder has a comparison with another definition of one of the arms, or with other trials.
    More arms and another number of seeds are allowed.

    Args:
        out: folder of the comparison.
        arms: the first is the one that the others are compared with.
        grid: the trials of every arm.
        seeds: number of seeds.
    """

    def __init__(self, out: Path, arms: Sequence[Arm], grid: TuningGrid, seeds: int):
        self.out, self.arms, self.grid = out, tuple(arms), grid
        first = TUNING_SEED + 1 if grid.points else 0  # the seed of the trials takes no part
        self.seeds = tuple(range(first, first + seeds))
        self._content = self._read()
        self._check()

    def _read(self) -> dict[str, Any]:
        path = self.out / NAME
        if not path.exists():
            return {"arms": {}, "tune": self._tune(), "chosen": {}, "milliseconds": {}}
        again = "give another --out"
        content = json_files.read(path, "the plan of a comparison", missing=again, again=again, kind="comparison plan")
        return {name: content[name] for name in ("arms", "tune", "chosen", "milliseconds")}

    def _tune(self) -> dict[str, list[str]]:
        return {flag: list(texts) for flag, texts in self.grid.values.items()}

    def _check(self) -> None:
        faults = []
        if (before := self._content["tune"]) != self._tune():
            faults.append(f"--tune was {_text(before)}, is {_text(self._tune())}: all arms need the same trials")
        for arm in self.arms:
            stored = self._content["arms"].get(arm.name, {}).get("identity", arm.identity)
            names = sorted(stored.keys() | arm.identity.keys())
            changed = [name for name in names if stored.get(name) != arm.identity.get(name)]
            words = [
                f"--{n} was {stored.get(n, 'the default')}, is {arm.identity.get(n, 'the default')}" for n in changed
            ]
            if words:
                faults.append(f"arm {arm.name} was defined otherwise ({'; '.join(words)}): give it another name")
        if faults:
            faults = [f"--out={self.out} has a comparison with other settings:", *faults]
            raise UserError("\n".join([*faults, "repeat its flags, or give another --out"]))

    def begin(self) -> None:
        """Store the plan, and the flag file of each arm."""
        for arm in self.arms:
            (self.out / arm.name).mkdir(parents=True, exist_ok=True)
            atomic.write_text(self.out / arm.name / SETTINGS, arm.settings)
            self._content["arms"][arm.name] = {"flags": list(arm.flags), "identity": arm.identity}
        self._write()

    def chosen(self, arm: str) -> dict[str, str] | None:
        """Return the chosen {flag: text} of an arm; {} if nothing is tuned, None if nothing is chosen yet."""
        return self._content["chosen"].get(arm) if self.grid.points else {}

    def choose(self, arm: str, point: Mapping[str, str]) -> None:
        """Store the values of an arm for all of its seeds. They are never chosen again."""
        self._content["chosen"][arm] = dict(point)
        self._write()

    @property
    def milliseconds(self) -> dict[str, float]:
        """Measured milliseconds of each arm; {} before they are measured, or if arms were added since."""
        stored = self._content["milliseconds"]
        return stored if all(arm.name in stored for arm in self.arms) else {}

    def set_milliseconds(self, values: Mapping[str, float]) -> None:
        """Store the measured milliseconds of all arms."""
        self._content["milliseconds"] = dict(values)
        self._write()

    def trials(self, arm: str) -> list[ArmRun]:
        """Return the trials of an arm."""
        return [ArmRun(arm, TUNING_SEED, tuple(point.items())) for point in self.grid.points]

    def runs(self) -> Iterator[ArmRun]:
        """Yield all runs in their order: the trials of each arm, then all arms with each seed."""
        for arm in self.arms:
            yield from self.trials(arm.name)
        for seed in self.seeds:
            yield from (ArmRun(arm.name, seed) for arm in self.arms)

    def words(self, run: ArmRun) -> list[str]:
        """Return the flags of train.py for a run. Unless it is a trial, the values of its arm must have been chosen."""
        point = dict(run.trial) or self.chosen(run.arm)
        return [
            f"--flagfile={(self.out / run.arm / SETTINGS).absolute()}",
            *(f"--{flag}={text}" for flag, text in point.items()),
            f"--seed={run.seed}",
            f"--workdir={self.out / run.folder}",
        ]

    def _write(self) -> None:
        json_files.write(self.out / NAME, {"kind": "comparison plan", **self._content})


def _text(tune: Mapping[str, Sequence[str]]) -> str:
    return repr(";".join(f"{flag}={','.join(texts)}" for flag, texts in tune.items()))
