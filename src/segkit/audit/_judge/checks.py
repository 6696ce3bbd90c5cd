"""All checks, in the order in which they run, and all codes, in the order of the report."""

from __future__ import annotations

from collections.abc import Iterable

from segkit.audit._judge import duplicates, files, light, masks
from segkit.audit._judge.set import Check, MeasuredSet
from segkit.audit._measure.worker import OF_FILES, OF_MASKS

CHECKS: list[Check] = [*files.OF_IMAGES, *light.CHECKS, *masks.CHECKS, *files.OF_PARTNERS]

CODES = OF_FILES | files.OF_KINDS | light.CODES | files.OF_PAIRS | OF_MASKS | masks.CODES | duplicates.CODES
"""Code -> `Code`, in the order of the report."""


def judge(data: MeasuredSet, checks: Iterable[Check] = ()) -> None:
    """Add what all checks find, and then `checks`, to the findings of the set; each sees those of the ones before."""
    for check in (*CHECKS, *checks):
        data.findings += list(check(data))
