"""The order of images in an epoch: a pure function of seed and epoch, so that any step can be repeated. NumPy only."""

import numpy as np

from dico_tf.errors import UserError

_ORDER, _HELD_OUT = 1, 2  # one random stream for each use


def _shuffled(size: int, *words: int) -> np.ndarray:
    """Return a random permutation int64 [size] for these words.

    It sorts raw bits of Philox, which are the same in every release of NumPy; a Generator's results may change.
    """
    bits = np.random.Philox(np.random.SeedSequence(words)).random_raw(size)
    return np.argsort(bits, kind="stable").astype(np.int64)


def order(size: int, seed: int, epoch: int, branch: int | None = None) -> np.ndarray:
    """Return the permutation int64 [size] of an epoch; with `branch`, the one of that branch alone."""
    return _shuffled(size, _ORDER, seed, epoch, 0 if branch is None else branch + 1, 1)


def shuffled(size: int, seed: int, part: int = 0) -> np.ndarray:
    """Return the permutation int64 [size] that decides which images are held out of training."""
    return _shuffled(size, _HELD_OUT, seed, part, 1)


def plan(
    size: int,
    batch_size: int,
    seed: int,
    epoch: int,
    *,
    first_step: int = 0,
    worker: int = 0,
    workers: int = 1,
    replicas: int = 1,
    branches: int | None = None,
    repeats: int = 1,
) -> np.ndarray:
    """Return one worker's images of an epoch, int64 [steps, replicas, batch_size / (workers replicas)(, branches)].

    Step t takes rows t B .. (t + 1) B of the order; every worker, and within it every replica, has a contiguous share.
    The incomplete last batch is dropped.

    With repeats R, each image i occurs R times in a row, with the indices i, i + N, .., i + (R - 1) N, which give it R
    different views. An epoch keeps its number of steps and so reaches one R-th of the images. The replicas of all
    workers then take rows in turn, so that the repeats of an image go to different replicas.
    """
    _check(size, batch_size, workers, replicas)
    if not (0 <= worker < workers and first_step >= 0):
        raise ValueError(f"worker {worker} of {workers}, first step {first_step}")
    if branches is None:
        rows = order(size, seed, epoch)
    else:
        rows = np.stack([order(size, seed, epoch, branch) for branch in range(branches)], axis=-1)  # [N, S]
    steps, total, rest = size // batch_size, workers * replicas, rows.shape[1:]
    if repeats == 1:
        rows = rows[: steps * batch_size].reshape(steps, total, -1, *rest)
    else:
        rows = _repeated(rows, repeats)[: steps * batch_size].reshape(steps, -1, total, *rest).swapaxes(1, 2)
    return np.ascontiguousarray(rows.reshape(steps, workers, replicas, -1, *rest)[first_step:, worker])


def _repeated(rows: np.ndarray, repeats: int) -> np.ndarray:
    """Return [N repeats(, S)]: i, i + N, i + 2 N, .. for each i of the order."""
    size = len(rows)
    number = np.tile(np.arange(repeats), size)
    return np.repeat(rows, repeats, axis=0) + size * number.reshape(-1, *[1] * (rows.ndim - 1))


def _check(size: int, batch_size: int, workers: int, replicas: int) -> None:
    if batch_size > size:
        raise UserError(f"--batch_size={batch_size} is more than the {size} training images: give at most {size}")
    total = workers * replicas
    if batch_size % total:
        machines = f" ({workers} machines with {replicas} each)" if workers > 1 else ""
        raise UserError(
            f"--batch_size={batch_size} does not divide among {total} replicas{machines}: give a multiple of {total}"
        )
