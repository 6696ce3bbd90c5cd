"""Clean sets to plant faults into: the shared ones, tiles of the pictures that scikit-image brings, and a drawn one."""

from __future__ import annotations

import pathlib
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from segkit import io
from segkit.datasets import find_pairs

_MIXED = ("astronaut", "camera", "chelsea", "coffee", "motorcycle_left", "retina", "rocket", "gravel")
_HELD_OUT = ("hubble_deep_field", "coins", "motorcycle_right", "retina", "gravel", "coffee")


class CleanSet(NamedTuple):
    """Images [H, W, C] and masks [H, W] of one kind, all of them clean."""

    name: str
    pairs: list[tuple[np.ndarray, np.ndarray]]
    num_classes: int
    ignore_index: int = 255


def known_sets(shared: pathlib.Path | None) -> list[CleanSet]:
    """The sets that thresholds were chosen on; those of `shared` only where it is given."""
    sets = [fluorescence(), tiles("histology", ["ihc"]), tiles("two textures", ["brick", "grass"])]
    if shared is not None:
        sets.append(folder("sandstone", shared / "data" / "sandstone_ct", 4))
        sets.append(folder("sentinel", shared / "data" / "s2_uint16", 9, ignore_index=0))
    return [*sets, tiles("eight photos", list(_MIXED))]


def held_out_sets() -> list[CleanSet]:
    """Tiles of one picture each: sets that no threshold was chosen on."""
    return [tiles(picture, [picture], 96 if picture == "coins" else 128) for picture in _HELD_OUT]


def folder(name: str, top: pathlib.Path, num_classes: int, ignore_index: int = 255) -> CleanSet:
    """The pairs in `top`/images and `top`/masks."""
    found = find_pairs(top / "images", top / "masks")
    pairs = [(io.read_image(pair.image), io.read_mask(pair.mask)) for pair in found]
    return CleanSet(name, pairs, num_classes, ignore_index)


def tiles(name: str, pictures: list[str], size: int = 160) -> CleanSet:
    """Tiles of pictures, at most 16 of each; the classes are dark and bright, found by Otsu's threshold."""
    import skimage

    here = pathlib.Path(skimage.__file__).parent / "data"
    pairs = []
    for picture in pictures:
        path = next(here.glob(f"{picture}.*"))
        image = np.array(Image.open(path).convert("RGB"))
        spots = [
            (y, x) for y in range(0, image.shape[0] - size + 1, size) for x in range(0, image.shape[1] - size + 1, size)
        ]
        for y, x in spots[:: -(-len(spots) // 16)]:
            tile = np.ascontiguousarray(image[y : y + size, x : x + size])
            if tile.std() >= 3:  # the black around a retina has nothing that could be at fault
                pairs.append((tile, two_classes(tile)))
    return CleanSet(name, pairs, 2)


def two_classes(image: np.ndarray) -> np.ndarray:
    """Dark and bright, smoothed as a person would draw them."""
    grey = cv2.medianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), 5)
    level, _ = cv2.threshold(grey, 0, 255, cv2.THRESH_OTSU)
    return cv2.medianBlur((grey > level).astype(np.uint8), 5)


def fluorescence(count: int = 36) -> CleanSet:
    """RGBA pictures of nuclei on a dark ground, of six sizes and very different exposures, as microscopes give them."""
    rng = np.random.default_rng(1)
    sizes = ((256, 256), (256, 320), (520, 696), (360, 360), (512, 640), (260, 347))
    pairs = []
    for number in range(count):
        height, width = sizes[number % len(sizes)]
        y, x = np.mgrid[:height, :width]
        light, mask = np.zeros((height, width)), np.zeros((height, width), np.uint8)
        for _ in range(rng.integers(5, 60)):
            cy, cx, tilt = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(0, 3.14)
            along = (x - cx) * np.cos(tilt) + (y - cy) * np.sin(tilt)
            across = (y - cy) * np.cos(tilt) - (x - cx) * np.sin(tilt)
            inside = (along / rng.uniform(6, 16)) ** 2 + (across / rng.uniform(6, 16)) ** 2 < 1
            chromatin = cv2.GaussianBlur(rng.normal(0, 1, (height, width)), (0, 0), 2)
            light[inside] = rng.uniform(0.4, 1) * (0.75 + chromatin[inside])
            mask[inside] = 1
        light = cv2.GaussianBlur(light, (0, 0), rng.uniform(0.8, 1.4)) * 2 ** rng.uniform(4.2, 7.8) + rng.uniform(2, 12)
        seen = rng.poisson(np.maximum(light, 0) * 4) / 4 + rng.normal(0, 0.7, light.shape)
        grey = seen.clip(0, 255).astype(np.uint8)
        pairs.append((np.dstack([grey, grey, grey, np.full_like(grey, 255)]), mask))
    return CleanSet("fluorescence", pairs, 2)
