"""Committees of models of any kind, as a search writes them, with gates that no picture is near."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dico_tf.committee.committee_file import Calibration, CommitteeFile, SavedMember, save
from dico_tf.committee.decision import NEVER, Committee, Decision, decide
from dico_tf.config import Data
from dico_tf.data import source as sources
from dico_tf.evaluation.members.cache import Cache
from dico_tf.evaluation.members.collect_logits import collect_logits
from dico_tf.evaluation.members.open_members import open_members


@dataclasses.dataclass(frozen=True, eq=False)
class Made:
    path: Path  # of committee.json
    saved: CommitteeFile
    logits: np.ndarray  # [N, n, C], as a search has cached them
    pictures: list[Path]

    @property
    def decided(self) -> Decision:
        return decide(self.saved.committee, self.logits)


def made(folder: Path, members: Sequence[str], dataset: Path, classes: int, **how) -> Made:
    """`dataset`: a labels.csv; `how`: rules of the committee."""
    data = sources.load(Data(dataset=f"folder:{dataset}", classes=classes), 0)
    opened = open_members(members, len(data.class_names))
    collected = collect_logits(opened, data, "test", Cache(folder / "cache"), timed=False)
    logits = np.stack([collected.logits[member.name] for member in opened], 1)
    saved = CommitteeFile(
        committee=gated(tuple(member.name for member in opened), logits, **how),
        members=tuple(
            SavedMember(
                name=m.name,
                kind=m.kind,
                source=m.source,
                sha256=m.checksum,
                input_size=m.input_size,
                cost=collected.costs[m.name],
                outputs=collected.outputs[m.name],
            )
            for m in opened
        ),
        classes=len(data.class_names),
        class_names=tuple(data.class_names),
        calibration=Calibration(name=data.name, fingerprint="f", images=len(logits)),
    )
    save(folder / "committee.json", saved)
    return Made(folder / "committee.json", saved, logits, [Path(dataset).parent / name for name in collected.ids])


def gated(names: tuple[str, ...], logits: np.ndarray, **how) -> Committee:
    """Each gate lies in the widest gap among the middling confidences of those who come to it."""
    gates = [NEVER] * (len(names) - 1)
    for k in range(len(gates)):
        now = decide(Committee(members=names, gates=tuple(gates), **how), logits)
        sure = np.sort(now.confidence[now.stage >= k, k].astype(float))
        low, high = len(sure) // 3, max(5 * len(sure) // 6, len(sure) // 3 + 2)
        place = low + np.diff(sure[low:high]).argmax()
        gates[k] = (sure[place] + sure[place + 1]) / 2
    return Committee(members=names, gates=tuple(gates), **how)
