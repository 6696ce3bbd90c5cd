"""The experiments run, resume, and their committed tables are those of the committed records."""

from __future__ import annotations

import csv
import json
import math
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import torch

from segkit.io import write_image, write_mask

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from experiments import data, records, report  # noqa: E402
from experiments.questions import QUESTIONS  # noqa: E402

RESULTS = ROOT / "experiments" / "results"


@pytest.fixture(scope="module")
def small_set(tmp_path_factory):
    """Twelve images of 64 x 64 whose brightness is their class, as the experiments read them."""
    folder = tmp_path_factory.mktemp("small")
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir()
    with open(folder / "pairs.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "split"])
        for i in range(12):
            mask = np.kron(rng.integers(0, 4, (4, 4)), np.ones((16, 16), int)).astype(np.uint8)
            noise = rng.normal(0, 8, mask.shape)
            write_image(
                folder / "images" / f"{i}.png", (40 + 50 * mask + noise).clip(0, 255).astype(np.uint8)[..., None]
            )
            write_mask(folder / "masks" / f"{i}.png", mask)
            rows.writerow([f"{i}.png", "train" if i < 8 else "val"])
    return folder


def run(*arguments):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", "-m", "experiments.run", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUESTIONS)
def test_every_setting_of_every_question_runs_and_measures_shares(small_set, name):
    sets = data.load(small_set)
    torch.set_num_threads(1)
    for settings in QUESTIONS[name].groups.values():
        for setting, answer in settings.items():
            measured = answer(sets, 0, 2)
            shares = [
                value for metric, value in measured.items() if "damaged" not in metric and "left out" not in metric
            ]
            assert shares, setting
            assert all(0 <= value <= 1 for value in shares), (setting, measured)


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_and_does_nothing_twice(small_set, tmp_path):
    arguments = ("boundary", "--data", small_set, "--steps", 2, "--out", tmp_path)
    first = run(*arguments, "--seeds", 1)
    assert first.returncode == 0, first.stderr
    kept = (tmp_path / "boundary.jsonl").read_text()
    cut = kept[: kept.rindex("{") + 20]  # as if killed within the last line
    (tmp_path / "boundary.jsonl").write_text(cut)
    second = run(*arguments, "--seeds", 2)
    assert second.returncode == 0, second.stderr
    found = records.read(tmp_path / "boundary.jsonl")
    assert sorted((r["setting"], r["seed"]) for r in found) == sorted(
        (setting, seed) for setting in QUESTIONS["boundary"].groups["four classes"] for seed in (0, 1)
    )
    again = [r["metrics"] for r in found if r["seed"] == 0]
    assert again == [json.loads(line)["metrics"] for line in kept.splitlines()]  # the same seed, the same numbers
    assert (tmp_path / "boundary.png").stat().st_size > 5000
    nothing = run("scales", "--data", small_set, "--budget-minutes", 0, "--out", tmp_path)
    assert nothing.returncode == 1
    assert "longer --budget-minutes" in nothing.stdout


def test_foreground_is_thinned_to_the_share_and_never_relabelled():
    masks = torch.zeros(6, 128, 128, dtype=torch.uint8)
    masks[:, :, :64] = 1
    masks[:, :8] = 255
    whole = data.Images(torch.zeros(6, 1, 128, 128, dtype=torch.uint8), masks, ())
    thin = data.with_foreground(whole, 1, 0.1, block=8, seed=0).masks
    share = float((thin == 1).sum() / (thin != 255).sum())
    assert 0.08 < share < 0.12
    assert bool(((thin == masks) | ((thin == 255) & (masks == 1))).all())


def test_the_boundary_is_where_another_class_is_near():
    masks = torch.zeros(1, 9, 9, dtype=torch.uint8)
    masks[..., 5:] = 1
    assert data.boundary(masks, 2)[0, 0].tolist() == [False] * 3 + [True] * 4 + [False] * 2


def test_statistics_are_those_of_the_textbook():
    mean, half = report.interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert half == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)  # t(0.975, 2) times the standard error
    assert report.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    difference, p = report.compare({0: 1.0, 1: 2.0, 2: 4.0}, {0: 2.0, 1: 4.0, 2: 5.0, 9: 0.0})
    assert difference == pytest.approx(4 / 3)
    assert p == pytest.approx(0.0572, abs=1e-4)  # t = 4, two degrees of freedom


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_committed_table_is_that_of_the_committed_records(name):
    found = records.read(RESULTS / f"{name}.jsonl")
    seeds, steps = len({r["seed"] for r in found}), found[0]["steps"]
    command = f"python -m experiments.run {name} --data DIR --seeds {seeds} --steps {steps}"
    assert (RESULTS / f"{name}.md").read_text() == report.table(QUESTIONS[name], found, command)
    assert (RESULTS / f"{name}.png").exists()
