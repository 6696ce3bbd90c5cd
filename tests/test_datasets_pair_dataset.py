"""PairDataset: what the loader gets is what is in the files."""

from __future__ import annotations

import inspect
import pickle

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from torch.utils.data import DataLoader

from segkit.datasets import Pair, PairDataset
from segkit.errors import DataError, ImageReadError

RNG = np.random.default_rng(0)


@pytest.fixture
def pairs(tmp_path):
    """Three RGB pairs of different sizes; classes 0 to 3, some 255."""
    found = []
    for i, size in enumerate([(5, 7), (6, 4), (3, 9)]):
        image = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
        mask = RNG.integers(0, 4, size, dtype=np.uint8)
        mask[0, 0] = 255
        Image.fromarray(image).save(tmp_path / f"{i}.png")
        Image.fromarray(mask).save(tmp_path / f"{i}_mask.png")
        found.append(Pair(str(tmp_path / f"{i}.png"), str(tmp_path / f"{i}_mask.png")))
    return found


def test_a_sample_is_a_float_image_a_small_mask_and_its_index(pairs):
    sample = PairDataset(pairs)[1]
    assert set(sample) == {"image", "mask", "index"}
    stored = np.array(Image.open(pairs[1].image))
    torch.testing.assert_close(sample["image"], torch.from_numpy(stored).permute(2, 0, 1) / 255)
    assert sample["mask"].dtype == torch.uint8
    np.testing.assert_array_equal(sample["mask"], np.array(Image.open(pairs[1].mask)))
    assert sample["index"] == 1


def test_unscaled_images_keep_their_values(pairs):
    sample = PairDataset(pairs, scale=False)[0]
    assert sample["image"].dtype == torch.uint8
    np.testing.assert_array_equal(sample["image"].permute(1, 2, 0), np.array(Image.open(pairs[0].image)))


def test_thirteen_bands_of_sixteen_bits_survive(shared):
    folder = shared / "data/s2_uint16"
    path = folder / "images/s2_t0.tif"
    dataset = PairDataset(
        [(path, folder / "masks/s2_t0.tif")], scale=False, remap={0: 255, 1: 0, 2: 1, 3: 2, 4: 3, 8: 4}
    )
    stored = tifffile.imread(path)
    stored = stored if stored.shape[0] == 13 else np.moveaxis(stored, -1, 0)
    assert dataset[0]["image"].dtype == torch.int32
    np.testing.assert_array_equal(dataset[0]["image"], stored)
    assert set(dataset[0]["mask"].unique().tolist()) <= {0, 1, 2, 3, 4, 255}
    scaled = PairDataset([(path, folder / "masks/s2_t0.tif")])[0]["image"]
    np.testing.assert_allclose(scaled, stored / 65535, rtol=1e-6)


def test_twelve_bits_fill_the_range_from_zero_to_one(tmp_path):
    # tifffile cannot write 12-bit samples, so the packed strip is made here: two samples in three bytes.
    values = np.array([[0, 4095], [2048, 1]], dtype=np.uint16)
    path = tmp_path / "twelve.tif"
    packed = np.packbits(((values[..., None] >> np.arange(11, -1, -1)) & 1).astype(np.uint8).reshape(2, -1), axis=1)
    tifffile.imwrite(path, packed, photometric="minisblack", metadata=None)  # header of an 8-bit image, patched below
    with tifffile.TiffFile(path, mode="r+b") as file:
        page = file.pages[0]
        page.tags["ImageWidth"].overwrite(2)
        page.tags["BitsPerSample"].overwrite(12)
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "mask.png")
    image = PairDataset([(path, tmp_path / "mask.png")])[0]["image"]
    np.testing.assert_allclose(image[0], values / 4095, rtol=1e-6)


def test_wide_masks_become_int32(tmp_path, pairs):
    tifffile.imwrite(tmp_path / "wide.tif", np.full((5, 7), 1000, np.uint16))
    assert PairDataset([(pairs[0].image, tmp_path / "wide.tif")])[0]["mask"].dtype == torch.int32


def test_classes_are_remapped_and_ignored_stays_ignored(pairs):
    mask = PairDataset(pairs, remap={0: 0, 1: 1, 2: 1, 3: 255})[0]["mask"]
    assert mask[0, 0] == 255
    assert set(mask.unique().tolist()) <= {0, 1, 255}
    with pytest.raises(DataError, match=r"0_mask.png.*must name every index.*\[2, 3\]"):
        PairDataset(pairs, remap={0: 0, 1: 1})[0]


def test_colour_masks_become_classes(tmp_path, pairs):
    rgb = np.zeros((5, 7, 3), np.uint8)
    rgb[2] = (255, 0, 0)
    Image.fromarray(rgb).save(tmp_path / "rgb.png")
    mask = PairDataset([(pairs[0].image, tmp_path / "rgb.png")], colors={(0, 0, 0): 0, (255, 0, 0): 5})[0]["mask"]
    assert mask[:, 0].tolist() == [0, 0, 5, 0, 0]


class Key(int):
    """An index that carries what a SampleKey carries."""

    size = (2, 3)
    focus_class = None

    def generator(self):
        return torch.Generator().manual_seed(7)


def test_the_transform_gets_what_the_index_carries(pairs):
    calls = []

    def transform(image, mask, **keywords):
        calls.append(keywords)
        return image, mask

    dataset = PairDataset(pairs, transform=transform)
    dataset[0], dataset[Key(1)]
    assert calls[0] == {}
    assert calls[1]["size"] == (2, 3)
    assert calls[1]["generator"].initial_seed() == 7
    assert "focus_class" not in calls[1]


def test_image_and_mask_of_different_sizes_are_refused_by_name(pairs):
    with pytest.raises(
        DataError, match=r"1_mask.png' must have the size of its image .*0.png', \(5, 7\), got \(6, 4\)"
    ):
        PairDataset([(pairs[0].image, pairs[1].mask)])[0]


def test_a_missing_file_is_named(pairs, tmp_path):
    with pytest.raises(ImageReadError, match="gone.png"):
        PairDataset([(tmp_path / "gone.png", pairs[0].mask)])[0]


@pytest.mark.parametrize("index", [3, -4])
def test_an_index_outside_is_refused(pairs, index):
    with pytest.raises(IndexError, match=r"in \[-3, 3\)"):
        PairDataset(pairs)[index]


def test_negative_indices_count_from_the_end(pairs):
    dataset = PairDataset(pairs)
    assert dataset[-1]["index"] == 2
    assert [dataset.pair(i) for i in (-3, -2, -1)] == pairs


def test_pairs_must_be_pairs(pairs):
    with pytest.raises(ValueError, match="item 0 must be"):
        PairDataset(["ab"])
    with pytest.raises(ValueError, match="find_pairs"):
        PairDataset([("a.png",)])


def test_paths_are_held_flat_and_the_data_set_pickles(pairs):
    many = PairDataset(pairs * 10_000)
    assert len(many) == 30_000
    assert many.pair(29_999) == pairs[2]
    assert not any(isinstance(value, list) for value in vars(many).values())
    again = pickle.loads(pickle.dumps(many))
    assert again.pair(12_345) == many.pair(12_345)


def test_an_empty_data_set_has_length_zero():
    assert len(PairDataset([])) == 0


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_give_the_same_samples(pairs, context):
    plain = [PairDataset(pairs)[i]["image"] for i in range(3)]
    loader = DataLoader(
        PairDataset(pairs), batch_size=None, num_workers=2, multiprocessing_context=context, timeout=120
    )
    for one, other in zip(plain, loader, strict=True):
        assert torch.equal(one, other["image"])


def test_repr_shows_each_argument(pairs):
    shown = repr(PairDataset(pairs, scale=False))
    assert shown.startswith("PairDataset(3 pairs, colors=None, unknown='error', remap=None, ")
    for name in list(inspect.signature(PairDataset).parameters)[1:]:
        assert f"{name}=" in shown
