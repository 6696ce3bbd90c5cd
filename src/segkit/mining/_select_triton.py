"""The threshold of the hardest by histograms: a digit of 8 bits at a time, from the top, with integer counts."""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls

import torch
import triton
import triton.language as tl
from torch import Tensor

DIGIT = 8
BINS = 2**DIGIT
INTERPRETED = type(tl.sum).__name__ == "InterpretedFunction"
COMPILE = {"enable_fp_fusion": True}


@triton.jit
def count_digits(keys, prefix, counts, M, key_r, key_m, SHIFT: tl.constexpr, FIRST: tl.constexpr,
                 BINS: tl.constexpr, STEPS: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """Count the digits at ``SHIFT`` of the keys of a row whose higher digits are its ``prefix``."""
    row = tl.program_id(1).to(tl.int64)
    wanted = tl.load(prefix + row)
    total = tl.zeros([2 * BINS], tl.int32)  # the upper half is for keys that are out
    for step in range(STEPS):
        m = (tl.program_id(0).to(tl.int64) * STEPS + step) * BLOCK + tl.arange(0, BLOCK)
        key = tl.load(keys + row * key_r + m * key_m, mask=m < M, other=0)
        digit = ((key >> SHIFT) & (BINS - 1)).to(tl.int32)
        here = m < M
        if FIRST:
            digit = digit ^ (BINS // 2)  # the sign: in the order of the keys, negative ones come first
        else:
            here = here & ((key >> (SHIFT + 8)) == wanted)
        total += tl.histogram(tl.where(here, digit, BINS), 2 * BINS)
    bins = tl.arange(0, 2 * BINS)
    tl.atomic_add(counts + row * BINS + bins, total, mask=(bins < BINS) & (total > 0))


@triton.jit
def pick_digit(counts, asked, prefix, FIRST: tl.constexpr, BINS: tl.constexpr):
    """Append to the prefix the highest digit that ``asked`` keys reach; ask for those not above it, and count anew."""
    row = tl.program_id(0).to(tl.int64)
    bins = tl.arange(0, BINS)
    count = tl.load(counts + row * BINS + bins).to(tl.int64)
    need = tl.load(asked + row)
    reached = tl.sum(count, 0) - tl.cumsum(count, 0) + count  # how many have this digit or a higher one
    digit = tl.sum((reached >= need).to(tl.int32), 0) - 1
    above = tl.sum(tl.where(bins > digit, count, 0), 0)
    tl.store(asked + row, need - above)
    if FIRST:
        tl.store(prefix + row, digit - BINS // 2)
    else:
        tl.store(prefix + row, tl.load(prefix + row) * BINS + digit)
    tl.store(counts + row * BINS + bins, tl.zeros([BINS], tl.int32))


def reached(keys: Tensor, asked: Tensor) -> Tensor:
    """The largest key that at least ``asked`` keys of a row reach.

    Args:
        keys: [R, M] int32 or int64, less than 2**31 in a row.
        asked: [R, 1] int64, at most M.

    Returns:
        [R, 1] in the dtype of the keys; the largest there is where nothing is asked.
    """
    rows, length = keys.shape
    bits = keys.element_size() * 8
    counts = torch.zeros((rows, BINS), dtype=torch.int32, device=keys.device)
    prefix = torch.zeros_like(asked, dtype=keys.dtype)
    asked = asked.clone()
    block = max(128, min(2**16, triton.next_power_of_2(length))) if INTERPRETED else 2048
    steps = 1 if INTERPRETED else max(1, min(16, length * rows // (2048 * block)))
    grid = (triton.cdiv(length, block * steps), rows)
    with torch.cuda.device_of(keys):  # Triton launches on the current card
        for shift in range(bits - DIGIT, -1, -DIGIT):
            first = shift == bits - DIGIT
            count_digits[grid](
                keys, prefix, counts, length, keys.stride(0), keys.stride(1), SHIFT=shift, FIRST=first, BINS=BINS,
                STEPS=steps, BLOCK=block, **COMPILE,
            )  # fmt: skip
            pick_digit[(rows,)](counts, asked, prefix, FIRST=first, BINS=BINS, **COMPILE)
    return prefix
