"""Hundreds of small files of every kind that tifffile, Pillow and a 30-line PNG writer can make; the truth is NumPy's.

For each file each backend gives exactly the samples that were written, or refuses; "auto" reads them all.
"""

from __future__ import annotations

import itertools
import os
import struct
import zlib

import imagecodecs
import numpy as np
import PIL
import pytest
import tifffile
from PIL import Image

import segkit.io as sio
from segkit.errors import ImageReadError

LONG = bool(os.environ.get("SEGKIT_LONG"))
BACKENDS = ["auto", "opencv", "pillow", "tifffile"]
HEIGHT, WIDTH = 37, 45  # no multiple of a tile or of 8


def samples(dtype, channels, bits=None):
    """Noise over the whole range on smooth ground, so that predictors and run lengths have something to do."""
    rng = np.random.default_rng([np.dtype(dtype).num, channels, bits or 0])
    ground = np.add.outer(np.arange(HEIGHT), np.arange(WIDTH))[..., None] + 7 * np.arange(channels)
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return (ground / 9 + rng.normal(size=ground.shape)).astype(dtype)
    top = (1 << bits) - 1 if bits else np.iinfo(dtype).max
    image = (ground % (min(top, 200) + 1)).astype(dtype)
    spots = rng.random(ground.shape) < 0.2
    image[spots] = rng.integers(0 if bits else np.iinfo(dtype).min, top, int(spots.sum()), dtype=dtype, endpoint=True)
    return image


def check(path, truth, *, what=""):
    """Exact or refused, from every backend; the number of backends that read it."""
    read = 0
    for backend in BACKENDS:
        try:
            image = sio.read_image(path, samples="stored", backend=backend)
        except ImageReadError:
            if backend == "auto":
                raise
            continue
        read += 1
        assert image.dtype == truth.dtype, f"{what}, {backend}"
        np.testing.assert_array_equal(image, truth, err_msg=f"{what}, {backend}")
    return read


def tiff_kinds():
    """(dtype, bits, photometric, channels, extrasamples) of pages."""
    for dtype in ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "float16", "float32", "float64"):
        yield dtype, None, "minisblack", 1, None
        yield dtype, None, "minisblack", 5, None
        if dtype in ("uint8", "uint16", "float32"):
            yield dtype, None, "minisblack", 2, ["unassalpha"]
            yield dtype, None, "rgb", 3, None
            yield dtype, None, "rgb", 4, ["assocalpha"]
            yield dtype, None, "rgb", 4, ["unassalpha"]
            yield dtype, None, "rgb", 5, ["unspecified", "unassalpha"]
            yield dtype, None, "separated", 4, None
        if dtype in ("uint8", "uint16"):
            yield dtype, None, "miniswhite", 1, None
            yield dtype, None, "palette", 1, None
    for bits in (2, 3, 4, 6, 7, 10, 12, 14):
        yield "uint8" if bits <= 8 else "uint16", bits, "minisblack", 1, None
        yield "uint8" if bits <= 8 else "uint16", bits, "rgb", 3, None
    yield "bool", 1, "minisblack", 1, None
    yield "bool", 1, "miniswhite", 1, None


COMPRESSIONS = [None, "lzw", "zlib", "deflate", "packbits", "lzma", "zstd"]


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_every_kind_of_tiff_is_exact_or_refused(tmp_path, compression):
    written = read = 0
    for kind, order, planar, tile in itertools.product(
        tiff_kinds(), "<>", ("contig", "separate"), (None, (16, 32), "strips")
    ):
        dtype, bits, photometric, channels, extra = kind
        if planar == "separate" and channels == 1:
            continue
        if not LONG and order == ">" and (tile == "strips" or planar == "separate"):
            continue
        if bits and bits > 8 and order == ">":
            continue  # tifffile packs the swapped bytes then: the file does not hold what was given
        truth = samples("uint8" if dtype == "bool" else dtype, channels, bits)
        predictors = [None] if bits else [None, True]
        for predictor in predictors:
            if predictor and compression in (None, "packbits") and order == ">":
                continue  # one byte order will do for the unusual
            options = {"rowsperstrip": 8} if tile == "strips" else {"tile": tile} if tile else {}
            page = truth.astype(bool) if dtype == "bool" else truth
            page = page[..., 0] if channels == 1 else page if planar == "contig" else page.transpose(2, 0, 1)
            if bits and bits not in (1, 8, 16):
                options["bitspersample"] = bits
            if photometric == "palette":
                options["colormap"] = samples("uint16", 3)[:1].repeat(1 << truth.itemsize * 8, 0)[:, 0].T.copy()
            if channels > 1:
                options["planarconfig"] = planar
            path = tmp_path / "a.tif"
            try:
                tifffile.imwrite(
                    path,
                    page,
                    byteorder=order,
                    photometric=photometric,
                    extrasamples=extra,
                    compression=compression,
                    predictor=predictor,
                    metadata=None,
                    bigtiff=order == ">" and tile is None,
                    compressionargs={"level": 0} if compression == "lzma" else None,
                    **options,
                )
            except Exception:
                continue  # tifffile cannot write this combination
            written += 1
            read += check(path, truth, what=f"{kind} {order} {planar} {tile} {compression} {predictor}")
    assert written > 150
    assert read >= 2 * written  # auto and tifffile read each of them, others some


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("compression", [1, 5, 8, 32773])
def test_24_bit_tiffs_are_exact(tmp_path, order, planar, compression):
    truth = samples("uint32", 3, 24)
    raw = truth.astype(">u4").view(np.uint8).reshape(HEIGHT, WIDTH, 3, 4)[..., 1:]  # high bits first in either order
    planes = raw.transpose(2, 0, 1, 3) if planar else [raw]
    encode = {1: bytes, 5: imagecodecs.lzw_encode, 8: zlib.compress, 32773: imagecodecs.packbits_encode}[compression]
    blocks = [encode(np.ascontiguousarray(plane).tobytes()) for plane in planes]
    entries, extra, place = [], b"", 8 + 2 + 11 * 12 + 4
    for tag, kind, values in [
        (256, "I", [WIDTH]),
        (257, "I", [HEIGHT]),
        (258, "H", [24] * 3),
        (259, "H", [compression]),
        (262, "H", [2]),
        (273, "I", [place + 100 + sum(map(len, blocks[:i])) for i in range(len(blocks))]),
        (277, "H", [3]),
        (278, "I", [HEIGHT]),
        (279, "I", [len(block) for block in blocks]),
        (284, "H", [2 if planar else 1]),
        (339, "H", [1] * 3),
    ]:
        data = struct.pack(f"{order}{len(values)}{kind}", *values)
        value = data.ljust(4, b"\0") if len(data) <= 4 else struct.pack(order + "I", place + len(extra))
        extra += data if len(data) > 4 else b""
        entries.append(struct.pack(order + "HHI", tag, {"H": 3, "I": 4}[kind], len(values)) + value)
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HIH", 42, 8, len(entries))
    (tmp_path / "a.tif").write_bytes(head + b"".join(entries) + bytes(4) + extra.ljust(100, b"\0") + b"".join(blocks))
    assert check(tmp_path / "a.tif", truth, what=f"{order} {planar} {compression}") == 2


@pytest.mark.parametrize("compression", ["jpeg2000", "webp", "lerc", "jpegxl"])
def test_tiffs_of_lossless_image_codecs_are_exact_or_refused(tmp_path, compression):
    options = {"jpeg2000": {"level": 0}, "webp": {"lossless": True}, "jpegxl": {"lossless": True}}.get(compression, {})
    if compression == "jpeg2000":
        options = {"reversible": True}
    count = 0
    for dtype, channels, tile in itertools.product(("uint8", "uint16"), (1, 3, 4), (None, (16, 32))):
        truth = samples(dtype, channels)
        try:
            tifffile.imwrite(
                tmp_path / "a.tif",
                truth[..., 0] if channels == 1 else truth,
                photometric="minisblack" if channels == 1 else "rgb",
                extrasamples=["unassalpha"] if channels == 4 else None,
                compression=compression,
                compressionargs=options,
                tile=tile,
                metadata=None,
            )
        except Exception:
            continue
        count += 1
        check(tmp_path / "a.tif", truth, what=f"{dtype} {channels} {tile}")
    assert count >= 2


FAX = ("group3", "group4", "tiff_ccitt")
PILLOW_MODES = {"1": 1, "L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4, "I;16": 1, "F": 1, "P": 1}


@pytest.mark.parametrize(
    "compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "group3", "group4", "tiff_ccitt"]
)
def test_tiffs_that_pillow_writes_are_exact_or_refused(tmp_path, compression):
    if compression in FAX and not getattr(getattr(imagecodecs, "CCITTFAX4", None), "available", False):
        pytest.skip("this version of imagecodecs decodes no fax codes")
    count = 0
    for mode, channels in PILLOW_MODES.items():
        dtype = {"I;16": "uint16", "F": "float32"}.get(mode, "uint8")
        truth = samples(dtype, channels, 1 if mode == "1" else None)
        if mode == "1":
            image = Image.fromarray(truth[..., 0] * 255).convert("1")
        elif mode == "P":
            image = Image.fromarray(truth[..., 0])
            image.putpalette(bytes(range(256)) * 3)
        else:
            image = Image.fromarray(truth[..., 0] if channels == 1 else truth, *(["CMYK"] if mode == "CMYK" else []))
        if compression in FAX and mode != "1":
            continue
        image.save(tmp_path / "a.tif", compression=compression)
        # Pillow calls bilevel miniswhite in fax codes, where it inverts the samples.
        stored = 1 - truth if mode == "1" and sio.image_info(tmp_path / "a.tif").photometric == "miniswhite" else truth
        check(tmp_path / "a.tif", stored, what=f"{mode} {compression}")
        if mode == "1":
            np.testing.assert_array_equal(sio.read_image(tmp_path / "a.tif"), truth * 255)
        count += 1
    assert count >= 1


ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]


def png_bytes(truth, depth, color_type, *, interlaced=False, filtering=0, palette=b"", trns=b"", parts=1):
    """A PNG from its definition (W3C PNG, sections 7 to 9); `truth` holds unscaled samples."""
    channels = truth.shape[2]

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    def rows(image):
        if 0 in image.shape:
            return b""
        flat = image.reshape(len(image), -1)
        if depth == 16:
            raw = flat.astype(">u2").view(np.uint8)
        elif depth == 8:
            raw = flat.astype(np.uint8)
        else:
            bits = (flat[..., None] >> np.arange(depth)[::-1] & 1).reshape(len(flat), -1)
            raw = np.packbits(bits.astype(np.uint8), axis=1)
        step = max(1, channels * depth // 8)
        left = np.zeros_like(raw)
        left[:, step:] = raw[:, :-step]
        up = np.zeros_like(raw)
        up[1:] = raw[:-1]
        corner = np.zeros_like(raw)
        corner[1:, step:] = raw[:-1, :-step]
        a, b, c = (x.astype(int) for x in (left, up, corner))
        p = a + b - c
        pa, pb, pc = abs(p - a), abs(p - b), abs(p - c)
        paeth = np.where((pa <= pb) & (pa <= pc), a, np.where(pb <= pc, b, c))
        predicted = [np.zeros_like(a), a, b, (a + b) // 2, paeth]
        out = b""
        for y in range(len(raw)):
            kinds = (0, 1, 2, 3, 4) if filtering == "all" else np.atleast_1d(filtering)
            kind = kinds[y % len(kinds)]
            out += bytes([kind]) + ((raw[y].astype(int) - predicted[kind][y]) & 255).astype(np.uint8).tobytes()
        return out

    passes = [truth[y::dy, x::dx] for y, x, dy, dx in ADAM7] if interlaced else [truth]
    data = zlib.compress(b"".join(rows(p) for p in passes))
    head = struct.pack(">IIBBBBB", truth.shape[1], truth.shape[0], depth, color_type, 0, 0, int(interlaced))
    size = -(-len(data) // parts)
    out = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head)
    out += chunk(b"PLTE", palette) if palette else b""
    out += chunk(b"tRNS", trns) if trns else b""
    out += chunk(b"gAMA", struct.pack(">I", 30000))  # a decoder that applied it would change every sample
    out += b"".join(chunk(b"IDAT", data[i : i + size]) for i in range(0, len(data), size))
    return out + chunk(b"IEND", b"")


PNG_KINDS = (
    [(0, d) for d in (1, 2, 4, 8, 16)] + [(3, d) for d in (1, 2, 4, 8)] + [(t, d) for t in (2, 4, 6) for d in (8, 16)]
)


@pytest.mark.parametrize(("color_type", "depth"), PNG_KINDS)
def test_every_kind_of_png_is_exact_or_refused(tmp_path, color_type, depth):
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color_type]
    truth = samples("uint16" if depth == 16 else "uint8", channels, depth)
    palette = bytes(range(3)) * (1 << depth) if color_type == 3 else b""
    for interlaced, filtering, transparent, parts in itertools.product((0, 1), (0, "all"), (0, 1), (1, 3)):
        trns = {0: b"\0\1", 2: b"\0\1\0\2\0\3", 3: b"\x80"}.get(color_type, b"") if transparent else b""
        data = png_bytes(
            truth,
            depth,
            color_type,
            interlaced=interlaced,
            filtering=filtering,
            palette=palette,
            trns=trns,
            parts=parts,
        )
        (tmp_path / "a.png").write_bytes(data)
        # Shades of 2 and 4 bits come spread over 0..255, as all PNG readers agree; see docs/io.md.
        stored = truth * (255 // ((1 << depth) - 1)) if color_type == 0 and depth in (2, 4) else truth
        read = check(tmp_path / "a.png", stored, what=f"{interlaced} {filtering} {trns!r}")
        assert read >= 2
        shown = [read_or_none(tmp_path / "a.png", backend) for backend in BACKENDS]
        shown = [image for image in shown if image is not None]
        for image in shown:
            np.testing.assert_array_equal(image, shown[0])
        if color_type == 3:
            assert shown[0].shape[2] == (4 if trns else 3)
            np.testing.assert_array_equal(shown[0][..., 2], truth[..., 0] * 0 + 2)
        elif depth < 8:
            np.testing.assert_array_equal(shown[0], truth * (255 // ((1 << depth) - 1)))


def read_or_none(path, backend):
    try:
        return sio.read_image(path, backend=backend)
    except ImageReadError:
        return None


PILLOW_OPTIONS = {"webp": {"lossless": True, "exact": True}, "gif": {"optimize": False}}


PILLOW_WRITES = {
    "bmp": ["1", "L", "P", "RGB", "RGBA"],
    "ppm": ["1", "L", "RGB"],
    "gif": ["L", "P"],
    "webp": ["RGB", "RGBA"],
    "jp2": ["L", "RGB", "RGBA"],
    "png": ["1", "L", "P", "RGB", "RGBA"],
}


@pytest.mark.parametrize(("ending", "mode"), [(e, m) for e, modes in PILLOW_WRITES.items() for m in modes])
def test_other_formats_that_pillow_writes_are_exact_or_refused(tmp_path, ending, mode):
    channels = {"1": 1, "L": 1, "P": 1, "RGB": 3, "RGBA": 4}[mode]
    truth = samples("uint8", channels, 1 if mode == "1" else None)
    if mode == "1":
        image = Image.fromarray(truth[..., 0] * 255).convert("1")
    elif mode == "P":
        image = Image.fromarray(truth[..., 0])
        image.putpalette(bytes(v // 3 for v in range(768)))
    else:
        image = Image.fromarray(truth[..., 0] if channels == 1 else truth)
    image.save(tmp_path / f"a.{ending}", **PILLOW_OPTIONS.get(ending, {}))
    stored = 1 - truth if (mode, ending) == ("1", "ppm") else truth
    if (mode, ending) == ("RGBA", "bmp"):
        stored = truth[..., :3]  # this header declares no alpha: the fourth byte is padding, says the format
    check(tmp_path / f"a.{ending}", stored, what=f"{mode} {ending}")
    if mode == "1":
        np.testing.assert_array_equal(sio.read_image(tmp_path / f"a.{ending}")[..., 0], truth[..., 0] * 255)


def run_length_bmp(truth, depth, *, ending=b"\0\1", literal=False):
    """A run-length BMP from its definition; `truth` is [H, W]."""
    rows = b""
    for row in truth[::-1]:
        column = 0
        while column < len(row):
            part = row[column : column + (8 if literal else 1)]
            packed = (
                bytes(part)
                if depth == 8
                else bytes(a << 4 | b for a, b in zip(part[::2], [*part[1::2], 0], strict=False))
            )
            if literal and len(part) > 2:
                rows += bytes([0, len(part)]) + packed + b"\0" * (len(packed) % 2)
            else:
                part = part[:1]
                rows += bytes([1, part[0] if depth == 8 else part[0] << 4])
            column += len(part)
        rows += b"\0\0"
    colors = bytes(4 << depth)
    head = struct.pack("<IiiHHIIiiII", 40, truth.shape[1], truth.shape[0], 1, depth, {8: 1, 4: 2}[depth], 0, 0, 0, 0, 0)
    data = rows[:-2] + ending if ending == b"\0\1" else rows + ending
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 54 + len(colors)) + head + colors + data


@pytest.mark.parametrize("literal", [False, True])
@pytest.mark.parametrize("depth", [4, 8])
def test_run_length_bmps_are_exact_if_every_row_is_filled(tmp_path, depth, literal):
    if depth == 4 and literal and int(PIL.__version__.split(".")[0]) < 13:
        pytest.skip("Pillow before 13 miscounts literal runs of 4 bits and says that the data ends early")
    truth = samples("uint8", 1, depth)
    data = run_length_bmp(truth[..., 0], depth, literal=literal)
    (tmp_path / "a.bmp").write_bytes(data)
    assert check(tmp_path / "a.bmp", truth, what=f"{depth} {literal}") == 2
    for broken in (data[:-40], run_length_bmp(truth[..., 0], depth, ending=b"\0\2\5\5\0\1")):
        (tmp_path / "b.bmp").write_bytes(broken)
        with pytest.raises(ImageReadError, match="its run lengths"):
            sio.read_image(tmp_path / "b.bmp")
