"""checkpoints/step_N and best/ of a run: the last K whole ones are kept, a bad one is passed over."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dico_tf.errors import UserError
from dico_tf.files.arrays import read_facts, read_part, write_folder
from dico_tf.training import variables


class Checkpoints:
    """Every machine reads the state, since running means are summed over machines; only the chief writes it."""

    def __init__(self, workdir: Path, keep: int, identity: str, chief: bool = True):
        self.folder, self.best = workdir / "checkpoints", workdir / "best"
        self.keep, self.identity, self.chief = keep, identity, chief

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, newest first."""
        if not self.folder.exists():
            return []
        found = [re.fullmatch(r"step_(\d+)", path.name) for path in self.folder.iterdir()]
        return sorted((int(match[1]) for match in found if match), reverse=True)

    def path(self, step: int) -> Path:
        return self.folder / f"step_{step}"

    def save(self, model, facts: dict[str, Any]) -> None:
        step = int(model.step.numpy())
        parts = {
            "weights": variables.values(variables.weights(model)),
            "progress": variables.values(variables.progress(model)),
        }
        if not self.chief:
            return
        write_folder(self.path(step), parts, {**facts, "step": step, "identity": self.identity})
        for old in self.steps()[self.keep :]:
            shutil.rmtree(self.path(old), ignore_errors=True)

    def save_best(self, model, facts: dict[str, Any]) -> None:
        """The weights that were selected: raw or averaged, as the model holds them now."""
        arrays = variables.values(variables.weights(model))
        if self.chief:
            facts = {**facts, "step": int(model.step.numpy()), "identity": self.identity}
            write_folder(self.best, {"weights": arrays}, facts)

    def restore(self, model, say: Callable[[str], None]) -> dict[str, Any] | None:
        """The newest whole checkpoint's facts after its state went into the model; None where there is none."""
        steps = self.steps()
        for step in steps:
            try:
                return self._load(model, self.path(step))
            except UserError as error:
                say(f"checkpoint refused: {error}")
        if steps:
            raise UserError(
                f"none of the {len(steps)} checkpoints in {self.folder} can be used: "
                "give another --workdir, or move that folder away to start anew"
            )
        return None

    def _load(self, model, path: Path) -> dict[str, Any]:
        facts = read_facts(path)
        if facts.get("identity", self.identity) != self.identity:  # earlier versions wrote none
            raise UserError(f"{path} belongs to a run of another config")
        weights, progress = variables.weights(model), variables.progress(model)
        arrays = {**read_part(path, "weights"), **read_part(path, "progress")}
        variables.assign({**weights, **progress}, arrays, str(path))
        return facts
