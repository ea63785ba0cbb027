"""The recipes in configs/: flag files that commands find by name from any folder."""

import difflib
from pathlib import Path

PACKAGE = Path(__file__).parent
# In a wheel the recipes are inside the package, in the source tree beside it.
FOLDER = PACKAGE / "configs" if (PACKAGE / "configs").is_dir() else PACKAGE.parent / "configs"


def names() -> list[str]:
    """Return the names of all recipes, without .flags."""
    return sorted(path.stem for path in FOLDER.glob("*.flags"))


def path(name: str) -> Path:
    """Return the file of the recipe `cifar10` or `cifar10.flags`; it need not exist."""
    return FOLDER / f"{name.removesuffix('.flags')}.flags"


def hint(name: str) -> str:
    """Return a hint for an unknown name: similar recipes, or else the folder that has all of them."""
    near = difflib.get_close_matches(name.removesuffix(".flags"), names(), n=3)
    return f"did you mean {' or '.join(near)}?" if near else f"all recipes are in {FOLDER}"
