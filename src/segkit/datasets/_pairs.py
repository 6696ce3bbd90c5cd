"""Find the mask that belongs to each image, and say which files have no partner."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from segkit.datasets._pairing.files import File, Files, is_folder, list_files
from segkit.datasets._pairing.match import match, match_in_one_folder
from segkit.datasets._pairing.propose import propose, propose_in_one_folder
from segkit.errors import DataError

_ASK = (
    "Say how the names belong together, for instance pattern='{stem}_mask', or a regular expression whose groups are "
    "what both names share; or pass two lists of paths."
)


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
    """A list of `Pair` that also remembers the files without a partner, so that nothing is silently dropped.

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


def find_images(files: Files) -> list[str]:
    """The image files of a folder, with its subfolders, as `find_pairs` sees them; a list comes back as it is.

    Args:
        files: a folder, or a list of paths.

    Raises:
        DataError: there are none.
        FileNotFoundError: the folder does not exist.

    Example:
        >>> find_images(["b.png", "a.png"])
        ['b.png', 'a.png']
    """
    return [file.path for file in list_files("find_images", files, "files")]


def find_pairs(images: Files, masks: Files, *, pattern: str | Callable[[str], str] | None = None) -> Pairs:
    """Match images and masks by stem: ``images/ship/01.jpg`` goes with ``masks/ship/01.png``.

    Folders are searched with their subfolders, and the subfolder is part of the stem. In a folder, files that are no
    images by their suffix and hidden files are passed over, and a folder of masks inside the images' folder is not
    taken for images; in a list, every path counts. Where names repeat, as in ``case1/images/0.png`` and
    ``case2/images/0.png``, the folders that both sides share tell them apart.

    Also matched without a pattern: one file for each band (``a_B02.tif``, ``a_B03.tif``: ``Pair.image`` is a tuple);
    one folder for both with folders "images" and "masks" in it, even with a mask for each object (``Pair.mask`` is a
    tuple); one folder with ``a.jpg`` and ``a.png``.

    Args:
        images: a folder, or a list of paths.
        masks: a folder, or a list of paths; the same folder as `images` where one holds both.
        pattern: how the names belong together, where the stems are not equal. Either a template of the mask's name,
            ``"{stem}_mask"``; or a regular expression that is found in the names of both, whose groups are
            what they share, ``r"(.+)_(?:leftImg8bit|gtFine_labelIds)$"``; or a function from an image's stem to its
            mask's.

    Returns:
        The pairs, ordered by stem; a list with ``orphan_images`` and ``orphan_masks``, which a warning names, too.

    Raises:
        DataError: nothing matches (shows names from both sides, and a pattern that gives every image a mask, if one of
            those tried does), a folder has no image files, or two files have the same stem.
        FileNotFoundError: a folder does not exist.

    Example:
        >>> find_pairs(["in/a.jpg", "in/b.jpg"], ["out/b_mask.png", "out/a_mask.png"], pattern="{stem}_mask")
        [Pair(image='in/a.jpg', mask='out/a_mask.png'), Pair(image='in/b.jpg', mask='out/b_mask.png')]
    """
    if not is_folder(images) and not is_folder(masks):
        images, masks = list(images), list(masks)  # type: ignore[arg-type]
    if _are_one(images, masks):
        files = list_files("find_pairs", images, "images")
        found = match_in_one_folder(files, pattern)
        if not found.pairs:
            raise DataError(_no_pairs_in_one_folder(files, pattern))
    else:
        ours = list_files("find_pairs", images, "images", without=masks)
        theirs = list_files("find_pairs", masks, "masks", without=images)
        found = match(ours, theirs, pattern)
        if not found.pairs:
            raise DataError(_no_pairs(ours, theirs, pattern))
    pairs = Pairs(
        [Pair(image, mask) for image, mask in found.pairs], orphan_images=found.images, orphan_masks=found.masks
    )
    for kind, orphans, partner in (("image", pairs.orphan_images, "mask"), ("mask", pairs.orphan_masks, "image")):
        if orphans:
            more = f" and {len(orphans) - 5} more" if len(orphans) > 5 else ""
            warnings.warn(
                f"find_pairs: {len(orphans)} {kind}(s) without {partner} are left out: {', '.join(orphans[:5])}{more}",
                stacklevel=2,
            )
    return pairs


def _are_one(images: Any, masks: Any) -> bool:
    if is_folder(images) and is_folder(masks):
        ours, theirs = (os.path.realpath(os.path.expanduser(os.fspath(folder))) for folder in (images, masks))
        return ours == theirs
    return not is_folder(images) and not is_folder(masks) and bool(images) and images == masks


def _no_pairs(images: Sequence[File], masks: Sequence[File], pattern: object) -> str:
    ours, theirs = (sorted(file.stem for file in side) for side in (images, masks))
    what = "must have stems in common" if pattern is None else f"must match by pattern {pattern!r}"
    proposal = propose(images, masks)
    return (
        f"find_pairs: `images` and `masks` {what}, got images such as {', '.join(map(repr, ours[:3]))} and masks "
        f"such as {', '.join(map(repr, theirs[:3]))}. {proposal or _ASK}"
    )


def _no_pairs_in_one_folder(files: Sequence[File], pattern: object) -> str:
    what = "no file is its own mask" if pattern is None else f"nothing matches by pattern {pattern!r}"
    proposal = propose_in_one_folder(files)
    return (
        f"find_pairs: `images` and `masks` are one, and {what}, got files such as "
        f"{', '.join(repr(file.stem) for file in files[:4])}. {proposal or _ASK}"
    )
