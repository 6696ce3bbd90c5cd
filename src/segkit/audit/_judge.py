"""Judge each file against its set: rows of numbers in, findings out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from segkit.audit._fence import outside
from segkit.audit._finding import CODES, Finding
from segkit.audit._measure import Item, Options

__all__ = ["judge"]


def judge(items: Sequence[Item], rows: np.ndarray, options: Options) -> list[Finding]:
    """The findings that need the whole set: `rows` holds the numbers of `items`, in the same order."""
    return [*_kinds(items, rows), *_images(items, rows), *_masks(items, rows, options)]


def _kinds(items: Sequence[Item], rows: np.ndarray) -> list[Finding]:
    """Channels and dtypes that are not those of most images."""
    findings = []
    good = rows["image_ok"].nonzero()[0]
    for code, name in (("unexpected-channels", "channels"), ("unexpected-dtype", "dtype")):
        values, counts = np.unique(rows[name][good], return_counts=True)
        if len(values) < 2:
            continue
        usual = values[counts.argmax()]
        for i in good[rows[name][good] != usual].tolist():
            what = {"channels": f"{rows[name][i]} channels", "dtype": f"samples of {_text(rows[name][i])}"}[name]
            reason = f"It has {what}; {counts.max()} of {len(good)} images have {_text(usual)}."
            findings.append(_finding(code, items[i][1], reason, value=_text(rows[name][i])))
    return findings


def _images(items: Sequence[Item], rows: np.ndarray) -> list[Finding]:
    findings: list[Finding] = []
    constant = rows["image_ok"] & rows["constant"]
    for i in constant.nonzero()[0].tolist():
        value = float(rows["mean"][i])
        findings.append(_finding("constant-image", items[i][1], f"Every pixel is {value:g}.", value=value))

    # Brightness is judged among images of one number type; sharpness is a ratio and knows no type.
    usable = rows["image_ok"] & ~constant & (rows["non_finite"] == 0)
    flagged = constant | ~usable
    for dtype in np.unique(rows["dtype"][usable]):
        usual = usable & (rows["dtype"] == dtype)
        full = _scale(rows[usual])
        for code, name, values, side, at_least, text in (
            ("too-dark", "p99", np.log2(np.maximum(rows["p99"], full / 4096)), -1, 1.5, "1% of its pixels are above"),
            ("too-bright", "p50", rows["p50"] / full, 1, 0.2, "half of its pixels are above"),
            ("too-bright", "mean", rows["mean"] / full, 1, 0.2, "its mean is"),
            ("saturated", "clipped_high", rows["clipped_high"], 1, 0.1, "the share of pixels at its largest value is"),
        ):
            far = outside(np.where(usual, values, np.nan), side=side, at_least=at_least)
            median = float(np.median(rows[name][usual]))
            for i in far.nonzero()[0].tolist():
                value = round(float(rows[name][i]), 4)
                reason = f"{text[0].upper()}{text[1:]} {value:g}; in the set it is {median:.4g}."
                if not any(f.code == code and f.path == items[i][1] for f in findings[-64:]):
                    findings.append(_finding(code, items[i][1], reason, value=value))
                flagged[i] = True

    # A dark or clipped image has lost its detail already; it is not called blurred, too.
    sharp = usable & ~flagged
    for name in ("sharp", "coarse_sharp"):
        far = outside(np.where(sharp, rows[name], np.nan), side=-1, at_least=1.0)
        median = float(np.median(rows[name][sharp])) if sharp.any() else 0.0
        for i in far.nonzero()[0].tolist():
            sharp[i] = False
            value = round(float(rows[name][i]), 2)
            reason = f"Its finest detail has {2 ** (median - value):.1f} times less energy than is usual in the set."
            findings.append(_finding("blurred", items[i][1], reason, value=value))
    return findings


def _scale(rows: np.ndarray) -> float:
    """The brightness that counts as full in this set: what its brighter images reach, for any number type."""
    return max(float(np.percentile(rows["p99"], 95)), 1e-6)


def _masks(items: Sequence[Item], rows: np.ndarray, options: Options) -> list[Finding]:
    findings = []
    # One class and ignored pixels, nothing else: in a set of 0 and 255, the ignored pixels are the foreground.
    suspect = rows["mask_ok"] & (rows["classes"] == 1) & (rows["ignored"] > 0)
    fine = rows["mask_ok"] & (rows["classes"] > 1)
    usual = float(np.median(rows["ignored"][fine])) if fine.any() else 0.0
    for i in suspect.nonzero()[0].tolist():
        share = float(rows["ignored"][i])
        # Where ignored borders are usual, a mask of background and border is no fault.
        if fine.sum() > suspect.sum() and usual > 0 and share < 4 * usual:
            continue
        reason = (
            f"{share:.1%} of its pixels are {options.ignore_index}, which is ignored, and all others are one class."
        )
        findings.append(_finding("foreground-is-ignored", items[i][2], reason, value=round(share, 4)))
    return findings


def _finding(code: str, path: str | None, reason: str, *, related: str | None = None, value: Any = None) -> Finding:
    return Finding(code, CODES[code].severity, path or "", related, value, reason, CODES[code].remedy)


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else int(value)
