"""What one pass over the pixels is asked for, what it is given, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

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
        pixelwise: whether the terms are wanted: ``"none"``, ``"image"`` (their sum in each image), or ``"map"``.
        region: whether `Sums` are wanted.
        smaller: whether ``intersection`` sums the smaller of p and truth, instead of their product.
    """

    function: str
    sigmoid: bool
    ignore_index: int
    gamma: float = 0.0
    smoothing: float = 0.0
    power: int = 1
    pixelwise: str = "none"
    region: bool = False
    smaller: bool = False

    def settings(self) -> tuple[str, bool, int, float, float, int, str, bool, bool]:
        """The fields in order, as arguments of the operator."""
        return (
            self.function, self.sigmoid, self.ignore_index, self.gamma, self.smoothing, self.power, self.pixelwise,
            self.region, self.smaller,
        )  # fmt: skip


class Inputs(NamedTuple):
    """Checked tensors in flat shapes.

    ``logits`` ``[B, C, N]``, or ``[B, C, *coarse]`` to be interpolated; ``target`` ``[B, N]`` (class indices) or
    ``[B, C, N]`` (a number for each class); ``pixel_weights`` ``[B, N]``, for sigmoid also ``[B, C, N]``;
    ``class_weights`` ``[C]``, for sigmoid ``[2, C]`` (of a no, of a yes): these count in a mean's denominator;
    ``alpha`` in the same shapes: these do not.
    """

    logits: Tensor
    target: Tensor
    pixel_weights: Tensor | None = None
    class_weights: Tensor | None = None
    alpha: Tensor | None = None


class Flat(NamedTuple):
    """A checked problem: flat tensors, the shape of a map of losses, and the size the logits are interpolated to.

    ``source`` is what the user passed as logits: whose gradient is made in one step is spared that of a view. With
    ``asked`` a loss is not to be made: it says there what it wants of a pass that a compound makes for several.
    """

    function: str
    ignore_index: int
    source: Tensor
    inputs: Inputs
    shape: tuple[int, ...]
    size: tuple[int, ...]
    mode: str
    asked: list[Any] | None = None


def asking(flat: Flat, asked: list[Any]) -> Flat:
    """The same problem, for a loss that only says in ``asked`` what it wants."""
    return Flat(flat.function, flat.ignore_index, flat.source, flat.inputs, flat.shape, flat.size, flat.mode, asked)


class Sums(NamedTuple):
    """What a formula is on; ignored pixels and pixels of weight 0 are in none of them.

    Attributes:
        intersection: sum of p x truth, ``[B, C]``.
        prediction: sum of p (or p squared), ``[B, C]``.
        truth: sum of the truth (or its square, which differs for soft targets), ``[B, C]``.
        pixels: sum of weight, ``[B, 1]``; ``[B, C]`` for sigmoid, where a pixel may be ignored for one class only.
    """

    intersection: Tensor
    prediction: Tensor
    truth: Tensor
    pixels: Tensor


# The gradient from above: by the terms, by the intersections and by the predictions; None is 0.
Upstream = tuple[Tensor | None, Tensor | None, Tensor | None]


class Found(NamedTuple):
    """What one pass gives; None is what was not asked for.

    Attributes:
        sums: of regions.
        terms: weight x focal cross-entropy, summed in each image, ``[B]``; or the terms themselves, ``[B, 1, N]``
            (``[B, C, N]`` for sigmoid).
        weight: sum of weight x class weight in each image, ``[B]``: a mean divides by it. Not for a map.
    """

    sums: Sums | None = None
    terms: Tensor | None = None
    weight: Tensor | None = None
