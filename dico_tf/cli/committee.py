"""Ensembles and cascades of any models: python committee.py search --workdir=W"""

from dico_tf import flags

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


def _kind(verb: str) -> type:
    from dico_tf.committee import options

    return getattr(options, verb.capitalize())


def script(verb: str) -> flags.Script:
    fields = (*flags.pick(*SHARED[verb]), *flags.of(_kind(verb)))
    return flags.Script(name=f"committee {verb}", about=f"{VERBS[verb].capitalize()}.", fields=fields)


def main(arguments: list[str]) -> None:
    verb, words = flags.verb("committee", VERBS, arguments)
    values, _ = flags.parse(script(verb), words)
    asked = _kind(verb)(**{field.name: values.pop(field.name) for field in flags.of(_kind(verb))})
    from dico_tf.committee import run

    getattr(run, verb)(asked, values, print)
