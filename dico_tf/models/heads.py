"""How transformers are made narrower by any factor: whole heads, with an MLP that makes up for what they leave over."""

from dico_tf.divide.rules import multiple

_GRID = 8  # channels of the hidden layer


def hidden(width: int, inner: int, scale: float, narrower: int) -> int:
    """Of the MLP of a block `narrower` wide that is to have the weights of one of width and inner times the scale.

    A block of width e and hidden width m has 4 e^2 + 2 e m weights.
    """
    weights = scale**2 * (4 * width**2 + 2 * width * inner)
    return int(multiple((weights - 4 * narrower**2) / (2 * narrower), _GRID))


def fewer(heads: int, scale: float) -> int:
    return max(round(heads * scale), 1)
