"""Indices into a plane for each class, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segkit import IGNORE_INDEX
from segkit.errors import DataError
from segkit.labels._validate import Ignored, validate_target

if TYPE_CHECKING:
    from torch import Tensor


def one_hot(target: Tensor, num_classes: int, ignore_index: int = IGNORE_INDEX) -> Tensor:
    """One plane per class. No loss of segkit needs this; it is for code that does.

    Args:
        target: [B, *spatial], integers in [0, num_classes) or ``ignore_index``.
        num_classes: C.
        ignore_index: its pixels are 0 in every plane.

    Returns:
        [B, C, *spatial] uint8.

    Raises:
        DataError: a value is outside [0, C) and not ``ignore_index``.

    Example:
        >>> import torch
        >>> one_hot(torch.tensor([[0, 1, 255]]), 2)
        tensor([[[1, 0, 0],
                 [0, 1, 0]]], dtype=torch.uint8)
    """
    import torch

    validate_target(target, num_classes, ignore_index=ignore_index)
    classes = torch.arange(num_classes, device=target.device).view(1, -1, *[1] * (target.ndim - 1))
    # A class number that is itself ignored (ignore_index=0 is common) has an empty plane, too.
    wide = target.to(torch.int64)[:, None]
    return ((wide == classes) & (wide != ignore_index)).to(torch.uint8)


def from_one_hot(x: Tensor, ignore_index: int = IGNORE_INDEX) -> Tensor:
    """Class indices from one plane per class: the inverse of `one_hot`.

    Args:
        x: [B, C, *spatial], any dtype, 0 or 1, at most one 1 per pixel.
        ignore_index: what a pixel becomes that is 0 in every plane.

    Returns:
        [B, *spatial]; uint8 if the values fit, else int32.

    Raises:
        DataError: a value is neither 0 nor 1, or a pixel has two classes.

    Example:
        >>> import torch
        >>> from_one_hot(torch.tensor([[[1, 0, 0], [0, 1, 0]]]))
        tensor([[  0,   1, 255]], dtype=torch.uint8)
    """
    if x.ndim < 2:
        raise ValueError(f"from_one_hot: `x` must be [B, C, *spatial], got {list(x.shape)}.")
    if x.numel() and not bool(((x == 0) | (x == 1)).all()):
        raise DataError(
            "from_one_hot: `x` must hold only 0 and 1, got other values. "
            "For probabilities take x.argmax(1); for colours use labels.colors_to_index."
        )
    if bool(((x == 1).sum(1) > 1).any()):
        raise DataError("from_one_hot: a pixel must have at most one class, got two. Use a multilabel loss with it.")
    return pick_class(x, ignore_index)


def pick_class(x: Tensor, ignore_index: Ignored) -> Tensor:
    """[B, C, *spatial] of 0 and 1 → [B, *spatial]; nowhere 1 → ignore_index."""
    import torch

    planes = x if x.dtype != torch.bool else x.to(torch.uint8)
    best, index = planes.max(1)
    filling = ignore_index[0] if isinstance(ignore_index, tuple) else ignore_index
    small = x.shape[1] <= 256 and (filling is None or 0 <= filling < 256)
    found = index if filling is None else index.masked_fill(best == 0, filling)
    return found.to(torch.uint8 if small else torch.int32)
