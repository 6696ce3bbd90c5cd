"""A confusion matrix for people: a table for the terminal, and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def table(names: Sequence[str], columns: dict[str, Tensor], pixels: Tensor, means: dict[str, float]) -> str:
    """One line a class, and one for the means; a number that does not exist is a dash."""
    width = max(4, *(len(name) for name in names))
    head = f"{'':{width}}" + "".join(f"{title:>11}" for title in columns) + f"{'pixels':>14}"
    lines = [head]
    for c, name in enumerate(names):
        cells = "".join(f"{_number(float(values[c])):>11}" for values in columns.values())
        lines.append(f"{name:{width}}{cells}{int(pixels[c]):>14,}")
    cells = "".join(f"{_number(means[title]):>11}" for title in columns)
    lines.append(f"{'mean':{width}}{cells}{int(pixels.sum()):>14,}")
    return "\n".join(lines)


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.3f}"


def picture(counts: Tensor, names: Sequence[str]) -> Figure:
    """Each row is a class of the truth: which share of its pixels was called what."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("ConfusionMatrix.plot: matplotlib is needed. Type: pip install 'segkit[plot]'") from error
    share = counts.double() / counts.sum(1, keepdim=True).clamp(min=1)
    side = 2.5 + 0.5 * len(names)
    figure = Figure(figsize=(side, side), layout="constrained")  # no pyplot: nothing global, nothing to close
    axes = figure.subplots()
    axes.imshow(share.numpy(), vmin=0, vmax=1, cmap="Blues")
    if len(names) <= 30:  # beyond, the numbers would be dust
        for row in range(len(names)):
            for column in range(len(names)):
                value = float(share[row, column])
                if value >= 0.005:
                    shade = "white" if value > 0.5 else "black"
                    axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=shade, fontsize=8)
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="prediction", ylabel="truth", title="share of the truth")
    return figure
