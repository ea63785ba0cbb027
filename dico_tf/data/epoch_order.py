"""The order of images in an epoch: a pure function of seed and epoch, so that any step can be repeated. NumPy only."""

import numpy as np

from dico_tf.errors import UserError

_ORDER, _HELD_OUT, _SUBSET, _NOISE = 1, 2, 3, 4  # one random stream for each use


def _shuffled(size: int, *words: int) -> np.ndarray:
    """Return the random permutation int64 [size] that these seed words give.

    It sorts raw bits of Philox, which are the same in every release of NumPy; a Generator's results may change.
    """
    return np.argsort(_bits(size, *words), kind="stable").astype(np.int64)


def _bits(size: int, *words: int) -> np.ndarray:
    return np.random.Philox(np.random.SeedSequence(words)).random_raw(size)


def order(size: int, seed: int, epoch: int, branch: int | None = None) -> np.ndarray:
    """Return the order of an epoch's images, a permutation int64 [size]; with `branch`, the order of that branch."""
    return _shuffled(size, _ORDER, seed, epoch, 0 if branch is None else branch + 1, 1)


def shuffled(size: int, seed: int, part: int = 0) -> np.ndarray:
    """Return a permutation int64 [size] of images; those to hold out of training are taken from its start.

    The permutations of different `part`, such as the number of a class, are independent.
    """
    return _shuffled(size, _HELD_OUT, seed, part, 1)


def preference(size: int, seed: int, part: int = 0) -> np.ndarray:
    """Return a permutation int64 [size] of images, of which a run with --train_images takes the first ones.

    The permutations of different `part`, such as the number of a class, are independent.
    """
    return _shuffled(size, _SUBSET, seed, part, 1)


def wrong_labels(labels: np.ndarray, share: float, classes: int, seed: int) -> np.ndarray:
    """Return labels [N] of which round(share N), chosen at random, are each another class, all others equally likely.

    The images with wrong labels at a smaller share are among those at a larger one, and have the same wrong labels.
    """
    size = len(labels)
    chosen = _shuffled(size, _NOISE, seed, 0, 1)[: round(share * size)]
    steps = (_bits(size, _NOISE, seed, 1, 1) % np.uint64(classes - 1)).astype(np.int64) + 1
    noisy = labels.copy()
    noisy[chosen] = (labels[chosen] + steps[chosen]) % classes
    return noisy


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
    """Return the images that one worker takes in an epoch, as indices int64 [steps, replicas, b(, branches)].

    The global batch_size B is shared by all replicas of all workers: b = B / (workers x replicas). Step t takes rows
    t B to (t + 1) B - 1 of the epoch's order; every worker, and within it every replica, has a contiguous share. The
    incomplete last batch is dropped.

    Args:
        size: number of images N.
        first_step: leave out the steps before it, such as those before a stopped run continues.
        worker: number of this worker, from 0.
        replicas: of each worker.
        branches: give each branch an order of its own; None = one order for all.
        repeats: R > 1 takes each image i R times in a row, as i, i + N, .., i + (R - 1) N, for R different views. The
            number of steps stays, so that an epoch reaches one R-th of the images. Shares are then not contiguous: the
            rows of a batch go to the replicas in turn, so that the repeats of an image go to different replicas.

    Raises:
        UserError: if the batch is larger than the dataset or cannot be shared equally.
    """
    _check(size, batch_size, workers, replicas)
    if not (0 <= worker < workers and first_step >= 0):
        raise ValueError(
            f"expected a worker from 0 to {workers - 1} and a first step of at least 0, got worker {worker} and first "
            f"step {first_step}"
        )
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
    """Replace each i of the order `rows` [N(, S)] by i, i + N, .., i + (repeats - 1) N: [N repeats(, S)]."""
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
