"""expand_dataset: the same files however it is run, and resumable at any moment."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from segkit.datasets import PairDataset, expand_dataset
from segkit.errors import DataError
from segkit.io import read_image, write_image


class Roll:
    """Shift image and mask by the same random number of columns."""

    def __call__(self, image, mask, *, generator=None):
        shift = int(torch.randint(100, (), generator=generator))
        return image.roll(shift, -1), mask.roll(shift, -1)

    def __repr__(self):
        return "Roll()"


class TwoCrops:
    def __call__(self, image, mask, *, generator=None):
        return torch.stack([image[..., :4], image[..., 4:8]]), torch.stack([mask[..., :4], mask[..., 4:8]])


class Floats:
    def __call__(self, image, mask, *, generator=None):
        return image / 255, mask


class Deadly:
    """Kills its process where the image is the fourth one, unless the file `alive` is there."""

    def __init__(self, alive):
        self.alive = alive

    def __call__(self, image, mask, *, generator=None):
        if image[0, 0, 0] == 200 and not os.path.exists(self.alive):
            os.kill(os.getpid(), signal.SIGKILL)
        return image, mask

    def __repr__(self):
        return "Deadly()"


@pytest.fixture
def pairs(tmp_path):
    rng = np.random.default_rng(0)
    found = []
    for i in range(6):
        Image.fromarray(rng.integers(0, 256, (5, 9, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
        Image.fromarray(rng.integers(0, 4, (5, 9), dtype=np.uint8)).save(tmp_path / f"{i}_mask.png")
        found.append((str(tmp_path / f"{i}.png"), str(tmp_path / f"{i}_mask.png")))
    return found


def digest(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_files_are_the_same_for_any_executor(pairs, tmp_path):
    expand_dataset(pairs, Roll(), tmp_path / "one", copies=3, seed=1, progress=False)
    spawned = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))
    for name, executor in {"threads": ThreadPoolExecutor(8), "processes": spawned}.items():
        with executor:
            expand_dataset(pairs, Roll(), tmp_path / name, copies=3, seed=1, executor=executor, progress=False)
        assert digest(tmp_path / name) == digest(tmp_path / "one")


def test_the_default_pool_gives_them_too(pairs, tmp_path):
    expand_dataset(pairs, Roll(), tmp_path / "pool", copies=3, seed=1, progress=False)  # 18 copies: more than 16
    assert len(digest(tmp_path / "pool")) == 6 * 3 * 2 + 1


def test_copies_differ_and_seeds_differ(pairs, tmp_path):
    new = expand_dataset(pairs[:1], Roll(), tmp_path / "a", copies=4, seed=1, progress=False)
    other = expand_dataset(pairs[:1], Roll(), tmp_path / "b", copies=4, seed=2, progress=False)
    assert len({read_image(pair.image).tobytes() for pair in new}) > 1
    assert [read_image(p.image).tobytes() for p in new] != [read_image(p.image).tobytes() for p in other]


def test_image_and_mask_move_together(pairs, tmp_path):
    for pair in expand_dataset(pairs, Roll(), tmp_path / "o", copies=1, seed=3, progress=False):
        sample, source = PairDataset([pair], scale=False)[0], None
        for original in pairs:
            candidate = PairDataset([original], scale=False)[0]
            for shift in range(9):
                if torch.equal(candidate["image"].roll(shift, -1), sample["image"]):
                    source = candidate["mask"].roll(shift, -1)
        assert torch.equal(source, sample["mask"])


def test_the_manifest_tells_the_source_of_each_file(pairs, tmp_path):
    expand_dataset(pairs, Roll(), tmp_path / "o", copies=2, seed=5, progress=False)
    header, *entries = map(json.loads, (tmp_path / "o/manifest.jsonl").read_text().splitlines())
    assert header == {"format": 1, "seed": 5, "transform": "Roll()"}
    assert [(e["pair"], e["copy"]) for e in entries] == [(i, k) for i in range(6) for k in range(2)]
    assert entries[3]["source"] == list(pairs[1])


def test_more_copies_are_added_without_making_the_first_ones_again(pairs, tmp_path):
    out = tmp_path / "o"
    expand_dataset(pairs, Roll(), out, copies=1, seed=1, progress=False)
    first = {path: path.stat().st_mtime_ns for path in (out / "images").iterdir()}
    assert len(expand_dataset(pairs, Roll(), out, copies=3, seed=1, progress=False)) == 18
    assert {path: path.stat().st_mtime_ns for path in first} == first
    expand_dataset(pairs, Roll(), tmp_path / "whole", copies=3, seed=1, progress=False)
    assert digest(out) == digest(tmp_path / "whole")


SLOW_RUN = """
import sys, time
sys.path.insert(0, {here!r})
from test_datasets_expand import Roll
from segkit.datasets import expand_dataset

class SlowRoll(Roll):
    def __call__(self, *arguments, **keywords):
        time.sleep(0.03)
        return super().__call__(*arguments, **keywords)

print("ready", flush=True)
expand_dataset({pairs!r}, SlowRoll(), {out!r}, copies=2, seed=1, progress=False)
"""


def test_a_killed_run_is_resumed_and_ends_like_one_that_was_not_killed(pairs, tmp_path):
    expand_dataset(pairs, Roll(), tmp_path / "whole", copies=2, seed=1, progress=False)
    out = tmp_path / "killed"
    code = SLOW_RUN.format(here=os.path.dirname(__file__), pairs=pairs, out=str(out))
    for pause in (0.05, 0.15, 0.25):
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        child.stdout.readline()
        time.sleep(pause)
        child.send_signal(signal.SIGKILL)
        child.communicate(timeout=60)
    assert len(expand_dataset(pairs, Roll(), out, copies=2, seed=1, progress=False)) == 12
    assert digest(out) == digest(tmp_path / "whole")


def test_what_a_killed_run_had_half_written_is_cleared_away_and_nothing_else(pairs, tmp_path):
    expand_dataset(pairs, Roll(), tmp_path / "out", copies=1, seed=1, progress=False)
    before = digest(tmp_path / "out")
    # named as a file is that segkit.io has not finished
    for name in ("images/.000001_b_000.png.ccb31767b13abfd9.tmp", "masks/.000002_c_000.png.544375a7c3dd4ba4.tmp"):
        (tmp_path / "out" / name).write_bytes(b"half")
    (tmp_path / "out" / "images" / ".mine").write_bytes(b"kept")
    expand_dataset(pairs, Roll(), tmp_path / "out", copies=1, seed=1, progress=False)
    (tmp_path / "out" / "images" / ".mine").unlink()
    assert digest(tmp_path / "out") == before


def test_a_killed_worker_is_told_and_the_next_call_goes_on(pairs, tmp_path):
    image = read_image(pairs[3][0]).copy()
    image[0, 0, 0] = 200
    write_image(pairs[3][0], image)
    transform, pairs = Deadly(tmp_path / "alive"), [*pairs, *pairs[:3]]  # 18 copies, more than one process makes
    with pytest.raises(DataError, match=r"got 2 lost: copy 0 of .*died twice.*make the same call again") as caught:
        expand_dataset(pairs, transform, tmp_path / "new", copies=2, seed=1, progress=False)
    assert f"{pairs[3][0]!r}" in str(caught.value)
    assert "16 copies are written" in str(caught.value)
    (tmp_path / "alive").touch()
    assert len(expand_dataset(pairs, transform, tmp_path / "new", copies=2, seed=1, progress=False)) == 18
    expand_dataset(pairs, transform, tmp_path / "whole", copies=2, seed=1, progress=False)
    assert digest(tmp_path / "new") == digest(tmp_path / "whole")


def test_a_manifest_line_that_was_cut_off_is_made_again(pairs, tmp_path):
    out = tmp_path / "o"
    expand_dataset(pairs, Roll(), out, copies=1, seed=1, progress=False)
    before = digest(out)
    text = (out / "manifest.jsonl").read_bytes()
    (out / "manifest.jsonl").write_bytes(text[:-20])
    expand_dataset(pairs, Roll(), out, copies=1, seed=1, progress=False)
    assert digest(out) == before


def test_crop_stacks_become_a_pair_per_crop(pairs, tmp_path):
    new = expand_dataset(pairs[:1], TwoCrops(), tmp_path / "o", copies=1, seed=0, progress=False)
    whole = read_image(pairs[0][0])
    np.testing.assert_array_equal(read_image(new[0].image), whole[:, :4])
    np.testing.assert_array_equal(read_image(new[1].image), whole[:, 4:8])


def test_thirteen_bands_stay_thirteen_bands_of_sixteen_bits(tmp_path, pairs):
    image = np.random.default_rng(0).integers(0, 65536, (5, 9, 13), dtype=np.uint16)
    write_image(tmp_path / "wide.tif", image)
    [pair] = expand_dataset(
        [(tmp_path / "wide.tif", pairs[0][1])], Roll(), tmp_path / "o", copies=1, seed=0, progress=False
    )
    again = read_image(pair.image)
    assert (again.dtype, again.shape) == (np.uint16, (5, 9, 13))
    assert sorted(again.ravel().tolist()) == sorted(image.ravel().tolist())


def test_another_seed_transform_or_other_pairs_are_refused(pairs, tmp_path):
    out = tmp_path / "o"
    expand_dataset(pairs, Roll(), out, copies=1, seed=1, progress=False)
    for transform, seed in ((Roll(), 2), (TwoCrops(), 1)):
        with pytest.raises(DataError, match="must be empty or hold the same expansion"):
            expand_dataset(pairs, transform, out, copies=1, seed=seed, progress=False)
    with pytest.raises(DataError, match=r"number 0 \(counting from 0\) was '.*0\.png'"):
        expand_dataset(pairs[::-1], Roll(), out, copies=1, seed=1, progress=False)


def test_bad_arguments_say_what_to_type(pairs, tmp_path):
    with pytest.raises(ValueError, match="`copies` must be at least 1, got 0"):
        expand_dataset(pairs, Roll(), tmp_path / "o", copies=0, seed=1)
    with pytest.raises(TypeError, match="Leave out ToTensor and Normalize"):
        expand_dataset(pairs, Floats(), tmp_path / "p", copies=1, seed=1, progress=False)
