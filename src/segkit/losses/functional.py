"""The losses as functions of logits and target.

Example:
    >>> import torch
    >>> from segkit.losses import functional as L
    >>> logits, target = torch.zeros(1, 2, 8, 8), torch.zeros(1, 8, 8, dtype=torch.uint8)
    >>> L.cross_entropy(logits, target)  # log 2
    tensor(0.6931)
"""

from __future__ import annotations

from ._compound import dice_ce, dice_focal
from ._pixel import binary_cross_entropy, cross_entropy, focal, ohem_cross_entropy
from ._region import dice, region_loss

__all__ = [
    "binary_cross_entropy",
    "cross_entropy",
    "dice",
    "dice_ce",
    "dice_focal",
    "focal",
    "ohem_cross_entropy",
    "region_loss",
]
