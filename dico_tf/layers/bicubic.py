"""Maps made larger or smaller by cubic convolution, as PyTorch does it: a = -3/4, pixels by their middles, no blur."""

import numpy as np

A = -0.75


def resized(maps: np.ndarray, sides: tuple[int, int]) -> np.ndarray:
    """[h, w, C] -> [H, W, C]; beyond its border a map goes on as it is there."""
    rows, columns = (shares(old, new) for old, new in zip(maps.shape[:2], sides, strict=True))
    return np.einsum("Hh,hwc,Ww->HWc", rows, maps.astype(np.float64), columns).astype(maps.dtype)


def shares(old: int, new: int) -> np.ndarray:
    """[new, old]: what each old place gives to each new one; rows sum to 1."""
    middle = (np.arange(new) + 0.5) * old / new - 0.5
    first = np.floor(middle).astype(int)
    found = np.zeros((new, old))
    for step in range(-1, 3):
        places = np.clip(first + step, 0, old - 1)
        np.add.at(found, (np.arange(new), places), _kernel(np.abs(middle - first - step)))
    return found


def _kernel(x: np.ndarray) -> np.ndarray:
    """Keys' cubic: (a + 2) x^3 - (a + 3) x^2 + 1 up to 1, a (x^3 - 5 x^2 + 8 x - 4) up to 2."""
    near = (A + 2) * x**3 - (A + 3) * x**2 + 1
    return np.where(x <= 1, near, A * (x**3 - 5 * x**2 + 8 * x - 4))
