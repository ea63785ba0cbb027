"""The file report.html: written, or the reason why it is not."""

import logging
from collections.abc import Callable
from pathlib import Path

from dico_tf.errors import UserError
from dico_tf.files.atomic import write_text

NAME = "report.html"


def written(folder: Path, make: Callable[[], str]) -> str:
    """Write report.html into a folder, and return a line with its path, or with the reason why there is none.

    No error is raised: a page that cannot be made must not fail the work before it. An unexpected error is logged with
    its traceback.

    Args:
        make: returns the page.
    """
    path = folder / NAME
    try:
        write_text(path, make())
    except (UserError, OSError) as error:
        return f"warning: no report: {error}"
    except Exception:
        logging.getLogger(__name__).exception("%s could not be made; the other files are complete", path)
        return f"warning: no report: {path} could not be made"
    return _line(path)


def existing(folder: Path) -> list[str]:
    """Return a list with one line, which names the folder's report.html; [] if that file does not exist."""
    return [_line(folder / NAME)] if (folder / NAME).exists() else []


def _line(path: Path) -> str:
    return f"report: {path}"
