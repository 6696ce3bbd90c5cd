"""A shuffle that is computed, not stored: position in, index out."""

from __future__ import annotations

import numpy as np

from segkit.samplers._engine.words import keyed_words

TABLE = 4096  # up to here the shuffled table itself is kept: 32 KiB, and every order is possible
ROUNDS = 6


class KeyedPermutation:
    """A bijection of [0, n) onto itself, chosen by (seed, epoch, stream, number); n up to 2**40, memory constant.

    Beyond a small table it works on the smallest power of two that holds n: rounds of multiply, add and xor-shift,
    each invertible on that many bits, with keyed factors. What lands outside [0, n) is sent through again until it
    lands inside (cycle walking; at most twice as much work on average), which keeps it a bijection.

    Source: Black and Rogaway 2002 (cycle walking); the rounds are those of integer hashes such as Murmur's finisher.
    """

    def __init__(self, n: int, seed: int, epoch: int, stream: int = 1, number: int = 0) -> None:
        self.n = n
        self.table: np.ndarray | None = None
        if n <= TABLE:
            drawn = np.array(keyed_words(seed, epoch, stream, number, words=2 * n), dtype=np.uint64).reshape(2, n)
            self.table = np.argsort(drawn[0] << np.uint64(32) | drawn[1], kind="stable")
            return
        bits = (n - 1).bit_length()
        self.kind = np.uint32 if bits <= 32 else np.uint64
        self.mask = self.kind((1 << bits) - 1)
        self.shifts = [self.kind(bits // 2 + r % 2) for r in range(ROUNDS)]
        words = keyed_words(seed, epoch, stream, number, words=4 * ROUNDS)
        wide = [low | high << 32 for low, high in zip(words[::2], words[1::2], strict=True)]
        limit = (1 << (32 if bits <= 32 else 64)) - 1
        self.factors = [self.kind((word | 1) & limit) for word in wide[:ROUNDS]]
        self.terms = [self.kind(word & limit) for word in wide[ROUNDS:]]

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """The indices at these positions, int64; positions lie in [0, n)."""
        if self.table is not None:
            return self.table[positions]
        mixed = self._mix(positions.astype(self.kind))
        outside = np.flatnonzero(mixed >= self.n)
        while outside.size:
            again = self._mix(mixed[outside])
            mixed[outside] = again
            outside = outside[again >= self.n]
        return mixed.astype(np.int64)

    def at(self, position: int) -> int:
        """The index at one position."""
        return int(self(np.array([position]))[0])

    def _mix(self, x: np.ndarray) -> np.ndarray:
        """The bijection of [0, 2**bits), in place."""
        spare = np.empty_like(x)
        for factor, term, shift in zip(self.factors, self.terms, self.shifts, strict=True):
            np.multiply(x, factor, out=x)  # wraps around: arithmetic modulo a power of two
            np.add(x, term, out=x)
            np.bitwise_and(x, self.mask, out=x)
            np.right_shift(x, shift, out=spare)
            np.bitwise_xor(x, spare, out=x)
        return x
