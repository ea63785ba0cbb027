"""What README and docs tell people to type: flags that exist, files that exist, code that runs."""

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import study_cifar10, study_cosub, study_pretrained, study_small_data
from benchmarks.study import read_rows
from dico_tf import config, flags
from dico_tf.cli import committee, compare, divide, evaluate, export, predict, serve, train

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SCRIPTS = {
    "train.py": train,
    "evaluate.py": evaluate,
    "predict.py": predict,
    "divide.py": divide,
    "compare.py": compare,
    "export.py": export,
}
VERBS = {
    f"{tool.__name__.rpartition('.')[2]}.py {verb}": tool.script(verb)
    for tool in (serve, committee)
    for verb in tool.VERBS
}
TOOLS = ("committee.py", "serve.py")  # take a verb
BENCHMARKS = [importlib.import_module(f"benchmarks.{path.stem}") for path in (ROOT / "benchmarks").glob("[a-z]*.py")]
MODULES = {module.__name__.rpartition(".")[2]: module for module in BENCHMARKS if hasattr(module, "SCRIPT")}


def _commands() -> list[tuple[str, str, list[str]]]:
    """(page, script, words) of every command line of ours, in blocks and in passing."""
    result = []
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ")
        text = re.sub(r"\bdico (\w+)(?= )", r"python \1.py", text)  # the same commands, installed
        for match in re.finditer(r"python (-m benchmarks\.)?(\w+)(\.py)?((?: +[^\s`|&)]+)*)", text):
            name = match[2] if match[1] else f"{match[2]}{match[3] or ''}"
            if name in SCRIPTS or name in MODULES or name in TOOLS:
                words = shlex.split(" ".join(match[4].split(" #")[0].split()))
                name = f"{name} {words[0]}" if name in TOOLS and words else name
                result.append((page.name, name, [w for w in words if w.startswith("--")]))
    return result


COMMANDS = _commands()


def test_the_pages_show_every_script():
    assert {name for _, name, _ in COMMANDS} >= {*SCRIPTS, *VERBS, "train_step"}


@pytest.mark.parametrize(
    ("page", "name", "words"), COMMANDS, ids=[f"{p}-{n}-{i}" for i, (p, n, _) in enumerate(COMMANDS)]
)
def test_a_command_of_the_documents_has_flags_that_exist(page, name, words, monkeypatch):
    monkeypatch.chdir(ROOT)
    script = VERBS.get(name) or {**SCRIPTS, **MODULES}[name].SCRIPT
    words = [word.rstrip(".,;:") for word in words if "..." not in word and not word.startswith("--flagfile=W")]
    try:
        values, _ = flags.parse(script, words)
    except flags.Help:
        assert {"--help", "--helpfull", "-h"} & set(words)
        return
    assert name != "train.py" or config.from_values(values).network.model


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.flags")), ids=lambda path: path.name)
def test_a_recipe_is_a_config_without_contradictions(path):
    values, _ = flags.parse(train.SCRIPT, [f"--flagfile={path}"])
    assert config.from_values(values).data.dataset
    assert f"python train.py --flagfile=configs/{path.name}" in path.read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.slow
def test_the_code_of_the_readme_runs(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    blocks.append("assert keras.saving.get_registered_object('dico_tf>PixelSubmodels')  # by the import of DiCo")
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n" + "\n".join(blocks)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("page", ["README.md", "docs/when_to_divide.md"])
def test_the_audits_of_a_page_are_what_divide_prints(page):
    from dico_tf.models import audit

    output = re.findall(r"divide\.py([^\n]*)\n\n```text\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert output
    for words, text in output:
        values, _ = flags.parse(divide.SCRIPT, words.split())
        assert text == audit.describe(audit.one(config.from_values({n: values[n] for n in divide.RUN_FLAGS}))) + "\n"


@pytest.mark.parametrize("dataset", ["cifar100", "imagenet2012"])
def test_the_tables_of_architectures_are_what_divide_prints(dataset):
    """The first lines; the rest are goldens."""
    from dico_tf.models import audit

    page = (ROOT / "docs/architectures.md").read_text()
    lines = audit.table(config.from_values({"dataset": dataset}))
    for _, line in zip(range(9), lines, strict=False):
        assert line in page


@pytest.mark.parametrize("study", [study_cifar10.STUDY, study_cosub.STUDY], ids=lambda study: study.name)
def test_the_tables_of_the_studies_are_made_from_their_results(study):
    assert study.table(study.finished()) in (ROOT / "README.md").read_text()


@pytest.mark.parametrize(
    ("study", "page"),
    [(study_pretrained.STUDY, "docs/branches.md"), (study_small_data.STUDY, "docs/when_to_divide.md")],
    ids=lambda value: getattr(value, "name", None),
)
def test_the_tables_of_the_studies_on_subsets_are_made_from_their_results(study, page):
    for table in study.tables(read_rows(study.results)):
        assert table in (ROOT / page).read_text()


@pytest.mark.parametrize("page", ["README.md", "docs/branches.md"])
def test_the_primary_difference_of_pretrained_networks_is_that_of_the_results(page):
    table = study_pretrained.STUDY.tables(read_rows(study_pretrained.STUDY.results))[1]
    primary = next(line for line in table.splitlines() if "**primary**" in line)
    mean, half = map(float, re.search(r"([-+][\d.]+) ± ([\d.]+)", primary).groups())
    text = " ".join((ROOT / page).read_text().split())
    assert f"{-mean:.2f} points behind" in text
    assert f"(95 % interval: {-mean - half:.2f} to {-mean + half:.2f} points" in text
