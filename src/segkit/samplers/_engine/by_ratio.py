"""An epoch's order, rearranged so that the samples of each step have nearly one shape."""

from __future__ import annotations

import numpy as np

from segkit.samplers._engine.permutation import KeyedPermutation

GROUPS = 10  # a stream of randomness, beside the order's own


class ByRatio:
    """The draws of an epoch in another order: each step takes its samples from one group of shapes.

    Groups are filled in the order's own order, so within a group nothing changes. What does not fill a step comes in
    the last steps, sorted by shape, so that neighbours in shape meet there.

    Args:
        order: the order to rearrange, with `total` and `take`.
        ratios: width / height of each sample of the data set.
        edges: the ratios between groups, ascending.
        steps: samples of each step, over all ranks.
        seed: of the groups' order.
        epoch: which epoch.
    """

    def __init__(self, order: object, ratios: np.ndarray, edges: np.ndarray, steps: list[int], seed: int, epoch: int):
        self._order = order
        self.once: bool = order.once  # type: ignore[attr-defined]
        self.total: int = order.total  # type: ignore[attr-defined]
        indices = self.take_unsorted(np.arange(self.total))[0]
        shape = ratios[indices]
        group = np.searchsorted(edges, shape, side="right")
        waiting = [np.flatnonzero(group == number) for number in range(len(edges) + 1)]
        used = np.zeros(len(waiting), dtype=np.int64)
        counts = np.array([len(places) for places in waiting])
        chosen: dict[int, np.ndarray] = {}
        for step in KeyedPermutation(len(steps), seed, epoch, GROUPS)(np.arange(len(steps))).tolist():
            number = int((counts - used).argmax())
            if counts[number] - used[number] >= steps[step]:
                chosen[step] = waiting[number][used[number] : used[number] + steps[step]]
                used[number] += steps[step]
        rest = np.concatenate([places[u:] for places, u in zip(waiting, used, strict=True)]) if waiting else indices
        rest = rest[np.argsort(shape[rest], kind="stable")]
        pieces, begin = [], 0
        for step, size in enumerate(steps):
            if step not in chosen:
                chosen[step] = rest[begin : begin + size]
                begin += size
            pieces.append(chosen[step])
        pieces.append(rest[begin:])
        self._places = np.concatenate(pieces).astype(np.int64)
        self._shape = shape

    def take_unsorted(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """The draws as the order has them."""
        taken: tuple[np.ndarray, np.ndarray | None] = self._order.take(positions)  # type: ignore[attr-defined]
        return taken

    def take(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """The draws as they are rearranged."""
        return self.take_unsorted(self._places[positions])

    def ratio(self, first: int, last: int) -> float:
        """The middle width / height of the draws [first, last)."""
        places = np.arange(first, last) % self.total
        return float(np.exp(np.log(self._shape[self._places[places]]).mean()))
