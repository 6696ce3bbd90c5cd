"""Judge masks against their set: what is in them, how they were made, and whether they lie on their images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from segkit.audit._judge.fence import outside
from segkit.audit._judge.set import MeasuredSet
from segkit.audit._measure.finding import Codes, Finding, Severity

# fmt: off
CODES = Codes(
    ("foreground-is-ignored", "error", "Foreground has the ignore label",
     "Renumber it, for example by labels.remap(mask, {0: 0, 255: 1})."),
    ("interpolated-mask", "error", "Resized or smoothed with interpolation",
     "Make it again, with nearest neighbour and no anti-aliasing."),
    ("lossy-mask", "error", "Compressed with loss", "Export it again as PNG or lossless TIFF from its source."),
    ("empty-mask", "info", "One class only", "Check that the object is really absent; keep such masks if so."),
    ("all-ignored", "error", "Every pixel is ignored", "Drop the pair, or label it: it teaches nothing."),
    ("speckle", "warning", "Lonely wrong pixels", "Clean it with a median filter of 3 x 3, or label it again."),
    ("class-never-seen", "info", "A class that no mask has", "Lower num_classes, or add examples of the class."),
    ("shifted-mask", "warning", "Mask is shifted off its object", "Look at the overlay; export image and mask again."),
)
# fmt: on


# name = value  # what it bounds | chosen on: the known sets of tests/audit_sets.py, faults of tests/audit_faults.py
IGNORED = 2  # times the ignored share that other masks have, beyond which it hides something | borders drawn as ignored
FEW_EMPTY, LONE_EMPTY = (
    0.1,
    0.02,
)  # shares of empty masks that are exceptions; that are worth a warning each | plausible
COMMON = 0.1  # share of the masks that makes a label a class, if nobody says which are | plausible
STRANGE, MANY_STRANGE = 2, 4  # labels beyond the classes that were made; that tell ripples from ramps | 0 and 255
RAMPS, RAMPS_A_LEAP = 0.08, 0.4  # an edge, beyond the usual; below so many a leap they are slivers | x1.5 to x4
STEPS, NO_LEAP = 200, 0.004  # edges of a mask below which leaps prove nothing; leaps an edge that are none | known sets
LOST_LEAPS, FAR_LEAPS, BETWEEN = 1.5, 3.0, 0.5  # octaves; spreads; ramps in place of a leap | x1.5 to x4
BLOCKS, BLOCKS_ALONE, BLOCKS_AND_PEAKS = 0.8, 1.2, 0.4  # octaves of edges on the grid | JPEG of quality 30 to 95
PEAKS, RIPPLES = 0.06, 0.05  # peaks an edge, beyond the usual ones; that no sound mask has | JPEG of quality 30 to 95
RIPPLES_USUAL, BLOCKY_USUAL = 1.2, 0.7  # times the usual peaks: alone; beside blocks | JPEG of quality 30 to 95
RIPPLES_A_RAMP = 0.5  # peaks a ramp: JPEG has more, interpolation fewer | both, of 0 and 255
LONELY, LONELY_PEAKS = 0.002, 0.1  # share of lonely pixels; those a peak, below which it is a ripple | 0.5 to 10 %
SURE_FIT, CHANCE_FIT = 5, 4.5  # deviations of a fit: none of noise; the best of ten thousand shifts of noise | noise
GAIN, GAIN_ALWAYS, GAIN_SHARE = 3.0, 8.0, 0.15  # by a shift: beyond the usual; in any set; of the fit | 4 to 20 pixels
EXACT = 0.1  # share that seven of eight masks could gain, in sets where they lie on their edges | known sets
EXACT_LENGTH, EXACT_GAIN, EXACT_SHARE = 3.0, 1, 0.3  # pixels and gains that are enough there | 4 to 20 pixels
SHORT = 0.3  # of the usual boundary, below which chance decides | known sets
FITS, NO_FIT, NO_FIT_SHARE = 7, 4.0, 0.5  # deviations: usual; of one that fits nowhere; of the usual | mirrored, turned


def contents(data: MeasuredSet) -> Iterator[Finding]:
    """Masks with nothing in them: all ignored, foreground ignored, or one class only."""
    rows, ignored = data.rows, data.options.ignore_index
    ok = rows["mask_ok"]
    for i in (ok & (rows["classes"] == 0)).nonzero()[0].tolist():
        yield CODES.finding("all-ignored", data.mask(i), f"Every pixel is {ignored}, which is ignored.", value=1.0)

    one = ok & (rows["classes"] == 1)
    several = ok & (rows["classes"] > 1)
    # One class and ignored pixels, nothing else: in a mask of 0 and 255, the ignored pixels are the foreground.
    # Where other masks have ignored pixels, too, a mask of background and border is no fault.
    usual = float(np.percentile(rows["ignored"][several], 95)) if several.any() else 0.0
    hidden = one & (rows["ignored"] > IGNORED * usual)
    for i in hidden.nonzero()[0].tolist():
        share = float(rows["ignored"][i])
        reason = f"{share:.1%} of its pixels are {ignored}, which is ignored; all others are one class."
        yield CODES.finding("foreground-is-ignored", data.mask(i), reason, value=round(share, 4))

    # The background is the label that most one-class masks have; masks full of another class are no empty ones.
    background = 0 if (rows["only_label"][one] == 0).any() else None
    empty = one & ~hidden & (rows["only_label"] == background if background is not None else one)
    rare = empty.sum() <= FEW_EMPTY * ok.sum() and several.sum() > empty.sum()
    severity: Severity = "warning" if rare and empty.sum() <= LONE_EMPTY * ok.sum() else "info"
    for i in empty.nonzero()[0].tolist():
        label = int(rows["only_label"][i])
        reason = f"Every pixel is {label}; {int(several.sum())} of {int(ok.sum())} masks have more than one class."
        yield CODES.finding("empty-mask", data.mask(i), reason, value=label, severity=severity)


def made_wrong(data: MeasuredSet) -> Iterator[Finding]:
    """Masks that were resized with interpolation, compressed with loss, speckled, moved, or fit no sound image."""
    rows = data.rows
    ok = rows["mask_ok"]
    taken = ~ok
    extra = rows["classes"].astype(float) - _classes(data)

    for i in (ok & rows["mask_lossy"]).nonzero()[0].tolist():
        yield CODES.finding("lossy-mask", data.mask(i), "Its file uses lossy compression, as JPEG does.", value="lossy")
        taken[i] = True

    def far(name: str, at_least: float, side: int = 1) -> np.ndarray:
        return outside(np.where(taken, np.nan, rows[name]), side=side, at_least=at_least)

    # A thin sliver of a class between two others is a ramp, too, but then there are many edges without.
    ramps, blocks = far("ramps", RAMPS) & (rows["ramps"] > RAMPS_A_LEAP * rows["leaps"]), far("blocks", BLOCKS)
    # Interpolation goes from 0 to 2 through 1: labels that are no neighbours stop being neighbours.
    enough = (rows["classes"] >= 3) & (rows["edges"] * rows["height"] * rows["width"] >= STEPS)
    leaps = np.where(enough & ~taken, np.log2(rows["leaps"] + NO_LEAP), np.nan)
    usual_peaks = float(np.median(rows["peaks"][ok])) if ok.any() else 0.0
    between = (rows["ramps"] > BETWEEN * rows["leaps"]) | (rows["leaps"] == 0)
    soft = outside(leaps, side=-1, at_least=LOST_LEAPS, far=FAR_LEAPS) & between
    strange = (extra > STRANGE) & ok
    # A lonely pixel is a peak along both axes; the ripples of JPEG are longer than a pixel.
    long = rows["isolated"] < LONELY_PEAKS * rows["peaks"] * rows["edges"]
    ripples = rows["peaks"] > max(RIPPLES, RIPPLES_USUAL * usual_peaks)
    ripples &= long | strange | (rows["ramps"] > rows["peaks"])
    # Nothing lies between two neighbouring labels, so that neither interpolation nor JPEG could be seen there.
    several = (rows["classes"] >= 3) | (rows["leaps"] > 0)
    suspect = ~taken & several & (ramps | blocks | soft | strange | (far("peaks", PEAKS) & long))
    blocky = (rows["blocks"] > BLOCKS_AND_PEAKS) & (rows["peaks"] > max(RIPPLES, BLOCKY_USUAL * usual_peaks))
    blocky |= rows["blocks"] > BLOCKS_ALONE
    # Many values that no class has: interpolation from 0 to 255 makes ramps, JPEG makes ripples beside the edges.
    many = rows["peaks"] > np.maximum(RIPPLES, RIPPLES_A_RAMP * rows["ramps"])
    lossy = suspect & np.where(ok & (extra > MANY_STRANGE), many, ripples | blocky)
    for i in lossy.nonzero()[0].tolist():
        found = f"It has {int(rows['classes'][i])} labels" if strange[i] else "Its labels change at every eighth pixel"
        reason = f"{found}, with the ripples or blocks of JPEG around its edges."
        yield CODES.finding("lossy-mask", data.mask(i), reason, value=int(rows["classes"][i]))
    taken |= lossy
    smooth = suspect & ~taken & ~(blocks & ~ramps & ~soft & ~strange)
    for i in smooth.nonzero()[0].tolist():
        value = round(float(rows["ramps"][i]), 3)
        reason = (
            f"{value:.1%} of its edge pixels lie between a smaller and a larger label, usually "
            f"{float(np.median(rows['ramps'][ok])):.1%}; it has {int(rows['classes'][i])} labels."
        )
        yield CODES.finding("interpolated-mask", data.mask(i), reason, value=value)
    taken |= smooth
    for i in far("isolated", LONELY).nonzero()[0].tolist():
        value, usual = round(float(rows["isolated"][i]), 4), float(np.median(rows["isolated"][ok]))
        reason = f"{value:.2%} of its pixels have a label that none of their neighbours has, usually {usual:.2%}."
        yield CODES.finding("speckle", data.mask(i), reason, value=value)
        taken[i] = True
    moved = _moved(rows, ok) & ~taken
    suspected = {finding.path for finding in data.findings}
    ok = ok & [image not in suspected for image, _ in data.files]  # a bad image has no edges to lie on
    for i in moved.nonzero()[0].tolist():
        y, x = float(rows["shift_y"][i]), float(rows["shift_x"][i])
        steps = [f"{abs(round(y))} pixels {'down' if y > 0 else 'up'}"] * (round(y) != 0)
        steps += [f"{abs(round(x))} pixels {'right' if x > 0 else 'left'}"] * (round(x) != 0)
        reason = f"Its boundaries would lie on the image's edges {' and '.join(steps)}."
        where = f"{y:.0f}, {x:.0f}"
        yield CODES.finding("shifted-mask", data.mask(i), reason, related=data.image(i), value=where)
    for i in (_foreign(rows, ok) & ~taken & ~moved).nonzero()[0].tolist():
        reason = (
            "Its boundaries lie on no edges of its image, unlike those of the set: it is turned, or of another image."
        )
        yield CODES.finding("shifted-mask", data.mask(i), reason, related=data.image(i))


def never_seen(data: MeasuredSet) -> Iterator[Finding]:
    """Classes that the caller counts, but no mask has."""
    classes = data.options.num_classes or 0
    for label in range(min(classes, 65536) if data.labels else 0):
        if label not in data.labels and label != data.options.ignore_index:
            reason = f"No mask has class {label}, though there are {classes} classes."
            yield CODES.finding("class-never-seen", "", reason, value=label)


def _moved(rows: np.ndarray, ok: np.ndarray) -> np.ndarray:
    """Masks whose boundaries lie on the image's edges somewhere else."""
    here, best = rows["fit_here"], rows["fit_best"]
    known = ok & (best > 0)
    gain = np.where(known & (best > SURE_FIT), best - here, 0)
    moved = outside(np.where(known, gain, np.nan), side=1, at_least=GAIN, at_most=GAIN_ALWAYS)
    moved &= gain > GAIN_SHARE * best
    if not known.any():
        return moved
    # Where the masks of a set lie exactly on their edges, less is enough.
    share = np.where(known, (best - here) / np.maximum(best, 1e-6), 0)
    length = np.hypot(rows["shift_y"], rows["shift_x"])
    exact = float(np.percentile(share[known], 87.5)) < EXACT
    away = known & (length >= max(EXACT_LENGTH, 2 * float(np.percentile(length[known], 75))))
    better = (best > SURE_FIT) & (share > GAIN_SHARE) & (best - here >= EXACT_GAIN)
    return moved | exact & away & (better | (best > CHANCE_FIT) & (share > EXACT_SHARE))


def _foreign(rows: np.ndarray, ok: np.ndarray) -> np.ndarray:
    """Masks that fit nowhere, in a set where seven of eight fit well: mirrored ones, or those of another image."""
    known = ok & (rows["fit_best"] > 0)
    if known.sum() < 4:
        return np.zeros(len(rows), bool)
    usual = float(np.percentile(rows["fit_here"][known], 12.5))
    long = rows["edges"] > SHORT * np.median(rows["edges"][known])
    return known & long & (usual >= FITS) & (rows["fit_here"] < min(NO_FIT_SHARE * usual, NO_FIT))


def _classes(data: MeasuredSet) -> int:
    """How many classes there are: as the caller said, or the labels that are neither rare nor in one mask only."""
    if data.options.num_classes is not None:
        return data.options.num_classes
    masks = int(data.rows["mask_ok"].sum())
    return sum(count > max(1, COMMON * masks) for _, count in data.labels.values())


CHECKS = [contents, made_wrong, never_seen]
