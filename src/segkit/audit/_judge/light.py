"""Judge the light of each image against its set: constant, dark, bright, clipped, empty of detail, blurred.

A fault of light changes several numbers at once: what was exposed too short is darker and has less noise, while a tile
of background is darker only. Each number becomes a distance from the median of the set, in units of its spread; the
distances that a fault would make are added as the squares of a length, and long ones are reported.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from segkit.audit._judge.fence import distances, together
from segkit.audit._judge.set import MeasuredSet
from segkit.audit._measure.finding import Codes, Finding

# fmt: off
CODES = Codes(
    ("constant-image", "error", "One value everywhere", "Drop the pair: there is nothing to learn from it."),
    ("saturated", "warning", "Clipped at the end of the scale", "Export it again with a lower gain, or drop it."),
    ("non-finite", "error", "NaN or infinity", "Replace NaN and infinity by a number, and ignore them in the mask."),
    ("blurred", "warning", "Much less sharp than the set", "Look at it; drop it if its boundaries cannot be seen."),
    ("too-dark", "warning", "Much darker than the set", "Look at it; export it again or drop it."),
    ("too-bright", "warning", "Much brighter than the set", "Look at it; export it again or drop it."),
    ("low-information", "info", "Hardly any detail",
     "Look at it; drop it if there is nothing that a network could learn."),
)
# fmt: on

# name = value  # what it bounds | chosen on: one half of the sets of tests/audit_sets.py, whose clean files stay below
# Distances are in spreads of the set, "fall" and "rise" are octaves below or above its median.
DARK, BRIGHT, BLURRED = 4.8, 5.5, 8.4  # all the evidence together | clean files, gains, Gauss of sigma 1.5 to 8
CALM, TAIL = 0.7, 2.0  # of a limit, in sets with next to no evidence; of the usual evidence | clean files
LEAST = {"p99": 0.15, "quiet": 0.4, "place": 0.06, "mean": 0.25, "low": 0.06, "p05": 0.3}  # least spreads | clean files
LEAST_DETAIL = 0.15, 0.25, 0.2, 0.25, 0.4  # of sharp, coarse_sharp, lopsided, coarse_lopsided, fine | the same
EMPTY = 0.2  # share of black, beyond the usual, that is outside of the sample | tomography, retina
FALL, DIM, QUIET, LOW = 0.8, 1, 2, 1.5  # of p99: fall and distance, with noise or the median lower | gains 0.08 to 0.4
FALL_ALONE, DIM_ALONE = 1, 7  # the same, whatever the noise | gains 0.08 to 0.4
KEPT = 4, 3  # at most so much may speak against it: the place of the median; the mean | clean files
SUNK, SUNK_MEAN, DEEP, DEEP_8_BIT = 0.55, 0.8, 4, 8  # of the mean, where white stays white | gamma 2.5 to 4
SUNK_FAR = 2  # distance beside SUNK_MEAN | gamma 2.5 to 4, 16 bit
DARKNESS, SILENCE = 1.8, 2.5  # falls of p99.9 and of noise: no light at all, however mixed the set | gain 0.08
UNEVEN, MORE, LEAN = 2.4, 1.4, 0.3  # of levels: alone; times the usual; of the mean, to say which way | gains, gammas
SEEN = 0.4  # octaves of the mean, from black and white, beside LEAN | stretched slices; gains, gammas
RISE, RISE_FLAT, FLAT = 0.1, 0.16, 0.8  # of black, shares of white; with so many octaves less contrast | black raised
CUT, CUT_USUAL = 0.02, 2  # share at white where black is raised; times the usual | black raised
BRIGHTER, LIGHT, NOISY = 10, 1, -2  # all evidence in 8 bit; of the mean, and of noise, beside it | gains 1.8 to 4
SATURATED, MIN_CUT, CUT_MORE = 4.2, 0.008, 1.25  # of the share at white: distance, spread, times the usual | clipping
BELOW_WHITE, WHITE, WHITE_USUAL = 250, 0.08, 4  # a flat top below white; a share, times the usual, at it | clipping
DULL, DULL_FAR, DULL_NOISE = 2.0, 3.5, 6  # fall of contrast, with its distance or that of noise | contrast 0.02 to 0.1
CONTRAST = 0.3  # least spread of the contrast, octaves | clean files
FEW_BITS = 1.5  # of entropy that is dull where the fall is DULL | contrast 0.02
RATIOS = 2.5  # of detail between sizes and directions together, beside BLURRED | Gauss, motion
SOFT, SOFTER, TRAIL, TRAILED = 0.5, 1.5, 4.2, 1.4  # of the spectrum: alone; times the usual | Gauss, motion of 7 to 31

_LEVELS = "Its neighbouring levels are used unequally ({value:.3g} times what chance gives, usually {usual:.2g})"
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
    "moved": (
        "trail_length",
        "Everything in it appears again {value:g} pixels away: the camera moved during the exposure.",
        1,
    ),
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


def light(data: MeasuredSet) -> Iterator[Finding]:
    """The findings about the samples of the images; those of other images say what is usual."""
    rows = data.rows
    judged = rows["image_ok"] & ~rows["constant"] & (rows["non_finite"] == 0)
    yield from _reports(
        data, "constant-image", rows["image_ok"] & rows["constant"], "mean", "Every pixel is {value:g}.", 2
    )
    for i in (rows["image_ok"] & (rows["non_finite"] > 0)).nonzero()[0].tolist():
        count = int(rows["non_finite"][i])
        yield CODES.finding("non-finite", data.image(i), f"{count} of its samples are NaN or infinite.", value=count)
    for dtype in np.unique(rows["dtype"][judged]):  # brightness means the same among images of one number type only
        yield from _one_dtype(data, judged & (rows["dtype"] == dtype))


def _one_dtype(data: MeasuredSet, ours: np.ndarray) -> Iterator[Finding]:
    rows = data.rows
    full = _full_scale(rows[ours])
    eight_bit = rows["dtype"][ours][0] == b"uint8"
    white = 256.0 if eight_bit else 4 * full

    def octaves(values: np.ndarray) -> np.ndarray:
        return np.asarray(np.where(ours, np.log2(np.maximum(values, full / 256)), np.nan))

    def height(values: np.ndarray) -> np.ndarray:
        """Octaves above black less octaves below white: towards either end, small steps count more."""
        return octaves(values) - np.log2(np.maximum(white - values, white / 256))

    # Where part of an image has no light at all (outside of a sample), its calmest part says nothing about noise, and
    # the border of the sample is most of its detail: such images say nothing about what is usual for others.
    empty = (rows["clipped_low"] > np.median(rows["clipped_low"][ours]) + EMPTY) & (rows["p01"] < full / 256)

    def far(values: np.ndarray, least: float) -> np.ndarray:
        return distances(np.where(ours, values, np.nan), least=least)

    def finer(values: np.ndarray, least: float) -> np.ndarray:
        return np.where(empty, far(values, least), distances(np.where(ours & ~empty, values, np.nan), least=least))

    level = far(octaves(rows["p99"]), LEAST["p99"])
    noise = far(rows["quiet"], LEAST["quiet"])
    spread = octaves(rows["p99"] - rows["p01"])
    place = far((rows["p50"] - rows["p01"]) / np.maximum(rows["p99"] - rows["p01"], 1e-6), LEAST["place"])
    mean = far(height(rows["mean"]), LEAST["mean"])

    # Less light takes the noise away, too; a tile of dark background is darker only.
    fall = _below(octaves(rows["p99"]))
    too_dark = (fall >= FALL) & (-level >= DIM) & ((-noise >= QUIET) | (-place >= LOW))
    too_dark |= (fall >= FALL_ALONE) & (-level >= DIM_ALONE)
    too_dark &= _beyond(together(-level, -noise, -place.clip(-KEPT[0]), -mean.clip(-KEPT[1])), ours, DARK)
    # A dark gamma leaves white where it is. Where levels would show it, what is merely dark must be so by far.
    sunk = _below(octaves(rows["mean"]))
    deep = -mean >= DEEP_8_BIT if eight_bit else (sunk >= SUNK_MEAN) & (-mean >= SUNK_FAR) | (-mean >= DEEP)
    too_dark |= (sunk >= SUNK) & deep & (-place >= 0) & ~empty
    # Levels that no camera leaves like this: changed afterwards, towards the dark or towards the bright.
    changed = ours & (rows["uneven"] > max(UNEVEN, MORE * _usual(rows["uneven"][ours])))
    # A picture whose contrast was only stretched is no darker or brighter than others, as far as anybody sees.
    seen = height(rows["mean"]) - np.nanmedian(height(rows["mean"]))
    darkened = changed & (mean <= -LEAN) & (seen <= -SEEN)
    brightened = changed & (mean >= LEAN) & (seen >= SEEN)
    # However mixed the set: no light at all, and no noise in it.
    too_dark |= (_below(octaves(rows["p999"])) >= DARKNESS) & (_below(rows["quiet"]) >= SILENCE)

    clipped = rows["clipped_high"]
    usual = _usual(clipped[ours])
    lifted = np.maximum(far(rows["p05"] / full, LEAST["low"]), far(rows["p01"] / full, LEAST["low"]))
    rise = rows["p01"] - _usual(rows["p01"][ours])
    middle, low = far(height(rows["p50"]), LEAST["mean"]), far(height(rows["p05"]), LEAST["p05"])
    brighter = together(mean, middle, low, noise, lifted)
    if eight_bit:
        # Raised black takes contrast at the top or nowhere; a clear sky is bright and has none.
        too_bright = (rise > RISE * white) & (clipped > max(CUT, CUT_USUAL * usual))
        too_bright |= (rise > RISE_FLAT * white) & (_below(spread) < FLAT)
        too_bright |= (brighter >= BRIGHTER) & (mean >= LIGHT) & (noise >= NOISY)
    else:
        too_bright = _beyond(brighter, ours, BRIGHT) & (mean >= LIGHT)
    # What one file in eight has is no fault of one file; a white ground is none, but a flat top below white is.
    saturated = (far(clipped, MIN_CUT) >= SATURATED) & (clipped > CUT_MORE * usual)
    if eight_bit:
        saturated &= changed | (rows["ceiling"] < BELOW_WHITE) | (clipped > max(WHITE, WHITE_USUAL * usual))

    dull = (_below(spread) >= DULL) & ((-far(spread, CONTRAST) >= DULL_FAR) | (-noise >= DULL_NOISE))
    entropy = np.where(ours, rows["entropy"], np.nan)
    dull |= (_below(entropy) >= DULL) & (entropy < FEW_BITS)

    # What is out of focus loses its finest detail first; less light or contrast takes all detail alike.
    names = "sharp", "coarse_sharp", "lopsided", "coarse_lopsided", "fine"
    sharp, coarse, lopsided, coarse_lopsided, fine = (
        finer(rows[name], least) for name, least in zip(names, LEAST_DETAIL, strict=True)
    )
    ratios = -sharp, -coarse, lopsided, coarse_lopsided
    softer = together(*ratios, -fine, np.where(empty, 0, -finer(rows["quiet"], LEAST["quiet"])))
    softer = (softer >= BLURRED) & (together(*ratios) >= RATIOS)
    # What the spectrum shows is blur in any picture, if it is not what most of this set show.
    soft, moved = (
        ~dull & (rows[name] > max(least, share * _usual(rows[name][ours])))
        for name, least, share in (("softness", SOFT, SOFTER), ("trail", TRAIL, TRAILED))
    )
    found = {
        "too-dark": [(too_dark, *_SAID["dark"]), (darkened, *_SAID["darkened"])],
        "too-bright": [(too_bright, *_SAID["bright"]), (brightened, *_SAID["brightened"])],
        "saturated": [(saturated, *_SAID["saturated"])],
        "low-information": [(dull, *_SAID["dull"])],
        "blurred": [(moved, *_SAID["moved"]), (softer, *_SAID["softer"]), (soft, *_SAID["soft"])],
    }
    for code, cases in found.items():
        left = ours
        for those, name, said, digits in cases:  # the first that fits says why
            yield from _reports(data, code, those & left, name, said, digits)
            left = left & ~those


def _beyond(evidence: np.ndarray, ours: np.ndarray, limit: float) -> np.ndarray:
    """Whether the evidence passes the limit, which is lower for sets where seven of eight files show next to none."""
    usual = float(np.percentile(evidence[ours], 87.5))
    return np.asarray(evidence >= np.clip(TAIL * usual, CALM * limit, limit))


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


def _reports(data: MeasuredSet, code: str, those: np.ndarray, name: str, said: str, digits: int) -> Iterator[Finding]:
    rows = data.rows
    known = rows[name][rows["image_ok"] & ~rows["constant"] & np.isfinite(rows[name])]
    usual = float(np.median(known)) if known.size else 0.0
    for i in those.nonzero()[0].tolist():
        value = round(float(rows[name][i]), digits)
        yield CODES.finding(code, data.image(i), said.format(value=value, usual=usual), value=value)


CHECKS = [light]
