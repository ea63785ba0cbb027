"""Ensembles and cascades of any models: python committee.py search --workdir=W"""

import dataclasses

from dico_tf import flags
from dico_tf.committee.options import Search, Show

VERBS = {
    "search": "finds members and gates by held-out images, and writes committee.json with what they do",
    "show": "prints a committee.json, and whether its members are still those it was fitted to",
}
_KINDS = {"search": Search, "show": Show}


def script(verb: str) -> flags.Script:
    shared = flags.pick("workdir", "dataset", "data_dir", "skip_unreadable", "seed") if verb == "search" else ()
    return flags.Script(name=f"committee.py {verb}", about=f"{VERBS[verb].capitalize()}.",
                        fields=(*shared, *flags.of(_KINDS[verb])))  # fmt: skip


def main(arguments: list[str]) -> None:
    verb, words = flags.verb("committee.py", VERBS, arguments)
    values, _ = flags.parse(script(verb), words)
    asked = _KINDS[verb](**{field.name: values[field.name] for field in dataclasses.fields(_KINDS[verb])})
    if verb == "show":
        from dico_tf.committee.shown import shown

        print(shown(asked))
        return
    from dico_tf.committee import run

    run.search(asked, values, print)


if __name__ == "__main__":
    flags.run(main)
