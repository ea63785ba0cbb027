"""Answers from an export, without TensorFlow: dico serve worker --manifest=O/manifest.json --member=branch_0"""

import functools
import importlib

from dico_tf import flags

VERBS = {
    "worker": "one member of an export answers over gRPC and HTTP",
    "gateway": "the committee answers, whose members are workers or TensorFlow Serving servers",
    "local": "a worker for each branch and their gateway, on this machine, for a first look",
}
SECTIONS = {  # of dico_tf.edge.options: what each verb is told
    "worker": ("Member", "Door"),
    "gateway": ("Committee", "Door"),
    "local": ("Local", "Door"),
}


def _sections(verb: str) -> list[type]:
    from dico_tf.edge import options

    return [getattr(options, name) for name in SECTIONS[verb]]


def script(verb: str) -> flags.Script:
    fields = tuple(field for section in _sections(verb) for field in flags.of(section))
    return flags.Script(name=f"serve {verb}", about=f"Serves: {VERBS[verb]}.", fields=fields)


def main(arguments: list[str]) -> None:
    verb, words = flags.verb("serve", VERBS, arguments)
    values, _ = flags.parse(script(verb), words)
    told = [section(**{field.name: values[field.name] for field in flags.of(section)}) for section in _sections(verb)]
    room = importlib.import_module(f"dico_tf.edge.{verb}")  # each verb is a module with run(*sections, say)
    room.run(*told, functools.partial(print, flush=True))
