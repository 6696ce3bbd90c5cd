"""Find the mask that belongs to each image, and say which files have no partner."""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from segkit.errors import DataError

# What some backend of `segkit.io` may read. Other files (notes, thumbnails' caches) are not part of a data set.
_IMAGE_SUFFIXES = frozenset(
    [".apng", ".bmp", ".btf", ".dib", ".gif", ".j2k", ".jp2", ".jpeg", ".jpg", ".pbm", ".pfm", ".pgm", ".png"]
    + [".pnm", ".ppm", ".tf8", ".tif", ".tiff", ".webp"]
)

Files = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


class Pair(NamedTuple):
    """An image file and the mask file that belongs to it.

    Args:
        image: path of the image; or paths, one for each band.
        mask: path of its mask; or paths, one for each object.

    Example:
        >>> image, mask = Pair("a.jpg", "a.png")
        >>> mask
        'a.png'
    """

    image: str | Any  # a tuple of paths where it is several files
    mask: str | Any


class Pairs(list[Pair]):
    """A list of `Pair` that also remembers the files without partner, so that nothing is dropped in silence.

    Args:
        pairs: the pairs.
        orphan_images: images without a mask.
        orphan_masks: masks without an image.

    Example:
        >>> pairs = Pairs([Pair("a.jpg", "a.png")], orphan_images=["b.jpg"])
        >>> len(pairs), pairs.orphan_images, pairs.orphan_masks
        (1, ['b.jpg'], [])
    """

    def __init__(
        self, pairs: Iterable[Pair] = (), *, orphan_images: Sequence[str] = (), orphan_masks: Sequence[str] = ()
    ) -> None:
        super().__init__(pairs)
        self.orphan_images = list(orphan_images)
        self.orphan_masks = list(orphan_masks)


def find_pairs(images: Files, masks: Files, *, pattern: str | Callable[[str], str] | None = None) -> Pairs:
    """Match images and masks by stem: ``images/ship/01.jpg`` goes with ``masks/ship/01.png``.

    Folders are searched with their subfolders, and the subfolder is part of the stem. In a folder, files that are no
    images by their suffix and hidden files are passed over; in a list, every path counts.

    Args:
        images: a folder, or a list of paths.
        masks: a folder, or a list of paths.
        pattern: how the names belong together, where they are not equal. Either a template of the mask's name,
            ``"{stem}_mask"``; or a regular expression that is found in the names of both, whose first group is
            what they share, ``r"(.+)_(?:leftImg8bit|gtFine_labelIds)$"``; or a function from an image's stem to its
            mask's.

    Returns:
        The pairs, ordered by stem; a list with ``orphan_images`` and ``orphan_masks``, which a warning names, too.

    Raises:
        DataError: nothing matches (shows names from both sides, and the pattern that would match), a folder has no
            image files, or two files have the same stem.
        FileNotFoundError: a folder does not exist.

    Example:
        >>> find_pairs(["in/a.jpg", "in/b.jpg"], ["out/b_mask.png", "out/a_mask.png"], pattern="{stem}_mask")
        [Pair(image='in/a.jpg', mask='out/a_mask.png'), Pair(image='in/b.jpg', mask='out/b_mask.png')]
    """
    image_at, mask_at = _by_stem(images, "images"), _by_stem(masks, "masks")
    image_keys, mask_keys, nameless = _keys(image_at, mask_at, pattern)
    common = sorted(image_keys.keys() & mask_keys.keys())
    if not common:
        raise DataError(_no_pairs(image_at, mask_at, pattern))
    image_orphans = [image_at[image_keys[key]] for key in sorted(image_keys.keys() - mask_keys.keys())]
    mask_orphans = [mask_at[mask_keys[key]] for key in sorted(mask_keys.keys() - image_keys.keys())]
    found = Pairs(
        [Pair(image_at[image_keys[key]], mask_at[mask_keys[key]]) for key in common],
        orphan_images=sorted(image_orphans + nameless[0]),
        orphan_masks=sorted(mask_orphans + nameless[1]),
    )
    for kind, orphans, partner in (("image", found.orphan_images, "mask"), ("mask", found.orphan_masks, "image")):
        if orphans:
            more = f" and {len(orphans) - 5} more" if len(orphans) > 5 else ""
            warnings.warn(
                f"find_pairs: {len(orphans)} {kind}(s) without {partner} are left out: {', '.join(orphans[:5])}{more}",
                stacklevel=2,
            )
    return found


def _by_stem(files: Files, argument: str) -> dict[str, str]:
    """Stem -> path. In a folder, the stem includes the subfolder; in a list, it is the file's alone."""
    at: dict[str, str] = {}
    for stem, path in _walk(files, argument) if isinstance(files, str | os.PathLike) else _listed(files, argument):
        if stem in at:
            raise DataError(
                f"find_pairs: `{argument}` must have one file for each stem, got {at[stem]!r} and {path!r}. "
                "Move one of them away, or pass a list of paths."
            )
        at[stem] = path
    if not at:
        where = f"the folder {os.fspath(files)!r}" if isinstance(files, str | os.PathLike) else "the list"
        raise DataError(
            f"find_pairs: `{argument}` must hold image files, got none in {where}. "
            f"Looked for {' '.join(sorted(_IMAGE_SUFFIXES))}; for other suffixes pass a list of paths."
        )
    return at


def _listed(files: Iterable[str | os.PathLike[str]], argument: str) -> Iterable[tuple[str, str]]:
    for file in files:
        if not isinstance(file, str | os.PathLike):
            raise TypeError(
                f"find_pairs: `{argument}` must be a folder or a list of paths, got a {type(file).__name__}."
            )
        path = os.fspath(file)
        yield os.path.splitext(os.path.basename(path))[0], path


def _walk(folder: str | os.PathLike[str], argument: str) -> Iterable[tuple[str, str]]:
    top = os.fspath(folder)
    if not os.path.isdir(top):
        raise FileNotFoundError(
            f"find_pairs: `{argument}` must be a folder that exists or a list of paths, got {top!r}. Check the path."
        )
    seen = set()  # real paths: a link may point to a folder above itself
    for where, folders, names in os.walk(top, followlinks=True):
        real = os.path.realpath(where)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in _IMAGE_SUFFIXES and not name.startswith("."):
                yield os.path.normpath(os.path.join(os.path.relpath(where, top), stem)), os.path.join(where, name)


def _keys(
    image_at: dict[str, str], mask_at: dict[str, str], pattern: str | Callable[[str], str] | None
) -> tuple[dict[str, str], dict[str, str], tuple[list[str], list[str]]]:
    """Key -> stem for both sides, and the paths whose names the pattern does not fit."""
    if pattern is None:
        return {s: s for s in image_at}, {s: s for s in mask_at}, ([], [])
    if isinstance(pattern, str) and "{stem}" not in pattern:
        images, odd_images = _matched(pattern, image_at)
        masks, odd_masks = _matched(pattern, mask_at)
        return images, masks, (odd_images, odd_masks)

    def mask_stem(stem: str) -> str:
        folder, name = os.path.split(stem)
        new = pattern(name) if callable(pattern) else pattern.replace("{stem}", name)
        return os.path.join(folder, new)

    return {mask_stem(s): s for s in image_at}, {s: s for s in mask_at}, ([], [])


def _matched(pattern: str, at: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    regex = re.compile(pattern)
    if regex.groups < 1:
        raise ValueError(
            f"find_pairs: `pattern` must contain {{stem}} or be a regular expression with a group, got {pattern!r}. "
            "Put parentheses around what the names share."
        )
    stem_of: dict[str, str] = {}
    odd = []
    for stem, path in at.items():
        found = regex.search(stem)
        key = found.group(1) if found else None
        if key is None:
            odd.append(path)
        elif key in stem_of:
            raise DataError(
                f"find_pairs: `pattern` must tell the files apart, got {key!r} for both {at[stem_of[key]]!r} and "
                f"{path!r}. Let the group cover more of the name."
            )
        else:
            stem_of[key] = stem
    return stem_of, odd


def _no_pairs(image_at: dict[str, str], mask_at: dict[str, str], pattern: object) -> str:
    ours, theirs = sorted(image_at), sorted(mask_at)
    what = "must have stems in common" if pattern is None else f"must match by pattern {pattern!r}"
    guess = _guess_template(ours, theirs)
    remedy = f'Pass pattern="{guess}"' if guess else 'Pass pattern="{stem}_mask", or whatever their names are'
    return (
        f"find_pairs: `images` and `masks` {what}, got images such as {', '.join(map(repr, ours[:3]))} and masks "
        f"such as {', '.join(map(repr, theirs[:3]))}. {remedy}."
    )


def _guess_template(images: Sequence[str], masks: Sequence[str]) -> str:
    """The commonest way in which a mask's name is an image's with something before or after it."""
    votes: Counter[str] = Counter()
    for image in images[:50]:
        name = os.path.basename(image)
        for mask in masks[:200]:
            other = os.path.basename(mask)
            if name in other and name != other:
                votes[other.replace(name, "{stem}", 1)] += 1
    return votes.most_common(1)[0][0] if votes else ""
