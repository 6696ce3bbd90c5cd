"""Which fold each unit goes to, so that every fold has its share of everything.

First iterative stratification (Sechidis, Tsoumakas, Vlahavas 2011): the rarest class first, each of its units to the
fold that lacks it most. It looks at one class at a time, so afterwards units are moved and swapped as long as that
brings all shares together nearer to the whole; that is what we add.
"""

from __future__ import annotations

import numpy as np

__all__ = ["assign"]

_CANDIDATES = 512  # units that one is compared with for a swap
_ROUNDS = 8
_STARTS = 6
_FEW = 300  # up to so many units, several starts are tried


def assign(images: np.ndarray, amounts: np.ndarray, shares: np.ndarray, seed: int) -> np.ndarray:
    """The fold of each unit, int64 [U]: no fold is empty.

    Args:
        images: [U]: how many images each unit has.
        amounts: [U, L]: how much each unit has of each class, in any units, 0 or more; columns of 0 do not count.
        shares: [K]: what each fold shall have, adding up to 1.
        seed: decides between equals.
    """
    amounts = amounts[:, amounts.sum(axis=0) > 0].astype(np.float64)
    # Each column adds up to 1 over all units, so that a rare class weighs what a common one does.
    labels = amounts / amounts.sum(axis=0)
    table = np.concatenate([(images / images.sum())[:, None], labels], axis=1)
    weights = np.concatenate([[1.0], np.full(labels.shape[1], 1 / max(1, labels.shape[1]))])
    best, least = None, np.inf
    for start in range(_STARTS if len(images) <= _FEW else 1):
        rng = np.random.default_rng([seed % 2**32, start])
        fold = _stratified(table, shares, rng)
        error = _improve(fold, table, weights, shares, rng)
        if error < least - 1e-15:
            best, least = fold, error
    assert best is not None
    return best


def _stratified(table: np.ndarray, shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    units, folds = len(table), len(shares)
    fold = np.full(units, -1, np.int64)
    wanted = np.repeat(shares[:, None], table.shape[1], axis=1)  # what each fold still lacks of each column
    order = rng.permutation(units)  # between equals, chance decides
    has = table[:, 1:] > 0
    left = np.ones(units, bool)

    def give(unit: int, column: int) -> None:
        lack = wanted[:, column]
        most = np.flatnonzero(lack >= lack.max() - 1e-12)
        most = most[wanted[most, 0] >= wanted[most, 0].max() - 1e-12]
        fold[unit] = most[rng.integers(len(most))]
        wanted[fold[unit]] -= table[unit]
        left[unit] = False

    while left.any():
        count = has[left].sum(axis=0)
        rarest = np.where(count > 0, count, units + 1)
        column = int(rarest.argmin()) + 1 if count.any() else 0
        members = [u for u in order.tolist() if left[u] and table[u, column] > 0]
        for unit in sorted(members, key=lambda u: -table[u, column]):
            give(unit, column)
    for k in range(folds):  # as many units as folds there are, at least
        if not (fold == k).any():
            largest = np.bincount(fold, minlength=folds).argmax()
            fold[np.flatnonzero(fold == largest)[table[fold == largest, 0].argmin()]] = k
    return fold


def _improve(
    fold: np.ndarray, table: np.ndarray, weights: np.ndarray, shares: np.ndarray, rng: np.random.Generator
) -> float:
    """Move and swap units as long as the weighted squares of what folds have too much get less; gives what is left."""
    units, folds = len(table), len(shares)
    over = -np.repeat(shares[:, None], table.shape[1], axis=1)
    np.add.at(over, fold, table)
    members = np.bincount(fold, minlength=folds)
    weighted = table * weights
    own = (weighted * table).sum(axis=1)  # of one unit, squared
    for _ in range(_ROUNDS):
        changed = False
        for unit in rng.permutation(units).tolist():
            here = int(fold[unit])
            slope = over / shares[:, None]
            # To another fold, alone.
            gain = 2 * ((slope - slope[here]) @ weighted[unit]) + own[unit] * (1 / shares + 1 / shares[here])
            gain[here] = np.inf
            if members[here] == 1:
                gain[:] = np.inf
            to, least, other = int(gain.argmin()), float(gain.min()), -1
            # For another unit of another fold.
            others = np.arange(units) if units <= _CANDIDATES else rng.integers(0, units, _CANDIDATES)
            others = others[fold[others] != here]
            if len(others):
                theirs = fold[others]
                across = table[others] @ weighted[unit]
                square = own[unit] + own[others] - 2 * across
                along = slope[theirs] - slope[here]
                linear = along @ weighted[unit] - (along * weighted[others]).sum(axis=1)
                swap = 2 * linear + square * (1 / shares[theirs] + 1 / shares[here])
                if swap.min() < least:
                    least, other = float(swap.min()), int(others[swap.argmin()])
                    to = int(fold[other])
            if least < -1e-12:
                changed = True
                step = table[unit] - (table[other] if other >= 0 else 0)
                over[here] -= step
                over[to] += step
                fold[unit] = to
                if other >= 0:
                    fold[other] = here
                else:
                    members[here] -= 1
                    members[to] += 1
        if not changed:
            break
    return float((over**2 * weights / shares[:, None]).sum())
