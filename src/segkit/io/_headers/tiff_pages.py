"""Which directories of a TIFF are pages, levels, masks and thumbnails, and what the pages are: channels, slices."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod

from segkit.errors import ImageReadError
from segkit.io._headers.tiff_tags import Ifd, read_ifd

MAX_PLANES = 1 << 24
MAX_TEXT = 1 << 20  # bytes of a description; what is looked for stands at its start
UIC2 = 33629  # MetaMorph: its count is the number of planes


@dataclass
class Directories:
    """Pages, each with its resolutions, and the validity mask of a page by the page's number."""

    pages: list[list[Ifd]] = field(default_factory=list)
    masks: dict[int, Ifd] = field(default_factory=dict)


def _kind(ifd: Ifd) -> int:
    try:
        return ifd.int(254, 0)
    except ImageReadError:
        return 0


def is_page(ifd: Ifd, at_least: tuple[int, int] = (1, 1)) -> bool:
    """Whether a directory is an image of its own, no reduced copy and no mask, of (height, width) at the least."""
    try:
        return not ifd.int(254, 0) & 5 and ifd.int(257, 0) >= at_least[0] and ifd.int(256, 0) >= at_least[1]
    except ImageReadError:  # a damaged later directory does no harm to the first
        return False


def group(chain: Iterable[Ifd]) -> Directories:
    """Directories by page: a reduced one belongs to the page (or mask) before it, a mask to the page before it.

    Cameras begin with a thumbnail and hang the image below it (DNG, NEF): then that one is the page.
    """
    found = Directories()
    first: Ifd | None = None
    masked = False  # whether the reduced directories that follow are those of a mask
    for ifd in chain:
        first = first or ifd
        kind = _kind(ifd)
        if kind & 4:
            masked = True
            if found.pages and not kind & 1:
                found.masks.setdefault(len(found.pages) - 1, ifd)
        elif not kind & 1:
            found.pages.append([ifd])
            masked = False
        elif found.pages and not masked:
            found.pages[-1].append(ifd)
        elif not found.pages:
            found.pages += [[child] for child in _children(ifd) if is_page(child)]
    if first is not None and not found.pages:
        found.pages.append([first])
    return found


def _children(ifd: Ifd) -> list[Ifd]:
    children = []
    for offset in ifd.ints(330, most=1024):
        try:
            children.append(read_ifd(ifd.file, offset))
        except ImageReadError:
            continue
    return children


def sub_levels(ifd: Ifd) -> list[Ifd]:
    """Reduced resolutions that hang below a page (tag SubIFDs), the largest first."""
    width, height = ifd.int(256, 0), ifd.int(257, 0)
    smaller = [c for c in _children(ifd) if 0 < c.int(256, 0) < width and 0 < c.int(257, 0) <= height]
    return sorted(smaller, key=lambda child: -child.int(256, 0))


def described(ifd: Ifd, samples: int) -> tuple[int, str]:
    """What the description of the first directory says: number of planes (1 if nothing), and their axes.

    Args:
        ifd: the first directory.
        samples: its samples per pixel, which OME counts among the channels.

    Returns:
        (planes, axes): axes from the slowest on, as tifffile writes them: "ZYX", "TCYX"; "" where the file is silent.
    """
    if UIC2 in ifd.tags:
        return max(1, min(ifd.tags[UIC2][1], MAX_PLANES)), "TYX"
    text = _text(ifd)
    sizes: list[tuple[str, int]] = []
    if text.startswith("ImageJ="):
        said = dict(line.partition("=")[::2] for line in text.splitlines() if "=" in line)
        sizes = [
            (axis, _number(said.get(name))) for axis, name in (("T", "frames"), ("Z", "slices"), ("C", "channels"))
        ]
        planes = max(_number(said.get("images")), 1)
        if prod(size for _, size in sizes) != planes:
            sizes = [("Z", planes)]
    elif "<OME" in text[:4096]:
        pixels = re.search(r"<(?:\w+:)?Pixels\b[^>]*>", text)
        said = dict(re.findall(r'(\w+)="([^"]*)"', pixels[0])) if pixels else {}
        order = said.get("DimensionOrder", "XYCZT")[:1:-1]
        sizes = [(axis, _number(said.get(f"Size{axis}")) // (samples if axis == "C" else 1)) for axis in order]
        planes = 1  # each has a directory of its own
    elif text.startswith(("{", "shape=(")):
        planes, axes = _shaped(text, ifd, samples)
        return planes, axes
    else:
        return 1, ""
    axes = "".join(axis for axis, size in sizes if size > 1)
    return min(planes, MAX_PLANES), f"{axes}YX" if axes else ""


def _shaped(text: str, ifd: Ifd, samples: int) -> tuple[int, str]:
    """Tifffile's own description: {"shape": [13, 6, 8], "axes": "CYX"} in any order; before 2014 shape=(13, 6, 8)."""
    height, width = ifd.int(257, 0), ifd.int(256, 0)
    if text == f'{{"shape": [{height}, {width}, {samples}]}}':  # nearly always, and no parser is needed
        return 1, ""
    try:
        old = re.fullmatch(r"shape=\(([\d, ]+)\)", text.strip())
        said = {"shape": re.findall(r"\d+", old[1])} if old else json.loads(text)
        shape = [int(size) for size in said["shape"]]
    except (ValueError, TypeError, KeyError):
        return 1, ""
    one = height * width * samples
    planes = prod(shape) // one if one and prod(shape) % one == 0 else 1
    axes = said.get("axes", "")
    known = isinstance(axes, str) and len(axes) == len(shape) and planes > 1
    kept = "".join(axis for axis, size in zip(axes, shape, strict=False) if size > 1 and axis != "S") if known else ""
    return max(1, min(planes, MAX_PLANES)), kept


def _text(ifd: Ifd) -> str:
    try:
        return ifd.array(270, 0, MAX_TEXT).tobytes().split(b"\0")[0].decode("utf-8", "replace")
    except ImageReadError:
        return ""


def _number(text: str | None) -> int:
    return int(text) if text and text.strip().isdecimal() and len(text) < 10 else 1
