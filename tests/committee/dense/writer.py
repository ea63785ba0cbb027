"""Write the files of `committee.py scenes` from results that are made up."""

from dico_tf.committee import run
from dico_tf.committee.committee_file import Calibration, CommitteeFile, SavedMember
from dico_tf.committee.decision import Committee
from dico_tf.committee.dense.grid import Grid
from dico_tf.committee.search_unit import Report
from dico_tf.report.committee_page import write_page

NAMES = ("a", "b")


def results(n):
    """Just what the page shows of them."""
    values = [{"cost": 1e6 * (k + 1), "miou": 0.5} for k in range(3)]
    rows = [
        {"name": name, "test": each, "calibration": each, "less_reference": [-0.1, 0.1]}
        for name, each in zip(("ours", *NAMES), values, strict=True)
    ]
    curves = [{"cell": 0, "test": [[1e6, 0.4], [2e6 + n, 0.5]]}]
    return {"task": "segmentation", "reference": ["b"], "rows": rows, "curves": curves, "turn": n}


def written(out, n):
    """As `scenes` ends."""
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
    report = Report(title="A committee for scenes", texts=[f"the text of {n}"], content=content)
    assert run.write(report, out, lambda report, out: write_page(report, out, "search", True)).startswith("report: ")
