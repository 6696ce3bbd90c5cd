"""What a ledger says: numbers for a log, and pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from segkit.mining._tags import Tag

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STATES = ("unseen", "easy", "medium", "hard")
COLORS = ("#b0b0b0", "#4477aa", "#ccbb44", "#cc3311")  # told apart by colour-blind readers (Tol 2021)


def states(tags: np.ndarray) -> np.ndarray:
    """0 unseen, 1 easy, 2 medium, 3 hard for each sample."""
    table = np.zeros(256, dtype=np.int64)
    for number, tag in enumerate((Tag.EASY, Tag.MEDIUM, Tag.HARD), start=1):
        table[(np.arange(256) & tag) > 0] = number
    return table[tags]


def moves(before: np.ndarray, after: np.ndarray) -> list[list[int]]:
    """How many samples went from each state to each state."""
    pairs = np.bincount(states(before) * 4 + states(after), minlength=16)
    return [[int(number) for number in row] for row in pairs.reshape(4, 4)]


def groups(records: np.ndarray, classes: Any) -> dict[str, np.ndarray]:
    """The samples of each class, or of positive, negative and unknown ones where no classes are given."""
    if classes is None:
        kinds = {"negative": 1, "positive": 2, "unknown": 0}
        found = {name: records["positive"] == kind for name, kind in kinds.items()}
        return {name: mask for name, mask in found.items() if mask.any()}
    labels = np.asarray(classes)
    if labels.shape != records.shape:
        raise ValueError(
            f"DifficultyLedger: `classes` must have one label for each of the {len(records)} samples, "
            f"got shape {labels.shape}."
        )
    return {str(label): labels == label for label in np.unique(labels)}


def summary(records: np.ndarray, tags: np.ndarray, noisy: np.ndarray, classes: Any) -> dict[str, Any]:
    """See `DifficultyLedger.summary`."""
    seen = records["count"] > 0
    losses = records["loss"][seen].astype(np.float64)
    marks = np.percentile(losses, [0, 5, 25, 50, 75, 95, 100]) if losses.size else np.full(7, np.nan)
    names = ("min", "p5", "p25", "median", "p75", "p95", "max")
    state = states(tags)
    rejected = np.flatnonzero(records["rejected"])
    return {
        "num_samples": len(records),
        "seen": int(np.count_nonzero(seen)),
        "updates": int(records["count"].sum(dtype=np.int64)),
        "loss": {"mean": float(losses.mean()) if losses.size else None}
        | {name: float(mark) if losses.size else None for name, mark in zip(names, marks, strict=True)},
        "tags": {
            group: {name: int(np.count_nonzero(state[members] == number)) for number, name in enumerate(STATES)}
            for group, members in groups(records, classes).items()
        },
        "not_finite": {"samples": len(rejected), "first": rejected[:20].tolist()},
        "noisy": {"samples": int(np.count_nonzero(noisy)), "first": np.flatnonzero(noisy)[:20].tolist()},
    }


def plot(records: np.ndarray, tags: np.ndarray, history: list[tuple[int, list[list[int]]]], classes: Any) -> Figure:
    """See `DifficultyLedger.plot`."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("DifficultyLedger.plot: matplotlib is needed. Type: pip install 'segkit[plot]'") from error
    figure = Figure(figsize=(13, 4), layout="constrained")  # no pyplot: nothing global, nothing to close
    left, middle, right = figure.subplots(1, 3)
    _histogram(left, records["loss"], states(tags))
    _by_group(middle, states(tags), groups(records, classes))
    _moves(right, history)
    return figure


def _histogram(axes: Axes, losses: np.ndarray, state: np.ndarray) -> None:
    parts = [losses[state == number] for number in (1, 2, 3)]
    together = np.concatenate(parts)
    bins = np.histogram_bin_edges(together, bins=50) if together.size else np.array([0.0, 1.0])
    axes.hist(parts, bins=list(bins), stacked=True, color=COLORS[1:], label=STATES[1:])
    axes.set(title="running loss", xlabel="loss", ylabel="samples")
    axes.legend()


def _by_group(axes: Axes, state: np.ndarray, members: dict[str, np.ndarray]) -> None:
    names = list(members)
    base = np.zeros(len(names))
    for number, name in enumerate(STATES):
        share = np.array([np.mean(state[members[group]] == number) for group in names])
        axes.bar(names, share, bottom=base, color=COLORS[number], label=name)
        base += share
    axes.set(title="easy and hard by class", ylabel="share of the samples", ylim=(0, 1))
    axes.legend()


def _moves(axes: Axes, history: list[tuple[int, list[list[int]]]]) -> None:
    """The latest move as a table of shares: rows from, columns to."""
    epoch, counts = history[-1] if history else (None, [[0] * 4] * 4)
    table = np.array(counts, dtype=float)
    share = table / np.maximum(table.sum(1, keepdims=True), 1)
    axes.imshow(share, vmin=0, vmax=1, cmap="Blues")
    for row in range(4):
        for column in range(4):
            shade = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, f"{int(table[row, column])}", ha="center", va="center", color=shade)
    axes.set(xticks=range(4), yticks=range(4), xlabel="to", ylabel="from")
    axes.set_xticklabels(STATES)
    axes.set_yticklabels(STATES)
    axes.set_title("moves: none frozen yet" if epoch is None else f"moves when epoch {epoch} began")
