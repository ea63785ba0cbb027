"""What one image through one network takes."""

import dataclasses
import math

from dico_tf.errors import UserError

MEASURES = ("macs", "params", "milliseconds")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one image through one member; NaN where it is not known."""

    macs: float = math.nan  # multiply-adds
    params: float = math.nan
    milliseconds: float = math.nan  # mean of single images on the machine that measured

    def over(self, other: "Cost") -> "Cost":
        """The measures that are known here, and for the rest those of `other`."""
        known = {measure: self.of(measure) for measure in MEASURES if not math.isnan(self.of(measure))}
        return dataclasses.replace(other, **known)

    def of(self, measure: str) -> float:
        if measure not in MEASURES:
            raise UserError(f"a cost is one of {', '.join(MEASURES)}, not {measure!r}")
        return getattr(self, measure)
