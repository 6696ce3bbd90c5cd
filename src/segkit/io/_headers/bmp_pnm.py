"""BMP, PNM and PFM: formats that are little more than a header and the samples."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

import numpy as np

from segkit.errors import ImageReadError
from segkit.io._headers.info import Header, ImageInfo
from segkit.io._headers.source import Source

# Channel masks of 16 and 32 bits per pixel: (red, green, blue) and whether the rest is alpha.
MASKS_16 = {(0x7C00, 0x3E0, 0x1F), (0xF800, 0x7E0, 0x1F)}
MAX_PLAIN = 1 << 24  # numbers in plain text take seconds to read beyond this
MAX_RUN_PIXELS = 1 << 24  # run lengths are walked in Python
MASK_BGRX = (0xFF0000, 0xFF00, 0xFF)


def parse_bmp(source: Source) -> Header:
    """A Windows bitmap.

    Raises:
        ImageReadError: malformed, truncated, or of a kind whose readers disagree.
    """

    def bad(reason: str, hint: str = "the file is damaged or truncated: copy or export it again") -> ImageReadError:
        return ImageReadError(source.path, reason, hint)

    (offset, size) = struct.unpack("<II", source.pread(10, 8)) if source.size >= 54 else (0, 0)
    if size == 12:
        width, height, planes, depth = struct.unpack("<HHHH", source.pread(18, 8))
        compression = used = 0
    elif size in (40, 52, 56, 64, 108, 124) and 14 + size <= source.size:
        width, height, planes, depth, compression, _, _, _, used, _ = struct.unpack("<iiHHIIiiII", source.pread(18, 36))
    else:
        raise bad(f"its header of {size} bytes is no known BMP header")
    if width <= 0 or height == 0 or planes != 1:
        raise bad(f"its header says {width} x {height} pixels and {planes} planes")
    run_length = {1: 8, 2: 4}.get(compression)
    if run_length:
        if depth != run_length or height < 0:
            raise bad(f"run lengths of kind {compression} do not go with {depth} bits, or from the top down")
        compression = 0
    place = 14 + size
    masks: tuple[int, ...] = ()
    if compression == 3 and size in (40, 52, 56, 64, 108, 124):
        masks = struct.unpack("<III", source.pread(54, 12))
        place = max(place, 66)
    elif compression != 0:
        raise bad(f"its compression {compression} is unknown", "save it without compression")
    colors = used or (1 << depth if depth <= 8 else 0)
    palette = None
    channels = 3
    if depth in (1, 4, 8) and not compression:
        if colors > 1 << depth:
            raise bad(f"it has {colors} colours for {depth} bits")
        width_of_color = 3 if size == 12 else 4
        table = np.frombuffer(source.pread(place, colors * width_of_color), np.uint8).reshape(-1, width_of_color)
        palette, channels = table[:, 2::-1], 1
    elif not (
        (depth == 24 and not compression)
        or (depth == 16 and (not compression or masks in MASKS_16))
        or (depth == 32 and (not compression or (masks == MASK_BGRX and _alpha_mask(source, size) in (0, 0xFF000000))))
    ):
        raise bad(f"{depth} bits per pixel with the masks {masks} are unusual", "save it with 24 bits per pixel")
    if depth == 32 and compression and _alpha_mask(source, size):
        channels = 4
    if run_length:
        _check_runs(source, offset, width, height, depth)
        offset = source.size  # checked already, and not of a size that the header tells
    stride = (width * depth + 31) // 32 * 4
    if offset < place or (not run_length and offset + stride * abs(height) > source.size):
        raise bad(f"it holds {source.size - offset} of {stride * abs(height)} bytes of pixels")
    info = ImageInfo(
        "BMP",
        abs(height),
        width,
        channels,
        np.dtype(np.uint8),
        depth if palette is not None else 8,
        "palette" if palette is not None else "rgb",
        level_shapes=((abs(height), width),),
    )
    return Header(info, source, depth, palette=palette, alpha="straight" if channels == 4 else "none")


def _check_runs(source: Source, offset: int, width: int, height: int, depth: int) -> None:
    """Run lengths must fill every row exactly and then end. Where they do not, each decoder goes its own way."""

    def bad(where: int, what: str) -> ImageReadError:
        reason = f"its run lengths {what} at byte {where}, which each decoder reads in its own way"
        return ImageReadError(source.path, reason, "save it without compression")

    if width * height > MAX_RUN_PIXELS:
        raise ImageReadError(source.path, f"{width * height} pixels in run lengths", "save it without compression")
    data = source.pread(offset, source.size - offset) if offset < source.size else b""
    position = row = column = 0
    while row < height:
        if position + 2 > len(data):
            raise bad(offset + position, "end early")
        count, value = data[position], data[position + 1]
        position += 2
        if count:
            column += count
        elif value == 0:
            if column != width:
                raise bad(offset + position, f"fill {column} of {width} columns")
            row, column = row + 1, 0
        elif value == 1:
            if row != height - 1 or column != width:
                raise bad(offset + position, f"stop in row {row} of {height}")
            return
        elif value == 2:
            raise bad(offset + position, "skip pixels")
        else:
            column += value
            position += (value * depth // 8 + value * depth % 8 // 4 + 1) // 2 * 2
        if column > width:
            raise bad(offset + position, "leave the row")
    if data[position : position + 2] != b"\0\1":
        raise bad(offset + position, "do not end")


def _alpha_mask(source: Source, size: int) -> int:
    return struct.unpack("<I", source.pread(66, 4))[0] if size >= 56 else 0


@dataclass(frozen=True)
class PnmLayout:
    """Kind ("P1" to "P7", "Pf", "PF"), the largest value, and where the samples start."""

    kind: str
    top: float
    start: int


def parse_pnm(source: Source) -> Header:
    """PBM, PGM, PPM (plain and raw), PAM and PFM.

    Raises:
        ImageReadError: malformed or truncated.
    """

    def bad(reason: str) -> ImageReadError:
        return ImageReadError(source.path, reason, "the file is damaged or truncated: copy or export it again")

    start = source.pread(0, min(4096, source.size))
    kind = start[:2].decode("latin-1")
    if kind == "P7":
        return _parse_pam(source, start)
    comment = rb"(?:\s|#[^\n\r]*[\n\r])+"
    number = rb"(\d{1,9})"
    last = (
        comment + (rb"([-+]?[0-9.eE+-]{1,32})" if kind in ("Pf", "PF") else number) if kind not in ("P1", "P4") else b""
    )
    found = re.match(start[:2] + comment + number + comment + number + last + rb"\s", start)
    if not found:
        raise bad(f"its {kind} header is malformed")
    width, height = int(found[1]), int(found[2])
    try:
        top = float(found[3]) if last else 1.0
    except ValueError:
        raise bad(f"its {kind} header is malformed") from None
    channels = 3 if kind in ("P3", "P6", "PF") else 1
    if not width or not height or top == 0 or (kind not in ("Pf", "PF") and not 1 <= top <= 65535):
        raise bad(f"its header says {width} x {height} pixels and a largest value of {top}")
    depth = 32 if kind in ("Pf", "PF") else int(top).bit_length()
    dtype = np.dtype(np.float32 if kind in ("Pf", "PF") else np.uint8 if top < 256 else np.uint16)
    samples = width * height * channels
    if kind in ("P1", "P2", "P3") and samples > MAX_PLAIN:
        raise ImageReadError(source.path, f"it spells out {samples} numbers", "convert it to the binary kind")
    need = {"P4": (width + 7) // 8 * height, "P1": samples, "P2": 2 * samples - 1, "P3": 2 * samples - 1}
    if found.end() + need.get(kind, samples * dtype.itemsize) > source.size:
        raise bad(f"{source.size - found.end()} bytes do not hold {width} x {height} pixels")
    info = ImageInfo(
        "PFM" if kind in ("Pf", "PF") else "PNM",
        height,
        width,
        channels,
        dtype,
        depth,
        "rgb" if channels == 3 else "miniswhite" if kind in ("P1", "P4") else "minisblack",
        level_shapes=((height, width),),
    )
    return Header(info, source, PnmLayout(kind, top, found.end()))


def _parse_pam(source: Source, start: bytes) -> Header:
    """A PAM: any number of channels of up to 16 bits."""
    end = start.find(b"ENDHDR\n")
    said: dict[str, str] = {}
    for line in start[3 : max(end, 3)].decode("latin-1").splitlines():
        name, _, value = line.partition(" ")
        said.setdefault(name, value.strip())
    sizes = [said.get(name, "") for name in ("WIDTH", "HEIGHT", "DEPTH", "MAXVAL")]
    if end < 0 or not all(size.isdecimal() and len(size) < 10 and int(size) for size in sizes):
        raise ImageReadError(source.path, "its P7 header is malformed", "copy or export it again")
    width, height, channels, top = map(int, sizes)
    dtype = np.dtype(np.uint8 if top < 256 else np.uint16)
    begin = end + len(b"ENDHDR\n")
    if top > 65535 or channels > 65535 or begin + width * height * channels * dtype.itemsize > source.size:
        reason = f"{source.size - begin} bytes do not hold {width} x {height} x {channels} samples up to {top}"
        raise ImageReadError(source.path, reason, "the file is damaged or truncated: copy or export it again")
    info = ImageInfo(
        "PNM",
        height,
        width,
        channels,
        dtype,
        top.bit_length(),
        "rgb" if channels in (3, 4) else "minisblack",
        level_shapes=((height, width),),
    )
    alpha = "straight" if said.get("TUPLTYPE", "").endswith("_ALPHA") else "none"
    return Header(info, source, PnmLayout("P7", top, begin), alpha=alpha)


def raw_samples(header: Header) -> np.ndarray:
    """The samples [H, W, C] of a PAM or a colour PFM, which lie in the file as they are."""
    info, layout = header.info, header.detail
    order = "<" if layout.kind == "PF" and layout.top < 0 else ">"  # a PFM's sign says the order of its bytes
    count = info.height * info.width * info.channels
    stored = np.frombuffer(header.source.read_all(), np.dtype(order + info.dtype.str[1:]), count, layout.start)
    image = stored.reshape(info.height, info.width, info.channels).astype(info.dtype)
    return image[::-1] if layout.kind == "PF" else image  # and its rows go upwards
