"""A pattern for names that do not match as they are: tried on all files before it is proposed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from difflib import SequenceMatcher

from segkit.datasets._pairing.files import File
from segkit.datasets._pairing.match import is_mask, join_bands, match, match_in_one_folder
from segkit.errors import DataError

_NUMBERS = ("^0*([0-9]+)$", "^[^0-9]*0*([0-9]+)", "0*([0-9]+)[^0-9]*$")
_PICTURES_OF_LABELS = re.compile(r"(?i)colou?r|instance|vis|overlay|rgb|poly")  # beside the labels, for people


def propose(images: Sequence[File], masks: Sequence[File]) -> str:
    """What to type: a pattern that gives every image a mask, or else every mask an image, and what that leaves out.

    "" where nothing that was tried does, and no image has several masks.
    """
    tried = {f'"{pattern}"': pattern for pattern in _candidates(join_bands(images) or images, masks)}
    patterns: dict[str, str | Callable[[str], str]] = {**tried, "str.lower": str.lower, "str.upper": str.upper}
    every_mask = ""
    for shown, pattern in patterns.items():
        try:
            found = match(images, masks, pattern)
        except DataError:
            continue
        if found.pairs and not found.images:
            said = f"Pass pattern={shown}, which gives every image a mask{_left_out(found.masks, 'mask')}."
            others = found.masks and not is_mask(File("", shown))  # which of them is the mask, no name says
            return f"{said} {_several_masks(images, masks)}".rstrip() if others else said
        if found.pairs and not found.masks and not every_mask:
            every_mask = f"Pass pattern={shown}, which gives every mask an image{_left_out(found.images, 'image')}."
    return every_mask or _several_masks(images, masks)


def _left_out(files: Sequence[str], what: str) -> str:
    return f" and leaves out {len(files)} {what}{'s' * (len(files) > 1)}, the first {files[0]!r}" if files else ""


def _several_masks(images: Sequence[File], masks: Sequence[File]) -> str:
    """What to do where every image has several masks, told apart by folders or endings; "" where it is not so."""
    names = {image.name for image in images}
    for name_of in (_name, _name_without_ending, _folder(names)):
        of_image: dict[str, list[File]] = {name: [] for name in sorted(names)}
        for mask in masks:
            of_image.get(name_of(mask), []).append(mask)
        if len(names) == len(images) and all(len(found) > 1 for found in of_image.values()):
            break
    else:
        return ""
    name, found = next(iter(of_image.items()))
    first = ", ".join(repr(file.path) for file in found[:2])
    return (
        f"There are {len(found)} masks for {name!r}, such as {first}. If each is a class, make one mask of them, as "
        "labels.from_one_hot does of their stack, or pass the folder of one class. If each is an object, pass pairs "
        f"that you made, Pair(image, ({first}, ...)), which are read as one mask of 0 and 1."
    )


def _name(mask: File) -> str:
    return mask.name


def _name_without_ending(mask: File) -> str:
    return re.sub(r"[^A-Za-z0-9]+[A-Za-z0-9]*$", "", mask.name)


def _folder(names: set[str]) -> Callable[[File], str]:
    """The folder of a mask that has the name of an image."""
    return lambda mask: next((part for part in mask.stem.split("/")[:-1] if part in names), "")


def propose_in_one_folder(files: Sequence[File]) -> str:
    """As `propose`, for a folder that holds both."""
    masks = [file for file in files if is_mask(file)]
    images = [file for file in files if file not in set(masks)]
    for pattern in _candidates(images or files, masks or files):
        try:
            found = match_in_one_folder(files, pattern)
        except DataError:
            continue
        if found.pairs and not found.images:
            return f'Pass pattern="{pattern}", which gives every image a mask.'
    return ""


def _candidates(images: Sequence[File], masks: Sequence[File]) -> Iterator[str]:
    """Patterns, the likeliest first: what stands around the longest part that two names share, by votes."""
    votes: Counter[tuple[str, str, str, str]] = Counter()
    for image in _some(images, 20):
        for mask in _some(masks, 120):
            ours, theirs = image.name, mask.name
            common = SequenceMatcher(None, ours, theirs, autojunk=False).find_longest_match()
            if common.size:
                a, b, n = common
                votes[ours[:a], ours[a + n :], theirs[:b], theirs[b + n :]] += 1
    ranked = sorted(votes, key=lambda around: (-votes[around], bool(_PICTURES_OF_LABELS.search("".join(around[2:])))))
    for before, after, mask_before, mask_after in ranked[:40]:
        if not before and not after:
            yield f"{mask_before}{{stem}}{mask_after}"
        head, tail = _either(before, mask_before), _either(after, mask_after)
        yield f"^{head}(.+?){tail}$"
        yield f"^(.*/)?{head}([^/]+?){tail}$"
    yield from _NUMBERS


def _either(ours: str, theirs: str) -> str:
    parts = sorted({part for part in (ours, theirs) if part}, key=len, reverse=True)
    if not parts:
        return ""
    either = "(?:" + "|".join(map(_literal, parts)) + ")"
    return either if ours and theirs else either + "?"


def _literal(text: str) -> str:
    """The text in a regular expression, without backslashes, which would want a raw string."""
    return "".join(f"[{c}]" if c in ".+*?(){}|$" else "[[]" if c == "[" else c for c in text if c not in '\\^"')


def _some(files: Sequence[File], count: int) -> Sequence[File]:
    """The first ones: they are in order, so partners are among them."""
    return files[:count]
