"""How wrong the network is: losses that read the logits once forward and once backward.

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
# mypy: implicit-reexport

from __future__ import annotations

from segkit.losses import functional  # noqa: F401  a name of __all__
from segkit.losses._backend import *
from segkit.losses._centre_lines import *
from segkit.losses._components import *
from segkit.losses._compound import *
from segkit.losses._cross_entropy import *
from segkit.losses._deep import *
from segkit.losses._dice_and import *
from segkit.losses._hardest import *
from segkit.losses._lovasz import *
from segkit.losses._maps import *
from segkit.losses._overlap import *

# Each file lists its functions and modules; modules have a capital letter.
__all__ = [name for name in sorted(globals()) if name[0].isupper() or name in ("backend", "functional", "use_backend")]
