"""What the Triton kernels are made of: reading logits, labels and truth, the focal term, and the levels of Lovász.

A tile is ``[classes, pixels]``. ``c`` are its class numbers, ``n`` its pixels within one image (64 bits), ``here`` what
of it exists and counts. Pointers stand at their image already. ``None`` stands for a tensor that was not given.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls

import triton
import triton.language as tl

from segkit.losses._engine import route

STEPS, SLOTS = tl.constexpr(route.STEPS), tl.constexpr(route.SLOTS)
INFINITY = tl.constexpr(float("inf"))
# Above, a class is likely (at most one is), and sure: then its gradient is minus the sum of those of all that are not
# likely. Apart, so that two kernels, or two roundings, agree on which class that is.
LIKELY, SURE = tl.constexpr(0.5), tl.constexpr(0.75)


@triton.jit
def neighbours(i, coarse, fine, WIDE: tl.constexpr):
    """The two places of a coarse axis next to fine place ``i``, and the share of the second; exact in integers."""
    above = tl.maximum((2 * i + 1) * coarse - fine, 0)
    low = tl.minimum(above // (2 * fine), coarse - 1)
    share = (above - low * (2 * fine)).to(WIDE) / (2 * fine)
    return low, tl.minimum(low + 1, coarse - 1), share


@triton.jit
def along_line(x, k_low, k_high, k_share, s_2, here, WIDE: tl.constexpr):
    """Interpolated along the last axis."""
    low = tl.load(x + k_low.to(tl.int64) * s_2, mask=here, other=0).to(WIDE)
    high = tl.load(x + k_high.to(tl.int64) * s_2, mask=here, other=0).to(WIDE)
    return low * (1 - k_share) + high * k_share


@triton.jit
def in_plane(x, j, k_low, k_high, k_share, s_1, s_2, F1, G1, here, AXES: tl.constexpr, WIDE: tl.constexpr):
    """Interpolated in the last two axes."""
    if AXES == 1:
        value = along_line(x, k_low, k_high, k_share, s_2, here, WIDE)
    else:
        low, high, share = neighbours(j, G1, F1, WIDE)
        value = along_line(x + low.to(tl.int64) * s_1, k_low, k_high, k_share, s_2, here, WIDE) * (1 - share)
        value += along_line(x + high.to(tl.int64) * s_1, k_low, k_high, k_share, s_2, here, WIDE) * share
    return value


@triton.jit
def read(
    x, c, n, there, here, s_c, s_0, s_1, s_2, F0, F1, F2, G0, G1, G2, AXES: tl.constexpr, WIDE: tl.constexpr
):  # fmt: skip
    """The logits of a tile, 0 where not ``here``. All that is ``there`` is loaded, in wide loads for whole lines.

    ``AXES`` is 0 for logits as fine as the target; else they are interpolated from coarse ``[G0, G1, G2]`` to fine
    ``[F0, F1, F2]`` along so many last axes.
    """
    at_class = x + c.to(tl.int64)[:, None] * s_c
    if AXES == 0:
        value = tl.load(at_class + n[None, :] * s_2, mask=there, other=0).to(WIDE)
    else:
        n32 = n.to(tl.int32)[None, :]
        k_low, k_high, k_share = neighbours(n32 % F2, G2, F2, WIDE)
        j = (n32 // F2) % F1
        if AXES == 3:
            low, high, share = neighbours(n32 // (F2 * F1), G0, F0, WIDE)
            value = in_plane(
                at_class + low.to(tl.int64) * s_0, j, k_low, k_high, k_share, s_1, s_2, F1, G1, there, AXES, WIDE
            ) * (1 - share)  # fmt: skip
            value += in_plane(
                at_class + high.to(tl.int64) * s_0, j, k_low, k_high, k_share, s_1, s_2, F1, G1, there, AXES, WIDE
            ) * share  # fmt: skip
        else:
            value = in_plane(at_class, j, k_low, k_high, k_share, s_1, s_2, F1, G1, there, AXES, WIDE)
    return tl.where(here, value, 0.0)


@triton.jit
def read_pixels(
    target, weights, n, inside, t_n, w_n, ignore_index, C: tl.constexpr, SOFT: tl.constexpr, WIDE: tl.constexpr
):
    """Class of each pixel, -1 where it does not count; and its weight, NaN if the label names no class.

    Whether a pixel counts is told by its class alone: Triton 3.3 to 3.7 fail on a tile of a mask that also went into
    the class or the weight, if those make tiles as well.
    """
    counts = inside
    w = tl.full(n.shape, 1.0, WIDE)
    if weights is not None:
        w = tl.load(weights + n * w_n, mask=inside, other=0).to(WIDE)
        counts = counts & (w != 0)
    y = tl.zeros(n.shape, tl.int64)
    if not SOFT:
        y = tl.load(target + n * t_n, mask=inside, other=0).to(tl.int64)
        counts = counts & (y != ignore_index)
        no_class = (y < 0) | (y >= C)
        w = tl.where(no_class, float("nan"), w)
        y = tl.where(no_class, 0, y)
    return tl.where(counts, y, -1), tl.where(counts, w, 0.0)


@triton.jit
def read_truth(target, y, c, n, there, here, t_c, t_n, SOFT: tl.constexpr, WIDE: tl.constexpr):
    """The share of each class in the truth of a tile, 0 where not ``here``."""
    if SOFT:
        t = tl.load(target + c.to(tl.int64)[:, None] * t_c + n[None, :] * t_n, mask=there, other=0).to(WIDE)
        t = tl.where(here, t, 0.0)
    else:
        t = tl.where((c[:, None] == y[None, :]) & here, 1.0, 0.0).to(WIDE)
    return t


@triton.jit
def known(w):
    """The weight, 0 for a wrong label: so its image and class still count, and the NaN of the other sums shows."""
    return tl.where(w == w, w, 0.0)


@triton.jit
def power(base, exponent):
    """``base ** exponent`` for a base of at least 0 and an exponent above 0."""
    return tl.where(base > 0, tl.exp(exponent * tl.log(tl.where(base > 0, base, 1.0))), 0.0)


@triton.jit
def focal_term(miss, nll, gamma, GAMMA: tl.constexpr):
    """``miss ** gamma * nll``, where ``miss`` is 1 - p. ``GAMMA`` is 0 for 0, 2 for 2, and 1 for any other."""
    if GAMMA == 0:
        value = nll
    elif GAMMA == 2:
        value = miss * miss * nll
    else:
        value = power(miss, gamma) * nll
    return value


@triton.jit
def focal_slope(p, miss, gamma, GAMMA: tl.constexpr):
    """The derivative of the focal term by nll; its limits at p = 0 and 1 as in `_focal`."""
    if GAMMA == 0:
        value = p * 0 + 1
    else:
        nll = -tl.log(tl.maximum(p, 1e-30))
        miss = tl.maximum(miss, 1e-12)
        if GAMMA == 2:
            value = miss * miss + 2 * miss * p * nll
        else:
            lower = tl.exp((gamma - 1) * tl.log(miss))
            value = lower * miss + gamma * lower * p * nll
    return value


@triton.jit
def logarithm_of_one_plus(e):
    """log(1 + e) with all digits for small e (Kahan): the rounding of 1 + e is divided out again."""
    u = 1 + e
    rest = u - 1
    return tl.where(rest == 0, e, tl.log(u) * (e / tl.where(rest == 0, 1.0, rest)))


@triton.jit
def slot_of(miss):
    """Where an error ``truth - p`` counts, of `SLOTS`."""
    return ((miss + 1) * STEPS + 0.5).to(tl.int32)


@triton.jit
def by_probability(p, t, row, c, by_inter, by_pred, by_loss, table, C: tl.constexpr, POWER: tl.constexpr, here):
    """The slope a = d loss / d p / weight: from the gradients by the sums of a region, or from the table of Lovász."""
    exists = c < C
    place = row * C + c
    if table is not None:
        slot = tl.where(here, slot_of(t - p), 0)
        scale = tl.load(by_loss + place, mask=exists, other=0)
        a = tl.load(table + place.to(tl.int64)[:, None] * SLOTS + slot, mask=here, other=0) * scale[:, None]
    else:
        inter = tl.load(by_inter + place, mask=exists, other=0)[:, None]
        pred = tl.load(by_pred + place, mask=exists, other=0)[:, None]
        if POWER == 2:
            a = t * inter + 2 * pred * p
        else:
            a = t * inter + pred
    return a


@triton.jit
def tally(counts, sizes, bad, scale, row, c, p, t, w, here, C: tl.constexpr):
    """Count the errors of a tile. Additions of integers in any order give the same sum.

    Weights are counted in units of 1 / ``scale``, as integers of 64 bits.
    """
    good = here & (w == w)
    tl.atomic_max(bad, tl.max(tl.max((here & (w != w)).to(tl.int32), 1), 0))
    if scale is None:
        each = good.to(tl.int32)
    else:
        each = tl.where(good, w.to(tl.float64) * tl.load(scale) + 0.5, 0).to(tl.int64)
    place = row * C + c
    slot = tl.where(good, slot_of(t - p), STEPS)
    # The middle slot has no error and no part in the loss; most pixels of a trained network would queue up there.
    start = counts + place.to(tl.int64)[:, None] * SLOTS
    tl.atomic_add(start + slot, each, mask=good & (slot != STEPS))
    each = each.to(tl.int64)
    own = tl.sum(tl.where(t > 0, each, 0), 1)
    tl.atomic_add(sizes + 2 * place, own, mask=c < C)
    tl.atomic_add(sizes + 2 * place + 1, tl.sum(each, 1), mask=c < C)
