"""Formulas of overlap on the sums of `_region`: Dice and its relatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ._focal import ALMOST_ZERO
from ._spec import Sums

Formula = Callable[[Sums], Tensor]


@dataclass(frozen=True)
class Overlap:
    """A loss of score = (above I + smooth) / (i I + p P + t T + smooth): 1 - score, its power, or minus its logarithm.

    Called with sums it is a formula like any other. ``slopes`` says its derivatives too, so that no graph is needed.
    """

    above: float
    i: float
    p: float
    t: float
    smooth: float
    eps: float
    log: bool = False
    gamma: float = 1.0

    def __call__(self, s: Sums) -> Tensor:
        """The loss of each image and class, [B, C]."""
        return self.of_score(self.fraction(s)[0])

    def fraction(self, s: Sums) -> tuple[Tensor, Tensor]:
        """The score, and what is below the fraction."""
        above, below = self.above * s.intersection, torch.add(self.p * s.prediction, s.truth, alpha=self.t)
        if self.i:
            below = torch.add(below, s.intersection, alpha=self.i)
        if self.smooth:
            above, below = above + self.smooth, below + self.smooth
        return above / below.clamp_min(self.least), below

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

    def slopes(self, s: Sums) -> tuple[Tensor, Tensor, Tensor]:
        """The loss, and its derivatives by intersection and by prediction, [B, C] each."""
        score, below = self.fraction(s)
        part = -1 / below.clamp_min(self.least)  # d loss / d above
        if self.log:
            part = torch.where(score < self.least, 0, part / score.clamp_min(self.least))
        elif self.gamma != 1:
            miss = 1 - score
            part = torch.where(miss < 1e-6, 0, part * self.gamma * miss.clamp_min(1e-6) ** (self.gamma - 1))
        by_below = torch.where(below < self.least, 0, part * score).neg_()
        return self.of_score(score), torch.add(self.i * by_below, part, alpha=self.above), self.p * by_below


def dice_formula(smooth: float, eps: float, log: bool) -> Overlap:
    """1 - (2 I + smooth) / (P + T + smooth)."""
    return Overlap(2, i=0, p=1, t=1, smooth=smooth, eps=eps, log=log)


def jaccard_formula(smooth: float, eps: float, log: bool) -> Overlap:
    """1 - (I + smooth) / (P + T - I + smooth)."""
    return Overlap(1, i=-1, p=1, t=1, smooth=smooth, eps=eps, log=log)


def tversky_formula(alpha: float, beta: float, gamma: float, smooth: float, eps: float) -> Overlap:
    """(1 - (I + smooth) / (I + alpha (P - I) + beta (T - I) + smooth))**gamma."""
    return Overlap(1, i=1 - alpha - beta, p=alpha, t=beta, smooth=smooth, eps=eps, gamma=gamma)


def generalized_dice_formula(smooth: float, eps: float) -> Formula:
    """1 - (2 sum_c w_c I_c + smooth) / (sum_c w_c (P_c + T_c) + smooth), with w_c = 1 / T_c**2; one number an image."""

    def formula(s: Sums) -> Tensor:
        # A class that is not there has no weight; dividing by the smallest T keeps the weights in (0, 1].
        there = s.truth > 0
        smallest = torch.where(there, s.truth, torch.inf).amin(1, keepdim=True)
        weight = torch.where(there, (smallest / torch.where(there, s.truth, 1)) ** 2, 0)
        unit = torch.where(there.any(1, keepdim=True), smallest, 1) ** 2  # smooth is in the units of w_c = 1 / T_c**2
        above = 2 * (weight * s.intersection).sum(1, keepdim=True) + smooth * unit
        below = (weight * (s.prediction + s.truth)).sum(1, keepdim=True) + smooth * unit
        return 1 - above / below.clamp_min(eps)  # [B, 1]

    return formula
