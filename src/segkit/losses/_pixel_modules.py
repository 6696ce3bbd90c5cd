"""The losses of pixels as modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from segkit import IGNORE_INDEX
from segkit.losses import functional
from segkit.losses._arguments import Mode, Reduction, Upsample, Weights, choice, flatten
from segkit.losses._hardest import hardest
from segkit.losses._module import Loss


class CrossEntropyLoss(Loss):
    """`functional.cross_entropy` as a module; see there for the options.

    Example:
        >>> loss = CrossEntropyLoss(class_weights=[1.0, 2.0])
        >>> loss(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.uint8))
        tensor(0.6931)
    """

    _function = staticmethod(functional.cross_entropy)

    def __init__(
        self,
        *,
        mode: Mode = "multiclass",
        ignore_index: int = IGNORE_INDEX,
        class_weights: Weights | None = None,
        upsample: Upsample | None = None,
        label_smoothing: float = 0.0,
        reduction: Reduction = "mean",
        process_group: Any = None,
    ) -> None:
        super().__init__(locals())


class BinaryCrossEntropyLoss(Loss):
    """`functional.binary_cross_entropy` as a module; see there for the options.

    Example:
        >>> BinaryCrossEntropyLoss(pos_weight=2.0)(torch.zeros(1, 4), torch.tensor([[1, 1, 0, 255]]))  # 5/3 log 2
        tensor(1.1552)
    """

    _function = staticmethod(functional.binary_cross_entropy)

    def __init__(
        self,
        *,
        mode: Mode = "binary",
        ignore_index: int = IGNORE_INDEX,
        class_weights: Weights | None = None,
        upsample: Upsample | None = None,
        pos_weight: float | Weights | None = None,
        reduction: Reduction = "mean",
        process_group: Any = None,
    ) -> None:
        super().__init__(locals())


class FocalLoss(Loss):
    """`functional.focal` as a module; see there for the options.

    Example:
        >>> FocalLoss(gamma=2.0)(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.uint8))  # log(2) / 4
        tensor(0.1733)
    """

    _function = staticmethod(functional.focal)

    def __init__(
        self,
        *,
        mode: Mode = "multiclass",
        ignore_index: int = IGNORE_INDEX,
        class_weights: Weights | None = None,
        upsample: Upsample | None = None,
        gamma: float = 2.0,
        alpha: float | Sequence[float] | None = None,
        reduction: Reduction = "mean",
        process_group: Any = None,
    ) -> None:
        super().__init__(locals())


class OHEMCrossEntropyLoss(Loss):
    """`functional.ohem_cross_entropy` as a module, which also tells how many pixels it kept: ``last_kept``.

    ``last_kept`` is a tensor on the device of the logits, -1 before the first call; reading it as a number waits for
    the device.

    Example:
        >>> loss = OHEMCrossEntropyLoss(keep_ratio=0.25)
        >>> value = loss(torch.zeros(1, 2, 8, 8), torch.zeros(1, 8, 8, dtype=torch.uint8))
        >>> int(loss.last_kept)
        16
    """

    _function = staticmethod(functional.ohem_cross_entropy)
    last_kept: Tensor

    def __init__(
        self,
        *,
        mode: Mode = "multiclass",
        ignore_index: int = IGNORE_INDEX,
        class_weights: Weights | None = None,
        upsample: Upsample | None = None,
        keep_ratio: float | None = None,
        min_kept: int | None = None,
        threshold: float | None = None,
        scope: str = "batch",
        reduction: Reduction = "mean",
        process_group: Any = None,
    ) -> None:
        super().__init__(locals())
        self.register_buffer("last_kept", torch.tensor(-1), persistent=False)

    def call(self, logits: Tensor, target: Tensor, pixel_weights: Tensor | None, options: dict[str, Any]) -> Tensor:
        """The function, with the options of one call; keeps the number of pixels."""
        name, options = type(self).__name__, dict(options)
        mode, upsample = options.pop("mode"), options.pop("upsample")
        choice(name, "mode", mode, ("multiclass", "binary"))
        weights = self.class_weights
        flat = flatten(name, logits, target, mode, options["ignore_index"], weights, pixel_weights, upsample)
        loss, self.last_kept = hardest(name, flat, **options)
        return loss
