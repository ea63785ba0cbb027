"""Softmax and its logarithms over `ops`, which is the module numpy or keras.ops.

Exported graphs take exp(log_softmax) instead of softmax: LiteRT's converter would make one operation of the latter, and
an int8 file rounds the result of that operation to 1/256.
"""


def softmax(ops, logits):
    """exp(z - max z) / sum exp(z - max z) over the last axis."""
    exponentials = ops.exp(logits - ops.max(logits, axis=-1, keepdims=True))
    return exponentials / ops.sum(exponentials, axis=-1, keepdims=True)


def log_softmax(ops, logits):
    """z - log sum exp z over the last axis."""
    shifted = logits - ops.max(logits, axis=-1, keepdims=True)
    return shifted - ops.log(ops.sum(ops.exp(shifted), axis=-1, keepdims=True))


def log_sum_exp(ops, values, axis=-1):
    """max z + log sum exp(z - max z) over one axis, which is removed."""
    shifted = values - ops.max(values, axis=axis, keepdims=True)
    # the maximum again, not its axis removed: int8 files would round a reshaped value
    return ops.max(values, axis=axis) + ops.log(ops.sum(ops.exp(shifted), axis=axis))
