"""Serve an export without TensorFlow: dico serve worker --manifest=O/manifest.json --member=branch_0"""

import functools
import importlib

from dico_tf import flags

VERBS = {
    "worker": "one member of an export, over gRPC and HTTP",
    "gateway": "the committee, whose members are workers or TensorFlow Serving servers",
    "local": "all branches and their gateway on this machine, to try them out",
}
SECTIONS = {  # classes of dico_tf.edge.options whose fields are flags of each verb
    "worker": ("WorkerOptions", "ServerOptions"),
    "gateway": ("GatewayOptions", "ServerOptions"),
    "local": ("LocalOptions", "ServerOptions"),
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
    options = [
        section(**{field.name: values[field.name] for field in flags.of(section)}) for section in _sections(verb)
    ]
    room = importlib.import_module(f"dico_tf.edge.{verb}")  # each verb is a module with run(*sections, say)
    room.run(*options, functools.partial(print, flush=True))
