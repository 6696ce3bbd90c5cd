"""Whatever the size and the format of a file, equal pixels are measured alike: by windows, of which most have one."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from segkit import audit, io, stats
from segkit.audit._measure import by_windows
from segkit.audit._measure.row import ROW, Options
from segkit.audit._measure.worker import measure


def picture(height=700, width=900, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    rough = rng.integers(0, 255, (height, width, channels), dtype=np.uint8)
    return cv2.GaussianBlur(rough, (0, 0), 1.5).reshape(height, width, channels)


def save(path, image):
    """Write an image in the format that the name says: its suffix, and for TIFF how it is laid out."""
    kind = path.name.split(".")[1]
    if path.suffix == ".tif":
        layouts = {"strips": {"rowsperstrip": 16}, "tiles": {"tile": (128, 128), "compression": "deflate"}}
        tifffile.imwrite(path, image, bigtiff=kind == "big", **layouts.get(kind, {}))
    elif path.suffix == ".ppm":
        io_bytes = f"P6 {image.shape[1]} {image.shape[0]} 255\n".encode() + image.tobytes()
        path.write_bytes(io_bytes)
    else:
        options = {"lossless": True} if path.suffix == ".webp" else {}
        Image.fromarray(image).save(path, **options)


FORMATS = ("a.png", "b.whole.tif", "c.strips.tif", "d.tiles.tif", "e.big.tif", "f.bmp", "g.ppm", "h.webp")


@pytest.mark.parametrize("limit", [2**26, 2**18], ids=["below the limit", "above the limit"])
def test_equal_pixels_are_an_exact_duplicate_whatever_the_size_and_format(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(by_windows, "_LARGE", limit)
    monkeypatch.setattr(by_windows, "_WINDOW", 256)
    for name in FORMATS:
        save(tmp_path / name, picture())
    other = picture()
    other[699, 899, 1] ^= 1
    save(tmp_path / "z.other.tif", other)
    report = audit.audit_dataset([str(path) for path in tmp_path.iterdir()], progress=False)
    found = report.select("exact-duplicate")
    assert [finding.path.split("/")[-1] for finding in found] == list(FORMATS[1:])
    assert {finding.related for finding in found} == {str(tmp_path / FORMATS[0])}
    plain = report.rows[["mean", "sharp", "quiet", "softness", "clipped_high", "uneven"]][:8]
    assert len(np.unique(plain)) == 1, "equal pixels, equal numbers"


@pytest.mark.slow
@pytest.mark.parametrize("side", [4096, 8448], ids=["16 MiB", "68 MiB"])
def test_the_real_limit_changes_nothing_between_png_and_tiff(tmp_path, side):
    image = np.tile(picture(512, 512, 1)[..., 0], (side // 512 + 1, side // 512 + 1))[:side, :side]
    Image.fromarray(image).save(tmp_path / "a.png", compress_level=1)
    tifffile.imwrite(tmp_path / "b.tif", image, tile=(256, 256))
    report = audit.audit_dataset(tmp_path, progress=False)
    assert report.counts() == {"exact-duplicate": 1}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
@pytest.mark.parametrize("limit", [2**26, 2**14], ids=["below the limit", "above the limit"])
def test_equal_labels_are_the_same_mask_however_wide_they_are_stored(tmp_path, monkeypatch, dtype, limit):
    monkeypatch.setattr(by_windows, "_LARGE", limit)
    monkeypatch.setattr(by_windows, "_WINDOW", 64)
    labels = (picture(200, 300, 1)[..., 0] > 128).astype(np.uint8)
    io.write_mask(tmp_path / "a.png", labels)
    tifffile.imwrite(tmp_path / "b.tif", labels.astype(dtype), tile=(64, 64))
    items = [(None, str(tmp_path / name)) for name in ("a.png", "b.tif")]
    digests = measure(items, Options(2, None, 255)).rows["mask_digest"]
    assert (digests[0] == digests[1]).all()


def turned(image, orientation):
    """What a file must store so that this orientation shows `image`."""
    back = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.swapaxes(0, 1),
        6: lambda x: np.rot90(x, 1),
        7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
        8: lambda x: np.rot90(x, -1),
    }
    return np.ascontiguousarray(back[orientation](image))


def pair_turned(folder, orientation, suffix):
    image = picture(300, 420, 1)[..., 0]
    mask = (cv2.GaussianBlur(image, (0, 0), 4) > 128).astype(np.uint8)
    mask[:40, :300] = 255
    for name, pixels in (("image", image), ("mask", mask)):
        path = folder / f"{name}{suffix}"
        if suffix == ".tif":
            tag = [(274, "H", 1, orientation, True)]
            tifffile.imwrite(path, turned(pixels, orientation), tile=(64, 64), extratags=tag)
        else:
            exif = Image.Exif()
            exif[0x0112] = orientation
            Image.fromarray(turned(pixels, orientation)).save(path, exif=exif)
    return str(folder / f"image{suffix}"), str(folder / f"mask{suffix}")


@pytest.mark.parametrize("suffix", [".tif", ".png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_large_pair_is_turned_by_its_orientation_as_a_small_one_is(tmp_path, monkeypatch, orientation, suffix):
    pair = pair_turned(tmp_path, orientation, suffix)
    upright = tmp_path / "upright"
    upright.mkdir()
    options = Options(2, None, 255)
    monkeypatch.setattr(by_windows, "_LARGE", 2**14)
    monkeypatch.setattr(by_windows, "_WINDOW", 64)
    monkeypatch.setattr("segkit.stats._reading._BAND", 2**14)
    measured = measure([pair], options)
    assert (measured.rows["height"][0], measured.rows["width"][0]) == (300, 420)
    right = measure([pair_turned(upright, 1, suffix)], options)
    assert measured.findings == []
    assert measured.labels == right.labels
    for name in set(ROW.names) - {"orientation", "mask_orientation"}:
        np.testing.assert_array_equal(measured.rows[name], right.rows[name], err_msg=name)
    counted = stats.dataset_statistics([pair], progress=False)
    assert counted.sizes == {(300, 420): 1}
    image, mask = io.read_image(pair[0]), io.read_mask(pair[1])
    assert counted.mean[0] == pytest.approx(image[mask != 255].mean(), rel=1e-12)


def test_a_mask_that_is_turned_alone_is_turned_in_the_statistics_of_a_large_image(tmp_path, monkeypatch):
    monkeypatch.setattr("segkit.stats._reading._BAND", 2**14)
    image, mask = pair_turned(tmp_path, 3, ".tif")
    tifffile.imwrite(tmp_path / "upright.tif", picture(300, 420, 1)[..., 0], tile=(64, 64))
    counted = stats.dataset_statistics([(str(tmp_path / "upright.tif"), mask)], progress=False)
    labels = io.read_mask(mask)
    assert counted.mean[0] == pytest.approx(io.read_image(image)[labels != 255].mean(), rel=1e-12)


def test_a_mask_lies_on_an_image_of_which_it_is_the_smaller_file(tmp_path, monkeypatch):
    """An image above the limit is shrunk, its mask below the limit must be shrunk alike."""
    image = picture(600, 640)
    mask = (cv2.GaussianBlur(image[..., 0], (0, 0), 6) > 128).astype(np.uint8)
    image = image // 2 + (mask * 90)[..., None]
    save(tmp_path / "image.tiles.tif", image)
    io.write_mask(tmp_path / "mask.png", mask)
    monkeypatch.setattr(by_windows, "_LARGE", 600 * 640)
    monkeypatch.setattr(by_windows, "_CANVAS", 320)
    row = measure([(str(tmp_path / "image.tiles.tif"), str(tmp_path / "mask.png"))], Options(2, None, 255)).rows[0]
    assert row["fit_here"] > 5
    assert (row["shift_y"], row["shift_x"]) == (0, 0)
