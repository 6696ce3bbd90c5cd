"""What one pass over the pixels is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


@dataclass(frozen=True)
class Spec:
    """The settings of a pass; all plain numbers, so that they go through a custom op.

    Args:
        function: the name that errors begin with.
        sigmoid: one yes-or-no question for each channel, instead of one choice among C.
        ignore_index: the label of pixels that count nowhere.
        gamma: the focal exponent; 0 is cross-entropy.
        smoothing: the share of the label that is spread over all classes.
        power: 1 or 2: ``prediction`` sums p or p squared.
        terms: ``"none"``, ``"sum"`` (one number for each sample) or ``"map"`` (one for each pixel).
        region: whether ``intersection``, ``prediction``, ``truth`` and ``pixels`` are wanted.
    """

    function: str
    sigmoid: bool
    ignore_index: int
    gamma: float = 0.0
    smoothing: float = 0.0
    power: int = 1
    terms: str = "none"
    region: bool = False


class Inputs(NamedTuple):
    """Checked tensors in flat shapes.

    ``logits`` ``[B, C, N]``; ``target`` ``[B, N]`` (class indices) or ``[B, C, N]`` (one number for each class);
    ``pixel_weights`` ``[B, N]``; ``class_weights`` ``[C]``, for sigmoid ``[2, C]`` (of a no, of a yes): these count in
    a mean's denominator; ``alpha`` in the same shapes: these do not.
    """

    logits: Tensor
    target: Tensor
    pixel_weights: Tensor | None
    class_weights: Tensor | None
    alpha: Tensor | None


class Sums(NamedTuple):
    """What one pass over the pixels gives; ignored pixels and pixels of weight 0 are in none of them.

    Attributes:
        terms: sum over pixels of weight x focal cross-entropy, ``[B]``; or the terms themselves, in the target's shape.
        weight: sum over pixels of weight (and class weight), ``[B]``: the denominator of a mean.
        intersection: sum of p x truth, ``[B, C]``.
        prediction: sum of p (or p squared), ``[B, C]``.
        truth: sum of the truth, ``[B, C]``.
        pixels: sum of weight, ``[B, 1]``; ``[B, C]`` for sigmoid, where a pixel may be ignored for one class only.
    """

    terms: Tensor
    weight: Tensor
    intersection: Tensor
    prediction: Tensor
    truth: Tensor
    pixels: Tensor
