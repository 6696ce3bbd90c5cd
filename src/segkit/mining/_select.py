"""Which pixels or samples are the hardest: the one place where selection lives."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from segkit._triton import interpreting, triton_runs

SCOPES = ("batch", "image")
SAMPLE = 2**12  # losses that the CPU looks at to narrow a search


def hard_mask(
    losses: Tensor,
    *,
    keep_ratio: float | None = None,
    min_kept: int | None = None,
    threshold: float | None = None,
    scope: str = "batch",
    valid: Tensor | None = None,
) -> Tensor:
    """Mark the hardest pixels or samples: the ones with the largest losses, and exactly as many as asked for.

    Each of the three options asks for a number of the hardest; of several the largest number counts. It never goes
    beyond the valid ones. Where losses are equal the first in memory order are taken, so the count is exact and two
    runs agree. The threshold is found by selection, in linear time, without a sort. On an accelerator nothing is
    copied to the host.

    Args:
        losses: any floating dtype, any shape with at least one axis: pixels `[B, *spatial]` or samples `[B]`. NaN
            counts as infinitely hard, so that a network that has diverged shows in the loss instead of hiding.
        keep_ratio: the share of the valid ones to keep, in [0, 1]; rounded up, so one valid pixel gives at least one.
        min_kept: how many to keep at least, per batch or per image as `scope` says.
        threshold: keep all whose loss is above this.
        scope: "batch" selects among all, "image" within each item of the first axis.
        valid: bool, shape of `losses`; False is never kept and never counted. None: all are valid.

    Returns:
        bool, shape and device of `losses`. It carries no gradient: multiply or index with it.

    Raises:
        ValueError: no option is given, one is out of its range, or the shapes differ.
        TypeError: `losses` is not a floating tensor or `valid` not a bool tensor.

    Example:
        Train on the worse half of the pixels that count:

        >>> losses = torch.tensor([[0.1, 2.0, 0.5, 9.0, 0.7]])
        >>> valid = torch.tensor([[True, True, True, False, True]])  # the fourth pixel is ignored
        >>> hard_mask(losses, keep_ratio=0.5, valid=valid)
        tensor([[False,  True, False, False,  True]])

        All above a threshold, yet at least three:

        >>> hard_mask(losses, threshold=1.0, min_kept=3, valid=valid).sum()
        tensor(3)

    Source: Shrivastava et al. 2016 (OHEM). There a fixed number of regions is kept; the threshold with a minimum is
    the form that segmentation uses. We resolve ties, so that the number is kept exactly.
    """
    _check(losses, keep_ratio, min_kept, threshold, scope, valid)
    rows = losses.shape[0] if scope == "image" else 1
    flat = losses.detach().reshape(rows, losses[0].numel() if rows and scope == "image" else losses.numel())
    counted = None if valid is None else valid.reshape(flat.shape)
    # The operator's dispatch takes as long as the selection among a few thousand.
    direct = flat.device.type == "cpu" and type(flat) is Tensor and not torch.compiler.is_compiling()
    direct = direct and not (_get_current_dispatch_mode() or torch._C._are_functorch_transforms_active())
    select = _on_the_cpu if direct else _hardest
    return select(flat, counted, keep_ratio, min_kept, threshold).reshape(losses.shape)


def _check(
    losses: Tensor,
    keep_ratio: float | None,
    min_kept: int | None,
    threshold: float | None,
    scope: str,
    valid: Tensor | None,
) -> None:
    if not isinstance(losses, Tensor) or not losses.is_floating_point():
        got = losses.dtype if isinstance(losses, Tensor) else type(losses).__name__
        raise TypeError(f"hard_mask: `losses` must be a floating tensor, got {got}. Pass one loss per pixel or sample.")
    if losses.ndim == 0:
        raise ValueError(
            "hard_mask: `losses` must have at least one axis, got a single number. "
            "Compute the loss with reduction='none'."
        )
    if keep_ratio is None and min_kept is None and threshold is None:
        raise ValueError("hard_mask: `keep_ratio`, `min_kept` or `threshold` must be given, got none of them.")
    if keep_ratio is not None and not 0 <= keep_ratio <= 1:
        raise ValueError(
            f"hard_mask: `keep_ratio` must lie in [0, 1], got {keep_ratio}. It is a share, not a percentage."
        )
    if min_kept is not None and (not isinstance(min_kept, int) or isinstance(min_kept, bool) or min_kept < 0):
        raise ValueError(f"hard_mask: `min_kept` must be a whole number of at least 0, got {min_kept!r}.")
    if threshold is not None and threshold != threshold:
        raise ValueError("hard_mask: `threshold` must be a number, got nan.")
    if scope not in SCOPES:
        raise ValueError(f"hard_mask: `scope` must be one of {', '.join(SCOPES)}, got {scope!r}.")
    if valid is None:
        return
    if not isinstance(valid, Tensor) or valid.dtype != torch.bool:
        got = valid.dtype if isinstance(valid, Tensor) else type(valid).__name__
        raise TypeError(f"hard_mask: `valid` must be a bool tensor, got {got}. Write target != ignore_index.")
    if valid.shape != losses.shape:
        raise ValueError(
            f"hard_mask: `valid` must have the shape of `losses` {tuple(losses.shape)}, got {tuple(valid.shape)}."
        )


def share_of(ratio: float, number: int) -> int:
    """`ceil(ratio * number)` in whole numbers: 0.07 of 100 is 7, which floating point calls 8."""
    part, whole = _share(ratio)
    return -(-number * part // whole)


def largest_of(values: np.ndarray, counted: np.ndarray, number: int) -> np.ndarray:
    """Mark the `number` largest of the values that count; of equal ones the first."""
    kept = np.zeros(len(values), dtype=bool)
    _keep_hardest(kept, np.where(counted, values, -np.inf), counted, number)
    return kept


def _share(keep_ratio: float) -> tuple[int, int]:
    """The ratio as a fraction of whole numbers."""
    share = Fraction(keep_ratio).limit_denominator(10**6)
    if keep_ratio > 0 and share == 0:
        share = Fraction(1, 10**6)
    return share.numerator, share.denominator


# An operator of its own, so that the selection, whose steps depend on the data, is one opaque node under torch.compile.
@torch.library.custom_op(
    "segkit::hardest",
    mutates_args=(),
    schema="(Tensor losses, Tensor? valid, float? keep_ratio, int? min_kept, float? threshold) -> Tensor",
)
def _hardest(
    losses: Tensor,
    valid: Tensor | None,
    keep_ratio: float | None,
    min_kept: int | None,
    threshold: float | None,
) -> Tensor:
    """The rule of `hard_mask` for each row of `[R, M]`, on any device and without waiting for it."""
    return _rule(losses, valid, keep_ratio, min_kept, threshold)


def _rule(
    losses: Tensor, valid: Tensor | None, keep_ratio: float | None, min_kept: int | None, threshold: float | None
) -> Tensor:
    """Mark the hardest of each row, by comparing bit patterns."""
    kind, bits = (torch.int64, 64) if losses.dtype == torch.float64 else (torch.int32, 32)
    values = losses.to(torch.float64 if bits == 64 else torch.float32)
    values = values.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf) + 0.0  # -0.0 becomes 0.0
    counted = torch.ones_like(losses, dtype=torch.bool) if valid is None else valid
    asked = _asked(values, counted, keep_ratio, min_kept, threshold)[:, None]
    # Floats in the order of their bit patterns, read as integers: negative ones run backwards.
    lowest = torch.iinfo(kind).min
    keys = values.contiguous().view(kind)
    keys = torch.where(keys < 0, lowest - keys, keys)
    keys = torch.where(counted, keys, lowest)
    reached = _reached(keys, asked)
    above = (keys > reached) & counted
    tied = (keys == reached) & counted
    missing = asked - above.sum(1, keepdim=True)
    return above | (tied & (tied.cumsum(1) <= missing))


def _reached(keys: Tensor, asked: Tensor) -> Tensor:
    """The largest key that at least `asked` values of a row reach, `[R, 1]`."""
    rows, length = keys.shape
    if 0 < length < 2**31 and 0 < rows <= 65535 and triton_runs(keys.device):
        from segkit.mining._select_triton import reached as by_histogram

        return by_histogram(keys, asked)
    # Bit by bit from the top: no histogram, no atomic additions.
    bits, lowest = keys.element_size() * 8, torch.iinfo(keys.dtype).min
    reached = torch.full_like(asked, lowest, dtype=keys.dtype)
    for bit in range(bits - 1, -1, -1):
        step = lowest if bit == bits - 1 else 1 << bit
        higher = reached ^ step if bit == bits - 1 else reached | step
        enough = (keys >= higher).sum(1, keepdim=True) >= asked
        reached = torch.where(enough, higher, reached)
    return reached


def _asked(
    values: Tensor, counted: Tensor, keep_ratio: float | None, min_kept: int | None, threshold: float | None
) -> Tensor:
    """How many to keep in each row, int64 `[R]`."""
    available = counted.sum(1)
    asked = torch.zeros_like(available)
    if keep_ratio is not None:
        part, whole = _share(keep_ratio)
        asked = torch.maximum(asked, (available * part + whole - 1) // whole)
    if min_kept is not None:
        asked = asked.clamp(min=min_kept)
    if threshold is not None:
        asked = torch.maximum(asked, ((values > threshold) & counted).sum(1))
    return torch.minimum(asked, available)


@_hardest.register_fake
def _(
    losses: Tensor, valid: Tensor | None, keep_ratio: float | None, min_kept: int | None, threshold: float | None
) -> Tensor:
    return torch.empty_like(losses, dtype=torch.bool, memory_format=torch.contiguous_format)


@_hardest.register_kernel("cpu")
def _on_the_cpu(
    losses: Tensor, valid: Tensor | None, keep_ratio: float | None, min_kept: int | None, threshold: float | None
) -> Tensor:
    """The same on the CPU, where reading a number costs nothing: a search narrowed by a sample, row by row.

    NumPy and not torch throughout: the passes are short, and waiting for torch's threads took longer than they do.
    Where Triton is chosen and interpreted, the rule itself runs.
    """
    if interpreting() and triton_runs(losses.device):
        return _rule(losses, valid, keep_ratio, min_kept, threshold)
    kept = torch.zeros(losses.shape, dtype=torch.bool, device="cpu")
    wide = losses if losses.dtype == torch.float64 else losses.float()
    for row, values in enumerate(wide.contiguous().numpy()):
        counted = None if valid is None else valid[row].numpy()
        if np.isnan(values.max(initial=0.0)):
            values = np.where(np.isnan(values), values.dtype.type(np.inf), values)
        number = values.size if counted is None else int(np.count_nonzero(counted))
        if not number:
            continue
        if counted is not None:
            values = _blanked(values, counted)
        asked = 0
        if keep_ratio is not None:
            asked = share_of(keep_ratio, number)
        if min_kept is not None:
            asked = max(asked, min_kept)
        if threshold is not None:
            asked = max(asked, int(np.count_nonzero(values > threshold)))  # what does not count is at minus infinity
        _keep_hardest(kept[row].numpy(), values, counted, min(asked, number))
    return kept


def _keep_hardest(kept: np.ndarray, values: np.ndarray, counted: np.ndarray | None, asked: int) -> None:
    """Set the `asked` largest of the counted values in `kept`; of equal ones the first."""
    if not asked:
        return
    smallest = _largest(values, asked)
    np.greater(values, smallest, out=kept)
    tied = values == smallest
    if counted is not None:
        tied &= counted
    missing = asked - np.count_nonzero(kept)
    end = len(tied) if np.count_nonzero(tied) == missing else _shortest(tied, missing)
    kept[:end] |= tied[:end]


def _blanked(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """A copy with minus infinity where not counted, which `np.where` takes twice as long for on a ragged mask."""
    integer = np.dtype(f"i{values.itemsize}")
    bits = (counted.view(np.int8) - np.int8(1)).astype(integer)  # all set where not counted, which reads as NaN
    bits |= values.view(integer)
    blanked = bits.view(values.dtype)
    return np.fmax(blanked, values.dtype.type(-np.inf), out=blanked)


def _shortest(flags: np.ndarray, number: int) -> int:
    """How long a part from the front holds so many of the flags, by halving."""
    begin, end = 0, len(flags)
    while end - begin > 1:
        middle = (begin + end) // 2
        found = np.count_nonzero(flags[begin:middle])
        if found >= number:
            end = middle
        else:
            begin, number = middle, number - found
    return end if number else 0


def _largest(values: np.ndarray, rank: int) -> np.ndarray:
    """The `rank`-th largest value, counted from 1.

    A sorted sample says between which two values it should lie, counting says whether it does, and what lies between
    goes on. Equal losses, such as a million zeros, end the search; NumPy's partition takes 20 times as long on them.

    Source: Floyd and Rivest 1975, with the values that equal a bound counted apart.
    """
    for _ in range(3):
        if values.size <= 8 * SAMPLE:
            break
        sample = np.sort(values[:: values.size // SAMPLE | 1])  # an odd step: widths of pictures are even
        place, margin = (1 - rank / values.size) * len(sample), 2 * SAMPLE**0.5  # four standard deviations
        low, high = sample[max(0, int(place - margin))], sample[min(len(sample) - 1, int(place + margin))]
        above = values > high
        if rank <= np.count_nonzero(above):
            values = values[above]
            continue
        passed = np.count_nonzero(values >= high)
        if rank <= passed:
            return high
        above = values > low
        if rank <= np.count_nonzero(above):
            values, rank = values[above & (values < high)], rank - passed
            continue
        passed = np.count_nonzero(values >= low)
        if rank <= passed:
            return low
        values, rank = values[values < low], rank - passed
    return np.partition(values, values.size - rank)[values.size - rank]
