"""Random transforms that resample: scale, crop and scale, affine, perspective, elastic."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from segkit import IGNORE_INDEX
from segkit.transforms._base import GeometricTransform, SizedTransform, as_probability
from segkit.transforms._resampling.affine import Affine
from segkit.transforms._resampling.chance import integer, log_uniform, normals, uniform, uniforms
from segkit.transforms._resampling.geometry import Geometry, Size
from segkit.transforms._resampling.inputs import as_fill, as_number, as_range, as_size, as_whole


class RandomScale(GeometricTransform):
    """The whole picture larger or smaller by a random factor; its height and width change with it.

    Args:
        scale: smallest and largest factor. Its logarithm is uniform, so halving is as likely as doubling.

    Example:
        >>> RandomScale((2, 2))(torch.zeros(3, 8, 10)).shape
        torch.Size([3, 16, 20])
    """

    antialias = True

    def __init__(self, scale: tuple[float, float] = (0.5, 2.0)) -> None:
        self.scale = as_range("RandomScale", "scale", scale, 1e-3, 1e3)

    def draw(self, source: Size, *, generator: torch.Generator | None = None) -> Geometry:
        """The map of one call."""
        factor = log_uniform(*self.scale, generator)
        return Geometry.scaling(source, (max(1, round(source[0] * factor)), max(1, round(source[1] * factor))))


class RandomResizedCrop(SizedTransform):
    """A window of random place, area and shape, resized to one size.

    Args:
        size: (height, width) of the result in pixels; an int is a square.
        scale: smallest and largest area of the window, as a fraction of the picture.
        ratio: smallest and largest width / height of the window; its logarithm is uniform.

    A window that would be wider or higher than the picture ends at its edge.

    Example:
        >>> image, mask = torch.rand(3, 40, 60), torch.zeros(40, 60, dtype=torch.uint8)
        >>> image, mask = RandomResizedCrop(32)(image, mask)
        >>> image.shape, mask.unique().tolist()
        (torch.Size([3, 32, 32]), [0])
    """

    antialias = True

    def __init__(
        self,
        size: int | Size,
        *,
        scale: tuple[float, float] = (0.25, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
    ) -> None:
        self.size = as_size("RandomResizedCrop", size)
        self.scale = as_range("RandomResizedCrop", "scale", scale, 1e-6, 1)
        self.ratio = as_range("RandomResizedCrop", "ratio", ratio, 1e-3, 1e3)

    def draw(
        self, source: Size, *, generator: torch.Generator | None = None, size: int | Size | None = None
    ) -> Geometry:
        """The map of one call."""
        area = source[0] * source[1] * uniform(*self.scale, generator)
        shape = log_uniform(*self.ratio, generator)
        height = min(source[0], max(1, round(math.sqrt(area / shape))))
        width = min(source[1], max(1, round(math.sqrt(area * shape))))
        top, left = integer(source[0] - height + 1, generator), integer(source[1] - width + 1, generator)
        window = Geometry.window(source, top, left, (height, width))
        wanted = self.wanted(size)
        return window.then(Geometry.scaling(window.size, wanted))


class RandomAffine(GeometricTransform):
    """Turned, moved, enlarged and sheared about the centre, in a frame that stays as large as it was.

    Args:
        degrees: range of the angle, counter-clockwise; a number x is (-x, x).
        translate: largest shift as a fraction of height and width; a number holds for both.
        scale: smallest and largest enlargement.
        shear: range of the shear in degrees, along both axes; a number x is (-x, x).
        p: probability that anything happens at all.
        image_fill: value of image pixels that come from outside; "reflect" mirrors the picture at its edge, "replicate"
            repeats the edge. The mask has `mask_fill` there all the same.
        mask_fill: value of mask pixels that come from outside.

    Example:
        >>> quarter = RandomAffine(degrees=(90, 90), translate=0, scale=(1, 1))
        >>> quarter(torch.tensor([[[1, 2], [3, 4]]])).tolist()
        [[[2, 4], [1, 3]]]
    """

    fills = True
    antialias = True

    def __init__(
        self,
        degrees: float | tuple[float, float] = 15.0,
        *,
        translate: float | tuple[float, float] = 0.0625,
        scale: tuple[float, float] = (0.9, 1.1),
        shear: float | tuple[float, float] = 0.0,
        p: float = 1.0,
        image_fill: float | str = 0.0,
        mask_fill: int = IGNORE_INDEX,
    ) -> None:
        name = "RandomAffine"
        self.degrees = as_range(name, "degrees", degrees, around=0)
        both = translate if isinstance(translate, Sequence) else (translate, translate)
        self.translate = tuple(as_number(name, "translate", each, 0, 1) for each in both)
        if len(self.translate) != 2:
            raise ValueError(f"{name}: `translate` must be a number or (down, right), got {translate!r}.")
        self.scale = as_range(name, "scale", scale, 1e-3, 1e3)
        self.shear = as_range(name, "shear", shear, -80, 80, around=0)
        self.p = as_probability(name, p)
        self.image_fill = as_fill(name, image_fill)
        self.mask_fill = as_whole(name, "mask_fill", mask_fill)

    def draw(self, source: Size, *, generator: torch.Generator | None = None) -> Geometry:
        """The map of one call."""
        if uniform(0, 1, generator) >= self.p:
            return Geometry.identity(source)
        low, high = self.scale
        ranges = [self.degrees, *((-reach, reach) for reach in self.translate), (0, 1), self.shear, self.shear]
        angle, down, right, enlarge, along_y, along_x = uniforms(ranges, generator)
        translate, scale = (down * source[0], right * source[1]), low * (high / low) ** enlarge
        shear = along_y, along_x
        return Geometry.affine(source, angle=angle, translate=translate, scale=scale, shear=shear)


class RotateInside(GeometricTransform):
    """Turned by a random angle, and cut to the largest upright rectangle that shows no corner from outside.

    The size of the result depends on the angle: let a crop or a resize follow, which costs nothing in a `Compose`.

    Args:
        degrees: range of the angle, counter-clockwise; a number x is (-x, x).
        p: probability that anything happens at all.

    Example:
        >>> image, mask = torch.ones(1, 40, 60), torch.zeros(40, 60, dtype=torch.uint8)
        >>> image, mask = RotateInside((30, 30))(image, mask)
        >>> image.shape, (mask == 255).any().item()
        (torch.Size([1, 23, 40]), False)
    """

    antialias = True

    def __init__(self, degrees: float | tuple[float, float] = 15.0, *, p: float = 1.0) -> None:
        self.degrees = as_range("RotateInside", "degrees", degrees, around=0)
        self.p = as_probability("RotateInside", p)

    def draw(self, source: Size, *, generator: torch.Generator | None = None) -> Geometry:
        """The map of one call."""
        if uniform(0, 1, generator) >= self.p:
            return Geometry.identity(source)
        angle = uniform(*self.degrees, generator)
        height, width = _inside(source, math.radians(angle))
        turned = Geometry.affine(source, angle=angle)
        # The centre of an even frame lies between pixels: a crop of an odd size from it would be off by half a pixel.
        top, left = (source[0] - height) / 2, (source[1] - width) / 2
        onto_source = turned.stages[0].after(Affine(1, 0, left, 0, 1, top))  # type: ignore[union-attr]
        return Geometry(source, (height, width), (onto_source,))


def _inside(source: Size, angle: float) -> Size:
    """Height and width of the largest upright rectangle in a picture that is turned, in whole pixels."""
    sin, cos = abs(math.sin(angle)), abs(math.cos(angle))
    short, long = sorted(source)
    if short <= 2 * sin * cos * long or abs(sin - cos) < 1e-10:  # two corners touch the longer sides' middle
        height, width = 0.5 * short / cos, 0.5 * short / sin
        if source[0] > source[1]:
            height, width = width, height
    else:
        area = cos * cos - sin * sin
        height, width = (source[0] * cos - source[1] * sin) / area, (source[1] * cos - source[0] * sin) / area
    return max(1, math.floor(height + 1e-9)), max(1, math.floor(width + 1e-9))


class RandomPerspective(GeometricTransform):
    """Seen at a slant: each corner of the frame looks at another place near that corner of the picture.

    Args:
        distortion: how far each corner may be from its own, inwards or outwards, as a share of height and width. It is
            below a quarter, so that straight lines stay straight and nothing folds over.
        p: probability that anything happens at all.
        image_fill: value of image pixels that come from outside; "reflect" mirrors the picture at its edge, "replicate"
            repeats the edge. The mask has `mask_fill` there all the same.
        mask_fill: value of mask pixels that come from outside.

    Others move all corners inwards in the result, which makes every picture smaller; here it is as large in the mean.

    Example:
        >>> image, mask = torch.rand(3, 64, 64), torch.zeros(64, 64, dtype=torch.uint8)
        >>> image, mask = RandomPerspective(0.2)(image, mask)
        >>> image.shape, set(mask.unique().tolist()) <= {0, 255}
        (torch.Size([3, 64, 64]), True)
    """

    fills = True
    antialias = True

    def __init__(
        self,
        distortion: float = 0.1,
        *,
        p: float = 1.0,
        image_fill: float | str = 0.0,
        mask_fill: int = IGNORE_INDEX,
    ) -> None:
        self.distortion = as_number("RandomPerspective", "distortion", distortion, 0, 0.24)
        self.p = as_probability("RandomPerspective", p)
        self.image_fill = as_fill("RandomPerspective", image_fill)
        self.mask_fill = as_whole("RandomPerspective", "mask_fill", mask_fill)

    def draw(self, source: Size, *, generator: torch.Generator | None = None) -> Geometry:
        """The map of one call."""
        if uniform(0, 1, generator) >= self.p or self.distortion == 0:
            return Geometry.identity(source)
        height, width = source
        shifts = uniforms([(-self.distortion, self.distortion)] * 8, generator)
        around = ((0, 0), (1, 0), (1, 1), (0, 1))
        corners = [
            ((x + right) * width - 0.5, (y + down) * height - 0.5)
            for (x, y), right, down in zip(around, shifts[::2], shifts[1::2], strict=True)
        ]
        return Geometry.perspective(source, corners)


class ElasticDeform(GeometricTransform):
    """A smooth random displacement of every pixel: a cubic B-spline through random control points.

    Args:
        magnitude: standard deviation of the control points' displacement along each axis, in pixels.
        spacing: distance between control points, in pixels. The picture does not fold over itself as long as the
            magnitude stays below about a fifth of it.
        p: probability that anything happens at all.
        image_fill: value of image pixels that come from outside; "reflect" mirrors the picture at its edge, "replicate"
            repeats the edge. The mask has `mask_fill` there all the same.
        mask_fill: value of mask pixels that come from outside.

    Example:
        >>> image, mask = torch.rand(3, 64, 64), torch.zeros(64, 64, dtype=torch.uint8)
        >>> image, mask = ElasticDeform(magnitude=3, spacing=16)(image, mask)
        >>> image.shape, mask.shape
        (torch.Size([3, 64, 64]), torch.Size([64, 64]))

    Source: Ronneberger et al. 2015 (U-Net), which displaces a coarse grid likewise, with bicubic interpolation.
    """

    fills = True

    def __init__(
        self,
        magnitude: float = 6.0,
        *,
        spacing: float = 48.0,
        p: float = 1.0,
        image_fill: float | str = 0.0,
        mask_fill: int = IGNORE_INDEX,
    ) -> None:
        self.magnitude = as_number("ElasticDeform", "magnitude", magnitude, 0)
        self.spacing = as_number("ElasticDeform", "spacing", spacing, 1)
        self.p = as_probability("ElasticDeform", p)
        self.image_fill = as_fill("ElasticDeform", image_fill)
        self.mask_fill = as_whole("ElasticDeform", "mask_fill", mask_fill)

    def draw(self, source: Size, *, generator: torch.Generator | None = None) -> Geometry:
        """The map of one call."""
        if uniform(0, 1, generator) >= self.p or self.magnitude == 0:
            return Geometry.identity(source)
        rows, columns = (math.ceil(length / self.spacing) + 3 for length in source)
        points = normals((2, rows, columns), generator) * self.magnitude
        return Geometry.bending(source, points, (self.spacing, self.spacing))
