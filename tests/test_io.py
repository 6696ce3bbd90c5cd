"""Images and masks come back from every backend as they were written, or are refused."""

from __future__ import annotations

import io as stdio

import numpy as np
import pytest
import torch
from PIL import Image

import segkit.io as sio
from segkit.errors import ImageReadError, ImageWriteError

BACKENDS = ["auto", "opencv", "pillow", "tifffile"]


def noise(*shape, dtype=np.uint8, top=None):
    rng = np.random.default_rng([*shape, np.dtype(dtype).num])
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=shape).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max if top is None else top, shape, dtype=dtype, endpoint=True)


def read_or_refusal(path, **options):
    try:
        return sio.read_image(path, **options)
    except ImageReadError:
        return None


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_png_comes_back_bit_for_bit_or_is_refused(tmp_path, dtype, channels, backend):
    image = noise(5, 7, channels, dtype=dtype)
    sio.write_image(tmp_path / "a.png", image)
    back = read_or_refusal(tmp_path / "a.png", backend=backend)
    if backend == "auto":
        assert back is not None
    if back is not None:
        assert back.dtype == image.dtype
        np.testing.assert_array_equal(back, image)


@pytest.mark.parametrize(
    "dtype", ["uint8", "uint16", "uint32", "int8", "int16", "int32", "float16", "float32", "float64"]
)
@pytest.mark.parametrize("channels", [1, 3, 4, 13])
def test_a_tiff_of_any_dtype_and_band_count_comes_back_bit_for_bit(tmp_path, dtype, channels):
    image = noise(33, 17, channels, dtype=dtype)
    sio.write_image(tmp_path / "a.tif", image)
    back = sio.read_image(tmp_path / "a.tif")
    assert back.dtype == image.dtype
    np.testing.assert_array_equal(back, image)


def test_a_palette_mask_gives_its_indices_and_as_an_image_its_colours(tmp_path):
    mask = np.array([[0, 1, 2], [2, 255, 1]], np.uint8)
    sio.write_mask(tmp_path / "m.png", mask, colors={(0, 0, 0): 0, (10, 20, 30): 1, (255, 0, 0): 2})
    np.testing.assert_array_equal(sio.read_mask(tmp_path / "m.png"), mask)
    assert sio.read_image(tmp_path / "m.png")[0].tolist() == [[0, 0, 0], [10, 20, 30], [255, 0, 0]]
    again = sio.read_mask(
        tmp_path / "m.png", colors={(0, 0, 0): 7, (10, 20, 30): 8, (255, 0, 0): 9, (255, 255, 255): 1}
    )
    assert again.tolist() == [[7, 8, 9], [9, 1, 8]]


def test_a_coloured_mask_needs_colors_and_names_the_pixel_that_is_not_listed(tmp_path):
    rgb = np.zeros((2, 2, 3), np.uint8)
    rgb[1, 0] = (0, 0, 9)
    sio.write_image(tmp_path / "m.png", rgb)
    with pytest.raises(ImageReadError, match=r"3 channels .* pass colors"):
        sio.read_mask(tmp_path / "m.png")
    with pytest.raises(ImageReadError, match=r"\(0, 0, 9\) at row 1, column 0"):
        sio.read_mask(tmp_path / "m.png", colors={(0, 0, 0): 0})


def test_a_jpeg_reads_alike_through_all_backends(tmp_path):
    smooth = np.add.outer(np.arange(40), np.arange(50))[..., None].repeat(3, 2).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95)
    images = [sio.read_image(tmp_path / "a.jpg", backend=backend) for backend in BACKENDS]
    for image in images:
        assert image.shape == (40, 50, 3)
        assert np.abs(image.astype(int) - images[0]).max() <= 2


def test_exif_orientation_turns_image_and_mask_alike(tmp_path):
    mask = noise(6, 9, top=3)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[274] = orientation
        Image.fromarray(mask).save(tmp_path / "a.png", exif=exif)
        turned = sio.read_image(tmp_path / "a.png")
        np.testing.assert_array_equal(sio.read_mask(tmp_path / "a.png"), turned[..., 0])
        np.testing.assert_array_equal(sio.read_image(tmp_path / "a.png", orientation="ignore")[..., 0], mask)
        np.testing.assert_array_equal(sio.read_image(tmp_path / "a.png", samples="stored")[..., 0], mask)
        height, width = turned.shape[:2]
        part = sio.read_image(tmp_path / "a.png", window=(1, 2, height - 3, width - 4))
        np.testing.assert_array_equal(part, turned[1 : height - 2, 2 : width - 2])


def test_a_truncated_file_is_refused_with_its_name(tmp_path):
    Image.fromarray(noise(64, 64, 3)).save(tmp_path / "a.jpg")
    sio.write_image(tmp_path / "a.png", noise(64, 64, 3))
    sio.write_image(tmp_path / "a.tif", noise(64, 64, 3))
    for ending in ("jpg", "png", "tif"):
        data = (tmp_path / f"a.{ending}").read_bytes()
        (tmp_path / f"b.{ending}").write_bytes(data[: len(data) // 2])
        for backend in BACKENDS:
            with pytest.raises(ImageReadError, match=rf"b\.{ending}"):
                sio.read_image(tmp_path / f"b.{ending}", backend=backend)


def test_to_tensor_divides_by_the_stored_depth():
    image = noise(4, 5, 3, dtype=np.uint16, top=4095)
    tensor = sio.to_tensor(image, bits=12)
    assert tensor.dtype == torch.float32
    assert tensor.shape == (3, 4, 5)
    np.testing.assert_allclose(tensor.numpy(), image.transpose(2, 0, 1) / 4095.0, rtol=1e-6)
    with pytest.raises(ValueError, match="bits=8 must hold every value"):
        sio.to_tensor(image, bits=8)


def test_to_tensor_passes_floats_unchanged():
    image = noise(4, 5, 2, dtype=np.float32) * 100
    np.testing.assert_array_equal(sio.to_tensor(image).numpy(), image.transpose(2, 0, 1))


@pytest.mark.parametrize("bits", [1, 4, 8, 10, 12, 16])
def test_to_image_undoes_to_tensor(bits):
    image = noise(9, 8, 3, dtype=np.uint16 if bits > 8 else np.uint8, top=(1 << bits) - 1)
    np.testing.assert_array_equal(sio.to_image(sio.to_tensor(image, bits=bits), bits=bits), image)


def test_to_image_refuses_what_is_not_an_image_in_0_to_1():
    with pytest.raises(ValueError, match=r"lie in \[0, 1\]"):
        sio.to_image(torch.full((1, 2, 2), 3.0))
    with pytest.raises(ValueError, match=r"lie in \[0, 1\]"):
        sio.to_image(torch.full((1, 2, 2), float("nan")))


def test_writing_refuses_what_a_format_cannot_hold_and_names_one_that_can(tmp_path):
    with pytest.raises(ImageWriteError, match=r"13\. Write 'a\.tif'"):
        sio.write_image(tmp_path / "a.png", noise(2, 2, 13))
    with pytest.raises(ImageWriteError, match=r"float32\. Write 'a\.tif'"):
        sio.write_image(tmp_path / "a.png", noise(2, 2, 3, dtype=np.float32))
    with pytest.raises(ImageWriteError, match=r"JPEG changes values\. Write a \.png"):
        sio.write_mask(tmp_path / "a.jpg", noise(2, 2))
    assert list(tmp_path.iterdir()) == []


def test_a_window_and_channels_are_those_of_the_whole_image(tmp_path):
    image = noise(40, 30, 5, dtype=np.uint16)
    sio.write_image(tmp_path / "a.tif", image)
    part = sio.read_image(tmp_path / "a.tif", window=(7, 3, 20, 9), channels=[4, 0])
    np.testing.assert_array_equal(part, image[7:27, 3:12, [4, 0]])
    with pytest.raises(ValueError, match="inside 40 x 30"):
        sio.read_image(tmp_path / "a.tif", window=(30, 0, 11, 5))


@pytest.mark.parametrize(
    ("start", "what", "hint"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer", "git lfs pull"),
        (b"<!DOCTYPE html><html><body>404", "web page", "[Dd]ownload it again"),
        (b'<?xml version="1.0"?><svg/>', "drawing in XML", "PNG"),
        (b"\x1f\x8b\x08\0" + bytes(90), "gzip", "gunzip"),
        (b"PK\x03\x04" + bytes(90), "zip archive", "[Uu]npack"),
        (b"\x93NUMPY\x01\0" + bytes(90), "NumPy array", "backend"),
        (b"\x89HDF\r\n\x1a\n" + bytes(90), "HDF5", "backend"),
        (bytes(128) + b"DICM" + bytes(90), "DICOM", "backend"),
        (b"\x5c\x01\0\0" + bytes(340) + b"n+1\0", "NIfTI", "backend"),
        (b"8BPS\0\x01" + bytes(90), "Photoshop", "PNG or TIFF"),
        (bytes(5000), "begins with zeros", "[Cc]opy it again"),
    ],
)
def test_a_file_that_is_something_else_is_called_by_its_name(tmp_path, start, what, hint):
    (tmp_path / "a.png").write_bytes(start)
    with pytest.raises(ImageReadError, match=f"{what}.*{hint}"):
        sio.read_image(tmp_path / "a.png")


def test_something_that_is_no_image_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"hello, world")
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(ImageReadError, match="no image format"):
        sio.read_image(tmp_path / "a.png")
    with pytest.raises(ImageReadError, match="is empty"):
        sio.read_image(tmp_path / "empty.png")
    with pytest.raises(ImageReadError, match="cannot be opened"):
        sio.read_image(tmp_path / "missing.png")
    with pytest.raises(ImageReadError, match="it is a folder"):
        sio.read_image(tmp_path)


def test_a_png_chunk_that_would_inflate_without_end_is_never_inflated(tmp_path):
    out = stdio.BytesIO()
    Image.fromarray(noise(8, 8)).save(out, "PNG")
    data = out.getvalue()
    import struct
    import zlib

    bomb = b"comment\0\0" + zlib.compress(bytes(50_000_000))
    chunk = struct.pack(">I", len(bomb)) + b"zTXt" + bomb + struct.pack(">I", zlib.crc32(b"zTXt" + bomb))
    (tmp_path / "a.png").write_bytes(data[:33] + chunk + data[33:])
    for backend in BACKENDS:
        np.testing.assert_array_equal(sio.read_image(tmp_path / "a.png", backend=backend)[..., 0], noise(8, 8))


def test_importing_io_loads_neither_torch_nor_an_image_library():
    import subprocess
    import sys

    code = "import segkit.io, sys; print({'torch', 'PIL', 'cv2', 'tifffile', 'imagecodecs'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


@pytest.mark.parametrize(
    "view", [lambda a: a, lambda a: a[::-1, ::-2], lambda a: a[3:, :, ::-1], lambda a: a.swapaxes(0, 1)]
)
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("dtype", "bits"), [(np.uint8, 8), (np.uint16, 16), (np.uint16, 12)])
def test_to_tensor_divides_each_channel_whatever_the_strides(view, channels, dtype, bits):
    pixels = view(np.random.default_rng(0).integers(0, 2**bits, (400, 700, channels), dtype))
    pixels.flags.writeable = False
    expected = np.moveaxis(pixels, -1, 0).astype(np.float32) / np.float32(2**bits - 1)
    np.testing.assert_array_equal(sio.to_tensor(pixels, bits=bits).numpy(), expected)
