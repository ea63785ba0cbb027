"""HTML elements of the pages. Every text is escaped, except `Html`, which is markup already."""

import base64
import html
import io
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from dico_tf.report.style import STYLE

_PIXELATED = 48  # images up to this side are shown with sharp pixels


class Html(str):
    """Markup, which is not escaped again."""


class TableCell(NamedTuple):
    """A cell with a shade behind its text, or with a class."""

    value: Any
    shade: float = 0.0  # 0 = none, 1 = the darkest
    name: str = ""  # class


class Section(NamedTuple):
    """A part of a page with a heading."""

    title: str
    content: Html


def text(value: Any) -> Html:
    """Return a value as escaped text; None is shown as a dash, and Html is returned as it is."""
    if isinstance(value, Html):
        return value
    return Html("–" if value is None else html.escape(str(value)))


def element(tag: str, *content: Any, **attributes: Any) -> Html:
    """Return an element; a trailing _ of an attribute's name is left out, and _ within it becomes -."""
    names = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items() if value is not None}
    opening = "".join(f' {name}="{html.escape(str(value))}"' for name, value in names.items())
    return Html(f"<{tag}{opening}>{''.join(map(text, content))}</{tag}>")


def joined(*parts: Any) -> Html:
    """Return parts one after another, each on its own line."""
    return Html("\n".join(text(part) for part in parts if part))


def table(
    caption: str, headers: Sequence[Any], rows: Iterable[Sequence[Any]], *, left: int = 1, name: str = ""
) -> Html:
    """Return a table in a box that scrolls by itself.

    Args:
        rows: the first cell of a row is its heading.
        left: number of columns that are flush left; the others have numbers.
        name: class of the table.
    """
    classes = [None if place < left else "number" for place in range(len(headers))]
    head = [element("th", header, scope="col", class_=which) for header, which in zip(headers, classes, strict=True)]
    body = []
    for first, *others in rows:
        cells = [_cell(value, which) for value, which in zip(others, classes[1:], strict=True)]
        body.append(element("tr", element("th", first, scope="row"), *cells))
    content = element(
        "table",
        element("caption", element("span", _unbroken(caption))),
        element("thead", element("tr", *head)),
        element("tbody", *body),
        class_=name or None,
    )
    return element("div", content, class_="scroll", tabindex="0", role="region", aria_label=caption)


def _cell(value: Any, name: str | None) -> Html:
    if not isinstance(value, TableCell):
        return element("td", value, class_=name)
    shade = f"background:color-mix(in srgb,var(--shade) {60 * min(value.shade, 1):.0f}%,transparent)"
    names = " ".join(filter(None, (name, value.name)))
    return element("td", value.value, class_=names or None, style=shade if value.shade else None)


def _unbroken(sentence: Any) -> Html:
    """Return a text whose percent signs stay on the line of their number."""
    return Html(text(sentence).replace(" %", "&nbsp;%"))


def figure(content: Html, caption: Any, *, title: str = "", panel: bool = False) -> Html:
    """Return a figure with a caption that says how to read it, and with a heading if `title` is given."""
    heading = element("h3", title) if title else Html("")
    return element(
        "figure", heading, content, element("figcaption", _unbroken(caption)), class_="panel" if panel else None
    )


def charts(*figures: Html) -> Html:
    """Return figures side by side where there is room."""
    present = [each for each in figures if each]
    return element("div", *present, class_="charts") if present else Html("")


def image(pixels: np.ndarray, description: str) -> Html:
    """Return an image uint8 [H, W, 3] inside the page: PNG if it is small, else JPEG."""
    small = max(pixels.shape[:2]) <= _PIXELATED
    stream, kind = io.BytesIO(), "png" if small else "jpeg"
    Image.fromarray(pixels).save(stream, kind, **({"optimize": True} if small else {"quality": 80}))
    data = base64.b64encode(stream.getvalue()).decode()
    address = f"data:image/{kind};base64,{data}"
    sides = f'width="{pixels.shape[1]}" height="{pixels.shape[0]}"'
    name = ' class="small"' if small else ""
    return Html(f'<img src="{address}" alt="{html.escape(description)}" {sides}{name}>')


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """Return a whole page with links to its sections. It loads nothing: its policy forbids scripts and addresses."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    present = [section for section in sections if section.content]
    links = [element("li", element("a", part.title, href=f"#part-{n}")) for n, part in enumerate(present)]
    body = [
        element("section", element("h2", part.title), "\n", part.content, id=f"part-{n}")
        for n, part in enumerate(present)
    ]
    header = element(
        "header",
        element("h1", title),
        element("p", lead, class_="lead"),
        element("nav", element("ul", *links), aria_label="Sections"),
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body>{element('main', header, *body)}</body></html>\n"
    )


def commands(lines: Sequence[str], versions: dict[str, str]) -> Html:
    """Return commands as typed, and a table of versions if there are any."""
    block = element("pre", element("code", "\n".join(lines)), tabindex="0")
    rows = [[name, version] for name, version in versions.items()]
    return joined(
        block, table("Versions of the packages that were used.", ["package", "version"], rows) if rows else ""
    )
