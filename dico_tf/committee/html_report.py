"""HTML page of a search with its figures inside, and PNG files of figures."""

import base64
import html
import io
from pathlib import Path

from dico_tf.files.atomic import write_bytes

_STYLE = """
body { font-family: sans-serif; max-width: 62em; margin: 2em auto; padding: 0 1em; color: #222; }
pre { overflow-x: auto; background: #f5f5f5; padding: 1em; }
img { max-width: 100%; margin: 1em 0; }
"""


def html_page(title: str, texts: list[str], folder: Path, figures: list[str]) -> str:
    """Return a self-contained HTML page of preformatted texts and figures, which are names of PNG files in `folder`."""
    parts = [f"<pre>{html.escape(text)}</pre>" for text in texts]
    for name in figures:
        data = base64.b64encode((folder / name).read_bytes()).decode()
        parts.append(f'<img alt="{html.escape(name)}" src="data:image/png;base64,{data}">')
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body><h1>{html.escape(title)}</h1>\n{body}\n</body></html>\n"
    )


def write_figure(figure, path: Path) -> str:
    """Write a matplotlib figure as PNG, whole or not at all, and return the file's name."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    write_bytes(path, stream.getvalue())
    return path.name
