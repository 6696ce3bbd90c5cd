"""What a finding is, and for each code how bad it is and what to do about it."""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["CODES", "Code", "Finding", "Severity"]

Severity = Literal["error", "warning", "info"]


class Finding(NamedTuple):
    """One thing that is wrong, or worth a look, with one file.

    Args:
        code: what kind of fault, a key of `CODES`.
        severity: "error": unusable for training; "warning": probably a fault; "info": good to know.
        path: the file; "" for a finding about the whole set.
        related: another file that belongs to the finding, or None.
        value: the number or word that was found, or None.
        reason: one sentence: what was found and what is usual.
        remedy: one sentence: what to do.

    Example:
        >>> Finding("orphan-image", "error", "images/7.png", None, None, "It has no mask.", "Add it.").code
        'orphan-image'
    """

    code: str
    severity: Severity
    path: str
    related: str | None
    value: float | int | str | None
    reason: str
    remedy: str


class Code(NamedTuple):
    """A kind of fault.

    Args:
        severity: its usual severity; some are milder in sets where they are common.
        title: a few words for a heading.
        remedy: one sentence.

    Example:
        >>> CODES["blurred"].severity
        'warning'
    """

    severity: Severity
    title: str
    remedy: str


CODES: dict[str, Code] = {
    "unreadable": Code(
        "error", "Cannot be read", "Copy the file again from its source, or delete it with its partner."
    ),
    "truncated": Code("error", "File ends too early", "Copy the file again from its source; it ends too early."),
    "unexpected-dtype": Code(
        "warning", "Other number type than the set", "Convert it to the type of the other images, or keep it apart."
    ),
    "unexpected-channels": Code(
        "error", "Other number of channels than the set", "Convert it to the channels of the other images, or drop it."
    ),
    "constant-image": Code("error", "One value everywhere", "Drop the pair: there is nothing to learn from it."),
    "saturated": Code("warning", "Clipped at the end of the scale", "Export it again with a lower gain, or drop it."),
    "non-finite": Code(
        "error", "NaN or infinity", "Replace NaN and infinity by a number, and ignore them in the mask."
    ),
    "blurred": Code("warning", "Much less sharp than the set", "Look at it; drop it if its boundaries cannot be seen."),
    "too-dark": Code("warning", "Much darker than the set", "Look at it; export it again or drop it."),
    "too-bright": Code("warning", "Much brighter than the set", "Look at it; export it again or drop it."),
    "low-information": Code(
        "info", "Hardly any detail", "Look at it; drop it if there is nothing that a network could learn."
    ),
    "odd-size": Code("info", "Unusual size", "Check that it belongs to this set; crop or tile it like the others."),
    "exif-rotated": Code(
        "warning",
        "Rotated by EXIF, its mask is not",
        "Turn the image's pixels and drop the tag, for example: exiftran -ai FILE.",
    ),
    "orphan-image": Code("error", "Image without mask", "Add its mask under the same stem, or delete the image."),
    "orphan-mask": Code("error", "Mask without image", "Add its image under the same stem, or delete the mask."),
    "size-mismatch": Code("error", "Mask and image differ in size", "Make the mask again at the size of the image."),
    "label-out-of-range": Code(
        "error", "Labels outside the classes", "Renumber the labels with labels.remap, or raise num_classes."
    ),
    "color-coded-mask": Code(
        "error", "Mask holds colours, not classes", "Convert it: segkit convert-masks IN OUT --colors colors.json"
    ),
    "foreground-is-ignored": Code(
        "error", "Foreground has the ignore label", "Renumber it, for example by labels.remap(mask, {0: 0, 255: 1})."
    ),
    "interpolated-mask": Code(
        "error", "Resized or smoothed with interpolation", "Make it again, with nearest neighbour and no anti-aliasing."
    ),
    "lossy-mask": Code("error", "Compressed with loss", "Export it again as PNG or lossless TIFF from its source."),
    "empty-mask": Code("info", "One class only", "Check that the object is really absent; keep such masks if so."),
    "all-ignored": Code("error", "Every pixel is ignored", "Drop the pair, or label it: it teaches nothing."),
    "speckle": Code("warning", "Lonely wrong pixels", "Clean it with a median filter of 3 x 3, or label it again."),
    "class-never-seen": Code("info", "A class that no mask has", "Lower num_classes, or add examples of the class."),
    "shifted-mask": Code("warning", "Mask lies beside its object", "Look at the overlay; export image and mask again."),
    "exact-duplicate": Code("warning", "The same pixels twice", "Delete one of the two."),
    "near-duplicate": Code("warning", "Nearly the same picture twice", "Keep one, or keep both in the same split."),
    "duplicate-with-other-mask": Code(
        "error", "The same picture with two different masks", "Decide which mask is right and delete the other pair."
    ),
    "split-leak": Code(
        "error", "The same picture in two splits", "Move both to one split, else the test is no test of new pictures."
    ),
}
"""Code -> `Code`, in the order of the report."""
