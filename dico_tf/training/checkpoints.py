"""Checkpoints of a run: the folders checkpoints/step_N, of which the last ones are kept, and best/."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dico_tf.errors import UserError
from dico_tf.files.arrays import read_facts, read_part, write_folder
from dico_tf.training import variables


class Checkpoints:
    """Saves and restores a run's state.

    All machines must call `save`, since running metrics are summed over machines; only the chief writes.

    Args:
        keep: number of checkpoints to keep, besides the best.
        identity: digest of the run's settings; a checkpoint with another one is refused.
    """

    def __init__(self, workdir: Path, keep: int, identity: str, chief: bool = True):
        self.folder, self.best = workdir / "checkpoints", workdir / "best"
        self.keep, self.identity, self.chief = keep, identity, chief

    def steps(self) -> list[int]:
        """Return the steps that have a checkpoint, newest first."""
        if not self.folder.exists():
            return []
        matches = [re.fullmatch(r"step_(\d+)", path.name) for path in self.folder.iterdir()]
        return sorted((int(match[1]) for match in matches if match), reverse=True)

    def path(self, step: int) -> Path:
        return self.folder / f"step_{step}"

    def save(self, model, facts: dict[str, Any]) -> None:
        """Write a checkpoint of weights, progress and these facts, and delete those older than the last `keep`."""
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
        """Write the model's current weights and these facts to best/."""
        arrays = variables.values(variables.weights(model))
        if self.chief:
            facts = {**facts, "step": int(model.step.numpy()), "identity": self.identity}
            write_folder(self.best, {"weights": arrays}, facts)

    def restore(self, model, say: Callable[[str], None]) -> dict[str, Any] | None:
        """Restore the model from the newest usable checkpoint and return its facts; None if there are no checkpoints.

        Checkpoints that are damaged or belong to other settings are reported by `say` and skipped. Raises UserError if
        none is left.
        """
        steps = self.steps()
        for step in steps:
            try:
                return self._load(model, self.path(step))
            except UserError as error:
                say(f"checkpoint refused: {error}")
        if steps:
            raise UserError(
                f"none of the {len(steps)} checkpoints in {self.folder} can be used: "
                "give another --workdir, or remove that folder to start again"
            )
        return None

    def _load(self, model, path: Path) -> dict[str, Any]:
        facts = read_facts(path)
        if facts.get("identity", self.identity) != self.identity:  # earlier versions did not write it
            raise UserError(f"{path} belongs to a run with other settings")
        weights, progress = variables.weights(model), variables.progress(model)
        arrays = {**read_part(path, "weights"), **read_part(path, "progress")}
        variables.assign({**weights, **progress}, arrays, str(path))
        return facts
