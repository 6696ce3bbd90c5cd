"""Look at images and masks of any dtype and any number of channels, as ordinary RGB pictures.

`overlay` lays a mask over its image, `contact_sheet` puts many samples on one page, `to_rgb` is the step below both:
it picks three bands, stretches them between two percentiles and returns 8-bit RGB. Images are ``[H, W, C]`` or
``[H, W]`` arrays, masks ``[H, W]`` integers. Tensors are taken too, channels first, as the data set yields them.

Example:
    >>> import numpy as np
    >>> image = np.arange(24, dtype=np.uint16).reshape(4, 6, 1) * 100
    >>> mask = np.array([[0, 0, 1, 1, 255, 255]] * 4)
    >>> overlay(image, mask).shape
    (4, 6, 3)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from segkit import IGNORE_INDEX

__all__ = ["class_colors", "contact_sheet", "overlay", "rgb_bands", "to_rgb"]

Color = tuple[int, int, int]

# Okabe and Ito's palette (2008), told apart with every common kind of colour blindness; black is left out, since it is
# where most images are dark anyway. Class 0 is usually background and gets the quietest of them.
_PALETTE: tuple[Color, ...] = (
    (86, 180, 233),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (240, 228, 66),
    (213, 94, 0),
    (0, 114, 178),
)


def class_colors(num_classes: int) -> list[Color]:
    """One RGB colour for each class: told apart also by colour-blind readers for the first seven, distinct for 256.

    Args:
        num_classes: how many, at least 0.

    Returns:
        A list of (red, green, blue), each in [0, 256).

    Example:
        >>> class_colors(2)
        [(86, 180, 233), (230, 159, 0)]
        >>> len(set(class_colors(256)))
        256

    Source: Okabe and Ito 2008 for the first seven; later ones darken and lighten those.
    """
    colors: list[Color] = []
    for index in range(num_classes):
        lap, place = divmod(index, len(_PALETTE))
        # Each lap moves the palette a little towards black or white, so that no colour comes twice.
        toward = 0 if lap % 2 else 255
        share = 0.0 if lap == 0 else ((lap + 1) // 2) / 22 + (0.02 if lap % 2 else 0.0)
        r, g, b = (round(channel + (toward - channel) * share) for channel in _PALETTE[place])
        colors.append((r, g, b))
    return colors


def rgb_bands(channels: int) -> tuple[int, int, int]:
    """Which bands of an image are shown as red, green and blue by default.

    One or two channels are shown as grey (the first). Three and four are RGB(A). More are taken as a satellite's
    bands in order of wavelength: for 10 to 13 of them the natural colours of Sentinel-2 (B4, B3, B2), else the last,
    middle and first.

    Args:
        channels: how many channels the image has, at least 1.

    Returns:
        Three indices in [0, channels), for red, green and blue.

    Example:
        >>> rgb_bands(13)
        (3, 2, 1)
        >>> rgb_bands(2)
        (0, 0, 0)
    """
    if channels < 1:
        raise ValueError(f"rgb_bands: `channels` must be at least 1, got {channels}. Pass the length of the last axis.")
    if channels <= 2:
        return (0, 0, 0)
    if channels <= 4:
        return (0, 1, 2)
    if 10 <= channels <= 13:
        return (3, 2, 1)
    return (channels - 1, channels // 2, 0)


def to_rgb(
    image: Any, *, bands: Sequence[int] | None = None, percentiles: tuple[float, float] | None = None
) -> np.ndarray:
    """An 8-bit RGB picture of any image, `uint8 [H, W, 3]`.

    8-bit images of at most four channels are shown as they are; all others are stretched so that the lower percentile
    becomes 0 and the upper 255, with the same stretch for the three bands of a colour image of three or four channels
    and one for each band otherwise. NaN and infinity are black. One value that lies far outside all others, as the
    -9999 of no data does, does not stretch them.

    Args:
        image: `[H, W, C]` or `[H, W]`, any real dtype; or a tensor `[C, H, W]`. Not modified.
        bands: the bands shown as red, green and blue; `rgb_bands(C)` when None.
        percentiles: (lower, upper), in [0, 100]; None: (1, 99), but no stretch for uint8 of up to four channels.

    Returns:
        uint8 `[H, W, 3]`.

    Raises:
        ValueError: the array is not an image, or a band does not exist.

    Example:
        >>> to_rgb(np.array([[0, 1000], [2000, 4000]], np.uint16), percentiles=(0, 100))[..., 0]
        array([[  0,  64],
               [128, 255]], dtype=uint8)
    """
    array = _as_image(image, "to_rgb")
    channels = array.shape[2]
    chosen = tuple(bands) if bands is not None else rgb_bands(channels)
    if len(chosen) != 3 or any(not 0 <= band < channels for band in chosen):
        raise ValueError(
            f"to_rgb: `bands` must be three indices in [0, {channels}), got {chosen}. Count the bands from 0."
        )
    picked = array[..., list(chosen)]
    if percentiles is None:
        if array.dtype == np.uint8 and channels <= 4:
            return np.ascontiguousarray(picked)
        percentiles = (1, 99)
    picked = picked.astype(np.float32)
    together = channels <= 4
    for part in [slice(None)] if together else [slice(i, i + 1) for i in range(3)]:
        values = picked[..., part]
        # A stretch does not need every pixel: at most 2**16 or so are looked at.
        step = max(1, int(np.sqrt(values.shape[0] * values.shape[1] / 2**16)))
        seen = values[::step, ::step]
        seen = _without_filler(seen[np.isfinite(seen)])
        low, high = np.percentile(seen, percentiles) if seen.size else (0.0, 1.0)
        picked[..., part] = (values.clip(low, high) - low) * (255 / max(float(high - low), 1e-12))
    return np.nan_to_num(picked.clip(0, 255), nan=0.0).round().astype(np.uint8)


def _without_filler(values: np.ndarray) -> np.ndarray:
    """The values without the smallest or largest, if that stands alone ten times as far away as all others reach."""
    low, high = (values.min(), values.max()) if values.size else (0, 0)
    for filler, rest in ((low, values[values > low]), (high, values[values < high])):
        if rest.size and 0 < 10 * np.ptp(rest) < min(abs(rest.min() - filler), abs(rest.max() - filler)):
            return np.asarray(rest)
    return values


def overlay(
    image: Any,
    mask: Any,
    *,
    colors: Mapping[Color, int] | Sequence[Color] | None = None,
    alpha: float = 0.5,
    ignore_index: int | None = IGNORE_INDEX,
) -> np.ndarray:
    """The image with its mask laid over it in colours, `uint8 [H, W, 3]`.

    Class 0 is tinted like every other class; ignored pixels are hatched in grey, so that they are seen as left out and
    not taken for a class.

    Args:
        image: `[H, W, C]` or `[H, W]`, any real dtype; or a tensor `[C, H, W]`. Shown as `to_rgb` shows it.
        mask: `[H, W]` class indices, any integer dtype; array or tensor.
        colors: the colour of each class: a list by class, or `{(r, g, b): class}` as `labels` takes it;
            `class_colors` when None.
        alpha: how much of the mask's colour is mixed in, in [0, 1].
        ignore_index: the label of ignored pixels; None when there is none.

    Returns:
        uint8 `[H, W, 3]`.

    Raises:
        ValueError: image and mask have different heights or widths, or the mask holds no integers.

    Example:
        >>> overlay(np.zeros((1, 2), np.uint8), np.array([[0, 1]]), colors=[(0, 0, 0), (200, 100, 0)])
        array([[[  0,   0,   0],
                [100,  50,   0]]], dtype=uint8)
    """
    picture = to_rgb(image)
    labels = _to_numpy(mask)
    if labels.shape != picture.shape[:2]:
        raise ValueError(
            f"overlay: `mask` must have the height and width of the image, {picture.shape[:2]}, got {labels.shape}. "
            "Resize the mask by nearest, or check that the two belong together."
        )
    if labels.dtype.kind not in "iub":
        raise ValueError(
            f"overlay: `mask` must hold integers, got {labels.dtype}. Convert it with mask.astype('uint8')."
        )
    if not 0 <= alpha <= 1:
        raise ValueError(f"overlay: `alpha` must lie in [0, 1], got {alpha}. 0 shows the image, 1 the mask.")
    if labels.size == 0:
        return picture
    ignored = np.zeros(labels.shape, bool) if ignore_index is None else labels == ignore_index
    tint = _tint(labels, colors)
    mixed = picture + (tint - picture.astype(np.float32)) * np.float32(alpha)
    if ignored.any():
        rows, columns = np.ogrid[: labels.shape[0], : labels.shape[1]]
        hatch = np.where((rows + columns) % 8 < 4, 96, 160)[..., None]
        mixed = np.where(ignored[..., None], picture * (1 - alpha) + hatch * alpha, mixed)
    return mixed.round().astype(np.uint8)


def contact_sheet(
    samples: Iterable[Any],
    *,
    columns: int = 8,
    tile: int = 160,
    colors: Mapping[Color, int] | Sequence[Color] | None = None,
    ignore_index: int | None = IGNORE_INDEX,
    bands: Sequence[int] | None = None,
) -> np.ndarray:
    """Many samples on one page, each shrunk into a square tile with a line of text, `uint8 [H, W, 3]`.

    The line names the sample and, for images of more than four channels, the three bands that are shown.

    Args:
        samples: images, (image, mask) pairs, or dicts with "image" and perhaps "mask" and "name" (or "index"). Each
            image as `to_rgb` takes it; sizes, dtypes and channels may differ from sample to sample.
        columns: tiles in a row, at least 1.
        tile: edge of a tile in pixels, at least 16.
        colors: as in `overlay`.
        ignore_index: as in `overlay`.
        bands: the bands shown as red, green and blue; `rgb_bands` of each image when None.

    Returns:
        uint8 `[rows * (tile + 22), columns * (tile + 4), 3]`; a single empty tile when there are no samples.

    Raises:
        ValueError: an impossible layout, or a sample that is not an image.

    Example:
        >>> contact_sheet([np.zeros((40, 60), np.uint8)] * 3, columns=2, tile=32).shape
        (108, 72, 3)
    """
    import cv2

    if columns < 1 or tile < 16:
        raise ValueError(
            f"contact_sheet: `columns` must be at least 1 and `tile` at least 16, got {columns} and {tile}. "
            "The defaults are 8 and 160."
        )
    gap, caption = 4, 18
    tiles = []
    for number, sample in enumerate(samples):
        image, mask, name = _parts(sample, number)
        array = _as_image(image, f"contact_sheet, sample {number}")
        # Shrink first: an overlay of 16 megapixels for a tile of 160 is wasted, and nearest keeps the labels.
        scale = min(tile / array.shape[0], tile / array.shape[1])
        height, width = (max(1, round(edge * scale)) for edge in array.shape[:2])
        picture = cv2.resize(to_rgb(array, bands=bands), (width, height), interpolation=cv2.INTER_AREA)
        if mask is not None:
            labels = _to_numpy(mask)
            if labels.shape != array.shape[:2]:
                raise ValueError(
                    f"contact_sheet: the mask of sample {number} must have its image's height and width, "
                    f"{array.shape[:2]}, got {labels.shape}. Run segkit audit to find all such pairs."
                )
            rows = (np.arange(height) + 0.5) * labels.shape[0] // height
            cols = (np.arange(width) + 0.5) * labels.shape[1] // width
            small = labels[rows.astype(int)[:, None], cols.astype(int)]
            picture = overlay(picture, small, colors=colors, ignore_index=ignore_index)
        text = name
        if array.shape[2] > 4:
            text += " bands " + ",".join(str(b) for b in (bands or rgb_bands(array.shape[2])))
        cell = np.full((tile + gap + caption, tile + gap, 3), 255, np.uint8)
        top, left = (tile - height) // 2, (tile - width) // 2
        cell[top : top + height, left : left + width] = picture
        # OpenCV draws plain ASCII only; anything else is shown as '?'.
        printable = text.encode("ascii", "replace").decode()[: max(3, tile // 6)]
        cv2.putText(cell, printable, (1, tile + 14), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (60, 60, 60), 1, cv2.LINE_AA)
        tiles.append(cell)
    if not tiles:
        return np.full((tile + gap + caption, tile + gap, 3), 255, np.uint8)
    columns = min(columns, len(tiles))
    blank = np.full_like(tiles[0], 255)
    tiles += [blank] * (-len(tiles) % columns)
    return np.concatenate(
        [np.concatenate(tiles[start : start + columns], axis=1) for start in range(0, len(tiles), columns)], axis=0
    )


def _parts(sample: Any, number: int) -> tuple[Any, Any, str]:
    if isinstance(sample, Mapping):
        return sample["image"], sample.get("mask"), str(sample.get("name", sample.get("index", number)))
    if isinstance(sample, tuple | list):
        return sample[0], sample[1] if len(sample) > 1 else None, str(number)
    return sample, None, str(number)


def _to_numpy(array: Any) -> np.ndarray:
    # Tensors of uint16 have few operators, but `.numpy()` works on all of them; no torch is imported for this.
    if hasattr(array, "detach"):
        array = array.detach().cpu().numpy()
    return np.asarray(array)


def _as_image(image: Any, function: str) -> np.ndarray:
    array = _to_numpy(image)
    if hasattr(image, "detach") and array.ndim == 3:
        array = array.transpose(1, 2, 0)  # [C, H, W] -> [H, W, C]
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or 0 in array.shape or array.dtype.kind not in "iufb":
        raise ValueError(
            f"{function}: an image must be a real array [H, W, C] or [H, W] (a tensor: [C, H, W]) with at least one "
            f"pixel, got {array.dtype} of shape {array.shape}. Move the channel axis last."
        )
    return array


def _tint(labels: np.ndarray, colors: Mapping[Color, int] | Sequence[Color] | None) -> np.ndarray:
    """float32 [H, W, 3]: the colour of each pixel's class; classes without a colour are white."""
    if isinstance(colors, Mapping):
        by_class = {int(index): color for color, index in colors.items()}
    else:
        by_class = dict(enumerate(colors if colors is not None else class_colors(256)))
    values, inverse = np.unique(labels, return_inverse=True)
    table = np.array([by_class.get(int(value), (255, 255, 255)) for value in values], np.float32)
    return table[inverse.reshape(labels.shape)]
