"""Hard samples more often, by what a ledger of losses says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from segkit.samplers._base import brief, whole_number
from segkit.samplers._engine.permutation import KeyedPermutation
from segkit.samplers._ordered import Order, OrderedSampler
from segkit.samplers._shuffle import Shuffled

HARD_POOL, OTHER_POOL, LEFT_OUT = 6, 7, 8  # streams of randomness, beside the order's own

Schedule = float | Callable[[int], float | None] | None


class Ledger(Protocol):
    """What is asked of a ledger: `mining.DifficultyLedger` is one."""

    num_samples: int

    def freeze(self, epoch: int, *, easy: float, hard: float) -> tuple[np.ndarray, int]:
        """Pools of this epoch, uint8 `[N]` (0 other, 1 easy, 2 hard), and a checksum of them."""
        ...


class DifficultySampler(OrderedSampler):
    """Hard samples more often, on a schedule; easy ones left out for a while; noisy ones not drawn more often.

    For the first `warmup_epochs` it is a `ShuffleSampler`. From then on a share `hard_ratio(epoch)` of an epoch's
    draws are HARD samples by the ledger, the rest others; within either, each sample comes equally often (they differ
    by at most one). Samples whose loss never falls (`ledger.noisy()`) are most likely mislabelled: they count as
    others, never as hard. What is hard is frozen in the ledger when an epoch begins, so that updates during the epoch
    do not change its order; save the ledger together with this sampler's state.

    The length of an epoch depends on the arguments alone, never on the losses, so ranks cannot disagree about it. They
    must agree about the losses, too: call `ledger.all_reduce()` at the end of each epoch.

    Args:
        ledger: a `mining.DifficultyLedger`.
        hard_ratio: share of the draws that are hard samples: a number in [0, 1], a callable epoch -> number, or None
            for no change of the order. See `LinearSchedule`, `StepSchedule`, `AfterEpoch`.
        warmup_epochs: epochs before any of this begins, so that losses mean something.
        drop_easy: share of all samples, [0, 1), that is left out of each epoch: drawn anew each epoch among the EASY
            ones, as far as there are so many.
        easy: the share of the seen samples that counts as easy.
        hard: the share that counts as hard.
        seed: whole number, [0, 2**64).
        rank: this process's number.
        world_size: number of processes.
        tail: as in `ShuffleSampler`, for the draws.
        indices: the samples that take part, a fold; the ledger counts those of the whole data set. None: all.

    Example:
        >>> from segkit.mining import DifficultyLedger
        >>> ledger = DifficultyLedger(10)
        >>> ledger.update(range(10), [0.1] * 8 + [3.0, 4.0])  # the last two are hard
        >>> sampler = DifficultySampler(ledger, hard_ratio=0.5, warmup_epochs=1, seed=0)
        >>> [sum(key >= 8 for key in sampler) for epoch in range(3)]
        [2, 5, 5]

    Source: Shrivastava et al. 2016 and Katharopoulos and Fleuret 2018 for what, Bengio et al. 2009 for when.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        hard_ratio: Schedule = 0.5,
        warmup_epochs: int = 1,
        drop_easy: float = 0.0,
        easy: float = 0.3,
        hard: float = 0.2,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        tail: str = "pad",
        indices: Sequence[int] | np.ndarray | None = None,
    ) -> None:
        super().__init__(seed=seed, rank=rank, world_size=world_size, tail=tail, indices=indices)
        self.n = ledger.num_samples if self.indices is None else len(self.indices)
        if not 0 <= drop_easy < 1:
            raise ValueError(f"DifficultySampler: `drop_easy` must lie in [0, 1), got {drop_easy}.")
        self.ledger, self.hard_ratio, self.drop_easy = ledger, hard_ratio, float(drop_easy)
        self.warmup_epochs = whole_number("DifficultySampler", "warmup_epochs", warmup_epochs, 0)
        self.easy, self.hard = float(easy), float(hard)
        self._ratio(self.warmup_epochs)

    def __repr__(self) -> str:
        fields = ("hard_ratio", "warmup_epochs", "drop_easy", "easy", "hard", "seed", "rank", "world_size", "tail")
        return f"DifficultySampler({self.ledger!r}, {', '.join(f'{f}={getattr(self, f)!r}' for f in fields)})"

    def _ratio(self, epoch: int) -> float | None:
        """The share of hard draws of an epoch; None: no change."""
        if epoch < self.warmup_epochs or self.hard_ratio is None:
            return None
        ratio = self.hard_ratio(epoch) if callable(self.hard_ratio) else self.hard_ratio
        if ratio is not None and not 0 <= ratio <= 1:
            raise ValueError(
                f"DifficultySampler: `hard_ratio` must lie in [0, 1], got {ratio} for epoch {epoch}. "
                "It is a share of the draws."
            )
        return ratio

    def _active(self, epoch: int) -> bool:
        return epoch >= self.warmup_epochs and (self.drop_easy > 0 or self._ratio(epoch) is not None)

    def _left_out(self, epoch: int) -> int:
        return int(self.drop_easy * self.n) if epoch >= self.warmup_epochs else 0

    def _total(self, epoch: int) -> int:
        return self.n - self._left_out(epoch)

    def order(self, epoch: int) -> Order:
        """A shuffle until the warm-up is over, then draws of two pools, frozen when the epoch begins."""
        if not self._active(epoch):
            return Shuffled(self.n, self.seed, epoch)
        return _ByDifficulty(self, epoch)

    def _evidence(self, epoch: int) -> dict[str, Any]:
        if not self._active(epoch):
            return {}
        return {"frozen": self.ledger.freeze(epoch, easy=self.easy, hard=self.hard)[1]}

    def identity(self) -> dict[str, Any]:
        ratio = getattr(self.hard_ratio, "__qualname__", None) or repr(self.hard_ratio)
        if " at 0x" in ratio:  # the address of an object, which is another one after resuming
            ratio = type(self.hard_ratio).__qualname__
        fields = ("n", "warmup_epochs", "drop_easy", "easy", "hard")
        return {"hard_ratio": brief(ratio)} | {field: getattr(self, field) for field in fields}

    _remedy = "First load the ledger that was saved together with this state."

    def _settings(self) -> str:
        ratio, dropped = self._ratio(self.epoch), self._left_out(self.epoch)
        share = "as it comes" if ratio is None else f"{ratio:.0%} of the draws"
        return f"{self.n} samples; in epoch {self.epoch} hard ones {share}, {dropped} easy ones left out"

    def _idle(self) -> list[str]:
        idle = []
        if self.hard_ratio is None and not self.drop_easy:
            idle.append("hard_ratio=None and drop_easy=0: every epoch is a plain shuffle")
        if not callable(self.hard_ratio) and self.hard_ratio is not None and abs(self.hard_ratio - self.hard) < 1e-9:
            idle.append(f"hard_ratio={self.hard_ratio}: it is the share of the hard samples anyway (hard={self.hard})")
        if self.epoch < self.warmup_epochs:
            idle.append(f"all of it, until epoch {self.warmup_epochs} (warmup_epochs)")
        if self.drop_easy and not self._left_out(self.warmup_epochs):
            idle.append(f"drop_easy={self.drop_easy}: less than one of {self.n} samples")
        return idle


class _ByDifficulty:
    """The order of a `DifficultySampler` once it is active: two pools, each gone round in an order of its own."""

    once = False

    def __init__(self, sampler: DifficultySampler, epoch: int) -> None:
        seed, self.total = sampler.seed, sampler._total(epoch)
        pools, _ = sampler.ledger.freeze(epoch, easy=sampler.easy, hard=sampler.hard)
        pools = pools if sampler.indices is None else pools[sampler.indices]
        easy = np.flatnonzero(pools == 1)
        dropped = min(sampler._left_out(epoch), len(easy))
        kept = np.ones(sampler.n, dtype=bool)
        kept[easy[KeyedPermutation(len(easy), seed, epoch, LEFT_OUT)(np.arange(dropped))]] = False
        ratio = sampler._ratio(epoch)
        is_hard = (pools == 2) if ratio is not None else np.zeros(sampler.n, dtype=bool)
        self._hard, self._others = np.flatnonzero(is_hard), np.flatnonzero(kept & ~is_hard)
        self._hard_draws = round(self.total * (ratio or 0.0)) if len(self._hard) else 0
        if not len(self._others):
            self._hard_draws = self.total
        self._draws = KeyedPermutation(self.total, seed, epoch)
        self._of_hard = KeyedPermutation(len(self._hard), seed, epoch, HARD_POOL)
        self._of_others = KeyedPermutation(len(self._others), seed, epoch, OTHER_POOL)

    def take(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        draws = self._draws(positions)
        indices = np.empty(len(draws), dtype=np.int64)
        hard = draws < self._hard_draws
        indices[hard] = self._hard[self._of_hard(draws[hard] % max(len(self._hard), 1))]
        others = (draws[~hard] - self._hard_draws) % max(len(self._others), 1)
        indices[~hard] = self._others[self._of_others(others)]
        return indices, None
