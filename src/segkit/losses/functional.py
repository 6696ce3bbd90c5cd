"""The losses as functions of logits and target.

Example:
    >>> import torch
    >>> from segkit.losses import functional as L
    >>> logits, target = torch.zeros(1, 2, 8, 8), torch.zeros(1, 8, 8, dtype=torch.uint8)
    >>> L.cross_entropy(logits, target)  # log 2
    tensor(0.6931)
"""
# mypy: implicit-reexport

from __future__ import annotations

from segkit.losses._centre_lines import *
from segkit.losses._components import *
from segkit.losses._compound import *
from segkit.losses._cross_entropy import *
from segkit.losses._dice_and import *
from segkit.losses._hardest import *
from segkit.losses._lovasz import *
from segkit.losses._maps import *
from segkit.losses._overlap import *
from segkit.losses._region import *

# Each file lists its functions and modules; functions have small letters.
__all__ = [name for name in sorted(globals()) if name.islower() and name[0] != "_" and name != "annotations"]
