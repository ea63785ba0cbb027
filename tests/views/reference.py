"""The counter hash once more, in numpy and one number at a time: what the TensorFlow one is held against."""

import zlib

M32 = 0xFFFFFFFF


def mix(x: int) -> int:
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) & M32
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) & M32
    return x ^ (x >> 16)


def absorb(state: tuple[int, int], word: int) -> tuple[int, int]:
    a = mix(state[0] ^ word)
    return a, mix((state[1] + a + 0x9E3779B9) & M32)


def uniform(kind: int, seed: int, branch: int, epoch: int, index: int, stream: str, component: int | None = None):
    state = (0x243F6A88, 0x85A308D3)
    for number in (kind, seed, branch, epoch, index):
        for word in (number & M32, (number >> 32) & M32):
            state = absorb(state, word)
    state = absorb(state, zlib.crc32(stream.encode()))
    if component is not None:
        state = absorb(state, component)
    return (mix((state[0] + state[1]) & M32) >> 8) / 2**24
