"""The kernels for one choice among C classes: sums of a pass forward, and the gradient backward.

Where C fits, a program reads a tile of all classes once. Where it does not (``TILED``), it goes over tiles of classes:
once for the largest logit and the sum of exponentials (online), once more for what is made of the probabilities.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls

import triton
import triton.language as tl

from segkit.losses._engine.triton.pieces import (
    INFINITY,
    LIKELY,
    SURE,
    by_probability,
    focal_slope,
    focal_term,
    known,
    read,
    read_pixels,
    read_truth,
    tally,
)


@triton.jit
def scan(
    x, y, inside, n, s_c, s_0, s_1, s_2, F0, F1, F2, G0, G1, G2,
    C: tl.constexpr, AXES: tl.constexpr, WIDE: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Online softmax: largest logit, sum of exponentials below it, and the logit of the pixel's class."""
    m = tl.full(n.shape, -INFINITY, WIDE)
    s = tl.zeros(n.shape, WIDE)
    x_y = tl.zeros(n.shape, WIDE)
    for first in range(0, C, BLOCK_C):
        c = first + tl.arange(0, BLOCK_C)
        exists = (c < C)[:, None]
        there, here = exists & inside[None, :], exists & (y[None, :] >= 0)
        v = read(x, c, n, there, here, s_c, s_0, s_1, s_2, F0, F1, F2, G0, G1, G2, AXES, WIDE)
        v = tl.where(exists, v, -INFINITY)
        high = tl.maximum(m, tl.max(v, 0))
        base = tl.where(high == -INFINITY, 0.0, high)
        s = s * tl.exp(m - base) + tl.sum(tl.exp(v - base[None, :]), 0)
        x_y += tl.sum(tl.where(c[:, None] == y[None, :], v, 0.0), 0)
        m = high
    return m, s, x_y


@triton.jit
def smooth(t, here, C: tl.constexpr, smoothing, SMOOTH: tl.constexpr):
    """Spread a part of the truth over all classes."""
    if SMOOTH:
        t = tl.where(here, t * (1 - smoothing) + smoothing / C, 0.0)
    return t


@triton.jit
def of_class(table, y, like):
    """table[y] where there is a class, or ones."""
    if table is not None:
        value = tl.load(table + y, mask=y >= 0, other=0).to(like.dtype)
    else:
        value = like * 0 + 1
    return value


@triton.jit
def of_classes(table, c, C: tl.constexpr, WIDE: tl.constexpr):
    """table[c] as a column, or ones."""
    value = tl.full([c.shape[0], 1], 1.0, WIDE)
    if table is not None:
        value = tl.load(table + c, mask=c < C, other=0).to(WIDE)[:, None]
    return value


@triton.jit
def softmax_forward(
    x, target, weights, class_weights, factors, by_class, scalars, term_map, counts, sizes, bad, scale,
    ignore_index, gamma, gamma_low, smoothing, smoothing_low, N,
    x_b, s_c, s_0, s_1, s_2, t_b, t_c, t_n, w_b, w_n, F0, F1, F2, G0, G1, G2,
    C: tl.constexpr, SOFT: tl.constexpr, SMOOTH: tl.constexpr, GAMMA: tl.constexpr, POWER: tl.constexpr,
    TERMS: tl.constexpr, REGION: tl.constexpr, PER_IMAGE: tl.constexpr, AXES: tl.constexpr, WIDE: tl.constexpr,
    PIXELS: tl.constexpr, TILED: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Sums over the ``PIXELS`` pixels of this program.

    Written are ``by_class`` [B, programs, 3, C] (intersection, prediction, truth), ``scalars`` [B, programs, 1, 3]
    (terms, their weight, pixels), ``term_map`` [B, 1, N], or the histograms of Lovász.
    """
    b = tl.program_id(1).to(tl.int64)
    program = b * tl.num_programs(0) + tl.program_id(0)
    x, target = x + b * x_b, target + b * t_b
    if weights is not None:
        weights += b * w_b
    gamma = tl.zeros([1], WIDE) + gamma + gamma_low
    smoothing = tl.zeros([1], WIDE) + smoothing + smoothing_low
    row = b if PER_IMAGE else b * 0
    all_c = tl.arange(0, BLOCK_C)
    sum_terms, sum_counted = tl.zeros([BLOCK_N], WIDE), tl.zeros([BLOCK_N], WIDE)
    sum_pixels = tl.zeros([BLOCK_N], WIDE)
    sum_inter, sum_pred = tl.zeros([BLOCK_C], WIDE), tl.zeros([BLOCK_C], WIDE)
    sum_truth = tl.zeros([BLOCK_C], WIDE)
    for step in range(PIXELS // BLOCK_N):
        n = tl.program_id(0).to(tl.int64) * PIXELS + step * BLOCK_N + tl.arange(0, BLOCK_N)
        inside = n < N
        y, w = read_pixels(target, weights, n, inside, t_n, w_n, ignore_index, C, SOFT, WIDE)
        if TILED:
            m, s, x_y = scan(
                x, y, inside, n, s_c, s_0, s_1, s_2, F0, F1, F2, G0, G1, G2, C, AXES, WIDE, BLOCK_C
            )  # fmt: skip
        else:
            exists = (all_c < C)[:, None]
            v = read(
                x, all_c, n, exists & inside[None, :], exists & (y[None, :] >= 0), s_c, s_0, s_1, s_2, F0, F1, F2,
                G0, G1, G2, AXES, WIDE,
            )  # fmt: skip
            m = tl.max(tl.where(exists, v, -INFINITY), 0)
            e = tl.where(exists, tl.exp(v - m[None, :]), 0.0)
            s = tl.sum(e, 0)
            x_y = tl.sum(tl.where(all_c[:, None] == y[None, :], v, 0.0), 0)
        log_s = tl.log(s)
        term = tl.zeros([BLOCK_N], WIDE)
        counted = tl.full([BLOCK_N], 1.0, WIDE)
        if TERMS != 0:
            if not (SOFT or SMOOTH):
                term = focal_term(1 - tl.exp(x_y - m) / s, m - x_y + log_s, gamma, GAMMA) * of_class(factors, y, s)
            if class_weights is not None:
                if SOFT:
                    counted = tl.zeros([BLOCK_N], WIDE)
                else:
                    counted = of_class(class_weights, y, s)
        for first in range(0, C if (TILED or SOFT) or (SMOOTH or (REGION or counts is not None)) else 0, BLOCK_C):
            c = first + all_c
            exists = (c < C)[:, None]
            there, here = exists & inside[None, :], exists & (y[None, :] >= 0)
            if TILED:
                v = read(x, c, n, there, here, s_c, s_0, s_1, s_2, F0, F1, F2, G0, G1, G2, AXES, WIDE)
                e = tl.where(exists, tl.exp(v - m[None, :]), 0.0)
            p = e / s[None, :]
            t = read_truth(target, y, c, n, there, here, t_c, t_n, SOFT, WIDE)
            if TERMS != 0 and (SOFT or SMOOTH):
                share = smooth(t, here, C, smoothing, SMOOTH) * of_classes(factors, c, C, WIDE)
                each = focal_term(1 - p, (m + log_s)[None, :] - v, gamma, GAMMA)
                term += tl.sum(tl.where(share == 0, 0.0, share * each), 0)
                if SOFT and class_weights is not None:
                    counted += tl.sum(t * of_classes(class_weights, c, C, WIDE), 0)
            if REGION:
                inter = tl.sum(p * t * w[None, :], 1)
                if POWER == 2:
                    pred = tl.sum(p * p * w[None, :], 1)
                    truth = tl.sum(t * t * known(w)[None, :], 1)
                else:
                    pred = tl.sum(p * w[None, :], 1)
                    truth = tl.sum(t * known(w)[None, :], 1)
                if TILED:
                    to = by_class + program * 3 * C + c
                    tl.store(to, inter, mask=c < C)
                    tl.store(to + C, pred, mask=c < C)
                    tl.store(to + 2 * C, truth, mask=c < C)
                else:
                    sum_inter, sum_pred, sum_truth = sum_inter + inter, sum_pred + pred, sum_truth + truth
            if counts is not None:
                tally(counts, sizes, bad, scale, row, c, p, t, w[None, :] + p * 0, here, C)
        if TERMS == 2:
            tl.store(term_map + b * N + n, term * w, mask=inside)
        sum_terms += term * w
        sum_counted += counted * w
        sum_pixels += known(w)
    if REGION and not TILED:
        to = by_class + program * 3 * C + all_c
        tl.store(to, sum_inter, mask=all_c < C)
        tl.store(to + C, sum_pred, mask=all_c < C)
        tl.store(to + 2 * C, sum_truth, mask=all_c < C)
    if scalars is not None:
        tl.store(scalars + program * 3, tl.sum(sum_terms, 0))
        tl.store(scalars + program * 3 + 1, tl.sum(sum_counted, 0))
        tl.store(scalars + program * 3 + 2, tl.sum(sum_pixels, 0))


@triton.jit
def softmax_backward(
    x, grad, target, weights, factors, by_terms, by_inter, by_pred, by_loss, table, saved,
    ignore_index, gamma, gamma_low, smoothing, smoothing_low, N,
    x_b, s_c, s_0, s_1, s_2, t_b, t_c, t_n, w_b, w_n, u_b, u_c, u_n, g_b, g_c, g_n, F0, F1, F2, G0, G1, G2,
    C: tl.constexpr, SOFT: tl.constexpr, SMOOTH: tl.constexpr, GAMMA: tl.constexpr, POWER: tl.constexpr,
    TERMS: tl.constexpr, REGION: tl.constexpr, PER_IMAGE: tl.constexpr, AXES: tl.constexpr, WIDE: tl.constexpr,
    TILED: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """The gradient by the logits of ``BLOCK_N`` pixels: p (k + w a) - u, with k = sum u - w <p, a>.

    u is the part of the terms at each class, a = d loss / d p of the sums. At a class that is nearly sure this is lost
    in rounding; since the gradient adds up to 0 over the classes, it is minus the sum of the others there. If the
    logits are coarse, what belongs to a pixel goes to ``saved`` [B, 4, N] (largest logit, sum of exponentials, k, the
    gradient at a sure class) instead, for `coarse_backward`.
    """
    DENSE: tl.constexpr = SOFT or SMOOTH
    b = tl.program_id(1).to(tl.int64)
    x, target = x + b * x_b, target + b * t_b
    if weights is not None:
        weights += b * w_b
    gamma = tl.zeros([1], WIDE) + gamma + gamma_low
    smoothing = tl.zeros([1], WIDE) + smoothing + smoothing_low
    row = b if PER_IMAGE else b * 0
    all_c = tl.arange(0, BLOCK_C)
    n = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    inside = n < N
    y, w = read_pixels(target, weights, n, inside, t_n, w_n, ignore_index, C, SOFT, WIDE)
    if TILED:
        m, s, x_y = scan(x, y, inside, n, s_c, s_0, s_1, s_2, F0, F1, F2, G0, G1, G2, C, AXES, WIDE, BLOCK_C)
    else:
        exists = (all_c < C)[:, None]
        there, here = exists & inside[None, :], exists & (y[None, :] >= 0)
        v = read(x, all_c, n, there, here, s_c, s_0, s_1, s_2, F0, F1, F2, G0, G1, G2, AXES, WIDE)
        m = tl.max(tl.where(exists, v, -INFINITY), 0)
        e = tl.where(exists, tl.exp(v - m[None, :]), 0.0)
        s = tl.sum(e, 0)
        x_y = tl.sum(tl.where(all_c[:, None] == y[None, :], v, 0.0), 0)
    k = tl.zeros([BLOCK_N], WIDE)
    upstream = w
    if TERMS == 1:
        upstream = w * tl.load(by_terms + b)
    if TERMS == 2:
        upstream = tl.where(y >= 0, w * tl.load(by_terms + b * u_b + n * u_n, mask=inside, other=0), 0.0)
    at_class = tl.zeros([BLOCK_N], WIDE)
    if TERMS != 0 and not DENSE:
        p_y = tl.exp(x_y - m) / s
        at_class = upstream * of_class(factors, y, s) * focal_slope(p_y, 1 - p_y, gamma, GAMMA)
        k += at_class
    # The sums over classes: <p, a> and, for a share of the truth at each class, sum u. Of all classes but a likely one:
    other_p, other_pa, other_u = tl.zeros([BLOCK_N], WIDE), tl.zeros([BLOCK_N], WIDE), tl.zeros([BLOCK_N], WIDE)
    for first in range(0, C if REGION or (table is not None or (DENSE and TERMS != 0)) else 0, BLOCK_C):
        c = first + all_c
        exists = (c < C)[:, None]
        there, here = exists & inside[None, :], exists & (y[None, :] >= 0)
        if TILED:
            v = read(x, c, n, there, here, s_c, s_0, s_1, s_2, F0, F1, F2, G0, G1, G2, AXES, WIDE)
            e = tl.where(exists, tl.exp(v - m[None, :]), 0.0)
        p = e / s[None, :]
        t = read_truth(target, y, c, n, there, here, t_c, t_n, SOFT, WIDE)
        if TERMS != 0 and DENSE:
            share = smooth(t, here, C, smoothing, SMOOTH) * of_classes(factors, c, C, WIDE)
            u = share * focal_slope(p, 1 - p, gamma, GAMMA) * upstream[None, :]
            k += tl.sum(u, 0)
            other_u += tl.sum(tl.where(p > LIKELY, 0.0, u), 0)
        if REGION or table is not None:
            if TERMS != 0 and not DENSE:
                other_u += tl.sum(tl.where((c[:, None] == y[None, :]) & (p <= LIKELY), at_class[None, :], 0.0), 0)
            a = by_probability(p, t, row, c, by_inter, by_pred, by_loss, table, C, POWER, here)
            k -= w * tl.sum(tl.where(here, p * a, 0.0), 0)
            other = here & (p <= LIKELY)
            other_p += tl.sum(tl.where(other, p, 0.0), 0)
            other_pa += tl.sum(tl.where(other, p * a, 0.0), 0)
    at_sure = other_u - k * other_p - w * other_pa
    if saved is not None:
        to = saved + b * 4 * N + n
        tl.store(to, m, mask=inside)
        tl.store(to + N, s, mask=inside)
        tl.store(to + 2 * N, k, mask=inside)
        tl.store(to + 3 * N, at_sure, mask=inside)
    else:
        for first in range(0, C, BLOCK_C):
            c = first + all_c
            exists = (c < C)[:, None]
            there, here = exists & inside[None, :], exists & (y[None, :] >= 0)
            if TILED:
                v = read(x, c, n, there, here, s_c, s_0, s_1, s_2, F0, F1, F2, G0, G1, G2, AXES, WIDE)
                e = tl.where(exists, tl.exp(v - m[None, :]), 0.0)
            p = e / s[None, :]
            g = p * k[None, :]
            if REGION or (table is not None or (DENSE and TERMS != 0)):
                t = read_truth(target, y, c, n, there, here, t_c, t_n, SOFT, WIDE)
            if REGION or table is not None:
                a = by_probability(p, t, row, c, by_inter, by_pred, by_loss, table, C, POWER, here)
                g += p * a * w[None, :]
            if TERMS != 0:
                if DENSE:
                    share = smooth(t, here, C, smoothing, SMOOTH) * of_classes(factors, c, C, WIDE)
                    g -= share * focal_slope(p, 1 - p, gamma, GAMMA) * upstream[None, :]
                else:
                    g -= tl.where(c[:, None] == y[None, :], at_class[None, :], 0.0)
            if REGION or table is not None:
                g = tl.where(p > SURE, at_sure[None, :], g)
            to = grad + b * g_b + c.to(tl.int64)[:, None] * g_c + n[None, :] * g_n
            tl.store(to, tl.where(here, g, 0.0), mask=exists & inside[None, :])
