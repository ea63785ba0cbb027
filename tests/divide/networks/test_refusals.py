"""Each operation of keras.ops that widths cannot pass is refused with its own reason."""

import keras
import numpy as np
import pytest
from keras import layers

from dico_tf.divide.networks.division import plan
from dico_tf.errors import UserError


def test_a_product_with_a_constant_is_named():
    x = keras.Input((8,))
    y = keras.ops.einsum("bc,cd->bd", layers.Dense(32)(x), np.ones((32, 16), "float32"))
    with pytest.raises(UserError, match=r"Einsum 'einsum.*' cannot be narrowed: it multiplies by a constant; put it"):
        plan(keras.Model(x, layers.Dense(3)(y)), 2)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: x[:, :, 3], "it selects entry 3 of an axis of 32 whose width may change"),
        (lambda x: x[:, :, ::2], "it slices an axis of 32 whose width may change with the step 2; expected 1"),
        (lambda x: keras.ops.matmul(x, np.ones((32, 4), "float32")), "it multiplies by a constant matrix"),
        (lambda x: keras.ops.matmul(x, x[:, 0]), "expected two tensors of at least three axes with the batch"),
        (lambda x: keras.ops.repeat(x, 2, axis=1), "it repeats or stacks a tensor whose widths may change"),
        (lambda x: layers.Flatten()(layers.Permute((2, 1))(layers.Dense(9)(layers.Permute((2, 1))(x)))), "it flattens"),
        (
            lambda x: keras.ops.reshape(
                layers.Permute((2, 1))(layers.Dense(9)(layers.Permute((2, 1))(x))), (-1, 9 * 32)
            ),
            r"it reshapes \(None, 9, 32\) to \(None, 288\): two axes whose widths may change are merged",
        ),
    ],
)
def test_an_operation_that_widths_cannot_pass_gives_its_reason(function, reason):
    x = keras.Input((6, 8))
    y = function(layers.Dense(32)(x))
    with pytest.raises(UserError, match=f"cannot be narrowed: .*{reason}"):
        plan(keras.Model(x, layers.Dense(3)(layers.Dense(16)(y))), 2)
