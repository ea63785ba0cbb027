"""Search for ensembles and cascades of any models, or show one: dico committee search --workdir=W"""

import dataclasses
import shlex

from dico_tf import flags, invocation
from dico_tf.config import option

VERBS = {
    "search": "chooses members and gates on held-out images, and writes them with their scores to committee.json",
    "scenes": "the same as search --task=segmentation: chooses gates for segmentation networks, over cells of a grid",
    "show": "prints a committee.json",
}
SHARED = {
    "search": ("workdir", "dataset", "data_dir", "classes", "skip_unreadable", "skip_duplicates", "seed"),
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
    """Return the flags of a verb. Those of search serve both tasks, classification and segmentation."""
    fields = [*flags.pick(*SHARED[verb]), *flags.of(_settings(verb))]
    if verb == "search":
        known = {field.name for field in fields}
        more = (*flags.pick(*SHARED["scenes"]), *flags.of(_settings("scenes")))
        fields += [field for field in more if field.name not in known]
    return flags.Script(name=f"committee {verb}", about=f"{VERBS[verb].capitalize()}.", fields=tuple(fields))


def _search_script(task: str) -> flags.Script:
    """Return the flags of search for one task, without those that only the other task has."""
    (task_field,) = (field for field in flags.of(_settings("search")) if field.name == "task")
    own = flags.of(_settings("scenes")) if task == "segmentation" else flags.of(_settings("search"))
    shared = flags.pick(*SHARED["scenes" if task == "segmentation" else "search"])
    fields = {field.name: field for field in (task_field, *shared, *own)}
    return flags.Script(name="committee search", about="", fields=tuple(fields.values()))


def main(arguments: list[str]) -> None:
    verb, words = flags.verb("committee", VERBS, arguments)
    values, _ = flags.parse(script(verb), words)
    kind = _settings(verb)
    if verb == "search":
        task = values["task"]
        values, _ = flags.parse(_search_script(task), words)
        if task == "segmentation":
            kind = _settings("scenes")
            del values["task"]
    settings = kind(**{field.name: values.pop(field.name) for field in flags.of(kind)})
    if verb == "show":
        from dico_tf.committee.show import committee_text

        print(committee_text(settings.committee, settings.check))
    else:
        from dico_tf.committee.run import find
        from dico_tf.report.committee_page import write_page

        command = f"{invocation.command('committee')} {shlex.join(arguments)}"
        find(settings, values, print, lambda report, out: write_page(report, out, command, settings.figures))
