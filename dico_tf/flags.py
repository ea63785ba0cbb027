"""Command-line flags from dataclass fields. The only module that uses absl.

An explicit flag wins over a --flagfile, in any order. Unexpected positional arguments are refused. --help exits with
status 0, a mistake of the user with status 2.
"""

import dataclasses
import os
import re
import sys
import textwrap
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from dico_tf import config, extras, invocation, recipes
from dico_tf.config.validation import KINDS
from dico_tf.errors import UserError
from dico_tf.registry import suggestion

WIDTH = 100
_HELP = {"--help", "-help", "-h", "--helpfull", "--helpshort"}


class Help(Exception):  # noqa: N818 - not an error
    """Raised by --help or --version; the argument is the text to print."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Script:
    """A command and its flags.

    Attributes:
        name: of the command, such as "train" or "serve worker"; of other programs "-m MODULE".
        about: first line of --help.
        fields: dataclass fields, each of which becomes a flag.
        positionals: positional arguments as --help shows them; "" refuses any.
    """

    name: str
    about: str
    fields: tuple[dataclasses.Field, ...]
    positionals: str = ""


def every_field() -> tuple[dataclasses.Field, ...]:
    """Return all fields of a run's Config."""
    return tuple(field for _, field in config.fields())


def pick(*names: str) -> tuple[dataclasses.Field, ...]:
    """Return fields of a run's Config by name."""
    known = {field.name: field for field in every_field()}
    return tuple(known[name] for name in names)


def of(kind: type) -> tuple[dataclasses.Field, ...]:
    """Return the fields of a dataclass, for a command's own flags."""
    return dataclasses.fields(kind)


def verb(name: str, verbs: Mapping[str, str], arguments: Sequence[str]) -> tuple[str, Sequence[str]]:
    """Split the arguments of a command into its leading verb and the rest.

    Raises Help if --help stands in place of the verb, and UserError if there is no known verb.

    Args:
        name: the command, for messages; "" = `dico` itself.
        verbs: {verb: its help}.
    """
    if not arguments:
        raise UserError(f"a verb is missing: write {_called(name)} {'|'.join(verbs)} (--help explains them)")
    first, rest = arguments[0], arguments[1:]
    if first in _HELP:
        raise Help(verbs_text(name, verbs))
    if first not in verbs:
        raise UserError(f"unknown verb {first!r}; {suggestion(first, verbs)} (the verb comes first)")
    return first, rest


def verbs_text(name: str, verbs: Mapping[str, str]) -> str:
    """Return the --help of a command that takes a verb; for the arguments see `verb`."""
    width = max(map(len, verbs))
    lines = [f"usage: {_called(name)} VERB [--flag=value ...]", ""]
    lines += [f"  {verb:<{width}}  {about}" for verb, about in verbs.items()]
    return "\n".join([*lines, "", f"{_called(name)} VERB --help lists the flags of a verb."])


def _called(name: str) -> str:
    return f"python {name}" if name.startswith("-m ") else invocation.command(name)


class _Integers(flags.ArgumentParser):
    """Parser of comma separated whole numbers; an empty text is an empty tuple."""

    def parse(self, argument):
        if isinstance(argument, tuple):
            return argument
        try:
            return tuple(int(part) for part in argument.split(",") if part.strip())
        except ValueError:
            raise ValueError(f"{argument!r} is not a list of whole numbers such as 30,60,90") from None


class _Words(flags.ArgumentParser):
    """Parser of comma separated words; an empty text is an empty tuple."""

    def parse(self, argument):
        if isinstance(argument, tuple):
            return argument
        return tuple(part.strip() for part in argument.split(",") if part.strip())


def _define(field: dataclasses.Field, values: flags.FlagValues) -> None:
    name, default, help, choices = field.name, field.default, field.metadata["help"], field.metadata["choices"]
    if typing.get_origin(field.type) is tuple:
        parser = _Integers() if typing.get_args(field.type)[0] is int else _Words()
        flags.DEFINE(parser, name, default, help, values, flags.ArgumentSerializer())
    elif choices:
        flags.DEFINE_enum(name, default, choices, help, values)
    else:
        define = {bool: flags.DEFINE_bool, int: flags.DEFINE_integer, float: flags.DEFINE_float}
        define.get(field.type, flags.DEFINE_string)(name, default, help, flag_values=values)


# (place, for messages; the argument): ("recipe.flags, line 3: ", "--splits=4")
_Word = tuple[str, str]


def parse(script: Script, arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Return ({flag: value}, positional arguments) of a command line. What follows `--` is positional.

    Flags that are not given have their defaults. Raises Help if --help is among the flags. Raises UserError for bad
    flags and flag files, and for positional arguments that the script does not take. If flags are unknown or have wrong
    values, its message names all of these.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    words, rest = arguments[:end], arguments[end + 1 :]
    if _HELP & set(words):
        raise Help(help_text(script))
    values = flags.FlagValues()
    for field in script.fields:
        _define(field, values)
    assignments, positionals = _sort(words, values)
    faults = [where + fault for where, word in assignments if (fault := _assign(word, values))]
    if faults:
        raise UserError("\n".join(faults))
    positionals += rest
    if positionals and not script.positionals:
        raise UserError(f"unexpected argument {positionals[0]!r}: write --flag=value")
    return {field.name: values[field.name].value for field in script.fields}, positionals


def _sort(words: Sequence[str], values: flags.FlagValues) -> tuple[list[_Word], list[str]]:
    """Return (flags, positional arguments). Flags of files come first, so that explicit flags win."""
    from_files, explicit, positionals = [], [], []
    rest = iter(words)
    for word in rest:
        name, equals, value = word.lstrip("-").partition("=")
        if not word.startswith("-") or not name:
            positionals.append(word)
            continue
        if not equals and (name == "flagfile" or (name in values and not values[name].boolean)):
            equals, value = "=", next(rest, "--")
            if value.startswith("--"):
                raise UserError(f"--{name} needs a value: write --{name}=value")
        if name == "flagfile":
            from_files += _read(value, Path.cwd(), ())
        else:
            explicit.append(("", f"--{name}{equals}{value}"))
    return from_files + explicit, positionals


def _assign(word: str, values: flags.FlagValues) -> str:
    """Assign --name=value, --switch or --noswitch. Return the fault, or ""."""
    name, equals, value = word[2:].partition("=")
    if name in values and not equals and not values[name].boolean:
        return f"--{name} needs a value: write --{name}=value"
    if name in config.REMOVED:
        return _removed_fault(word, name, value)
    if name not in values:
        switch = name.removeprefix("no")
        if switch not in values or not values[switch].boolean:
            return f"unknown flag --{name}; {suggestion(name, values)} (--help lists all)"
        if equals:
            return f"{word}: --{name} takes no value; write --{switch}=true or --{name}"
    try:
        values(["", word])
    except flags.Error as error:
        kinds = {"int": KINDS[int], "float": KINDS[float], "bool": KINDS[bool]}
        kind = kinds.get(values[name].flag_type())
        return f"--{name}={value} must be {kind}" if kind else str(error).removeprefix("flag ")
    return ""


def _removed_fault(word: str, name: str, value: str) -> str:
    """Return the fault of a removed flag, or "" if it has its default, which earlier versions wrote to run.flags."""
    if value == _written(config.REMOVED[name]):
        return ""
    return f"{word}: this version no longer has --{name}; leave it out"


_LINE = re.compile(r"--\w+(=.*)?")


def _read(name: str, folder: Path, above: tuple[Path, ...]) -> list[_Word]:
    """Return the flags of the file `name`, which is relative to `folder`, or of the recipe of this name.

    In the file, --flagfile=OTHER is relative to the folder in which the file itself lies. Raises UserError if a file
    cannot be read or has a wrong line.

    Args:
        above: the files that include this one.
    """
    try:
        path = _flagfile(name, folder)
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"--flagfile={name} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if path in above:
        raise UserError(
            f"--flagfile={name} includes itself, perhaps through other files: remove that line from {above[-1]}"
        )
    words = []
    for number, line in enumerate(lines, 1):
        line, where = line.strip(), f"{name}, line {number}: "
        if not line or line.startswith(("#", "//")):
            continue
        flag, equals, value = line.partition("=")
        quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
        if not quoted and (" #" in line or " //" in line):
            raise UserError(
                f"{where}{line!r}: write a comment on a line of its own, and a value with # or // in quotes"
            )
        if not _LINE.fullmatch(line):
            raise UserError(f"{where}{line!r} is not a flag; write --flag=value")
        value = value[1:-1] if quoted else value
        words += _read(value, path.parent, (*above, path)) if flag == "--flagfile" else [(where, flag + equals + value)]
    return words


def _flagfile(name: str, folder: Path) -> Path:
    """Return the path of a flag file; `name` is relative to `folder`.

    If `name` has no folder and `folder` has no such file, it is the name of a recipe. Raises UserError if there is no
    such recipe.
    """
    if os.path.lexists(folder / name) or Path(name).name != name:
        return (folder / name).resolve()
    if not recipes.path(name).is_file():
        raise UserError(f"--flagfile={name} is neither a file nor a recipe; {recipes.hint(name)}")
    return recipes.path(name)


def _written(value: Any) -> str:
    """Return a value as it is written in a flag."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _line(name: str, value: Any) -> str:
    """Return a line of a flag file. A value that would be misread is quoted."""
    text = _written(value)
    if text != text.strip() or text[:1] in ("'", '"') or " #" in text or " //" in text:
        text = f'"{text}"'
    return f"--{name}={text}"


def flagfile(cfg: config.Config, command: str) -> str:
    """Return the text of a flag file that repeats the run: `command` as a comment, then a line for every setting."""
    values = config.to_values(cfg)
    lines = [f"# {line}" for line in command.splitlines()]
    return "\n".join([*lines, *(_line(name, value) for name, value in values.items())]) + "\n"


def help_text(script: Script) -> str:
    """Return the --help of a command."""
    lines = [
        script.about,
        "",
        f"usage: {_called(script.name)} [--flagfile=FILE] [--flag=value ...] {script.positionals}".rstrip(),
    ]
    for field in script.fields:
        choices = field.metadata["choices"]
        kind = "|".join(choices) or _kind(field.type)
        lines += ["", f"  --[no]{field.name}" if field.type is bool else f"  --{field.name}={kind}"]
        text = field.metadata["help"] + _only_with(field)
        if field.default or "(default: " not in text:
            text += f" (default: {_written(field.default) or 'none'})"
        lines += textwrap.wrap(text, WIDTH, initial_indent="      ", subsequent_indent="      ")
    return "\n".join([*lines, "", "An explicit flag wins over a --flagfile."])


def _only_with(field: dataclasses.Field) -> str:
    """Return a remark that names the only task or methods that take the flag; "" if all do."""
    task, methods = field.metadata["task"], field.metadata["methods"]
    return f" (only with --task={task})" * bool(task) + f" (only with --method={'|'.join(methods)})" * bool(methods)


def _kind(kind: Any) -> str:
    if typing.get_origin(kind) is tuple:
        return f"{_kind(typing.get_args(kind)[0])}[,...]"
    return {bool: "true|false", int: "N", float: "X"}.get(kind, "TEXT")


def run(main: Callable[[list[str]], int | None], program: str = "") -> None:
    """Run a command and exit with its status; messages start with `program` ("" = the name of the running file).

    The status is what `main` returns (None = 0), 2 for a mistake of the user or an extra that is not installed (one
    message), 130 for Ctrl-C, and 141 if the reader of the output has gone. Any other exception gives Python's traceback
    and status 1.
    """
    program = program or Path(sys.argv[0]).name
    try:
        status = main(sys.argv[1:]) or 0
    except Help as text:
        sys.stdout.write(f"{text}\n")
        status = 0
    except UserError as error:
        sys.stderr.write(f"{program}: {error}\n")
        status = 2
    except ModuleNotFoundError as error:
        if not (remedy := extras.remedy(error.name or "")):
            raise
        sys.stderr.write(f"{program}: {remedy}\n")
        status = 2
    except KeyboardInterrupt:
        sys.stderr.write(f"{program}: interrupted\n")
        status = 130
    except BrokenPipeError:  # the reader, e.g. head, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    sys.exit(status)
