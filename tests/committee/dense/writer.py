"""Write the files of `committee.py scenes` from results that are made up."""

from dico_tf.committee import run
from dico_tf.committee.committee_file import Calibration, CommitteeFile, SavedMember, save
from dico_tf.committee.decision import Committee
from dico_tf.committee.dense import report
from dico_tf.committee.dense.grid import Grid

NAMES = ("a", "b")


def results(n):
    """Just what is drawn of them."""
    rows = [{"name": name, "test": {"cost": 1e6 * (k + 1), "miou": 0.5}} for k, name in enumerate(("ours", *NAMES))]
    return {"rows": rows, "curves": [{"cell": 0, "test": [[1e6, 0.4], [2e6 + n, 0.5]]}], "turn": n}


def written(out, n):
    """As `scenes` ends."""
    run.write(out, "A committee for scenes", [f"the text of {n}"], lambda folder: [report.draw(folder, results(n))])
    members = tuple(SavedMember(name=name, kind="run", source=name, sha256="", input_size=8) for name in NAMES)
    about = Calibration(name="val", fingerprint="f", images=1)
    committee = Committee(members=NAMES, gates=(0.5,))
    content = CommitteeFile(
        committee=committee,
        members=members,
        classes=2,
        class_names=None,
        calibration=about,
        results=results(n),
        grid=Grid(),
    )
    save(out / run.NAME, content)
