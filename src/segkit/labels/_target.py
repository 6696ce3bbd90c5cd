"""A target of any shape that loaders hand out, as indices [B, *spatial]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segkit import IGNORE_INDEX
from segkit.labels._one_hot import pick_class
from segkit.labels._validate import Ignored

if TYPE_CHECKING:
    from torch import Tensor


def as_index_target(target: Tensor, logits: Tensor, *, ignore_index: Ignored = IGNORE_INDEX) -> Tensor:
    """Bring a target to [B, *spatial], from any of the shapes that loaders hand out.

    Only shapes decide; for values see `validate_target`. Taken as they are: [B, *spatial]. Squeezed: [B, 1, *spatial]
    and [B, *spatial, 1]. One-hot: [B, C, *spatial] and [B, *spatial, C], where a pixel that is 0 in every plane is
    ignored; on the CPU, where reading costs no synchronisation, larger values (a colour mask, say) are refused.

    Args:
        target: integers or bool, in one of these shapes. uint8 stays uint8.
        logits: [B, C, *spatial]; only its shape is used.
        ignore_index: the index that an all-zero one-hot pixel gets; of a tuple the first. With None such a pixel is
            refused, on the CPU.

    Returns:
        [B, *spatial], a plain tensor: a view of ``target`` unless it was one-hot, bool, uint16 (which becomes int32),
        uint32 or uint64 (int64).

    Raises:
        ValueError: the shapes do not belong together, or could be read in two ways.
        TypeError: a float target, which is either a soft target or a mistake.

    Example:
        >>> import torch
        >>> target = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
        >>> as_index_target(target, torch.zeros(2, 5, 8, 8)).shape
        torch.Size([2, 8, 8])
    """
    import torch

    if target.is_floating_point() or target.is_complex():
        raise TypeError(
            f"as_index_target: `target` must hold integer class indices, got {target.dtype} {list(target.shape)}. "
            "If the values are whole numbers, pass target.to(torch.uint8); a soft target is [B, C, *spatial] floats."
        )
    compiling = torch.compiler.is_compiling()  # a compiler sees plain tensors anyway
    if not compiling and type(target).__torch_dispatch__ is torch.Tensor.__torch_dispatch__:
        target = target.as_subclass(torch.Tensor)  # what MONAI and tv_tensors add to one would spread to the loss
    # torch has few operators for the wide unsigned ones
    kind = {torch.bool: torch.uint8, torch.uint16: torch.int32, torch.uint32: torch.int64, torch.uint64: torch.int64}
    target = target.to(kind.get(target.dtype, target.dtype))
    batch, classes, *spatial = logits.shape
    shape = list(target.shape)
    if shape == [batch, *spatial]:
        return target
    if shape == [batch, 1, *spatial]:
        return target.squeeze(1)
    if shape == [batch, *spatial, 1]:
        return target.squeeze(-1)
    first, last = shape == [batch, classes, *spatial], shape == [batch, *spatial, classes]
    if first and last and classes > 1 and spatial:  # without spatial axes, [B, C], both are the same axis
        raise ValueError(
            f"as_index_target: `target` {shape} could be one-hot with classes first or last, beside `logits` "
            f"{list(logits.shape)}. Pass class indices {[batch, *spatial]}: target.argmax(1) or target.argmax(-1)."
        )
    if first or last:
        readable = target.device.type == "cpu" and not compiling
        if readable and target.numel() and int(target.max()) > 1:
            raise ValueError(
                f"as_index_target: a `target` of shape {shape} must be one-hot beside `logits` {list(logits.shape)}, "
                f"got values up to {int(target.max())}. If these are colours, use labels.colors_to_index."
            )
        planes = target if first else target.movedim(-1, 1)
        if ignore_index is None and readable and bool((planes == 0).all(1).any()):
            raise ValueError(
                "as_index_target: every pixel of a one-hot `target` must have a class where `ignore_index` is None, "
                "got one that is 0 in every plane. Pass ignore_index=255 to leave such pixels out."
            )
        return pick_class(planes, ignore_index)
    raise ValueError(
        f"as_index_target: `target` must be [B, *spatial] = {[batch, *spatial]} for `logits` {list(logits.shape)}, got "
        f"{shape}. {_shape_hint(shape, batch, spatial)}"
    )


def _shape_hint(shape: list[int], batch: int, spatial: list[int]) -> str:
    if len(shape) > 1 and shape[0] == batch and sorted(shape[1:]) == sorted(spatial):
        return "Height and width seem to be swapped: transpose the target."
    if len(shape) == len(spatial) + 2:
        return "For one-hot targets the number of planes must be that of the logits; for colours see colors_to_index."
    return "Resize the logits to the target, or pass upsample='bilinear' to the loss if they are coarser by design."
