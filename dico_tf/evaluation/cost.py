"""Cost of a member: multiply-adds and milliseconds of one image, and parameters."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from dico_tf.errors import UserError

MEASURES = ("macs", "params", "milliseconds")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """Cost of a member; NaN = unknown."""

    macs: float = math.nan  # multiply-adds of one image
    params: float = math.nan
    milliseconds: float = math.nan  # mean time of single images on the measuring machine

    def over(self, other: "Cost") -> "Cost":
        """Return this cost, with unknown measures taken from `other`."""
        known = {measure: self.of(measure) for measure in MEASURES if not math.isnan(self.of(measure))}
        return dataclasses.replace(other, **known)

    def of(self, measure: str) -> float:
        """Return one measure: macs, params or milliseconds. Raises UserError for any other name."""
        if measure not in MEASURES:
            raise UserError(f"expected a measure of cost, one of {', '.join(MEASURES)}, got {measure!r}")
        return getattr(self, measure)


def branch_costs(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return {"params", "macs"} of each branch of a run, with name and image size for those of --branches.

    Args:
        summary: content of summary.json; earlier versions stored only sums over equal branches, which are divided here.
    """
    splits = summary["splits"]
    equal = {name: summary[name]["branches"] // splits for name in ("params", "macs")}
    return summary.get("branches", [equal] * splits)
