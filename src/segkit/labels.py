"""Which class is this pixel: index masks, colour masks and one-hot masks, turned into each other.

An *index mask* holds one integer per pixel, the class, or ``IGNORE_INDEX`` (255) for a pixel that counts nowhere. Any
integer dtype will do and small ones stay small: nothing here turns uint8 into int64.

NumPy arrays come from files and stay NumPy; the functions with ``target`` in their signature take tensors.

Example:
    >>> import numpy as np
    >>> from segkit import labels
    >>> rgb = np.array([[[0, 0, 255], [255, 0, 0]]], dtype=np.uint8)
    >>> labels.colors_to_index(rgb, {(0, 0, 255): 0, (255, 0, 0): 1})
    array([[0, 1]], dtype=uint8)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np

from segkit import IGNORE_INDEX
from segkit.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "as_index_target",
    "colors_to_index",
    "from_logits",
    "from_one_hot",
    "index_to_colors",
    "one_hot",
    "remap",
    "validate_target",
]

Color = tuple[int, int, int]
Ignored = int | tuple[int, ...] | None


def colors_to_index(
    rgb: np.ndarray, colors: Mapping[Color, int], *, unknown: Literal["error"] | int = "error"
) -> np.ndarray:
    """Turn a colour-coded mask into class indices, exactly: no nearest colour, no tolerance.

    Args:
        rgb: [H, W, 3], uint8 or uint16, red first.
        colors: (r, g, b) -> index. Several colours may share an index.
        unknown: the index of any other colour, or ``"error"`` to refuse it.

    Returns:
        [H, W], the smallest of uint8, uint16, int32 and int64 that holds all indices.

    Raises:
        DataError: a colour is not in ``colors``; names the commonest, how often and where first.
        ValueError: the array is not [H, W, 3], or ``colors`` is empty.

    Example:
        >>> rgb = np.array([[[0, 0, 255], [9, 9, 9]]], dtype=np.uint8)
        >>> colors_to_index(rgb, {(0, 0, 255): 4}, unknown=255)
        array([[  4, 255]], dtype=uint8)
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype.kind != "u":
        raise ValueError(
            f"colors_to_index: `rgb` must be an unsigned integer array [H, W, 3], got {rgb.dtype} {list(rgb.shape)}. "
            "If it has an alpha channel, pass rgb[..., :3]."
        )
    _check_colors("colors_to_index", colors)
    known = np.array(sorted(_pack(np.array(list(colors), dtype=np.int64))))
    index_of = {int(_pack(np.array(color, dtype=np.int64))): index for color, index in colors.items()}
    other = -1 if unknown == "error" else int(unknown)
    values = np.array([*(index_of[code] for code in known.tolist()), other], dtype=np.int64)

    slot = _places(rgb, known)  # of a colour among the known ones; of others the last slot of `values`
    missing = slot == len(known)
    if unknown == "error" and missing.any():
        strange, counts = np.unique(rgb[missing], axis=0, return_counts=True)
        commonest = tuple(strange[counts.argmax()].tolist())
        row, column = np.argwhere(missing)[0].tolist()
        raise DataError(
            f"colors_to_index: every colour must be in `colors`, got {len(strange)} other(s) on {int(missing.sum())} "
            f"pixels, the commonest {commonest}, the first at row {row}, column {column}. "
            "Add it to `colors`, or pass unknown=255 to ignore such pixels."
        )
    return values.astype(_smallest_dtype(values[:-1] if unknown == "error" else values))[slot]


def index_to_colors(mask: np.ndarray, colors: Mapping[Color, int]) -> np.ndarray:
    """Paint class indices in their colours: the inverse of `colors_to_index`.

    Args:
        mask: [H, W], any integer dtype.
        colors: (r, g, b) in [0, 256) -> index, as for `colors_to_index`. Of several colours with one index, the first.

    Returns:
        [H, W, 3] uint8, red first.

    Raises:
        DataError: an index has no colour.

    Example:
        >>> index_to_colors(np.array([[1, 0]]), {(0, 0, 0): 0, (255, 0, 0): 1}).tolist()
        [[[255, 0, 0], [0, 0, 0]]]
    """
    _check_mask("index_to_colors", mask)
    _check_colors("index_to_colors", colors)
    color_of: dict[int, Color] = {}
    for color, index in colors.items():
        color_of.setdefault(index, color)
    if mask.dtype in (np.uint8, np.uint16):  # counted and looked up, not sorted
        place, present = mask, np.flatnonzero(np.bincount(mask.ravel()))
        row = present
    else:
        present, inverse = np.unique(mask, return_inverse=True)
        place, row = inverse.reshape(mask.shape), np.arange(len(present))
    without = [index for index in present.tolist() if index not in color_of]
    if without:
        raise DataError(
            f"index_to_colors: every index must have a colour in `colors`, got {without} without. "
            f"Add it, for instance (255, 255, 255): {without[0]}."
        )
    palette = np.zeros((int(row.max(initial=0)) + 1, 3), dtype=np.uint8)
    palette[row] = np.array([color_of[index] for index in present.tolist()], dtype=np.uint8).reshape(-1, 3)
    return palette.take(place, axis=0)


def remap(
    mask: np.ndarray, mapping: Mapping[int, int], *, unmapped: Literal["error", "keep"] | int = "error"
) -> np.ndarray:
    """Give classes other indices: close gaps, merge classes, or send some to `IGNORE_INDEX`.

    All changes happen at once, so ``{0: 1, 1: 0}`` swaps.

    Args:
        mask: any shape, any integer dtype.
        mapping: old index -> new index.
        unmapped: what happens to an index that ``mapping`` does not name: ``"error"``, ``"keep"``, or a new index.

    Returns:
        The same shape; the dtype of ``mask`` if it holds the new indices, else the smallest that does.

    Raises:
        DataError: an index is not in ``mapping`` and ``unmapped`` is ``"error"``.

    Example:
        >>> remap(np.array([[0, 3, 7]], dtype=np.uint8), {3: 0, 7: 1}, unmapped=255)
        array([[255,   0,   1]], dtype=uint8)
    """
    _check_mask("remap", mask, axes=None)
    if isinstance(unmapped, str) and unmapped not in ("error", "keep"):
        raise ValueError(f"remap: `unmapped` must be 'error', 'keep' or an index, got {unmapped!r}.")
    if mask.dtype == np.bool_:
        mask = mask.view(np.uint8)
    # The dtype follows the mapping, not the picture, so that every mask of a set gets the same one.
    targets = np.array([*mapping.values()] + ([] if isinstance(unmapped, str) else [unmapped]), dtype=np.int64)
    info = np.iinfo(mask.dtype)
    fits = targets.size == 0 or (targets.min() >= info.min and targets.max() <= info.max)
    dtype = mask.dtype
    if not fits:
        dtype = np.dtype(_smallest_dtype(targets))
        if unmapped == "keep" and mask.size:
            dtype = np.dtype(_smallest_dtype(np.array([*targets, mask.min(), mask.max()], dtype=np.int64)))
    table = _table(mask, mapping, unmapped, dtype)
    if table is None:
        return _remap_by_values(mask, mapping, unmapped, dtype)
    values, low, hole = table
    found = values.take(mask if low == 0 else np.subtract(mask, low, dtype=np.int64))
    if hole is not None and (found == hole).any():
        strange = np.unique(mask[found == hole]).tolist()
        missing = [index for index in strange if index not in mapping]
        if missing:
            raise DataError(_unnamed(missing, mapping))
    return found


def _table(
    mask: np.ndarray, mapping: Mapping[int, int], unmapped: str | int, dtype: np.dtype
) -> tuple[np.ndarray, int, int | None] | None:
    """The new index of each old one from the lowest up, the lowest, and what marks an unnamed one; None: too many.

    A table is looked up in a fifteenth of the time that sorting the pixels takes.
    """
    if mask.dtype.itemsize <= 2 and mask.dtype.kind == "u":
        low, high = 0, int(np.iinfo(mask.dtype).max)
    else:
        low, high = (int(mask.min()), int(mask.max())) if mask.size else (0, 0)
        low = 0 if low >= 0 and high < 1 << 16 else low
        if high - low >= 1 << 16:
            return None
    hole = None
    if unmapped == "keep":
        values = np.arange(low, high + 1, dtype=np.int64)
    elif unmapped == "error":
        used = {int(new) for old, new in mapping.items() if low <= old <= high}
        # Any value that stands for nothing else marks what was not named; where all are taken, nothing is unnamed.
        hole = next((v for v in range(int(np.iinfo(dtype).max), -1, -1) if v not in used), 0)
        values = np.full(high - low + 1, hole, dtype=np.int64)
    else:
        values = np.full(high - low + 1, int(unmapped), dtype=np.int64)
    for old, new in mapping.items():
        if low <= old <= high:
            values[old - low] = new
    return values.astype(dtype), low, hole


def _remap_by_values(mask: np.ndarray, mapping: Mapping[int, int], unmapped: str | int, dtype: np.dtype) -> np.ndarray:
    """`remap` of indices that lie too far apart for a table."""
    present, inverse = np.unique(mask, return_inverse=True)
    old = present.tolist()
    missing = [index for index in old if index not in mapping]
    if missing and unmapped == "error":
        raise DataError(_unnamed(missing, mapping))
    new = [mapping.get(index, index if isinstance(unmapped, str) else int(unmapped)) for index in old]
    return np.array(new, dtype=np.int64).astype(dtype)[inverse.reshape(mask.shape)]


def _unnamed(missing: list[int], mapping: Mapping[int, int]) -> str:
    return (
        f"remap: `mapping` must name every index of the mask, got {missing[:20]} besides {sorted(mapping)}. "
        "Add them, or pass unmapped='keep' or unmapped=255."
    )


def one_hot(target: Tensor, num_classes: int, ignore_index: int = IGNORE_INDEX) -> Tensor:
    """One plane per class. No loss of segkit needs this; it is for code that does.

    Args:
        target: [B, *spatial], integers in [0, num_classes) or ``ignore_index``.
        num_classes: C.
        ignore_index: its pixels are 0 in every plane.

    Returns:
        [B, C, *spatial] uint8.

    Raises:
        DataError: a value is outside [0, C) and not ``ignore_index``.

    Example:
        >>> import torch
        >>> one_hot(torch.tensor([[0, 1, 255]]), 2)
        tensor([[[1, 0, 0],
                 [0, 1, 0]]], dtype=torch.uint8)
    """
    import torch

    validate_target(target, num_classes, ignore_index=ignore_index)
    classes = torch.arange(num_classes, device=target.device).view(1, -1, *[1] * (target.ndim - 1))
    # A class number that is itself ignored (ignore_index=0 is common) has an empty plane, too.
    wide = target.to(torch.int64)[:, None]
    return ((wide == classes) & (wide != ignore_index)).to(torch.uint8)


def from_one_hot(x: Tensor, ignore_index: int = IGNORE_INDEX) -> Tensor:
    """Class indices from one plane per class: the inverse of `one_hot`.

    Args:
        x: [B, C, *spatial], any dtype, 0 or 1, at most one 1 per pixel.
        ignore_index: what a pixel becomes that is 0 in every plane.

    Returns:
        [B, *spatial]; uint8 if the values fit, else int32.

    Raises:
        DataError: a value is neither 0 nor 1, or a pixel has two classes.

    Example:
        >>> import torch
        >>> from_one_hot(torch.tensor([[[1, 0, 0], [0, 1, 0]]]))
        tensor([[  0,   1, 255]], dtype=torch.uint8)
    """
    if x.ndim < 2:
        raise ValueError(f"from_one_hot: `x` must be [B, C, *spatial], got {list(x.shape)}.")
    if x.numel() and not bool(((x == 0) | (x == 1)).all()):
        raise DataError(
            "from_one_hot: `x` must hold only 0 and 1, got other values. "
            "For probabilities take x.argmax(1); for colours use labels.colors_to_index."
        )
    if bool(((x == 1).sum(1) > 1).any()):
        raise DataError("from_one_hot: a pixel must have at most one class, got two. Use a multilabel loss with it.")
    return _pick_class(x, ignore_index)


def from_logits(logits: Tensor, *, axis: int = 1) -> Tensor:
    """The class of each pixel: `logits.argmax(axis)` in a small dtype, about ten times as fast on the CPU.

    Args:
        logits: [B, C, *spatial], floating point; with ``axis=0`` [C, *spatial]. Probabilities give the same classes.
        axis: where the classes are.

    Returns:
        The shape of ``logits`` without ``axis``: uint8 for up to 256 classes, int16 or int32 for more. As with
        `torch.argmax`, the first of equal classes wins, and a NaN wins over every number.

    Raises:
        TypeError: the logits are not floating point.
        ValueError: there is no such axis, or it is empty.

    Example:
        >>> import torch
        >>> from_logits(torch.tensor([[[0.1, 3.0], [0.7, 2.0]]]))
        tensor([[1, 0]], dtype=torch.uint8)
    """
    import torch

    if not logits.is_floating_point():
        raise TypeError(
            f"from_logits: `logits` must be floating point, got {logits.dtype}. These may be labels already."
        )
    if not -logits.ndim <= axis < logits.ndim or logits.shape[axis] == 0:
        raise ValueError(f"from_logits: `axis` must be one of classes in {list(logits.shape)}, got {axis}.")
    classes = logits.shape[axis]
    dtype = torch.uint8 if classes <= 2**8 else torch.int16 if classes <= 2**15 else torch.int32
    logits = logits.detach().movedim(axis, 0)
    if logits.device.type != "cpu" or classes > 2**8 or logits.stride(0) == 1 or logits.ndim < 2:
        return logits.argmax(0).to(dtype)
    # torch.argmax walks along a strided axis pixel by pixel. Here whole planes are compared, in blocks that stay in the
    # cache; a later class takes a pixel only if it is larger, so that its number is the maximum of those that did.
    found = torch.empty(logits.shape[1:], dtype=dtype)
    for planes, out in _blocks(logits, found, 2**18):
        best, taken = planes[0].clone(), torch.zeros_like(planes[0], dtype=torch.bool)
        number = torch.zeros_like(taken, dtype=torch.uint8)
        out.zero_()
        for index in range(1, classes):
            torch.gt(planes[index], best, out=taken)
            torch.maximum(best, planes[index], out=best)
            torch.mul(taken.view(torch.uint8), index, out=number)
            torch.maximum(out, number, out=out)
        if bool(best.amax().isnan()):  # torch.maximum hands it on
            out.copy_(planes.argmax(0))
    return found


def _blocks(planes: Tensor, found: Tensor, pixels: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Views of [C, *rest] and [*rest] side by side, of about so many pixels each, none empty."""
    if found.numel() <= pixels or found.ndim == 0:
        if found.numel():
            yield planes, found
        return
    step = max(1, pixels * found.shape[0] // found.numel())
    for start in range(0, found.shape[0], step):
        part = slice(start, start + step)
        if step == 1 and found.ndim > 1:
            yield from _blocks(planes[:, start], found[start], pixels)
        else:
            yield planes[:, part], found[part]


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
        return _pick_class(planes, ignore_index)
    raise ValueError(
        f"as_index_target: `target` must be [B, *spatial] = {[batch, *spatial]} for `logits` {list(logits.shape)}, got "
        f"{shape}. {_shape_hint(shape, batch, spatial)}"
    )


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
        TypeError: floats that are no soft target: their second axis is not C.

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


def _shape_hint(shape: list[int], batch: int, spatial: list[int]) -> str:
    if len(shape) > 1 and shape[0] == batch and sorted(shape[1:]) == sorted(spatial):
        return "Height and width seem to be swapped: transpose the target."
    if len(shape) == len(spatial) + 2:
        return "For one-hot targets the number of planes must be that of the logits; for colours see colors_to_index."
    return "Resize the logits to the target, or pass upsample='bilinear' to the loss if they are coarser by design."


def _pick_class(x: Tensor, ignore_index: Ignored) -> Tensor:
    """[B, C, *spatial] of 0 and 1 → [B, *spatial]; nowhere 1 → ignore_index."""
    import torch

    planes = x if x.dtype != torch.bool else x.to(torch.uint8)
    best, index = planes.max(1)
    filling = ignore_index[0] if isinstance(ignore_index, tuple) else ignore_index
    small = x.shape[1] <= 256 and (filling is None or 0 <= filling < 256)
    found = index if filling is None else index.masked_fill(best == 0, filling)
    return found.to(torch.uint8 if small else torch.int32)


def _places(rgb: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Where each pixel's colour stands among the sorted codes of `known`; ``len(known)`` where it does not."""
    if rgb.dtype == np.uint8 and rgb.size > 1 << 18:  # a table of all colours pays from a quarter of a megapixel on
        codes = (rgb[..., 0].astype(np.intp) << 16) | (rgb[..., 1].astype(np.intp) << 8) | rgb[..., 2]
        table = np.full(1 << 24, len(known), np.uint8 if len(known) < 256 else np.uint16)
        inside = (known >> 32) < 256, (known >> 16 & 0xFFFF) < 256, (known & 0xFFFF) < 256
        able = np.flatnonzero(np.logical_and.reduce(inside))
        bytes_of = known[able]
        table[(bytes_of >> 32) << 16 | (bytes_of >> 16 & 0xFF) << 8 | (bytes_of & 0xFF)] = able
        return table.take(codes)
    codes = _pack(rgb)
    slot = np.searchsorted(known, codes).clip(max=len(known) - 1)
    slot[known[slot] != codes] = len(known)
    return slot


def _pack(rgb: np.ndarray) -> np.ndarray:
    """The last axis of three channels as one number; 16 bits a channel."""
    wide = rgb.astype(np.int64)
    return (wide[..., 0] << 32) | (wide[..., 1] << 16) | wide[..., 2]


def _smallest_dtype(values: np.ndarray) -> type[np.generic]:
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    if low >= 0 and high < 2**16:
        return np.uint8 if high < 2**8 else np.uint16
    return np.int32 if low >= -(2**31) and high < 2**31 else np.int64


def _check_mask(function: str, mask: np.ndarray, axes: int | None = 2) -> None:
    if not isinstance(mask, np.ndarray) or mask.dtype.kind not in "iub":
        kind = getattr(mask, "dtype", type(mask).__name__)
        raise TypeError(f"{function}: `mask` must be a NumPy array of an integer dtype, got {kind}.")
    if axes is not None and mask.ndim != axes:
        raise ValueError(f"{function}: `mask` must be [H, W], got {list(mask.shape)}. Drop other axes of length 1.")


def _check_colors(function: str, colors: Mapping[Color, int]) -> None:
    bad = [color for color in colors if not (isinstance(color, tuple) and len(color) == 3)]
    if bad or not colors:
        raise ValueError(
            f"{function}: `colors` must map (r, g, b) to an index, got {bad[0]!r} as a key."
            if bad
            else f"{function}: `colors` must name at least one colour, got none."
        )
