"""Random numbers without state: pure functions of seed, epoch or step, image index, branch and stream name."""

import copy
import zlib
from typing import Any

import tensorflow as tf

_MASK = 0xFFFFFFFF
_START = (0x243F6A88, 0x85A308D3)  # the first 64 fractional bits of pi: any fixed start works
_VIEW, _STEP = 1, 2  # drawn for the view of an image, or for the mixing of a step


def _u32(value: int) -> tf.Tensor:
    return tf.constant(value & _MASK, tf.uint32)


def _shift(x: tf.Tensor, bits: int) -> tf.Tensor:
    return tf.bitwise.right_shift(x, _u32(bits))


def _mix(x: tf.Tensor) -> tf.Tensor:
    """Apply murmur3's finaliser (Appleby): a bijection of uint32 in which every input bit affects every output bit."""
    x = tf.bitwise.bitwise_xor(x, _shift(x, 16)) * _u32(0x85EBCA6B)
    x = tf.bitwise.bitwise_xor(x, _shift(x, 13)) * _u32(0xC2B2AE35)
    return tf.bitwise.bitwise_xor(x, _shift(x, 16))


def _absorb(state: tuple[tf.Tensor, tf.Tensor], word: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Hash one word into the state: a' = mix(a xor word), b' = mix(b + a' + 0x9E3779B9).

    The state has 64 bits, so that two images do not share their numbers by chance.
    """
    a = _mix(tf.bitwise.bitwise_xor(state[0], word))
    return a, _mix(state[1] + a + _u32(0x9E3779B9))


def _words(number: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the low and high 32 bits of an int64."""
    number = tf.cast(number, tf.int64)
    mask, half = tf.constant(_MASK, tf.int64), tf.constant(32, tf.int64)
    low = tf.bitwise.bitwise_and(number, mask)
    high = tf.bitwise.bitwise_and(tf.bitwise.right_shift(number, half), mask)
    return tf.cast(low, tf.uint32), tf.cast(high, tf.uint32)


def _hashed(*numbers: Any) -> tuple[tf.Tensor, tf.Tensor]:
    state = (_u32(_START[0]), _u32(_START[1]))
    for number in numbers:
        for word in _words(number):
            state = _absorb(state, word)
    return state


class CounterRng:
    """Random numbers for each image of a batch, as a pure function of seed, epoch, image index and branch.

    `uniform("top")` returns [B]. A name gives the same numbers at every call; other names give independent numbers.

    Args:
        epoch: an integer or a scalar tensor.
        index: numbers of the images in the data set, [B].
        branch: an integer or a scalar tensor.
    """

    def __init__(self, seed: int, epoch: Any, index: Any, branch: Any = 0):
        self._state, self._scope = _hashed(_VIEW, seed, branch, epoch, index), ""

    @classmethod
    def of_step(cls, seed: int, step: Any, index: Any = 0, branch: Any = 0) -> "CounterRng":
        """Return a generator that depends on a training step in place of an epoch.

        Args:
            index: integers [B], to draw one number for each of them; 0 draws scalars.
        """
        rng = cls.__new__(cls)
        rng._state, rng._scope = _hashed(_STEP, seed, branch, step, index), ""
        return rng

    def scope(self, name: str) -> "CounterRng":
        """Return a generator with the prefix `name` before all stream names, so that two users never share a stream."""
        rng = copy.copy(self)
        rng._scope = f"{self._scope} {name}".strip()
        return rng

    def bits(self, stream: str = "", count: int = 0) -> tf.Tensor:
        """Return random uint32 [B], or [B, count] if `count` is above 0."""
        name = f"{self._scope} {stream}".strip()
        a, b = _absorb(self._state, _u32(zlib.crc32(name.encode())))
        if count:
            a, b = _absorb((a[..., None], b[..., None]), tf.cast(tf.range(count), tf.uint32))
        return _mix(a + b)

    def uniform(self, stream: str = "", low: float = 0.0, high: float = 1.0, count: int = 0) -> tf.Tensor:
        """Return float32 uniform in [low, high), of 24 random bits: [B], or [B, count] if `count` is above 0."""
        unit = tf.cast(tf.cast(_shift(self.bits(stream, count), 8), tf.int32), tf.float32) * 2.0**-24
        return unit if (low, high) == (0.0, 1.0) else low + (high - low) * unit

    def integers(self, stream: str, limit: Any, count: int = 0) -> tf.Tensor:
        """Return int32 from 0 .. limit - 1, all equally likely: [B], or [B, count] if `count` is above 0.

        Args:
            limit: a number far below 2^24; without `count` also one for each image [B].
        """
        limit = tf.cast(limit, tf.float32)
        # u * limit may round up to limit itself
        return tf.cast(tf.minimum(tf.floor(self.uniform(stream, count=count) * limit), limit - 1), tf.int32)

    def normal(self, stream: str, count: int = 0) -> tf.Tensor:
        """Return float32 of the standard normal distribution: [B], or [B, count] if `count` is above 0.

        Box and Muller: sqrt(-2 ln(1 - u)) cos(2 pi v), with uniform u and v.
        """
        radius = tf.sqrt(-2.0 * tf.math.log1p(-self.uniform(f"{stream} radius", count=count)))
        return radius * tf.cos(6.283185307179586 * self.uniform(f"{stream} angle", count=count))

    def permutation(self, stream: str) -> tf.Tensor:
        """Return a random order of the batch, int32 [B]: the order that sorts one uniform number per image."""
        return tf.argsort(self.uniform(stream), stable=True)
