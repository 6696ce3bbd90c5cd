"""What a check is given: everything that was measured, and what the checks before it found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from segkit.audit._measure.finding import Finding
from segkit.audit._measure.row import Options


@dataclass
class MeasuredSet:
    """A data set as numbers, for checks: functions of it that give findings.

    Args:
        files: (image, mask) of each row, of several files the first; either is None for an orphan, and all masks are
            for images alone.
        rows: a structured array [N], what was measured on each of `files`; `rows.dtype.names` lists its columns.
        labels: label -> [pixels, masks with it], ignored pixels left out.
        options: num_classes, colors and ignore_index of the audit.
        findings: what was found so far.

    Example:
        >>> data = MeasuredSet([("a.png", "b.png")], np.zeros(1), {}, Options(2, None, 255))
        >>> data.image(0), data.mask(0)
        ('a.png', 'b.png')
    """

    files: Sequence[tuple[str | None, str | None]]
    rows: np.ndarray
    labels: dict[int, list[int]]
    options: Options
    findings: list[Finding] = field(default_factory=list)

    def image(self, number: int) -> str | None:
        """The image of a row, or None."""
        return self.files[number][0]

    def mask(self, number: int) -> str | None:
        """The mask of a row, or None."""
        return self.files[number][1]


Check = Callable[[MeasuredSet], Iterable[Finding]]
