"""Every example of docs/extending.md is run in a copy of the package, and takes as many edits as the page says."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
SECTION = re.compile(r"^## (.*?)$(.*?)(?=^## |\Z)", re.M | re.S)
BLOCK = re.compile(r"([^\n]*)\n\n```(python|diff)\n(.*?)```", re.S)
NUMBERS = {"one": 1, "two": 2, "three": 3}


def sections() -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Return (title, [(line before, language, code), ...]) of each section."""
    return [(title, BLOCK.findall(text)) for title, text in SECTION.findall(PAGE)]


def path_of(line: str) -> str:
    return re.search(r"`([\w/]+\.py)`", line)[1]


def apply(text: str, diff: str) -> str:
    """Replace the lines without + of a diff, which occur once, by those without -."""
    before = "".join(line[1:] for line in diff.splitlines(True) if line[0] in " -")
    after = "".join(line[1:] for line in diff.splitlines(True) if line[0] in " +")
    assert text.count(before) == 1, before
    return text.replace(before, after)


def edits(blocks: list[tuple[str, str, str]]) -> int:
    return sum(language == "diff" or line.startswith("New file") for line, language, _ in blocks)


@pytest.mark.parametrize(("title", "blocks"), sections(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_section_takes_as_many_edits_as_its_title_says(title, blocks):
    words = re.findall(r"\b(one|two|three) (?:file|line|edit)", title)
    assert sum(NUMBERS[word] for word in words) == edits(blocks) > 0
    for line, language, code in blocks:
        if language == "diff":
            text = (ROOT / path_of(line)).read_text() if (ROOT / path_of(line)).exists() else None
            if text is not None:
                apply(text, code)


@pytest.mark.slow
def test_the_examples_work_in_a_copy_of_the_package(tmp_path):
    shutil.copytree(ROOT / "dico_tf", tmp_path / "dico_tf", ignore=shutil.ignore_patterns("__pycache__"))
    for number, (title, blocks) in enumerate(sections()):
        for line, language, code in blocks:
            if language == "diff":
                place = tmp_path / path_of(line)
                place.write_text(apply(place.read_text(), code))
            elif line.startswith("New file"):
                place = tmp_path / path_of(line)
                assert not place.exists()
                place.write_text(code)
            else:
                script = tmp_path / f"example_{number}.py"
                script.write_text(code)
                done = subprocess.run([sys.executable, script.name], cwd=tmp_path, capture_output=True, text=True)
                assert done.returncode == 0, f"{title}\n{done.stderr}"
