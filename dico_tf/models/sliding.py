"""How windows of one size are laid over a picture of any: half over one another, at multiples of the output stride.

All of it takes whole numbers as well as tensors of them.
"""


def step(window: int, stride: int) -> int:
    """Pixels from one window to the next."""
    return max(window // 2 // stride, 1) * stride


def rounded(side, stride: int):
    """The side, up to a whole number of places."""
    return -(-side // stride) * stride


def count(side, window: int, stride: int):
    """Windows along a side that is whole and no shorter than one; the last ends where the side does."""
    return -(-(side - window) // step(window, stride)) + 1


def windows(sides: tuple[int, int], window: int, stride: int) -> int:
    """Of a picture [H, W]."""
    rows, columns = (count(max(rounded(side, stride), window), window, stride) for side in sides)
    return rows * columns
