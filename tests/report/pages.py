"""What every page must be: its structure, its texts for those who see no images, and that it loads nothing."""

import itertools
import re
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Element:
    """An element of a page with its attributes, text and children."""

    def __init__(self, tag, attributes):
        self.tag, self.attributes, self.children, self.words = tag, dict(attributes), [], []

    def all(self, *tags):
        """Elements inside this one, in the order of the page."""
        for child in self.children:
            if child.tag in tags:
                yield child
            yield from child.all(*tags)

    @property
    def text(self):
        parts = [part if isinstance(part, str) else part.text for part in self.words]
        return " ".join(" ".join(parts).split())


class _Tree(HTMLParser):
    def __init__(self):
        super().__init__()
        self.root = Element("", [])
        self.open = [self.root]

    def handle_starttag(self, tag, attributes):
        element = Element(tag, attributes)
        self.open[-1].children.append(element)
        self.open[-1].words.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data):
        self.open[-1].words.append(data)


def parsed(page):
    """The root of a page whose elements are all closed in order."""
    tree = _Tree()
    tree.feed(page)
    tree.close()
    assert tree.open == [tree.root]
    return tree.root


def checked(page):
    """The root of a page, which is well formed, accessible, small and self-contained."""
    root = parsed(page)
    assert page.startswith("<!doctype html>") and len(page.encode()) < 3_000_000
    assert not list(root.all("script", "link", "iframe", "object", "base", "form"))
    for element in root.all("meta"):
        assert element.attributes.get("http-equiv") != "refresh"
    assert [meta.attributes["content"] for meta in root.all("meta") if meta.attributes.get("name") == "viewport"]
    assert "prefers-color-scheme: dark" in page
    _loads_nothing(root)
    _has_headings(root)
    _says_what_it_shows(root)
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    return root


def _loads_nothing(root):
    def within(element):
        for name, value in element.attributes.items():
            assert not name.startswith("on"), name
            if name in ("src", "srcset", "href", "xlink:href", "action", "data"):
                assert not re.match(r"(https?:)?//|\w+:", value or "") or value.startswith("data:image/"), value
            assert name != "style" or "url(" not in value
        for child in element.children:
            within(child)

    within(root)
    for style in root.all("style"):
        assert "url(" not in style.text and "@import" not in style.text


def _has_headings(root):
    levels = [int(heading.tag[1]) for heading in root.all("h1", "h2", "h3", "h4")]
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert all(heading.text for heading in root.all("h1", "h2", "h3"))
    targets = {section.attributes["id"] for section in root.all("section")}
    (nav,) = root.all("nav")
    assert {link.attributes["href"][1:] for link in nav.all("a")} == targets


def _says_what_it_shows(root):
    for table in root.all("table"):
        assert next(table.all("caption")).text
        assert {heading.attributes.get("scope") for heading in table.all("th")} <= {"col", "row"}
        widths = {len(row.children) for row in table.all("tr")}
        assert len(widths) == 1, table.text
    for figure in root.all("figure"):
        assert next(figure.all("figcaption")).text
        assert list(figure.all("svg", "img")), figure.text
    for image in root.all("img"):
        assert image.attributes["alt"] and image.attributes["src"].startswith("data:image/")
    for svg in root.all("svg"):
        if svg.attributes.get("aria-hidden") == "true":
            continue
        assert svg.attributes["role"] == "img"
        names = [child.attributes["id"] for child in svg.children if child.tag in ("title", "desc")]
        assert svg.attributes["aria-labelledby"].split() == names and len(names) == 2
        assert all(child.text for child in svg.children if child.tag in ("title", "desc"))
        assert "nan" not in " ".join(
            str(value) for each in svg.all("path", "text") for value in each.attributes.values()
        )


def headings(root):
    return [heading.text for heading in root.all("h2")]


def table_of(root, start):
    """The rows of the table whose caption starts so, as lists of texts, with its header."""
    (table,) = [each for each in root.all("table") if next(each.all("caption")).text.startswith(start)]
    return [[cell.text for cell in row.children] for row in table.all("tr")]
