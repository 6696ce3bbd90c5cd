"""A picture from above that nobody had to photograph, and its mask."""

from __future__ import annotations

import cv2
import numpy as np

CLASS_NAMES = ["field", "forest", "water", "sand", "road", "house"]
COLORS = [
    (202, 178, 214),
    (51, 160, 44),
    (31, 120, 180),
    (253, 191, 111),
    (90, 90, 90),
    (227, 26, 28),
]


def clouds(
    rng: np.random.Generator,
    size: tuple[int, int],
    *,
    coarse: float,
    roughness: float = 0.55,
) -> np.ndarray:
    """Sums of blurred noise, each octave finer and weaker: mean 0, deviation 1."""
    total, weight = np.zeros(size), 1.0
    while coarse > 0.7:
        octave = cv2.GaussianBlur(rng.normal(size=size), (0, 0), coarse)
        total += weight * octave / octave.std()
        weight, coarse = weight * roughness, coarse / 2
    return (total - total.mean()) / total.std()


def draw_scene(
    seed: int = 0, size: tuple[int, int] = (240, 320)
) -> tuple[np.ndarray, np.ndarray]:
    """Image [H, W, 3] and mask [H, W], uint8, classes as in `CLASS_NAMES`."""
    rng = np.random.default_rng(seed)
    height, width = size
    relief = clouds(rng, size, coarse=40)
    trees = clouds(rng, size, coarse=24)
    mask = np.zeros(size, np.uint8)
    mask[trees > 0.55] = 1
    mask[relief < -0.75] = 3
    mask[relief < -0.95] = 2

    x = np.arange(-20, width + 20, 8)
    for _ in range(2):
        bend = (
            rng.uniform(0.15, 0.85) * height
            + np.cumsum(rng.normal(0, 5, len(x)))
            + rng.uniform(-0.6, 0.6) * x
        )
        line = np.stack([x, bend], 1).round().astype(np.int32)
        road = np.zeros(size, np.uint8)
        cv2.polylines(road, [line], False, 1, 6)
        mask[(road > 0) & (mask != 2)] = 4

    shadow = np.zeros(size)
    for _ in range(26):
        center, sides = rng.uniform([0, 0], [width, height]), rng.uniform(8, 18, 2)
        if mask[int(center[1]), int(center[0])] in (2, 3):
            continue
        turned = (
            tuple(center.tolist()),
            tuple(sides.tolist()),
            float(rng.uniform(0, 90)),
        )
        corners = cv2.boxPoints(turned).round().astype(np.int32)
        cv2.fillPoly(shadow, [corners + 3], 1.0)
        cv2.fillPoly(mask, [corners], 5)

    return paint(rng, mask, relief, shadow), mask


def paint(
    rng: np.random.Generator, mask: np.ndarray, relief: np.ndarray, shadow: np.ndarray
) -> np.ndarray:
    """Each class its colour and grain; then light, shadows, and the blur of a lens."""
    size = mask.shape
    y, x = np.mgrid[: size[0], : size[1]]
    parcel = np.floor(
        clouds(rng, size, coarse=30, roughness=0.1) * 1.5
    )  # neighbouring fields differ
    furrows = np.sin((x * np.cos(parcel) + y * np.sin(parcel)) * 1.1)
    canopy = clouds(rng, size, coarse=3, roughness=0.9)
    fine = rng.normal(size=size)
    base = np.array(
        [
            [150, 158, 92],
            [44, 78, 42],
            [40, 84, 112],
            [206, 190, 150],
            [128, 126, 124],
            [168, 92, 76],
        ],
        float,
    )
    grain = np.choose(
        mask,
        [
            furrows * 7 + parcel * 9,
            canopy * 16,
            relief * 9 + 6,
            fine * 5,
            fine * 6,
            fine * 10,
        ],
    )
    picture = base[mask] + grain[..., None]
    light = cv2.GaussianBlur(relief, (0, 0), 4)
    slope = sum(np.gradient(light))
    picture *= (1 - slope)[..., None]
    dark = cv2.GaussianBlur(shadow * (mask != 5), (0, 0), 1)
    picture *= (1 - 0.55 * dark)[..., None]
    picture = cv2.GaussianBlur(picture, (0, 0), 0.7) + fine[..., None] * 2
    return picture.clip(0, 255).astype(np.uint8)
