"""The command `dico`: it runs the same code as the scripts, from any folder."""

import sys

import pytest

from dico_tf import invocation
from dico_tf.cli import __main__


@pytest.fixture
def dico(monkeypatch, capsys, tmp_path):
    """Run `dico ...` in this process and in a foreign folder: (status, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["/usr/bin/dico", *words])
        with pytest.raises(SystemExit) as end:
            __main__.run()
        return end.value.code, *capsys.readouterr()

    return run


def test_help_lists_the_commands(dico):
    status, out, err = dico("--help")
    assert (status, err) == (0, "") and out.startswith("usage: dico VERB [--flag=value ...]\n")
    assert [line.split()[0] for line in out.splitlines() if line.startswith("  ")] == list(__main__.COMMANDS)


@pytest.mark.parametrize("name", ["train", "evaluate", "predict", "divide", "export"])
def test_help_of_a_command_shows_how_it_is_called(dico, name):
    status, out, _ = dico(name, "--help")
    assert status == 0 and f"\nusage: dico {name} [--flagfile=FILE] [--flag=value ...]" in out


@pytest.mark.parametrize(("name", "verb"), [("serve", "gateway"), ("committee", "search")])
def test_help_of_a_verb_shows_how_it_is_called(dico, name, verb):
    assert f"usage: dico {name} VERB [--flag=value ...]\n" in dico(name, "--help")[1]
    assert f"\nusage: dico {name} {verb} [--flagfile=FILE] [--flag=value ...]\n" in dico(name, verb, "--help")[1]


def test_the_version_is_printed(dico):
    assert dico("--version") == (0, "dico_tf 0.1.0\n", "")


def test_a_mistake_names_the_command_and_ends_with_status_2(dico):
    assert dico() == (
        2,
        "",
        "dico: a verb is missing: write dico start|train|evaluate|predict|divide|compare|committee|export|serve "
        "(--help explains them)\n",
    )
    assert dico("trian") == (2, "", "dico: unknown verb 'trian'; did you mean train? (the verb comes first)\n")
    assert dico("train", "--splits=0")[::2] == (2, "dico train: --splits=0 must be at least 1\n")
    assert dico("serve", "worke")[2].startswith("dico serve: unknown verb 'worke'; did you mean worker?")
    assert dico("predict", "--workdir=w")[2].startswith(
        "dico predict: expected images or folders: dico predict --workdir=W"
    )


def test_a_recipe_is_found_from_any_folder(dico):
    assert dico("train", "--flagfile=cifar10", "--epochs=5") == (
        2,
        "",
        "dico train: --warmup_epochs=20 must be below --epochs=5\n",
    )


def test_a_package_that_is_not_installed_is_named_with_its_extra(dico, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorflow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    message = 'tensorflow is not installed: pip install "dico_tf[train]"'
    assert dico("divide", "--model=wrn_28_10") == (2, "", f"dico divide: {message}\n")


@pytest.mark.parametrize(
    ("running", "expected"),
    [
        ("train.py", "python committee.py show"),
        ("{root}/evaluate.py", "python committee.py show"),
        ("{root}/dico_tf/cli/__main__.py", "dico committee show"),
        ("elsewhere/mine.py", "dico committee show"),
        ("/usr/bin/dico", "dico committee show"),
        ("-c", "dico committee show"),
        ("", "dico committee show"),
    ],
)
def test_remedies_name_the_command_as_this_user_starts_it(running, expected, monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)
    monkeypatch.setattr(sys, "argv", [running.format(root=request.config.rootpath)])
    assert invocation.command("committee show") == expected
