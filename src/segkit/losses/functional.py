"""The losses as functions of logits and target.

Example:
    >>> import torch
    >>> from segkit.losses import functional as L
    >>> logits, target = torch.zeros(1, 2, 8, 8), torch.zeros(1, 8, 8, dtype=torch.uint8)
    >>> L.cross_entropy(logits, target)  # log 2
    tensor(0.6931)
"""

from __future__ import annotations

from ._cl_dice import cl_dice
from ._compound import combine, dice_ce, dice_focal
from ._distance import boundary, skeleton_recall
from ._lovasz import lovasz
from ._ohem import ohem_cross_entropy
from ._overlap import dice, generalized_dice, jaccard, tversky
from ._pixel import binary_cross_entropy, cross_entropy, focal
from ._region import region_loss

__all__ = [
    "binary_cross_entropy",
    "boundary",
    "cl_dice",
    "combine",
    "cross_entropy",
    "dice",
    "dice_ce",
    "dice_focal",
    "focal",
    "generalized_dice",
    "jaccard",
    "lovasz",
    "ohem_cross_entropy",
    "region_loss",
    "skeleton_recall",
    "tversky",
]
