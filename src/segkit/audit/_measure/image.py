"""What is measured on one image. Each number means the same for any dtype, so that the set can judge it."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from segkit.audit._measure.by_windows import Digest, Pixels
from segkit.audit._measure.row import THUMB
from segkit.audit._measure.spectrum import SIDE, spectrum
from segkit.stats import with_data

_SHARP = 640  # edge of the part that sharpness is measured on
_BLOCK = 32
_PERCENTILES = {"p01": 1, "p05": 5, "p50": 50, "p99": 99, "p999": 99.9}


def measure_image(pixels: Pixels, row: Any, *, nodata: float | None = None) -> np.ndarray:
    """Fill the image's part of `row` (a record of `ROW`) from windows [h, w, C]; pixels of `nodata` count nowhere.

    Returns:
        The grey picture, [H, W], of the pixels that `pixels` keeps: uint8 for uint8 and else float32.
    """
    digest, canvas, first = Digest(), None, None
    bad, seen, busiest = 0, 0, -1.0
    flat, valid = np.zeros(0, bool), None
    energies, sharpest = np.zeros((3, 4)), np.zeros((0, 0), np.uint8)
    calm, ends = [], []
    for top, left, window in pixels.windows:
        digest.add(window)
        there = with_data(window, nodata)
        if there is not None:
            valid = pixels.canvas(np.dtype(bool), True) if valid is None else valid
            pixels.keep(valid, top, left, there)
            window = _filled(window, there)
        if window.dtype.kind == "f":
            finite = np.isfinite(window)
            wrong = window.size - int(np.count_nonzero(finite))
            bad += wrong
            window = np.where(finite, window, 0) if wrong else window
        if first is None:
            first, flat = window[0, 0], np.ones(window.shape[2], bool)
        for line in (window[0], window[-1]):  # most channels are seen to vary at once
            flat &= (line == first).all(0)
        for channel in flat.nonzero()[0]:
            flat[channel] = (window[..., channel] == first[channel]).all()
        grey = grey_of(window)
        canvas = pixels.canvas(grey.dtype) if canvas is None else canvas
        pixels.keep(canvas, top, left, grey)
        ends.append(levels(window if there is None or not there.any() else window[there][None]))
        if min(grey.shape) < 32:
            continue
        detail = detail_energies(grey)
        quiet, part = quiet_and_busy(grey)
        energies += detail * grey.size
        seen += grey.size
        calm.append(quiet)
        if detail[0].sum() > busiest:
            busiest, sharpest = float(detail[0].sum()), part.copy()
    assert canvas is not None  # an image has pixels
    row["image_ok"] = True
    row["height"], row["width"], row["channels"] = pixels.height, pixels.width, window.shape[2]
    row["dtype"] = str(window.dtype).encode()
    row["image_digest"] = digest.of(pixels.height, pixels.width, f"{window.dtype} {window.shape[2]}")
    row["constant"], row["non_finite"] = flat.all(), bad
    row["flat_channels"] = sum(1 << int(channel) for channel in flat.nonzero()[0] if channel < 64)
    brightness(canvas if valid is None or not valid.any() else canvas[valid][None], row)
    row["clipped_low"], row["clipped_high"], _, row["uneven"] = np.mean(ends, 0)
    row["ceiling"] = max(ceiling for _, _, ceiling, _ in ends)
    sharpness(energies / seen if seen else energies + np.nan, float(np.median(calm)) if calm else np.nan, row)
    spectrum(sharpest, row)
    return canvas


def _filled(window: np.ndarray, there: np.ndarray) -> np.ndarray:
    """A window with the middle of its data where it has none, so that no edge leads around them."""
    window = window.copy()
    window[~there] = np.nanmedian(window[there], 0).astype(window.dtype) if there.any() else 0
    return window


def grey_of(image: np.ndarray) -> np.ndarray:
    """The brightness of an image [H, W, C]: uint8 for uint8, else float32; [H, W]. Alpha does not count."""
    channels = image.shape[2]
    if image.dtype == bool:
        image = image.astype(np.uint8)
    if channels in (2, 4) and (image.dtype == np.uint8 or (image[..., -1] == image[0, 0, -1]).all()):
        image = image[..., : channels - 1]  # an alpha channel
    if image.dtype not in (np.uint8, np.uint16, np.float32):
        image = image.astype(np.float32)
    if image.shape[2] == 1:
        grey = image[..., 0]
    elif image.shape[2] == 3:
        grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    else:
        grey = image.mean(2, dtype=np.float32)
    return np.ascontiguousarray(grey) if grey.dtype == np.uint8 else grey.astype(np.float32)


def thumb_of(grey: np.ndarray) -> np.ndarray:
    """A little picture, uint8 [THUMB, THUMB], stretched to its own contrast; shape and brightness are gone."""
    # First by a whole factor in the image's own type, which is ten times as fast as by any other.
    step = max(1, min(grey.shape) // (3 * THUMB))
    size = (grey.shape[1] // step, grey.shape[0] // step)
    small: Any = cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    small = cv2.resize(small, (THUMB, THUMB), interpolation=cv2.INTER_AREA)
    low, high = np.percentile(small, (1, 99))
    return ((small - low) * (255 / max(float(high - low), 1e-6))).clip(0, 255).astype(np.uint8)


def brightness(grey: np.ndarray, row: Any) -> None:
    """Fill the percentiles, mean, deviation and entropy of `row`."""
    if grey.dtype == np.uint8:
        counts = cv2.calcHist([grey], [0], None, [256], [0, 256]).reshape(-1).astype(np.float64)
        values = np.arange(256.0)
        share = counts / counts.sum()
        mean = float(share @ values)
        std = float(share @ (values - mean) ** 2) ** 0.5
        cumulative = share.cumsum()
        percentiles = [float(np.searchsorted(cumulative, q / 100 - 1e-9)) for q in _PERCENTILES.values()]
    else:
        # Every value of at most 2**18 pixels on a regular grid: percentiles need no more.
        step = max(1, int((grey.size / 2**18) ** 0.5))
        seen = grey[::step, ::step]
        mean, std = float(seen.mean(dtype=np.float64)), float(seen.std(dtype=np.float64))
        percentiles = np.percentile(seen, list(_PERCENTILES.values())).tolist()
        share = np.histogram(seen, bins=256)[0] / seen.size
    for name, value in zip(_PERCENTILES, percentiles, strict=True):
        row[name] = value
    row["mean"], row["std"] = mean, std
    share = share[share > 0]
    row["entropy"] = float(-(share * np.log2(share)).sum())


def detail_energies(grey: np.ndarray) -> np.ndarray:
    """Energy a pixel of the second differences at full, half and quarter size, in four directions, float64 [3, 4]."""
    grey = _middle(grey)
    half = cv2.resize(grey, (grey.shape[1] // 2, grey.shape[0] // 2), interpolation=cv2.INTER_AREA)
    quarter = cv2.resize(half, (half.shape[1] // 2, half.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return np.stack([_detail(grey), _detail(half), _detail(quarter)])


def sharpness(energies: np.ndarray, quiet: float, row: Any) -> None:
    """Fill what is said about detail in `row`: ratios as log2, so that neither brightness nor contrast counts.

    Full over half size: noise gives about +2, a natural picture about 0, and a blurred one goes towards -4, since half
    of a smooth picture is as smooth but twice as steep (Laplacian: 4 times). Motion blurs along one direction only,
    which shows as a difference between directions: across, and between the diagonals, whatever its angle.
    """
    total, octaves = energies.sum(1), np.log2(energies)
    row["sharp"], row["coarse_sharp"] = np.log2(total[0] / total[1]), np.log2(total[1] / total[2])
    row["fine"] = np.log2(total[0] / max(float(row["std"]) ** 2, 1e-12))
    row["quiet"] = quiet
    uneven = np.hypot(octaves[:, 0] - octaves[:, 1], octaves[:, 2] - octaves[:, 3])
    row["lopsided"], row["coarse_lopsided"] = uneven[:2]


def quiet_and_busy(grey: np.ndarray) -> tuple[float, np.ndarray]:
    """Log2 of the second differences in the calmest fifth of the blocks, and the part that has most of them.

    The calm is noise, which blur and darkening take away. What is in focus anywhere is not out of focus: the busiest
    part, at most [SIDE, SIDE], tells.
    """
    part = _middle(grey)
    second = cv2.Laplacian(part, cv2.CV_16S if part.dtype == np.uint8 else cv2.CV_32F)
    steps = np.abs(second).astype(np.float32)
    blocks: Any = cv2.resize(steps, (part.shape[1] // _BLOCK, part.shape[0] // _BLOCK), interpolation=cv2.INTER_AREA)
    least = 0.25 if grey.dtype == np.uint8 else 1e-6  # below a quarter of a level, rounding decides
    quiet = 2 * float(np.log2(np.percentile(blocks, 20) + least))
    tall, wide = (min(SIDE // _BLOCK, edge) for edge in blocks.shape)
    sums = cv2.boxFilter(blocks, -1, (wide, tall), anchor=(0, 0))[
        : blocks.shape[0] - tall + 1, : blocks.shape[1] - wide + 1
    ]
    y, x = np.unravel_index(int(sums.argmax()), sums.shape)
    top, left = int(y) * _BLOCK, int(x) * _BLOCK
    return quiet, part[top : top + SIDE, left : left + SIDE]


def levels(image: np.ndarray) -> tuple[float, float, float, float]:
    """Shares of the pixels at the smallest and the largest value, the largest, and how unevenly 8-bit levels are used.

    Each in the channel that has most of it, seen on about 2**16 pixels of regular rows. Channels of one value, an
    alpha channel say, have no end. A picture straight from a camera uses neighbouring levels about equally, near 1;
    a gain, a gamma or a stretch after that leaves some levels empty or fills them twice, above 3. NaN for other types.
    """
    rows = np.ascontiguousarray(image[:: max(1, min(image.shape[0] * image.shape[1] >> 16, image.shape[0]))])
    at_low, at_high, high = 0.0, 0.0, float(rows.max())
    uneven = [float("nan")]
    for channel in range(rows.shape[2]):
        if rows.dtype == np.uint8:
            counts = cv2.calcHist([rows], [channel], None, [256], [0, 256]).reshape(-1).astype(np.float64)
            ends = counts.nonzero()[0][[0, -1]]
            shares = counts[ends] / counts.sum()
        else:
            plane = rows[..., channel]
            ends = np.array([plane.min(), plane.max()])
            shares = np.array([(plane == end).mean() for end in ends])
        if ends[0] == ends[1]:
            continue
        at_low = max(at_low, float(shares[0]))
        if shares[1] > at_high:
            at_high, high = float(shares[1]), float(ends[1])
        if rows.dtype == np.uint8:
            uneven.append(_unevenness(counts))
    return at_low, at_high, high, float(np.fmax.reduce(uneven))


def _unevenness(counts: np.ndarray) -> float:
    """By how many deviations seven of ten levels differ at most from their neighbours; NaN if few are used."""
    first, *_, last = counts.nonzero()[0]
    beside = ((counts[:-2] + counts[2:]) / 2)[first : last - 1]  # without both ends, where clipped values pile up
    used = beside >= 8
    if used.sum() < 8:
        return float("nan")
    heights = np.log(counts + 1)
    change = np.abs(heights[1:-1] - (heights[:-2] + heights[2:]) / 2)[first : last - 1][used]
    # 0.06: no histogram is quite straight. 70: a weak gain spares most levels.
    return float(np.percentile(change / np.sqrt(1.5 / beside[used] + 0.06**2), 70))


def _middle(grey: np.ndarray) -> np.ndarray:
    """Blur is everywhere: the middle of a large image is enough."""
    top, left = (max(0, edge - _SHARP) // 2 for edge in grey.shape)
    return np.ascontiguousarray(grey[top : top + _SHARP, left : left + _SHARP])


# Second differences along a row, a column and the two diagonals.
_SECOND = [np.zeros((3, 3), np.float32) for _ in range(4)]
for _kernel, _ends in zip(
    _SECOND, [((1, 0), (1, 2)), ((0, 1), (2, 1)), ((0, 0), (2, 2)), ((0, 2), (2, 0))], strict=True
):
    _kernel[1, 1] = -2
    for _end in _ends:
        _kernel[_end] = 1


def _detail(grey: np.ndarray) -> np.ndarray:
    """The energies of one size, float64 [4]."""
    depth = cv2.CV_16S if grey.dtype == np.uint8 else cv2.CV_32F
    energies = np.empty(4)
    for i, kernel in enumerate(_SECOND):
        second = cv2.filter2D(grey, depth, kernel)
        energies[i] = cv2.norm(second, cv2.NORM_L2SQR) / second.size
    if grey.dtype == np.uint8:
        # Rounding to whole levels makes detail of its own, 6/12: weak energies count less, none divides by zero.
        return energies * energies / (energies + 0.5) + 1e-3
    return energies + 1e-12
