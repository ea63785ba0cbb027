"""The installed command: `dico train --flagfile=cifar10`, also started as `python -m dico_tf.cli`."""

import importlib
import sys

from dico_tf import __version__, flags

COMMANDS = {
    "start": "from a folder of images to a served committee, in one command",
    "train": "divide a network into branches and co-train them",
    "evaluate": "score a trained run on one of its splits",
    "predict": "print the classes of images",
    "divide": "print the widths and the cost of a divided network",
    "compare": "train several networks with several seeds, and say which is better",
    "committee": "search for ensembles and cascades of any models",
    "export": "write SavedModels, LiteRT files and a folder for TensorFlow Serving",
    "serve": "serve an export over gRPC and HTTP, without TensorFlow",
}


def main(arguments: list[str]) -> int | None:
    if arguments[:1] == ["--version"]:
        raise flags.Help(f"dico_tf {__version__}")
    name, rest = flags.verb("", COMMANDS, arguments)
    return importlib.import_module(f"dico_tf.cli.{name}").main(rest)


def run() -> None:
    """Entry point of the installed `dico`."""
    command = [name for name in sys.argv[1:2] if name in COMMANDS]
    flags.run(main, " ".join(["dico", *command]))


if __name__ == "__main__":
    run()
