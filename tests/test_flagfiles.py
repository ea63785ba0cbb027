import pytest

from dico_tf import config, flags, recipes
from dico_tf.errors import UserError

SCRIPT = flags.Script(name="train", about="Trains.", fields=flags.every_field())
PICTURES = flags.Script(name="predict", about="Answers.", fields=flags.pick("workdir"), positionals="PICTURE ...")


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a flag file to the current folder; return its name."""
    monkeypatch.chdir(tmp_path)

    def writer(name: str, *lines: str) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return name

    return writer


def read(*words: str) -> dict:
    return flags.parse(SCRIPT, words)[0]


def mistake(*words: str) -> str:
    with pytest.raises(UserError) as caught:
        flags.parse(SCRIPT, words)
    return str(caught.value)


def test_an_explicit_flag_wins_wherever_the_file_stands(write):
    write("a.flags", "--splits=4", "--lr=0.3")
    for words in (["--splits=2", "--flagfile=a.flags"], ["--flagfile=a.flags", "--splits=2"]):
        values = read(*words)
        assert (values["splits"], values["lr"]) == (2, 0.3)
    assert read("--nosame_views", "--flagfile", write("b.flags", "--same_views"))["same_views"] is False


def test_the_later_file_wins(write):
    write("a.flags", "--splits=4", "--lr=0.3")
    write("b.flags", "--splits=2", "--epochs=9")
    values = read("--flagfile=a.flags", "--seed=1", "--flagfile=b.flags")
    assert [values[name] for name in ("splits", "lr", "epochs", "seed")] == [2, 0.3, 9, 1]
    assert read("--flagfile=b.flags", "--flagfile=a.flags")["splits"] == 4


@pytest.mark.parametrize("word", ["--flagfile=a.flags", "-flagfile=a.flags", "--flagfile a.flags", "-flagfile a.flags"])
def test_a_file_may_be_named_in_either_form(write, word):
    write("a.flags", "--splits=4")
    assert read(*word.split())["splits"] == 4


def test_comments_blank_lines_and_indents_say_nothing(write):
    write("a.flags", "# --splits=8", "", "  // --splits=8", "   --splits=4  ", "\t#")
    assert read("--flagfile=a.flags")["splits"] == 4


def test_a_file_in_a_file_is_looked_for_beside_it(write):
    write("splits.flags", "--splits=8")
    write("recipes/splits.flags", "--splits=4", "--lr=0.5")
    write("recipes/deep/a.flags", "--flagfile=../splits.flags", "--lr=0.25")
    values = read("--flagfile=recipes/deep/a.flags")
    assert (values["splits"], values["lr"]) == (4, 0.25)


def test_a_file_counts_where_it_is_named_in_a_file(write):
    write("inner.flags", "--splits=4", "--lr=0.5")
    write("outer.flags", "--splits=2", "--flagfile=inner.flags", "--lr=0.25")
    values = read("--flagfile=outer.flags")
    assert (values["splits"], values["lr"]) == (4, 0.25)


def test_a_file_may_be_named_twice_but_not_in_itself(write):
    write("base.flags", "--splits=4")
    write("left.flags", "--flagfile=base.flags")
    write("both.flags", "--flagfile=left.flags", "--flagfile=base.flags")
    assert read("--flagfile=both.flags")["splits"] == 4
    write("a.flags", "--flagfile=folder/../b.flags")
    write("b.flags", "--flagfile=a.flags")
    write("folder/x", "")
    assert mistake("--flagfile=a.flags").startswith("--flagfile=a.flags includes itself")
    write("self.flags", "--flagfile=self.flags")
    assert "includes itself" in mistake("--flagfile=self.flags")


def test_a_recipe_is_known_by_its_name_in_any_folder(write):
    assert read("--flagfile=quickstart")["dataset"] == "digits"
    assert read("--flagfile=cifar100.flags") == read(f"--flagfile={recipes.FOLDER / 'cifar100.flags'}")
    write("own.flags", "--flagfile=quickstart", "--splits=4")
    assert (read("--flagfile=own.flags")["dataset"], read("--flagfile=own.flags")["splits"]) == ("digits", 4)


def test_a_file_wins_over_a_recipe_of_its_name(write):
    write("quickstart", "--dataset=cifar100")
    assert read("--flagfile=quickstart")["dataset"] == "cifar100"


def test_an_unknown_recipe_has_a_suggestion(write):
    assert mistake("--flagfile=quickstrat") == (
        "--flagfile=quickstrat is neither a file nor a recipe; did you mean quickstart?"
    )
    assert mistake("--flagfile=x.flags").endswith(f"recipe; all recipes are in {recipes.FOLDER}")
    write("a.flags", "--flagfile=cifr10.flags")
    assert "did you mean cifar10 or" in mistake("--flagfile=a.flags")


def test_a_file_that_cannot_be_read_is_a_users_mistake(write, tmp_path):
    gone = "--flagfile=folder/none.flags cannot be read: No such file or directory"
    assert mistake("--flagfile=folder/none.flags") == gone
    assert "cannot be read" in mistake("--flagfile=")
    write("a.flags", "--flagfile=folder/none.flags")
    assert mistake("--flagfile=a.flags") == gone
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    assert "--flagfile=binary cannot be read: 'utf-8' codec" in mistake("--flagfile=binary")
    (tmp_path / "ring").symlink_to(tmp_path / "ring")
    assert "--flagfile=ring cannot be read" in mistake("--flagfile=ring")


@pytest.mark.parametrize("words", [["--flagfile"], ["--flagfile", "--splits=2"], ["--flagfile", "--"]])
def test_a_flag_file_needs_a_name(words):
    assert mistake(*words) == "--flagfile needs a value: write --flagfile=value"


@pytest.mark.parametrize(
    "line", ["splits=4", "-splits=4", "--", "--splits 4", "--splits = 4", "x", "--flagfile b.flags", "---splits=4"]
)
def test_a_line_that_is_no_flag_is_named_with_its_place(write, line):
    write("a.flags", "# one", line)
    assert mistake("--flagfile=a.flags") == f"a.flags, line 2: {line!r} is not a flag; write --flag=value"


@pytest.mark.parametrize(
    "line", ["--splits=4 # four", "--model=wrn_28_10  // whole", "--same_views # on", '--workdir="a" # b']
)
def test_a_trailing_comment_is_refused_and_never_part_of_a_value(write, line):
    write("a.flags", line)
    assert mistake("--flagfile=a.flags").endswith(
        f"{line!r}: write a comment on a line of its own, and a value with # or // in quotes"
    )


def test_a_sign_within_a_word_is_no_comment(write):
    write("a.flags", "--data_dir=gs://bucket/a#b", "--workdir=/a//b")
    values = read("--flagfile=a.flags")
    assert (values["data_dir"], values["workdir"]) == ("gs://bucket/a#b", "/a//b")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ('"a b"', "a b"),
        ("'a b'", "a b"),
        ('" a #b "', " a #b "),
        ('"', '"'),
        ("\"a'", "\"a'"),
        ('""', ""),
        ("'\"a\"'", '"a"'),
        ("a=b", "a=b"),
        ('a"b"', 'a"b"'),
    ],
)
def test_quotes_round_a_value_are_stripped_once(write, written, value):
    write("a.flags", f"--workdir={written}")
    assert read("--flagfile=a.flags")["workdir"] == value


def test_a_flag_without_its_value_never_takes_the_next_line_or_word(write):
    write("a.flags", "--seed=3", "--workdir")
    assert (
        mistake("--flagfile=a.flags", "--splits=2") == "a.flags, line 2: --workdir needs a value: write --workdir=value"
    )


def test_faults_of_a_file_name_it_and_come_together(write):
    write("inner.flags", "--spilts=4")
    write("a.flags", "# header", "--lr=fast", "--flagfile=inner.flags", "--help")
    lines = mistake("--seed=x", "--flagfile=a.flags").split("\n")
    assert lines[0] == "a.flags, line 2: --lr=fast must be a number"
    assert lines[1].startswith("inner.flags, line 1: unknown flag --spilts; did you mean splits")
    assert lines[2].startswith("a.flags, line 4: unknown flag --help")
    assert lines[3:] == ["--seed=x must be a whole number"]


def test_a_removed_flag_is_ignored_at_its_default_as_a_run_flags_of_an_earlier_version_spells_it(write, monkeypatch):
    monkeypatch.setattr(config, "REMOVED", {"gamma": False, "zeta": (1, 2)})
    write("run.flags", "--gamma=false", "--zeta=1,2", "--seed=3")
    assert read("--flagfile=run.flags")["seed"] == 3
    write("run.flags", "--gamma=true", "--seed=3")
    assert mistake("--flagfile=run.flags") == (
        "run.flags, line 1: --gamma=true: this version no longer has --gamma; leave it out"
    )
    assert mistake("--gamma") == "--gamma: this version no longer has --gamma; leave it out"


def test_a_files_words_stand_apart_from_pictures(write):
    write("a.flags", "--workdir=w")
    values, pictures = flags.parse(PICTURES, ["a.png", "--flagfile=a.flags", "--", "--flagfile=b"])
    assert (values, pictures) == ({"workdir": "w"}, ["a.png", "--flagfile=b"])


def test_a_mark_of_byte_order_is_passed_over(write, tmp_path):
    (tmp_path / "a.flags").write_bytes(b"\xef\xbb\xbf--splits=4\r\n--seed=2\r\n")
    values = read("--flagfile=a.flags")
    assert (values["splits"], values["seed"]) == (4, 2)
