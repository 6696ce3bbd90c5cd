"""What some losses need beside the mask, made in the loader: skeletons, distances, objects and weights of borders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from segkit import IGNORE_INDEX
from segkit.transforms._objects.targets import Spacing, border_weights, component_regions, distance_maps, skeleton
from segkit.transforms._resampling.inputs import as_number, as_size, as_whole, check_pair


class _AddsTargets:
    """A transform that turns the mask into a dict of targets, the mask among them; it comes last in a row."""

    _adds: str
    spacing: Spacing = None
    moves = draws = False
    keeps_values = True

    def __call__(self, image: Tensor, mask: Any = None, *, generator: torch.Generator | None = None) -> Any:
        """The image, and a dict with the mask and what was made of it."""
        name = type(self).__name__
        if mask is None:
            raise ValueError(
                f"{name}: `mask` must be given, as the target is made from it, got None. Call it with a mask."
            )
        targets = dict(mask) if isinstance(mask, Mapping) else {"mask": mask}
        if self.spacing is None or len(self.spacing) == 2:
            check_pair(name, image, targets["mask"])
        elif image.shape[-3:] != targets["mask"].shape[-3:]:
            raise ValueError(
                f"{name}: `image` and `mask` must be [..., C, D, H, W] and [..., D, H, W], as `spacing` has three "
                f"numbers, got {list(image.shape)} and {list(targets['mask'].shape)}."
            )
        return image, {**targets, self._adds: self._target(targets["mask"])}

    def _target(self, mask: Tensor) -> Tensor:
        raise TypeError(f"{type(self).__name__} does not say what it makes: implement _target.")

    def __repr__(self) -> str:
        shown = {name: value for name, value in vars(self).items() if name != "spacing" or value is not None}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


class SkeletonTarget(_AddsTargets):
    """Beside the mask its skeleton, for `losses.skeleton_recall`: put it last.

    Args:
        radius: the lines reach so many pixels to each side of the centre.
        background: a class without centre lines; None if every class has them.
        spacing: three numbers for volumes, as for `functional.skeleton`.
        ignore_index: label of pixels that count nowhere; the skeleton holds it wherever no line is.

    Returns:
        The image, and {"mask": the mask, "skeleton": `functional.skeleton` of it}.

    Example:
        >>> mask = torch.zeros(9, 9, dtype=torch.uint8)
        >>> mask[:, 3:6] = 1
        >>> _, targets = SkeletonTarget(radius=0)(torch.zeros(1, 9, 9), mask)
        >>> targets["skeleton"][4].tolist()
        [255, 255, 255, 255, 1, 255, 255, 255, 255]
    """

    _adds = "skeleton"

    def __init__(
        self,
        *,
        radius: int = 1,
        background: int | None = 0,
        spacing: Spacing = None,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        self.radius = as_whole("SkeletonTarget", "radius", radius, 0)
        self.background, self.spacing, self.ignore_index = background, spacing, ignore_index

    def _target(self, mask: Tensor) -> Tensor:
        return skeleton(mask, **vars(self))


class DistanceMaps(_AddsTargets):
    """Beside the mask its signed distance maps, for `losses.boundary`: put it last.

    Args:
        num_classes: C.
        spacing: length of a pixel along each axis; three numbers for volumes.
        ignore_index: label of pixels that count nowhere; their distance is 0.

    Returns:
        The image, and {"mask": the mask, "distance_maps": `functional.distance_maps` of it, float32 [..., C, H, W]}.

    Example:
        >>> image, targets = DistanceMaps(2)(torch.zeros(1, 1, 4), torch.tensor([[0, 0, 1, 1]]))
        >>> targets["distance_maps"][0].tolist()
        [[-1.0, 0.0, 1.0, 2.0]]
    """

    _adds = "distance_maps"

    def __init__(self, num_classes: int, *, spacing: Spacing = None, ignore_index: int = IGNORE_INDEX) -> None:
        self.num_classes = as_size("DistanceMaps", num_classes, "num_classes")[0]
        self.spacing, self.ignore_index = spacing, ignore_index

    def _target(self, mask: Tensor) -> Tensor:
        return distance_maps(mask, **vars(self))

    def __repr__(self) -> str:
        return super().__repr__().replace("num_classes=", "", 1)


class ComponentRegions(_AddsTargets):
    """Beside the mask the object that is nearest to each pixel, for `losses.component_dice_ce`: put it last.

    Args:
        background: a class without objects; None if every class has them.
        spacing: length of a pixel along each axis; three numbers for volumes.
        ignore_index: label of pixels that count nowhere.

    Returns:
        The image, and {"mask": the mask, "component_regions": `functional.component_regions` of it, int32}.

    Example:
        >>> image, targets = ComponentRegions()(torch.zeros(1, 1, 4), torch.tensor([[1, 0, 0, 1]]))
        >>> (targets["component_regions"] // 65536).tolist()
        [[1, 1, 2, 2]]
    """

    _adds = "component_regions"

    def __init__(
        self, *, background: int | None = 0, spacing: Spacing = None, ignore_index: int = IGNORE_INDEX
    ) -> None:
        self.background, self.spacing, self.ignore_index = background, spacing, ignore_index

    def _target(self, mask: Tensor) -> Tensor:
        return component_regions(mask, **vars(self))


class BorderWeights(_AddsTargets):
    """Beside the mask the weight of each pixel, more between objects that nearly touch: put it last.

    Args:
        weight: added where two objects nearly touch.
        sigma: how far from both the weight reaches, in pixels (or the unit of `spacing`).
        background: the class between the objects.
        spacing: length of a pixel along each axis; three numbers for volumes.
        ignore_index: label of pixels that count nowhere; their weight is 0.

    Returns:
        The image, and {"mask": the mask, "pixel_weights": `functional.border_weights` of it, float32}.

    Example:
        >>> image, targets = BorderWeights()(torch.zeros(1, 1, 3), torch.tensor([[1, 0, 255]]))
        >>> targets["pixel_weights"].tolist()
        [[1.0, 1.0, 0.0]]
    """

    _adds = "pixel_weights"

    def __init__(
        self,
        *,
        weight: float = 10.0,
        sigma: float = 5.0,
        background: int = 0,
        spacing: Spacing = None,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        self.weight = as_number("BorderWeights", "weight", weight, 0)
        self.sigma = as_number("BorderWeights", "sigma", sigma, 1e-6)
        self.background, self.spacing, self.ignore_index = background, spacing, ignore_index

    def _target(self, mask: Tensor) -> Tensor:
        return border_weights(mask, **vars(self))
