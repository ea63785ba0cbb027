"""Choose the branches: pretrained networks where their weights are installed, else a divided network."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator

from dico_tf.errors import UserError
from dico_tf.models import pretrained
from dico_tf.models.preset import Preset
from dico_tf.models.presets import PRESETS, find

SIZES = (64, 96, 128, 160, 192, 224)  # image sizes of pretrained branches
OWN_SIZES = (32, 48, 64)  # of branches that are trained from scratch
USUAL_SIZE, LEAST_ENLARGED = 128, 96  # without a budget; and to which small images are enlarged at least
FROM_SCRATCH = ("wrn_10_2", "wrn_16_4", "wrn_16_8")
USUAL_BRANCHES, MOST_BRANCHES = 2, 3  # without and with a budget of computation


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlannedBranches:
    """The branches of a plan and their image size.

    Attributes:
        networks: one preset for each pretrained branch; () = branches of `divided`, trained from scratch.
        divided: (preset, number of branches, --division); unused if there are `networks`.
        macs: multiply-adds of one image in all branches.
    """

    image_size: int
    macs: float
    networks: tuple[str, ...] = ()
    divided: tuple[str, int, str] = ("", 0, "published")

    @property
    def pretrained(self) -> bool:
        """True if the branches start from published weights."""
        return bool(self.networks)

    @property
    def flags(self) -> list[str]:
        """Flags of train for the branches and their image size."""
        size = f"--image_size={self.image_size}"
        if self.networks:
            return [f"--branches={','.join(f'preset:{n}@{self.image_size}?weights=auto' for n in self.networks)}", size]
        model, splits, division = self.divided
        return [f"--model={model}", f"--splits={splits}", *[f"--division={division}"] * (division != "published"), size]

    @property
    def text(self) -> str:
        """The networks, for people."""
        names = " + ".join(self.networks) or f"{self.divided[0]} divided into {self.divided[1]}"
        start = "pretrained" if self.networks else "from scratch"
        return f"{names}, {start}, {self.image_size} x {self.image_size} pixels, {self.macs / 1e6:.0f} M multiply-adds"


class Candidates:
    """The networks that can be branches of a plan: pretrained ones if their weights are installed, else divided ones.

    Args:
        short_side: median of the images' shorter sides. The largest image size that can be chosen is the first in SIZES
            that is at least `short_side` and LEAST_ENLARGED, else the last. If nothing pretrained is installed, it is
            the first in OWN_SIZES that is at least `short_side`, else the last.
        classes: number of classes.
    """

    def __init__(self, short_side: int, classes: int):
        self._classes = classes
        self._installed = [preset for preset in PRESETS.values() if preset.wheel and _is_installed(preset)]
        sizes, least = (SIZES, LEAST_ENLARGED) if self._installed else (OWN_SIZES, OWN_SIZES[0])
        largest = next((size for size in sizes if size >= max(short_side, least)), sizes[-1])
        self._sizes = [size for size in sizes if size <= largest]

    @property
    def typical(self) -> tuple[Preset, int]:
        """(preset, image size): a preset for measuring the speed here, and the image size when no budget is given."""
        return (self._installed or [find(FROM_SCRATCH[0])])[0], min(self._sizes[-1], USUAL_SIZE)

    def choose(self, devices: int, most_macs: float) -> PlannedBranches:
        """Return the branches of a plan.

        With a limit, these are the ones that use most of it. Without one, they are the smallest networks at the typical
        image size.

        Args:
            devices: number of branches; 0 = two, or with a limit two or three, or one if it allows no more.
            most_macs: limit of the multiply-adds of all branches; 0 = none.

        Raises:
            UserError: if no network keeps the limit.
        """
        if not most_macs:
            counts = [devices or USUAL_BRANCHES]
            return min(self._of_size(self.typical[1], counts), key=lambda branches: branches.macs)
        for counts in ([devices],) if devices else (range(USUAL_BRANCHES, MOST_BRANCHES + 1), [1]):
            candidates = [branches for size in self._sizes for branches in self._of_size(size, counts)]
            if affordable := [branches for branches in candidates if branches.macs <= most_macs]:
                return max(affordable, key=lambda branches: branches.macs)
        least = min(candidates, key=lambda branches: branches.macs)
        raise UserError(
            f"no network keeps the budget of {most_macs / 1e6:,.1f} M multiply-adds; the smallest is {least.text}: "
            "raise the budget"
        )

    def _of_size(self, size: int, counts: Iterable[int]) -> Iterator[PlannedBranches]:
        if not self._installed:
            yield from self._divided(size, counts)
            return
        costs = {preset.name: preset.cost(size, self._classes).macs for preset in self._installed}
        names = sorted(costs, key=costs.get)
        for count in counts:
            choices = itertools.combinations(names, count)
            if count > len(names):  # a network may be several branches
                choices = [tuple(itertools.islice(itertools.cycle(names), count))]
            for networks in choices:
                yield PlannedBranches(image_size=size, networks=networks, macs=sum(costs[name] for name in networks))

    def _divided(self, size: int, counts: Iterable[int]) -> Iterator[PlannedBranches]:
        for name, splits in itertools.product(FROM_SCRATCH, counts):
            for division in ("published", "params"):  # the second divides by any number
                try:
                    branches = find(name).branches(splits, division, size, self._classes)
                except UserError:
                    continue
                macs = sum(branch.cost(size, self._classes).macs for branch in branches)
                yield PlannedBranches(image_size=size, divided=(name, splits, division), macs=macs)
                break


def _is_installed(preset: Preset) -> bool:
    try:
        return bool(pretrained.weights_file(preset))
    except UserError:
        return False
