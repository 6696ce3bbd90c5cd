"""Each line of the table "what the file says, and what you get" of docs/io.md: made, and read in all three ways."""

from __future__ import annotations

import pathlib
import re
import warnings

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

import segkit.io as sio
from segkit.errors import ImageReadError, ImageReadWarning
from segkit.io._backends.tiff_blocks import minimal_tiff, read_blocks
from segkit.io._headers.parse import parse
from segkit.io._headers.source import Source

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "io.md"
RNG = np.random.default_rng(0)
LABELS = np.kron(RNG.integers(0, 4, (3, 4)), np.ones((8, 8), int)).astype(np.uint8)  # 24 x 32
RGB = np.kron(RNG.integers(0, 256, (3, 4, 3)), np.ones((8, 8, 1), int)).astype(np.uint8)
DEEP = RNG.integers(0, 4096, (24, 32), dtype=np.uint16)
COLORS = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)


def is_read(path, shown=None, stored=None, mask=None, **more):
    """The three readings are these arrays; grey images are given as [H, W]. `more` are further `values` of masks."""
    for expected, options in ((shown, {}), (stored, {"samples": "stored"})):
        if expected is not None:
            expected = expected[..., None] if expected.ndim == 2 else expected
            image = sio.read_image(path, **options)
            np.testing.assert_array_equal(image, expected)
            assert image.dtype == expected.dtype
    for values, expected in {None: mask, **more}.items():
        if expected is not None:
            found = sio.read_mask(path) if values is None else sio.read_mask(path, values=values)
            np.testing.assert_array_equal(found, expected)


def grey_integers(path):
    for dtype in ("uint8", "uint16", "uint32", "int16", "int32"):
        image = (DEEP.astype(np.int64) - 9 * (dtype[0] == "i")).astype(dtype)
        tifffile.imwrite(path / f"{dtype}.tif", image)
        is_read(path / f"{dtype}.tif", image, image, image)
    cv2.imwrite(str(path / "a.png"), DEEP)
    is_read(path / "a.png", DEEP, DEEP, DEEP)


def one_bit(path):
    bits = LABELS > 1
    for name, options in (("black.tif", {}), ("white.tif", {"tiffinfo": {262: 0}}), ("a.png", {}), ("a.pbm", {})):
        Image.fromarray(bits).save(path / name, **options)
        is_read(path / name, bits * np.uint8(255), None, bits, grey=bits * 255)
        zero_is_white = sio.image_info(path / name).photometric == "miniswhite"
        stored = sio.read_image(path / name, samples="stored")[..., 0]
        np.testing.assert_array_equal(stored, bits ^ (zero_is_white or name == "a.pbm"))
    assert sio.image_info(path / "white.tif").photometric == "miniswhite"


def few_bits(path):
    tifffile.imwrite(path / "a.tif", LABELS, bitspersample=4, photometric="minisblack")
    is_read(path / "a.tif", LABELS * 17, LABELS, LABELS, index=LABELS)
    Image.fromarray(LABELS).convert("L").save(path / "a.png", bits=2)
    data = imagecodecs.png_encode(LABELS * 17)
    (path / "b.png").write_bytes(data)
    is_read(path / "b.png", LABELS * 17, LABELS * 17, LABELS * 17)


def white_is_zero(path):
    tifffile.imwrite(path / "a.tif", LABELS, photometric="miniswhite")
    is_read(path / "a.tif", 255 - LABELS, LABELS, LABELS, grey=255 - LABELS)


def colour_palette(path):
    image = Image.fromarray(LABELS)
    image.putpalette(COLORS.tobytes())
    for name in ("a.png", "a.gif", "a.bmp", "a.tif"):
        image.save(path / name)
        is_read(path / name, COLORS[LABELS], LABELS, LABELS)
    image.save(path / "clear.png", transparency=0)
    clear = np.dstack([COLORS[LABELS], (LABELS > 0) * np.uint8(255)])
    is_read(path / "clear.png", clear, LABELS, LABELS)


def grey_palette(path):
    levels = np.array([0, 100, 200, 250], np.uint8)
    image = Image.fromarray(LABELS)
    image.putpalette(levels.repeat(3).tobytes())
    for name in ("a.png", "a.gif", "a.bmp"):
        image.save(path / name)
        shown = levels[sio.read_mask(path / name, values="index")]
        is_read(path / name, shown, None, shown)
        np.testing.assert_array_equal(shown, levels[LABELS])
    image.putpalette(bytes([0, 0, 0, 9, 9, 9, 9, 9, 9, 50, 50, 50]))  # two look alike
    image.save(path / "alike.png")
    is_read(path / "alike.png", None, LABELS, LABELS)
    bits = Image.fromarray((LABELS > 1).view(np.uint8))
    bits.putpalette(bytes([0, 0, 0, 255, 255, 255]))
    bits.save(path / "bit.png", bits=1)
    is_read(path / "bit.png", None, None, LABELS > 1)


def coloured(path):
    sio.write_image(path / "a.png", COLORS[LABELS])
    is_read(path / "a.png", COLORS[LABELS], COLORS[LABELS])
    table = {tuple(color): label for label, color in enumerate(COLORS.tolist())}
    np.testing.assert_array_equal(sio.read_mask(path / "a.png", colors=table), LABELS)
    del table[0, 0, 255]
    with pytest.raises(ImageReadError, match="not among `colors`"):
        sio.read_mask(path / "a.png", colors=table)
    found = sio.read_mask(path / "a.png", colors=table, unknown=255)
    np.testing.assert_array_equal(found, np.where(LABELS == 3, 255, LABELS))


def equal_channels(path):
    sio.write_image(path / "a.png", np.dstack([LABELS] * 3))
    is_read(path / "a.png", np.dstack([LABELS] * 3), np.dstack([LABELS] * 3), LABELS)


def red_channel(path):
    image = np.dstack([LABELS, 0 * LABELS, 0 * LABELS])
    sio.write_image(path / "a.png", image)
    is_read(path / "a.png", image, image, None, index=LABELS)
    with pytest.raises(ImageReadError, match="red channel"):
        sio.read_mask(path / "a.png")


def alpha(path):
    full = np.full_like(LABELS, 255)
    for name, veil in (("opaque.png", full), ("black.png", np.where(LABELS > 0, full, 0))):
        image = np.dstack([LABELS, veil])
        sio.write_image(path / name, image)
        is_read(path / name, image, image, LABELS)
    sio.write_image(path / "hides.png", np.dstack([LABELS, np.where(LABELS > 2, 0, full)]))
    with pytest.raises(ImageReadError):
        sio.read_mask(path / "hides.png")


def floats(path):
    for dtype in (np.float32, np.float64):
        tifffile.imwrite(path / "a.tif", LABELS.astype(dtype))
        is_read(path / "a.tif", LABELS.astype(dtype), LABELS.astype(dtype), LABELS)
        assert sio.read_mask(path / "a.tif").dtype.kind in "iu"
    tifffile.imwrite(path / "nan.tif", np.where(LABELS == 3, np.nan, LABELS).astype(np.float32))
    np.testing.assert_array_equal(sio.read_mask(path / "nan.tif", unknown=255), np.where(LABELS == 3, 255, LABELS))
    tifffile.imwrite(path / "half.tif", LABELS / np.float32(2))
    with pytest.raises(ImageReadError, match="not a class"):
        sio.read_mask(path / "half.tif")


def deep(path):
    for bits in (10, 12, 14):
        image = DEEP >> 12 - min(bits, 12)
        (path / "a.jp2").write_bytes(imagecodecs.jpeg2k_encode(image, level=0, bitspersample=bits, reversible=True))
        is_read(path / "a.jp2", image, image, image)
        assert sio.image_info(path / "a.jp2").bits_per_sample == bits


def inks(path):
    ink = np.kron(RNG.integers(0, 256, (3, 4, 4)), np.ones((8, 8, 1), int)).astype(np.uint8)
    Image.fromarray(ink, "CMYK").save(path / "a.tif")
    is_read(path / "a.tif", np.asarray(Image.open(path / "a.tif").convert("RGB")), ink)
    image = Image.fromarray(RGB).convert("YCbCr")
    image.save(path / "y.tif")
    np.testing.assert_array_equal(sio.read_image(path / "y.tif", samples="stored"), np.asarray(image))
    assert abs(sio.read_image(path / "y.tif").astype(int) - np.asarray(image.convert("RGB"))).max() <= 1
    Image.fromarray(RGB).save(path / "a.jpg", quality=100, subsampling=0)
    is_read(path / "a.jpg", np.asarray(Image.open(path / "a.jpg")), np.asarray(Image.open(path / "a.jpg")))
    block = imagecodecs.jpeg2k_encode(np.asarray(image), level=0, codecformat="j2k", reversible=True, mct=False)
    tifffile.imwrite(path / "aperio.tif", RGB, photometric="rgb", metadata=None)
    with Source(str(path / "aperio.tif")) as source:
        page = parse(source).detail
        assert len(read_blocks(page, range(1))) == 1
        (path / "33003.tif").write_bytes(minimal_tiff(type(page)(**{**vars(page), "compression": 33003}), [block]))
    assert abs(sio.read_image(path / "33003.tif").astype(int) - RGB).max() <= 2


def subsampled(path):
    # One chroma sample for 2 x 2 pixels: Y Y Y Y Cb Cr, by hand.
    data = bytes([50, 60, 70, 80, 128, 128]) * (12 * 16)
    tags = [(256, 32), (257, 24), (258, (8, 8, 8)), (259, 1), (262, 6), (277, 3), (278, 24), (530, (2, 2))]
    tifffile.imwrite(path / "plain.tif", RGB, photometric="rgb", metadata=None, rowsperstrip=24)
    raw = bytearray(b"II*\0\x08\0\0\0")
    entries = [*tags, (273, 8 + 2 + 12 * 10 + 4 + 6), (279, len(data))]
    raw += len(entries).to_bytes(2, "little")
    for tag, value in sorted(entries, key=lambda entry: entry[0]):
        values = value if isinstance(value, tuple) else (value,)
        many = len(values) > 2
        kind, size = (4, 4) if len(values) == 1 else (3, 2)
        body = b"".join(v.to_bytes(size, "little") for v in values).ljust(4, b"\0")
        body = (8 + 2 + 12 * 10 + 4).to_bytes(4, "little") if many else body
        raw += tag.to_bytes(2, "little") + kind.to_bytes(2, "little") + len(values).to_bytes(4, "little") + body
    raw += bytes(4) + b"\x08\0\x08\0\x08\0" + data
    (path / "a.tif").write_bytes(raw)
    luma = np.tile(np.array([[50, 60], [70, 80]], np.uint8), (12, 16))
    is_read(path / "a.tif", np.dstack([luma] * 3), np.dstack([luma, np.full_like(luma, 128), np.full_like(luma, 128)]))


def masked_bmp(path):
    five = RGB >> 3
    words = (five[..., 0].astype(np.uint16) << 11 | five[..., 1].astype(np.uint16) << 6 | five[..., 2])[::-1]
    head = b"BM" + (70 + words.nbytes).to_bytes(4, "little") + bytes(4) + (70).to_bytes(4, "little")
    head += (40).to_bytes(4, "little") + (32).to_bytes(4, "little") + (24).to_bytes(4, "little")
    head += b"\1\0\x10\0" + (3).to_bytes(4, "little") + bytes(20)
    masks = b"".join(value.to_bytes(4, "little") for value in (0xF800, 0x07C0, 0x001F, 0))
    (path / "a.bmp").write_bytes(head + masks + words.astype("<u2").tobytes())
    spread = (five * 255.0 // 31).astype(np.uint8)
    is_read(path / "a.bmp", spread, spread)


def orientation(path):
    tifffile.imwrite(path / "a.tif", LABELS, extratags=[(274, 3, 1, 6, True)])
    turned = np.rot90(LABELS, -1)
    is_read(path / "a.tif", turned, LABELS, turned)
    np.testing.assert_array_equal(sio.read_mask(path / "a.tif", orientation="ignore"), LABELS)
    np.testing.assert_array_equal(sio.read_image(path / "a.tif", orientation="ignore")[..., 0], LABELS)


def nodata(path):
    tifffile.imwrite(path / "a.tif", LABELS, extratags=[(42113, 2, 2, "3", True)])
    is_read(path / "a.tif", LABELS, LABELS, LABELS)
    assert sio.image_info(path / "a.tif").nodata == 3


def no_pages(path):
    with tifffile.TiffWriter(path / "a.tif") as file:
        file.write(LABELS, metadata=None)
        file.write(LABELS > 0, subfiletype=4, photometric="mask", metadata=None)
        file.write(LABELS[::2, ::2], subfiletype=1, metadata=None)  # a reduced copy
    assert sio.image_info(path / "a.tif").pages == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        is_read(path / "a.tif", LABELS, LABELS, LABELS)
    with sio.open_image(path / "a.tif") as handle:
        np.testing.assert_array_equal(handle.read_valid(), LABELS > 0)


def pages(path):
    stack = np.stack([LABELS, LABELS + 1, LABELS + 2])
    for name, options in (("imagej.tif", {"imagej": True}), ("shaped.tif", {"photometric": "minisblack"})):
        tifffile.imwrite(path / name, stack, **options)
        with pytest.warns(ImageReadWarning, match="pages"):
            is_read(path / name, LABELS)
        assert sio.image_info(path / name).pages == 3
        np.testing.assert_array_equal(sio.read_image(path / name, page=2)[..., 0], LABELS + 2)
        np.testing.assert_array_equal(sio.read_image(path / name, page="channels"), np.moveaxis(stack, 0, -1))
        np.testing.assert_array_equal(sio.read_mask(path / name, page=1), LABELS + 1)


def profile(path):
    Image.fromarray(RGB).save(path / "a.png", icc_profile=b"a profile")
    assert sio.image_info(path / "a.png").icc == b"a profile"
    is_read(path / "a.png", RGB, RGB)


LINES = {
    "grey of 8 bits or more, integers": grey_integers,
    "one bit, whether 0 means black or white": one_bit,
    "grey of 2 to 7 bits": few_bits,
    "white is zero (miniswhite), more than one bit": white_is_zero,
    "a palette with colours": colour_palette,
    "a palette of greys (a grey BMP or GIF; a PNG that a tool made smaller)": grey_palette,
    "a coloured picture and `colors=`": coloured,
    "three equal channels": equal_channels,
    "a label in the red channel alone": red_channel,
    "an alpha channel": alpha,
    "floats": floats,
    "10, 12, 14 bits": deep,
    "CMYK, YCbCr (also Aperio's compression 33003)": inks,
    "subsampled YCbCr in a TIFF that is not JPEG": subsampled,
    "a BMP of 16 or 32 bits with masks of its own": masked_bmp,
    "EXIF or TIFF orientation": orientation,
    "nodata (GDAL)": nodata,
    "a mask page, a thumbnail, a reduced copy": no_pages,
    "several pages, or planes of ImageJ, tifffile, MetaMorph": pages,
    "a colour profile": profile,
}


@pytest.mark.parametrize("line", LINES)
def test_a_file_is_read_as_the_table_says(tmp_path, line):
    LINES[line](tmp_path)


def test_every_line_of_the_table_is_tried():
    text = PAGE.read_text().split("| the file says | ", 1)[1].split("\n\n", 1)[0]
    assert re.findall(r"^\| ([^|]+?) \|", text, re.MULTILINE)[1:] == list(LINES)
