"""The same picture twice: exactly, or nearly; with two masks, or in two splits."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from typing import Any, overload

import numpy as np

from segkit.audit._judge.likeness import likeness, similar_pairs
from segkit.audit._judge.set import MeasuredSet
from segkit.audit._measure.finding import Codes, Finding, Severity
from segkit.audit._measure.landmarks import LANDMARK
from segkit.audit._measure.row import THUMB
from segkit.stats import map_in_chunks

# fmt: off
CODES = Codes(
    ("exact-duplicate", "warning", "The same pixels twice", "Delete one of the two."),
    ("near-duplicate", "warning", "Nearly the same picture twice", "Keep one, or keep both in the same split."),
    ("duplicate-with-other-mask", "error", "The same picture with two different masks",
     "Decide which mask is right and delete the other pair."),
    ("split-leak", "error", "The same picture in two splits",
     "Move both to one split; otherwise the test is not on new pictures."),
)
# fmt: on

# name = value  # what it bounds | chosen on
SAME = 0.965  # likeness of a re-encoded picture | JPEG of quality 50, gamma, half size
ALMOST = 0.85  # likeness of a cropped one | crops by 5 and 10 %; neighbouring slices reach 0.8
SERIES, SERIES_SHARE = 8, 0.25  # copies beyond which likeness is a fact of the set; their share | films, stacks
_BLOCK = 64
_HOW = (
    "",
    " when flipped left to right",
    " when flipped upside down",
    " when turned by a half turn",
    " when mirrored at its diagonal",
    " when turned by a quarter turn",
    " when turned by a quarter turn",
    " when mirrored at its diagonal",
)


class ThumbStore:
    """Thumbs and landmarks of all images in two temporary files, so that memory does not grow with the set."""

    def __init__(self) -> None:
        self._thumbs = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._landmarks = tempfile.TemporaryFile()  # noqa: SIM115

    def put(self, start: int, thumbs: np.ndarray, landmarks: np.ndarray) -> None:
        """Keep the thumbs, uint8 [K, THUMB, THUMB], and landmarks, [K], of the images from number `start` on."""
        os.pwrite(self._thumbs.fileno(), thumbs.tobytes(), start * THUMB * THUMB)
        os.pwrite(self._landmarks.fileno(), landmarks.tobytes(), start * LANDMARK.itemsize)

    def thumb(self, number: int) -> np.ndarray:
        """The thumb of an image, uint8 [THUMB, THUMB]."""
        data = os.pread(self._thumbs.fileno(), THUMB * THUMB, number * THUMB * THUMB)
        return np.frombuffer(data, np.uint8).reshape(THUMB, THUMB)

    def landmarks(self, numbers: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Blocks of (numbers, landmarks), of those among `numbers`, which are in increasing order."""
        for start in range(0, int(numbers[-1]) + 1 if numbers.size else 0, _BLOCK):
            ours = numbers[np.searchsorted(numbers, start) : np.searchsorted(numbers, start + _BLOCK)]
            if ours.size:
                data = os.pread(self._landmarks.fileno(), _BLOCK * LANDMARK.itemsize, start * LANDMARK.itemsize)
                yield ours, np.frombuffer(data, LANDMARK)[ours - start]

    def __enter__(self) -> ThumbStore:
        return self

    def __exit__(self, *_: object) -> None:
        self._thumbs.close()
        self._landmarks.close()


def find_duplicates(
    data: MeasuredSet,
    store: ThumbStore,
    *,
    splits: Sequence[str | None] | None,
    executor: Executor | None,
    progress: bool,
) -> list[Finding]:
    """The findings about two images at a time. Of the two, the later path has the finding, the earlier is related."""
    rows = data.rows
    usable = rows["image_ok"] & ~rows["constant"]
    numbers = usable.nonzero()[0]
    # One of each: a copy is like whatever its original is like. `unique` names the first of equal ones.
    _, firsts, which = np.unique(rows["image_digest"][numbers], axis=0, return_index=True, return_inverse=True)
    originals = numbers[firsts[which.reshape(-1)]]
    copies = originals != numbers
    exact = list(zip(originals[copies].tolist(), numbers[copies].tolist(), strict=True))
    alone = np.sort(numbers[firsts])
    candidates = similar_pairs(lambda: store.landmarks(alone), len(rows))
    scores = map_in_chunks(
        _compare,
        _Thumbs(store, candidates),
        on_lost=lambda item, reason: [0.0],
        executor=executor,
        progress=progress,
        describe="duplicates",
    )
    near = [
        (int(first), int(second), int(flip), score)
        for (first, second, flip), score in zip(candidates, (s for part in scores for s in part), strict=True)
        if score >= ALMOST
    ]
    findings = []
    for first, second in exact:
        findings += _exact(data, first, second)
    # Slices and frames are all like their neighbours: a fact of that set, not of one file.
    series = len({second for _, second, _, score in near if score >= SAME}) > max(SERIES, SERIES_SHARE * len(alone))
    for first, second, flip, score in near:
        findings += _near(data, first, second, flip, score, mild=series)
    if splits is not None:
        pairs = [*exact, *((first, second) for first, second, _, _ in near)]
        findings += _leaks(data, pairs, splits)
    return findings


class _Thumbs(Sequence[tuple[np.ndarray, np.ndarray, int]]):
    """The thumbs of pairs, read when they are asked for."""

    def __init__(self, store: ThumbStore, pairs: np.ndarray) -> None:
        self._store = store
        self._pairs = pairs

    def __len__(self) -> int:
        return len(self._pairs)

    @overload
    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, int]: ...
    @overload
    def __getitem__(self, index: slice) -> list[tuple[np.ndarray, np.ndarray, int]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        first, second, flip = self._pairs[index].tolist()
        return self._store.thumb(first), self._store.thumb(second), flip


def _compare(pairs: list[tuple[np.ndarray, np.ndarray, int]]) -> list[float]:
    return [likeness(first, second, flip) for first, second, flip in pairs]


def _exact(data: MeasuredSet, first: int, second: int) -> list[Finding]:
    original, copy = data.image(first), data.image(second)
    if _masks_differ(data.rows, first, second):
        return [
            CODES.finding(
                "duplicate-with-other-mask",
                copy,
                "It has the same pixels, but another mask.",
                related=original,
                value=1.0,
            )
        ]
    return [CODES.finding("exact-duplicate", copy, "It has the same pixels.", related=original, value=1.0)]


def _near(data: MeasuredSet, first: int, second: int, flip: int, score: float, *, mild: bool) -> list[Finding]:
    rows, original, copy = data.rows, data.image(first), data.image(second)
    how = _HOW[flip]
    value = round(score, 3)
    severity: Severity = "warning" if score >= SAME and not mild else "info"
    reason = f"Its detail agrees to {value:.1%} with that of the other{how}."
    findings = [CODES.finding("near-duplicate", copy, reason, related=original, value=value, severity=severity)]
    same_size = rows["height"][first] == rows["height"][second] and rows["width"][first] == rows["width"][second]
    if flip == 0 and same_size and score >= SAME and _masks_differ(rows, first, second):
        reason = "It is nearly the same picture, but has another mask."
        findings.append(
            CODES.finding("duplicate-with-other-mask", copy, reason, related=original, value=value, severity="info")
        )
    return findings


def _masks_differ(rows: np.ndarray, first: int, second: int) -> bool:
    both = rows["mask_ok"][first] and rows["mask_ok"][second]
    return bool(both and (rows["mask_digest"][first] != rows["mask_digest"][second]).any())


def _leaks(data: MeasuredSet, pairs: list[tuple[int, int]], splits: Sequence[str | None]) -> Iterator[Finding]:
    """The same picture in two splits. The file of the larger split has the finding: it is the one to spare."""
    size = Counter(splits)
    for first, second in sorted(pairs):
        one, other = sorted((first, second), key=lambda i: -size[splits[i]])
        if splits[one] is None or splits[other] is None or splits[one] == splits[other]:
            continue
        reason = f"It is in split {splits[one]!r}, and the same picture is in {splits[other]!r}."
        value = f"{splits[one]}, {splits[other]}"
        yield CODES.finding("split-leak", data.image(one), reason, related=data.image(other), value=value)
