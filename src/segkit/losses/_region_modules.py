"""The losses of regions, and the compound ones, as modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from segkit import IGNORE_INDEX
from segkit.losses import functional
from segkit.losses._arguments import Mode, Reduction, Upsample, Weights
from segkit.losses._engine.reduce import Absent
from segkit.losses._module import Loss
from segkit.losses._region import Scope


class DiceLoss(Loss):
    """`functional.dice` as a module; see there for the options.

    Example:
        >>> import torch
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
        upsample: Upsample | None = None,
        scope: Scope = "image",
        classes: Sequence[int] | None = None,
        absent: Absent = "skip",
        smooth: float = 0.0,
        eps: float = 1e-07,
        power: Literal[1, 2] = 1,
        log: bool = False,
        reduction: Reduction = "mean",
        process_group: Any = None,
    ) -> None:
        super().__init__(locals())


class JaccardLoss(Loss):
    """`functional.jaccard` as a module; see there for the options.

    Example:
        >>> import torch
        >>> JaccardLoss()(torch.zeros(2, 2, 4, 4), torch.zeros(2, 4, 4, dtype=torch.uint8))  # 1 - 1/2
        tensor(0.5000)
    """

    _function = staticmethod(functional.jaccard)

    def __init__(
        self,
        *,
        mode: Mode = "multiclass",
        ignore_index: int = IGNORE_INDEX,
        class_weights: Weights | None = None,
        upsample: Upsample | None = None,
        scope: Scope = "image",
        classes: Sequence[int] | None = None,
        absent: Absent = "skip",
        smooth: float = 0.0,
        eps: float = 1e-07,
        log: bool = False,
        reduction: Reduction = "mean",
        process_group: Any = None,
    ) -> None:
        super().__init__(locals())


class TverskyLoss(Loss):
    """`functional.tversky` as a module; see there for the options.

    Example:
        >>> import torch
        >>> TverskyLoss(alpha=0.0, beta=1.0)(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.uint8))
        tensor(0.5000)
    """

    _function = staticmethod(functional.tversky)

    def __init__(
        self,
        *,
        mode: Mode = "multiclass",
        ignore_index: int = IGNORE_INDEX,
        class_weights: Weights | None = None,
        upsample: Upsample | None = None,
        scope: Scope = "image",
        classes: Sequence[int] | None = None,
        absent: Absent = "skip",
        alpha: float = 0.5,
        beta: float = 0.5,
        gamma: float = 1.0,
        smooth: float = 0.0,
        eps: float = 1e-07,
        reduction: Reduction = "mean",
        process_group: Any = None,
    ) -> None:
        super().__init__(locals())


class GeneralizedDiceLoss(Loss):
    """`functional.generalized_dice` as a module; see there for the options.

    Example:
        >>> import torch
        >>> GeneralizedDiceLoss()(torch.zeros(1, 2, 2), torch.tensor([[0, 1]]))
        tensor(0.5000)
    """

    _function = staticmethod(functional.generalized_dice)

    def __init__(
        self,
        *,
        mode: Mode = "multiclass",
        ignore_index: int = IGNORE_INDEX,
        class_weights: Weights | None = None,
        upsample: Upsample | None = None,
        scope: Scope = "image",
        classes: Sequence[int] | None = None,
        absent: Absent = "skip",
        smooth: float = 0.0,
        eps: float = 1e-07,
        reduction: Reduction = "mean",
        process_group: Any = None,
    ) -> None:
        super().__init__(locals())


class LovaszLoss(Loss):
    """`functional.lovasz` as a module; see there for the options.

    Example:
        >>> import torch
        >>> LovaszLoss()(torch.zeros(1, 2, 2), torch.tensor([[0, 1]]))
        tensor(0.5000)
    """

    _function = staticmethod(functional.lovasz)

    def __init__(
        self,
        *,
        mode: Mode = "multiclass",
        ignore_index: int = IGNORE_INDEX,
        class_weights: Weights | None = None,
        upsample: Upsample | None = None,
        scope: Scope = "batch",
        classes: Literal["present", "all"] | Sequence[int] = "present",
        exact: bool = False,
        reduction: Reduction = "mean",
        process_group: Any = None,
    ) -> None:
        super().__init__(locals())


class BoundaryLoss(Loss):
    """`functional.boundary` as a module; see there for the options.

    Example:
        >>> import torch
        >>> BoundaryLoss()(
        ...     torch.zeros(1, 2, 2), torch.tensor([[[-1.0, 3.0], [1.0, 1.0]]])
        ... )  # p = 1/2: the mean of 2/4 and 2/4
        tensor(0.5000)
    """

    _function = staticmethod(functional.boundary)

    def __init__(
        self,
        *,
        mode: Mode = "multiclass",
        class_weights: Weights | None = None,
        upsample: Upsample | None = None,
        classes: Sequence[int] | None = None,
        reduction: Reduction = "mean",
        process_group: Any = None,
    ) -> None:
        super().__init__(locals())


class CLDiceLoss(Loss):
    """`functional.cl_dice` as a module; see there for the options.

    Example:
        >>> import torch
        >>> target = torch.zeros(1, 5, 5, dtype=torch.uint8)
        >>> target[:, 2] = 1
        >>> logits = torch.stack([1.0 - target, target.float()], 1) * 50
        >>> CLDiceLoss(classes=[1])(logits, target).round(decimals=3)
        tensor(0.)
    """

    _function = staticmethod(functional.cl_dice)

    def __init__(
        self,
        *,
        mode: Mode = "multiclass",
        ignore_index: int = IGNORE_INDEX,
        class_weights: Weights | None = None,
        iterations: int = 3,
        scope: Scope = "image",
        classes: Sequence[int] | None = None,
        absent: Absent = "skip",
        smooth: float = 1.0,
        reduction: Reduction = "mean",
        process_group: Any = None,
    ) -> None:
        super().__init__(locals())


class SkeletonRecallLoss(Loss):
    """`functional.skeleton_recall` as a module; see there for the options.

    Example:
        >>> import torch
        >>> SkeletonRecallLoss(classes=[1])(torch.zeros(1, 2, 3), torch.tensor([[255, 1, 255]]))
        tensor(0.5000)
    """

    _function = staticmethod(functional.skeleton_recall)

    def __init__(
        self,
        *,
        mode: Mode = "multiclass",
        ignore_index: int = IGNORE_INDEX,
        class_weights: Weights | None = None,
        upsample: Upsample | None = None,
        scope: Scope = "image",
        classes: Sequence[int] | None = None,
        absent: Absent = "skip",
        reduction: Reduction = "mean",
        process_group: Any = None,
    ) -> None:
        super().__init__(locals())


class DiceCELoss(Loss):
    """`functional.dice_ce` as a module; see there for the options.

    Example:
        >>> import torch
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
        upsample: Upsample | None = None,
        dice_weight: float = 1.0,
        ce_weight: float = 1.0,
        label_smoothing: float = 0.0,
        scope: Scope = "image",
        classes: Sequence[int] | None = None,
        absent: Absent = "skip",
        smooth: float = 0.0,
        eps: float = 1e-07,
        power: Literal[1, 2] = 1,
        log: bool = False,
        reduction: Reduction = "mean",
        process_group: Any = None,
    ) -> None:
        super().__init__(locals())


class DiceFocalLoss(Loss):
    """`functional.dice_focal` as a module; see there for the options.

    Example:
        >>> import torch
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
        upsample: Upsample | None = None,
        dice_weight: float = 1.0,
        focal_weight: float = 1.0,
        gamma: float = 2.0,
        alpha: float | Sequence[float] | None = None,
        scope: Scope = "image",
        classes: Sequence[int] | None = None,
        absent: Absent = "skip",
        smooth: float = 0.0,
        eps: float = 1e-07,
        power: Literal[1, 2] = 1,
        log: bool = False,
        reduction: Reduction = "mean",
        process_group: Any = None,
    ) -> None:
        super().__init__(locals())
