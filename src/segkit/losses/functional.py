"""The losses as functions of logits and target.

Example:
    >>> import torch
    >>> from segkit.losses import functional as L
    >>> logits, target = torch.zeros(1, 2, 8, 8), torch.zeros(1, 8, 8, dtype=torch.uint8)
    >>> L.cross_entropy(logits, target)  # log 2
    tensor(0.6931)
"""

from __future__ import annotations

from segkit.losses._centre_lines import cl_dice
from segkit.losses._compound import combine, dice_ce, dice_focal
from segkit.losses._cross_entropy import binary_cross_entropy, cross_entropy, focal
from segkit.losses._hardest import ohem_cross_entropy
from segkit.losses._lovasz import lovasz
from segkit.losses._maps import boundary, skeleton_recall
from segkit.losses._overlap import dice, generalized_dice, jaccard, tversky
from segkit.losses._region import region_loss

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
