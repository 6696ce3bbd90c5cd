"""Weights of the classes, from how often they occur."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


_SCHEMES = ("inverse", "median", "effective", "log")


def class_weights(frequencies: Any, scheme: str = "inverse", *, beta: float | None = None) -> Tensor:
    """One weight for each class, larger for rarer ones: what the losses take as `class_weights`.

    With p the share of a class and C the number of classes that occur:

    - ``"inverse"``: 1 / (C p). The mean over all pixels is 1, so the loss keeps its scale.
    - ``"median"``: median(p) / p.
    - ``"effective"``: proportional to (1 - beta) / (1 - beta**n), with n the count of the class; the mean over the
      classes is 1. Milder than inverse for frequent classes.
    - ``"log"``: 1 / ln(1.02 + p), between 1.4 and 50.

    A class that never occurs gets weight 0: there is nothing to weigh, and 1/0 would spoil the others.

    Args:
        frequencies: pixels (or images, or shares) of each class, length C: an array, list, tensor or a
            `DatasetStatistics`, whose class pixels are taken.
        scheme: one of the above.
        beta: of "effective", in [0, 1); with it `frequencies` must be counts. None takes 1 - 1/total, which depends on
            the shares alone.

    Returns:
        float32 tensor [C], all at least 0.

    Raises:
        ValueError: an unknown scheme, a negative or NaN frequency, or no class that occurs.

    Example:
        >>> class_weights([90, 10]).tolist()
        [0.5555555820465088, 5.0]
        >>> class_weights([60, 30, 10, 0], "median").tolist()
        [0.5, 1.0, 3.0, 0.0]

    Source: median, Eigen and Fergus 2015 (there each class's total is that of the images with the class); effective,
    Cui et al. 2019, whose beta is chosen by hand; log, Paszke et al. 2016 (ENet).
    """
    import torch

    if hasattr(frequencies, "class_pixels"):
        frequencies = frequencies.class_pixels
    if hasattr(frequencies, "detach"):
        frequencies = frequencies.detach().cpu().numpy()
    counts = np.asarray(frequencies, dtype=np.float64)
    if counts.ndim != 1 or counts.size == 0 or not np.isfinite(counts).all() or (counts < 0).any():
        raise ValueError(
            f"class_weights: `frequencies` must be finite numbers >= 0, one for each class, got {counts.tolist()}. "
            "Pass the class_pixels of dataset_statistics."
        )
    total = counts.sum()
    if total == 0:
        raise ValueError(
            "class_weights: `frequencies` must have a class that occurs, got zeros only. "
            "Check ignore_index and the masks with segkit audit."
        )
    share = counts / total
    seen = share > 0
    weights = np.zeros_like(share)
    if scheme == "inverse":
        weights[seen] = 1 / (seen.sum() * share[seen])
    elif scheme == "median":
        weights[seen] = np.median(share[seen]) / share[seen]
    elif scheme == "effective":
        weights[seen] = _effective(counts[seen], total, beta)
    elif scheme == "log":
        weights[seen] = 1 / np.log(1.02 + share[seen])
    else:
        raise ValueError(f"class_weights: `scheme` must be one of {', '.join(_SCHEMES)}, got {scheme!r}.")
    return torch.from_numpy(weights.astype(np.float32))


def _effective(counts: np.ndarray, total: float, beta: float | None) -> np.ndarray:
    if beta is None:
        # (1 - 1/N)**n tends to exp(-n/N): written so, it holds for shares, too, and loses no digits.
        weights = 1 / -np.expm1(-counts / total)
    elif 0 <= beta < 1:
        weights = (1 - beta) / -np.expm1(counts * np.log(beta)) if beta > 0 else np.ones_like(counts)
    else:
        raise ValueError(f"class_weights: `beta` must lie in [0, 1), got {beta}. Usual values are 0.99 to 0.9999.")
    return weights / weights.mean()
