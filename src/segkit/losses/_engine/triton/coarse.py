"""The gradient by coarse logits: each gathers from the fine pixels that it was a neighbour of, in a fixed order."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls

import triton
import triton.language as tl

from segkit.losses._engine.triton.pieces import (
    SURE,
    by_probability,
    focal_slope,
    neighbours,
    read,
    read_pixels,
    read_truth,
)
from segkit.losses._engine.triton.sigmoid import read_answers, sigmoid_gradient
from segkit.losses._engine.triton.softmax import of_classes, smooth


@triton.jit
def first_touched(j, coarse, fine):
    """The first fine place that has coarse place ``j`` as a neighbour: above (j - 1/2) fine / coarse - 1/2."""
    above = (2 * j - 1) * fine - coarse
    return tl.where(above < 0, 0, tl.maximum(above, 0) // (2 * coarse) + 1)


@triton.jit
def touch(i, j, coarse, fine, WIDE: tl.constexpr):
    """With which share coarse place ``j`` enters fine place ``i``."""
    low, high, share = neighbours(i, coarse, fine, WIDE)
    return tl.where(low == j, 1 - share, 0.0) + tl.where(high == j, share, 0.0)


@triton.jit
def coarse_backward(
    x, grad, target, weights, factors, by_terms, by_inter, by_pred, by_loss, table, saved,
    ignore_index, gamma, gamma_low, smoothing, smoothing_low, N,
    x_b, s_c, s_0, s_1, s_2, t_b, t_c, t_n, w_b, w_n, u_b, u_c, u_n, g_b, g_c, g_0, g_1, g_2,
    F0, F1, F2, G0, G1, G2,
    C: tl.constexpr, SIGMOID: tl.constexpr, SOFT: tl.constexpr, SMOOTH: tl.constexpr, GAMMA: tl.constexpr,
    POWER: tl.constexpr, TERMS: tl.constexpr, REGION: tl.constexpr, PER_IMAGE: tl.constexpr, AXES: tl.constexpr,
    WIDE: tl.constexpr, K0: tl.constexpr, K1: tl.constexpr, K2: tl.constexpr, BLOCK_C: tl.constexpr,
    BLOCK_N: tl.constexpr,
):  # fmt: skip
    """The gradient of ``BLOCK_C`` classes at ``BLOCK_N`` coarse pixels; at most K0 x K1 x K2 fine ones touch each.

    What a fine pixel needs of all its classes lies in ``saved`` (see `softmax_backward`).
    """
    b = tl.program_id(1).to(tl.int64)
    x, target = x + b * x_b, target + b * t_b
    if weights is not None:
        weights += b * w_b
    gamma = tl.zeros([1], WIDE) + gamma + gamma_low
    smoothing = tl.zeros([1], WIDE) + smoothing + smoothing_low
    row = b if PER_IMAGE else b * 0
    c = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)
    place = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    exists = place < G0 * G1 * G2
    j2, j1, j0 = place % G2, (place // G2) % G1, place // (G2 * G1)
    total = tl.zeros([BLOCK_C, BLOCK_N], WIDE)
    for step in range(K0 * K1 * K2):
        i2 = first_touched(j2, G2, F2) + step % K2
        share = tl.where(exists & (i2 < F2), touch(i2, j2, G2, F2, WIDE), 0.0)
        n = i2
        if AXES > 1:
            i1 = first_touched(j1, G1, F1) + (step // K2) % K1
            share = tl.where(i1 < F1, share * touch(i1, j1, G1, F1, WIDE), 0.0)
            n += i1 * F2
        if AXES > 2:
            i0 = first_touched(j0, G0, F0) + step // (K2 * K1)
            share = tl.where(i0 < F0, share * touch(i0, j0, G0, F0, WIDE), 0.0)
            n += i0 * (F1 * F2)
        inside = share != 0
        n = n.to(tl.int64)
        in_tile = (c < C)[:, None] & inside[None, :]
        if SIGMOID:
            t, here, w = read_answers(target, weights, c, n, in_tile, t_c, t_n, w_n, ignore_index, not SOFT, WIDE)
        else:
            y, w_n1 = read_pixels(target, weights, n, inside, t_n, w_n, ignore_index, C, SOFT, WIDE)
            here = in_tile & (y[None, :] >= 0)
            w = w_n1[None, :] + tl.zeros([BLOCK_C, BLOCK_N], WIDE)
            t = read_truth(target, y, c, n, in_tile, here, t_c, t_n, SOFT, WIDE)
        v = read(x, c, n, in_tile, here, s_c, s_0, s_1, s_2, F0, F1, F2, G0, G1, G2, AXES, WIDE)
        upstream = tl.zeros([BLOCK_C, BLOCK_N], WIDE)
        if TERMS == 1:
            upstream += tl.load(by_terms + b)
        if TERMS == 2:
            at = by_terms + b * u_b + c.to(tl.int64)[:, None] * u_c + n[None, :] * u_n
            upstream += tl.load(at, mask=here, other=0)
        if SIGMOID:
            g = sigmoid_gradient(
                v, t, w, here, row, c, upstream, factors, by_inter, by_pred, by_loss, table, gamma, smoothing, C,
                SMOOTH, GAMMA, POWER, TERMS, REGION, WIDE,
            )  # fmt: skip
        else:
            of_pixel = saved + b * 4 * N + n
            m = tl.load(of_pixel, mask=inside, other=0)
            s = tl.load(of_pixel + N, mask=inside, other=1)
            k = tl.load(of_pixel + 2 * N, mask=inside, other=0)
            p = tl.exp(v - m[None, :]) / s[None, :]
            g = p * k[None, :]
            if REGION or table is not None:
                g += p * by_probability(p, t, row, c, by_inter, by_pred, by_loss, table, C, POWER, here) * w
            if TERMS != 0:
                part = smooth(t, here, C, smoothing, SMOOTH) * of_classes(factors, c, C, WIDE)
                g -= part * focal_slope(p, 1 - p, gamma, GAMMA) * upstream * w
            if REGION or table is not None:
                g = tl.where(p > SURE, tl.load(of_pixel + 3 * N, mask=inside, other=0)[None, :], g)
        total += tl.where(here, g, 0.0) * share[None, :]
    to = grad + b * g_b + c.to(tl.int64)[:, None] * g_c
    to += (j0.to(tl.int64) * g_0 + j1.to(tl.int64) * g_1 + j2.to(tl.int64) * g_2)[None, :]
    tl.store(to, total, mask=(c < C)[:, None] & exists[None, :])
