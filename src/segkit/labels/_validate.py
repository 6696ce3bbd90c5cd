"""Are all labels classes? What is wrong with them, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from segkit import IGNORE_INDEX
from segkit.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

Ignored = int | tuple[int, ...] | None


def validate_target(target: Tensor | np.ndarray, num_classes: int, *, ignore_index: Ignored = IGNORE_INDEX) -> None:
    """Check that every label is in [0, num_classes) or ignored. Reads all of the data: call it once, not at every step.

    Args:
        target: integers of any shape, a tensor or an array; the first axis is the sample. Or a soft target, floats of
            [B, C, *spatial], whose shares must lie in [0, 1].
        num_classes: C.
        ignore_index: the value that may lie outside, a tuple of such values, or None.

    Raises:
        DataError: a label or a share is outside, or NaN; names the values, how many pixels, the first sample and
            place, and a remedy.
        TypeError: floats that are not a soft target: their second axis is not C.

    Example:
        >>> validate_target(np.array([[0, 1, 255]]), num_classes=2)
        >>> try:
        ...     validate_target(np.array([[0, 1, 2]]), num_classes=2)
        ... except ValueError as error:
        ...     print(str(error)[:70])
        validate_target: every label must be in [0, 2) or 255 (ignored), got [
    """
    array = target if isinstance(target, np.ndarray) else _as_array(target)
    if array.dtype.kind == "f" and array.ndim > 1 and array.shape[1] == num_classes:
        _check_shares(array)
        return
    if array.dtype.kind not in "iub":
        raise TypeError(
            f"validate_target: `target` must be of an integer dtype, or a soft target [B, {num_classes}, *spatial], "
            f"got {array.dtype} {list(array.shape)}. If the values are whole numbers, pass target.to(torch.uint8)."
        )
    ignored = np.array([] if ignore_index is None else ignore_index, ndmin=1)
    values, counts = np.unique(array, return_counts=True)
    outside = ((values < 0) | (values >= num_classes)) & ~np.isin(values, ignored)
    if not outside.any():
        return
    strange = values[outside]
    place = np.argwhere(np.isin(array, strange))[0].tolist()
    inside = values[~outside & ~np.isin(values, ignored)].tolist()
    allowed = "" if ignore_index is None else f" or {ignore_index} (ignored)"
    raise DataError(
        f"validate_target: every label must be in [0, {num_classes}){allowed}, got "
        f"{strange[:10].tolist()} on {int(counts[outside].sum())} pixels, first in item {place[0]} (counting from 0) "
        f"at {tuple(place[1:])}. {_label_hint(strange.tolist(), inside, num_classes)}"
    )


def _as_array(target: Tensor) -> np.ndarray:
    import torch

    target = target.detach().cpu()
    array: np.ndarray = (target.float() if target.dtype == torch.bfloat16 else target).numpy()
    return array


def _check_shares(array: np.ndarray) -> None:
    outside = ~((array >= 0) & (array <= 1))  # NaN, too
    if not outside.any():
        return
    place = np.argwhere(outside)[0].tolist()
    strange = np.unique(array[outside])[:10].tolist()
    hint = "Divide by 255, or pass (target == 255)." if float(array.max()) == 255 else "Give shares from 0 to 1."
    if set(strange) == {-1.0}:
        hint = "If -1 means unknown, say so by pixel_weights, or by the ignored label of an integer target."
    raise DataError(
        f"validate_target: every share of a soft target must be in [0, 1], got {strange} on {int(outside.sum())} "
        f"values, first in item {place[0]} (counting from 0) at {tuple(place[1:])}. {hint}"
    )


def _label_hint(strange: list[int], inside: list[int], num_classes: int) -> str:
    if strange == [num_classes] and 0 not in inside:
        return "The labels seem to start at 1: pass labels.remap(mask, {1: 0, 2: 1, ...})."
    if strange == [255] and set(inside) <= {0}:
        return "255 seems to mean foreground: pass labels.remap(mask, {0: 0, 255: 1})."
    ids = ", ".join(f"{old}: {new}" for new, old in enumerate([*inside, *strange][:8]))
    return f"Raise num_classes to {max(strange) + 1}, or close the gaps with labels.remap(mask, {{{ids}}})."
