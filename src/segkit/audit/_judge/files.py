"""Judge files and pairs by what their headers say: kinds, sizes and orientations that are not those of the set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from segkit.audit._judge.fence import outside
from segkit.audit._judge.set import MeasuredSet
from segkit.audit._measure.finding import Codes, Finding

# fmt: off
OF_KINDS = Codes(
    ("unexpected-dtype", "warning", "Number type unlike the set's",
     "Convert it to the type of the other images, or keep it apart."),
    ("unexpected-channels", "error", "Number of channels unlike the set's",
     "Convert it to the channels of the others, read all with PairDataset(channels='rgb'), or drop it."),
)
OF_PAIRS = Codes(
    ("odd-size", "info", "Unusual size", "Check that it belongs to this set; crop or tile it like the others."),
    ("constant-channel", "info", "A channel without information",
     "Leave it out: PairDataset(channels=[...]) names those to keep."),
    ("exif-rotated", "warning", "Rotated by EXIF, its mask is not",
     "Turn the image's pixels and drop the tag, for example: exiftran -ai FILE."),
    ("orphan-image", "error", "Image without mask", "Add its mask under the same stem, or delete the image."),
    ("orphan-mask", "error", "Mask without image", "Add its image under the same stem, or delete the mask."),
)
# fmt: on

# name = value  # what it bounds | chosen on
FEW = 8  # images below which no size is odd | plausible: two of seven sizes are no outliers
AREA, ASPECT = 2.0, 1.0  # octaves from the median of the set | the known sets
SEVERAL = 4  # images below which a channel may have one value by chance | plausible
ONE_SIZE = 0.9  # share of one size beyond which every other is odd | plausible


def kinds(data: MeasuredSet) -> Iterator[Finding]:
    """Channels and dtypes that are not those of most images."""
    rows = data.rows
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
            yield OF_KINDS.finding(code, data.image(i), reason, value=found)


def sizes(data: MeasuredSet) -> Iterator[Finding]:
    """Sizes far from all others, or not the one that nearly all images have."""
    rows = data.rows
    good = rows["image_ok"]
    if good.sum() < FEW:
        return
    height, width = (np.where(good, rows[name], 1).astype(float) for name in ("height", "width"))
    odd = np.zeros(len(rows), bool)
    for values, at_least in ((np.log2(height * width), AREA), (np.log2(height / width), ASPECT)):
        values = np.where(good, values, np.nan)
        odd |= outside(values, side=-1, at_least=at_least) | outside(values, side=1, at_least=at_least)
    every, which, counts = np.unique(
        np.stack([rows["height"], rows["width"]], 1)[good], axis=0, return_inverse=True, return_counts=True
    )
    if counts.max() >= ONE_SIZE * good.sum():
        odd[good.nonzero()[0][which.reshape(-1) != counts.argmax()]] = True
    usual = every[counts.argmax()]
    for i in odd.nonzero()[0].tolist():
        size = f"{rows['height'][i]} x {rows['width'][i]}"
        reason = f"It is {size} (height x width); the commonest size is {usual[0]} x {usual[1]}."
        yield OF_PAIRS.finding("odd-size", data.image(i), reason, value=size)


def flat_channels(data: MeasuredSet) -> Iterator[Finding]:
    """Channels that have one value in every image, as an opaque alpha has, among images that are not of one value."""
    rows = data.rows[data.rows["image_ok"] & ~data.rows["constant"]]
    if len(rows) < SEVERAL:
        return
    flat = int(np.bitwise_and.reduce(rows["flat_channels"]))
    for channel in range(min(int(rows["channels"].min()), 64)):
        if flat >> channel & 1:
            reason = f"Channel {channel} (from 0) has one value in each of {len(rows)} images, as an opaque alpha has."
            yield OF_PAIRS.finding("constant-channel", "", reason, value=channel)


def orientation(data: MeasuredSet) -> Iterator[Finding]:
    """Images that EXIF turns while their masks are not turned in the same way."""
    rows = data.rows
    for i in (rows["image_ok"] & (rows["orientation"] > 1)).nonzero()[0].tolist():
        image, mask, tag = data.image(i), data.mask(i), int(rows["orientation"][i])
        if mask is None:
            reason = f"Its EXIF orientation is {tag}: programs that ignore the tag see another picture."
            yield OF_PAIRS.finding("exif-rotated", image, reason, value=tag, severity="info")
        elif rows["mask_ok"][i] and rows["mask_orientation"][i] != tag:
            reason = f"Its EXIF orientation is {tag}, that of its mask {int(rows['mask_orientation'][i]) or 1}."
            yield OF_PAIRS.finding("exif-rotated", image, reason, related=mask, value=tag)


def orphans(data: MeasuredSet) -> Iterator[Finding]:
    """Files without a partner, where there are pairs at all."""
    if not any(image and mask for image, mask in data.files):
        return
    for image, mask in data.files:
        if mask is None:
            yield OF_PAIRS.finding("orphan-image", image, "There is no mask of the same name.")
        elif image is None:
            yield OF_PAIRS.finding("orphan-mask", mask, "There is no image of the same name.")


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else int(value)


OF_IMAGES, OF_PARTNERS = [kinds, sizes, flat_channels], [orientation, orphans]
