"""What changes values and moves nothing: colour, noise, blur and holes, each as a function of its parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from segkit import IGNORE_INDEX
from segkit.transforms._base import given
from segkit.transforms._resampling import by_opencv, by_torch
from segkit.transforms._resampling.inputs import as_number, as_size, check_fill, check_image_fill, check_pair
from segkit.transforms._resampling.values_each import TO_YIQ, color_matrix


def normalize(
    image: Tensor, mask: Tensor | None = None, *, mean: float | Sequence[float], std: float | Sequence[float]
) -> Any:
    """Each channel minus its mean, divided by its standard deviation; the mask stays.

    Args:
        image: [..., C, H, W], floating point.
        mask: [..., H, W], integers.
        mean: one number for each channel, or a single one for all.
        std: the same. 0, or what rounding leaves of it, belongs to a constant channel, which is divided by 1.

    Raises:
        ValueError: the image has another number of channels, or a deviation is negative.
        TypeError: the image holds integers.

    Example:
        >>> import torch
        >>> normalize(torch.tensor([[[0.5, 1.0]]]), mean=0.5, std=0.25).tolist()
        [[[0.0, 2.0]]]
    """
    check_pair("normalize", image, mask)
    if not image.is_floating_point():
        raise TypeError(f"normalize: `image` must be floating point, got {image.dtype}. Put ToTensor() before it.")
    means, deviations = mean_and_std("normalize", mean, std)
    for argument, values in (("mean", means), ("std", deviations)):
        if len(values) not in (1, image.shape[-3]):
            raise ValueError(
                f"normalize: `{argument}` must have one number for each of the image's {image.shape[-3]} channels, "
                f"got {len(values)}. segkit.stats.dataset_statistics measures them."
            )
    centred = image - image.new_tensor(means)[:, None, None]
    divisor = image.new_tensor(deviations)[:, None, None]
    return given(centred / divisor if centred.requires_grad else centred.div_(divisor), mask)


def mean_and_std(name: str, mean: Any, std: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Both as tuples of numbers, the second positive: 1 for a constant channel."""
    means, deviations = _numbers(name, "mean", mean), _numbers(name, "std", std)
    if min(deviations) < 0:
        raise ValueError(f"{name}: `std` must not be negative, got {deviations}. Pass standard deviations.")
    if 1 not in (len(means), len(deviations)) and len(means) != len(deviations):
        raise ValueError(f"{name}: `std` must be as long as `mean` ({len(means)}), got {len(deviations)}.")
    constant = constant_channels(means, deviations)
    return means, tuple(1.0 if channel in constant else deviation for channel, deviation in enumerate(deviations))


def constant_channels(mean: Sequence[float], std: Sequence[float]) -> list[int]:
    """The channels whose deviation is 0 or no more than what rounding in float32 leaves of a constant."""
    largest = [abs(each) for each in mean] if len(mean) == len(std) else [max(map(abs, mean))] * len(std)
    return [c for c, (size, deviation) in enumerate(zip(largest, std, strict=True)) if deviation <= 1e-6 * size]


def _numbers(name: str, argument: str, values: Any) -> tuple[float, ...]:
    values = values.tolist() if hasattr(values, "tolist") else values
    values = [values] if isinstance(values, (int, float)) else values
    numbers = tuple(as_number(name, argument, value) for value in values)
    if not numbers:
        raise ValueError(f"{name}: `{argument}` must hold at least one number, got none.")
    return numbers


def adjust_color(
    image: Tensor,
    mask: Tensor | None = None,
    *,
    brightness: float = 1.0,
    contrast: float = 1.0,
    saturation: float = 1.0,
    hue: float = 0.0,
) -> Any:
    """Brighter, more contrast, more colour, or other colours; the mask stays.

    Args:
        image: [..., C, H, W], any dtype except bool. Integers are rounded (uint8 on the CPU to within one level if
            colours change) and stay within their range; floating point values are not clipped, as no range is assumed.
        mask: [..., H, W], integers.
        brightness: factor for all values.
        contrast: factor for the distance of each value from the mean of its channel.
        saturation: factor for the distance of each colour from its grey. Needs 3 channels, RGB.
        hue: turn of the colour circle, in [-0.5, 0.5], 0.5 being the opposite colour. Needs 3 channels, RGB.

    Raises:
        ValueError: saturation or hue for another number of channels than 3.

    Example:
        >>> import torch
        >>> adjust_color(torch.tensor([[[100, 200]]], dtype=torch.uint8), brightness=2.0).tolist()
        [[[200, 255]]]

    Source: the hue turns the plane of YIQ's I and Q, one matrix, where torchvision goes through HSV.
    """
    check_pair("adjust_color", image, mask)
    check_values("adjust_color", image)
    turns = saturation != 1 or hue != 0
    if turns and image.shape[-3] != 3:
        raise ValueError(
            f"adjust_color: `image` must have the 3 channels RGB for saturation and hue, got {image.shape[-3]}. "
            "Leave both out for other pictures."
        )
    matrix = color_matrix(saturation, hue) if turns else None
    gain = brightness * contrast
    if gain == contrast == 1 and matrix is None:
        return given(image, mask)
    if image.dtype == torch.uint8 and image.device.type == "cpu":
        return given(by_opencv.recolor(image, gain, brightness * (1 - contrast), matrix), mask)
    changed = image if image.is_floating_point() else image.to(torch.float32)
    if contrast != 1:
        # In float64, so that the number of threads that share the sum does not show: workers have one, the main
        # process has more, and both must give the same picture.
        changed = changed.contiguous()  # nor in which order the pixels lie
        mean = changed.mean((-2, -1), keepdim=True, dtype=torch.float64)
        changed = torch.add((mean * (brightness * (1 - contrast))).to(changed.dtype), changed, alpha=gain)
    elif gain != 1:
        changed = changed * gain
    if matrix is not None:
        changed = torch.einsum("ij,...jhw->...ihw", torch.from_numpy(matrix).to(changed), changed)
    return given(as_it_was(changed, image), mask)


def adjust_gamma(image: Tensor, mask: Tensor | None = None, *, gamma: float) -> Any:
    """Values raised to the power `gamma`, as a share of their range; the mask stays.

    Args:
        image: [..., C, H, W], any dtype except bool: floating point in [0, 1], uint8 to 255, wider integers to 65,535.
            Negative values count as 0.
        mask: [..., H, W], integers.
        gamma: the power; below 1 is lighter.

    Example:
        >>> import torch
        >>> adjust_gamma(torch.tensor([[[0, 51, 255]]], dtype=torch.uint8), gamma=0.5).tolist()
        [[[0, 114, 255]]]
    """
    check_pair("adjust_gamma", image, mask)
    check_values("adjust_gamma", image)
    gamma = as_number("adjust_gamma", "gamma", gamma, 1e-3, 1e3)
    if image.dtype == torch.uint8:
        table = (torch.arange(256, dtype=torch.float64) / 255).pow_(gamma).mul_(255).round_().to(image)
        return given(table[image.to(torch.int64)], mask)
    top = _top(image)
    values = image if image.is_floating_point() else image.to(torch.float64)
    return given(as_it_was((values / top).clamp(min=0).pow(gamma) * top, image), mask)


def equalize_tiles(
    image: Tensor, mask: Tensor | None = None, *, clip_limit: float = 2.0, tiles: int | tuple[int, int] = 8
) -> Any:
    """Contrast evened out within tiles, with a limit (CLAHE); the mask stays.

    Args:
        image: [..., C, H, W], any dtype except bool, with values as for `adjust_gamma`. Three channels change by the
            factor that their grey changes by; others each by themselves.
        mask: [..., H, W], integers.
        clip_limit: how much steeper than straight the curve of a tile may be.
        tiles: how many, (down, across); an int holds for both.

    Example:
        >>> import torch
        >>> flat = torch.linspace(0.4, 0.6, 4096).reshape(1, 64, 64)
        >>> bool(equalize_tiles(flat, clip_limit=4.0).std() > flat.std())
        True

    Source: OpenCV's CLAHE, on 16 bits.
    """
    check_pair("equalize_tiles", image, mask)
    check_values("equalize_tiles", image)
    limit = as_number("equalize_tiles", "clip_limit", clip_limit, 1e-3)
    down, across = as_size("equalize_tiles", tiles, "tiles")
    top = _top(image)
    shares = (image.detach().to("cpu", torch.float32) / top).clamp_(0, 1)
    coloured = image.shape[-3] == 3
    planes = (shares * torch.tensor(TO_YIQ[0])[:, None, None]).sum(-3, keepdim=True) if coloured else shares
    levels = planes.mul(65_535).round_().numpy().astype(np.uint16).reshape(-1, *image.shape[-2:])
    evened = np.empty_like(levels)
    for plane, out in zip(levels, evened, strict=True):
        cv2.createCLAHE(limit, (across, down)).apply(plane, out)
    changed = torch.from_numpy(evened.astype(np.float32)).div_(65_535).reshape(planes.shape)
    if coloured:
        changed = (shares * (changed / planes.clamp(min=1 / 65_535))).clamp_(0, 1)
    return given(as_it_was((changed * top).to(image.device), image), mask)


def _top(image: Tensor) -> int:
    """The value that stands for white."""
    return 1 if image.is_floating_point() else 255 if image.dtype == torch.uint8 else 65_535


def add_noise(
    image: Tensor, mask: Tensor | None = None, *, std: float, generator: torch.Generator | None = None
) -> Any:
    """Independent Gaussian noise in every pixel and channel; the mask stays.

    Args:
        image: [..., C, H, W], any dtype except bool. Integers are rounded and stay within their range.
        mask: [..., H, W], integers.
        std: standard deviation, as a fraction of the value range: of 1 for floating point images, of 255 for uint8 and
            of 65,535 for wider integers, which hold 16-bit values.
        generator: the source of random numbers; None is torch's global one.

    Example:
        >>> import torch
        >>> noisy = add_noise(torch.full((3, 64, 64), 100, dtype=torch.uint8), std=0.1)
        >>> 20 < noisy.float().std() < 30
        tensor(True)
    """
    check_pair("add_noise", image, mask)
    check_values("add_noise", image)
    std = as_number("add_noise", "std", std, 0)
    if std == 0:
        return given(image, mask)
    # In float32 at least: torch's sums of halves depend on how the memory lies.
    values = image if image.dtype in (torch.float32, torch.float64) else image.to(torch.float32)
    device = image.device if generator is None else generator.device
    noise = torch.randn(image.shape, generator=generator, device=device).to(values.device, values.dtype)
    return given(as_it_was(torch.add(values, noise, alpha=std * _top(image)), image), mask)


def gaussian_blur(image: Tensor, mask: Tensor | None = None, *, sigma: float | tuple[float, float]) -> Any:
    """The image blurred, its edge repeated outwards; the mask stays.

    Args:
        image: [..., C, H, W], any dtype except bool.
        mask: [..., H, W], integers.
        sigma: standard deviation in pixels, or (vertical, horizontal). Below 0.2 it changes nothing.

    Example:
        >>> import torch
        >>> point = torch.zeros(1, 9, 9)
        >>> point[0, 4, 4] = 1
        >>> blurred = gaussian_blur(point, sigma=1.0)
        >>> round(blurred.sum().item(), 4), round(blurred[0, 4, 4].item(), 2)
        (1.0, 0.16)
    """
    check_pair("gaussian_blur", image, mask)
    check_values("gaussian_blur", image)
    both = sigma if isinstance(sigma, Sequence) else (sigma, sigma)
    down, across = (as_number("gaussian_blur", "sigma", each, 0) for each in both)
    if max(down, across) < 0.2:
        return given(image, mask)
    if by_opencv.takes(image):
        return given(by_opencv.blur(image, (down, across)), mask)
    return given(by_torch.blur(image, (down, across)), mask)


def cutout(
    image: Tensor,
    mask: Tensor | None = None,
    *,
    boxes: Sequence[tuple[int, int, int, int]],
    image_fill: float = 0.0,
    mask_fill: int | None = IGNORE_INDEX,
) -> Any:
    """Rectangles of the picture painted over.

    Args:
        image: [..., C, H, W], any dtype.
        mask: [..., H, W], integers.
        boxes: (top, left, height, width) of each rectangle in pixels; what lies outside the picture is left out.
        image_fill: value painted into the image.
        mask_fill: value painted into the mask; None leaves the mask, so that the network has to guess what was there.

    Example:
        >>> import torch
        >>> image, mask = cutout(torch.ones(1, 2, 3), torch.zeros(2, 3, dtype=torch.uint8), boxes=[(0, 1, 1, 9)])
        >>> image.tolist(), mask.tolist()
        ([[[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]], [[0, 255, 255], [0, 0, 0]])
    """
    check_pair("cutout", image, mask)
    check_image_fill("cutout", image, image_fill)
    image = image.clone()
    if mask is not None and mask_fill is not None:
        check_fill("cutout", mask, mask_fill)
        mask = mask.clone()
    for top, left, height, width in boxes:
        hole = (..., slice(max(top, 0), max(top + height, 0)), slice(max(left, 0), max(left + width, 0)))
        image[hole] = image_fill
        if mask is not None and mask_fill is not None:
            mask[hole] = mask_fill
    return given(image, mask)


def check_values(name: str, image: Tensor) -> None:
    if image.dtype == torch.bool:
        raise TypeError(f"{name}: `image` must hold numbers, got torch.bool. Convert it with image.to(torch.uint8).")


def as_it_was(changed: Tensor, image: Tensor) -> Tensor:
    """Values in the dtype of `image`, rounded and clipped where that holds integers."""
    if image.is_floating_point():
        return changed.to(image.dtype)
    limits = torch.iinfo(image.dtype)
    low, high = limits.min, limits.max
    if image.dtype in (torch.int32, torch.int64) and image.numel():
        # 16-bit values live in int32, as torch.uint16 has few operators: they must not leave their own range.
        least, most = (int(value) for value in image.aminmax())
        low, high = (0, 65_535) if least >= 0 and most <= 65_535 else (-(2**31), 2**31 - 128)
    return changed.round_().clamp_(low, high).to(image.dtype)
