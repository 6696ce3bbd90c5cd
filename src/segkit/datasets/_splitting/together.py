"""Which pairs must stay together: those of one group, neighbouring tiles, near-duplicates, the same file twice."""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import numpy as np

from segkit.errors import DataError

__all__ = ["Groups", "units_of"]

Groups = str | Callable[[str], Hashable] | Sequence[Any] | np.ndarray | None

_DUPLICATES = ("exact-duplicate", "near-duplicate", "duplicate-with-other-mask", "split-leak")
_TILE = ("row", "column")


def units_of(images: Sequence[str], groups: Groups, duplicates: Any) -> np.ndarray:
    """The number of each pair's unit, int64 [N], numbered by the first of their images in the order of the names."""
    parent = list(range(len(images)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    def join(members: Iterable[int]) -> None:
        members = list(members)
        for other in members[1:]:
            parent[root(other)] = root(members[0])

    at: dict[str, list[int]] = {}
    for i, image in enumerate(images):
        at.setdefault(os.path.abspath(image), []).append(i)
    for same in at.values():
        join(same)
    for same in _grouped(images, groups):
        join(same)
    linked = list(_linked(duplicates))
    for paths in linked:
        join(i for path in paths for i in at.get(os.path.abspath(path), []))
    if linked and not any(os.path.abspath(path) in at for paths in linked for path in paths):
        raise DataError(
            f"split_folds: `duplicates` must be of the images in `pairs`, got others, such as {linked[0][0]!r}. Audit "
            "the same files, in the same folder; or leave it out."
        )
    order = sorted(range(len(images)), key=lambda i: images[i])
    number: dict[int, int] = {}
    for i in order:
        number.setdefault(root(i), len(number))
    return np.array([number[root(i)] for i in range(len(images))], np.int64)


def _grouped(images: Sequence[str], groups: Groups) -> Iterable[list[int]]:
    if groups is None:
        return []
    if isinstance(groups, str):
        keys: list[Hashable] = []
        tiles: dict[str, list[tuple[int, int, int]]] = {}
        pattern = _pattern(groups)
        for i, image in enumerate(images):
            found = pattern.search(os.path.basename(image)) or pattern.search(image.replace(os.sep, "/"))
            if found is None:
                raise DataError(
                    f"split_folds: `groups` must be found in each image's name, got {image!r} without {groups!r}. "
                    'Make the pattern wider, for instance r"^(.+?)_".'
                )
            if set(_TILE) <= pattern.groupindex.keys():
                scene = found["scene"] if "scene" in pattern.groupindex else ""
                tiles.setdefault(scene, []).append((i, int(found["row"]), int(found["column"])))
            else:
                keys.append(found.group(1))
        if tiles:
            return _touching(tiles.values())
    elif callable(groups):
        keys = [groups(image) for image in images]
    else:
        keys = list(groups)
        if len(keys) != len(images):
            raise ValueError(
                f"split_folds: `groups` must have one entry for each of {len(images)} pairs, got {len(keys)}. Pass a "
                "list in the order of the pairs, a function of the image's path, or a pattern."
            )
        if isinstance(groups, np.ndarray) and groups.ndim == 2 and groups.shape[1] == 4:
            return _meeting(groups)
    members: dict[Hashable, list[int]] = {}
    for i, key in enumerate(keys):
        members.setdefault(key, []).append(i)
    return members.values()


def _pattern(text: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise ValueError(f"split_folds: `groups` must be a regular expression, got {text!r} ({error}).") from None
    if not pattern.groups:
        raise ValueError(
            f"split_folds: `groups` must hold a group for what pairs of one group share, got {text!r}. Put parentheses "
            'around it: r"^(.+?)_".'
        )
    return pattern


def _touching(scenes: Iterable[list[tuple[int, int, int]]]) -> Iterable[list[int]]:
    """Pairs of tiles of one scene that touch, also at a corner.

    They do if they are at most the usual step apart. The last tile of a row is often moved back to end where the scene
    does, so steps may be shorter than usual.
    """
    scenes = list(scenes)
    rows, columns = (
        Counter(int(step) for tiles in scenes for step in np.diff(sorted({tile[k] for tile in tiles}))) for k in (1, 2)
    )
    steps = _usual_step(rows, columns), _usual_step(columns, rows)
    for tiles in scenes:
        at: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
        for tile in tiles:
            cell = (tile[1] // steps[0], tile[2] // steps[1])
            for down, across in itertools.product((-1, 0, 1), repeat=2):
                for other in at.get((cell[0] + down, cell[1] + across), []):
                    if all(abs(tile[k] - other[k]) <= steps[k - 1] for k in (1, 2)):
                        yield [tile[0], other[0]]
            at.setdefault(cell, []).append(tile)


def _usual_step(steps: Counter[int], across: Counter[int]) -> int:
    """The most common distance between neighbouring rows or columns; of several, what the other direction has."""
    return max(steps, key=lambda step: (steps[step], across[step], step), default=1)


def _meeting(boxes: np.ndarray) -> Iterable[list[int]]:
    """Pairs of boxes (left, top, right, bottom), in any unit, that overlap or touch: a sweep from left to right."""
    x0, x1 = np.minimum(boxes[:, 0], boxes[:, 2]), np.maximum(boxes[:, 0], boxes[:, 2])
    y0, y1 = np.minimum(boxes[:, 1], boxes[:, 3]), np.maximum(boxes[:, 1], boxes[:, 3])
    order = np.argsort(x0, kind="stable")
    active: list[int] = []
    for i in order.tolist():
        active = [j for j in active if x1[j] >= x0[i]]
        yield from ([i, j] for j in active if y0[j] <= y1[i] and y0[i] <= y1[j])
        active.append(i)


def _linked(duplicates: Any) -> Iterable[Sequence[str]]:
    """Groups of paths: of an audit's report, or as they are."""
    if duplicates is None:
        return
    for entry in getattr(duplicates, "findings", duplicates):
        if hasattr(entry, "code"):
            if entry.code in _DUPLICATES and entry.related:
                yield entry.path, entry.related
        elif isinstance(entry, str | os.PathLike):
            raise TypeError(
                f"split_folds: `duplicates` must be a report of audit_dataset or groups of paths, got the path "
                f"{entry!r}. Pass a list of lists: each holds what is the same."
            )
        else:
            yield [os.fspath(path) for path in entry]
