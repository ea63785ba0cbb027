"""Flags from dataclass fields; the only module that knows absl.

A thin parser round absl's: an explicit flag wins over a --flagfile wherever that stands, a stray word is refused,
--help exits with 0 and a user's mistake with 2.
"""

import dataclasses
import sys
import textwrap
import typing
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from dico_tf import config
from dico_tf.errors import UserError
from dico_tf.registry import suggestion

WIDTH = 100


class Help(Exception):
    """--help was asked for; the text is the argument."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Script:
    """What a script takes: flags made from fields, and positional arguments where `positionals` names them."""

    name: str
    about: str
    fields: tuple[dataclasses.Field, ...]
    positionals: str = ""


def every_field() -> tuple[dataclasses.Field, ...]:
    return tuple(field for _, field in config.fields())


def pick(*names: str) -> tuple[dataclasses.Field, ...]:
    """Fields of the Config by name."""
    known = {field.name: field for field in every_field()}
    return tuple(known[name] for name in names)


def of(kind: type) -> tuple[dataclasses.Field, ...]:
    """A script's own fields."""
    return dataclasses.fields(kind)


class _Whole(flags.ArgumentParser):
    """Comma separated whole numbers; nothing for none."""

    def parse(self, argument):
        if isinstance(argument, (tuple, list)):
            return tuple(argument)
        try:
            return tuple(int(part) for part in argument.split(",") if part.strip())
        except ValueError:
            raise ValueError(f"{argument!r} is not a list of whole numbers such as 30,60,90") from None


class _Words(flags.ArgumentParser):
    """Comma separated words."""

    def parse(self, argument):
        if isinstance(argument, (tuple, list)):
            return tuple(argument)
        return tuple(part.strip() for part in argument.split(",") if part.strip())


def _define(field: dataclasses.Field, values: flags.FlagValues) -> None:
    name, default, help, choices = field.name, field.default, field.metadata["help"], field.metadata["choices"]
    if typing.get_origin(field.type) is tuple:
        parser = _Whole() if typing.get_args(field.type)[0] is int else _Words()
        flags.DEFINE(parser, name, default, help, values, flags.ArgumentSerializer())
    elif choices:
        flags.DEFINE_enum(name, default, choices, help, values)
    else:
        kinds = {bool: flags.DEFINE_bool, int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string}
        kinds[field.type](name, default, help, flag_values=values)


def parse(script: Script, arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """({flag: value}, positionals) of the words after the script's name."""
    values = flags.FlagValues()
    for field in script.fields:
        _define(field, values)
    from_files, explicit = _expand(list(arguments), Path.cwd())
    words = [*from_files, *explicit]
    if any(word in ("--help", "-h", "-help", "--helpfull") for word in words):
        raise Help(help_text(script))
    _check_names(words, script)
    try:
        rest = values([script.name, *words])[1:]
    except flags.Error as error:
        raise UserError(str(error)) from None
    if rest and not script.positionals:
        hint = "write --flag=value" if not rest[0].startswith("-") else "put flags before --"
        raise UserError(f"stray argument {rest[0]!r}: {hint}")
    return {field.name: values[field.name].value for field in script.fields}, rest


def _expand(words: list[str], folder: Path) -> tuple[list[str], list[str]]:
    """(words of all flag files, in order; the other words)."""
    from_files, explicit = [], []
    while words:
        word = words.pop(0)
        if word in ("--flagfile", "-flagfile"):
            if not words:
                raise UserError("--flagfile needs a file's name")
            from_files += _read(words.pop(0), folder, ())
        elif word.startswith(("--flagfile=", "-flagfile=")):
            from_files += _read(word.split("=", 1)[1], folder, ())
        elif word == "--":
            return from_files, [*explicit, word, *words]
        else:
            explicit.append(word)
    return from_files, explicit


def _read(name: str, folder: Path, above: tuple[Path, ...]) -> list[str]:
    """The flags of a file; a file named in it is looked for beside it."""
    path = (folder / name).resolve()
    if path in above:
        raise UserError(f"--flagfile={name} includes itself")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--flagfile={name} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    words = []
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if not line or line.startswith(("#", "//")):
            continue
        if not line.startswith("--"):
            raise UserError(f"{name}, line {number}: {line!r} is not a flag; write --flag=value")
        if " #" in line or " //" in line:
            raise UserError(f"{name}, line {number}: {line!r}: a comment needs a line of its own")
        flag, equals, value = line.partition("=")
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        words += _read(value, path.parent, (*above, path)) if flag == "--flagfile" else [flag + equals + value]
    return words


def _check_names(words: Iterable[str], script: Script) -> None:
    known = {field.name for field in script.fields}
    switches = {f"no{field.name}" for field in script.fields if field.type is bool}
    for word in words:
        if word == "--":
            return
        name = word.lstrip("-").split("=", 1)[0]
        if word.startswith("-") and not _number(word) and name not in known | switches:
            raise UserError(f"unknown flag --{name}; {suggestion(name, known)} (--help lists all)")


def _number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def flagfile(cfg: config.Config, command: str) -> str:
    """A flag file that repeats the run."""
    values = config.to_values(cfg)
    lines = [f"--{field.name}={_written(values[field.name])}" for field in every_field()]
    return "\n".join([f"# {command}", *lines]) + "\n"


def help_text(script: Script) -> str:
    lines = [script.about, "", f"usage: python {script.name} [--flagfile=FILE] [--flag=value ...] {script.positionals}"]
    for field in script.fields:
        choices = field.metadata["choices"]
        kind = "|".join(choices) if choices else _kind(field.type)
        lines += ["", f"  --{field.name}={kind}" if field.type is not bool else f"  --[no]{field.name}"]
        text = f"{field.metadata['help']} (default: {_written(field.default) or 'none'})"
        lines += textwrap.wrap(text, WIDTH, initial_indent="      ", subsequent_indent="      ")
    return "\n".join([*lines, "", "An explicit flag wins over a --flagfile."])


def _kind(kind: Any) -> str:
    if typing.get_origin(kind) is tuple:
        return f"{_kind(typing.get_args(kind)[0])}[,...]"
    return {int: "N", float: "X", str: "TEXT"}[kind]


def run(main: Callable[[list[str]], int | None]) -> None:
    """Ends the process: 0, 2 and one message for a user's mistake, 130 for Ctrl-C; else Python's 1 and traceback."""
    name = Path(sys.argv[0]).name
    try:
        status = main(sys.argv[1:]) or 0
    except Help as text:
        sys.stdout.write(f"{text}\n")
        status = 0
    except UserError as error:
        sys.stderr.write(f"{name}: {error}\n")
        status = 2
    except KeyboardInterrupt:
        sys.stderr.write(f"{name}: interrupted\n")
        status = 130
    sys.exit(status)
