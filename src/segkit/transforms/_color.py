"""Random transforms of the values: colour, noise, blur, holes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from segkit import IGNORE_INDEX
from segkit.transforms import _pixels
from segkit.transforms._base import Pair, Transform, ValueTransform, as_probability
from segkit.transforms._resampling import by_torch, values_each
from segkit.transforms._resampling.chance import Source, integer, log_uniform, uniform
from segkit.transforms._resampling.geometry import Size
from segkit.transforms._resampling.inputs import as_number, as_range, as_size, as_whole, check_fill, check_image_fill


class ColorJitter(ValueTransform):
    """Brightness, contrast, saturation and hue changed at random, in this order; the mask stays.

    Args:
        brightness: range of the factor; a number x is (1 - x, 1 + x).
        contrast: range of the factor for each value's distance from its channel's mean; a number x is (1 - x, 1 + x).
        saturation: range of the factor for each colour's distance from its grey. RGB only.
        hue: range of the turn of the colour circle, within [-0.5, 0.5]; a number x is (-x, x). RGB only.
        p: probability that anything happens at all.

    Brightness and contrast work for any number of channels; a picture without 3 channels is refused if saturation or
    hue may change. Integers stay in their range, floating point values are not clipped.

    Example:
        >>> bands = torch.rand(13, 8, 8)
        >>> ColorJitter(brightness=0.3, contrast=0.3)(bands).shape
        torch.Size([13, 8, 8])
    """

    def __init__(
        self,
        brightness: float | tuple[float, float] = 0.2,
        contrast: float | tuple[float, float] = 0.2,
        saturation: float | tuple[float, float] = 0.0,
        hue: float | tuple[float, float] = 0.0,
        *,
        p: float = 1.0,
    ) -> None:
        name = "ColorJitter"
        self.brightness = as_range(name, "brightness", brightness, 0, around=1)
        self.contrast = as_range(name, "contrast", contrast, 0, around=1)
        self.saturation = as_range(name, "saturation", saturation, 0, around=1)
        self.hue = as_range(name, "hue", hue, -0.5, 0.5, around=0)
        self.p = as_probability(name, p)

    def numbers(self, size: Size, generator: Source) -> dict[str, float] | None:
        """The factors."""
        if uniform(0, 1, generator) >= self.p:
            return None
        ranges = {"brightness": self.brightness, "contrast": self.contrast}
        ranges |= {"saturation": self.saturation, "hue": self.hue}
        return {name: uniform(*limits, generator) for name, limits in ranges.items()}

    def change(self, image: Tensor, mask: Tensor | None, numbers: dict[str, float] | None) -> Pair:
        """The image with other colours."""
        self._check(image)
        return (image if numbers is None else _pixels.adjust_color(image, None, **numbers)), mask

    def change_each(self, images: Tensor, masks: Tensor | None, numbers: Sequence[dict[str, float] | None]) -> Pair:
        """Each with colours of its own."""
        colors = self._check(images)
        nothing = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0}
        factors: Any = [tuple((each or nothing).values()) for each in numbers]
        contrast = self.contrast != (1.0, 1.0)
        changed = values_each.adjust_colors(images, factors, contrast=contrast, colors=colors)
        return values_each.where([each is not None for each in numbers], changed, images), masks

    def _check(self, image: Tensor) -> bool:
        """May colours change?"""
        colors = self.saturation != (1.0, 1.0) or self.hue != (0.0, 0.0)
        if colors and image.shape[-3] != 3:
            raise ValueError(
                f"ColorJitter: `image` must have the 3 channels RGB for saturation and hue, got {image.shape[-3]}. "
                "Leave both out for other pictures."
            )
        _pixels.check_values("ColorJitter", image)
        return colors


class RandomGamma(ValueTransform):
    """Values raised to a random power, which lights or darkens all but black and white; the mask stays.

    Args:
        gamma: range of the power; its logarithm is uniform. Below 1 is lighter.
        p: probability that anything happens at all.

    Floating point values are taken to lie in [0, 1], integers in the range of `functional.adjust_gamma`.

    Example:
        >>> RandomGamma((2, 2))(torch.tensor([[[0.0, 0.5, 1.0]]])).tolist()
        [[[0.0, 0.25, 1.0]]]
    """

    def __init__(self, gamma: tuple[float, float] = (0.7, 1.4), *, p: float = 1.0) -> None:
        self.gamma = as_range("RandomGamma", "gamma", gamma, 1e-2, 1e2)
        self.p = as_probability("RandomGamma", p)

    def numbers(self, size: Size, generator: Source) -> float | None:
        """The power."""
        return None if uniform(0, 1, generator) >= self.p else log_uniform(*self.gamma, generator)

    def change(self, image: Tensor, mask: Tensor | None, numbers: float | None) -> Pair:
        """The image lighter or darker."""
        return (image if numbers is None else _pixels.adjust_gamma(image, gamma=numbers)), mask

    def change_each(self, images: Tensor, masks: Tensor | None, numbers: Sequence[float | None]) -> Pair:
        """Each by a power of its own."""
        changed = values_each.adjust_gammas(images, [1.0 if each is None else each for each in numbers])
        return values_each.where([each is not None for each in numbers], changed, images), masks


class CLAHE(Transform):
    """Contrast evened out within small tiles, with a limit (contrast limited adaptive histogram equalisation).

    Args:
        clip_limit: range of the limit: how much steeper than straight the curve of a tile may be.
        tiles: how many tiles down and across; a number holds for both.
        p: probability that anything happens at all.

    Example:
        >>> CLAHE()(torch.rand(13, 64, 64)).shape
        torch.Size([13, 64, 64])

    Source: Zuiderveld 1994, as OpenCV has it. Three channels change by what their grey changes by, so colours stay.
    """

    apart = True

    def __init__(
        self, clip_limit: tuple[float, float] = (1.0, 4.0), *, tiles: int | tuple[int, int] = 8, p: float = 1.0
    ) -> None:
        self.clip_limit = as_range("CLAHE", "clip_limit", clip_limit, 0.1, 1e3)
        self.tiles = as_size("CLAHE", tiles, "tiles")
        self.p = as_probability("CLAHE", p)

    def apply(self, image: Tensor, mask: Tensor | None, generator: torch.Generator | None) -> Pair:
        if uniform(0, 1, generator) >= self.p:
            return image, mask
        limit = uniform(*self.clip_limit, generator)
        return _pixels.equalize_tiles(image, clip_limit=limit, tiles=self.tiles), mask


class GaussianNoise(Transform):
    """Independent noise in every pixel and channel, of a random strength; the mask stays.

    Args:
        std: range of the standard deviation, as a fraction of the value range (1 for floating point, 255 for uint8,
            65,535 for wider integers).
        p: probability that anything happens at all.

    Example:
        >>> noisy = GaussianNoise((0.1, 0.1))(torch.zeros(1, 64, 64))
        >>> 0.08 < noisy.std() < 0.12
        tensor(True)
    """

    apart = True

    def __init__(self, std: tuple[float, float] = (0.0, 0.05), *, p: float = 1.0) -> None:
        self.std = as_range("GaussianNoise", "std", std, 0)
        self.p = as_probability("GaussianNoise", p)

    def apply(self, image: Tensor, mask: Tensor | None, generator: torch.Generator | None) -> Pair:
        if uniform(0, 1, generator) >= self.p:
            return image, mask
        return _pixels.add_noise(image, std=uniform(*self.std, generator), generator=generator), mask


class GaussianBlur(ValueTransform):
    """The image blurred by a random amount; the mask stays.

    Args:
        sigma: range of the standard deviation in pixels; its logarithm is uniform.
        p: probability that anything happens at all.

    Example:
        >>> GaussianBlur((1.0, 2.0))(torch.rand(13, 16, 16)).shape
        torch.Size([13, 16, 16])
    """

    def __init__(self, sigma: tuple[float, float] = (0.2, 2.0), *, p: float = 1.0) -> None:
        self.sigma = as_range("GaussianBlur", "sigma", sigma, 0.01)
        self.p = as_probability("GaussianBlur", p)

    def numbers(self, size: Size, generator: Source) -> float | None:
        """The standard deviation."""
        return None if uniform(0, 1, generator) >= self.p else log_uniform(*self.sigma, generator)

    def change(self, image: Tensor, mask: Tensor | None, numbers: float | None) -> Pair:
        """The blurred image."""
        return (image if numbers is None else _pixels.gaussian_blur(image, sigma=numbers)), mask

    def change_each(self, images: Tensor, masks: Tensor | None, numbers: Sequence[float | None]) -> Pair:
        """Each by a deviation of its own."""
        blurred = by_torch.blur_each(images, [(0.0, 0.0) if each is None else (each, each) for each in numbers])
        happens = [each is not None for each in numbers]
        return values_each.where(happens, by_torch.as_it_was(blurred, images), images), masks


class Cutout(ValueTransform):
    """Rectangles of random size and place painted over, in image and mask.

    Args:
        holes: how many.
        size: range of a rectangle's height and of its width, as a fraction of the picture's.
        image_fill: value painted into the image.
        mask_fill: value painted into the mask; None leaves the mask, so that the network has to guess what was there.
        p: probability that anything happens at all.

    Example:
        >>> image, mask = Cutout(1, size=(0.5, 0.5))(torch.ones(1, 8, 8), torch.zeros(8, 8, dtype=torch.uint8))
        >>> (image == 0).sum().item(), (mask == 255).sum().item()
        (16, 16)

    Source: DeVries and Taylor 2017, whose holes may reach beyond the edge; ours lie inside.
    """

    size: tuple[float, float]

    def __init__(
        self,
        holes: int = 1,
        *,
        size: tuple[float, float] = (0.1, 0.4),
        image_fill: float = 0.0,
        mask_fill: int | None = IGNORE_INDEX,
        p: float = 1.0,
    ) -> None:
        self.holes = as_size("Cutout", holes, "holes")[0]
        self.size = as_range("Cutout", "size", size, 0, 1)
        self.image_fill = as_number("Cutout", "image_fill", image_fill)
        self.mask_fill = None if mask_fill is None else as_whole("Cutout", "mask_fill", mask_fill)
        self.p = as_probability("Cutout", p)

    def numbers(self, size: Size, generator: Source) -> list[tuple[int, int, int, int]] | None:
        """The rectangles."""
        if uniform(0, 1, generator) >= self.p:
            return None
        boxes = []
        for _ in range(self.holes):
            height, width = (max(1, round(length * uniform(*self.size, generator))) for length in size)
            top, left = integer(size[0] - height + 1, generator), integer(size[1] - width + 1, generator)
            boxes.append((top, left, height, width))
        return boxes

    def change(self, image: Tensor, mask: Tensor | None, numbers: list[tuple[int, int, int, int]] | None) -> Pair:
        """Image and mask with holes."""
        self._check(image, mask)
        if numbers is None:
            return image, mask
        done = _pixels.cutout(image, mask, boxes=numbers, image_fill=self.image_fill, mask_fill=self.mask_fill)
        return done if mask is not None else (done, None)

    def change_each(
        self, images: Tensor, masks: Tensor | None, numbers: Sequence[list[tuple[int, int, int, int]] | None]
    ) -> Pair:
        """Each with holes of its own."""
        self._check(images, masks)
        boxes = [each or [(0, 0, 0, 0)] * self.holes for each in numbers]
        fills = {"image_fill": self.image_fill, "mask_fill": self.mask_fill}
        return values_each.cut_out(images, masks, boxes, **fills)  # type: ignore[arg-type]

    def _check(self, image: Tensor, mask: Tensor | None) -> None:
        check_image_fill("Cutout", image, self.image_fill)
        if self.mask_fill is not None:
            check_fill("Cutout", mask, self.mask_fill)
