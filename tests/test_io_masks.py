"""What `read_mask` refuses, and how it says so."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image

import segkit.io as sio

BACKENDS = ["auto", "opencv", "pillow", "tifffile"]
COLORS = {(0, 0, 0): 0, (255, 0, 0): 1}


@pytest.fixture
def folder(tmp_path):
    """One file for each reason to refuse it."""
    mask = np.arange(64, dtype=np.uint8).reshape(8, 8)
    sio.write_mask(tmp_path / "mask.png", mask)
    sio.write_image(tmp_path / "color.png", np.stack([mask, mask + 1, mask + 2], 2))
    sio.write_image(tmp_path / "deep.png", np.stack([mask, mask, mask], 2).astype(np.uint16))
    tifffile.imwrite(tmp_path / "float.tif", mask.astype(np.float32) + 0.5)
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "cut.png").write_bytes((tmp_path / "mask.png").read_bytes()[:-20])
    data = bytearray((tmp_path / "mask.png").read_bytes())
    data[data.index(b"IDAT") + 8] ^= 255
    (tmp_path / "damaged.png").write_bytes(data)
    Image.fromarray(mask).save(tmp_path / "mask.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "mask.jpg").read_bytes()[:-40])
    tifffile.imwrite(tmp_path / "deflate.tif", mask, compression="zlib", rowsperstrip=8)
    data = bytearray((tmp_path / "deflate.tif").read_bytes())
    data[-8:] = bytes(8)
    (tmp_path / "damaged.tif").write_bytes(data)
    return tmp_path


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("missing.png", {}),
        (".", {}),
        ("empty.png", {}),
        ("text.png", {}),
        ("cut.png", {}),
        ("damaged.png", {}),
        ("cut.jpg", {}),
        ("damaged.tif", {}),
        ("float.tif", {}),
        ("color.png", {}),
        ("deep.png", {"colors": COLORS}),
        ("color.png", {"colors": COLORS}),
        ("color.png", {"colors": {(0, 0, 256): 0}}),
        ("mask.png", {"window": (0, 0, 9, 9)}),
        ("mask.png", {"window": (0, 0, 1)}),
        ("mask.png", {"page": 1}),
        ("mask.png", {"page": -1}),
        ("mask.png", {"orientation": "turn"}),
        ("mask.png", {"max_pixels": 10}),
    ],
)
def test_what_read_mask_refuses_begins_with_its_name(folder, name, options, backend):
    with pytest.raises((OSError, ValueError)) as caught:
        sio.read_mask(folder / name, backend=backend, **options)
    assert str(caught.value).startswith("read_mask: ")
    assert "read_image" not in str(caught.value)


@pytest.mark.parametrize(("path", "backend"), [(3, "auto"), ("mask.png", "gdal"), ("mask.png", object())])
def test_what_is_no_path_or_no_backend_begins_with_its_name_too(folder, monkeypatch, path, backend):
    monkeypatch.chdir(folder)
    with pytest.raises((TypeError, ValueError), match="^read_mask: |^expected str"):
        sio.read_mask(path, backend=backend)


def test_each_way_in_says_its_own_name(folder):
    path = folder / "text.png"
    for name in ("read_image", "read_mask", "image_info", "open_image", "explain_backends"):
        with pytest.raises(OSError, match=f"^{name}: cannot read"):
            getattr(sio, name)(path)
    with (
        sio.open_image(folder / "mask.png") as handle,
        pytest.raises(ValueError, match=r"^ImageHandle\.read: window must"),
    ):
        handle.read(window=(9, 9, 9, 9))


LABELS = np.kron(np.array([[0, 1], [2, 255]], np.uint8), np.ones((4, 4), np.uint8))
SQUARE = np.zeros((16, 16), bool)
SQUARE[4:9, 4:12] = True


def palette_image(indices, levels):
    image = Image.fromarray(indices.astype(np.uint8), "P")
    image.putpalette(np.repeat(np.asarray(levels, np.uint8), 3).tobytes())
    return image


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
@pytest.mark.parametrize("ending", ["png", "gif", "bmp", "tif"])
@pytest.mark.parametrize("order", [[2, 1, 0], [255, 0, 1], [0, 1, 2], [128, 255, 0]])
def test_a_palette_of_greys_gives_the_grey_levels_and_on_request_its_indices(tmp_path, ending, order):
    indices = np.kron(np.array([[0, 1], [2, 1]]), np.ones((4, 4), int))
    palette_image(indices, order).save(tmp_path / f"mask.{ending}", **({"optimize": False} if ending == "gif" else {}))
    path = tmp_path / f"mask.{ending}"
    labels = np.asarray(order, np.uint8)[indices]
    for backend in BACKENDS:
        try:
            mask = sio.read_mask(path, backend=backend)
        except OSError:
            assert backend != "auto"
            continue
        np.testing.assert_array_equal(mask, labels)
        np.testing.assert_array_equal(sio.read_mask(path, backend=backend, values="grey"), labels)
        stored = sio.read_image(path, backend=backend, samples="stored")[..., 0]
        np.testing.assert_array_equal(sio.read_mask(path, backend=backend, values="index"), stored)
    np.testing.assert_array_equal(sio.read_image(path), labels[..., None])
    np.testing.assert_array_equal(sio.read_mask(path, window=(0, 0, 2, 2)), labels[:2, :2])


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
def test_indices_that_look_alike_and_coloured_palettes_stay_indices(tmp_path):
    indices = np.kron(np.array([[0, 1], [2, 1]]), np.ones((4, 4), int)).astype(np.uint8)
    palette_image(indices, [0, 0, 9]).save(tmp_path / "alike.png")
    np.testing.assert_array_equal(sio.read_mask(tmp_path / "alike.png"), indices)
    sio.write_mask(tmp_path / "color.png", indices, colors={(0, 0, 0): 0, (9, 9, 9): 1, (200, 0, 0): 2})
    np.testing.assert_array_equal(sio.read_mask(tmp_path / "color.png"), indices)
    with pytest.raises(OSError, match="its palette is coloured"):
        sio.read_mask(tmp_path / "color.png", values="grey")


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("plain.png", {}),
        ("plain.tif", {}),
        ("fax.tif", {"compression": "group4"}),
        ("white_is_zero.tif", {"compression": "group4", "tiffinfo": {262: 0}}),
        ("plain.pbm", {}),
        ("plain.bmp", {}),
        ("swapped.png", {"bits": 1}),
    ],
)
def test_one_bit_is_1_where_white_is_shown(tmp_path, name, options):
    path = tmp_path / name
    if name.startswith("swapped"):
        palette_image(~SQUARE, [255, 0]).save(path, **options)
    else:
        Image.fromarray(SQUARE).save(path, **options)
    assert sio.image_info(path).bits_per_sample == 1
    if any("needs imagecodecs" in reason for _, _, reason in sio.explain_backends(path)):
        pytest.skip("this version of imagecodecs decodes no fax codes")
    np.testing.assert_array_equal(sio.read_mask(path), SQUARE.astype(np.uint8))
    np.testing.assert_array_equal(sio.read_mask(path, values="grey"), SQUARE * 255)
    np.testing.assert_array_equal(sio.read_mask(path, values="index"), sio.read_image(path, samples="stored")[..., 0])


def test_one_label_in_several_channels_is_read_where_one_reading_is_possible(tmp_path):
    zero, full = np.zeros_like(LABELS), np.full_like(LABELS, 255)
    equal = np.repeat(LABELS[..., None], 3, axis=2)
    sio.write_image(tmp_path / "equal.png", equal)
    sio.write_image(tmp_path / "equal.tif", equal.astype(np.uint16))
    sio.write_image(tmp_path / "opaque.png", np.dstack([equal, full]))
    sio.write_image(tmp_path / "clear.png", np.dstack([LABELS, np.where(LABELS > 0, 255, 0).astype(np.uint8)]))
    for name in ("equal.png", "equal.tif", "opaque.png", "clear.png"):
        np.testing.assert_array_equal(sio.read_mask(tmp_path / name), LABELS)
    sio.write_image(tmp_path / "red.png", np.dstack([LABELS, zero, zero]))
    with pytest.raises(OSError, match='if its red channel holds the classes, values="index"'):
        sio.read_mask(tmp_path / "red.png")
    np.testing.assert_array_equal(sio.read_mask(tmp_path / "red.png", values="index"), LABELS)
    sio.write_image(tmp_path / "faint.png", np.dstack([equal, full // 2]))
    with pytest.raises(OSError, match="it has 4 channels"):
        sio.read_mask(tmp_path / "faint.png")


def test_colors_see_grey_pictures_and_through_a_clear_background(tmp_path):
    painted = np.where(LABELS[..., None] == 1, [255, 0, 0], 0).astype(np.uint8)
    sio.write_image(tmp_path / "clear.png", np.dstack([painted, np.where(LABELS == 1, 255, 0).astype(np.uint8)]))
    np.testing.assert_array_equal(sio.read_mask(tmp_path / "clear.png", colors=COLORS), LABELS == 1)
    sio.write_mask(tmp_path / "grey.png", LABELS)
    grey = {(0, 0, 0): 0, (1, 1, 1): 1, (2, 2, 2): 2}
    with pytest.raises(OSError, match=r"the colour \(255, 255, 255\).*unknown=255"):
        sio.read_mask(tmp_path / "grey.png", colors=grey)
    np.testing.assert_array_equal(sio.read_mask(tmp_path / "grey.png", colors=grey, unknown=255), LABELS)
    assert sio.read_mask(tmp_path / "grey.png", colors=grey, unknown=999).dtype == np.uint16


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize(
    ("values", "expected"), [([0, 1, 255], "uint8"), ([0, 2000], "uint16"), ([-1, 3], "int8"), ([-1, 200], "int16")]
)
def test_whole_numbers_in_floats_are_classes(tmp_path, dtype, values, expected):
    mask = np.resize(values, (6, 7)).astype(dtype)
    tifffile.imwrite(tmp_path / "mask.tif", mask)
    got = sio.read_mask(tmp_path / "mask.tif")
    assert got.dtype == expected
    np.testing.assert_array_equal(got, mask)


def test_fractions_are_no_classes_and_nan_is_one_on_request(tmp_path):
    mask = np.ones((4, 4), np.float32)
    mask[1, 2] = np.nan
    tifffile.imwrite(tmp_path / "mask.tif", mask)
    with pytest.raises(OSError, match="nan at row 1, column 2 is not a class.*unknown=255 ignores NaN"):
        sio.read_mask(tmp_path / "mask.tif")
    assert sio.read_mask(tmp_path / "mask.tif", unknown=255)[1].tolist() == [1, 1, 255, 1]
    for wrong in (0.5, np.inf, -np.inf):
        mask[1, 2] = wrong
        tifffile.imwrite(tmp_path / "mask.tif", mask)
        with pytest.raises(OSError, match="at row 1, column 2 is not a class"):
            sio.read_mask(tmp_path / "mask.tif", unknown=255)


@pytest.mark.parametrize("options", [{"values": "gray"}, {"unknown": "skip"}, {"unknown": -1}, {"unknown": True}])
def test_wrong_choices_of_a_reading_are_refused(folder, options):
    with pytest.raises(ValueError, match="^read_mask: (values|unknown) must be"):
        sio.read_mask(folder / "mask.png", **options)
