"""Student's t distribution with a whole number of degrees of freedom, exactly, by its finite sums."""

import math


def central_probability(t: float, freedom: int) -> float:
    """Return P(|T| <= t) of T with `freedom` degrees of freedom; Abramowitz and Stegun, 26.7.3 and 26.7.4.

    With theta = atan(t / sqrt(freedom)), it is sin(theta) sum_k a_k cos(theta)^2k for an even number, where a_0 = 1 and
    a_k = a_(k-1) (2k - 1) / 2k; the sum has freedom / 2 terms. For an odd number it is 2 / pi times
    theta + sin(theta) sum_k b_k cos(theta)^(2k + 1), where b_0 = 1 and b_k = b_(k-1) 2k / (2k + 1); the sum has
    (freedom - 1) / 2 terms.
    """
    if freedom < 1:
        raise ValueError(f"expected at least 1 degree of freedom, got {freedom}")
    angle = math.atan2(abs(t), math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term, total = (cosine if odd else 1.0), 0.0
    for k in range(1, freedom // 2 + 1):
        total += term
        term *= cosine**2 * (2 * k / (2 * k + 1) if odd else (2 * k - 1) / (2 * k))
    return min(1.0, 2 / math.pi * (angle + sine * total) if odd else sine * total)


def two_sided_p(t: float, freedom: int) -> float:
    """Return P(|T| > |t|), with an absolute error of about 1e-15."""
    return max(0.0, 1.0 - central_probability(t, freedom))


def quantile(central: float, freedom: int) -> float:
    """Return the t with P(|T| <= t) = `central`, e.g. 2.776 for 0.95 and 4 degrees of freedom.

    Raises ValueError unless `central` is from 0 to below 1.
    """
    if not 0 <= central < 1:
        raise ValueError(f"expected a probability from 0 to below 1, got {central}")
    low, high = 0.0, 1.0
    while central_probability(high, freedom) < central:
        low, high = high, 2 * high
    while low < (middle := (low + high) / 2) < high:  # until they are neighbouring floats
        if central_probability(middle, freedom) < central:
            low = middle
        else:
            high = middle
    return high
