"""Every coder in every container: the whole picture, or a refusal. And formats that imagecodecs alone decodes."""

from __future__ import annotations

import io
import struct

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

import segkit.io as sio
from segkit.errors import ImageReadError
from segkit.io._backends.tiff_blocks import minimal_tiff, read_blocks
from segkit.io._headers.parse import parse
from segkit.io._headers.source import Source

y, x = np.mgrid[:64, :64]
NOISE = np.random.default_rng(0).integers(0, 100, (64, 64, 3))
IMAGE = (np.stack([(3 * x + y) % 256, (x + 2 * y) % 256, x * y // 8 % 256], 2) // 2 + NOISE).astype(np.uint8)


def jpeg2000(image):
    return imagecodecs.jpeg2k_encode(image, level=0, codecformat="j2k")


FRAMES = {
    "jpeg": lambda image: imagecodecs.jpeg_encode(image, level=90),
    "webp": lambda image: imagecodecs.webp_encode(image, lossless=True),
    "jpeg2000": jpeg2000,
    "jpegxl": imagecodecs.jpegxl_encode,
    "lerc": imagecodecs.lerc_encode,
}
LAYOUTS = {"tiles": {"tile": (32, 32)}, "strips": {"rowsperstrip": 32}}


def blocks_of(path):
    with Source(str(path)) as source:
        page = parse(source).detail
        return page, read_blocks(page, range(page.grid[0] * page.grid[1]))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "compression", ["lzw", "zlib", "packbits", "zstd", "lzma", "webp", "jpeg", "jpeg2000", "jpegxl", "lerc"]
)
def test_a_block_that_ends_early_is_refused_or_whole(tmp_path, compression, layout):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, IMAGE, photometric="rgb", compression=compression, metadata=None, **LAYOUTS[layout])
    whole = sio.read_image(path)
    page, blocks = blocks_of(path)
    refused = 0
    for keep in (0.05, 0.3, 0.5, 0.7):
        for end in (b"", b"\xff\xd9", bytes(40)):
            cut = [*blocks[:1], blocks[1][: int(len(blocks[1]) * keep)] + end, *blocks[2:]]
            try:
                np.testing.assert_array_equal(sio.read_image(minimal_tiff(page, cut)), whole)
            except ImageReadError:
                refused += 1
    assert refused >= 8


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("compression", FRAMES)
@pytest.mark.parametrize("shape", [(32, 96), (48, 64), (64, 128), (16, 64)])
def test_a_frame_that_is_not_of_the_size_of_its_place_is_refused(tmp_path, compression, layout, shape):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, IMAGE, photometric="rgb", compression=compression, metadata=None, **LAYOUTS[layout])
    page, blocks = blocks_of(path)
    other = np.ascontiguousarray(np.tile(IMAGE, (1, 2, 1))[: shape[0], : shape[1] // (2 if page.tiled else 1)])
    with pytest.raises(ImageReadError, match="block 0|cannot be reshaped"):
        sio.read_image(minimal_tiff(page, [bytes(FRAMES[compression](other)), *blocks[1:]]))


@pytest.mark.parametrize("container", [False, True])
@pytest.mark.parametrize("shape", [(37, 53, 3), (37, 53), (30, 40, 4), (64, 128, 2), (300, 400, 3)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_jpeg_xl_is_read_as_its_decoder_has_it(shape, dtype, container):
    image = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    image = image / 200 if dtype == "float32" else image
    data = bytes(imagecodecs.jpegxl_encode(image.astype(dtype), lossless=True, usecontainer=container))
    info = sio.image_info(data)
    assert (info.format, info.height, info.width, info.dtype) == ("JPEG XL", *shape[:2], dtype)
    expected = imagecodecs.jpegxl_decode(data).reshape(*shape[:2], -1)
    np.testing.assert_array_equal(sio.read_image(data), expected)
    np.testing.assert_array_equal(sio.read_image(data, window=(1, 2, 3, 4)), expected[1:4, 2:6])


@pytest.mark.parametrize(("shape", "bits"), [((37, 53, 3), 8), ((37, 53), 8), ((30, 40, 4), 8), ((30, 40, 3), 10)])
def test_avif_is_read_as_its_decoder_has_it(shape, bits):
    image = np.random.default_rng(0).integers(0, 1 << bits, shape).astype(np.uint8 if bits == 8 else np.uint16)
    data = bytes(imagecodecs.avif_encode(image, level=100, bitspersample=bits))
    info = sio.image_info(data)
    assert (info.format, info.bits_per_sample, info.dtype) == ("AVIF", bits, image.dtype)
    np.testing.assert_array_equal(sio.read_image(data), imagecodecs.avif_decode(data).reshape(*shape[:2], -1))


@pytest.mark.parametrize("encode", [imagecodecs.avif_encode, imagecodecs.jpegxl_encode, jpeg2000])
def test_a_file_of_a_new_format_that_ends_early_is_refused(encode):
    data = bytes(encode(IMAGE))
    for keep in (0.02, 0.3, 0.5, 0.9, 0.99):
        with pytest.raises(ImageReadError):
            sio.read_image(data[: int(len(data) * keep)])


def test_a_heic_that_nobody_can_decode_says_so():
    def box(kind, body):
        return struct.pack(">I4s", 8 + len(body), kind) + body

    hvcc = bytes(16) + b"\x01\0\0" + bytes(4)
    properties = box(b"ispe", bytes(4) + struct.pack(">II", 6, 4)) + box(b"hvcC", hvcc)
    associations = box(b"ipma", bytes(4) + struct.pack(">IHBBB", 1, 1, 2, 1, 2))
    body = box(b"pitm", bytes(4) + struct.pack(">H", 1)) + box(b"iprp", box(b"ipco", properties) + associations)
    data = box(b"ftyp", b"heic\0\0\0\0mif1heic") + box(b"meta", bytes(4) + body)
    info = sio.image_info(data)
    assert (info.format, info.height, info.width, info.channels, info.bits_per_sample) == ("HEIC", 4, 6, 3, 8)
    with pytest.raises(ImageReadError, match="HEIC"):
        sio.read_image(data)


@pytest.mark.parametrize("form", ["j2k", "jp2"])
def test_bytes_behind_a_codestream_do_no_harm(form):
    image = np.random.default_rng(0).integers(0, 512, (32, 32), np.uint16)
    data = imagecodecs.jpeg2k_encode(image, level=0, codecformat=form, reversible=True, bitspersample=9)
    for tail in (b"", b"\0", bytes(300)) if form == "j2k" else (b"", bytes(8)):
        np.testing.assert_array_equal(sio.read_image(data + tail)[..., 0], image)


def test_the_colours_of_aperios_jpeg_2000_are_rgb(tmp_path):
    """openslide#772: compression 33003 holds YCbCr, whatever PhotometricInterpretation says."""
    rgb = np.zeros((32, 32, 3), np.uint8)
    rgb[..., 0], rgb[:16, :, 2], rgb[:, :16, 1] = 200, 160, 40
    to_ycbcr = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    ycbcr = np.rint(rgb @ to_ycbcr.T + [0, 128, 128]).astype(np.uint8)
    for code, stored in ((33003, ycbcr), (33005, rgb)):
        block = imagecodecs.jpeg2k_encode(stored, level=0, codecformat="j2k", reversible=True, mct=False)
        tifffile.imwrite(tmp_path / "a.tif", rgb, photometric="rgb", metadata=None)
        page, _ = blocks_of(tmp_path / "a.tif")
        (tmp_path / "a.tif").write_bytes(
            minimal_tiff(type(page)(**{**vars(page), "compression": code}), [bytes(block)])
        )
        assert abs(sio.read_image(tmp_path / "a.tif").astype(int) - rgb).max() <= 2
        np.testing.assert_array_equal(sio.read_image(tmp_path / "a.tif", samples="stored"), stored)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_colour_pfm_is_read(order):
    image = np.random.default_rng(0).random((6, 8, 3), np.float32)
    head = b"PF\n8 6\n-1.0\n" if order == "<" else b"PF\n8 6\n1.0\n"
    data = head + image[::-1].astype(order + "f4").tobytes()
    np.testing.assert_array_equal(sio.read_image(data), image)
    np.testing.assert_array_equal(sio.read_image(data, window=(1, 2, 3, 4), channels=[2]), image[1:4, 2:6, 2:])
    with pytest.raises(ImageReadError):
        sio.read_image(data[:-1])


@pytest.mark.parametrize("top", [1, 100, 255, 4095, 65535])
@pytest.mark.parametrize(("channels", "kind"), [(1, "GRAYSCALE"), (2, "GRAYSCALE_ALPHA"), (3, "RGB"), (4, "RGB_ALPHA")])
def test_a_pam_is_read(top, channels, kind):
    image = np.random.default_rng(0).integers(0, top + 1, (6, 8, channels)).astype(np.uint8 if top < 256 else np.uint16)
    head = f"P7\nWIDTH 8\nHEIGHT 6\nDEPTH {channels}\nMAXVAL {top}\nTUPLTYPE {kind}\nENDHDR\n".encode()
    data = head + image.astype(image.dtype.newbyteorder(">")).tobytes()
    np.testing.assert_array_equal(sio.read_image(data, samples="stored"), image)
    for wrong in (data[:-1], data[:20], data.replace(b"WIDTH 8", b"WIDTH x")):
        with pytest.raises(ImageReadError):
            sio.read_image(wrong)


def pillow(form, **options):
    def encode(image):
        out = io.BytesIO()
        Image.fromarray(image).save(out, form, **options)
        return out.getvalue()

    return encode


def in_tiff(compression, **options):
    def encode(image):
        out = io.BytesIO()
        tifffile.imwrite(out, image, photometric="rgb", compression=compression, metadata=None, **options)
        return out.getvalue()

    return encode


def fax(image):
    out = io.BytesIO()
    Image.fromarray(image[..., 0] > 100).save(out, "TIFF", compression="group4")
    return out.getvalue()


WHOLE_FILES = {
    "jpeg": pillow("JPEG", quality=90),
    "progressive jpeg": pillow("JPEG", quality=90, progressive=True),
    "jpeg 4:4:4 with restarts": pillow("JPEG", quality=90, subsampling=0, restart_marker_rows=1),
    "12-bit jpeg": lambda image: imagecodecs.jpeg_encode(image.astype(np.uint16) * 16, bitspersample=12),
    "lossless jpeg": lambda image: imagecodecs.ljpeg_encode(np.ascontiguousarray(image[..., 0])),
    "png": pillow("PNG"),
    "interlaced png": lambda image: imagecodecs.png_encode(image),
    "16-bit png": lambda image: imagecodecs.png_encode(image.astype(np.uint16) * 257),
    "palette png": lambda image: pillow("PNG")(image[..., 0]),
    "gif": lambda image: pillow("GIF")(image[..., 0]),
    "webp": pillow("WEBP", quality=80),
    "lossless webp": pillow("WEBP", lossless=True),
    "bmp": pillow("BMP"),
    "pnm": pillow("PPM"),
    "jpeg 2000": pillow("JPEG2000"),
    "jpeg xl": imagecodecs.jpegxl_encode,
    "jpeg xl in boxes": lambda image: imagecodecs.jpegxl_encode(image, usecontainer=True),
    "avif": imagecodecs.avif_encode,
    "fax": fax,
    **{
        f"{'big ' if big else ''}tiff {code}": in_tiff(code, bigtiff=big, rowsperstrip=64)
        for code in (None, "lzw", "zlib", "packbits", "zstd", "lzma", "webp", "jpeg", "jpeg2000", "jpegxl", "lerc")
        for big in (False, True)
    },
}


@pytest.mark.parametrize("form", WHOLE_FILES)
def test_a_file_that_ends_early_is_refused_whatever_its_coder(form):
    data = bytes(WHOLE_FILES[form](IMAGE))
    sio.read_image(data)
    for keep in (0.05, 0.2, 0.4, 0.6, 0.8, 0.95):
        # A TIFF written in one go has its directory first, so what is missing is pixels.
        for end in (b"", b"\xff\xd9", bytes(2000)):
            cut = data[: int(len(data) * keep)] + end
            # A JPEG that is closed again within its last block goes unseen.
            if "jpeg" in form and end == b"\xff\xd9" and keep > 0.8 and "progressive" not in form:
                continue
            if len(cut) < len(data):
                with pytest.raises(ImageReadError):
                    sio.read_image(cut)


SEVERAL_SCANS = {
    "progressive": pillow("JPEG", quality=90, progressive=True),
    "progressive 4:4:4": pillow("JPEG", quality=90, progressive=True, subsampling=0),
    "progressive grey": lambda image: pillow("JPEG", quality=75, progressive=True)(image[..., 0]),
}


@pytest.mark.parametrize("container", ["jpeg", "pillow", "opencv", "strips", "tiles"])
@pytest.mark.parametrize("form", SEVERAL_SCANS)
def test_a_jpeg_of_several_scans_that_is_cut_in_the_last_and_closed_again_is_refused(form, container):
    """What is missing are the last bits of coefficients, which no pixel shows."""
    data = bytes(SEVERAL_SCANS[form](IMAGE))
    last = data.rindex(b"\xff\xda")
    if container in ("strips", "tiles"):
        out = io.BytesIO()
        image = IMAGE[..., 0] if "grey" in form else IMAGE
        kind = {"photometric": "minisblack" if "grey" in form else "ycbcr", "metadata": None}
        tifffile.imwrite(out, image, compression="jpeg", **kind, **({"tile": (64, 64)} if container == "tiles" else {}))
        with Source(out.getvalue()) as source:
            page = parse(source).detail

    def read(jpeg):
        if container in ("strips", "tiles"):
            return sio.read_image(minimal_tiff(page, [jpeg]))
        return sio.read_image(jpeg, backend="auto" if container == "jpeg" else container)

    whole = read(data)
    for keep in (1, 0.99, 0.9, 0.5, 0.1):
        cut = data[: last + 12 + int((len(data) - last - 16) * keep)]
        cut = cut[: len(cut) - (cut[-1] == 0xFF)] + b"\xff\xd9"
        with pytest.raises(ImageReadError, match="data end early"):
            read(cut)
    assert whole.shape[:2] == (64, 64)


@pytest.mark.parametrize("code", ["lzw", "zlib", "packbits", "zstd", "jpeg", "jpeg2000", "webp", "lerc"])
@pytest.mark.parametrize("big", [False, True])
def test_a_later_page_that_is_cut_is_refused_and_the_first_is_read(tmp_path, code, big):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path, bigtiff=big) as file:
        for _ in range(3):
            file.write(IMAGE, photometric="rgb", compression=code, rowsperstrip=64, metadata=None)
    with tifffile.TiffFile(path) as file:
        places = [(page.dataoffsets[0], page.databytecounts[0]) for page in file.pages]
        tag = file.pages[2].tags["StripByteCounts"]
    whole = sio.read_image(path, page=0)
    data = bytearray(path.read_bytes())
    size = places[2][1] * 2 // 3
    data[tag.valueoffset : tag.valueoffset + 4] = struct.pack("<I", size)
    np.testing.assert_array_equal(sio.read_image(bytes(data), page=0), whole)
    np.testing.assert_array_equal(sio.read_image(bytes(data), page=1), whole)
    for page in (2, "channels"):
        with pytest.raises(ImageReadError):
            sio.read_image(bytes(data), page=page)
