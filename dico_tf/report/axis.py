"""Axes of charts: ranges, the pixels of values, and ticks at round numbers."""

import dataclasses
import math
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlotAxis:
    """Label and range of an axis; without limits, it spans the values, with a margin within `bounds`."""

    label: str
    limits: tuple[float, float] | None = None
    bounds: tuple[float, float] = (-math.inf, math.inf)
    log: bool = False  # charts fall back to a linear axis for values of 0
    whole: bool = False  # ticks at whole numbers only


PERCENT = (0.0, 100.0)  # bounds of a share


@dataclasses.dataclass(frozen=True)
class AxisScale:
    """Maps values of an axis to pixels."""

    low: float
    high: float
    start: float
    end: float
    log: bool
    whole: bool = False

    def place(self, value: float) -> float:
        """Return the pixel of a value."""
        low, high, value = (math.log10(each) if self.log else each for each in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[tuple[float, str]]:
        """Return round values of the axis with their texts."""
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            values = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
            values = [value for value in values if self.low <= value <= self.high]
            if len(values) > 6:
                values = [value for value in values if math.isclose(math.log10(value) % 1, 0, abs_tol=1e-9)]
            if len(values) >= 2:
                return [(value, short(value)) for value in values[:: -(-len(values) // 6)]]
        step = _step((self.high - self.low) / 5)
        step = max(1.0, round(step)) if self.whole else step
        first = math.ceil(self.low / step - 1e-9)
        count = math.floor(self.high / step + 1e-9) - first + 1
        values = [(first + n) * step for n in range(count)]
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        digits += not math.isclose(step * 10**digits, round(step * 10**digits))
        large = max(abs(self.low), abs(self.high)) >= 1e4
        return [(value, short(value) if large else f"{value + 0.0:.{digits}f}") for value in values]


def short(value: float) -> str:
    """Return a number as text with k, M, G or T, such as "89 M" or "1.25 G"."""
    for power, unit in ((12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if abs(value) >= 0.9995 * 10**power:
            return f"{value / 10**power:.3g} {unit}"
    return f"{value:.3g}"


def _step(rough: float) -> float:
    """Return the smallest of 1, 2, 2.5 and 5 times a power of ten that is at least `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))


def scale_of(axis: PlotAxis, values: Sequence[float], start: float, end: float) -> AxisScale:
    """Return the scale of an axis that shows these values between two pixels."""
    finite = [value for value in values if math.isfinite(value) and (value > 0 or not axis.log)]
    low, high = axis.limits or (min(finite, default=0.0), max(finite, default=1.0))
    if axis.limits:
        return AxisScale(low, high, start, end, axis.log, axis.whole)
    if axis.log:
        margin = max((high / low) ** 0.08, 1.15)
        return AxisScale(low / margin, high * margin, start, end, True)
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 0.5
    least, most = axis.bounds
    low, high = max(low - margin, min(least, low)), min(high + margin, max(most, high))
    return AxisScale(low, high, start, end, False, axis.whole)
