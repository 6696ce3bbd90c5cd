"""Folds for training and testing that hold the same classes and share nothing."""

from __future__ import annotations

import csv
import itertools
import os
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

from segkit import IGNORE_INDEX
from segkit._tasks import map_in_chunks
from segkit._whole import whole_file
from segkit.datasets._pairs import Pair
from segkit.datasets._reading.reading import files_of
from segkit.datasets._splitting.balance import assign
from segkit.datasets._splitting.together import Groups, units_of
from segkit.errors import DataError
from segkit.io import read_mask

__all__ = ["Folds", "split_folds"]


class Folds(list[list[int]]):
    """The folds of `split_folds`: one list of indices each, and what can be said of them.

    Args:
        folds: indices into the pairs, ascending.
        pairs: the pairs.
        shares: what each fold was to have.
        labels: the classes that were counted, [C].
        pixels: how many pixels of each class each pair has, [N, C].
        units: which pairs stay together: the same number for each of them, [N].

    Example:
        >>> folds = Folds([[0], [1]], [Pair("a.png", "a"), Pair("b.png", "b")], [0.5, 0.5], [0, 1], [[3, 1], [1, 3]])
        >>> folds.class_shares().tolist(), folds.error()
        ([[0.75, 0.25], [0.25, 0.75]], 0.25)
    """

    def __init__(
        self,
        folds: Iterable[list[int]] = (),
        pairs: Sequence[Pair] = (),
        shares: Sequence[float] = (),
        labels: Sequence[int] = (),
        pixels: Any = None,
        units: Any = None,
    ) -> None:
        super().__init__(folds)
        self.pairs = list(pairs)
        self.shares = [float(share) for share in shares]
        self.labels = [int(label) for label in labels]
        self.pixels = np.zeros((len(self.pairs), 0)) if pixels is None else np.asarray(pixels, np.float64)
        self.units = np.arange(len(self.pairs)) if units is None else np.asarray(units)

    def class_shares(self) -> np.ndarray:
        """The share of each class in the pixels of each fold, [K, C]."""
        totals = np.array([self.pixels[fold].sum(axis=0) for fold in self]).reshape(len(self), -1)
        return totals / np.maximum(totals.sum(axis=1, keepdims=True), 1)

    def error(self) -> float:
        """How far the folds are from the whole: the mean difference of a class's share, over folds and classes."""
        if not self.pixels.size:
            return 0.0
        whole = self.pixels.sum(axis=0) / max(self.pixels.sum(), 1)
        return float(np.abs(self.class_shares() - whole).mean())

    def table(self) -> str:
        """What each fold has beside the whole, as text: images, units that stay together, each class's share."""
        whole = self.pixels.sum(axis=0) / max(self.pixels.sum(), 1)
        head = f"{'fold':>8} {'images':>7} {'wanted':>8} {'units':>6}" + "".join(
            f"{f'class {k}':>10}" for k in self.labels
        )
        lines = [head]
        for k, (fold, shares) in enumerate(zip(self, self.class_shares(), strict=True)):
            row = f"{k:>8} {len(fold):>7} {self.shares[k] * len(self.pairs):>8.1f} {len(set(self.units[fold])):>6}"
            lines.append(row + "".join(f"{share:>10.3%}" for share in shares))
        row = f"{'whole':>8} {len(self.pairs):>7} {'':>8} {len(set(self.units.tolist())):>6}"
        lines.append(row + "".join(f"{share:>10.3%}" for share in whole))
        lines += [
            f"fold {k} has no pixel of class {label}, which others have"
            for k, fold in enumerate(self)
            for label, count in zip(self.labels, self.pixels[fold].sum(axis=0), strict=True)
            if count == 0
        ]
        if self.labels:
            lines.append(f"mean difference of a class's share: {self.error():.4%}")
        return "\n".join(lines)

    def to_csv(
        self, path: str | os.PathLike[str], *, val: int | None = None, names: Sequence[str] | None = None
    ) -> None:
        """Write the table that the quickstart's ``--pairs`` and ``segkit audit --splits`` read: columns file and split.

        Args:
            path: it appears whole or not at all.
            val: this fold is "val" and all others are "train": for one round of cross-validation.
            names: of the folds; by default "train", "val", "test" for two or three folds of unequal shares, else 0, 1,
                2, ….

        Raises:
            DataError: two images have the same stem, which such a table cannot tell apart.

        Example:
            >>> folds = Folds([[0], [1]], [Pair("in/a.png", "a"), Pair("in/b.png", "b")], [0.8, 0.2])
            >>> folds.to_csv("pairs.csv")
            >>> with open("pairs.csv") as file:
            ...     print(file.read().split())
            ['file,split', 'a.png,train', 'b.png,val']
        """
        if val is not None and names is not None:
            raise ValueError("to_csv: either `val` or `names` must be given, got both. Leave one out.")
        if val is not None and not 0 <= val < len(self):
            raise ValueError(f"to_csv: `val` must be a fold in [0, {len(self)}), got {val}.")
        if names is None:
            unequal = len(set(self.shares)) > 1 and len(self) <= 3
            names = ["train", "val", "test"][: len(self)] if unequal else [str(k) for k in range(len(self))]
            names = ["val" if k == val else "train" for k in range(len(self))] if val is not None else names
        if len(names) != len(self):
            raise ValueError(f"to_csv: `names` must be one for each of {len(self)} folds, got {len(names)}.")
        rows = sorted((os.path.basename(self.pairs[i].image), names[k]) for k, fold in enumerate(self) for i in fold)
        stems = [os.path.splitext(name)[0] for name, _ in rows]
        if len(set(stems)) < len(stems):
            twice = next(stem for i, stem in enumerate(stems) if stem in stems[:i])
            raise DataError(
                f"to_csv: every image must have a stem of its own, got {twice!r} twice. Rename one, or use the indices."
            )
        with whole_file(path) as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["file", "split"])
            writer.writerows(rows)


def split_folds(
    pairs: Iterable[tuple[str | os.PathLike[str], str | os.PathLike[str]]],
    folds: int | Sequence[float],
    *,
    groups: Groups = None,
    stratify: Literal["classes"] | np.ndarray | None = "classes",
    duplicates: Any = None,
    ignore_index: int = IGNORE_INDEX,
    seed: int = 0,
    progress: bool = False,
) -> Folds:
    r"""Split pairs into folds that have the same classes in the same shares, and share no group and no duplicate.

    The fold of a pair depends on the set of pairs and the seed, not on their order.

    Args:
        pairs: (image, mask) paths, as `find_pairs` gives them.
        folds: how many, or their shares, which add up to 1: (0.8, 0.2).
        groups: what must stay together (a patient, a film, a scene): a list with one key for each pair; a function of
            the image's path; a regular expression whose first group is the key, ``r"^(.+?)_"`` for what stands before
            the first underscore. With the names ``row`` and ``column`` (and ``scene``) tiles that touch stay together,
            ``r"(?P<scene>.+)_r(?P<row>\d+)c(?P<column>\d+)"``. An array [N, 4] of boxes (left, top, right, bottom) in
            any unit keeps together what touches.
        stratify: "classes" reads every mask and balances pixels of each class and in how many images it is. An array
            [N, C] of pixels for each class does the same without reading. None balances images only.
        duplicates: a report of `audit.audit_dataset`, whose exact and near duplicates stay together; or groups of
            paths.
        ignore_index: the label that does not count.
        seed: any integer, for choices between equals.
        progress: show a bar while masks are read, if standard error is a terminal.

    Returns:
        One list of indices for each fold, ascending; a list that also has ``table()``, ``error()`` and ``to_csv()``.

    Raises:
        DataError: there are fewer groups than folds.
        ImageReadError: a mask cannot be read.
        ValueError: an argument is none of these.

    Example:
        >>> pairs = [(f"film{i % 4}_{i}.png", f"{i}.png") for i in range(20)]
        >>> folds = split_folds(pairs, 2, groups=r"^(.+?)_", stratify=None)
        >>> [len(fold) for fold in folds], {i % 4 for i in folds[0]} & {i % 4 for i in folds[1]}
        ([10, 10], set())

    Source: Sechidis et al. 2011, on groups instead of samples, and with moves and swaps afterwards.
    """
    given = [Pair(files_of(image)[0], files_of(mask)) for image, mask in pairs]  # of several bands, the first
    shares = _shares(folds)
    labels, pixels = _pixels(given, stratify, ignore_index, progress)
    of_pair = units_of([pair.image for pair in given], groups, duplicates)
    units = int(of_pair.max()) + 1 if len(given) else 0
    if units < len(shares):
        raise DataError(
            f"split_folds: `pairs` must hold at least as many groups that stay together as folds, {len(shares)}, got "
            f"{units} of {len(given)} pairs. Ask for fewer folds, or let `groups` join less."
        )
    images = np.bincount(of_pair, minlength=units).astype(np.float64)
    amounts = np.zeros((units, 2 * len(labels)))
    np.add.at(amounts, of_pair, np.concatenate([pixels, pixels > 0], axis=1))
    fold = assign(images, amounts, shares, seed)[of_pair]
    lists = [np.flatnonzero(fold == k).tolist() for k in range(len(shares))]
    return Folds(lists, given, shares.tolist(), labels, pixels, of_pair)


def _shares(folds: int | Sequence[float]) -> np.ndarray:
    if isinstance(folds, bool) or (isinstance(folds, int | np.integer) and folds < 2):
        raise ValueError(f"split_folds: `folds` must be 2 or more, or shares, got {folds!r}.")
    if isinstance(folds, int | np.integer):
        return np.full(int(folds), 1 / int(folds))
    shares = np.asarray(folds, np.float64)
    if shares.ndim != 1 or len(shares) < 2 or not (shares > 0).all() or abs(shares.sum() - 1) > 1e-6:
        raise ValueError(
            f"split_folds: `folds` must be a number, or shares above 0 that add up to 1, got {folds!r}. Pass 5, or "
            "(0.8, 0.1, 0.1)."
        )
    return shares / shares.sum()


def _pixels(
    pairs: list[Pair], stratify: str | np.ndarray | None, ignore_index: int, progress: bool
) -> tuple[list[int], np.ndarray]:
    """(labels, pixels of each [N, C])."""
    if stratify is None:
        return [], np.zeros((len(pairs), 0))
    if not isinstance(stratify, str):
        pixels = np.asarray(stratify, np.float64)
        if pixels.ndim != 2 or len(pixels) != len(pairs) or not (pixels >= 0).all():
            raise ValueError(
                f"split_folds: `stratify` as an array must be [{len(pairs)}, C], pixels of each class, got "
                f"{list(pixels.shape)}."
            )
        return list(range(pixels.shape[1])), pixels
    if stratify != "classes":
        raise ValueError(f"split_folds: `stratify` must be 'classes', an array or None, got {stratify!r}.")
    masks = [pair.mask for pair in pairs]
    found = map_in_chunks(_count_all, masks, on_lost=_lost, progress=progress, describe="split", unit="mask")
    listed = []
    for count in itertools.chain.from_iterable(found):
        if isinstance(count, Exception):
            raise count
        listed.append(count)
    labels = sorted({label for count in listed for label in count} - {ignore_index})
    return labels, np.array([[count.get(label, 0) for label in labels] for count in listed]).reshape(len(pairs), -1)


def _count_all(masks: list[Any]) -> list[dict[int, int] | Exception]:
    """Pixels of each label in each mask; an error as it is, so that it keeps its kind on the way from a worker."""
    counts: list[dict[int, int] | Exception] = []
    for mask in masks:
        try:
            counts.append(_count(mask))
        except Exception as error:
            counts.append(error)
    return counts


def _lost(mask: Any, reason: str) -> list[dict[int, int] | Exception]:
    return [DataError(f"split_folds: {mask!r} must be counted, got {reason}. Run segkit audit.")]


def _count(paths: Sequence[str]) -> dict[int, int]:
    mask = read_mask(paths[0])
    for other in paths[1:]:  # a file for each object
        mask = (mask != 0) | (read_mask(other) != 0)
    values, counts = np.unique(mask, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))
