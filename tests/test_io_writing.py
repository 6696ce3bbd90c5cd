"""Written files are whole or absent, hold every bit, and refuse what they cannot hold."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import segkit.io as sio
from segkit.errors import ImageWriteError

LONG = bool(os.environ.get("SEGKIT_LONG"))
INTEGERS = ["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"]
FLOATS = ["float16", "float32", "float64"]


def extremes(*shape, dtype):
    """Noise that holds the smallest and the largest value, and for floats the special ones."""
    rng = np.random.default_rng([*shape, np.dtype(dtype).num])
    if np.dtype(dtype).kind == "f":
        image = rng.normal(size=shape).astype(dtype)
        image.flat[:4] = [np.nan, np.inf, -np.inf, -0.0]
        return image
    info = np.iinfo(dtype)
    image = rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
    image.flat[:2] = [info.min, info.max]
    return image


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 13])
@pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
def test_an_image_comes_back_bit_for_bit_or_is_refused_with_a_better_format(tmp_path, dtype, channels):
    image = extremes(6, 5, channels, dtype=dtype)
    for name in ("a.png", "a.tif", "a.tiff"):
        try:
            sio.write_image(tmp_path / name, image)
        except ImageWriteError as error:
            assert "'a.tif'" in error.hint, error  # noqa: PT017
            assert name == "a.png", error  # noqa: PT017
            continue
        for samples in ("display", "stored"):
            back = sio.read_image(tmp_path / name, samples=samples)
            assert back.dtype == image.dtype
            assert back.tobytes() == image.tobytes()


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (33, 65)])
def test_a_mask_comes_back_bit_for_bit(tmp_path, dtype, shape):
    mask = np.resize(extremes(40, dtype=dtype), shape)
    for name in ["a.png"] * (dtype in ("uint8", "uint16")) + ["a.tif"]:
        sio.write_mask(tmp_path / name, mask)
        back = sio.read_mask(tmp_path / name)
        assert back.dtype == mask.dtype
        np.testing.assert_array_equal(back, mask)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_a_palette_mask_shows_its_colours_and_holds_its_indices(tmp_path, name):
    mask = extremes(9, 11, dtype="uint8")
    colors = {(int(i), 255 - int(i), 7): int(i) for i in np.unique(mask)}
    sio.write_mask(tmp_path / name, mask, colors=colors)
    np.testing.assert_array_equal(sio.read_mask(tmp_path / name), mask)
    shown = sio.read_image(tmp_path / name)
    np.testing.assert_array_equal(shown, np.stack([mask, 255 - mask, np.full_like(mask, 7)], axis=2))
    np.testing.assert_array_equal(sio.read_mask(tmp_path / name, colors=colors), mask)


def test_other_byte_orders_and_strides_are_written_by_value(tmp_path):
    image = extremes(8, 6, 3, dtype="uint16")
    for other in (image.astype(">u2"), image[::-1, ::-1][::-1, ::-1], np.asfortranarray(image)):
        for name in ("a.png", "a.tif"):
            sio.write_image(tmp_path / name, other)
            np.testing.assert_array_equal(sio.read_image(tmp_path / name), image)


@pytest.mark.parametrize(
    ("name", "mask", "message"),
    [
        ("a.jpg", np.zeros((2, 2), np.uint8), "JPEG changes"),
        ("a.png", np.zeros((2, 2), np.int64), r"PNG holds uint8 and uint16, the array is int64\. Write 'a\.tif'"),
        ("a.bmp", np.zeros((2, 2), np.uint8), r"'\.bmp' names no lossless format that segkit writes"),
        ("missing/a.png", np.zeros((2, 2), np.uint8), "No such file or directory"),
        ("s3://bucket/a.png", np.zeros((2, 2), np.uint8), "only local files"),
    ],
)
def test_a_mask_that_cannot_be_written_is_refused(tmp_path, name, mask, message):
    path = name if "://" in name else str(tmp_path / name)
    with pytest.raises(ImageWriteError, match=message):
        sio.write_mask(path, mask)
    assert list(tmp_path.iterdir()) == []


def test_wrong_arguments_are_refused(tmp_path):
    with pytest.raises(TypeError, match="must be a NumPy array, got list"):
        sio.write_image(tmp_path / "a.png", [[1]])
    with pytest.raises(TypeError, match="must hold integers, got float64"):
        sio.write_mask(tmp_path / "a.png", np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"must have the shape \[H, W\], got \(2, 2, 1\)"):
        sio.write_mask(tmp_path / "a.png", np.zeros((2, 2, 1), np.uint8))
    with pytest.raises(ValueError, match="at least one pixel"):
        sio.write_image(tmp_path / "a.png", np.zeros((0, 2, 1), np.uint8))
    with pytest.raises(ImageWriteError, match="a palette image holds uint8"):
        sio.write_mask(tmp_path / "a.png", np.zeros((2, 2), np.uint16), colors={(0, 0, 0): 0})
    assert list(tmp_path.iterdir()) == []


def test_a_full_or_forbidden_folder_is_an_image_write_error(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(ImageWriteError, match="directory"):
        sio.write_mask(tmp_path / "a.png", np.zeros((2, 2), np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


# Writes the two masks in turn, for ever; the parent kills it at a random moment.
WRITER = """
import sys
import numpy as np
import segkit.io as sio
masks = [np.full((300, 300), value, np.uint8) for value in (1, 2)]
print("ready", flush=True)
while True:
    for mask in masks:
        sio.write_mask(sys.argv[1], mask)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this platform has no SIGKILL")
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_a_writer_that_is_killed_leaves_the_old_file_or_the_new_one(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    sio.write_mask(path, np.full((300, 300), 1, np.uint8))
    clock = random.Random(5)
    for _ in range(200 if LONG else 6):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(clock.random() * 0.02)
        process.kill()
        process.wait()
        process.stdout.close()
        mask = sio.read_mask(path)
        assert mask.shape == (300, 300)
        assert set(np.unique(mask)) <= {1, 2}
        assert len(np.unique(mask)) == 1
