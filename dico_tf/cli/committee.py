"""Ensembles and cascades of any models: dico committee search --workdir=W"""

import dataclasses

from dico_tf import flags
from dico_tf.config import option

VERBS = {
    "search": "finds members and gates by held-out images, and writes committee.json with what they do",
    "scenes": "finds gates for networks that classify pixels, over the cells of a grid",
    "show": "prints a committee.json",
}
SHARED = {
    "search": ("workdir", "dataset", "data_dir", "classes", "skip_unreadable", "seed"),
    "scenes": ("dataset", "data_dir", "classes", "void", "seed"),
    "show": (),
}  # flags of a run


@dataclasses.dataclass(frozen=True, kw_only=True)
class Show:
    committee: str = option("committee/committee.json", "the file to show")
    check: bool = option(False, "look at the members again, and warn where one is not what the gates were fitted to")


def _settings(verb: str) -> type:
    from dico_tf.committee import options

    return {"search": options.Search, "scenes": options.Scenes, "show": Show}[verb]


def script(verb: str) -> flags.Script:
    fields = (*flags.pick(*SHARED[verb]), *flags.of(_settings(verb)))
    return flags.Script(name=f"committee {verb}", about=f"{VERBS[verb].capitalize()}.", fields=fields)


def main(arguments: list[str]) -> None:
    verb, words = flags.verb("committee", VERBS, arguments)
    values, _ = flags.parse(script(verb), words)
    settings = _settings(verb)(**{field.name: values.pop(field.name) for field in flags.of(_settings(verb))})
    if verb == "show":
        from dico_tf.committee.shown import shown

        print(shown(settings.committee, settings.check))
    elif verb == "search":
        from dico_tf.committee.run import search

        search(settings, values, print)
    else:
        from dico_tf.committee.dense.run import scenes

        scenes(settings, values, print)
