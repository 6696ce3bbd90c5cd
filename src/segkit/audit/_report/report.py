"""The report of an audit: findings as a list, as JSON and as a page, and the pairs that are left."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from segkit._whole import whole_file
from segkit.audit._judge.set import MeasuredSet
from segkit.audit._measure.finding import Finding
from segkit.audit._measure.row import Options, name_of
from segkit.audit._report.page import page_of
from segkit.datasets import Pair


@dataclass
class AuditReport:
    """What an audit found. Made by `audit_dataset`.

    Args:
        pairs: the pairs of the data set; empty when images were audited alone.
        files: (image, mask) of each row; either is None for an orphan.
        rows: the numbers that were measured, one record for each of `files`.
        labels: label -> [pixels, masks], ignored pixels left out.
        findings: sorted by severity, code and path.
        options: num_classes, colors and ignore_index of the audit.

    Example:
        >>> from segkit.audit import Finding
        >>> findings = [Finding("blurred", "warning", "a.png", None, 1.5, "It is blurred.", "Look at it.")]
        >>> report = AuditReport([], [("a.png", None)], np.zeros(1), {}, findings, Options(None, None, 255))
        >>> report.counts(), report.select("blurred")[0].path, report.select(severity="error")
        ({'blurred': 1}, 'a.png', [])
    """

    pairs: list[Pair]
    files: list[tuple[str | None, str | None]]
    rows: np.ndarray
    labels: dict[int, list[int]]
    findings: list[Finding]
    options: Options

    def select(self, code: str | None = None, *, severity: str | None = None, path: str | None = None) -> list[Finding]:
        """The findings of one code, severity or file (as path or as related), or of all that are given."""
        return [
            finding
            for finding in self.findings
            if (code is None or finding.code == code)
            and (severity is None or finding.severity == severity)
            and (path is None or path in (finding.path, finding.related))
        ]

    def counts(self) -> dict[str, int]:
        """Code -> findings, in the order of the report."""
        return dict(Counter(finding.code for finding in self.findings))

    def clean_pairs(self, *, without: Collection[str] = ()) -> list[Pair]:
        """The pairs whose two files have no finding of severity "error", nor one of the codes in `without`."""
        return list(self._clean(without))

    def _clean(self, without: Collection[str] = ()) -> Iterator[Pair]:
        bad = {finding.path for finding in self.findings if finding.severity == "error" or finding.code in without}
        return (pair for pair in self.pairs if name_of(pair.image) not in bad and name_of(pair.mask) not in bad)

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Everything as JSON text, in a fixed order; also written to `path` if one is given."""
        severities = Counter(finding.severity for finding in self.findings)
        content: dict[str, Any] = {
            "images": sum(image is not None for image, _ in self.files),
            "masks": sum(mask is not None for _, mask in self.files),
            "pairs": len(self.pairs),
            "clean_pairs": sum(1 for _ in self._clean()),
            "severities": {name: severities[name] for name in ("error", "warning", "info")},
            "codes": self.counts(),
            "labels": {str(label): {"pixels": p, "masks": n} for label, (p, n) in self.labels.items()},
            "findings": [],
        }
        # Finding by finding: the whole as one tree of dictionaries takes several times the room of its text.
        text = json.dumps(content, indent=1) + "\n"
        if self.findings:
            each = (json.dumps([finding._asdict()], indent=1)[2:-2] for finding in self.findings)
            text = text.replace('"findings": []', '"findings": [\n ' + ",\n".join(each).replace("\n", "\n ") + "\n ]")
        if path is not None:
            with whole_file(path) as file:
                file.write(text)
        return text

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write the report as one self-contained page: no network, no script needed to read it.

        Raises:
            OSError: the file cannot be written; nothing is left behind.
        """
        data = MeasuredSet(self.files, self.rows, self.labels, self.options, self.findings)
        page = page_of(data, pairs=len(self.pairs), clean=len(self.clean_pairs()))
        with whole_file(path) as file:
            file.write(page)
