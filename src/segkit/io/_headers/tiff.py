"""TIFF and BigTIFF: one page's tags as facts, its blocks, and a minimal copy that holds this page alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from segkit.errors import ImageReadError
from segkit.io._headers.info import Header, ImageInfo
from segkit.io._headers.source import Source
from segkit.io._headers.tiff_pages import described, group, is_page, sub_levels
from segkit.io._headers.tiff_tags import Ifd, TiffFile, open_tiff, read_ifd, walk

PHOTOMETRICS = {
    0: "miniswhite", 1: "minisblack", 2: "rgb", 3: "palette", 4: "mask", 5: "cmyk", 6: "ycbcr", 8: "cielab",
    9: "icclab", 10: "itulab", 32803: "cfa", 32844: "logl", 32845: "logluv", 34892: "linear-raw",
}  # fmt: skip
COMPRESSIONS = {
    1: "none", 2: "ccitt-rle", 3: "ccitt-g3", 4: "ccitt-g4", 5: "lzw", 6: "old-jpeg", 7: "jpeg", 8: "deflate",
    32773: "packbits", 32809: "thunderscan", 32946: "deflate", 33003: "jpeg2000-ycbcr", 33005: "jpeg2000",
    34676: "sgilog", 34677: "sgilog24", 34712: "jpeg2000", 34887: "lerc", 34925: "lzma", 50000: "zstd",
    50001: "webp", 50002: "jpegxl",
}  # fmt: skip
COLORS = {"rgb": 3, "ycbcr": 3, "cielab": 3, "icclab": 3, "itulab": 3, "cmyk": 4}
MAX_BLOCKS = 1 << 24
FULL_RANGE = (0, 255, 128, 255, 128, 255)


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
    luma: tuple[float, float, float] = (0.299, 0.587, 0.114)  # YCbCr coefficients
    limits: tuple[float, ...] = FULL_RANGE  # of YCbCr: black and white of each channel
    nodata: float | None = None  # what a block that the file leaves out is filled with, as GDAL does
    shift: int = 0  # bytes from the blocks that the directory lists to those of this plane, which has no directory

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of blocks in one plane."""
        return math.ceil(self.height / self.tile[0]), math.ceil(self.width / self.tile[1])

    @property
    def planes(self) -> int:
        """1 when the channels of a pixel lie together, else the number of channels."""
        return self.samples if self.planar else 1

    @property
    def subsampled(self) -> bool:
        """Whether chroma is coarser than luma, and no decoder makes up for it as that of JPEG does."""
        return self.photometric == 6 and self.subsampling != (1, 1) and self.compression not in (6, 7)

    def as_stored(self) -> TiffPage:
        """The page whose samples are its bytes: chroma lies behind each group of luma, and a row of groups is a row."""
        if not self.subsampled:
            return self
        across, down = self.subsampling
        each = down * across + 2
        return replace(
            self,
            height=-(-self.height // down),
            width=-(-self.width // across) * each,
            tile=(-(-self.tile[0] // down), -(-self.tile[1] // across) * each),
            samples=1,
            photometric=1,
        )

    def row_bytes(self, columns: int) -> int:
        """Bytes of one row of a block, uncompressed."""
        return (columns * (1 if self.planar else self.samples) * self.bits + 7) // 8

    def block_rows(self, row: int) -> int:
        """Rows in the blocks of grid row `row`: strips end with the image, tiles are padded."""
        return self.tile[0] if self.tiled else min(self.tile[0], self.height - row * self.tile[0])


def parse_tiff(source: Source, page: int | None = 0, level: int = 0, *, survey: bool = False) -> Header:
    """The facts of one page at one resolution.

    Args:
        source: the file.
        page: counted over the full-resolution directories, or over the planes of a single one. None is the first one,
            and ``header.several`` then says whether there are more.
        level: 0 is the full resolution, 1 the first reduced one.
        survey: count pages and levels too. Reading page 0 does without and looks at one directory only.

    Raises:
        ImageReadError: the directory is damaged, or there is no such page or level.
    """
    file = open_tiff(source)
    axes, planes, several, number = "", 1, False, page or 0
    first = read_ifd(file, file.first)
    if not page and level == 0 and not survey and is_page(first):
        pages = [[file.first]]
        size = first.int(257, 0), first.int(256, 0)
        # Smaller ones are thumbnails and levels of writers that do not flag them.
        several = page is None and any(is_page(ifd, at_least=size) for ifd in walk(file, after=first))
    else:
        pages, _ = _directories(file)
        first = read_ifd(file, pages[0][0])
    facts = _page(first)
    if survey or page != 0:
        planes, axes = described(first, facts.samples)
        planes = planes if len(pages) == 1 and _may_continue(facts) else 1
        several = page is None and (several or planes > 1)
    count = max(planes, len(pages))
    if number >= count:
        raise ImageReadError(source.path, f"page {number} was asked for, but it has {count}", "pages count from 0")
    levels = [
        first if offset == first.offset else read_ifd(file, offset) for offset in pages[0 if planes > 1 else number]
    ]
    levels += sub_levels(levels[0]) if survey or level else []
    if level >= len(levels):
        reason = f"level {level} was asked for, but this page has {len(levels)}"
        raise ImageReadError(source.path, reason, "levels count from 0, the full resolution")
    facts = facts if level == 0 and levels[0].offset == first.offset else _page(levels[level])
    if planes > 1 and level == 0:
        facts = replace(facts, shift=number * facts.height * facts.planes * facts.row_bytes(facts.width))
    header = _header(source, facts, number)
    shapes = tuple((ifd.int(257, 0), ifd.int(256, 0)) for ifd in levels)
    info = replace(header.info, pages=count, levels=len(levels), level_shapes=shapes, axes=axes)
    return replace(header, info=info, several=several)


def parse_mask_page(source: Source, page: int = 0) -> Header | None:
    """The validity mask that belongs to a page, where the file has one: nonzero is valid."""
    file = open_tiff(source)
    _, masks = _directories(file)
    return _header(source, _page(read_ifd(file, masks[page])), page) if page in masks else None


def _directories(file: TiffFile) -> tuple[list[list[int]], dict[int, int]]:
    """Offsets of the directories of each page and of the masks; kept by the source, for its next page."""
    kept = file.source.found
    if "tiff" not in kept:
        found = group(walk(file))
        kept["tiff"] = (
            [[ifd.offset for ifd in page] for page in found.pages],
            {number: ifd.offset for number, ifd in found.masks.items()},
        )
    pages, masks = kept["tiff"]
    return pages, masks


def _may_continue(page: TiffPage) -> bool:
    """Whether further planes can lie behind the first one: uncompressed strips, one after another."""
    if page.compression != 1 or page.tiled or page.fill_order != 1 or page.subsampled:
        return False
    places, sizes = (page.ifd.array(tag).astype(np.int64) for tag in block_tags(page))
    whole = page.height * page.planes * page.row_bytes(page.width)
    return len(places) == 1 or (len(sizes) == len(places) and int(places[-1] + sizes[-1] - places[0]) == whole)


def _header(source: Source, facts: TiffPage, page: int) -> Header:
    photometric = PHOTOMETRICS.get(facts.photometric, f"photometric {facts.photometric}")
    info = ImageInfo(
        "BigTIFF" if facts.ifd.file.big else "TIFF",
        facts.height,
        facts.width,
        facts.samples,
        _dtype(facts, source.path),
        facts.bits,
        photometric,
        planar=facts.planar,
        tiled=facts.tiled,
        compression=COMPRESSIONS.get(facts.compression, f"compression {facts.compression}"),
        orientation=_orientation(facts.ifd),
        icc=_icc(facts.ifd),
        level_shapes=((facts.height, facts.width),),
        nodata=facts.nodata,
    )
    alpha = "none"
    if len(facts.extra) == 1 and facts.extra[0] in (1, 2):
        alpha = "premultiplied" if facts.extra[0] == 1 else "straight"
    return Header(info, source, facts, page, _palette(facts) if photometric == "palette" else None, alpha)


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
    if compression == 33003 and samples == 3:
        photometric = 6  # Aperio's own kind of JPEG 2000 holds YCbCr, whatever the tag says
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
        subsampling=_subsampling(ifd) if photometric == 6 and compression != 33003 else (1, 1),
        luma=_luma(ifd, photometric),
        limits=_limits(ifd, photometric, compression),
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


def _luma(ifd: Ifd, photometric: int) -> tuple[float, float, float]:
    red, green, blue = (photometric == 6 and _rationals(ifd, 529, 3)) or (0.299, 0.587, 0.114)
    if not (0 < red < 1 and 0 < green < 1 and 0 < blue < 1):
        reason = f"its YCbCr coefficients are {red:g}, {green:g}, {blue:g}"
        raise ImageReadError(ifd.file.source.path, reason, "the file is damaged: export it again")
    return red, green, blue


def _limits(ifd: Ifd, photometric: int, compression: int) -> tuple[float, ...]:
    # JPEG has a full range whatever this tag says, and the old kind often has it malformed.
    limits = () if photometric != 6 or compression in (6, 7) else tuple(_rationals(ifd, 532, 6))
    if any(black >= white for black, white in zip(limits[::2], limits[1::2], strict=True)):
        reason = f"its YCbCr samples have the limits {', '.join(f'{v:g}' for v in limits)}"
        raise ImageReadError(ifd.file.source.path, reason, "the file is damaged: export it again")
    return limits or FULL_RANGE


def _nodata(ifd: Ifd) -> float | None:
    if ifd.tags.get(42113, (0, 999, 0))[1] > 64:
        return None
    try:
        return float(ifd.raw(42113).split(b"\0")[0])
    except (ValueError, ImageReadError):
        return None


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
