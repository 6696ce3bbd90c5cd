"""What is handed to `ConfusionMatrix.update`, as labels: logits, probabilities, one-hot, tensors and arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from segkit.labels import as_index_target, from_logits


def as_labels(prediction: Any, target: Any, classes: int, unlabelled: int) -> tuple[Tensor, Tensor]:
    """Labels of both, [B, *spatial], in dtypes that torch can compare.

    Args:
        prediction: as `ConfusionMatrix.update` takes it.
        target: likewise.
        classes: C.
        unlabelled: what a one-hot target's pixel becomes that is 0 in every plane.

    Raises:
        TypeError: what came is not a tensor, or not of integers.
        ValueError: shapes or devices do not belong together.
    """
    prediction, target = _tensor("prediction", prediction), _tensor("target", target)
    if prediction.device != target.device:
        raise ValueError(
            f"ConfusionMatrix.update: `target` must be where `prediction` is, on {prediction.device}, got "
            f"{target.device}. Pass target.to(prediction.device)."
        )
    shape = list(prediction.shape)
    if not prediction.is_floating_point():
        if prediction.is_complex():
            raise TypeError(f"ConfusionMatrix.update: `prediction` must be real, got {prediction.dtype}.")
        single = prediction.ndim == 2 and target.shape == prediction.shape  # [H, W]: one image
        if single or prediction.ndim == 0:
            prediction, target = prediction[None], target[None]
        like = prediction[:, None].expand(-1, classes, *prediction.shape[1:])
        return _plain(prediction), _plain(as_index_target(target, like, ignore_index=unlabelled))
    if shape[:1] == [classes] and shape[1:] == list(target.shape) and target.ndim >= 2:
        prediction, target = prediction[None], target[None]  # [C, H, W] beside [H, W]
    elif len(shape) < 2 or shape[1] != classes:
        one = " One logit per pixel means two classes: pass logits[:, 0] > 0." if shape[1:2] == [1] else ""
        raise ValueError(
            f"ConfusionMatrix.update: `prediction` must be logits [B, {classes}, *spatial] or integer labels, got "
            f"{prediction.dtype} {shape}.{one} Labels that are floats: pass prediction.to(torch.uint8)."
        )
    truth = as_index_target(target, prediction, ignore_index=unlabelled)
    return from_logits(prediction), _plain(truth)


def _tensor(name: str, value: Any) -> Tensor:
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.ascontiguousarray(value.astype(value.dtype.newbyteorder("="), copy=False)))
    if not isinstance(value, Tensor):
        hint = "Pass the output that counts, for instance out['out'] or out[0]." if name == "prediction" else ""
        raise TypeError(
            f"ConfusionMatrix.update: `{name}` must be a tensor or a NumPy array, got {type(value).__name__}. {hint}"
        )
    return value.detach().as_subclass(Tensor)  # of MONAI, of torchvision: counted as what they hold


def _plain(labels: Tensor) -> Tensor:
    """In a dtype that torch can compare."""
    if labels.dtype == torch.bool:
        return labels.view(torch.uint8)
    if labels.dtype in (torch.uint16, torch.uint32, torch.uint64):
        return labels.to(torch.int64)
    return labels
