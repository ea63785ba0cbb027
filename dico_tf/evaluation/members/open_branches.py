"""Open the networks of --branches and --whole: Keras networks that can be trained, named by the URIs of members."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from dico_tf.config import Config
from dico_tf.divide.networks.cost import cost
from dico_tf.divide.networks.graph import FrozenLayers
from dico_tf.errors import UserError
from dico_tf.evaluation.members.member import Member
from dico_tf.evaluation.members.open_members import open_members
from dico_tf.models.branch_list import Arrays, BranchList, ListedBranch, listed_branch

EXAMPLES = "keras:MobileNetV2, preset:NAME?weights=FILE, x.keras, or a branch of a run, W:branch_0"


@dataclasses.dataclass(frozen=True)
class OpenedBranches:
    """Networks of --branches. For each: the weights that it starts from, and the layers that its owner froze."""

    network: BranchList
    arrays: Sequence[Arrays]
    frozen: Sequence[FrozenLayers]

    @property
    def owner_frozen(self) -> dict[str, list[str]]:
        """DiCo's settings `frozen_layers` and `inference_layers`: lists of names such as branch_0/conv_1."""

        def names(kind: str) -> list[str]:
            return [f"branch_{s}/{name}" for s, layers in enumerate(self.frozen) for name in getattr(layers, kind)]

        return {"frozen_layers": names("frozen"), "inference_layers": names("inference")}

    def fill(self, model: Any) -> None:
        """Assign the weights to the branches of a DiCo that was built from `network.reference`."""
        for branch, built, arrays in zip(self.network.listed, model.branches, self.arrays, strict=True):
            branch.fill(built, arrays)


def open_branches(config: Config) -> OpenedBranches:
    """Open the networks of --branches and --whole. Raises UserError if one of them cannot be a branch."""
    options = config.branch_list
    with _naming("branches"):
        opened = [_listed(member) for member in _distinct([_member(source) for source in options.branches])]
    whole = None
    if options.whole:
        with _naming("whole"):
            member = _member(options.whole)
            whole = (member.name, cost(member.keras_model()))
    branches, arrays, frozen = zip(*opened, strict=True)
    return OpenedBranches(BranchList(listed=branches, whole=whole), arrays, frozen)


def _listed(member: Member) -> tuple[ListedBranch, Arrays, FrozenLayers]:
    return listed_branch(member.keras_model(), member.name, member.input_size, member.source, member.frozen)


@contextlib.contextmanager
def _naming(flag: str) -> Iterator[None]:
    """Put the flag before the message of a UserError."""
    try:
        yield
    except UserError as error:
        raise UserError(f"--{flag}: {error}") from None


def _member(source: str) -> Member:
    """Return the one member that a URI names. Raises UserError if there are several, or if it cannot be trained."""
    members = open_members([source])
    if len(members) > 1:
        names = ", ".join(member.source for member in members)
        raise UserError(
            f"expected one network, {source} names {len(members)}: give one of {names}, or in --branches several, "
            "comma separated"
        )
    if members[0].keras_model is None:
        kind = members[0].kind.replace("_", " ")
        raise UserError(f"{source} ({kind}) is not one Keras network that can be trained: give {EXAMPLES}")
    return members[0]


def _distinct(members: Sequence[Member]) -> list[Member]:
    """Return the members, with _2, _3 ... added to names that occur before: a network may be several branches."""
    names: list[str] = []
    for member in members:
        choices = (member.name, *(f"{member.name}_{n}" for n in range(2, len(members) + 2)))
        names.append(next(name for name in choices if name not in names))
    return [dataclasses.replace(member, name=name) for member, name in zip(members, names, strict=True)]
