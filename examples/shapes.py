"""Draw a small segmentation data set: textured shapes, one class rare, and some of the dirt that real folders have."""

from __future__ import annotations

import pathlib

import cv2
import numpy as np

from segkit.io import write_image, write_mask

CLASS_NAMES = ["background", "disk", "plank", "star"]


def draw_pair(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One RGB image [H, W, 3] uint8 and its mask [H, W] uint8. Texture tells the classes apart, colour does not."""
    height, width = rng.integers(96, 145, 2).tolist()
    mask = np.zeros((height, width), np.uint8)
    for _ in range(rng.integers(2, 5)):
        center = (int(rng.integers(width)), int(rng.integers(height)))
        if rng.random() < 0.5:
            cv2.circle(mask, center, int(rng.integers(10, 25)), 1, -1)
        else:
            box = (center, (int(rng.integers(20, 60)), int(rng.integers(10, 20))), float(rng.uniform(0, 180)))
            cv2.fillPoly(mask, [cv2.boxPoints(box).astype(np.int32)], 2)
    if rng.random() < 0.4:  # the rare class: about 1 % of all pixels
        angle = np.arange(10) * np.pi / 5 + rng.uniform(0, np.pi)
        radius = np.where(np.arange(10) % 2, 6, 14)
        middle = rng.integers(15, [width - 15, height - 15])
        points = middle + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
        cv2.fillPoly(mask, [points.astype(np.int32)], 3)

    y, x = np.mgrid[:height, :width]
    noise = rng.normal(0, 1, (height, width))
    textures = [
        cv2.GaussianBlur(noise, (0, 0), 6) * 4,
        noise,
        np.sin((x + y) / 2),
        np.where((x // 2 + y // 2) % 2, 1, -1),
    ]
    grey = np.choose(mask, textures) * 30 + rng.uniform(100, 150)
    tint = rng.uniform(0.8, 1.2, 3)
    image = grey[..., None] * tint + rng.normal(0, 6, (height, width, 3))
    return image.clip(0, 255).astype(np.uint8), mask


def draw_pairs(folder: pathlib.Path, *, pairs: int, seed: int = 0) -> tuple[pathlib.Path, pathlib.Path]:
    """Write ``images/`` and ``masks/`` into `folder` and return both: 000.png, 001.png, ..., all of them clean."""
    images, masks = folder / "images", folder / "masks"
    images.mkdir(parents=True)
    masks.mkdir()
    for i in range(pairs):
        image, mask = draw_pair(np.random.default_rng([seed, i]))
        write_image(images / f"{i:03d}.png", image)
        write_mask(masks / f"{i:03d}.png", mask)
    return images, masks


def draw_data_set(folder: pathlib.Path, *, pairs: int = 120, seed: int = 0) -> tuple[pathlib.Path, pathlib.Path]:
    """As `draw_pairs`, but six of the files are damaged on purpose."""
    images, masks = draw_pairs(folder, pairs=pairs, seed=seed)

    def spoil(number: int) -> tuple[np.ndarray, np.ndarray]:
        return draw_pair(np.random.default_rng([seed, pairs + number]))

    whole = (images / "003.png").read_bytes()
    (images / "003.png").write_bytes(whole[: len(whole) // 2])  # a copy that was interrupted
    (masks / "011.png").unlink()  # an image that nobody labelled
    write_mask(masks / "orphan.png", spoil(0)[1])  # a label whose image is gone
    write_mask(masks / "027.png", np.zeros((32, 32), np.uint8))  # a mask of another image
    write_image(images / "042.png", np.full_like(spoil(1)[0], 128))  # a sensor that was off
    (images / "058.png").write_bytes(b"")  # a full disk
    return images, masks
