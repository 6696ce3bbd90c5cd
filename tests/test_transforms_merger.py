"""Merging a scene crop by crop: the same map as at once, in constant memory, in a file that any reader opens."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from segkit.errors import DataError, ImageWriteError
from segkit.transforms import CropBox, CropMerger, FiveCrop, GridCrop, TenCrop, merge_crops


def noise(boxes, classes=3, seed=0):
    """Logits [K, C, h, w] that differ from crop to crop."""
    height, width = boxes[0][2:4]
    return torch.randn(len(boxes), classes, height, width, generator=torch.Generator().manual_seed(seed))


def in_one_go(boxes, logits, size, **options):
    merger = CropMerger(boxes, size, **options)
    merger.add(logits, boxes)
    return merger.finish()


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    data=st.data(),
    blend=st.sampled_from(["mean", "gaussian"]),
    seed=st.integers(0, 99),
)
def test_any_order_and_any_batches_give_the_map_of_merge_crops_bit_for_bit(height, width, data, blend, seed):
    side = data.draw(st.integers(1, min(height, width)))
    make = data.draw(st.sampled_from([FiveCrop, TenCrop, GridCrop]))
    overlap = data.draw(st.integers(0, side - 1))
    crop = GridCrop(side, overlap) if make is GridCrop or 2 * side < max(height, width) + 1 else make(side)
    boxes = list(dict.fromkeys(crop.geometry((height, width))))  # of equal boxes nobody can say which came first
    logits = noise(boxes, seed=seed)
    expected = merge_crops(logits, boxes, (height, width), blend=blend)[0]
    order = list(range(len(boxes)))
    random.Random(seed).shuffle(order)
    merger = CropMerger(boxes, (height, width), blend=blend)
    while order:
        batch, order = order[: 1 + seed % 5], order[1 + seed % 5 :]
        given_logits = logits[batch]
        merger.add(given_logits, [boxes[k] for k in batch])
        given_logits.fill_(torch.nan)  # a loop may use its memory again
        assert len(merger.missing) == len(order)
    assert torch.equal(merger.finish(), expected)


def test_averages_are_those_of_sums_in_float64():
    boxes = GridCrop(16, 11).geometry((40, 37))
    logits = noise(boxes)
    total, weights = torch.zeros(3, 40, 37, dtype=torch.float64), torch.zeros(40, 37, dtype=torch.float64)
    side = torch.exp(-0.5 * ((torch.arange(16) - 7.5) / 2).double() ** 2).clamp(min=1e-3)
    for crop, (top, left, *_) in zip(logits, boxes, strict=True):
        total[:, top : top + 16, left : left + 16] += torch.outer(side, side) * crop.double()
        weights[top : top + 16, left : left + 16] += torch.outer(side, side)
    merged = merge_crops(logits, boxes, (40, 37))[0]
    assert (merged - total / weights).abs().max() < 2e-6  # up to sixteen float32 averages of values of size 4


@pytest.mark.parametrize("values", [(-torch.inf, 2.0), (2.0, -torch.inf), (torch.inf, 2.0), (2.0**127, -(2.0**127))])
def test_infinite_and_huge_logits_are_averaged_as_sums_are(values):
    boxes = [CropBox(0, 0, 1, 4), CropBox(0, 2, 1, 4)]
    logits = torch.stack([torch.full((2, 1, 4), value) for value in values])
    merged = merge_crops(logits, boxes, (1, 6), blend="mean")[0, 0, 0]
    assert merged[:2].tolist() == [values[0]] * 2
    assert merged[4:].tolist() == [values[1]] * 2
    assert merged[2:4].tolist() == [(values[0] + values[1]) / 2] * 2


def test_what_is_kept_follows_from_the_merged_logits():
    boxes = GridCrop(24, 8).geometry((50, 61))
    logits = noise(boxes, 5)
    whole = in_one_go(boxes, logits, (50, 61))
    assert torch.equal(in_one_go(boxes, logits, (50, 61), keep="argmax").long(), whole.argmax(0))
    probabilities = in_one_go(boxes, logits, (50, 61), keep="probabilities")
    torch.testing.assert_close(probabilities, whole.softmax(0))


def test_only_the_overlaps_of_one_row_of_crops_are_held():
    size, classes, side, overlap = (3000, 400), 2, 64, 16
    boxes = GridCrop(side, overlap).geometry(size)
    merger = CropMerger(boxes, size, keep="argmax")
    most = 0
    for box in boxes:
        merger.add(torch.zeros(1, classes, side, side), [box])
        carried = merger._merging._overlaps.carried.values()
        most = max(most, sum(values.untyped_storage().nbytes() for values in carried))
    assert most <= 4 * classes * (size[1] * (overlap + 1) + 2 * side * side)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_averaged_in_float32(dtype):
    boxes = GridCrop(8, 4).geometry((16, 16))
    logits = noise(boxes).to(dtype)
    assert torch.equal(in_one_go(boxes, logits, (16, 16)), in_one_go(boxes, logits.float(), (16, 16)))


def test_logits_coarser_by_a_whole_factor_are_resized():
    boxes = GridCrop(16, 4).geometry((40, 44))
    coarse = noise(boxes)[:, :, :4, :8].contiguous()
    fine = torch.nn.functional.interpolate(coarse, (16, 16), mode="bilinear")
    assert torch.equal(in_one_go(boxes, coarse, (40, 44)), in_one_go(boxes, fine, (40, 44)))


@pytest.mark.parametrize("form", ["tensor", "tuples", "collated", "one", "arrays"])
def test_boxes_come_as_loaders_hand_them_out(form):
    boxes = GridCrop(8, 2).geometry((8, 20))
    logits = noise(boxes)
    plain = [box[:4] for box in boxes]
    merger = CropMerger(boxes, (8, 20))
    if form == "one":
        for crop, box in zip(logits, boxes, strict=True):
            merger.add(crop[None], box)
    else:
        merger.add(
            logits,
            {
                "tensor": torch.tensor(plain),
                "tuples": plain,
                "collated": [torch.tensor(column) for column in zip(*plain, strict=True)],
                "arrays": np.array(plain),
            }[form],
        )
    assert torch.equal(merger.finish(), merge_crops(logits, boxes, (8, 20))[0])


# The file -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "side"), [((700, 530), 200), ((256, 256), 256), ((1, 300), 1), ((513, 40), 40)])
def test_the_file_holds_the_classes_and_opens_everywhere(tmp_path, size, side):
    boxes = GridCrop(side, side // 4).geometry(size)
    logits = noise(boxes, 4)
    out = tmp_path / "map.tif"
    assert in_one_go(boxes, logits, size, keep="argmax", out=out) == str(out)
    expected = in_one_go(boxes, logits, size, keep="argmax").numpy()
    assert os.listdir(tmp_path) == ["map.tif"]
    np.testing.assert_array_equal(tifffile.imread(out), expected)
    with tifffile.TiffFile(out) as file:
        assert file.pages[0].is_tiled
        assert file.pages[0].compression.name == "ADOBE_DEFLATE"
    with Image.open(out) as image:
        assert image.size == size[::-1]
        np.testing.assert_array_equal(np.asarray(image.crop((3, 0, 40, 1))), expected[:1, 3:40])
    from segkit import io

    np.testing.assert_array_equal(io.read_mask(out, window=(0, 1, 1, 39)), expected[:1, 1:40])


@pytest.mark.parametrize("keep", ["logits", "probabilities"])
def test_logits_and_probabilities_are_kept_as_float_channels(tmp_path, keep):
    boxes = GridCrop(64, 16).geometry((300, 150))
    logits = noise(boxes, 3)
    in_one_go(boxes, logits, (300, 150), keep=keep, out=tmp_path / "map.tiff")
    stored = tifffile.imread(tmp_path / "map.tiff")
    expected = in_one_go(boxes, logits, (300, 150), keep=keep)
    np.testing.assert_array_equal(stored, expected.movedim(0, -1).numpy())


def test_more_than_256_classes_are_stored_as_16_bits(tmp_path):
    logits = noise([(0, 0, 8, 8)], 300)
    in_one_go([CropBox(0, 0, 8, 8)], logits, (8, 8), keep="argmax", out=tmp_path / "map.tif")
    stored = tifffile.imread(tmp_path / "map.tif")
    assert stored.dtype == np.uint16
    np.testing.assert_array_equal(stored, logits[0].argmax(0))


def test_a_file_beyond_4_gib_is_a_bigtiff_of_the_same_layout():
    from segkit.transforms._merging.scene_file import directory

    tags = [(256, 4, 1, b"\x05\0\0\0"), (324, 16, 2, bytes(range(16)))]
    data = directory(2**33, tags, True)
    assert data[:8] == (2).to_bytes(8, "little")
    assert int.from_bytes(data[8 + 20 + 12 : 8 + 40], "little") == 2**33 + 56
    assert data[56:] == bytes(range(16))


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_resolution_and_georeference_are_those_of_the_scene(tmp_path, byteorder):
    geo = [
        (33550, "d", 3, (10.0, 10.0, 0.0), True),
        (33922, "d", 6, (0.0, 0.0, 0.0, 399960.0, 5300040.0, 0.0), True),
        (34735, "H", 8, (1, 1, 0, 1, 3072, 0, 1, 32633), True),
        (34737, "s", 0, "WGS 84 / UTM zone 33N|", True),
    ]
    scene = tmp_path / "scene.tif"
    pixels = np.zeros((40, 50), np.uint16)
    tifffile.imwrite(scene, pixels, extratags=geo, resolution=(300, 150), byteorder=byteorder, metadata=None)
    boxes = GridCrop(32).geometry((40, 50))
    in_one_go(boxes, noise(boxes), (40, 50), keep="argmax", out=tmp_path / "map.tif", scene=scene)
    with tifffile.TiffFile(scene) as source, tifffile.TiffFile(tmp_path / "map.tif") as copy:
        for code in (282, 283, 296, 33550, 33922, 34735, 34737):
            assert copy.pages[0].tags[code].value == source.pages[0].tags[code].value, code


def test_a_scene_that_is_no_tiff_or_is_turned_gives_no_tags(tmp_path):
    Image.new("L", (50, 40)).save(tmp_path / "scene.png")
    turned = [(274, "H", 1, 6, True)]
    tifffile.imwrite(tmp_path / "turned.tif", np.zeros((50, 40), np.uint8), extratags=turned, resolution=(300, 150))
    boxes = GridCrop(32).geometry((40, 50))
    for scene in ("scene.png", "turned.tif"):
        in_one_go(boxes, noise(boxes), (40, 50), keep="argmax", out=tmp_path / "map.tif", scene=tmp_path / scene)
        with tifffile.TiffFile(tmp_path / "map.tif") as copy:
            assert 282 not in copy.pages[0].tags


KILLED = """
    import os, signal, sys, torch
    from segkit.transforms import CropMerger, GridCrop
    size = (2100, 300)
    boxes = GridCrop(100, 30).geometry(size)
    generator = torch.Generator()
    merger = CropMerger(boxes, size, keep="argmax", out=sys.argv[1], tag="one")
    for number, box in enumerate(merger.missing):
        if number == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        generator.manual_seed(boxes.index(box))
        merger.add(torch.randn(1, 3, 100, 100, generator=generator), [box])
        for tile in merger._merging._file._at_work:
            tile.result()  # a network leaves time to encode between batches
    merger.finish()
    print(len(boxes), number + 1)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_in_the_middle_and_started_again_it_gives_the_same_bytes(tmp_path):
    def run(name, stop):
        command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path / name), str(stop)]
        return subprocess.run(command, capture_output=True, text=True)

    run("whole.tif", -1)
    for stop in (60, 40, 3):
        assert run("parts.tif", stop).returncode == -signal.SIGKILL
        assert not (tmp_path / "parts.tif").exists()
    rows = tmp_path / ".parts.tif.rows"
    rows.write_bytes(rows.read_bytes()[:-5])  # the last entry was cut short
    done = run("parts.tif", -1)
    every, again = map(int, done.stdout.split())
    assert again < every * 0.6  # what was finished was not made again
    assert (tmp_path / "parts.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["parts.tif", "whole.tif"]


def test_a_part_of_something_else_is_thrown_away(tmp_path):
    boxes = GridCrop(100, 20).geometry((900, 100))
    for tag, left in (("one", len(boxes)), ("one", len(boxes) - 6), ("two", len(boxes))):
        merger = CropMerger(boxes, (900, 100), keep="argmax", out=tmp_path / "map.tif", tag=tag)
        assert len(merger.missing) == left
        for box in merger.missing[:9]:
            merger.add(torch.zeros(1, 2, 100, 100), box)
        merger.close()


def test_crops_at_odd_places_go_on_after_a_stop_too(tmp_path):
    boxes = [(0, 0, 1000, 60), (0, 60, 300, 60), (300, 60, 300, 60), (590, 50, 410, 70)]
    logits = {box: torch.randn(1, 3, *box[2:], generator=torch.Generator().manual_seed(box[0])) for box in boxes}
    options = {"keep": "argmax", "out": tmp_path / "map.tif"}
    for stop in (3, 4):
        merger = CropMerger(boxes, (1000, 120), **options)
        missing = [tuple(box[:4]) for box in merger.missing]
        for box in missing[:stop]:
            merger.add(logits[box], box)
        merger.close() if stop == 3 else merger.finish()
    assert missing == [boxes[0], *boxes[2:]], "the second ends in rows that the file has"
    whole = CropMerger(boxes, (1000, 120), keep="argmax")
    for box in boxes:
        whole.add(logits[box], box)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "map.tif"), whole.finish())


def test_two_processes_do_not_write_one_file(tmp_path):
    boxes = GridCrop(8).geometry((8, 8))
    first = CropMerger(boxes, (8, 8), keep="argmax", out=tmp_path / "map.tif")
    with pytest.raises(ImageWriteError, match="another process is writing it"):
        CropMerger(boxes, (8, 8), keep="argmax", out=tmp_path / "map.tif")
    first.close()


def test_a_folder_that_cannot_be_written_is_told_before_the_work(tmp_path):
    with pytest.raises(ImageWriteError, match="Check the folder"):
        CropMerger(GridCrop(8).geometry((8, 8)), (8, 8), out=tmp_path / "missing" / "map.tif")


BOXES = GridCrop(8, 2).geometry((8, 14))


def crops(*shape):
    return torch.zeros(shape)


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (ValueError, r"CropMerger: `out` must end in .tif", lambda m: CropMerger(BOXES, (8, 14), out="map.png")),
        (ValueError, r'CropMerger: `keep` must be "logits"', lambda m: CropMerger(BOXES, (8, 14), keep="labels")),
        (
            ValueError,
            r"CropMerger: `geometry` must cover the picture of 8 x 15, .* leave 8 pixels out",
            lambda m: CropMerger(BOXES, (8, 15)),
        ),
        (
            ValueError,
            r"CropMerger.add: `logits` must be \[K, C, h, w\] for 2 boxes",
            lambda m: m.add(crops(1, 2, 8, 8), BOXES),
        ),
        (ValueError, r"Add the axis of one crop with logits\[None\]", lambda m: m.add(crops(2, 8, 8), BOXES[0])),
        (ValueError, r"which is not in `geometry`", lambda m: m.add(crops(1, 2, 8, 8), (0, 1, 8, 8))),
        (ValueError, r"which came before", lambda m: [m.add(crops(1, 2, 8, 8), BOXES[0]) for _ in range(2)]),
        (
            ValueError,
            r"crops a border of \(1, 2\), pad the picture by it",
            lambda m: m.add(crops(1, 2, 6, 4), BOXES[:1]),
        ),
        (
            TypeError,
            r"got dict. Pass the output that counts, for instance out\['out'\]",
            lambda m: m.add({"out": 1}, BOXES),
        ),
        (TypeError, r"got tuple. Pass the output that counts", lambda m: m.add((torch.zeros(1),), BOXES)),
        (
            ValueError,
            r"`keep` of 'argmax' must have logits of 2 classes or more, got 1, which would win everywhere",
            lambda _: CropMerger(BOXES, (8, 14), keep="argmax").add(crops(2, 1, 8, 8), BOXES),
        ),
        (
            ValueError,
            r"`logits` must have the classes of the crops before, 2, got 3",
            lambda m: [m.add(crops(1, 2 + i, 8, 8), BOXES[i]) for i in range(2)],
        ),
        (DataError, r"2 of 2 are missing, the first CropBox\(top=0, left=0", lambda m: m.finish()),
    ],
)
def test_what_cannot_be_merged_is_refused_in_a_sentence(error, message, call, tmp_path):
    with pytest.raises(error, match=message):
        call(CropMerger(BOXES, (8, 14)))
