"""GridDataset: every pixel of every scene is in a window, every window comes once and says where it was."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from segkit.collate import pad_collate
from segkit.datasets import GridDataset
from segkit.errors import DataError
from segkit.io import write_image, write_mask
from segkit.samplers import SampleKey, ShuffleSampler
from segkit.transforms import HorizontalFlip, Normalize

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    found = []
    for i, size in enumerate([(70, 90), (33, 64), (20, 100)]):
        image = RNG.integers(0, 4000, (*size, 4), dtype=np.uint16)
        tifffile.imwrite(folder / f"{i}.tif", image, photometric="minisblack", tile=(16, 16), planarconfig="contig")
        write_mask(folder / f"{i}.png", (image[..., 0] // 1000).astype(np.uint8))
        found.append((folder / f"{i}.tif", folder / f"{i}.png", image))
    return found


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.tuples(st.integers(5, 80), st.integers(5, 80)), overlap=st.one_of(st.integers(0, 4), st.floats(0, 0.6)))
def test_windows_cover_each_scene_overlap_enough_and_come_once(scenes, size, overlap):
    grid = GridDataset([scene[:2] for scene in scenes], size, overlap=overlap, scale=False)
    least = [int(np.ceil(overlap * side)) if isinstance(overlap, float) else overlap for side in size]
    seen, scene_of = set(), [grid[i]["scene"] for i in range(len(grid))]
    for number, (height, width) in enumerate(grid.scenes):
        covered = np.zeros((height, width), int)
        boxes = [grid.box(i) for i in range(len(grid)) if scene_of[i] == number]
        for top, left, h, w in boxes:
            covered[top : top + h, left : left + w] += 1
            seen.add((number, top, left))
            assert (h, w) == (min(size[0], height), min(size[1], width))
        assert covered.min() == 1
        for axis, side, shared in ((0, size[0], least[0]), (1, size[1], least[1])):
            starts = sorted({box[axis] for box in boxes})
            assert all(b - a <= side - shared for a, b in zip(starts, starts[1:], strict=False))
    assert len(seen) == len(grid)


def test_a_window_holds_what_the_scene_holds_there(scenes):
    grid = GridDataset([scene[:2] for scene in scenes], 24, overlap=5, scale=False)
    for i in range(len(grid)):
        sample = grid[i]
        top, left, height, width = sample["box"]
        part = scenes[sample["scene"]][2][top : top + height, left : left + width]
        assert torch.equal(sample["image"].permute(1, 2, 0), torch.from_numpy(part.astype(np.int32)))
        assert torch.equal(sample["mask"], torch.from_numpy((part[..., 0] // 1000).astype(np.uint8)))
        assert sample["index"] == i


def test_a_loader_takes_it_in_any_order_and_keys_reach_the_transform(scenes):
    grid = GridDataset([scene[:2] for scene in scenes], 24, transform=HorizontalFlip())
    batches = DataLoader(
        grid, batch_size=4, sampler=ShuffleSampler(len(grid), seed=0), collate_fn=pad_collate, num_workers=2
    )
    assert sorted(int(i) for batch in batches for i in batch["index"]) == list(range(len(grid)))
    flipped = [torch.equal(grid[SampleKey(0, seed=seed)]["image"], grid[SampleKey(0)]["image"]) for seed in range(9)]
    assert len(set(flipped)) == 2


def test_images_alone_give_no_mask(scenes):
    grid = GridDataset([scene[0] for scene in scenes], 24, transform=Normalize(0.5, 0.25))
    assert set(grid[0]) == {"image", "index", "box", "scene"}
    part = grid.split([[0, 5]])[0]
    assert (part[1]["index"], part[1]["box"]) == (5, grid.box(5))


def test_what_a_file_declares_to_be_no_data_is_ignored_on_request(tmp_path):
    image = RNG.integers(1, 100, (16, 16, 2)).astype(np.float32)
    image[4, 5] = -9999
    image[4, 6, 0] = -9999  # in one band only
    options = {"extratags": [(42113, 2, 0, "-9999", True)], "photometric": "minisblack", "planarconfig": "contig"}
    tifffile.imwrite(tmp_path / "a.tif", image, metadata=None, **options)
    write_mask(tmp_path / "m.png", np.zeros((16, 16), np.uint8))
    pair = (tmp_path / "a.tif", tmp_path / "m.png")
    sample = GridDataset([pair], 16, nodata="ignore")[0]
    assert (sample["mask"] == 255).nonzero().tolist() == [[4, 5]]
    assert sample["image"][:, 4, 5].tolist() == [0, 0]
    kept = GridDataset([pair], 16)[0]
    assert kept["mask"].max() == 0
    assert kept["image"].min() == -9999


def test_what_does_not_fit_is_said_when_the_data_set_is_made(scenes, tmp_path):
    write_image(tmp_path / "a.png", np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(DataError, match="GridDataset: .* must have the size of its image"):
        GridDataset([(tmp_path / "a.png", scenes[0][1])], 8)
    for size in (0, (4, 0), (4, 5, 6)):
        with pytest.raises(ValueError, match="GridDataset: `size` must be"):
            GridDataset([scenes[0][:2]], size)
    for overlap in (8, 1.0, -1):
        with pytest.raises(ValueError, match="GridDataset: `overlap` must be"):
            GridDataset([scenes[0][:2]], 8, overlap=overlap)
    with pytest.raises(ValueError, match="GridDataset: `pages` must be"):
        GridDataset([scenes[0][:2]], 8, pages="samples")
