"""The kernels for a yes-or-no question at each channel: sums of a pass forward, and the gradient backward."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls

import triton
import triton.language as tl

from segkit.losses._engine.triton.pieces import (
    by_probability,
    focal_slope,
    focal_term,
    known,
    logarithm_of_one_plus,
    read,
    tally,
)


@triton.jit
def read_answers(
    target, weights, c, n, exists, t_c, t_n, w_n, ignore_index, HARD: tl.constexpr, WIDE: tl.constexpr
):  # fmt: skip
    """Truth, whether it counts, and weight of each element. A label that is no answer makes the weight NaN."""
    here = exists
    w = tl.where(exists, 1.0, 0.0).to(WIDE)
    if weights is not None:
        w = tl.load(weights + n[None, :] * w_n + c[:, None] * 0, mask=exists, other=0).to(WIDE)
        here = here & (w != 0)
    t = tl.load(target + c.to(tl.int64)[:, None] * t_c + n[None, :] * t_n, mask=exists, other=0)
    if HARD:
        label = t.to(tl.int64)
        here = here & (label != ignore_index)
        w = tl.where(here & (label != 0) & (label != 1), float("nan"), w)
    return tl.where(here, t, 0).to(WIDE), here, tl.where(here, w, 0.0)


@triton.jit
def of_answers(table, c, C: tl.constexpr, WIDE: tl.constexpr):
    """Factors of a no and of a yes as columns, from [2, C], or ones."""
    no = tl.full([c.shape[0], 1], 1.0, WIDE)
    yes = tl.full([c.shape[0], 1], 1.0, WIDE)
    if table is not None:
        no = tl.load(table + c, mask=c < C, other=0).to(WIDE)[:, None]
        yes = tl.load(table + C + c, mask=c < C, other=0).to(WIDE)[:, None]
    return no, yes


@triton.jit
def doubted(t, smoothing, SMOOTH: tl.constexpr):
    """Give a part of the truth to the other answer."""
    if SMOOTH:
        t = t * (1 - 2 * smoothing) + smoothing
    return t


@triton.jit
def both(v):
    """The probabilities of yes and of no, each with all its digits."""
    e = tl.exp(-tl.abs(v))
    large, small = 1 / (1 + e), e / (1 + e)
    return tl.where(v >= 0, large, small), tl.where(v >= 0, small, large), e


@triton.jit
def sigmoid_forward(
    x, target, weights, class_weights, factors, by_class, scalars, term_map, counts, sizes, bad, scale,
    ignore_index, gamma, gamma_low, smoothing, smoothing_low, N,
    x_b, s_c, s_0, s_1, s_2, t_b, t_c, t_n, w_b, w_n, F0, F1, F2, G0, G1, G2,
    C: tl.constexpr, SOFT: tl.constexpr, SMOOTH: tl.constexpr, GAMMA: tl.constexpr, POWER: tl.constexpr,
    TERMS: tl.constexpr, REGION: tl.constexpr, PER_IMAGE: tl.constexpr, AXES: tl.constexpr, WIDE: tl.constexpr,
    PIXELS: tl.constexpr, TILED: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """As `softmax_forward`; a program has ``BLOCK_C`` channels.

    ``by_class`` is [B, programs, 4, C] (with the pixels), ``scalars`` [B, programs, tiles of channels, 3], ``term_map``
    [B, C, N].
    """
    b = tl.program_id(1).to(tl.int64)
    program = b * tl.num_programs(0) + tl.program_id(0)
    x, target = x + b * x_b, target + b * t_b
    if weights is not None:
        weights += b * w_b
    gamma = tl.zeros([1], WIDE) + gamma + gamma_low
    smoothing = tl.zeros([1], WIDE) + smoothing + smoothing_low
    row = b if PER_IMAGE else b * 0
    c = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)
    no_factor, yes_factor = of_answers(factors, c, C, WIDE)
    no_weight, yes_weight = of_answers(class_weights, c, C, WIDE)
    sum_terms, sum_counted = tl.zeros([BLOCK_C], WIDE), tl.zeros([BLOCK_C], WIDE)
    sum_pixels = tl.zeros([BLOCK_C], WIDE)
    sum_inter, sum_pred = tl.zeros([BLOCK_C], WIDE), tl.zeros([BLOCK_C], WIDE)
    sum_truth = tl.zeros([BLOCK_C], WIDE)
    for step in range(PIXELS // BLOCK_N):
        n = tl.program_id(0).to(tl.int64) * PIXELS + step * BLOCK_N + tl.arange(0, BLOCK_N)
        exists = (c < C)[:, None] & (n < N)[None, :]
        t, here, w = read_answers(target, weights, c, n, exists, t_c, t_n, w_n, ignore_index, not SOFT, WIDE)
        v = read(x, c, n, exists, here, s_c, s_0, s_1, s_2, F0, F1, F2, G0, G1, G2, AXES, WIDE)
        p, q, e = both(v)
        if TERMS != 0:
            rest = logarithm_of_one_plus(e)
            share = doubted(t, smoothing, SMOOTH)
            yes = share * yes_factor * focal_term(q, tl.maximum(-v, 0.0) + rest, gamma, GAMMA)
            no = (1 - share) * no_factor * focal_term(p, tl.maximum(v, 0.0) + rest, gamma, GAMMA)
            term = (yes + no) * w
            if TERMS == 2:
                to = term_map + (b * C + c.to(tl.int64)[:, None]) * N + n[None, :]
                tl.store(to, term, mask=exists)
            sum_terms += tl.sum(term, 1)
            if class_weights is not None:
                sum_counted += tl.sum(w * (t * yes_weight + (1 - t) * no_weight), 1)
            else:
                sum_counted += tl.sum(w, 1)
        if REGION:
            sum_inter += tl.sum(p * t * w, 1)
            if POWER == 2:
                sum_pred += tl.sum(p * p * w, 1)
                sum_truth += tl.sum(t * t * known(w), 1)
            else:
                sum_pred += tl.sum(p * w, 1)
                sum_truth += tl.sum(t * known(w), 1)
            sum_pixels += tl.sum(known(w), 1)
        if counts is not None:
            tally(counts, sizes, bad, scale, row, c, p, t, w, here, C)
    if REGION:
        to = by_class + program * 4 * C + c
        tl.store(to, sum_inter, mask=c < C)
        tl.store(to + C, sum_pred, mask=c < C)
        tl.store(to + 2 * C, sum_truth, mask=c < C)
        tl.store(to + 3 * C, sum_pixels, mask=c < C)
    if scalars is not None:
        to = scalars + (program * tl.num_programs(2) + tl.program_id(2)) * 3
        tl.store(to, tl.sum(sum_terms, 0))
        tl.store(to + 1, tl.sum(sum_counted, 0))
        tl.store(to + 2, tl.sum(sum_pixels, 0))


@triton.jit
def sigmoid_gradient(
    v, t, w, here, row, c, upstream, factors, by_inter, by_pred, by_loss, table, gamma, smoothing,
    C: tl.constexpr, SMOOTH: tl.constexpr, GAMMA: tl.constexpr, POWER: tl.constexpr, TERMS: tl.constexpr,
    REGION: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """The gradient by the logits of a tile; ``upstream`` is that by the terms."""
    p, q, _ = both(v)
    g = p * 0
    if TERMS != 0:
        no_factor, yes_factor = of_answers(factors, c, C, WIDE)
        share = doubted(t, smoothing, SMOOTH)
        yes = -share * yes_factor * q * focal_slope(p, q, gamma, GAMMA)
        no = (1 - share) * no_factor * p * focal_slope(q, p, gamma, GAMMA)
        g += (yes + no) * upstream
    if REGION or table is not None:
        g += p * q * by_probability(p, t, row, c, by_inter, by_pred, by_loss, table, C, POWER, here)
    return tl.where(here, g * w, 0.0)


@triton.jit
def sigmoid_backward(
    x, grad, target, weights, factors, by_terms, by_inter, by_pred, by_loss, table, saved,
    ignore_index, gamma, gamma_low, smoothing, smoothing_low, N,
    x_b, s_c, s_0, s_1, s_2, t_b, t_c, t_n, w_b, w_n, u_b, u_c, u_n, g_b, g_c, g_n, F0, F1, F2, G0, G1, G2,
    C: tl.constexpr, SOFT: tl.constexpr, SMOOTH: tl.constexpr, GAMMA: tl.constexpr, POWER: tl.constexpr,
    TERMS: tl.constexpr, REGION: tl.constexpr, PER_IMAGE: tl.constexpr, AXES: tl.constexpr, WIDE: tl.constexpr,
    TILED: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """The gradient by the logits of ``BLOCK_C`` channels and ``BLOCK_N`` pixels."""
    b = tl.program_id(1).to(tl.int64)
    x, target = x + b * x_b, target + b * t_b
    if weights is not None:
        weights += b * w_b
    gamma = tl.zeros([1], WIDE) + gamma + gamma_low
    smoothing = tl.zeros([1], WIDE) + smoothing + smoothing_low
    row = b if PER_IMAGE else b * 0
    c = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)
    n = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    exists = (c < C)[:, None] & (n < N)[None, :]
    t, here, w = read_answers(target, weights, c, n, exists, t_c, t_n, w_n, ignore_index, not SOFT, WIDE)
    v = read(x, c, n, exists, here, s_c, s_0, s_1, s_2, F0, F1, F2, G0, G1, G2, AXES, WIDE)
    upstream = w
    if TERMS == 1:
        upstream = w * 0 + tl.load(by_terms + b)
    if TERMS == 2:
        upstream = tl.load(by_terms + b * u_b + c.to(tl.int64)[:, None] * u_c + n[None, :] * u_n, mask=here, other=0)
    g = sigmoid_gradient(
        v, t, w, here, row, c, upstream, factors, by_inter, by_pred, by_loss, table, gamma, smoothing, C, SMOOTH, GAMMA,
        POWER, TERMS, REGION, WIDE,
    )  # fmt: skip
    tl.store(grad + b * g_b + c.to(tl.int64)[:, None] * g_c + n[None, :] * g_n, g, mask=exists)
