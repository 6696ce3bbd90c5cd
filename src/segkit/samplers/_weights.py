"""A weight for each sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from segkit.samplers._base import whole_number
from segkit.samplers._engine.comb import Comb
from segkit.samplers._ordered import Order, OrderedSampler, checksum


class WeightedSampler(OrderedSampler):
    """Every sample as often as its weight says, over any number of ranks.

    In an epoch a sample comes ``num_samples * weight / sum(weights)`` times, rounded down or up, and so on average over
    the epochs; one of weight 0 never. It takes the place of torch's `WeightedRandomSampler`, which draws other samples
    on each rank and whose counts scatter (a sample that is due once is left out of 37 % of the epochs).

    Args:
        weights: how often each sample is to come, up to a common factor: shape `[N]`, finite, not negative.
        num_samples: draws per epoch, over all ranks. None: N, or as many as `indices` names.
        seed: whole number, [0, 2**64).
        rank: this process's number.
        world_size: number of processes.
        tail: as in `ShuffleSampler`, for the draws.
        indices: the samples that take part, a fold; `weights` has those of the whole data set. None: all.

    Example:
        >>> drawn = list(WeightedSampler([1, 2, 0, 5], num_samples=80))
        >>> [drawn.count(i) for i in range(4)]
        [10, 20, 0, 50]
    """

    def __init__(
        self,
        weights: Any,
        *,
        num_samples: int | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        tail: str = "pad",
        indices: Sequence[int] | np.ndarray | None = None,
    ) -> None:
        super().__init__(seed=seed, rank=rank, world_size=world_size, tail=tail, indices=indices)
        given = np.asarray(weights, dtype=np.float64)
        if given.ndim != 1:
            raise ValueError(f"WeightedSampler: `weights` must have shape [N], got {given.shape}.")
        wrong = np.flatnonzero(~(np.isfinite(given) & (given >= 0)))
        if wrong.size:
            raise ValueError(
                f"WeightedSampler: `weights` must be finite and not negative, got {given[wrong[0]]} for sample "
                f"{wrong[0]} (counting from 0)."
            )
        if self.indices is not None and self.indices.max(initial=-1) >= len(given):
            raise ValueError(
                f"WeightedSampler: `indices` must be below the {len(given)} of `weights`, got {self.indices.max()}. "
                "Give the weights of the whole data set."
            )
        self.weights = given if self.indices is None else given[self.indices]
        self.n = len(self.weights)
        self.num_samples = (
            self.n if num_samples is None else whole_number("WeightedSampler", "num_samples", num_samples, 0)
        )
        if self.num_samples and not self.weights.any():
            raise ValueError("WeightedSampler: `weights` must hold one above 0, got none: nothing could be drawn.")

    def __repr__(self) -> str:
        where = f"rank={self.rank}, world_size={self.world_size}, tail={self.tail!r}"
        return f"WeightedSampler(<{self.n} weights>, num_samples={self.num_samples}, seed={self.seed}, {where})"

    def order(self, epoch: int) -> Order:
        """Each sample as often as its weight says, rounded down or up."""
        return Comb(self.weights, self.num_samples, self.seed, epoch)

    def identity(self) -> dict[str, Any]:
        return {"n": self.n, "weights": checksum(self.weights), "num_samples": self.num_samples}

    def _total(self, epoch: int) -> int:
        return self.num_samples

    def _settings(self) -> str:
        never = int((self.weights == 0).sum())
        most = self.num_samples * self.weights.max(initial=0) / max(self.weights.sum(), 1e-300)
        return f"{self.num_samples} draws per epoch of {self.n} samples, {never} never, one at most {most:.1f} times"

    def _idle(self) -> list[str]:
        return ["weights: all are equal"] if self.n and len(set(self.weights.tolist())) == 1 else []
