"""Judge the light of each image against its set: constant, dark, bright, clipped, empty of detail, blurred.

A fault of light changes several numbers at once: what was exposed too short is darker and has less noise, while a tile
of background is darker only. Each number becomes a distance from the median of the set, in units of its spread; the
distances that a fault would make are added as the squares of a length, and long ones are reported.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segkit.audit._finding import CODES, Finding
from segkit.audit._judge.fence import distances, together
from segkit.audit._measure.worker import Item

__all__ = ["judge_light"]

# Chosen on one half of the sets of tests/test_audit_recall.py: what of their clean files stays below, faults pass.
_DARK, _BRIGHT, _SATURATED, _BLURRED = 4.8, 5.5, 4.2, 8.4
_CALM, _TAIL = 0.7, 2.0
_SOFT, _TRAIL = 0.5, 4.2
_UNEVEN, _MORE, _LEAN = 2.4, 1.4, 0.3
_FLAT = 0.8

_LEVELS = "Its neighbouring levels are used unequally ({value:.3g} times as chance does, usually {usual:.2g})"
# Of each kind of fault: the number that shows it, what is said of it, and digits.
_SAID = {
    "dark": ("p99", "99% of its pixels are below {value:g}; in the set that is usually {usual:g}.", 2),
    "darkened": ("uneven", f"{_LEVELS}, as a gain or gamma leaves them, and it is darker than the set.", 2),
    "bright": ("mean", "Its mean is {value:g}; in the set that is usually {usual:g}.", 2),
    "brightened": ("uneven", f"{_LEVELS}, as a gain or gamma leaves them, and it is brighter than the set.", 2),
    "saturated": (
        "clipped_high",
        "{value:.1%} of its pixels have its largest value; in the set that is usually {usual:.1%}.",
        4,
    ),
    "dull": ("std", "Its values spread by {value:g} (standard deviation); in the set that is usually {usual:g}.", 2),
    "moved": ("trail_length", "All in it comes again {value:g} pixels away: the camera moved while it was exposed.", 1),
    "softer": (
        "sharp",
        "Its finest detail is {value:g} octaves against the coarser, usually {usual:.2g}; its detail is weaker or "
        "more in one direction than that of the set.",
        2,
    ),
    "soft": (
        "softness",
        "It is as soft as a sharp picture after a blur with a variance of {value:g} square pixels; in the set that is "
        "usually {usual:g}.",
        2,
    ),
}


def judge_light(items: Sequence[Item], rows: np.ndarray) -> list[Finding]:
    """The findings about the samples of the images; those of other images say what is usual."""
    judged = rows["image_ok"] & ~rows["constant"] & (rows["non_finite"] == 0)
    flat = rows["image_ok"] & rows["constant"]
    findings = _reports(items, rows, "constant-image", flat, "mean", "Every pixel is {value:g}.", 2)
    for dtype in np.unique(rows["dtype"][judged]):  # brightness means the same among images of one number type only
        findings += _one_dtype(items, rows, judged & (rows["dtype"] == dtype))
    return findings


def _one_dtype(items: Sequence[Item], rows: np.ndarray, ours: np.ndarray) -> list[Finding]:
    full = _full_scale(rows[ours])

    eight_bit = rows["dtype"][ours][0] == b"uint8"
    white = 256.0 if eight_bit else 4 * full

    def octaves(values: np.ndarray) -> np.ndarray:
        return np.asarray(np.where(ours, np.log2(np.maximum(values, full / 256)), np.nan))

    def height(values: np.ndarray) -> np.ndarray:
        """Octaves above black less octaves below white: towards either end, small steps count more."""
        return octaves(values) - np.log2(np.maximum(white - values, white / 256))

    def far(values: np.ndarray, least: float) -> np.ndarray:
        return distances(np.where(ours, values, np.nan), least=least)

    level = far(octaves(rows["p99"]), 0.15)
    noise = far(rows["quiet"], 0.4)
    spread = octaves(rows["p99"] - rows["p01"])
    place = far((rows["p50"] - rows["p01"]) / np.maximum(rows["p99"] - rows["p01"], 1e-6), 0.06)
    mean = far(height(rows["mean"]), 0.25)
    # Where part of an image has no light at all (outside of a sample), its calmest part says nothing about noise.
    empty = (rows["clipped_low"] > np.median(rows["clipped_low"][ours]) + 0.2) & (rows["p01"] < full / 256)

    # Less light takes the noise away, too; a tile of dark background is darker only.
    fall = _below(octaves(rows["p99"]))
    too_dark = (fall >= 0.8) & (-level >= 1) & ((-noise >= 2) | (-place >= 1.5))
    too_dark |= (fall >= 1) & (-level >= 7)
    too_dark &= _beyond(together(-level, -noise, -place.clip(-4), -mean.clip(-3)), ours, _DARK)
    # A dark gamma leaves white where it is. Where levels would show it, what is merely dark must be so by far.
    sunk = _below(octaves(rows["mean"]))
    deep = -mean >= 8 if eight_bit else (sunk >= 0.8) & (-mean >= 2) | (-mean >= 4)
    too_dark |= (sunk >= 0.55) & deep & (-place >= 0) & ~empty
    # Levels that no camera leaves like this: changed afterwards, towards the dark or towards the bright.
    changed = ours & (rows["uneven"] > max(_UNEVEN, _MORE * _usual(rows["uneven"][ours])))
    darkened, brightened = changed & (mean <= -_LEAN), changed & (mean >= _LEAN)
    # However mixed the set: no light at all, and no noise in it.
    too_dark |= (_below(octaves(rows["p999"])) >= 1.8) & (_below(rows["quiet"]) >= 2.5)

    clipped = rows["clipped_high"]
    usual = _usual(clipped[ours])
    lifted = np.maximum(far(rows["p05"] / full, 0.06), far(rows["p01"] / full, 0.06))
    rise = rows["p01"] - _usual(rows["p01"][ours])
    brighter = together(mean, far(height(rows["p50"]), 0.25), far(height(rows["p05"]), 0.3), noise, lifted)
    if eight_bit:
        # Raised black takes contrast at the top or nowhere; a clear sky is bright and has none.
        too_bright = (rise > 0.1 * white) & (clipped > max(0.02, 2 * usual))
        too_bright |= (rise > 0.16 * white) & (_below(spread) < _FLAT)
        too_bright |= (brighter >= 10) & (mean >= 1) & (noise >= -2)
    else:
        too_bright = _beyond(brighter, ours, _BRIGHT) & (mean >= 1)
    # What one file in eight has is no fault of one file; a white ground is none, but a flat top below white is.
    saturated = (far(clipped, 0.008) >= _SATURATED) & (clipped > 1.25 * usual)
    if eight_bit:
        saturated &= changed | (rows["ceiling"] < 250) | (clipped > max(0.08, 4 * usual))

    dull = (_below(spread) >= 2.0) & ((-far(spread, 0.3) >= 3.5) | (-noise >= 6))
    entropy = np.where(ours, rows["entropy"], np.nan)
    dull |= (_below(entropy) >= 2.0) & (entropy < 1.5)

    # What is out of focus loses its finest detail first; less light or contrast takes all detail alike.
    ratios = (
        -far(rows["sharp"], 0.15),
        -far(rows["coarse_sharp"], 0.25),
        far(rows["lopsided"], 0.2),
        far(rows["coarse_lopsided"], 0.25),
    )
    softer = together(*ratios, -far(rows["fine"], 0.4), np.where(empty, 0, -noise))
    softer = (softer >= _BLURRED) & (together(*ratios) >= 2.5)
    # What the spectrum shows is blur in any picture, if it is not what most of this set show.
    soft, moved = (
        ~dull & (rows[name] > max(least, share * _usual(rows[name][ours])))
        for name, least, share in (("softness", _SOFT, 1.5), ("trail", _TRAIL, 1.4))
    )
    found = {
        "too-dark": [(too_dark, *_SAID["dark"]), (darkened, *_SAID["darkened"])],
        "too-bright": [(too_bright, *_SAID["bright"]), (brightened, *_SAID["brightened"])],
        "saturated": [(saturated, *_SAID["saturated"])],
        "low-information": [(dull, *_SAID["dull"])],
        "blurred": [(moved, *_SAID["moved"]), (softer, *_SAID["softer"]), (soft, *_SAID["soft"])],
    }
    findings = []
    for code, cases in found.items():
        left = ours
        for those, name, said, digits in cases:  # the first that fits says why
            findings += _reports(items, rows, code, those & left, name, said, digits)
            left = left & ~those
    return findings


def _beyond(evidence: np.ndarray, ours: np.ndarray, limit: float) -> np.ndarray:
    """Whether the evidence passes the limit, which is lower for sets where seven of eight files show next to none."""
    usual = float(np.percentile(evidence[ours], 87.5))
    return np.asarray(evidence >= np.clip(_TAIL * usual, _CALM * limit, limit))


def _usual(values: np.ndarray) -> float:
    """What seven of eight files stay below."""
    known = values[np.isfinite(values)]
    return float(np.percentile(known, 87.5)) if known.size else 0.0


def _below(values: np.ndarray) -> np.ndarray:
    """How far each value lies below the median, in its own units; 0 where it is unknown."""
    known = values[np.isfinite(values)]
    if known.size < 4:
        return np.zeros(values.shape)
    return np.where(np.isfinite(values), float(np.median(known)) - values, 0.0)


def _full_scale(rows: np.ndarray) -> float:
    """The brightness that counts as full in this set: what its brighter images reach, for any number type."""
    return max(float(np.percentile(rows["p99"], 95)), 1e-6)


def _reports(
    items: Sequence[Item], rows: np.ndarray, code: str, those: np.ndarray, name: str, said: str, digits: int
) -> list[Finding]:
    known = rows[name][rows["image_ok"] & ~rows["constant"] & np.isfinite(rows[name])]
    usual = float(np.median(known)) if known.size else 0.0
    kind, findings = CODES[code], []
    for i in those.nonzero()[0].tolist():
        value = round(float(rows[name][i]), digits)
        reason = said.format(value=value, usual=usual)
        findings.append(Finding(code, kind.severity, items[i][1] or "", None, value, reason, kind.remedy))
    return findings
