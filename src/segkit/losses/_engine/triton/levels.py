"""The loss of Lovász and its slopes from the counts at each level, one program for each set and class."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls

import triton
import triton.language as tl

from segkit.losses._engine.triton.pieces import SLOTS, STEPS


@triton.jit
def level_sums(counts, sizes, bad, scale, loss, truth, pixels, table, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    """From the highest level down: the Jaccard loss of the set above it, summed, and the slope of each slot."""
    place = tl.program_id(0)
    counts += place.to(tl.int64) * SLOTS
    table += place.to(tl.int64) * SLOTS
    unit = 1.0
    if scale is not None:
        unit = 1 / tl.load(scale)
    own_pixels = tl.load(sizes + 2 * place).to(tl.float64) * unit
    total = tl.zeros([BLOCK], tl.float64)
    others_above, own_above = tl.zeros([1], tl.int64), tl.zeros([1], tl.int64)
    for first in range(0, STEPS, BLOCK):
        i = first + tl.arange(0, BLOCK)
        inside = i < STEPS
        here = tl.load(counts + i, mask=inside, other=0).to(tl.int64)
        mine = tl.load(counts + (SLOTS - 1 - i), mask=inside, other=0).to(tl.int64)
        others = (others_above + tl.cumsum(here, 0)).to(tl.float64) * unit
        own = (own_above + tl.cumsum(mine, 0)).to(tl.float64) * unit
        union = own_pixels + others
        whole = tl.where(union == 0, 1.0, union)
        left = own_pixels - own
        total += tl.where(inside & (union != 0), 1 - left / whole, 0.0)
        above = union - here.to(tl.float64) * unit  # the union before this level's pixels of other classes come in
        before = tl.where(above == 0, 1.0, above)
        # A class that is not there: the first pixels taken for it raise the loss of the set from 0 to 1.
        slope = tl.where(above == 0, 1 / whole, left / (before * whole))
        tl.store(table + i, slope.to(WIDE), mask=inside)
        tl.store(table + (SLOTS - 1 - i), (-1 / before).to(WIDE), mask=inside)
        others_above += tl.sum(here, 0)
        own_above += tl.sum(mine, 0)
    tl.store(table + STEPS, 0.0)
    value = tl.sum(total, 0) / STEPS
    tl.store(loss + place, tl.where(tl.load(bad) != 0, float("nan"), value).to(WIDE))
    tl.store(truth + place, own_pixels.to(WIDE))
    tl.store(pixels + place, (tl.load(sizes + 2 * place + 1).to(tl.float64) * unit).to(WIDE))
