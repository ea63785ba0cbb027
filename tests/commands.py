"""Run the commands within this process: a process of their own would import TensorFlow again, for six seconds each."""

import contextlib
import importlib
import io
import sys
from typing import NamedTuple
from unittest import mock

from dico_tf import flags


class Ended(NamedTuple):
    """Exit status, standard output and standard error of a command."""

    status: int
    out: str
    err: str


def command(script: str, *words: str) -> Ended:
    """Run a script's main like its own process."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    arguments = [f"{script}.py", *map(str, words)]
    with mock.patch.object(sys, "argv", arguments), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            flags.run(importlib.import_module(f"dico_tf.cli.{script}").main)
        except SystemExit as end:
            status = int(end.code or 0)
    return Ended(status, out.getvalue(), err.getvalue())


def succeeded(script: str, *words: str) -> str:
    """Run a command that must end with status 0; return its standard output."""
    ended = command(script, *words)
    assert ended.status == 0, ended.err
    return ended.out
