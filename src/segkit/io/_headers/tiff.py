"""TIFF and BigTIFF: one page's tags as facts, its blocks, and a minimal copy that holds this page alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from segkit.errors import ImageReadError
from segkit.io._headers.info import Header, ImageInfo
from segkit.io._headers.source import Source
from segkit.io._headers.tiff_tags import Ifd, open_tiff, read_ifd, walk

PHOTOMETRICS = {
    0: "miniswhite", 1: "minisblack", 2: "rgb", 3: "palette", 4: "mask", 5: "cmyk", 6: "ycbcr", 8: "cielab",
    9: "icclab", 10: "itulab", 32803: "cfa", 32844: "logl", 32845: "logluv", 34892: "linear-raw",
}  # fmt: skip
COMPRESSIONS = {
    1: "none", 2: "ccitt-rle", 3: "ccitt-g3", 4: "ccitt-g4", 5: "lzw", 6: "old-jpeg", 7: "jpeg", 8: "deflate",
    32773: "packbits", 32809: "thunderscan", 32946: "deflate", 33003: "jpeg2000", 33005: "jpeg2000",
    34676: "sgilog", 34677: "sgilog24", 34712: "jpeg2000", 34887: "lerc", 34925: "lzma", 50000: "zstd",
    50001: "webp", 50002: "jpegxl",
}  # fmt: skip
COLORS = {"rgb": 3, "ycbcr": 3, "cielab": 3, "icclab": 3, "itulab": 3, "cmyk": 4}
MAX_BLOCKS = 1 << 24


@dataclass(frozen=True)
class TiffPage:
    """The tags of one page that determine its samples, normalised. `tile` is (height, width) of a block."""

    ifd: Ifd
    height: int
    width: int
    samples: int
    bits: int
    sample_format: int
    photometric: int
    compression: int
    predictor: int
    planar: bool
    tiled: bool
    tile: tuple[int, int]
    fill_order: int
    extra: tuple[int, ...]
    subsampling: tuple[int, int]
    luma: tuple[float, float, float] | None = None  # YCbCr coefficients; None if the samples are not of full range
    nodata: float = 0  # what a block that the file leaves out is filled with, as GDAL does

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of blocks in one plane."""
        return math.ceil(self.height / self.tile[0]), math.ceil(self.width / self.tile[1])

    @property
    def planes(self) -> int:
        """1 when the channels of a pixel lie together, else the number of channels."""
        return self.samples if self.planar else 1

    def row_bytes(self, columns: int) -> int:
        """Bytes of one row of a block, uncompressed."""
        return (columns * (1 if self.planar else self.samples) * self.bits + 7) // 8

    def block_rows(self, row: int) -> int:
        """Rows in the blocks of grid row `row`: strips end with the image, tiles are padded."""
        return self.tile[0] if self.tiled else min(self.tile[0], self.height - row * self.tile[0])


def parse_tiff(source: Source, page: int = 0, level: int = 0, *, survey: bool = False) -> Header:
    """The facts of one page at one resolution.

    Args:
        source: the file.
        page: counted over the full-resolution directories.
        level: 0 is the full resolution, 1 the first reduced one.
        survey: count pages and levels too. Reading page 0 does without and looks at one directory only.

    Raises:
        ImageReadError: the directory is damaged, or there is no such page or level.
    """
    file = open_tiff(source)
    if page == level == 0 and not survey:
        pages = [[read_ifd(file, file.first)]]
    else:
        pages = _group(walk(file))
    if not pages:
        raise ImageReadError(source.path, "it has no image directory", "the file is damaged: copy or export it again")
    if page >= len(pages):
        raise ImageReadError(source.path, f"page {page} was asked for, but it has {len(pages)}", "pages count from 0")
    levels = pages[page] + (_sub_levels(pages[page][0]) if survey or level else [])
    if level >= len(levels):
        reason = f"level {level} was asked for, but this page has {len(levels)}"
        raise ImageReadError(source.path, reason, "levels count from 0, the full resolution")
    facts = _page(levels[level])
    shapes = tuple((ifd.int(257, 0), ifd.int(256, 0)) for ifd in levels)
    photometric = PHOTOMETRICS.get(facts.photometric, f"photometric {facts.photometric}")
    info = ImageInfo(
        "BigTIFF" if file.big else "TIFF",
        facts.height,
        facts.width,
        facts.samples,
        _dtype(facts, source.path),
        facts.bits,
        photometric,
        planar=facts.planar,
        tiled=facts.tiled,
        compression=COMPRESSIONS.get(facts.compression, f"compression {facts.compression}"),
        pages=len(pages),
        levels=len(levels),
        orientation=_orientation(facts.ifd),
        icc=_icc(facts.ifd),
        level_shapes=shapes,
    )
    alpha = "none"
    if len(facts.extra) == 1 and facts.extra[0] in (1, 2):
        alpha = "premultiplied" if facts.extra[0] == 1 else "straight"
    return Header(info, source, facts, page, _palette(facts) if photometric == "palette" else None, alpha)


def _group(chain: Iterator[Ifd]) -> list[list[Ifd]]:
    """Directories by page: a reduced-resolution directory belongs to the page (or mask) before it."""
    pages: list[list[Ifd]] = []
    last: dict[int, list[Ifd]] = {}
    for ifd in chain:
        kind = ifd.int(254, 0)
        if kind & 1 and kind & 4 in last:
            last[kind & 4].append(ifd)
        else:
            pages.append([ifd])
            last[kind & 4] = pages[-1]
    return pages


def _sub_levels(ifd: Ifd) -> list[Ifd]:
    """Reduced resolutions that hang below a page (tag SubIFDs), the largest first."""
    found = []
    for offset in ifd.ints(330, most=1024):
        try:
            child = read_ifd(ifd.file, offset)
        except ImageReadError:
            continue
        width, height = child.int(256, 0), child.int(257, 0)
        if 0 < width < ifd.int(256, 0) and 0 < height <= ifd.int(257, 0):
            found.append(child)
    return sorted(found, key=lambda child: -child.int(256, 0))


def _page(ifd: Ifd) -> TiffPage:
    path = ifd.file.source.path

    def bad(reason: str) -> ImageReadError:
        return ImageReadError(path, reason, "the file is damaged or too unusual: export it again")

    width, height = ifd.int(256, 0), ifd.int(257, 0)
    if not (0 < width < 1 << 31 and 0 < height < 1 << 31):
        raise bad(f"its directory says {width} x {height} pixels")
    samples = ifd.int(277, 1)
    if not 1 <= samples <= 65535:
        raise bad(f"its directory says {samples} samples per pixel")
    bits = set(ifd.ints(258, (1,), most=65535)[:samples])
    formats = set(ifd.ints(339, (1,), most=65535)[:samples])
    if len(bits) > 1 or len(formats) > 1:
        raise bad(f"its channels differ in depth or kind (bits {sorted(bits)}, formats {sorted(formats)})")
    if ifd.int(32997, 1) != 1:
        raise bad("it holds a volume (ImageDepth)")
    default = 2 if samples >= 3 else 1  # writers that forget the tag mean this
    compression, photometric = ifd.int(259, 1), ifd.int(262, default)
    tiled = 322 in ifd.tags and 323 in ifd.tags
    if tiled:
        tile = ifd.int(323, 0), ifd.int(322, 0)
    else:
        rows = ifd.int(278, height)
        tile = min(rows or height, height), width
    if not (0 < tile[0] < 1 << 31 and 0 < tile[1] < 1 << 31):
        raise bad(f"its tiles are {tile[1]} x {tile[0]}")
    extra = ifd.ints(338, most=65535)
    color = COLORS.get(PHOTOMETRICS.get(photometric, ""), 1)
    if samples < color:
        raise bad(f"its photometric needs {color} samples per pixel, it has {samples}")
    extra = (extra + (0,) * samples)[: samples - color]
    page = TiffPage(
        ifd=ifd,
        height=height,
        width=width,
        samples=samples,
        bits=bits.pop(),
        sample_format=formats.pop(),
        photometric=photometric,
        compression=compression,
        predictor=ifd.int(317, 1),
        planar=ifd.int(284, 1) == 2 and samples > 1,
        tiled=tiled,
        tile=tile,
        fill_order=ifd.int(266, 1),
        extra=extra,
        subsampling=_subsampling(ifd) if photometric == 6 else (1, 1),
        luma=_luma(ifd),
        nodata=_nodata(ifd),
    )
    rows, columns = page.grid
    blocks = rows * columns * page.planes
    if blocks > MAX_BLOCKS:
        raise bad(f"its pixels lie in {blocks} blocks")
    offsets, _ = block_tags(page)
    if compression != 6 and offsets not in ifd.tags:
        raise bad("it does not say where its pixels are")
    if compression != 6 and ifd.tags[offsets][1] < blocks:
        raise bad(f"it needs {blocks} blocks of pixels but lists {ifd.tags[offsets][1]}")
    return page


def block_tags(page: TiffPage) -> tuple[int, int]:
    """The tags of block offsets and block sizes. Some tiled files use the strips' tags."""
    if page.tiled and 324 in page.ifd.tags:
        return 324, 325
    return 273, 279


def _subsampling(ifd: Ifd) -> tuple[int, int]:
    values = ifd.ints(530, (2, 2))
    return (values[0], values[1]) if len(values) >= 2 else (2, 2)


def _rationals(ifd: Ifd, tag: int, count: int) -> list[float]:
    """`count` quotients of a tag, or none if it is absent. Numerator and denominator lie in one 64-bit word."""
    words = ifd.array(tag) if ifd.tags.get(tag, (0, 0, 0))[1] <= 64 else np.zeros(0, np.uint64)
    if tag not in ifd.tags:
        return []
    pairs = words.view(words.dtype.str.replace("8", "4")).reshape(-1, 2) if words.dtype.itemsize == 8 else []
    if len(pairs) != count or not all(bottom for _, bottom in pairs):
        reason = f"its TIFF tag {tag} is malformed"
        raise ImageReadError(ifd.file.source.path, reason, "the file is damaged: export it again")
    return [int(top) / int(bottom) for top, bottom in pairs]


def _luma(ifd: Ifd) -> tuple[float, float, float] | None:
    if ifd.int(262, 0) != 6:
        return None
    red, green, blue = _rationals(ifd, 529, 3) or (0.299, 0.587, 0.114)
    if not (0 < red < 1 and 0 < green < 1 and 0 < blue < 1):
        reason = f"its YCbCr coefficients are {red:g}, {green:g}, {blue:g}"
        raise ImageReadError(ifd.file.source.path, reason, "the file is damaged: export it again")
    # JPEG has a full range whatever this tag says, and the old kind often has it malformed.
    limits = [] if ifd.int(259, 1) in (6, 7) else _rationals(ifd, 532, 6)
    return (red, green, blue) if limits in ([], [0, 255, 128, 255, 128, 255]) else None


def _nodata(ifd: Ifd) -> float:
    if ifd.tags.get(42113, (0, 999, 0))[1] > 64:
        return 0
    try:
        return float(ifd.raw(42113).split(b"\0")[0])
    except (ValueError, ImageReadError):
        return 0


def _orientation(ifd: Ifd) -> int:
    value = ifd.int(274, 1)
    return value if 1 <= value <= 8 else 1


def _icc(ifd: Ifd) -> bytes | None:
    if 34675 not in ifd.tags or ifd.tags[34675][1] > 1 << 22:
        return None
    try:
        return ifd.raw(34675) or None
    except ImageReadError:  # a profile outside the file does not harm the pixels
        return None


def _dtype(page: TiffPage, path: str) -> np.dtype:
    kind, bits = page.sample_format, page.bits
    if kind in (1, 4):
        for size in (8, 16, 32, 64):
            if bits <= size and (bits <= 32 or bits == 64) and bits > 0:
                return np.dtype(f"uint{size}")
    elif kind == 2 and bits in (8, 16, 32, 64):
        return np.dtype(f"int{bits}")
    elif kind == 3 and bits in (16, 24, 32, 64):
        return np.dtype(f"float{max(bits, 16) if bits != 24 else 32}")
    kinds = {1: "unsigned", 2: "signed", 3: "float", 5: "complex integer", 6: "complex"}
    reason = f"its samples are {bits}-bit {kinds.get(kind, f'of format {kind}')}, for which there is no dtype"
    raise ImageReadError(path, reason, "convert it to a common depth with the program that wrote it")


def _palette(page: TiffPage) -> np.ndarray | None:
    table = page.ifd.array(320) if page.ifd.tags.get(320, (0, 0, 0))[1] == 3 << min(page.bits, 16) else None
    if table is None or table.dtype.itemsize != 2:
        return None
    colors = table.reshape(3, -1).T.astype(np.uint16)
    # Old writers stored 8-bit colours in the 16-bit table; readers tell by whether anything exceeds 255.
    return (colors >> 8 if colors.max(initial=0) > 255 else colors).astype(np.uint8)
