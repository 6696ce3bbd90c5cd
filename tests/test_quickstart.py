"""The quickstart, as a newcomer runs it: a process, its files, its exit code and its sentences.

Without flags and for help it is started as one types it, else where torch is loaded already.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image

from preloaded import run_script

EXAMPLES = pathlib.Path(__file__).resolve().parents[1] / "examples"


def typed(folder: pathlib.Path, *flags: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, EXAMPLES / "quickstart.py", "--out", folder / "out", *flags]
    return subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, timeout=300)


def quickstart(folder: pathlib.Path, *flags: object) -> subprocess.CompletedProcess[str]:
    return run_script(EXAMPLES / "quickstart.py", "--out", folder / "out", *flags, cwd=folder, timeout=300)


def trained(folder: pathlib.Path, *flags: object) -> dict:
    done = quickstart(folder, "--images", folder / "images", "--masks", folder / "masks", "--epochs", 1, *flags)
    assert done.returncode == 0, done.stderr
    return {**json.loads((folder / "out/metrics.json").read_text()), "said": done.stdout}


def refused(folder: pathlib.Path, *flags: object) -> str:
    done = quickstart(folder, "--images", folder / "images", "--masks", folder / "masks", "--epochs", 1, *flags)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def picture(rng: np.random.Generator, height: int, width: int, channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    mask = np.kron(rng.integers(0, 3, (-(-height // 8), -(-width // 8))), np.ones((8, 8), int))[:height, :width]
    image = rng.integers(0, 80, (height, width, channels)) + mask[..., None] * 80
    return image.astype(np.uint8), mask.astype(np.uint8)


def write_set(folder: pathlib.Path, sizes: list[tuple[int, int]], channels: int = 3) -> None:
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    for i, size in enumerate(sizes):
        image, mask = picture(rng, *size, channels)
        Image.fromarray(image.squeeze()).save(folder / "images" / f"{i:02d}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{i:02d}.png")


@pytest.fixture
def small(tmp_path):
    """Ten RGB pairs of 64 x 72, classes 0, 1, 2."""
    write_set(tmp_path, [(64, 72)] * 10)
    return tmp_path


@pytest.mark.slow
def test_without_flags_it_draws_a_data_set_and_leaves_out_the_planted_dirt(tmp_path):
    done = typed(tmp_path, "--epochs", 1)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert set(metrics) >= {
        *("miou", "per_class_iou", "per_class_names", "epochs", "seconds", "images_per_second", "device", "seed"),
    }
    assert metrics["per_class_names"] == ["background", "disk", "plank", "star"]
    assert len(metrics["per_class_iou"]) == 4
    for name in ("003.png", "011.png", "orphan.png", "027.png", "058.png"):
        assert f"{name}: " in done.stdout, name
    for name in ("curves.png", "predictions.png"):
        with Image.open(tmp_path / "out" / name) as drawn:
            assert min(drawn.size) > 200
    assert "003.png" in (tmp_path / "out/audit.html").read_text()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers_with_and_without_workers(small):
    one = trained(small, "--multi-scale", "--crop", 64, "--seed", 3)
    two = trained(small, "--multi-scale", "--crop", 64, "--seed", 3, "--workers", 2)
    assert one["per_class_iou"] == two["per_class_iou"]


@pytest.mark.slow
def test_rgba_images_of_six_sizes_just_work(tmp_path):
    write_set(tmp_path, [(64, 64), (70, 50), (33, 90), (128, 40), (61, 67), (100, 100)] * 2, channels=4)
    metrics = trained(tmp_path, "--num-classes", 3, "--crop", 64, "--loss", "dice_ce", "--ohem")
    assert "4 channel(s) of uint8" in metrics["said"]


def write_microscopy(folder: pathlib.Path, count: int) -> None:
    """Cells on a dark ground as RGBA with an opaque alpha, in five sizes; masks of 0 and 255."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    for i in range(count):
        height, width = [(128, 128), (128, 160), (180, 180), (260, 348), (256, 256)][i % 5]
        y, x = np.mgrid[:height, :width]
        light = rng.normal(0.06, 0.01, (height, width))
        mask = np.zeros((height, width), bool)
        for _ in range(height * width // 1600):
            cy, cx, a, b, t = rng.uniform((0, 0, 5, 5, 0), (height, width, 12, 12, np.pi))
            u, v = (x - cx) * np.cos(t) + (y - cy) * np.sin(t), (y - cy) * np.cos(t) - (x - cx) * np.sin(t)
            cell = (u / a) ** 2 + (v / b) ** 2 < 1
            light[cell] = rng.uniform(0.14, 0.5) + rng.normal(0, 0.02, cell.sum())
            mask |= cell
        grey = (light.clip(0, 1) * 255).astype(np.uint8)
        image = np.dstack([grey, grey, grey, np.full_like(grey, 255)])
        Image.fromarray(image).save(folder / f"images/{i:03d}.png")
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"masks/{i:03d}.png")


@pytest.mark.slow
def test_microscopy_with_an_opaque_alpha_is_learnt_in_two_minutes(tmp_path):
    write_microscopy(tmp_path, 30)
    done = quickstart(tmp_path, "--images", tmp_path / "images", "--masks", tmp_path / "masks", "--epochs", 4)
    assert done.returncode == 0, done.stderr
    assert "left out: channel 3 of 4 (from 0): an opaque alpha" in done.stdout
    assert "Normalize" not in done.stderr
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert metrics["miou"] > 0.85


@pytest.mark.slow
def test_thirteen_band_images_with_gaps_in_the_ids_just_work(shared, tmp_path):
    folder = shared / "data/s2_uint16"
    for flags in (["--classes", "1,2,3,4,8", "--ignore-index", 0], ["--ignore-index", 0]):
        done = quickstart(
            tmp_path, "--images", folder / "images", "--masks", folder / "masks", "--epochs", 1, "--crop", 64, *flags
        )
        assert done.returncode == 0, done.stderr
        metrics = json.loads((tmp_path / "out/metrics.json").read_text())
        assert metrics["per_class_names"] == ["class 1", "class 2", "class 3", "class 4", "class 8"]
        assert "13 channel(s) of uint16" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["cross_entropy", "focal", "dice", "dice_focal"])
def test_every_loss_trains(small, loss):
    assert 0 <= trained(small, "--loss", loss, "--crop", 64)["miou"] <= 1


@pytest.mark.slow
def test_masks_of_0_and_255_are_background_and_foreground(small):
    for path in (small / "masks").iterdir():
        Image.fromarray((np.array(Image.open(path)) > 0).astype(np.uint8) * 255).save(path)
    metrics = trained(small, "--crop", 64)
    assert metrics["per_class_names"] == ["class 0", "class 255"]
    assert "255 is taken as class 1" in metrics["said"]


@pytest.mark.slow
def test_a_truncated_image_among_good_ones_is_named_and_skipped(small):
    path = small / "images/04.png"
    path.write_bytes(path.read_bytes()[:500])
    metrics = trained(small, "--crop", 64)
    assert "left out: " in metrics["said"]
    assert "04.png: truncated" in metrics["said"]
    assert "train on, 2 to test on" in metrics["said"]


def test_a_class_beyond_num_classes_is_refused_with_its_file(small):
    mask = np.array(Image.open(small / "masks/07.png"))
    mask[3, 4] = 7
    Image.fromarray(mask).save(small / "masks/07.png")
    sentence = refused(small, "--num-classes", 4)
    assert "07.png" in sentence
    assert "got 7" in sentence
    assert "--num-classes" in sentence


def test_mixed_channel_counts_are_refused_with_both_files(small):
    Image.fromarray(np.array(Image.open(small / "images/05.png"))[..., 0]).save(small / "images/05.png")
    sentence = refused(small)
    assert "05.png" in sentence
    assert "same number of channels" in sentence


def test_an_empty_folder_is_refused_by_name(small):
    for path in (small / "images").iterdir():
        path.unlink()
    assert "images" in refused(small)


def test_folders_without_common_stems_are_refused_with_names_of_both(small):
    for path in (small / "masks").iterdir():
        path.rename(path.with_name(f"{path.stem}_seg.png"))
    sentence = refused(small)
    assert 'pattern="{stem}_seg"' in sentence.replace("'", '"') or "--pattern" in sentence


def test_names_that_differ_are_matched_by_pattern(small):
    for path in (small / "masks").iterdir():
        path.rename(path.with_name(f"{path.stem}_seg.png"))
    assert trained(small, "--pattern", "{stem}_seg", "--crop", 64)["epochs"] == 1


def test_a_read_only_out_is_refused_before_anything_is_done(small):
    (small / "out").mkdir()
    (small / "out").chmod(0o555)
    assert "read-only" in refused(small) or "ermission" in refused(small)


def test_out_that_is_a_file_is_refused(small):
    (small / "out").write_text("")
    assert "out" in refused(small)


def test_nothing_usable_is_refused(tmp_path):
    write_set(tmp_path, [(64, 64)] * 2)
    for path in (tmp_path / "images").iterdir():
        path.write_bytes(b"")
    assert "usable" in refused(tmp_path)


def test_help_explains_itself_without_a_run(tmp_path):
    done = typed(tmp_path, "--help")
    assert done.returncode == 0
    for flag in (
        "--images",
        "--masks",
        "--num-classes",
        "--epochs",
        "--loss",
        "--multi-scale",
        "--ohem",
        "--seed",
        "--device",
    ):
        assert flag in done.stdout


def test_uint16_rgb_images_train_too(tmp_path):
    write_set(tmp_path, [(64, 64)] * 6)
    for path in list((tmp_path / "images").iterdir()):
        image = np.array(Image.open(path)).astype(np.uint16) * 257
        tifffile.imwrite(path.with_suffix(".tif"), image, photometric="rgb")
        path.unlink()
    assert "3 channel(s) of uint16" in trained(tmp_path, "--crop", 64)["said"]
