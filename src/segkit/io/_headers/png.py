"""PNG and APNG: the chunks, and a minimal copy that holds only what determines the samples."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np

from segkit.errors import ImageReadError
from segkit.io._headers.exif import orientation_of_exif
from segkit.io._headers.info import Header, ImageInfo
from segkit.io._headers.source import Source

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOR_TYPES = {
    0: ("minisblack", 1, (1, 2, 4, 8, 16)),
    2: ("rgb", 3, (8, 16)),
    3: ("palette", 1, (1, 2, 4, 8)),
    4: ("minisblack", 2, (8, 16)),
    6: ("rgb", 4, (8, 16)),
}
MAX_CHUNKS = 1 << 18
MAX_SIDE_CHUNK = 1 << 22  # bytes of a profile or EXIF block that we are ready to look at
DEFLATE_MAX_RATIO = 1032  # no deflate stream expands further: a longest match of 258 bytes costs at least 2 bits


@dataclass(frozen=True)
class PngChunks:
    """Where the parts are: (offset, length) of the data of each IDAT, and the fields of IHDR."""

    color_type: int
    interlaced: bool
    idat: tuple[tuple[int, int], ...]
    plte: bytes


def parse_png(source: Source) -> Header:
    """Read the chunk structure; damaged critical chunks, and a file without its end, are refused.

    Raises:
        ImageReadError: the structure is not that of a whole PNG.
    """

    def bad(reason: str) -> ImageReadError:
        return ImageReadError(source.path, reason, "the file is damaged or truncated: copy or export it again")

    def checked(offset: int, kind: bytes, length: int) -> bytes:
        data = source.pread(offset, length)
        (crc,) = struct.unpack(">I", source.pread(offset + length, 4))
        if zlib.crc32(data, zlib.crc32(kind)) != crc:
            raise bad(f"the checksum of its {kind.decode('latin-1')} chunk at byte {offset - 8} is wrong")
        return data

    position = 8
    ihdr: tuple[int, ...] | None = None
    idat: list[tuple[int, int]] = []
    plte = trns = b""
    orientation, frames, icc, ended = 1, 1, None, False
    idat_closed = False
    for _ in range(MAX_CHUNKS):
        if position + 12 > source.size:
            break
        length, kind = struct.unpack(">I4s", source.pread(position, 8))
        start = position + 8
        if start + length + 4 > source.size:
            raise bad(f"its chunk {kind!r} at byte {position} runs beyond the end of the file")
        if ihdr is None and kind != b"IHDR":
            raise bad("its first chunk is not IHDR")
        if kind == b"IHDR":
            if length != 13 or ihdr is not None:
                raise bad("its IHDR chunk is malformed")
            ihdr = struct.unpack(">IIBBBBB", checked(start, kind, 13))
        elif kind == b"PLTE":
            if plte or idat or length % 3 or not 3 <= length <= 768:
                raise bad("its palette is malformed")
            plte = checked(start, kind, length)
        elif kind == b"IDAT":
            if idat_closed:
                raise bad("its pixel data come in two separate runs")
            idat.append((start, length))
        elif kind == b"IEND":
            ended = True
            break
        elif kind == b"tRNS" and not idat and length <= 256:
            trns = source.pread(start, length)
        elif kind == b"acTL" and length == 8 and not idat:
            frames = max(1, struct.unpack(">II", source.pread(start, 8))[0])
        elif kind == b"eXIf" and length <= MAX_SIDE_CHUNK:
            orientation = orientation_of_exif(source.pread(start, length))
        elif kind == b"iCCP" and length <= MAX_SIDE_CHUNK:
            icc = _profile(source.pread(start, length))
        elif kind[0] < 97 and kind[0] >= 65 and kind.isalpha():
            raise bad(f"it needs an unknown critical chunk {kind.decode('latin-1')!r}")
        idat_closed = bool(idat) and kind != b"IDAT"
        position = start + length + 4
    if ihdr is None:
        raise bad("it has no IHDR chunk")
    width, height, depth, color_type, method, filtering, interlace = ihdr
    if color_type not in COLOR_TYPES or depth not in COLOR_TYPES[color_type][2] or not width or not height:
        raise bad(f"its header says {depth} bits, colour type {color_type}, {width} x {height}: no PNG can be that")
    if method or filtering or interlace > 1 or max(width, height) > 0x7FFFFFFF:
        raise bad("its header names a compression, filter or interlace method that does not exist")
    if not idat:
        raise bad("it has no pixel data (IDAT)")
    if not ended:
        raise bad("its end (IEND) is missing")
    photometric, channels, _ = COLOR_TYPES[color_type]
    if color_type == 3 and not plte:
        raise bad("its palette is missing")
    size = sum(n for _, n in idat)
    if height * ((width * channels * depth + 7) // 8) > DEFLATE_MAX_RATIO * size:
        raise bad(f"{size} bytes of data cannot hold {width} x {height} pixels")
    info = ImageInfo(
        "APNG" if frames > 1 else "PNG",
        height,
        width,
        channels,
        np.dtype(np.uint16 if depth == 16 else np.uint8),
        depth,
        photometric,
        compression="deflate",
        pages=frames,
        orientation=orientation,
        icc=icc,
        level_shapes=((height, width),),
    )
    alpha = "straight" if color_type in (4, 6) else "none"
    chunks = PngChunks(color_type, bool(interlace), tuple(idat), plte)
    return Header(info, source, chunks, palette=_palette(plte, trns) if color_type == 3 else None, alpha=alpha)


def _palette(plte: bytes, trns: bytes) -> np.ndarray:
    colors = np.frombuffer(plte, np.uint8).reshape(-1, 3)
    if not trns:
        return colors
    alpha = np.full((len(colors), 1), 255, np.uint8)
    values = np.frombuffer(trns[: len(colors)], np.uint8)
    alpha[: len(values), 0] = values
    return np.concatenate([colors, alpha], axis=1)


def _profile(data: bytes) -> bytes | None:
    name, _, rest = data.partition(b"\0")
    if len(name) > 79 or not rest:
        return None
    try:
        return zlib.decompressobj().decompress(rest[1:], MAX_SIDE_CHUNK) or None
    except zlib.error:
        return None


def minimal_png(
    header: Header, *, as_grey: bool = False, rows: bytes | memoryview | None = None, height: int | None = None
) -> bytes:
    """The same samples in a PNG without any optional chunk: nothing is left that a decoder could apply or inflate.

    Args:
        header: of a PNG.
        rows: the inflated rows, if they are known already; they are stored without compression then.
        height: how many rows from the top are wanted, if not all: fewer are announced, and a decoder stops there.
        as_grey: call palette indices grey levels. The samples are the same, and no reader expands the palette.
    """
    info, chunks = header.info, header.detail
    color_type = 0 if as_grey else chunks.color_type
    ihdr = struct.pack(
        ">IIBBBBB", info.width, height or info.height, info.bits_per_sample, color_type, 0, 0, int(chunks.interlaced)
    )
    parts: list[bytes | memoryview] = [SIGNATURE, _chunk(b"IHDR", ihdr)]
    if chunks.plte and not as_grey and chunks.color_type == 3:
        parts.append(_chunk(b"PLTE", chunks.plte))
    if rows is not None:
        return b"".join([*parts, *_stored(memoryview(rows)), _chunk(b"IEND", b"")])
    # Length, kind and checksum of each IDAT come along, so a decoder that checks them still can.
    whole = memoryview(header.source.read_all())
    parts += [whole[start - 8 : start + length + 4] for start, length in chunks.idat]
    parts.append(_chunk(b"IEND", b""))
    return b"".join(parts)


def _stored(rows: memoryview) -> list[bytes | memoryview]:
    """The pieces of an IDAT of blocks without compression: zlib's level 0 takes three times as long."""
    blocks = [rows[start : start + 0xFFFF] for start in range(0, len(rows), 0xFFFF)]
    pieces: list[bytes | memoryview] = [b"IDAT", b"\x78\x01"]
    for block in blocks:
        pieces += [struct.pack("<BHH", block is blocks[-1], len(block), len(block) ^ 0xFFFF), block]
    pieces.append(struct.pack(">I", zlib.adler32(rows)))
    length, crc = sum(map(len, pieces)) - 4, 0
    for piece in pieces:
        crc = zlib.crc32(piece, crc)
    return [struct.pack(">I", length), *pieces, struct.pack(">I", crc)]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


def verify_data(header: Header) -> None:
    """Check the checksum of every IDAT, for the decoders that do not."""
    whole = memoryview(header.source.read_all())
    for start, length in header.detail.idat:
        (crc,) = struct.unpack_from(">I", whole, start + length)
        if zlib.crc32(whole[start - 4 : start + length]) != crc:
            reason = f"the checksum of its pixel data at byte {start - 8} is wrong"
            raise ImageReadError(header.path, reason, "the file is damaged: copy or export it again")
