"""Search for ensembles and cascades of any models: dico committee search --workdir=W"""

import dataclasses

from dico_tf import flags
from dico_tf.config import option

VERBS = {
    "search": "chooses members and gates on held-out images, and writes them with their scores to committee.json",
    "scenes": "chooses gates for segmentation networks, over the cells of a grid",
    "show": "prints a committee.json",
}
SHARED = {
    "search": ("workdir", "dataset", "data_dir", "classes", "skip_unreadable", "seed"),
    "scenes": ("dataset", "data_dir", "classes", "void", "seed"),
    "show": (),
}  # flags that a run has, too


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShowOptions:
    """Flags of `committee show`."""

    committee: str = option("committee/committee.json", "the file to show")
    check: bool = option(False, "load the members, and warn about each that changed since the gates were chosen")


def _settings(verb: str) -> type:
    from dico_tf.committee import options

    return {"search": options.Search, "scenes": options.SegmentationSearch, "show": ShowOptions}[verb]


def script(verb: str) -> flags.Script:
    fields = (*flags.pick(*SHARED[verb]), *flags.of(_settings(verb)))
    return flags.Script(name=f"committee {verb}", about=f"{VERBS[verb].capitalize()}.", fields=fields)


def main(arguments: list[str]) -> None:
    verb, words = flags.verb("committee", VERBS, arguments)
    values, _ = flags.parse(script(verb), words)
    settings = _settings(verb)(**{field.name: values.pop(field.name) for field in flags.of(_settings(verb))})
    if verb == "show":
        from dico_tf.committee.show import committee_text

        print(committee_text(settings.committee, settings.check))
    elif verb == "search":
        from dico_tf.committee.run import search

        search(settings, values, print)
    else:
        from dico_tf.committee.dense.run import scenes

        scenes(settings, values, print)
