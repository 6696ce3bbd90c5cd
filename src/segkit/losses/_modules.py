"""The losses as modules: each holds the options of the function of the same name, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from segkit import IGNORE_INDEX

from . import functional
from ._check import Mode, Reduction, Weights, choice
from ._pixel import select_hard
from ._reduce import Absent
from ._region import Scope

CHOICES: dict[str, tuple[object, ...]] = {
    "mode": ("multiclass", "binary", "multilabel"),
    "reduction": ("mean", "sum", "none"),
    "scope": ("image", "batch"),
    "absent": ("skip", "zero", "one"),
    "power": (1, 2),
}


class _Loss(nn.Module):
    """Options in, loss out. ``class_weights`` is a buffer, so ``.to(device)`` moves it; it is in no state dict."""

    _function: Callable[..., Tensor]
    class_weights: Tensor | None

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__()
        for name, value in options.items():
            if name in CHOICES:
                choice(type(self).__name__, name, value, CHOICES[name])
        weights = options.pop("class_weights", None)
        self._options = options
        table = None if weights is None else torch.as_tensor(weights, dtype=torch.float32)
        self.register_buffer("class_weights", table, persistent=False)

    def forward(self, logits: Tensor, target: Tensor, *, pixel_weights: Tensor | None = None) -> Tensor:
        """Loss of ``logits`` against ``target``; shapes as for the function."""
        return type(self)._function(
            logits, target, class_weights=self.class_weights, pixel_weights=pixel_weights, **self._options
        )

    def extra_repr(self) -> str:
        weights = None if self.class_weights is None else [round(w, 6) for w in self.class_weights.tolist()]
        return ", ".join(f"{k}={v!r}" for k, v in {**self._options, "class_weights": weights}.items())


def _given(names: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a constructor out of its locals()."""
    return {name: value for name, value in names.items() if name not in ("self", "__class__")}


class CrossEntropyLoss(_Loss):
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
        label_smoothing: float = 0.0,
        reduction: Reduction = "mean",
        process_group: Any = None,
    ) -> None:
        super().__init__(_given(locals()))


class BinaryCrossEntropyLoss(_Loss):
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
        pos_weight: float | Weights | None = None,
        reduction: Reduction = "mean",
        process_group: Any = None,
    ) -> None:
        super().__init__(_given(locals()))


class FocalLoss(_Loss):
    """`functional.focal` as a module; see there for the options.

    Example:
        >>> FocalLoss(gamma=2.0)(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.uint8))
        tensor(0.1733)
    """

    _function = staticmethod(functional.focal)

    def __init__(
        self,
        *,
        mode: Mode = "multiclass",
        ignore_index: int = IGNORE_INDEX,
        class_weights: Weights | None = None,
        gamma: float = 2.0,
        alpha: float | Sequence[float] | None = None,
        reduction: Reduction = "mean",
        process_group: Any = None,
    ) -> None:
        super().__init__(_given(locals()))


class DiceLoss(_Loss):
    """`functional.dice` as a module; see there for the options.

    Example:
        >>> DiceLoss(scope="batch")(torch.zeros(2, 2, 4, 4), torch.zeros(2, 4, 4, dtype=torch.uint8))  # 1 - 2/3
        tensor(0.3333)
    """

    _function = staticmethod(functional.dice)

    def __init__(
        self,
        *,
        mode: Mode = "multiclass",
        ignore_index: int = IGNORE_INDEX,
        class_weights: Weights | None = None,
        scope: Scope = "image",
        classes: Sequence[int] | None = None,
        absent: Absent = "skip",
        smooth: float = 0.0,
        eps: float = 1e-7,
        power: Literal[1, 2] = 1,
        log: bool = False,
        reduction: Reduction = "mean",
        process_group: Any = None,
    ) -> None:
        super().__init__(_given(locals()))


class DiceCELoss(_Loss):
    """`functional.dice_ce` as a module; see there for the options.

    Example:
        >>> DiceCELoss()(torch.zeros(1, 2, 2), torch.tensor([[0, 1]]))  # 1/2 + log 2
        tensor(1.1931)
    """

    _function = staticmethod(functional.dice_ce)

    def __init__(
        self,
        *,
        mode: Mode = "multiclass",
        ignore_index: int = IGNORE_INDEX,
        class_weights: Weights | None = None,
        dice_weight: float = 1.0,
        ce_weight: float = 1.0,
        label_smoothing: float = 0.0,
        scope: Scope = "image",
        classes: Sequence[int] | None = None,
        absent: Absent = "skip",
        smooth: float = 0.0,
        eps: float = 1e-7,
        power: Literal[1, 2] = 1,
        log: bool = False,
        reduction: Reduction = "mean",
        process_group: Any = None,
    ) -> None:
        super().__init__(_given(locals()))


class DiceFocalLoss(_Loss):
    """`functional.dice_focal` as a module; see there for the options.

    Example:
        >>> DiceFocalLoss(gamma=2.0)(torch.zeros(1, 2, 2), torch.tensor([[0, 1]]))  # 1/2 + log(2) / 4
        tensor(0.6733)
    """

    _function = staticmethod(functional.dice_focal)

    def __init__(
        self,
        *,
        mode: Mode = "multiclass",
        ignore_index: int = IGNORE_INDEX,
        class_weights: Weights | None = None,
        dice_weight: float = 1.0,
        focal_weight: float = 1.0,
        gamma: float = 2.0,
        alpha: float | Sequence[float] | None = None,
        scope: Scope = "image",
        classes: Sequence[int] | None = None,
        absent: Absent = "skip",
        smooth: float = 0.0,
        eps: float = 1e-7,
        power: Literal[1, 2] = 1,
        log: bool = False,
        reduction: Reduction = "mean",
        process_group: Any = None,
    ) -> None:
        super().__init__(_given(locals()))


class OHEMCrossEntropyLoss(_Loss):
    """`functional.ohem_cross_entropy` as a module, which also tells how many pixels it kept: ``last_kept``.

    ``last_kept`` is a tensor on the device of the logits, -1 before the first call; reading it as a number
    waits for the device.

    Example:
        >>> loss = OHEMCrossEntropyLoss(keep_ratio=0.25)
        >>> value = loss(torch.zeros(1, 2, 8, 8), torch.zeros(1, 8, 8, dtype=torch.uint8))
        >>> int(loss.last_kept)
        16
    """

    last_kept: Tensor

    def __init__(
        self,
        *,
        mode: Mode = "multiclass",
        ignore_index: int = IGNORE_INDEX,
        class_weights: Weights | None = None,
        keep_ratio: float | None = None,
        min_kept: int | None = None,
        threshold: float | None = None,
        scope: Scope = "batch",
        reduction: Reduction = "mean",
        process_group: Any = None,
    ) -> None:
        super().__init__(_given(locals()))
        self.register_buffer("last_kept", torch.tensor(-1), persistent=False)

    def forward(self, logits: Tensor, target: Tensor, *, pixel_weights: Tensor | None = None) -> Tensor:
        """Loss of ``logits`` against ``target``; shapes as for the function."""
        loss, kept = select_hard(
            type(self).__name__,
            logits,
            target,
            class_weights=self.class_weights,
            pixel_weights=pixel_weights,
            **self._options,
        )
        self.last_kept = kept
        return loss
