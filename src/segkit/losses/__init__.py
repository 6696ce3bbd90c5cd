"""How wrong is the network: losses that read the logits once forward and once backward.

Every loss takes raw logits and integer labels of any dtype, leaves ignored pixels out everywhere, and sums in float32
or wider. The functions are in `segkit.losses.functional`; the modules here hold their options.

Example:
    >>> import torch
    >>> from segkit import losses
    >>> logits = torch.randn(2, 4, 32, 32, requires_grad=True)
    >>> mask = torch.randint(0, 4, (2, 32, 32), dtype=torch.uint8)
    >>> mask[:, :3] = 255
    >>> loss = losses.DiceCELoss(class_weights=[1.0, 1.0, 1.0, 5.0])(logits, mask)
    >>> loss.backward()
    >>> float(logits.grad[:, :, :3].abs().max())
    0.0
"""

from __future__ import annotations

from segkit.losses import functional
from segkit.losses._backend import backend, use_backend
from segkit.losses._deep import CompoundLoss, DeepSupervision
from segkit.losses._pixel_modules import BinaryCrossEntropyLoss, CrossEntropyLoss, FocalLoss, OHEMCrossEntropyLoss
from segkit.losses._region_modules import (
    BoundaryLoss,
    CLDiceLoss,
    DiceCELoss,
    DiceFocalLoss,
    DiceLoss,
    GeneralizedDiceLoss,
    JaccardLoss,
    LovaszLoss,
    SkeletonRecallLoss,
    TverskyLoss,
)

__all__ = [
    "BinaryCrossEntropyLoss",
    "BoundaryLoss",
    "CLDiceLoss",
    "CompoundLoss",
    "CrossEntropyLoss",
    "DeepSupervision",
    "DiceCELoss",
    "DiceFocalLoss",
    "DiceLoss",
    "FocalLoss",
    "GeneralizedDiceLoss",
    "JaccardLoss",
    "LovaszLoss",
    "OHEMCrossEntropyLoss",
    "SkeletonRecallLoss",
    "TverskyLoss",
    "backend",
    "functional",
    "use_backend",
]
