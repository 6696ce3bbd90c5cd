"""Faults of the kinds that happen in real life, in several strengths, for any clean pair."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np

Image, Mask, Random = np.ndarray, np.ndarray, np.random.Generator
Light = Callable[[np.ndarray, float], np.ndarray]  # samples as float, and the largest value of their type
Labels = Callable[[Mask, Random], Mask]
Plant = Callable[[Image, Mask, Random], "tuple[Image, Mask]"]


class Fault(NamedTuple):
    """One kind of fault in one strength."""

    kind: str
    strength: str
    codes: tuple[str, ...]  # any of these says what is wrong
    plain: bool  # a person who leafs through the set sees it at once
    of_mask: bool
    plant: Plant


def _of_light(change: Light) -> Plant:
    """A change of the samples, without the alpha channel, rounded and clipped to the number type."""

    def plant(image: Image, mask: Mask, _: Random) -> tuple[Image, Mask]:
        colours = image[..., : image.shape[2] - (image.shape[2] == 4 and image.dtype == np.uint8)]
        top = 1.0 if image.dtype.kind == "f" else float(np.iinfo(image.dtype).max)
        light = change(colours.astype(np.float64), top)
        if image.dtype.kind != "f":
            light = light.clip(0, top).round()
        return np.concatenate([light.astype(image.dtype), image[..., colours.shape[2] :]], 2), mask

    return plant


def _planes(image: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    return np.dstack([change(np.ascontiguousarray(image[..., i])) for i in range(image.shape[2])])


def _gauss(sigma: float) -> Light:
    return lambda light, top: _planes(light, lambda plane: cv2.GaussianBlur(plane, (0, 0), sigma))


def _motion(length: int, angle: float) -> Light:
    line = np.zeros((length, length))
    line[length // 2] = 1
    turn = cv2.getRotationMatrix2D((length // 2, length // 2), angle, 1)
    line = cv2.warpAffine(line, turn, (length, length))
    line /= line.sum()
    return lambda light, top: _planes(light, lambda plane: cv2.filter2D(plane, -1, line, borderType=cv2.BORDER_REFLECT))


def _enlarged(factor: float) -> Light:
    def plane(x: np.ndarray) -> np.ndarray:
        small = cv2.resize(x, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
        return cv2.resize(small, x.shape[::-1], interpolation=cv2.INTER_LINEAR)

    return lambda light, top: _planes(light, plane)


def _gain(gain: float) -> Light:
    return lambda light, top: light * gain


def _gamma(gamma: float) -> Light:
    def change(light: np.ndarray, top: float) -> np.ndarray:
        top = top if top == 255 else float(light.max()) or 1.0
        return (light.clip(0) / top) ** gamma * top

    return change


def _offset(share: float) -> Light:
    return lambda light, top: light + share * (top if top == 255 else float(np.percentile(light, 99.5)))


def _clipped(percentile: float, *, stretched: bool) -> Light:
    def change(light: np.ndarray, top: float) -> np.ndarray:
        level = max(float(np.percentile(light, percentile)), 1e-6)
        return np.minimum(light, level) * (top / level if stretched else 1)

    return change


def _contrast(share: float) -> Light:
    return lambda light, top: (light - light.mean((0, 1))) * share + light.mean((0, 1))


def _constant(value: float) -> Light:
    return lambda light, top: light * 0 + value


def _resized(mask: Mask, _: Random, factor: float) -> Mask:
    height, width = mask.shape
    small = cv2.resize(mask, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_NEAREST)
    large = cv2.resize(small.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return large.round().astype(mask.dtype)


def _resized_255(mask: Mask, rng: Random, factor: float) -> Mask:
    return _resized(_as_255(mask), rng, factor)


def _jpeg(mask: Mask, _: Random, quality: int) -> Mask:
    done, data = cv2.imencode(".jpg", mask.astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return cv2.imdecode(data, cv2.IMREAD_GRAYSCALE).astype(mask.dtype)


def _jpeg_255(mask: Mask, rng: Random, quality: int) -> Mask:
    return _jpeg(_as_255(mask), rng, quality)


def _moved(mask: Mask, _: Random, y: int, x: int) -> Mask:
    padded = np.pad(mask, ((abs(y), abs(y)), (abs(x), abs(x))), mode="edge")
    top, left = abs(y) - y, abs(x) - x
    return padded[top : top + mask.shape[0], left : left + mask.shape[1]]


def _turned(mask: Mask, _: Random, how: str) -> Mask:
    return np.ascontiguousarray(mask[:, ::-1] if how == "mirrored" else mask[::-1, ::-1])


def _speckled(mask: Mask, rng: Random, share: float) -> Mask:
    """Other labels at a share of the pixels."""
    labels = np.unique(mask)
    place = np.searchsorted(labels, mask) + rng.integers(1, max(len(labels), 2), mask.shape)
    return np.where(rng.random(mask.shape) < share, labels[place % len(labels)], mask).astype(mask.dtype)


def _unknown(mask: Mask, _: Random, pixels: int) -> Mask:
    return np.where(np.arange(mask.size).reshape(mask.shape) < pixels, 77, mask).astype(mask.dtype)


def _as_255(mask: Mask, _: Random | None = None) -> Mask:
    return ((mask > 0) * 255).astype(np.uint8)


def _of_mask(change: Labels) -> Plant:
    return lambda image, mask, rng: (image, np.ascontiguousarray(change(mask, rng)))


_MOTIONS = ((7, 0), (9, 0), (13, 90), (15, 30), (19, 45), (25, 120), (31, 0))
_FACTORS = (1.5, 2, 3, 4)
_SHIFTS = ((4, 0), (0, -5), (6, 6), (-8, 4), (12, 0), (0, 16), (-20, 10))

# A person who does not know of these passes over them, or takes them for a choice of the set.
_MILD = {
    "out of focus": ("sigma 1.5",),
    "moved while exposed": ("7 px, 0 deg",),
    "enlarged": ("x2", "x3"),
    "underexposed": ("gain 0.4", "gain 0.33"),
    "dark gamma": ("gamma 2.5", "gamma 3"),
    "overexposed": ("gain 1.8", "gain 2.2", "gain 2.5"),
    "bright gamma": ("gamma 0.4",),
    "raised black": ("offset 0.3",),
    "flat top": ("at 95 %",),
    "clipped": ("at 95 %",),
    "no contrast": ("x0.1",),
    "speckle": ("0.005",),
    "shifted": ("4, 0",),
    "of another": ("mirrored", "turned"),  # seen only where masks are drawn along visible edges
}


def faults(num_classes: int, ignore_index: int) -> list[Fault]:
    """Every fault, for a set of this many classes."""
    light: list[tuple[str, tuple[str, ...], dict[str, Light]]] = [
        ("out of focus", ("blurred",), {f"sigma {s}": _gauss(s) for s in (1.5, 2, 3, 5, 8)}),
        ("moved while exposed", ("blurred",), {f"{n} px, {a} deg": _motion(n, a) for n, a in _MOTIONS}),
        ("enlarged", ("blurred",), {f"x{f}": _enlarged(f) for f in (2, 3, 4)}),
        ("underexposed", ("too-dark",), {f"gain {g}": _gain(g) for g in (0.4, 0.33, 0.25, 0.15, 0.08)}),
        ("dark gamma", ("too-dark", "constant-image"), {f"gamma {g}": _gamma(g) for g in (2.5, 3, 4)}),
        ("overexposed", ("too-bright", "saturated"), {f"gain {g}": _gain(g) for g in (1.8, 2.2, 2.5, 3, 4)}),
        ("bright gamma", ("too-bright",), {f"gamma {g}": _gamma(g) for g in (0.4, 0.3, 0.2)}),
        ("raised black", ("too-bright",), {f"offset {g}": _offset(g) for g in (0.3, 0.4, 0.6)}),
        ("flat top", ("saturated",), {f"at {p} %": _clipped(p, stretched=False) for p in (80, 90, 95)}),
        ("clipped", ("saturated",), {f"at {p} %": _clipped(p, stretched=True) for p in (80, 90, 95)}),
        ("no contrast", ("low-information", "too-dark"), {f"x{s}": _contrast(s) for s in (0.1, 0.05, 0.02)}),
        ("one value", ("constant-image",), {f"{v}": _constant(v) for v in (0, 100)}),
    ]
    out_of_range = "label-out-of-range"
    labels: list[tuple[str, tuple[str, ...], dict[str, Labels]]] = [
        ("speckle", ("speckle",), {f"{s}": partial(_speckled, share=s) for s in (0.005, 0.01, 0.03, 0.1)}),
        (
            "interpolated 0 and 255",
            ("interpolated-mask",),
            {f"x{f}": partial(_resized_255, factor=f) for f in _FACTORS},
        ),
        ("JPEG of 0 and 255", ("lossy-mask",), {f"q{q}": partial(_jpeg_255, quality=q) for q in (50, 75, 90, 95)}),
        ("shifted", ("shifted-mask",), {f"{y}, {x}": partial(_moved, y=y, x=x) for y, x in _SHIFTS}),
        ("of another", ("shifted-mask",), {n: partial(_turned, how=n) for n in ("mirrored", "turned")}),
        # Where 0 is what is ignored, an empty mask is ignored altogether.
        ("empty", ("empty-mask", "all-ignored"), {"": lambda m, r: np.zeros_like(m)}),
        ("all ignored", ("all-ignored",), {"": lambda m, r: np.full_like(m, ignore_index)}),
        ("one too high", (out_of_range,), {"": lambda m, r: np.where(m == ignore_index, m, m + 1).astype(m.dtype)}),
        ("unknown label", (out_of_range,), {f"{n} pixels": partial(_unknown, pixels=n) for n in (3, 300)}),
    ]
    if num_classes > 2:  # nothing lies between two neighbouring classes
        made_wrong = ("interpolated-mask", "lossy-mask")
        labels.append(("interpolated", made_wrong, {f"x{f}": partial(_resized, factor=f) for f in _FACTORS}))
        labels.append(("JPEG", made_wrong, {f"q{q}": partial(_jpeg, quality=q) for q in (30, 60, 75, 90)}))
    if ignore_index == 255:
        labels.append(("foreground ignored", ("foreground-is-ignored",), {"": _as_255}))

    def plain(kind: str, strength: str) -> bool:
        return strength not in _MILD.get(kind, ())

    return [
        *(
            Fault(kind, strength, codes, plain(kind, strength), False, _of_light(change))
            for kind, codes, changes in light
            for strength, change in changes.items()
        ),
        *(
            Fault(kind, strength, codes, plain(kind, strength), True, _of_mask(change))
            for kind, codes, changes in labels
            for strength, change in changes.items()
        ),
    ]
