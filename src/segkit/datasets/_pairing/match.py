"""Which mask belongs to which image, by what their names and folders have in common."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from segkit.datasets._pairing.files import File
from segkit.errors import DataError

Pattern = str | Callable[[str], str] | None

_MASK_WORDS = re.compile(
    r"(?i)(?:^|[^a-z])(?:masks?|labels?|lbls?|segs?|segmentations?|segmentation_?class|gt|gtfine|gtcoarse"
    r"|ground_?truths?|annotations?|annots?|targets?|(?:1st_|2nd_)?manual|labelids|(?:1st|2nd)ho)(?:[^a-z]|$)"
)
_LOSSY = (".jpg", ".jpeg", ".jpe", ".jfif")
_BAND = re.compile(
    r"(?i)(?:^|(?<=/)|[_\-. ])(B\d{1,2}A?|band[_\-]?\d+|red|green|blue|nir|swir\d?|rededge\d?)(?=$|[_\-. /])"
)


class Match(NamedTuple):
    """(image, mask) of files, each a path or several, and what was left over on both sides."""

    pairs: list[tuple[Any, Any]]
    images: list[str]
    masks: list[str]


def match(images: Sequence[File], masks: Sequence[File], pattern: Pattern) -> Match:
    """Match the files of two places; where the images are a file for each band, all bands of one.

    Raises:
        DataError: two files of one side cannot be told apart.
    """
    bands = join_bands(images)
    try:
        found = _match(images, masks, pattern)
    except DataError:
        if not bands:
            raise
        found = Match([], [file.path for file in images], [file.path for file in masks])
    if found.pairs or not bands:
        return found
    found = _match(bands, masks, pattern)
    return found._replace(images=[path for paths in found.images for path in paths])


def _match(images: Sequence[File], masks: Sequence[File], pattern: Pattern) -> Match:
    if pattern is not None:
        image_at, odd_images = _keyed(images, pattern, "images")
        mask_at, odd_masks = _keyed(masks, None if _moves_images(pattern) else pattern, "masks")
        return _joined(image_at, mask_at, odd_images, odd_masks)
    clash = _clash(images) or _clash(masks)
    if clash is None:
        found = _joined(_by_stem(images), _by_stem(masks))
        if found.pairs:
            return found
    # The same names in a folder for each case, or folders for images and masks further in: what both paths share.
    deep_images, deep_masks = _by_common_path(images, masks)
    if deep_images is not None and deep_masks is not None:
        found = _joined(deep_images, deep_masks)
        if len(found.pairs) == min(len(images), len(masks)):
            return found
    if clash is not None:
        raise DataError(
            f"find_pairs: `{'images' if _clash(images) else 'masks'}` must have one file for each stem, got "
            f"{clash[0]!r} and {clash[1]!r}. Move one of them away, or pass a list of paths."
        )
    return Match([], [file.path for file in images], [file.path for file in masks])


def match_in_one_folder(files: Sequence[File], pattern: Pattern) -> Match:
    """Match the files of one place that holds images and masks. No file is ever its own mask.

    Raises:
        DataError: it cannot be told which file is the image, or which of several is the mask.
    """
    if pattern is None:
        return _by_folder_names(files) or _by_suffix(files) or Match([], [file.path for file in files], [])
    if not _moves_images(pattern):
        return _grouped(files, pattern)
    at = {file.stem: file for file in files}
    pairs, used = [], set()
    for file in files:
        mask = next((at[stem] for stem in _mask_stems(file.stem, pattern) if stem in at and stem != file.stem), None)
        if mask is not None:
            pairs.append((file.path, mask.path))
            used |= {file.path, mask.path}
    rest = [file for file in files if file.path not in used]
    return _with_rest(pairs, rest)


def is_mask(file: File) -> bool:
    """Whether the name or a folder of it says that it is a mask."""
    return any(_MASK_WORDS.search(part) for part in file.stem.split("/"))


def _by_stem(files: Iterable[File]) -> dict[str, str]:
    return {file.stem: file.path for file in files}


def _joined(
    image_at: dict[str, str], mask_at: dict[str, str], odd_images: Sequence[str] = (), odd_masks: Sequence[str] = ()
) -> Match:
    return Match(
        [(image_at[key], mask_at[key]) for key in sorted(image_at.keys() & mask_at.keys())],
        sorted([image_at[key] for key in image_at.keys() - mask_at.keys()] + list(odd_images)),
        sorted([mask_at[key] for key in mask_at.keys() - image_at.keys()] + list(odd_masks)),
    )


def _clash(files: Sequence[File]) -> tuple[str, str] | None:
    """Two files of one stem."""
    seen: dict[str, str] = {}
    for file in files:
        if file.stem in seen:
            return seen[file.stem], file.path
        seen[file.stem] = file.path
    return None


def _by_common_path(
    images: Sequence[File], masks: Sequence[File]
) -> tuple[dict[str, str] | None, dict[str, str] | None]:
    """Keys of the folders whose names occur on both sides, and the file's name; None where they are not unique."""
    shared = {part for file in images for part in file.folders} & {part for file in masks for part in file.folders}

    def keyed(files: Sequence[File]) -> dict[str, str] | None:
        at = {"/".join([*(part for part in file.folders if part in shared), file.name]): file.path for file in files}
        return at if len(at) == len(files) else None

    return keyed(images), keyed(masks)


def join_bands(images: Sequence[File]) -> list[File]:
    """Images of several files, where there is one for each band and every image has the same; else none.

    The name of a band is left out of the stem, wherever it stands.
    """
    groups: dict[str, dict[str, str]] = {}
    for file in images:
        bands = _BAND.findall(file.stem)
        if not bands:
            return []
        stem = "/".join(filter(None, (part.strip("_-. ") for part in _BAND.sub("", file.stem).split("/"))))
        groups.setdefault(stem, {})[bands[-1].lower()] = file.path
    kinds = {tuple(sorted(bands)) for bands in groups.values()}
    if "" in groups or len(kinds) != 1 or sum(map(len, groups.values())) != len(images) or len(next(iter(kinds))) < 2:
        return []
    order = sorted(next(iter(kinds)), key=natural)
    return [File(tuple(bands[band] for band in order), stem) for stem, bands in groups.items()]


def natural(text: str) -> list[Any]:
    """Orders B2 before B10."""
    return [int(part) if part.isdigit() else part.lower() for part in re.split(r"(\d+)", text)]


def _by_folder_names(files: Sequence[File]) -> Match | None:
    """Case folders with a folder of images and one of masks in each, or masks of an object each."""
    masks = [file for file in files if any(map(_MASK_WORDS.search, file.stem.split("/")[:-1]))]
    images = [file for file in files if file not in set(masks)]
    if not masks or not images:
        return None
    found = match(images, masks, None)
    if found.pairs:
        return found
    # One file for each object: beside the folder of the image, a folder of masks of any name and number.
    by_case: dict[str, tuple[list[str], list[str]]] = {}
    for side, some in enumerate((images, masks)):
        for file in some:
            case = file.stem.rpartition("/")[0].rpartition("/")[0]
            by_case.setdefault(case, ([], []))[side].append(file.path)
    if "" in by_case or any(len(ours) > 1 for ours, _ in by_case.values()):
        return None
    pairs = [(ours[0], tuple(sorted(theirs))) for _, (ours, theirs) in sorted(by_case.items()) if ours and theirs]
    return Match(
        pairs,
        [ours[0] for ours, theirs in by_case.values() if ours and not theirs],
        [path for ours, theirs in by_case.values() if not ours for path in theirs],
    )


def _by_suffix(files: Sequence[File]) -> Match | None:
    """a.jpg with its mask a.png: what was compressed with loss is the image."""
    groups: dict[str, list[str]] = {}
    for file in files:
        groups.setdefault(file.stem, []).append(file.path)
    pairs, rest = [], []
    for _, paths in sorted(groups.items()):
        lossy = [path for path in paths if os.path.splitext(path)[1].lower() in _LOSSY]
        if len(paths) == 2 and len(lossy) == 1:
            pairs.append((lossy[0], next(path for path in paths if path != lossy[0])))
        else:
            rest += paths
    return Match(pairs, rest, []) if pairs else None


def _grouped(files: Sequence[File], pattern: Pattern) -> Match:
    """A regular expression over one folder: the files of one key are an image and its mask, or masks."""
    groups: dict[str, list[File]] = {}
    odd = []
    for file in files:
        key = _key(file.stem, str(pattern))
        if key is None:
            odd.append(file)
        else:
            groups.setdefault(key, []).append(file)
    pairs: list[tuple[Any, Any]] = []
    for _, group in sorted(groups.items()):
        masks = [file for file in group if is_mask(file)]
        images = [file for file in group if file not in masks]
        apart = len({os.path.dirname(file.path) for file in masks}) == 1 and all(
            os.path.dirname(image.path) != os.path.dirname(masks[0].path) for image in images
        )
        if len(images) == 1 and masks and (len(masks) == 1 or apart):
            paths = tuple(file.path for file in masks)
            pairs.append((images[0].path, paths[0] if len(paths) == 1 else paths))
        elif len(images) + len(masks) == 1:
            odd += group
        else:
            raise DataError(
                f"find_pairs: `pattern` must leave one image and its mask for each key, got "
                f"{', '.join(repr(file.path) for file in group[:4])}. Let a group cover more of the name, or pass two "
                "lists of paths."
            )
    return _with_rest(pairs, odd)


def _with_rest(pairs: list[tuple[Any, Any]], rest: Sequence[File]) -> Match:
    pairs.sort(key=lambda pair: str(pair[0]))
    return Match(pairs, [f.path for f in rest if not is_mask(f)], [f.path for f in rest if is_mask(f)])


def _moves_images(pattern: Pattern) -> bool:
    """A template or a function leads from an image's stem to its mask's; a regular expression is found in both."""
    return callable(pattern) or (isinstance(pattern, str) and "{stem}" in pattern)


def _mask_stems(stem: str, pattern: Pattern) -> list[str]:
    """The stems that the mask of an image may have: the pattern is for the name, a function also for the whole."""
    folder, _, name = stem.rpartition("/")
    before = f"{folder}/" if folder else ""
    if not callable(pattern):
        return [before + str(pattern).replace("{stem}", name)]
    return [before + pattern(name), pattern(stem)]


def _keyed(files: Sequence[File], pattern: Pattern, argument: str) -> tuple[dict[str, str], list[str]]:
    """Key -> path, and the paths whose names the pattern does not fit."""
    at: dict[str, str] = {}
    odd: list[str] = []
    for file in files:
        key: str | None = file.stem
        if pattern is not None:
            key = _mask_stems(file.stem, pattern)[0] if _moves_images(pattern) else _key(file.stem, str(pattern))
        if key is None:
            odd.append(file.path)
        elif key in at:
            what = "`pattern` must tell the files apart" if pattern is not None else f"`{argument}` must differ in stem"
            raise DataError(
                f"find_pairs: {what}, got {key!r} for both {at[key]!r} and {file.path!r}. Let the group cover more of "
                "the name."
            )
        else:
            at[key] = file.path
    return at, odd


def _key(stem: str, pattern: str) -> str | None:
    """What the groups of a regular expression found, joined; None where it does not fit."""
    regex = re.compile(pattern)
    if regex.groups < 1:
        raise ValueError(
            f"find_pairs: `pattern` must contain {{stem}} or be a regular expression with a group, got {pattern!r}. "
            "Put parentheses around what the names share."
        )
    found = regex.search(stem)
    if not found or all(group is None for group in found.groups()):
        return None
    return "/".join(group for group in found.groups() if group is not None)
