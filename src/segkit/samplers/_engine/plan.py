"""How many samples each step takes, and of which size: in closed form, so that a saved place is found at once."""

from __future__ import annotations

from segkit.samplers._engine.permutation import KeyedPermutation

Size = tuple[int, int]
SCALES = 2  # the stream of the scales' order, beside the samples' own


class Plan:
    """The steps of one epoch over all ranks.

    Scales come in rounds: each round is a keyed permutation of all of them, each kept for `every` steps. Every full
    round takes equally many samples, so the sample at which a step begins needs no walk over the steps before it.

    Args:
        total: samples of the epoch.
        sizes: the scales.
        batches: samples in a batch of one rank, for each scale.
        every: steps that a scale is kept for; None: one scale for the epoch, in rounds of epochs.
        seed: of the scales' order.
        epoch: which epoch.
        world_size: number of ranks.
        tail: what the last step does.
    """

    def __init__(
        self,
        total: int,
        sizes: list[Size],
        batches: list[int],
        *,
        every: int | None,
        seed: int,
        epoch: int,
        world_size: int,
        tail: str,
    ) -> None:
        self.total = total
        self._seed, self._epoch, self._world_size = seed, epoch, world_size
        if every is None:
            scale = int(KeyedPermutation(len(sizes), seed, epoch // len(sizes), SCALES).at(epoch % len(sizes)))
            sizes, batches, every = [sizes[scale]], [batches[scale]], 1
        self._sizes, self._batches, self._every = sizes, batches, every
        self._round: tuple[int, list[int]] = -1, []  # the latest round of scales asked for
        self.steps, left = self._steps(total, tail)
        self._totals: dict[int, int] = {}  # of the steps at the end that are not full
        self._moved = 0  # samples that the last step takes over from the one before
        if not left:
            return
        last = self.steps - 1
        if tail == "pad":
            left = -(-left // world_size) * world_size
        elif last and left < world_size and (before := self._batch(last - 1)) > 1:
            self._moved = world_size - left
            self._totals[last - 1] = before * world_size - self._moved
            left = world_size
        self._totals[last] = left

    def size(self, step: int) -> Size:
        """The size of a step's samples."""
        return self._sizes[self._scale(step)]

    def before(self, step: int) -> int:
        """Samples, over all ranks, of the steps before this one."""
        moved = self._moved if step == self.steps - 1 else 0
        return min(self._first(step) - moved, self.total)

    def share(self, step: int, rank: int) -> tuple[int, int]:
        """The positions [first, last) of the order that a rank takes at a step; a pad goes beyond the order's end."""
        first = self._first(step) - (self._moved if step == self.steps - 1 else 0)
        total = self._totals.get(step, self._batch(step) * self._world_size)
        return first + total * rank // self._world_size, first + total * (rank + 1) // self._world_size

    def _steps(self, total: int, tail: str) -> tuple[int, int]:
        """The number of steps, and the samples of the last one if it is not full (0: it is)."""
        rounds, left = divmod(total, self._every * self._world_size * sum(self._batches))
        steps = rounds * len(self._sizes) * self._every
        while left:
            full = self._batch(steps) * self._world_size
            whole = min(left // full, self._every)
            steps, left = steps + whole, left - whole * full
            if whole < self._every and left:
                return (steps, 0) if tail == "drop" else (steps + 1, left)
        return steps, 0

    def _first(self, step: int) -> int:
        """Samples of all the full steps before this one."""
        block, within = divmod(step, self._every)
        rounds, slot = divmod(block, len(self._sizes))
        before = sum(self._batches[scale] for scale in self._scales(rounds)[:slot])
        batches = self._every * (rounds * sum(self._batches) + before) + within * self._batch(step)
        return batches * self._world_size

    def _batch(self, step: int) -> int:
        return self._batches[self._scale(step)]

    def _scale(self, step: int) -> int:
        rounds, slot = divmod(step // self._every, len(self._sizes))
        return self._scales(rounds)[slot]

    def _scales(self, number: int) -> list[int]:
        """The scales of one round, in order."""
        if self._round[0] != number:
            permutation = KeyedPermutation(len(self._sizes), self._seed, self._epoch, SCALES, number)
            self._round = number, [permutation.at(slot) for slot in range(len(self._sizes))]
        return self._round[1]
