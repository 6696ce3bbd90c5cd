"""The focal term, (1 - p)**gamma * -log p, and its slope. gamma = 0 is cross-entropy, to the bit."""

from __future__ import annotations

from torch import Tensor

ALMOST_ZERO = 1e-30  # a normal float32; -log of anything smaller is taken from the logits instead


def focal_term(p: Tensor, nll: Tensor, gamma: float) -> Tensor:
    """The loss of an answer with probability ``p`` and ``nll = -log p``."""
    return nll if gamma == 0 else (1 - p).pow_(gamma).mul_(nll)


def focal_slope(p: Tensor, gamma: float, nll: Tensor | None = None) -> Tensor | float:
    """Its derivative by ``nll``, which is overwritten: (1 - p)**gamma + gamma * p * (1 - p)**(gamma - 1) * nll."""
    if gamma == 0:
        return 1.0
    if nll is None:
        nll = p.clamp_min(ALMOST_ZERO).log_().neg_()  # where p is smaller, p * nll vanishes
    miss = (1 - p).clamp_min_(1e-12)  # gamma < 1 would divide by zero at p = 1, where the product is 0
    power = miss.pow(gamma - 1)
    return miss.add_(nll.mul_(p), alpha=gamma).mul_(power)
