"""Judge each file against its set: rows of numbers in, findings out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segkit.audit._finding import CODES, Finding, Severity
from segkit.audit._judge.fence import outside
from segkit.audit._judge.light import judge_light
from segkit.audit._measure.worker import Item, Options

__all__ = ["judge"]


def judge(
    items: Sequence[Item], rows: np.ndarray, labels: Mapping[int, Sequence[int]], options: Options
) -> list[Finding]:
    """The findings that need the whole set.

    Args:
        items: the files.
        rows: the numbers of each item, in the same order.
        labels: label -> (pixels, masks with it).
        options: what the caller said about the labels.
    """
    of_images = [*_kinds(items, rows), *judge_light(items, rows), *_sizes(items, rows)]
    suspected = {finding.path for finding in of_images}
    sound = np.array([item[1] not in suspected for item in items], bool)
    return [
        *of_images,
        *_orientation(items, rows),
        *_contents(items, rows, options),
        *_made_wrong(items, rows, labels, options, sound),
        *_never_seen(labels, options),
    ]


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
            found, most = _text(rows[name][i]), _text(usual)
            what = f"{found} channels" if name == "channels" else f"samples of {found}"
            reason = f"It has {what}; {counts.max()} of {len(good)} images have {most}."
            findings.append(_finding(code, items[i][1], reason, value=found))
    return findings


def _sizes(items: Sequence[Item], rows: np.ndarray) -> list[Finding]:
    """Sizes far from all others, or not the one that nine of ten images have."""
    good = rows["image_ok"]
    if good.sum() < 8:
        return []
    height, width = (np.where(good, rows[name], 1).astype(float) for name in ("height", "width"))
    area, aspect = np.log2(height * width), np.log2(height / width)
    odd = np.zeros(len(rows), bool)
    for values, at_least in ((area, 2.0), (aspect, 1.0)):
        values = np.where(good, values, np.nan)
        odd |= outside(values, side=-1, at_least=at_least) | outside(values, side=1, at_least=at_least)
    sizes, which, counts = np.unique(
        np.stack([rows["height"], rows["width"]], 1)[good], axis=0, return_inverse=True, return_counts=True
    )
    if counts.max() >= 0.9 * good.sum():
        odd[good.nonzero()[0][which.reshape(-1) != counts.argmax()]] = True
    usual = sizes[counts.argmax()]
    findings = []
    for i in odd.nonzero()[0].tolist():
        size = f"{rows['height'][i]} x {rows['width'][i]}"
        reason = f"It is {size} (height x width); the commonest size is {usual[0]} x {usual[1]}."
        findings.append(_finding("odd-size", items[i][1], reason, value=size))
    return findings


def _orientation(items: Sequence[Item], rows: np.ndarray) -> list[Finding]:
    """Images that EXIF turns while their masks are not turned in the same way."""
    findings = []
    turned = rows["image_ok"] & (rows["orientation"] > 1)
    for i in turned.nonzero()[0].tolist():
        image, mask, tag = items[i][1], items[i][2], int(rows["orientation"][i])
        if mask is None:
            reason = f"Its EXIF orientation is {tag}: programs that ignore the tag see another picture."
            findings.append(_finding("exif-rotated", image, reason, value=tag, severity="info"))
        elif rows["mask_ok"][i] and rows["mask_orientation"][i] != tag:
            reason = f"Its EXIF orientation is {tag}, that of its mask {int(rows['mask_orientation'][i]) or 1}."
            findings.append(_finding("exif-rotated", image, reason, related=mask, value=tag))
    return findings


def _contents(items: Sequence[Item], rows: np.ndarray, options: Options) -> list[Finding]:
    """Masks with nothing in them: all ignored, foreground ignored, or one class only."""
    findings = []
    ok = rows["mask_ok"]
    for i in (ok & (rows["classes"] == 0)).nonzero()[0].tolist():
        reason = f"Every pixel is {options.ignore_index}, which is ignored."
        findings.append(_finding("all-ignored", items[i][2], reason, value=1.0))

    one = ok & (rows["classes"] == 1)
    several = ok & (rows["classes"] > 1)
    # One class and ignored pixels, nothing else: in a mask of 0 and 255, the ignored pixels are the foreground.
    # Where other masks have ignored pixels, too, a mask of background and border is no fault.
    usual = float(np.percentile(rows["ignored"][several], 95)) if several.any() else 0.0
    hidden = one & (rows["ignored"] > 2 * usual)
    for i in hidden.nonzero()[0].tolist():
        share = float(rows["ignored"][i])
        reason = f"{share:.1%} of its pixels are {options.ignore_index}, which is ignored; all others are one class."
        findings.append(_finding("foreground-is-ignored", items[i][2], reason, value=round(share, 4)))

    # The background is the label that most one-class masks have; masks full of another class are no empty ones.
    background = 0 if (rows["only_label"][one] == 0).any() else None
    empty = one & ~hidden & (rows["only_label"] == background if background is not None else one)
    rare = empty.sum() <= 0.1 * ok.sum() and several.sum() > empty.sum()
    for i in empty.nonzero()[0].tolist():
        label = int(rows["only_label"][i])
        reason = f"Every pixel is {label}; {int(several.sum())} of {int(ok.sum())} masks have more than one class."
        severity: Severity = "warning" if rare and empty.sum() <= 0.02 * ok.sum() else "info"
        findings.append(_finding("empty-mask", items[i][2], reason, value=label, severity=severity))
    return findings


def _made_wrong(
    items: Sequence[Item],
    rows: np.ndarray,
    labels: Mapping[int, Sequence[int]],
    options: Options,
    sound: np.ndarray,
) -> list[Finding]:
    """Masks that were resized with interpolation, compressed with loss, speckled, moved, or fit no `sound` image."""
    findings = []
    ok = rows["mask_ok"]
    taken = ~ok
    known = _usual_labels(labels, int(ok.sum()), options)
    extra = rows["classes"].astype(float) - len(known)

    for i in (ok & rows["mask_lossy"]).nonzero()[0].tolist():
        findings.append(_finding("lossy-mask", items[i][2], "The file is a JPEG, which changes labels.", value="jpeg"))
        taken[i] = True

    def far(name: str, at_least: float, side: int = 1) -> np.ndarray:
        return outside(np.where(taken, np.nan, rows[name]), side=side, at_least=at_least)

    # A thin sliver of a class between two others is a ramp, too, but then there are many edges without.
    ramps, blocks = far("ramps", 0.08) & (rows["ramps"] > 0.4 * rows["leaps"]), far("blocks", 0.8)
    # Interpolation goes from 0 to 2 through 1: labels that are no neighbours stop being neighbours.
    enough = (rows["classes"] >= 3) & (rows["edges"] * rows["height"] * rows["width"] >= 200)
    leaps = np.where(enough & ~taken, np.log2(rows["leaps"] + 0.004), np.nan)
    usual_peaks = float(np.median(rows["peaks"][ok])) if ok.any() else 0.0
    between = (rows["ramps"] > 0.5 * rows["leaps"]) | (rows["leaps"] == 0)
    soft = outside(leaps, side=-1, at_least=1.5, far=3.0) & between
    strange = (extra > 2) & ok
    # A lonely pixel is a peak along both axes; the ripples of JPEG are longer than a pixel.
    long = rows["isolated"] < 0.1 * rows["peaks"] * rows["edges"]
    ripples = (long | strange | (rows["ramps"] > rows["peaks"])) & (rows["peaks"] > max(0.05, 1.2 * usual_peaks))
    # Nothing lies between two neighbouring labels, so that neither interpolation nor JPEG could be seen there.
    several = (rows["classes"] >= 3) | (rows["leaps"] > 0)
    suspect = ~taken & several & (ramps | blocks | soft | strange | (far("peaks", 0.06) & long))
    blocky = (rows["blocks"] > 1.2) | ((rows["blocks"] > 0.4) & (rows["peaks"] > max(0.05, 0.7 * usual_peaks)))
    # Many values that no class has: interpolation from 0 to 255 makes ramps, JPEG makes ripples beside the edges.
    ripples = np.where(ok & (extra > 4), rows["peaks"] > np.maximum(0.05, 0.5 * rows["ramps"]), ripples | blocky)
    lossy = suspect & ripples
    for i in lossy.nonzero()[0].tolist():
        found = f"It has {int(rows['classes'][i])} labels" if strange[i] else "Its labels change at every eighth pixel"
        reason = f"{found}, with the ripples or blocks of JPEG around its edges."
        findings.append(_finding("lossy-mask", items[i][2], reason, value=int(rows["classes"][i])))
    taken |= lossy
    smooth = suspect & ~taken & ~(blocks & ~ramps & ~soft & ~strange)
    for i in smooth.nonzero()[0].tolist():
        value = round(float(rows["ramps"][i]), 3)
        usual = float(np.median(rows["ramps"][ok]))
        reason = (
            f"{value:.1%} of its edge pixels lie between a smaller and a larger label, usually {usual:.1%}; "
            f"it has {int(rows['classes'][i])} labels."
        )
        findings.append(_finding("interpolated-mask", items[i][2], reason, value=value))
    taken |= smooth
    for i in far("isolated", 0.002).nonzero()[0].tolist():
        value = round(float(rows["isolated"][i]), 4)
        usual = float(np.median(rows["isolated"][ok]))
        reason = f"{value:.2%} of its pixels have a label that none of their neighbours has, usually {usual:.2%}."
        findings.append(_finding("speckle", items[i][2], reason, value=value))
        taken[i] = True
    moved = _moved(rows, ok & sound) & ~taken
    for i in moved.nonzero()[0].tolist():
        y, x = float(rows["shift_y"][i]), float(rows["shift_x"][i])
        steps = [f"{abs(round(y))} pixels {'down' if y > 0 else 'up'}"] * (round(y) != 0)
        steps += [f"{abs(round(x))} pixels {'right' if x > 0 else 'left'}"] * (round(x) != 0)
        reason = f"Its boundaries would lie on the image's edges {' and '.join(steps)}."
        findings.append(_finding("shifted-mask", items[i][2], reason, related=items[i][1], value=f"{y:.0f}, {x:.0f}"))
    for i in (_foreign(rows, ok & sound) & ~taken & ~moved).nonzero()[0].tolist():
        reason = (
            "Its boundaries lie on no edges of its image, as those of the set do: it is turned, or of another image."
        )
        findings.append(_finding("shifted-mask", items[i][2], reason, related=items[i][1]))
    return findings


def _moved(rows: np.ndarray, ok: np.ndarray) -> np.ndarray:
    """Masks whose boundaries lie on the image's edges somewhere else."""
    here, best = rows["fit_here"], rows["fit_best"]
    known = ok & (best > 0)
    # The best of ten thousand shifts of noise reaches 4.5 deviations.
    gain = np.where(known & (best > 5), best - here, 0)
    moved = outside(np.where(known, gain, np.nan), side=1, at_least=3.0, at_most=8.0) & (gain > 0.15 * best)
    if not known.any():
        return moved
    # Where the masks of a set lie exactly on their edges, less is enough.
    share = np.where(known, (best - here) / np.maximum(best, 1e-6), 0)
    length = np.hypot(rows["shift_y"], rows["shift_x"])
    exact = float(np.percentile(share[known], 87.5)) < 0.1
    away = known & (length >= max(3.0, 2 * float(np.percentile(length[known], 75))))
    return moved | exact & away & ((best > 5) & (share > 0.15) & (best - here >= 1) | (best > 4.5) & (share > 0.3))


def _foreign(rows: np.ndarray, ok: np.ndarray) -> np.ndarray:
    """Masks that fit nowhere, in a set where seven of eight fit well: mirrored ones, or those of another image."""
    known = ok & (rows["fit_best"] > 0)
    if known.sum() < 4:
        return np.zeros(len(rows), bool)
    usual = float(np.percentile(rows["fit_here"][known], 12.5))
    long = rows["edges"] > 0.3 * np.median(rows["edges"][known])  # of a short boundary chance decides
    return known & long & (usual >= 7) & (rows["fit_here"] < min(0.5 * usual, 4.0))


def _usual_labels(labels: Mapping[int, Sequence[int]], masks: int, options: Options) -> list[int]:
    """The classes: those the caller said, or the labels that are neither rare nor in one mask only."""
    if options.num_classes is not None:
        return list(range(options.num_classes))
    return [label for label, (_, count) in labels.items() if count > max(1, 0.1 * masks)]


def _never_seen(labels: Mapping[int, Sequence[int]], options: Options) -> list[Finding]:
    if options.num_classes is None or not labels:
        return []
    findings = []
    for label in range(min(options.num_classes, 65536)):
        if label not in labels and label != options.ignore_index:
            reason = f"No mask has class {label}, though there are {options.num_classes} classes."
            findings.append(_finding("class-never-seen", "", reason, value=label))
    return findings


def _finding(
    code: str,
    path: str | None,
    reason: str,
    *,
    related: str | None = None,
    value: Any = None,
    severity: Severity | None = None,
) -> Finding:
    return Finding(code, severity or CODES[code].severity, path or "", related, value, reason, CODES[code].remedy)


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else int(value)
