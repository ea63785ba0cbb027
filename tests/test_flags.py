import dataclasses
import random

import pytest

from dico_tf import config, flags
from dico_tf.config import option
from dico_tf.errors import UserError

SCRIPT = flags.Script(name="train", about="Trains.", fields=flags.every_field())


def read(*words: str) -> dict:
    values, positionals = flags.parse(SCRIPT, words)
    assert positionals == []
    return values


def mistake(*words: str) -> str:
    with pytest.raises(UserError) as caught:
        flags.parse(SCRIPT, words)
    return str(caught.value)


def test_nothing_said_is_the_default_config():
    assert config.from_values(read()) == config.Config()


def test_every_kind_of_value_is_read():
    values = read("--splits=4", "--lr=5e-2", "--model=resnet_56", "--same_views", "--agreement=kl", "--data_dir=/a=b")
    assert [values[n] for n in ("splits", "lr", "model", "same_views", "agreement", "data_dir")] == [
        4, 0.05, "resnet_56", True, "kl", "/a=b",
    ]  # fmt: skip
    assert type(values["splits"]) is int and type(values["lr"]) is float


def test_a_flag_given_twice_has_the_later_value():
    assert read("--splits=4", "--splits=2")["splits"] == 2
    assert read("--same_views", "--nosame_views")["same_views"] is False


def test_a_value_may_follow_as_the_next_word():
    values = read("--save_every", "5", "--model", "wrn_16_8", "--views", "crop,flip")
    assert (values["save_every"], values["model"], values["views"]) == (5, "wrn_16_8", ("crop", "flip"))


@pytest.mark.parametrize("words", [["--weight_decay=-1"], ["--weight_decay", "-1"], ["-weight_decay", "-1.0"]])
def test_negative_numbers_are_values(words):
    assert read("--weight_decay=3", *words)["weight_decay"] == -1


def test_a_flag_is_not_taken_for_another_flags_value():
    assert mistake("--workdir", "--splits=2") == "--workdir needs a value: write --workdir=value"
    assert mistake("--splits") == "--splits needs a value: write --splits=value"
    assert read("--workdir=--odd")["workdir"] == "--odd"


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("--same_views", True), ("--nosame_views", False), ("--same_views=true", True), ("--same_views=false", False),
        ("--same_views=1", True), ("--same_views=0", False),
    ],
)  # fmt: skip
def test_a_switch_is_on_or_off(word, value):
    assert read(word)["same_views"] is value


def test_a_word_after_a_switch_is_stray_and_not_its_value():
    assert mistake("--same_views", "0") == "unexpected argument '0': write --flag=value"


def test_a_switch_turned_off_takes_no_value():
    assert "--nosame_views takes no value" in mistake("--nosame_views=1")


def test_only_switches_have_a_no():
    assert "unknown flag --nosplits" in mistake("--nosplits")
    assert "unknown flag --no" in mistake("--no")


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("--views=a,b", ("a", "b")), ("--views=a", ("a",)), ("--views= a , , b,", ("a", "b")), ("--views=", ()),
        ("--step_epochs=30,60", (30, 60)), ("--step_epochs=30", (30,)), ("--step_epochs=", ()),
    ],
)  # fmt: skip
def test_lists_are_comma_separated(word, value):
    assert read(word)[word[2:].split("=")[0]] == value


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("--splits=four", "must be a whole number"), ("--splits=4.5", "must be a whole number"),
        ("--splits=", "must be a whole number"), ("--lr=fast", "must be a number"), ("--lr=", "must be a number"),
        ("--same_views=maybe", "must be true or false"), ("--same_views=", "must be true or false"),
        ("--agreement=l2", "one of <js|kl|none>"), ("--agreement=JS", "one of <js|kl|none>"),
        ("--step_epochs=30,x", "list of whole numbers such as 30,60,90"),
    ],
)  # fmt: skip
def test_a_bad_value_is_named_with_what_would_do(word, words):
    message = mistake(word)
    assert message.startswith(word) and words in message and "\n" not in message


def test_every_bad_flag_is_reported_at_once():
    lines = mistake("--splits=four", "--spilts=2", "--lr=fast").split("\n")
    assert [line.split()[0] for line in lines] == ["--splits=four", "unknown", "--lr=fast"]


@pytest.mark.parametrize("word", ["--spilts=4", "--split=4", "-spilts=4", "--split", "--SPLITS=4"])
def test_an_unknown_flag_has_a_suggestion(word):
    message = mistake(word)
    assert message.startswith(f"unknown flag --{word.strip('-').split('=')[0]}; ")
    assert "splits" in message and "--help lists all" in message


def test_a_prefix_of_a_flag_is_unknown():
    for word in ("--agreement_w=1", "--same", "--nosame", "--splits_=2", "--spli=2"):
        assert mistake(word).startswith(f"unknown flag {word.split('=')[0]}; ")


@pytest.mark.parametrize("word", ["--undefok=splits", "--flagfiles=a", "--logtostderr", "-5"])
def test_flags_that_absl_would_know_elsewhere_are_unknown(word):
    assert "unknown flag" in mistake(word)


def test_stray_words_are_refused_wherever_they_stand():
    for words in (["splits=4"], ["--splits=4", "x"], ["x", "--splits=4"], ["--", "x"], ["-"], [""]):
        assert "unexpected argument" in mistake(*words)


PICTURES = flags.Script(
    name="predict", about="Answers.", fields=flags.pick("workdir", "splits"), positionals="PICTURE ..."
)


def test_flags_may_stand_before_between_and_after_pictures():
    values, pictures = flags.parse(PICTURES, ["a.png", "--workdir=w", "b.png", "--splits", "3"])
    assert (values, pictures) == ({"workdir": "w", "splits": 3}, ["a.png", "b.png"])


def test_all_after_two_dashes_are_pictures():
    words = ["a.png", "--workdir=w", "--", "--splits=3", "--help", "--"]
    values, pictures = flags.parse(PICTURES, words)
    assert (values["splits"], pictures) == (1, ["a.png", "--splits=3", "--help", "--"])


def test_a_script_knows_its_own_flags_only():
    with pytest.raises(UserError, match="unknown flag --epochs; known: splits, workdir"):
        flags.parse(PICTURES, ["--epochs=3"])


def test_a_name_that_is_no_field_cannot_be_picked():
    with pytest.raises(KeyError):
        flags.pick("colour")


@pytest.mark.parametrize("word", ["--help", "-h", "-help", "--helpfull", "--helpshort"])
def test_help_is_given_whatever_else_is_asked(word):
    with pytest.raises(flags.Help, match=r"usage: dico train \[--flagfile"):
        flags.parse(SCRIPT, ["--spilts=3", "--flagfile=nowhere", word])


def test_help_lists_every_field_with_its_default_and_choices():
    text = flags.help_text(SCRIPT)
    entries = {entry.split("\n")[0].strip(): " ".join(entry.split()) for entry in text.split("\n\n")}
    for _, field in config.fields():
        (entry,) = (
            e for line, e in entries.items() if line.split("=")[0] in (f"--{field.name}", f"--[no]{field.name}")
        )
        assert " ".join(field.metadata["help"].split()) in entry
        if field.metadata["choices"]:
            assert f"--{field.name}={'|'.join(field.metadata['choices'])} " in entry
        assert entry.count("(default: ") == 1 and "(default: )" not in entry
        output = entry.rsplit("(default: ", 1)[1].rstrip(")")
        if field.default and not isinstance(field.default, bool):
            default = field.default if isinstance(field.default, tuple) else (field.default,)
            assert output == ",".join(map(str, default))
        if field.type is bool:
            assert output == "false"
    assert "--step_epochs=N[,...]" in entries and "--views=TEXT[,...]" in entries
    assert max(map(len, text.splitlines())) <= 120
    assert all(line == line.rstrip() for line in text.splitlines())


def test_a_scripts_own_fields_and_a_default_that_is_true_are_listed():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Own:
        loud: bool = option(True, "say it loud")

    text = flags.help_text(flags.Script(name="-m x", about="Shouts.", fields=flags.of(Own), positionals="WORD"))
    assert "usage: python -m x [--flagfile=FILE] [--flag=value ...] WORD\n" in text
    assert "--[no]loud\n      say it loud (default: true)" in text


def anything(draw: random.Random) -> config.Config:
    """Return a random valid Config, most of whose fields are not at their defaults."""
    text = [
        "",
        "runs/a",
        "a b",
        " edged ",
        "a #b",
        "a //b",
        "#a",
        "//a",
        '"a"',
        "'a'",
        '"',
        "'a",
        'x"',
        "é=ü",
        "--a",
        "-",
    ]
    splits = draw.randint(1, 4)
    epochs = draw.randint(3, 2000)
    schedule = draw.choice(("cosine", "step", "constant"))
    lr = draw.uniform(1e-3, 3)
    names = ["crop", "crop+flip", "erase:0.125:0.2", "crop+flip+autoaugment_cifar+erase:0.125:0.2"]
    pieces = draw.randint(1, 5)
    values = {
        "validation": draw.randint(1, 9999), "skip_unreadable": draw.random() < 0.5, "splits": splits,
        "views": tuple(draw.choices(names, k=draw.choice((1, splits)))), "mixup": draw.random(),
        "agreement": draw.choice(("js", "kl", "none")), "agreement_weight": draw.uniform(0, 1e4),
        "accumulation": pieces, "batch_size": pieces * draw.randint(1, 400), "epochs": epochs,
        "lr": lr, "warmup_lr": lr * draw.random(), "min_lr": draw.choice((0, 1e-300, lr / 3)), "schedule": schedule,
        "warmup_epochs": draw.randint(-1 if schedule == "cosine" else 0, epochs - 1),
        "step_epochs": tuple(sorted(draw.sample(range(1, 999), draw.randint(0, 4)))) if schedule == "step" else (),
        "weight_decay": draw.choice((-1, 0, draw.random() / 1e5)), "ema": draw.uniform(1e-9, 0.9999),
        "evaluate_ema": draw.random() < 0.5, "seed": draw.randrange(2**31),
        "select": draw.choice(("test", "validation")), "average": draw.choice(("logits", "probs", "max")),
        **{name: draw.choice(text) for name in ("dataset", "data_dir", "model", "init_from", "workdir")},
    }  # fmt: skip
    return config.from_values(values)


@pytest.mark.parametrize("seed", range(100))
def test_a_written_flag_file_reads_back_to_the_same_config(seed, tmp_path):
    settings = anything(random.Random(seed))
    path = tmp_path / "run.flags"
    path.write_text(flags.flagfile(settings, "python train.py 'a\nb' --splits=3"), encoding="utf-8")
    assert config.from_values(read(f"--flagfile={path}")) == settings
    assert config.from_values(read("--seed=7", f"--flagfile={path}")).run.seed == 7


def test_a_written_flag_file_names_its_command_and_every_field():
    lines = flags.flagfile(config.Config(), "python train.py --splits=1").splitlines()
    assert lines[0] == "# python train.py --splits=1"
    assert [line.split("=")[0] for line in lines[1:]] == [f"--{field.name}" for field in flags.every_field()]


VERBS = {"worker": "answers", "gateway": "asks"}


def test_a_verb_stands_first_and_leaves_the_rest():
    assert flags.verb("serve", VERBS, ["worker", "--port=1", "x"]) == ("worker", ["--port=1", "x"])
    assert flags.verb("serve", VERBS, ["gateway", "--help"]) == ("gateway", ["--help"])


@pytest.mark.parametrize(
    ("words", "expected_text"),
    [
        ([], "a verb is missing: write dico serve worker|gateway (--help explains them)"),
        (["wrker"], "unknown verb 'wrker'; did you mean worker? (the verb comes first)"),
        (["--port=1", "worker"], "unknown verb '--port=1'; known: gateway, worker (the verb comes first)"),
        ([""], "unknown verb ''"),
    ],
)
def test_no_verb_or_an_unknown_one_is_answered_with_those_there_are(words, expected_text):
    with pytest.raises(UserError) as caught:
        flags.verb("serve", VERBS, words)
    assert expected_text in str(caught.value)


def test_help_before_a_verb_lists_the_verbs():
    with pytest.raises(flags.Help, match=r"usage: dico serve VERB") as caught:
        flags.verb("serve", VERBS, ["--help"])
    assert "  worker   answers\n  gateway  asks\n" in str(caught.value)


def test_two_flags_of_one_name_are_refused_when_a_script_is_made():
    doubled = dataclasses.replace(SCRIPT, fields=(*flags.every_field(), *flags.pick("seed")))
    with pytest.raises(Exception, match="seed"):
        flags.parse(doubled, [])


@pytest.mark.parametrize(
    ("outcome", "status", "out", "err"),
    [
        (None, 0, "", ""),
        (3, 3, "", ""),
        (flags.Help("how to"), 0, "how to\n", ""),
        (UserError("one\ntwo"), 2, "", "x.py: one\ntwo\n"),
        (KeyboardInterrupt(), 130, "", "x.py: interrupted\n"),
        (
            ModuleNotFoundError(name="sklearn.datasets"),
            2,
            "",
            'x.py: sklearn is not installed: pip install "dico_tf[train]"\n',
        ),
    ],
)
def test_a_script_ends_with_the_status_of_what_happened(outcome, status, out, err, monkeypatch, capsys):
    def main(words):
        assert words == ["--a"]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    monkeypatch.setattr("sys.argv", ["folder/x.py", "--a"])
    with pytest.raises(SystemExit) as end:
        flags.run(main)
    assert end.value.code == status
    assert capsys.readouterr() == (out, err)


@pytest.mark.parametrize("error", [RuntimeError("a bug"), ModuleNotFoundError("a bug", name="dico_tf.trian")])
def test_what_is_no_users_mistake_keeps_its_traceback(error, monkeypatch):
    def main(_):
        raise error

    monkeypatch.setattr("sys.argv", ["x.py"])
    with pytest.raises(type(error), match="a bug"):
        flags.run(main)
