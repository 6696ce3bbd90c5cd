"""Nothing wraps anywhere: from the file to the batch, the copy and the statistics a number is kept, or refused."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

import segkit.io as sio
from segkit.collate import pad_collate, stack_collate
from segkit.datasets import PairDataset, expand_dataset
from segkit.errors import SegkitError
from segkit.stats import dataset_statistics

DTYPES = ["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]


def same(image, mask=None, *, generator=None):
    return image, mask


def unscaled(pair):
    return PairDataset([pair], scale=False)[0]


def pixels_of(tensor):
    return tensor.movedim(0, -1).numpy()


def copied(pair):
    return sio.read_image(expand_dataset([pair], same, "copies", copies=1, seed=0, progress=False)[0].image)


def extremes(pair):
    channels = dataset_statistics([pair], progress=False).channels
    return channels.minimum(), channels.maximum()


WAYS = {
    "read": lambda pair: sio.read_image(pair[0]),
    "stored": lambda pair: sio.read_image(pair[0], samples="stored"),
    "unscaled": lambda pair: pixels_of(unscaled(pair)["image"]),
    "stacked": lambda pair: pixels_of(stack_collate([unscaled(pair)] * 2)["image"][1]),
    "padded": lambda pair: pixels_of(pad_collate([unscaled(pair)] * 2, multiple_of=16)["image"][1])[:4, :6],
    "copied": copied,
}


def values(dtype):
    if np.dtype(dtype).kind == "f":
        return [0.0, -1e4, 6e4, float(np.finfo(dtype).max), float(np.finfo(dtype).min)]
    limits = np.iinfo(dtype)
    return [limits.min, limits.min // 3, 0, 1, limits.max // 2, limits.max - 1, limits.max]


@pytest.fixture(params=DTYPES)
def pair(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image = np.resize(np.array(values(request.param), request.param), (4, 6, 1))
    sio.write_image("image.tif", image)
    sio.write_mask("mask.png", np.zeros((4, 6), np.uint8))
    return ("image.tif", "mask.png"), image


@pytest.mark.parametrize("way", WAYS)
def test_every_number_of_a_type_is_kept_or_refused(pair, way):
    files, image = pair
    if image.dtype == np.uint64 and way not in ("read", "stored"):  # torch has no type for these
        with pytest.raises(SegkitError, match=r"2\*\*63"):
            WAYS[way](files)
        return
    got = WAYS[way](files)
    assert got.astype(object).tolist() == image.astype(object).tolist()


def test_scaled_pictures_and_statistics_keep_the_order_of_numbers(pair):
    files, image = pair
    expected = image.astype(np.float64)
    if image.dtype == np.float64:
        with pytest.raises(SegkitError, match="range of float32"):
            PairDataset([files])[0]
        return
    scaled = pixels_of(PairDataset([files])[0]["image"])
    top = 1 if image.dtype.kind == "f" else np.iinfo(image.dtype).max
    np.testing.assert_allclose(scaled, expected / top, rtol=1e-6)
    low, high = extremes(files)
    np.testing.assert_allclose([low[0], high[0]], [expected.min(), expected.max()], rtol=1e-6)


@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if "int" in dtype])
def test_labels_are_kept_or_refused(tmp_path, dtype):
    mask = np.resize(np.array(values(dtype), dtype), (4, 6))
    sio.write_mask(tmp_path / "mask.tif", mask)
    sio.write_image(tmp_path / "image.png", np.zeros((4, 6, 3), np.uint8))
    np.testing.assert_array_equal(sio.read_mask(tmp_path / "mask.tif"), mask)
    data = PairDataset([(tmp_path / "image.png", tmp_path / "mask.tif")])
    if dtype == "uint64":
        with pytest.raises(SegkitError, match=r"2\*\*63"):
            data[0]
        return
    got = data[0]["mask"].numpy()
    assert got.astype(object).tolist() == mask.astype(object).tolist()


@pytest.mark.parametrize("bits", [9, 10, 12, 14])
def test_copies_of_a_scan_of_few_bits_are_as_bright_as_the_scan(tmp_path, bits):
    image = np.linspace(0, (1 << bits) - 1, 24).astype(np.uint16).reshape(4, 6)
    tifffile.imwrite(tmp_path / "image.tif", image, bitspersample=bits, photometric="minisblack", metadata=None)
    sio.write_mask(tmp_path / "mask.png", np.zeros((4, 6), np.uint8))
    pairs = [(tmp_path / "image.tif", tmp_path / "mask.png")]
    copies = expand_dataset(pairs, same, tmp_path / "more", copies=1, seed=0, progress=False)
    before, after = (PairDataset(source)[0]["image"] for source in (pairs, copies))
    np.testing.assert_allclose(before, after, atol=1e-5)
