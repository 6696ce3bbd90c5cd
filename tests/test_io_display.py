"""What a person would see, against Pillow's own conversions and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image

import segkit.io as sio
from segkit.errors import ImageReadError
from test_io_generated import png_bytes


def noise(*shape, top=255, dtype=np.uint8):
    return np.random.default_rng(list(shape)).integers(0, top, shape, dtype=dtype, endpoint=True)


def test_cmyk_looks_as_pillow_converts_it(tmp_path):
    ink = np.kron(noise(4, 5, 4), np.ones((8, 8, 1), np.uint8))  # flat blocks, which JPEG keeps
    for name, options in (("a.tif", {}), ("a.jpg", {"quality": 100, "subsampling": 0})):
        Image.fromarray(ink, "CMYK").save(tmp_path / name, **options)
        with Image.open(tmp_path / name) as image:
            np.testing.assert_array_equal(sio.read_image(tmp_path / name), np.asarray(image.convert("RGB")))


def test_ycbcr_looks_as_pillow_converts_it(tmp_path):
    image = Image.fromarray(noise(9, 11, 3), "YCbCr")
    image.save(tmp_path / "a.tif")
    expected = np.asarray(image.convert("RGB"))
    # Pillow's fixed-point tables round differently.
    assert np.abs(sio.read_image(tmp_path / "a.tif").astype(int) - expected).max() <= 1


@pytest.mark.usefixtures("pack_bits")
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 7])
def test_few_bits_fill_the_range_and_miniswhite_is_inverted(tmp_path, bits):
    top = (1 << bits) - 1
    shades = np.arange(top + 1, dtype=np.uint8)[None].repeat(3, 0)
    for photometric in ("minisblack", "miniswhite"):
        data = shades.astype(bool) if bits == 1 else shades
        tifffile.imwrite(tmp_path / "a.tif", data, photometric=photometric, bitspersample=None if bits == 1 else bits)
        shown = sio.read_image(tmp_path / "a.tif")[0, :, 0]
        expected = np.rint(np.linspace(0, 255, top + 1))
        np.testing.assert_array_equal(shown, expected if photometric == "minisblack" else expected[::-1])
        np.testing.assert_array_equal(sio.read_image(tmp_path / "a.tif", samples="stored")[..., 0], shades)
        np.testing.assert_array_equal(sio.read_mask(tmp_path / "a.tif", values="index"), shades)


@pytest.mark.usefixtures("pack_bits")
def test_deep_samples_stay_and_deep_miniswhite_is_inverted_within_its_depth(tmp_path):
    image = noise(5, 6, top=4095, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="minisblack", bitspersample=12)
    np.testing.assert_array_equal(sio.read_image(tmp_path / "a.tif")[..., 0], image)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="miniswhite", bitspersample=12)
    np.testing.assert_array_equal(sio.read_image(tmp_path / "a.tif")[..., 0], 4095 - image)


def test_channels_count_what_is_shown(tmp_path):
    sio.write_mask(tmp_path / "a.png", noise(4, 4, top=2), colors={(9, 8, 7): 0, (6, 5, 4): 1, (3, 2, 1): 2})
    whole = sio.read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(sio.read_image(tmp_path / "a.png", channels=[2, 0]), whole[..., [2, 0]])
    with pytest.raises(ValueError, match=r"channels must be among 0\.\.2, got \(3,\)"):
        sio.read_image(tmp_path / "a.png", channels=[3])


def test_channels_may_repeat_and_come_in_any_order_in_every_layout(tmp_path):
    image = noise(20, 30, 4, dtype=np.uint16)
    for planar in ("contig", "separate"):
        data = image if planar == "contig" else image.transpose(2, 0, 1)
        tifffile.imwrite(tmp_path / "a.tif", data, photometric="minisblack", planarconfig=planar, compression="zlib")
        part = sio.read_image(tmp_path / "a.tif", channels=[3, 1, 1], window=(2, 3, 5, 6))
        np.testing.assert_array_equal(part, image[2:7, 3:9, [3, 1, 1]])


def test_an_index_beyond_the_palette_is_an_error_when_shown(tmp_path):
    truth = np.full((4, 4, 1), 9, np.uint8)
    (tmp_path / "a.png").write_bytes(png_bytes(truth, 8, 3, palette=bytes([0, 0, 0, 255, 255, 255])))
    assert sio.read_mask(tmp_path / "a.png").max() == 9
    with pytest.raises(ImageReadError, match="a pixel names colour 9, but its palette has 2"):
        sio.read_image(tmp_path / "a.png")


def test_what_comes_back_may_be_written_to(tmp_path):
    sio.write_mask(tmp_path / "a.png", noise(1, 7))
    sio.write_mask(tmp_path / "p.png", noise(1, 7), colors={(0, 0, 0): 0})
    sio.write_image(tmp_path / "a.tif", noise(3, 7, 1, dtype=np.uint16))
    tifffile.imwrite(tmp_path / "b.tif", noise(3, 7))
    for name in ("a.png", "p.png", "a.tif", "b.tif"):
        for backend in ("opencv", "pillow", "tifffile"):
            assert sio.read_image(tmp_path / name, backend=backend).flags.writeable


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": (0, 0, 5)}, "window must be"),
        ({"window": (0, 0, 0, 5)}, "inside 4 x 6"),
        ({"window": (-1, 0, 2, 2)}, "inside 4 x 6"),
        ({"page": -1}, "page must be an integer of at least 0"),
        ({"level": 1.5}, "level must be an integer of at least 0"),
        ({"samples": "raw"}, "samples must be 'display' or 'stored'"),
        ({"orientation": "turn"}, "orientation must be 'apply', 'ignore' or None"),
        ({"channels": []}, "channels must be among"),
    ],
)
def test_wrong_arguments_are_value_errors(tmp_path, options, message):
    sio.write_image(tmp_path / "a.tif", noise(4, 6, 3))
    with pytest.raises(ValueError, match=message):
        sio.read_image(tmp_path / "a.tif", **options)
    if "samples" not in options:
        with sio.open_image(tmp_path / "a.tif") as handle, pytest.raises(ValueError, match=message):
            handle.read(**options)
