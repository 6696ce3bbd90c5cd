"""JPEG: the marker segments, and a minimal copy without the ones that a decoder could act upon."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

import numpy as np

from segkit.errors import ImageReadError
from segkit.io._headers.exif import orientation_of_exif
from segkit.io._headers.info import Header, ImageInfo
from segkit.io._headers.source import Source

# Start-of-frame markers: the coding process. C4, C8 and CC are no frames.
PROCESSES = {
    0xC0: "baseline",
    0xC1: "extended",
    0xC2: "progressive",
    0xC3: "lossless",
    0xC9: "arithmetic",
    0xCA: "arithmetic progressive",
}
MAX_SEGMENTS = 1 << 14
MAX_SCANS = 200  # the longest sensible progression has some 70; a thousand scans are made to waste time
# A block of 8 x 8 needs a bit at the least, so a byte never holds more than 8 blocks (of each component).
PIXELS_PER_BYTE = 8 * 64
# What may come between two scans: tables, a late number of lines, a restart interval, applications' data, comments.
BETWEEN_SCANS = {0xC4, 0xCC, 0xDA, 0xDB, 0xDC, 0xDD, 0xFE, *range(0xE0, 0xF0)}
SCAN_HEADER = 12  # bytes of it that say which components, coefficients and bits a scan holds
CHUNK = 1 << 18  # bytes searched at once: progressive files have many short scans


@dataclass(frozen=True)
class JpegSegments:
    """The coding process, and where the parts are that a decoder needs: (start, end) of segments, then the scans."""

    process: str
    keep: tuple[tuple[int, int], ...]
    scans: int
    adobe_transform: int | None
    components: bytes


def parse_jpeg(source: Source) -> Header:
    """Read the segments up to the first scan.

    Raises:
        ImageReadError: no frame or no scan follows, or a segment runs past the end.
    """

    def bad(reason: str) -> ImageReadError:
        return ImageReadError(source.path, reason, "the file is damaged or truncated: copy or export it again")

    position, frame = 2, None
    keep: list[tuple[int, int]] = []
    profile: dict[int, bytes] = {}
    orientation, adobe, jfif = 1, None, False
    for _ in range(MAX_SEGMENTS):
        marker, start = _next_marker(source, position)
        if marker in (0x01, 0xD8) or 0xD0 <= marker <= 0xD7:
            position = start + 2
            continue
        if marker == 0xD9:
            raise bad("it ends before its first scan")
        (length,) = struct.unpack(">H", source.pread(start + 2, 2))
        if length < 2 or start + 2 + length > source.size:
            raise bad(f"its segment FF{marker:02X} at byte {start} runs beyond the end of the file")
        position = start + 2 + length
        if marker == 0xDA:
            scans = start
            break
        if marker in PROCESSES:
            if frame is not None:
                raise bad("it has two frames")
            if length < 8:
                raise bad("its frame header is malformed")
            process = PROCESSES[marker]
            precision, height, width, components = struct.unpack(">BHHB", source.pread(start + 4, 6))
            if length != 8 + 3 * components or components not in (1, 2, 3, 4):
                raise bad(f"its frame header is malformed ({components} components, {length} bytes)")
            frame = source.pread(start + 10, 3 * components)
        elif 0xC5 <= marker <= 0xCF and marker not in (0xC8, 0xCC):
            reason = f"its coding process FF{marker:02X} (hierarchical or lossless arithmetic) has no decoder"
            raise ImageReadError(source.path, reason, "convert it with the program that wrote it")
        elif marker == 0xE1 and orientation == 1 and source.pread(start + 4, min(6, length - 2)) == b"Exif\0\0":
            orientation = orientation_of_exif(source.pread(start + 4, length - 2))
        elif marker == 0xE2 and source.pread(start + 4, min(12, length - 2)) == b"ICC_PROFILE\0" and length > 16:
            profile.setdefault(source.pread(start + 16, 1)[0], source.pread(start + 18, length - 16))
        elif marker == 0xEE and length >= 14 and source.pread(start + 4, 5) == b"Adobe":
            adobe = source.pread(start + 15, 1)[0]
        elif marker == 0xE0 and source.pread(start + 4, min(4, length - 2)) == b"JFIF":
            jfif = True
        else:
            # Quantisation, Huffman, restart interval: needed. Other applications' data and comments: not.
            if not (0xE0 <= marker <= 0xEF or marker == 0xFE):
                keep.append((start, position))
            continue
        if marker not in (0xE1, 0xE2):
            keep.append((start, position))
    else:
        raise bad(f"it has more than {MAX_SEGMENTS} segments")
    if frame is None:
        raise bad("it has no frame header before its first scan")
    if not height or not width:
        raise bad(f"its frame says {width} x {height}")
    if precision != 8 and not (precision == 12 and process in ("extended", "progressive")) and process != "lossless":
        raise bad(f"its frame says {precision} bits, which {process} coding does not have")
    if not 2 <= precision <= 16:
        raise bad(f"its frame says {precision} bits")
    pixels = height * width
    if pixels > PIXELS_PER_BYTE * (source.size - scans) and "arithmetic" not in process:
        raise bad(f"{source.size - scans} bytes of data cannot hold {width} x {height} pixels")
    identifiers = frame[::3]
    if components <= 2:
        photometric = "minisblack"
    elif components == 4:
        photometric = "ycck" if adobe == 2 else "cmyk"
    elif jfif or (adobe is None and identifiers != b"RGB"):
        photometric = "ycbcr"
    else:
        photometric = "ycbcr" if adobe else "rgb"
    info = ImageInfo(
        "JPEG",
        height,
        width,
        components,
        np.dtype(np.uint8 if precision <= 8 else np.uint16),
        precision,
        photometric,
        compression="jpeg" if process != "lossless" else "jpeg-lossless",
        orientation=orientation,
        icc=b"".join(profile[key] for key in sorted(profile)) or None,
        level_shapes=((height, width),),
    )
    return Header(info, source, JpegSegments(process, tuple(keep), scans, adobe, identifiers))


def _next_marker(source: Source, position: int) -> tuple[int, int]:
    """The next marker's code and where its FF is; decoders skip stray bytes between segments, and so do we."""
    while position + 2 <= source.size:
        window = source.pread(position, min(4096, source.size - position))
        found = re.search(rb"\xff[^\x00\xff]", window)
        if found:
            return window[found.start() + 1], position + found.start()
        position += max(1, len(window) - 1)
    raise ImageReadError(source.path, "it ends before its first scan", "it is truncated: copy or export it again")


def rows_of(header: Header, bottom: int) -> int:
    """How many rows a decoder must be told of to give those down to `bottom`: all, where it cannot stop before the end.

    It can where one scan holds whole blocks from top to bottom. Colour is interpolated from the block below.
    """
    block = 8 * 4  # rows, at the coarsest sampling there is
    whole = header.detail.process not in ("baseline", "extended") or has_several_scans(header)
    return header.info.height if whole else min(header.info.height, (bottom // block + 2) * block)


def has_several_scans(header: Header) -> bool:
    """Whether several scans describe a block: its bits one after another (progressive), or one channel after another.

    Not said of arithmetic coding, whose decoders may look beyond the end of a scan.
    """
    detail = header.detail
    part = header.source.read_all()[detail.scans + 4] != header.info.channels
    return detail.process == "progressive" or (part and "arithmetic" not in detail.process)


def minimal_jpeg(header: Header, height: int | None = None) -> bytes:
    """The same image without EXIF, profiles, thumbnails and comments; refused if the scans do not end in EOI.

    Decoders fill what is missing with grey, in silence, so a file without its end is not handed to them.

    Args:
        header: of a JPEG.
        height: how many rows from the top are wanted, if not all: fewer are announced, and a decoder stops there.
    """
    detail = header.detail
    whole = header.source.read_all()
    position, scans = detail.scans, []
    while True:
        if whole[position + 1] == 0xDA:
            scans.append(position)
            if len(scans) > MAX_SCANS:
                raise ImageReadError(header.path, f"it has more than {MAX_SCANS} scans", "it is made to waste time")
        (length,) = struct.unpack_from(">H", whole, position + 2) if position + 4 <= len(whole) else (0,)
        marker, position = _marker_after(whole, position + 2 + length)
        if marker == 0xD9:
            break
        if marker not in BETWEEN_SCANS:
            # A new picture, or the end of the file: the decoder would fill what is missing with grey.
            raise ImageReadError(
                header.path, "its end (EOI) is missing", "it is truncated: copy it again, or cut the good part out"
            )
    reason = _missing_scans(detail.process, detail.components, [whole[s + 4 : s + 4 + SCAN_HEADER] for s in scans])
    if reason:
        raise ImageReadError(header.path, reason, "it was cut and then closed: get it again")
    parts = [(0, 2), *detail.keep, (detail.scans, position + 2)]
    view = memoryview(whole)
    pieces: list[bytes | memoryview] = [view[start:end] for start, end in parts]
    if height is not None and height < header.info.height:
        pieces = [_announcing(height, piece) if piece[1] in PROCESSES else piece for piece in pieces]
    elif sum(map(len, pieces)) == len(whole):
        return whole  # nothing is left out
    return b"".join(pieces)


def _announcing(height: int, frame: bytes | memoryview) -> bytes:
    """A frame header (marker, length, precision, height, ...) of another height."""
    return b"".join((frame[:5], struct.pack(">H", height), frame[7:]))


def _missing_scans(process: str, identifiers: bytes, scans: list[bytes]) -> str:
    """What the scan headers leave undecoded, as a reason, or an empty text.

    Args:
        process: `JpegSegments.process`.
        identifiers: the frame's component identifiers.
        scans: the scan headers, from the number of components on.
    """
    whole = "progressive" not in process
    exact = {identifier: np.zeros(64, bool) for identifier in identifiers}
    for header in scans:
        count = header[0] if header else 0
        first, last, bits = header[1 + 2 * count : 4 + 2 * count] if len(header) >= 4 + 2 * count else (0, 63, 0)
        for identifier in header[1 : 1 + 2 * count : 2]:
            if identifier in exact and (whole or bits & 15 == 0):
                exact[identifier][slice(None) if whole else slice(first, last + 1)] = True
    left = [identifier for identifier, done in exact.items() if not done.all()]
    return f"its scans leave {len(left)} of {len(exact)} components unfinished" if left else ""


def _marker_after(whole: bytes, start: int) -> tuple[int, int]:
    """The next marker in entropy-coded data, neither stuffing nor a restart, and where it is; 0 if there is none."""
    for first in range(start, len(whole) - 1, CHUNK):
        data = np.frombuffer(whole, np.uint8, min(CHUNK + 1, len(whole) - first), first)
        at = np.flatnonzero(data[:-1] == 0xFF)
        codes = data[at + 1]
        real = np.flatnonzero((codes != 0) & (codes != 0xFF) & (codes & 0xF8 != 0xD0))
        if real.size:
            return int(codes[real[0]]), first + int(at[real[0]])
    return 0, len(whole)
