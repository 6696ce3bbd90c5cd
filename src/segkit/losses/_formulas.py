"""Formulas of overlap on the sums of an image and class: Dice and its relatives."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from segkit.losses._engine.focal import ALMOST_ZERO
from segkit.losses._engine.one_pass import Formula, Sloped
from segkit.losses._engine.wanted import Sums


@dataclass(frozen=True, eq=False)  # the compiler of torch 2.6 hashes what is called, before it has its fields
class Overlap(Sloped):
    """A loss of score = (above I + smooth) / (i I + p P + t T + smooth): 1 - score, its power, or minus its logarithm.

    Called with sums it is a formula like any other. ``slopes`` says its derivatives too, so that no graph is needed.
    """

    above: float
    i: float | None  # None is 0, without a term
    p: float
    t: float
    smooth: float
    eps: float
    log: bool = False
    gamma: float = 1.0

    def __call__(self, s: Sums) -> Tensor:
        """The loss of each image and class, [B, C]."""
        above, below = self.parts(s)
        return self.of_score(above / below.clamp_min(self.least))

    def parts(self, s: Sums) -> tuple[Tensor, Tensor]:
        """What is above and below the fraction."""
        above = s.intersection if self.above == 1 else self.above * s.intersection
        below = torch.add(s.prediction if self.p == 1 else self.p * s.prediction, s.truth, alpha=self.t)
        if self.i is not None:
            below = below + self.i * s.intersection  # `alpha=` would have a compiler guard 1 - 0.3 - 0.7 == 0
        return (above + self.smooth, below + self.smooth) if self.smooth else (above, below)

    @property
    def least(self) -> float:
        """The smallest value below the fraction."""
        return max(self.eps, ALMOST_ZERO)

    def of_score(self, score: Tensor) -> Tensor:
        """The loss of a score."""
        if self.log:
            return -score.clamp_min(self.least).log()
        # Rounding may give -1e-8, of which a fraction's power is not a number; and the slope of 0**gamma is infinite.
        return 1 - score if self.gamma == 1 else (1 - score).clamp_min(1e-6) ** self.gamma

    def slopes(self, s: Sums, share: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The loss times ``share``, and its derivatives by intersection and by prediction, [B, C] each."""
        above, below = self.parts(s)
        safe = below.clamp_min(self.least)
        score = above / safe
        loss = self.of_score(score).mul_(share)
        if self.log:
            share = torch.where(score < self.least, 0, share / score.clamp_min(self.least))
        elif self.gamma != 1:
            miss = 1 - score
            share = torch.where(miss < 1e-6, 0, share * self.gamma * miss.clamp_min(1e-6) ** (self.gamma - 1))
        by_above = torch.div(share, safe)  # but for the sign
        by_below = (by_above * score).mul_(below >= self.least)
        by_inter = by_above.mul_(-self.above)
        by_inter = torch.add(by_inter, by_below, alpha=self.i) if self.i is not None else by_inter
        return loss, by_inter, by_below if self.p == 1 else by_below * self.p


def dice_formula(smooth: float, eps: float, log: bool) -> Overlap:
    """1 - (2 I + smooth) / (P + T + smooth)."""
    return Overlap(2, i=None, p=1, t=1, smooth=smooth, eps=eps, log=log)


def jaccard_formula(smooth: float, eps: float, log: bool) -> Overlap:
    """1 - (I + smooth) / (P + T - I + smooth)."""
    return Overlap(1, i=-1, p=1, t=1, smooth=smooth, eps=eps, log=log)


def tversky_formula(alpha: float, beta: float, gamma: float, smooth: float, eps: float) -> Overlap:
    """(1 - (I + smooth) / (I + alpha (P - I) + beta (T - I) + smooth))**gamma."""
    return Overlap(1, i=1 - alpha - beta, p=alpha, t=beta, smooth=smooth, eps=eps, gamma=gamma)


def generalized_dice_formula(smooth: float, eps: float, class_weights: Tensor | None = None) -> Formula:
    """1 - (2 sum_c w_c I_c + smooth) / (sum_c w_c (P_c + T_c) + smooth), one number an image.

    w_c = 1 / T_c**2, times the weight of the class.
    """

    def formula(s: Sums) -> Tensor:
        # A class that is not there has no weight; dividing by the smallest T keeps the weights in (0, 1].
        there = s.truth > 0
        smallest = torch.where(there, s.truth, torch.inf).amin(1, keepdim=True)
        weight = torch.where(there, (smallest / torch.where(there, s.truth, 1)) ** 2, 0)
        weight = weight if class_weights is None else weight * class_weights.to(weight.dtype)
        unit = torch.where(there.any(1, keepdim=True), smallest, 1) ** 2  # smooth is in the units of w_c = 1 / T_c**2
        above = 2 * (weight * s.intersection).sum(1, keepdim=True) + smooth * unit
        below = (weight * (s.prediction + s.truth)).sum(1, keepdim=True) + smooth * unit
        return 1 - above / below.clamp_min(eps)  # [B, 1]

    return formula
