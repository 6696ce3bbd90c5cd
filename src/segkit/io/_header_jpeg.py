"""JPEG: the marker segments, and a minimal copy without the ones that a decoder could act upon."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

import numpy as np

from segkit.errors import ImageReadError
from segkit.io._exif import orientation_of_exif
from segkit.io._info import Header, ImageInfo
from segkit.io._source import Source

__all__ = ["JpegSegments", "minimal_jpeg", "parse_jpeg"]

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
AFTER_SCAN = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")  # a marker that is neither stuffing nor a restart


@dataclass(frozen=True)
class JpegSegments:
    """The coding process, and where the parts are that a decoder needs: (start, end) of segments, then the scans."""

    process: str
    keep: tuple[tuple[int, int], ...]
    scans: int
    adobe_transform: int | None
    one_scan: bool


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
            if length != 8 + 3 * components or components not in (1, 3, 4):
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
    if components == 1:
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
    one_scan = "progressive" not in process and source.pread(scans + 4, 1)[0] == components
    return Header(info, source, JpegSegments(process, tuple(keep), scans, adobe, one_scan))


def _next_marker(source: Source, position: int) -> tuple[int, int]:
    """The next marker's code and where its FF is; decoders skip stray bytes between segments, and so do we."""
    while position + 2 <= source.size:
        window = source.pread(position, min(4096, source.size - position))
        found = re.search(rb"\xff[^\x00\xff]", window)
        if found:
            return window[found.start() + 1], position + found.start()
        position += max(1, len(window) - 1)
    raise ImageReadError(source.path, "it ends before its first scan", "it is truncated: copy or export it again")


def minimal_jpeg(header: Header) -> bytes:
    """The same picture without EXIF, profiles, thumbnails and comments; refused if the scans do not end in EOI.

    Decoders fill what is missing with grey, in silence, so a file without its end is not handed to them.
    """
    detail = header.detail
    whole = header.source.read_all()
    view = memoryview(whole)
    kept = [view[start:end] for start, end in detail.keep]
    if detail.one_scan:
        # Nothing but restart markers can come between the scan and the end, so the end is simply the next EOI.
        end = whole.find(b"\xff\xd9", detail.scans)
        if end >= 0:
            return b"".join([b"\xff\xd8", *kept, view[detail.scans : end + 2]])
    position, scans = detail.scans, 1
    while True:
        (length,) = struct.unpack_from(">H", whole, position + 2) if position + 4 <= len(whole) else (0,)
        found = AFTER_SCAN.search(whole, position + 2 + length)
        if not found:
            raise ImageReadError(
                header.path, "its end (EOI) is missing", "it is truncated: copy it again, or cut the good part out"
            )
        marker, position = whole[found.end() - 1], found.end() - 2
        if marker == 0xD9:
            break
        scans += marker == 0xDA
        if scans > MAX_SCANS:
            raise ImageReadError(header.path, f"it has more than {MAX_SCANS} scans", "it is made to waste time")
    return b"".join([b"\xff\xd8", *kept, view[detail.scans : position + 2]])
