"""Sound files that few readers take: subsampled YCbCr, BMP masks, wide JPEG 2000, plain PNM, unsorted tags."""

from __future__ import annotations

import itertools
import struct
import zlib

import imagecodecs
import numpy as np
import pytest

import segkit.io as sio
from segkit.errors import ImageReadError

RNG = np.random.default_rng(0)
ENCODERS = {1: bytes, 5: imagecodecs.lzw_encode, 8: zlib.compress, 32773: imagecodecs.packbits_encode}
LAYOUTS = {"one strip": {}, "strips": {"rows": 8}, "tiles": {"tile": (16, 32)}}


def tiff(tags, blocks, order="<", *, tiled=False):
    """A TIFF of (tag, type, values), with the places of its blocks."""
    codes = {3: "H", 4: "I", 5: "I"}
    at = 8
    starts = [at + sum(map(len, blocks[:i])) for i in range(len(blocks))]
    at += sum(map(len, blocks))
    offsets, sizes = (324, 325) if tiled else (273, 279)
    tags = sorted([*tags, (offsets, 4, starts), (sizes, 4, [len(b) for b in blocks])])
    out, behind = [], at + 2 + 12 * len(tags) + 4
    tail = b""
    for tag, kind, values in tags:
        data = struct.pack(order + codes[kind] * len(values), *values)
        count = len(values) // (2 if kind == 5 else 1)
        if len(data) > 4:
            data, tail = struct.pack(order + "I", behind + len(tail)), tail + data
        out.append(struct.pack(order + "HHI", tag, kind, count) + data.ljust(4, b"\0"))
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, at)
    return b"".join([head, *blocks, struct.pack(order + "H", len(tags)), *out, bytes(4), tail])


def subsampled(height, width, across, down, compression, *, rows=None, tile=None, order="<", limits=None):
    """A YCbCr TIFF and its samples, chroma repeated for the pixels that it stands for."""
    high, wide = -(-height // down), -(-width // across)
    luma = RNG.integers(0, 256, (high * down, wide * across)).astype(np.uint8)
    chroma = RNG.integers(0, 256, (2, high, wide)).astype(np.uint8)
    truth = np.stack([luma, *chroma.repeat(down, 1).repeat(across, 2)], 2)[:height, :width]
    step = tile or (rows or high * down, wide * across)
    luma = np.pad(luma, ((0, -len(luma) % step[0] if tile else 0), (0, -luma.shape[1] % step[1])))
    pad = ((0, 0), (0, luma.shape[0] // down - high), (0, luma.shape[1] // across - wide))
    groups = luma.reshape(luma.shape[0] // down, down, -1, across).swapaxes(1, 2)
    groups = groups.reshape(*groups.shape[:2], across * down)
    units = np.concatenate([groups, np.pad(chroma, pad).transpose(1, 2, 0)], 2)
    tall, broad = step[0] // down, step[1] // across
    corners = itertools.product(range(0, units.shape[0], tall), range(0, units.shape[1], broad))
    blocks = [units[y : y + tall, x : x + broad] for y, x in corners]
    blocks = [bytes(ENCODERS[compression](np.ascontiguousarray(block).tobytes())) for block in blocks]
    tags = [(256, 4, [width]), (257, 4, [height]), (258, 3, [8, 8, 8]), (259, 3, [compression]), (262, 3, [6])]
    tags += [(277, 3, [3]), (284, 3, [1]), (530, 3, [across, down])]
    tags += [(322, 4, [tile[1]]), (323, 4, [tile[0]])] if tile else [(278, 4, [min(rows or height, height)])]
    if limits:
        tags.append((532, 5, [v for limit in limits for v in (limit, 1)]))
    return tiff(tags, blocks, order, tiled=tile is not None), truth


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("compression", ENCODERS)
@pytest.mark.parametrize("sampling", [(2, 2), (2, 1), (4, 1), (1, 2)])
def test_subsampled_ycbcr_is_read_sample_by_sample(sampling, compression, layout):
    for (height, width), order in zip([(37, 45), (32, 64), (1, 1)], "<><", strict=True):
        data, truth = subsampled(height, width, *sampling, compression, order=order, **LAYOUTS[layout])
        np.testing.assert_array_equal(sio.read_image(data, samples="stored"), truth)
        part = sio.read_image(data, samples="stored", window=(height // 2, width // 2, 1, 1))
        np.testing.assert_array_equal(part[0, 0], truth[height // 2, width // 2])
        libtiff = imagecodecs.tiff_decode(data, asrgb=True)[..., :3].astype(int)
        assert abs(sio.read_image(data) - libtiff).max() <= 2  # it rounds otherwise


def test_subsampled_ycbcr_that_is_cut_is_refused():
    # Uncompressed blocks are as long as they must be, whatever a writer says of them.
    for compression, layout in itertools.product([c for c in ENCODERS if c != 1], LAYOUTS):
        data, _ = subsampled(37, 45, 2, 2, compression, **LAYOUTS[layout])
        start = struct.unpack_from("<I", data, 4)[0]
        sizes = 325 if layout == "tiles" else 279
        at = start + 2 + 12 * [struct.unpack_from("<H", data, start + 2 + 12 * i)[0] for i in range(12)].index(sizes)
        number, place = struct.unpack_from("<II", data, at + 4)
        place = at + 8 if number == 1 else place
        for keep in (0.2, 0.6, 0.95):
            whole = struct.unpack_from("<I", data, place)[0]
            cut = data[:place] + struct.pack("<I", int(whole * keep)) + data[place + 4 :]
            with pytest.raises(ImageReadError):
                sio.read_image(cut)


def test_the_limits_of_ycbcr_samples_are_kept():
    data, stored = subsampled(6, 8, 2, 2, 1, limits=(16, 235, 128, 240, 128, 240))
    y, cb, cr = ((stored.astype(float) - (16, 128, 128)) / (219, 112, 112)).transpose(2, 0, 1)
    rgb = np.stack([y + 0.701 * cr, y - 0.114 * 0.886 / 0.587 * cb - 0.299 * 0.701 / 0.587 * cr, y + 0.886 * cb], 2)
    # libtiff counts chroma to 127, not to 127.5
    assert abs(sio.read_image(data) - (rgb * 255).clip(0, 255)).max() < 1.5
    with pytest.raises(ImageReadError, match="limits"):
        sio.read_image(subsampled(6, 8, 2, 2, 1, limits=(16, 16, 128, 240, 128, 240))[0])


MASKS = {
    16: [(0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F), (0x7C00, 0x3E0, 0x1F, 0x8000), (0xF00, 0xF0, 0xF, 0xF000)],
    32: [(0xFF, 0xFF00, 0xFF0000, 0xFF000000), (0xFF000000, 0xFF0000, 0xFF00), (0x1F, 0x3E0, 0x7C00)],
}


def bmp(words, depth, masks, size, *, downwards=False):
    """A BMP whose pixels are words of 16 or 32 bits, with a header of `size` bytes."""
    rows = [row.astype(f"<u{depth // 8}").tobytes() for row in words]
    pixels = b"".join(row + bytes(-len(row) % 4) for row in (rows if downwards else rows[::-1]))
    height, width = words.shape
    kind = 6 if len(masks) == 4 and size == 40 else 3
    high = -height if downwards else height
    head = struct.pack("<IiiHHIIiiII", size, width, high, 1, depth, kind, len(pixels), 0, 0, 0, 0)
    head = (head + struct.pack(f"<{len(masks)}I", *masks)).ljust(size, b"\0")
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + len(pixels), 0, 0, 14 + len(head)) + head + pixels


@pytest.mark.parametrize("size", [40, 52, 56, 108, 124])
@pytest.mark.parametrize(("depth", "masks"), [(depth, masks) for depth in MASKS for masks in MASKS[depth]])
def test_a_bmp_of_any_masks_is_read(depth, masks, size):
    if len(masks) == 4 and size == 52:
        return  # it has no place for alpha
    words = RNG.integers(0, 1 << depth, (7, 5), dtype=np.uint64)
    for downwards in (False, True):
        image = sio.read_image(bmp(words, depth, masks, size, downwards=downwards))
        for channel, mask in enumerate(masks):
            lowest = mask & -mask
            expected = (words & np.uint64(mask)) // np.uint64(lowest) * np.uint64(255) // np.uint64(mask // lowest)
            np.testing.assert_array_equal(image[..., channel], expected)
        assert image.shape == (7, 5, len(masks))


@pytest.mark.parametrize("masks", [(0x3FF00000, 0xFFC00, 0x3FF), (0xF, 0xF, 0xF), (0, 0xFF00, 0xFF), (0x505, 8, 2)])
def test_masks_of_a_bmp_that_overlap_or_hold_more_than_8_bits_are_refused(masks):
    with pytest.raises(ImageReadError, match="masks"):
        sio.read_image(bmp(np.zeros((3, 4), np.uint32), 32, masks, 40))


@pytest.mark.parametrize("form", ["jp2", "j2k"])
@pytest.mark.parametrize("channels", [1, 3, 4, 5, 13])
@pytest.mark.parametrize(("dtype", "bits"), [("int8", 8), ("int16", 16), ("int16", 12), ("uint16", 10)])
def test_jpeg_2000_of_any_sign_and_number_of_components_is_read(dtype, bits, channels, form):
    top = 1 << (bits - 1)
    image = RNG.integers(-top if dtype[0] == "i" else 0, top, (20, 30, channels)).astype(dtype)
    options = {"level": 0, "reversible": True, "codecformat": form, "bitspersample": bits}
    data = bytes(imagecodecs.jpeg2k_encode(image[..., 0] if channels == 1 else image, **options))
    read = sio.read_image(data, samples="stored")
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, image)


@pytest.mark.parametrize("top", [15, 255, 4095, 65535])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_pnm_in_plain_text_is_read(top, channels):
    image = RNG.integers(0, top, (5, 6, channels), endpoint=True).astype(np.uint8 if top < 256 else np.uint16)
    head = f"P{2 if channels == 1 else 3}\n# by hand\n6 5\n{top}\n"
    data = (head + "\n".join(" ".join(map(str, row.ravel())) for row in image)).encode()
    read = sio.read_image(data + b"\n", samples="stored")
    assert read.dtype == image.dtype
    np.testing.assert_array_equal(read, image)
    for wrong in (data.rsplit(b" ", 1)[0], data[:60] + b"x" + data[61:], data.replace(b" ", b" 9999", 20)):
        with pytest.raises(ImageReadError):
            sio.read_image(wrong.replace(b"6 99995", b"6 5"))


def test_a_jpeg_of_two_components_is_read():
    data = imagecodecs.jpeg_encode(RNG.integers(0, 255, (20, 30, 2)).astype(np.uint8), level=95)
    np.testing.assert_array_equal(sio.read_image(bytes(data)), imagecodecs.jpeg_decode(data))


@pytest.mark.parametrize("tag", [40961, 50341, 50215, 34118, 65000, 61111])
def test_a_private_tag_out_of_order_is_read(tag):
    """Cameras and microscopes add their own at the end; none of them is a damaged tag that the picture needs."""
    tags = [(256, 4, [3]), (257, 4, [2]), (258, 3, [8]), (262, 3, [1]), (277, 3, [1]), (278, 4, [2])]
    data = bytearray(tiff([*tags, (279 + 1000, 3, [1])], [bytes(range(6))]))
    # The last entry is ours: let it be the first.
    start = struct.unpack_from("<I", data, 4)[0]
    entries = [bytes(data[start + 2 + 12 * i : start + 14 + 12 * i]) for i in range(9)]
    data[start + 2 : start + 2 + 12 * 9] = b"".join([struct.pack("<H", tag) + entries[-1][2:], *entries[:-1]])
    assert sio.read_image(bytes(data)).ravel().tolist() == list(range(6))
