"""Near duplicates without comparing each with each: landmarks are hashed; pictures that share some are compared.

A picture is a grey thumb of 96 x 96. Its landmarks are a few spots that stand out, each with the patch around it, and
the whole picture as one more. Patches are hashed by random planes; two pictures whose landmarks fall into the same
buckets, at about the same places, are laid over each other. For flips and quarter turns the patches are flipped.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import IO

import cv2
import numpy as np

from segkit.audit._measure.landmarks import LANDMARK, SPOTS
from segkit.audit._measure.row import THUMB

Blocks = Callable[[], Iterable[tuple[np.ndarray, np.ndarray]]]  # (numbers of pictures, their landmarks), in blocks
_SPOT_TABLES, _WHOLE_TABLES, _BITS = 8, 12, 18
_CROWDED = 48  # a bucket with more pictures holds a common texture and says nothing
_PARTNERS = 4
_ENOUGH = 3  # votes that make a pair worth a look: one of whole pictures, or three of spots
_NEAR = 14  # pixels of the thumb by which a small crop may move a spot
_FLIPS: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
    lambda patch: patch,
    lambda patch: patch[..., ::-1],
    lambda patch: patch[..., ::-1, :],
    lambda patch: patch[..., ::-1, ::-1],
    lambda patch: patch.swapaxes(-1, -2),
    lambda patch: patch.swapaxes(-1, -2)[..., ::-1],  # by a quarter, clockwise
    lambda patch: patch.swapaxes(-1, -2)[..., ::-1, :],
    lambda patch: patch.swapaxes(-1, -2)[..., ::-1, ::-1],
)
_BACK = (0, 1, 2, 3, 4, 6, 5, 7)  # the flip that undoes each


def similar_pairs(blocks: Blocks, total: int) -> np.ndarray:
    """Pairs of pictures that share landmarks: rows of (first, second, flip), each pair once, with its likeliest flip.

    At most a few for each picture, those that share most, so that the number of pairs grows with that of pictures.

    Args:
        blocks: gives some (numbers of pictures, records of `LANDMARK`) after another, the same each time it is called:
            the landmarks lie on disk, and only their hashes are held.
        total: one more than the largest number.
    """
    # One number, a key, stands for (first, second, flip). The keys of a block of first pictures, from all tables, are
    # counted together, so that only those are held; until then they lie on disk.
    rng = np.random.default_rng(0)
    places = _places(blocks, total)
    shelf = np.empty(total * SPOTS, np.int64)  # room that all tables use, one after another
    sizes = []
    with tempfile.TemporaryFile() as file:
        for tables, name, worth in ((_WHOLE_TABLES, "whole", _ENOUGH), (_SPOT_TABLES, "spots", 1)):
            mean = _mean_patch(blocks, name)
            for _ in range(tables):
                planes = rng.standard_normal((mean.size, _BITS)).astype(np.float32)
                collisions = _collisions(blocks, name, mean, planes, places, shelf)
                sizes.append([file.write(np.repeat(found, worth).tobytes()) for found in collisions])
        del shelf, places
        size = np.array(sizes, np.int64)  # bytes, [tables, blocks]
        start = (size.cumsum() - size.reshape(-1)).reshape(size.shape)
        counted = [_with_enough(_keys_at(file, *place)) for place in zip(start.T, size.T, strict=True)]
    if not counted:
        return np.zeros((0, 3), np.int32)
    keys, counts = (np.concatenate(columns) for columns in zip(*counted, strict=True))
    keys = keys[np.lexsort([keys, -counts])]  # the likeliest first; of equal ones the smallest key
    pairs, flips = np.divmod(keys, len(_FLIPS))
    found = np.stack([*np.divmod(pairs, total), flips], 1, dtype=np.int32, casting="unsafe")
    taken = np.zeros(total, np.int32)
    keep = np.zeros(len(found), bool)
    for place, (first, second, _) in enumerate(found):
        if min(taken[first], taken[second]) < _PARTNERS:
            keep[place] = True
            taken[first] += 1
            taken[second] += 1
    found = found[keep]
    return found[np.lexsort([found[:, 1], found[:, 0]])]


def _keys_at(file: IO[bytes], starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    file.flush()
    parts = (os.pread(file.fileno(), size, start) for start, size in zip(starts.tolist(), sizes.tolist(), strict=True))
    return np.concatenate([np.frombuffer(part, np.int64) for part in parts])


def _with_enough(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The keys that came often enough, of each pair only the likeliest flip; and how often they came."""
    found, often = np.unique(keys, return_counts=True)
    enough = often >= _ENOUGH
    found, often = found[enough], often[enough]
    order = np.lexsort([found, -often])
    best = order[np.unique(found[order] // len(_FLIPS), return_index=True)[1]]
    return found[best], often[best].astype(np.int32)


def _places(blocks: Blocks, total: int) -> np.ndarray:
    """Where the spots of all pictures lie, uint8 [total * SPOTS, 2]."""
    places = np.zeros((total, SPOTS, 2), np.uint8)
    for numbers, landmarks in blocks():
        places[numbers] = landmarks["place"]
    return places.reshape(-1, 2)


def _mean_patch(blocks: Blocks, name: str) -> np.ndarray:
    """What all whole pictures have in common, a bright middle say: it tells none of them apart. Zero for spots."""
    total, count = np.zeros(LANDMARK[name].shape[-2:], np.int64), 0
    if name == "whole":
        for _, landmarks in blocks():
            total += landmarks[name].sum(0, dtype=np.int64)
            count += len(landmarks)
    return (total / max(count, 1)).astype(np.float32)


def _patches(blocks: Blocks, name: str, mean: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Block by block: the patches, float32 [P, pixels], and the number of each among those of all pictures, int64."""
    for numbers, landmarks in blocks():
        patches = landmarks[name].reshape(-1, *mean.shape)
        each = len(patches) // len(numbers)
        own = (numbers[:, None] * each + np.arange(each)).reshape(-1)
        used = np.asarray(patches.any((1, 2)))
        yield (patches[used] - mean).reshape(-1, mean.size), own[used]


def _codes(patches: np.ndarray, planes: np.ndarray) -> np.ndarray:
    """On which sides of the planes each patch lies, in the upper half of an int64: room for its number below."""
    weights = (1 << np.arange(planes.shape[1])).astype(np.int32)
    return ((patches @ planes > 0) @ weights).astype(np.int64) << 32


def _collisions(
    blocks: Blocks, name: str, mean: np.ndarray, planes: np.ndarray, places: np.ndarray, shelf: np.ndarray
) -> Iterator[np.ndarray]:
    """For each block the keys, (first * total + second) * 8 + flip, of two patches in one bucket, at like places."""
    each = SPOTS if name == "spots" else 1
    total = len(places) // SPOTS
    used = 0
    for patches, own in _patches(blocks, name, mean):
        shelf[used : used + len(own)] = _codes(patches, planes) | own
        used += len(own)
    shelf = shelf[:used]
    shelf.sort()
    # To flip the planes back is to flip the patches.
    square = planes.T.reshape(-1, *mean.shape)
    flipped = [_FLIPS[back](square).reshape(planes.shape[1], -1).T for back in _BACK]
    for patches, own in _patches(blocks, name, mean):
        keys = []
        for flip, sides in enumerate(flipped):
            codes = _codes(patches, sides)
            low, high = np.searchsorted(shelf, codes), np.searchsorted(shelf, codes + (1 << 32))
            count = np.where(high - low <= _CROWDED, high - low, 0)
            asking = np.repeat(own, count)
            found = shelf[np.repeat(low - count.cumsum() + count, count) + np.arange(len(asking))] & 0xFFFFFFFF
            keep = asking // each < found // each
            asking, found = asking[keep], found[keep]
            if name == "spots":
                there = places[asking].astype(np.int16)
                there = there[:, ::-1].copy() if flip & 4 else there
                there[:, 0] = THUMB - there[:, 0] if flip & 2 else there[:, 0]
                there[:, 1] = THUMB - there[:, 1] if flip & 1 else there[:, 1]
                near = (np.abs(there - places[found]) <= _NEAR).all(1)
                asking, found = asking[near], found[near]
            keys.append((asking // each * total + found // each) * len(_FLIPS) + flip)
        yield np.concatenate(keys)


def likeness(first: np.ndarray, second: np.ndarray, flip: int) -> float:
    """How well two thumbs lie on each other, in [-1, 1], with small crops of either allowed; 1 is the same picture.

    Only detail counts (wide waves of brightness are taken away), so that pictures of one kind are not taken for one.
    """
    fine = [_detail(np.ascontiguousarray(_FLIPS[flip](first))), _detail(second)]
    coarse = [_detail(cv2.resize(t, (40, 40), interpolation=cv2.INTER_AREA)) for t in (_FLIPS[flip](first), second)]
    best, at = -1.0, (1.0, 1.0, 1)
    for direction in (1, -1):
        for tall in (1.0, 0.94, 0.88, 0.82):
            for wide in (1.0, 0.94, 0.88, 0.82):
                score = _fit(coarse[::direction], tall, wide)
                if score > best:
                    best, at = score, (tall, wide, direction)
    if best < 0.5:
        return best
    tall, wide, direction = at
    steps = (-0.03, 0, 0.03)
    return max(_fit(fine[::direction], min(1, tall + y), min(1, wide + x)) for y in steps for x in steps)


def _fit(pair: list[np.ndarray], tall: float, wide: float) -> float:
    """The best correlation of the second picture, shrunk to these shares of the first, anywhere in the first."""
    whole, part = pair
    size = (round(whole.shape[1] * wide), round(whole.shape[0] * tall))
    shrunk = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    return float(cv2.matchTemplate(whole, shrunk, cv2.TM_CCOEFF_NORMED).max())


def _detail(picture: np.ndarray) -> np.ndarray:
    wide = picture.astype(np.float32)
    return cv2.GaussianBlur(wide, (0, 0), 0.7) - cv2.GaussianBlur(wide, (0, 0), 4)
