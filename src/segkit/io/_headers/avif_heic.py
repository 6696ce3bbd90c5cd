"""AVIF and HEIC: the properties of the primary item in the boxes of the file."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from segkit.errors import ImageReadError
from segkit.io._headers.info import Header, ImageInfo
from segkit.io._headers.source import Source

AVIF, HEIC = {b"avif"}, {b"heic", b"heix", b"heim", b"heis"}
SEQUENCES = {b"avis", b"hevc", b"hevx", b"msf1"}
MAX_META = 1 << 24
# A turn to the left (irot, in quarters) as an EXIF orientation.
TURNS = (1, 8, 3, 6)

Boxes = list[tuple[bytes, bytes]]


def is_heif(start: bytes) -> bool:
    """Whether the first bytes are those of a file whose brand is AVIF's or HEIC's."""
    return start[4:8] == b"ftyp" and (start[8:12] in AVIF | HEIC | SEQUENCES or start[8:12] in (b"mif1", b"miaf"))


def parse_heif(source: Source) -> Header:
    """The header of a still image.

    Raises:
        ImageReadError: malformed or truncated, a sequence, cropped or mirrored by its boxes, or of mixed depth.
    """

    def bad(reason: str, hint: str = "the file is damaged or truncated: copy or export it again") -> ImageReadError:
        return ImageReadError(source.path, reason, hint)

    try:
        brands, meta = _top(source)
        form = "AVIF" if brands & AVIF else "HEIC" if brands & HEIC else ""
        if not form:
            raise bad(f"its brands {sorted(brands)} are not those of a still AVIF or HEIC", "convert it to PNG")
        boxes = dict(_boxes(meta[4:]))
        (primary,) = struct.unpack_from(">I" if boxes[b"pitm"][0] else ">H", boxes[b"pitm"], 4)
        lists = dict(_boxes(boxes[b"iprp"]))
        properties, belongs = list(_boxes(lists[b"ipco"])), _associations(lists[b"ipma"])
        own = dict(properties[index - 1] for index in belongs[primary])
        width, height = struct.unpack(">II", own[b"ispe"][4:12])
        depths = _depths(own)
        alpha = _alpha(boxes.get(b"iref", b""), primary, belongs, properties)
    except (struct.error, KeyError, IndexError) as error:
        raise bad(f"its boxes are malformed or incomplete ({type(error).__name__}: {error})") from None
    if not width or not height or len(set(depths)) != 1 or len(depths) not in (1, 3) or not 8 <= depths[0] <= 16:
        raise bad(f"it has {width} x {height} pixels of {depths} bits", "convert it to PNG")
    if b"clap" in own or b"imir" in own:
        raise bad("its boxes crop or mirror it, which decoders do in different ways", "convert it to PNG")
    turn = TURNS[own.get(b"irot", b"\0")[0] & 3]
    info = ImageInfo(
        form,
        height,
        width,
        len(depths) + alpha,
        np.dtype(np.uint8 if depths[0] == 8 else np.uint16),
        depths[0],
        "minisblack" if len(depths) == 1 else "rgb",
        compression="av1" if form == "AVIF" else "hevc",
        orientation=turn,
        level_shapes=((height, width),),
    )
    return Header(info, source, alpha="straight" if alpha else "none")


def _top(source: Source) -> tuple[set[bytes], bytes]:
    """The brands, and the contents of the meta box; every box must end inside the file."""
    position, brands, meta = 0, set(), b""
    while position < source.size:
        length, kind = struct.unpack(">I4s", source.pread(position, 8))
        head = 8
        if length == 1:
            (length,), head = struct.unpack(">Q", source.pread(position + 8, 8)), 16
        length = length or source.size - position
        if length < head or position + length > source.size:
            raise ImageReadError(source.path, f"its box {kind!r} runs beyond the end of the file", "copy it again")
        if kind == b"ftyp":
            data = source.pread(position + head, min(length - head, 4096))
            brands = {data[:4], *(data[i : i + 4] for i in range(8, len(data), 4))}
        elif kind == b"meta" and not meta:
            meta = source.pread(position + head, min(length - head, MAX_META))
        position += length
    return brands, meta


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 0
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        length = length or len(data) - position
        if length < 8 or position + length > len(data):
            raise IndexError(f"box {kind!r}")
        yield kind, data[position + 8 : position + length]
        position += length


def _associations(data: bytes) -> dict[int, list[int]]:
    """Item -> numbers of its properties, from the box ipma."""
    wide_item, wide_index = data[0] > 0, data[3] & 1
    (count,) = struct.unpack_from(">I", data, 4)
    position, found = 8, {}
    for _ in range(min(count, 1 << 16)):
        item, several = struct.unpack_from(">IB" if wide_item else ">HB", data, position)
        position += 5 if wide_item else 3
        numbers = struct.unpack_from(f">{several}{'H' if wide_index else 'B'}", data, position)
        position += several * (2 if wide_index else 1)
        found[item] = [number & (0x7FFF if wide_index else 0x7F) for number in numbers]
    return found


def _depths(own: dict[bytes, bytes]) -> list[int]:
    """Bits of each colour channel."""
    if b"pixi" in own:
        return list(own[b"pixi"][5 : 5 + own[b"pixi"][4]])
    if b"av1C" in own:
        flags = own[b"av1C"][2]
        return [12 if flags & 0x20 else 10 if flags & 0x40 else 8] * (1 if flags & 0x10 else 3)
    return [8 + (own[b"hvcC"][17] & 7)] * (3 if own[b"hvcC"][16] & 3 else 1)


def _alpha(data: bytes, primary: int, belongs: dict[int, list[int]], properties: Boxes) -> bool:
    """Whether an auxiliary item of the primary one is its transparency."""
    wide = bool(data and data[0])
    for kind, body in _boxes(data[4:]) if data else ():
        if kind == b"auxl":
            item, count = struct.unpack_from(">IH" if wide else ">HH", body)
            to = struct.unpack_from(f">{count}{'I' if wide else 'H'}", body, 6 if wide else 4)
            own = dict(properties[index - 1] for index in belongs.get(item, ()))
            if primary in to and b"alpha" in own.get(b"auxC", b""):
                return True
    return False
