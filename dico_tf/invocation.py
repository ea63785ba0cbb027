"""The text that starts a command: `dico evaluate`, or `python evaluate.py` in a source checkout."""

import os
import sys


def command(name: str) -> str:
    """Return what a user types to start a command, e.g. `python committee.py search` for "committee search".

    It is a script if the running program is one of the scripts or is beside them, else the installed `dico`.
    """
    program, space, verb = name.partition(" ")
    folder, running = os.path.split(sys.argv[0])
    script = running.endswith(".py") and running != "__main__.py"
    if script and os.path.isfile(os.path.join(folder, f"{program}.py")):
        return f"python {program}.py{space}{verb}"
    return f"dico {name}".rstrip()
