"""The recipes of configs/: flag files that commands find by name, from any folder."""

import difflib
from pathlib import Path

PACKAGE = Path(__file__).parent
# A wheel has them inside the package, the source tree beside it.
FOLDER = PACKAGE / "configs" if (PACKAGE / "configs").is_dir() else PACKAGE.parent / "configs"


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.flags"))


def path(name: str) -> Path:
    """Return the file of the recipe `cifar10` or `cifar10.flags`; it need not exist."""
    return FOLDER / f"{name.removesuffix('.flags')}.flags"


def hint(name: str) -> str:
    """Return the recipes whose names are similar to `name`, or where all of them are."""
    near = difflib.get_close_matches(name.removesuffix(".flags"), names(), n=3)
    return f"did you mean {' or '.join(near)}?" if near else f"all recipes are in {FOLDER}"
