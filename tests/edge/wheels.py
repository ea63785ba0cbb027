"""The packages of requirements-edge.txt and their dependencies, as a folder of links."""

import importlib.metadata
import re
from pathlib import Path

from tests.edge.workers import ROOT


def names() -> set[str]:
    """Return the names of all distributions that pip installs here from requirements-edge.txt."""
    lines = (ROOT / "requirements-edge.txt").read_text().splitlines()
    remaining, names = [line.split("==")[0] for line in lines if "==" in line], set()
    while remaining:
        name = remaining.pop().lower()
        if name in names or name == "colorama":  # which only Windows wants
            continue
        names.add(name)
        needed = importlib.metadata.requires(name) or []
        remaining += [re.split(r"[^\w.-]", line)[0] for line in needed if "extra ==" not in line]
    return names


def link(folder: Path) -> Path:
    """Fill a folder with links to these distributions and nothing else."""
    for name in names():
        files = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in files.files if file.parts[0] not in ("..", "__pycache__")}:
            target = folder / top
            if not target.exists():
                target.symlink_to(files.locate_file(top))
    return folder
