"""A window of a PNG costs the rows down to its last one, and gives the pixels of the whole."""

from __future__ import annotations

import io
import zlib

import imagecodecs
import numpy as np
import pytest
from PIL import Image

import segkit.io as sio
from test_io_generated import PNG_KINDS, png_bytes


def pictures():
    rng = np.random.default_rng(0)
    for dtype in ("uint8", "uint16"):
        for channels in (1, 2, 3, 4):
            yield f"{dtype} x {channels}", rng.integers(0, np.iinfo(dtype).max, (90, 37, channels)).astype(dtype)


PICTURES = dict(pictures())
WINDOWS = [(0, 0, 1, 1), (0, 5, 30, 9), (40, 0, 20, 37), (89, 36, 1, 1), (0, 0, 90, 37)]


@pytest.mark.parametrize("backend", ["auto", "opencv", "pillow", "tifffile"])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("name", PICTURES)
def test_a_window_of_a_png_is_the_part_of_the_whole(tmp_path, name, window, backend, capfd):
    image = PICTURES[name]
    sio.write_image(tmp_path / "a.png", image)
    if backend == "pillow" and name.startswith("uint16") and image.shape[2] > 1:
        pytest.skip("Pillow refuses deep colour")
    top, left, height, width = window
    part = sio.read_image(tmp_path / "a.png", window=window, backend=backend)
    np.testing.assert_array_equal(part, image[top : top + height, left : left + width])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("backend", ["auto", "opencv", "pillow", "tifffile"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("window", WINDOWS)
def test_a_window_of_a_palette_png_is_the_part_of_the_whole(tmp_path, bits, window, backend):
    mask = np.random.default_rng(0).integers(0, 1 << bits, (90, 37)).astype(np.uint8)
    picture = Image.fromarray(mask).convert("P")
    picture.putdata(mask.ravel().tolist())
    picture.putpalette(np.random.default_rng(1).integers(0, 255, 3 << bits, dtype=np.uint8).tobytes())
    picture.save(tmp_path / "a.png", bits=bits)
    top, left, height, width = window
    part = sio.read_mask(tmp_path / "a.png", window=window, backend=backend)
    np.testing.assert_array_equal(part, mask[top : top + height, left : left + width])


def test_a_window_at_the_top_of_a_png_with_too_many_pixels_is_read(tmp_path):
    sio.write_image(tmp_path / "a.png", PICTURES["uint8 x 3"])
    part = sio.read_image(tmp_path / "a.png", window=(0, 0, 2, 37), max_pixels=2 * 37)
    np.testing.assert_array_equal(part, PICTURES["uint8 x 3"][:2])
    with pytest.raises(OSError, match="max_pixels"):
        sio.read_image(tmp_path / "a.png", window=(88, 0, 2, 37), max_pixels=2 * 37)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_damage_below_the_window_does_not_matter_and_above_it_is_refused(tmp_path, dtype):
    image = np.random.default_rng(0).integers(0, 255, (400, 300, 3)).astype(dtype)
    sio.write_image(tmp_path / "a.png", image)
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[100] ^= 255
    (tmp_path / "b.png").write_bytes(data)
    with pytest.raises(OSError, match="b.png"):
        sio.read_image(tmp_path / "b.png", window=(0, 0, 200, 300))


def jpegs():
    rng = np.random.default_rng(0)
    smooth = np.kron(rng.integers(0, 255, (30, 23, 3)), np.ones((7, 5, 1)))[:203, :111].astype(np.uint8)
    for name, options in {
        "4:4:4": {"subsampling": 0},
        "4:2:2": {"subsampling": 1},
        "4:2:0": {"subsampling": 2},
        "restarts": {"restart_marker_blocks": 3},
        "progressive": {"progressive": True},
        "grey": {},
    }.items():
        out = io.BytesIO()
        Image.fromarray(smooth[..., 0] if name == "grey" else smooth).save(out, "JPEG", quality=90, **options)
        yield name, out.getvalue()


JPEGS = dict(jpegs())


@pytest.mark.parametrize("name", JPEGS)
def test_a_window_of_a_jpeg_is_the_part_of_the_whole(name, capfd):
    whole = sio.read_image(JPEGS[name], backend="opencv")
    for top, left, height, width in [(0, 0, 203, 111), (0, 0, 1, 1), (3, 9, 29, 30), (1, 2, 31, 8), (60, 0, 100, 111)]:
        for backend in ("auto", "opencv", "pillow", "tifffile"):
            part = sio.read_image(JPEGS[name], window=(top, left, height, width), backend=backend)
            np.testing.assert_array_equal(part, whole[top : top + height, left : left + width])
    assert capfd.readouterr() == ("", "")


def test_a_jpeg_is_decoded_down_to_its_window_and_refused_where_it_ends_above(monkeypatch):
    told, decode = [], imagecodecs.jpeg_decode

    def noted(data):
        told.append(decode(data).shape[0])
        return decode(data)

    monkeypatch.setattr(imagecodecs, "jpeg_decode", noted)
    whole = sio.read_image(JPEGS["4:2:0"])
    sio.read_image(JPEGS["4:2:0"], window=(0, 0, 40, 50))
    sio.read_image(JPEGS["progressive"], window=(0, 0, 40, 50))
    assert told == [203, 96, 203, 203]  # the last scan of a progressive one is checked, too
    size = len(JPEGS["4:2:0"])
    below, above = (JPEGS["4:2:0"][: size * share // 100] + b"\xff\xd9" for share in (90, 10))
    np.testing.assert_array_equal(sio.read_image(below, window=(0, 0, 40, 50)), whole[:40, :50])
    for data, window in ((below, None), (above, (0, 0, 40, 50))):
        with pytest.raises(OSError, match="end early"):
            sio.read_image(data, window=window)


FILTERS = [0, 1, 2, 3, 4, (0, 1, 2), (2, 1), (2, 2, 0), (1, 2, 3, 4), (4, 4, 4, 0, 2)]


@pytest.mark.parametrize(("color_type", "depth"), PNG_KINDS)
def test_a_window_is_exact_however_the_rows_are_filtered(color_type, depth):
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color_type]
    rng = np.random.default_rng(depth)
    truth = rng.integers(0, 1 << depth, (41, 29, channels)).astype("uint16" if depth == 16 else "uint8")
    shown = truth * (255 // ((1 << depth) - 1)) if color_type == 0 and depth in (2, 4) else truth
    for filtering in FILTERS:
        palette = bytes(range(3)) * (1 << depth) if color_type == 3 else b""
        data = png_bytes(truth, depth, color_type, filtering=filtering, palette=palette)
        for top, left, height, width in [
            (0, 0, 41, 29),
            (0, 3, 5, 7),
            (17, 11, 9, 13),
            (30, 0, 11, 29),
            (40, 28, 1, 1),
        ]:
            part = sio.read_image(data, window=(top, left, height, width), samples="stored")
            expected = shown[top : top + height, left : left + width]
            np.testing.assert_array_equal(part, expected, err_msg=f"{filtering} {top} {left}")


@pytest.mark.parametrize("filtering", [1, 4])
def test_a_png_is_read_where_libdeflate_is_missing_or_refuses(monkeypatch, filtering):
    truth = np.random.default_rng(0).integers(0, 255, (41, 29, 3), dtype=np.uint8)
    data = png_bytes(truth, 8, 2, filtering=filtering)
    longer = data.replace(data[data.index(b"IDAT") - 4 :], b"")
    rows = zlib.decompress(data[data.index(b"IDAT") + 4 : -16])  # the chunk's checksum, and IEND
    more = zlib.compress(rows + bytes(90))  # a row more than the header says
    longer += len(more).to_bytes(4, "big") + b"IDAT" + more + zlib.crc32(b"IDAT" + more).to_bytes(4, "big") + data[-12:]
    np.testing.assert_array_equal(sio.read_image(longer), truth)

    def missing(*arguments, **options):
        raise ImportError("no libdeflate here")

    monkeypatch.setattr(imagecodecs, "deflate_decode", missing)
    np.testing.assert_array_equal(sio.read_image(data), truth)
