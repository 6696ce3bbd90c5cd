"""The audit of a data set: find the files, measure them in any executor, judge them, and hand back a report."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from functools import partial
from typing import Any, Literal

import numpy as np

from segkit import IGNORE_INDEX
from segkit.audit._judge.checks import CODES, judge
from segkit.audit._judge.duplicates import ThumbStore, find_duplicates
from segkit.audit._judge.set import Check, MeasuredSet
from segkit.audit._judge.splits import splits_of
from segkit.audit._measure.finding import Finding
from segkit.audit._measure.row import ROW, Item, Options, name_of
from segkit.audit._measure.worker import lost, measure
from segkit.audit._report.report import AuditReport
from segkit.datasets import Pair, Pairs, find_images, find_pairs
from segkit.stats import map_in_chunks

Files = Any


def audit_dataset(
    images: Files,
    masks: Files | None = None,
    *,
    num_classes: int | None = None,
    colors: Mapping[tuple[int, int, int], int] | None = None,
    unknown: Literal["error"] | int = "error",
    remap: Mapping[int, int] | None = None,
    unmapped: Literal["error", "keep"] | int = "error",
    ignore_index: int | None = IGNORE_INDEX,
    pages: Literal["first", "channels"] | None = None,
    splits: Mapping[str, str] | None = None,
    pattern: Any = None,
    checks: Iterable[Check] = (),
    executor: Executor | None = None,
    progress: bool = True,
) -> AuditReport:
    """Read every file once and say what is wrong with it, on its own and against the rest of the set.

    Args:
        images: a folder, or a list of paths; or the pairs that a `PairDataset` takes, and then no `masks`.
        masks: a folder, or a list of paths; None audits images alone.
        num_classes: C: labels must lie in [0, C). None does not check them.
        colors: (r, g, b) -> class, for colour-coded masks.
        unknown: the class of any other colour, or "error" for a finding.
        remap: old class -> new class, for every mask, as in `PairDataset`; `num_classes` counts the new ones.
        unmapped: the class of what `remap` does not name: "error" for a finding, "keep", or a class.
        ignore_index: the label of ignored pixels; None when there is none.
        pages: what the pages of an image of several are, as in `PairDataset`: bands, or nothing that matters. None
            looks at the first, with a warning for each file.
        splits: stem, file name or end of the path -> name of its split ("train", "val", ...), to find leaks between
            splits.
        pattern: how the names of images and masks belong together, as in `datasets.find_pairs`.
        checks: your own checks, beside those that are always run: functions of a `MeasuredSet` that give findings.
        executor: where to run, any `concurrent.futures.Executor`; a pool of processes when None.
        progress: show a bar, if standard error is a terminal.

    Returns:
        The report: `findings`, `to_json()`, `to_html(path)`, `clean_pairs()`. Its findings are the same for any
        executor, any number of workers and any order of the files.

    Raises:
        DataError: there are no images, no mask belongs to any image, or a name of `splits` matches no image.
        FileNotFoundError: a folder does not exist.

    Example:
        >>> from segkit.io import write_image, write_mask
        >>> os.makedirs("in", exist_ok=True), os.makedirs("out", exist_ok=True)
        (None, None)
        >>> for i in range(2):
        ...     write_image(f"in/{i}.png", np.full((8, 8, 1), i * 9, np.uint8))
        >>> write_mask("out/0.png", np.zeros((8, 8), np.uint8))
        >>> report = audit_dataset("in", "out", num_classes=2, progress=False)
        >>> sorted((finding.code, finding.path) for finding in report.findings if finding.severity == "error")
        [('constant-image', 'in/0.png'), ('constant-image', 'in/1.png'), ('orphan-image', 'in/1.png')]
    """
    if num_classes is not None and num_classes < 1:
        raise ValueError(f"audit_dataset: `num_classes` must be at least 1, got {num_classes}. Count the background.")
    if pages not in (None, "first", "channels"):
        raise ValueError(
            f"audit_dataset: `pages` must be 'first', 'channels' or None, got {pages!r}. "
            "Where each page is a sample, write a file for each first."
        )
    options = Options(
        num_classes,
        None if colors is None else dict(colors),
        ignore_index,
        unknown,
        None if remap is None else dict(remap),
        unmapped,
        pages,
    )
    pairs, items = _files(images, masks, pattern)
    files = [(name_of(image), name_of(mask)) for image, mask in items]
    data = MeasuredSet(files, np.zeros(len(files), ROW), {}, options)
    of_files = None if splits is None else splits_of(files, splits)
    labels: dict[int, list[int]] = {}
    with ThumbStore() as store:
        parts = map_in_chunks(
            partial(measure, options=options),
            items,
            on_lost=lost,
            executor=executor,
            progress=progress,
            describe="audit",
        )
        done = 0
        for part in parts:
            data.rows[done : done + len(part.rows)] = part.rows
            store.put(done, part.thumbs, part.landmarks)
            done += len(part.rows)
            data.findings += part.findings
            for label, (pixels, count) in part.labels.items():
                entry = labels.setdefault(label, [0, 0])
                entry[0] += pixels
                entry[1] += count
        data.labels.update(sorted(labels.items()))
        judge(data, checks)
        data.findings += find_duplicates(data, store, splits=of_files, executor=executor, progress=progress)
    return AuditReport(list(pairs), files, data.rows, data.labels, sorted(data.findings, key=_order), options)


def _files(images: Files, masks: Files | None, pattern: Any) -> tuple[Pairs, list[Item]]:
    """The pairs, and what is to be read, sorted by path so that the order in which files are named means nothing."""
    files: list[Item]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # orphans become findings here
        if not isinstance(images, str | os.PathLike):
            images = images if isinstance(images, Pairs) else list(images)
        if masks is None and isinstance(images, list) and any(_is_pair(each) for each in images):
            found = images if isinstance(images, Pairs) else Pairs([Pair(*map(_paths, pair)) for pair in images])
            files = [*found]
            files += [(path, None) for path in found.orphan_images] + [(None, path) for path in found.orphan_masks]
        elif masks is None:
            found = Pairs([])
            files = [(path, None) for path in find_images(images)]
        else:
            found = find_pairs(images, masks, pattern=pattern)
            files = [*found]
            files += [(path, None) for path in found.orphan_images] + [(None, path) for path in found.orphan_masks]
    files.sort(key=lambda pair: (name_of(pair[0]) or name_of(pair[1]) or "", name_of(pair[1]) or ""))
    return found, files


def _is_pair(each: Any) -> bool:
    return isinstance(each, tuple | list) and len(each) == 2


def _paths(files: Any) -> Any:
    """One path, or several, as text."""
    return os.fspath(files) if isinstance(files, str | os.PathLike) else tuple(map(os.fspath, files))


_SEVERITIES = {"error": 0, "warning": 1, "info": 2}
_CODES = {code: number for number, code in enumerate(CODES)}


def _order(finding: Finding) -> tuple[Any, ...]:
    return (
        _SEVERITIES[finding.severity],
        _CODES.get(finding.code, len(_CODES)),  # own codes come last, by name
        finding.code,
        finding.path,
        finding.related or "",
        finding.reason,
    )
