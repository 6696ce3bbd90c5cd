"""Losses into records, many at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np


class Noted(NamedTuple):
    """One update that waits to be taken in."""

    where: np.ndarray
    losses: np.ndarray
    positive: np.ndarray | None
    correct: np.ndarray | None
    epoch: int


def take_in(records: np.ndarray, noted: list[Noted], momentum: float) -> None:
    """Take the noted losses into the records and forget them; what it does is what one after the other would do.

    Many at a time and sorted, because the first touch of a page takes some microseconds, and a batch of 256 random
    samples touches 256 pages.
    """
    if not noted:
        return
    where, losses = (np.concatenate([batch[column] for batch in noted]) for column in (0, 1))
    positive = np.concatenate([_code(batch.positive, batch.where) for batch in noted])
    correct = np.concatenate([_code(batch.correct, batch.where) for batch in noted])
    epochs = np.repeat([batch.epoch for batch in noted], [len(batch.where) for batch in noted])
    noted.clear()
    whole = np.asarray(records).view(f"V{records.itemsize}")  # NumPy moves opaque records 20 times as fast
    for group in _rounds(where):
        rows = whole[where[group]].view(records.dtype)  # a copy
        loss, finite = losses[group], usable(losses[group])
        new = rows["count"] == 0
        loss = np.where(finite, loss, 0.0)
        mean = momentum * rows["loss"].astype(np.float64) + (1 - momentum) * loss
        rows["loss"] = np.where(finite, np.where(new, loss, mean), rows["loss"])
        rows["first"] = np.where(finite & new, loss, rows["first"])
        rows["count"] += finite
        rows["fresh"] += finite
        rows["rejected"] += ~finite & (rows["rejected"] < 255)
        rows["epoch"] = np.where(finite, epochs[group] + 1, rows["epoch"])
        for name, code in (("positive", positive[group]), ("correct", correct[group])):
            rows[name] = np.where(code > 0, code, rows[name])
        whole[where[group]] = rows.view(whole.dtype)


def usable(losses: np.ndarray) -> np.ndarray:
    """Which losses are finite, also as the float32 that is kept."""
    return np.abs(losses) <= np.finfo(np.float32).max


def _code(flags: np.ndarray | None, like: np.ndarray) -> np.ndarray:
    """0 unknown, 1 no, 2 yes."""
    return np.zeros(like.shape, dtype=np.uint8) if flags is None else np.where(flags, np.uint8(2), np.uint8(1))


def _rounds(where: np.ndarray) -> Iterator[np.ndarray]:
    """Places in `where`, in groups without repetition: first what comes first, then what comes again; each sorted."""
    order = np.argsort(where, kind="stable")
    ranked = where[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    number = np.arange(len(where)) - np.repeat(starts, np.diff(np.r_[starts, len(where)]))
    by_number = order[np.argsort(number, kind="stable")]
    yield from np.split(by_number, np.cumsum(np.bincount(number))[:-1])
