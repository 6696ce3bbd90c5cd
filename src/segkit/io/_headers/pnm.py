"""PNM, PAM and PFM: formats that are little more than a header and the samples."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from segkit.errors import ImageReadError
from segkit.io._headers.info import Header, ImageInfo
from segkit.io._headers.source import Source

MAX_PLAIN = 1 << 24  # numbers in plain text take seconds to read beyond this


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
    """The samples [H, W, C] of a PAM, a plain PGM or PPM or a colour PFM, which lie in the file as they are."""
    info, layout = header.info, header.detail
    if layout.kind in ("P2", "P3"):
        return _plain_samples(header)
    order = "<" if layout.kind == "PF" and layout.top < 0 else ">"  # a PFM's sign says the order of its bytes
    count = info.height * info.width * info.channels
    stored = np.frombuffer(header.source.read_all(), np.dtype(order + info.dtype.str[1:]), count, layout.start)
    image = stored.reshape(info.height, info.width, info.channels).astype(info.dtype)
    return image[::-1] if layout.kind == "PF" else image  # and its rows go upwards


def _plain_samples(header: Header) -> np.ndarray:
    """Numbers spelled out."""
    info, layout = header.info, header.detail
    text = re.sub(rb"#[^\n\r]*", b"", header.source.read_all()[layout.start :])
    count = info.height * info.width * info.channels
    if not re.fullmatch(rb"[0-9\s]*", text):
        raise ImageReadError(
            header.path, "it spells out something that is not a number", "the file is damaged: export it again"
        )
    numbers = np.fromstring(text, np.int64, sep=" ")[:count]  # told the count, it makes up what is missing
    if len(numbers) < count:
        reason = f"it spells out {len(numbers)} of {count} numbers"
        raise ImageReadError(header.path, reason, "it is truncated: copy or export it again")
    if numbers.max() > layout.top:
        reason = f"a sample is {numbers.max()}, and its largest value is {layout.top:g}"
        raise ImageReadError(header.path, reason, "the file is damaged: export it again")
    return numbers.astype(info.dtype).reshape(info.height, info.width, info.channels)
