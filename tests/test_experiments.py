"""The experiments run, resume, and their committed tables are those of the committed records."""

from __future__ import annotations

import argparse
import math
import os
import pathlib
import re
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from segkit.datasets import Pair
from segkit.io import write_image, write_mask

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from experiments import data, lines, power, records, report, training  # noqa: E402
from experiments.questions import QUESTIONS  # noqa: E402
from experiments.run import Runs, main  # noqa: E402

RESULTS = ROOT / "experiments" / "results"


# Most of a short run would be the test on all images.
FEW = """
import sys
from experiments import data, run
from test_experiments import few

data.SETS["shapes"] = few(data.SETS["shapes"])
sys.exit(run.main())
"""


def few(load):
    """The drawn set, of 16 images to learn from and four to test on."""

    def some(root):
        train, val, classes = load(root)
        return train.at(list(range(16))), val.at(list(range(4))), classes

    return some


def run(*arguments, code=None):
    """The command; only the shapes are drawn without a folder, so other groups leave themselves out."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "OMP_NUM_THREADS": "1"}
    what = ["-m", "experiments.run"] if code is None else ["-c", code]
    command = [sys.executable, "-W", "error", *what, *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process):
    output, errors = process.communicate(timeout=240)
    return process.returncode, output, errors


def drawn(folder, classes=4, channels=1, side=64):
    """Eight images to learn from and four to test on, whose brightness is their class; their files are there."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir(exist_ok=True)
    parts = []
    for split, number in (("train", 8), ("val", 4)):
        masks = np.stack([np.kron(rng.integers(0, classes, (4, 4)), np.ones((side // 4, side // 4), int))] * number)
        values = 40 + 200 // classes * masks + rng.normal(0, 8, masks.shape)
        images = values.clip(0, 255).astype(np.uint8)[:, None].repeat(channels, 1)
        pairs = []
        for i in range(number):
            pairs.append(Pair(str(folder / "images" / f"{split}{i}.png"), str(folder / "masks" / f"{split}{i}.png")))
            write_image(pairs[-1].image, images[i].transpose(1, 2, 0))
            write_mask(pairs[-1].mask, masks[i].astype(np.uint8))
        parts.append(data.Images(torch.from_numpy(images), torch.from_numpy(masks.astype(np.uint8)), tuple(pairs)))
    return data.Data("drawn", *parts, classes, tuple(range(1, classes)[-2:]), "0")


@pytest.mark.slow
@pytest.mark.parametrize("name", QUESTIONS)
def test_every_setting_of_every_question_runs_and_measures_shares(tmp_path, name):
    torch.set_num_threads(1)
    for group in QUESTIONS[name].groups.values():
        small = drawn(tmp_path, classes=2 if group.data == "membrane" else 4, side=96 if name == "scales" else 64)
        for setting, answer in group.settings.items():
            outcome = answer(small, 0, 2, 0.01)
            counts = ("damaged left", "clean left out", "pieces wrong", "holes wrong")
            shares = [value for metric, value in outcome.metrics.items() if metric not in counts]
            assert shares, setting
            assert all(0 <= value <= 1 for value in [*shares, *outcome.late, outcome.raw]), (setting, outcome)


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_does_nothing_twice_and_measures_the_same(tmp_path, monkeypatch, capsys):
    arguments = ("boundary", "--data", tmp_path, "--steps", 3, "--seeds", 6, "--out")
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = run(*arguments, killed, code=FEW)
    until = time.monotonic() + 120
    while not records.of(records.read(killed / "boundary.jsonl"), "run") and time.monotonic() < until:
        time.sleep(0.05)
    process.kill()
    process.communicate()
    before = (killed / "boundary.jsonl").read_text()
    (killed / "boundary.jsonl").write_text(before[: before.rindex("{") + 20])  # as if killed within the last line
    code, output, errors = finish(run(*arguments, killed, code=FEW))
    assert code == 0, errors
    assert "camvid is left out" in output
    monkeypatch.setitem(data.SETS, "shapes", few(data.SETS["shapes"]))
    assert main(list(map(str, [*arguments, whole]))) == 0
    first, second = (records.read(folder / "boundary.jsonl") for folder in (killed, whole))
    assert len(records.done(first)) == len(records.of(first, "run")) + len(records.of(first, "search"))
    keep = ("phase", "group", "setting", "seed", "lr", "metrics", "late", "raw", "seeds")
    assert [[r.get(k) for k in keep] for r in first] == [[r.get(k) for k in keep] for r in second]
    phases = [r["phase"] for r in first]
    settings = len(QUESTIONS["boundary"].groups["shapes"].settings)
    assert phases[: 3 + 5 * settings + settings - 1] == ["search"] * 3 + ["run"] * 5 * settings + ["plan"] * (
        settings - 1
    )
    for name in ("boundary.md", "summary.md"):  # all but the seconds
        assert (killed / name).read_text().count("\n") == (whole / name).read_text().count("\n")
    assert (killed / "boundary.png").stat().st_size > 3000
    capsys.readouterr()
    assert main(list(map(str, [*arguments, whole, "--again", "shapes", "all pixels", 1]))) == 0
    output = capsys.readouterr().out
    recorded, again = (
        line.split(":", 1)[1].strip() for line in output.splitlines() if line.startswith(("rec", "again"))
    )
    assert recorded == again
    code, output, _ = finish(run("boundary", "--data", tmp_path, "--budget-minutes", 0, "--out", tmp_path / "nothing"))
    assert code == 1
    assert "longer --budget-minutes" in output


def test_records_of_another_process_stay_and_those_of_an_earlier_harness_go(tmp_path):
    path = tmp_path / "boundary.jsonl"
    records.append(path, {"group": "four classes"})  # no phase: an earlier harness
    options = argparse.Namespace(out=tmp_path, seeds=5, steps=2)
    one, other = (Runs("boundary", {}, options) for _ in range(2))
    lines = [dict.fromkeys(("group", "setting", "seed", "lr", "steps", "sha256"), i) for i in range(3)]
    for runs, line in zip((one, other, one), lines, strict=True):
        runs.add({"phase": "run", **line})
    assert [r["seed"] for r in records.read(path)] == [0, 1, 2]


def test_a_learning_rate_is_chosen_on_training_images_only(tmp_path):
    small = drawn(tmp_path)
    chosen = data.inner(small)
    seen = torch.cat([chosen.train.images, chosen.val.images])
    assert torch.equal(seen, small.train.images)
    assert len(chosen.val) == 2
    assert not {pair.image for pair in chosen.val.pairs} & {pair.image for pair in chosen.train.pairs}


def test_settings_of_one_seed_see_the_same_crops(tmp_path):
    small, seen = drawn(tmp_path), []

    def note(logits, masks):
        seen[-1].append(masks.clone())
        return logits.mean()

    for rate in (0.01, 0.03):
        seen.append([])
        training.fit(small.train, 4, note, lambda net: {"none": 0.0}, seed=3, steps=4, lr=rate)
    assert all(torch.equal(a, b) for a, b in zip(*seen, strict=True))


def test_the_average_is_that_of_the_last_weights():
    net = torch.nn.Linear(1, 1)
    mean = training.Averaged(net, 200)
    weights = []
    for step in range(100):
        with torch.no_grad():
            net.weight.fill_(step)
        weights.append(float(step))
        mean.update(net)
    expected = 0.0
    for i, weight in enumerate(weights, 1):  # the plain mean of the first ten, then a tenth of each new one
        expected += max(0.1, 1 / i) * (weight - expected)
    assert mean.net.weight.item() == pytest.approx(expected, rel=1e-5)


def test_data_are_known_by_their_pixels(tmp_path):
    first, again = (data.load(tmp_path, "shapes") for _ in range(2))
    assert first.sha256 == again.sha256
    assert first.rare == (2, 3)  # less than 5 % of the pixels
    assert len(first.sha256) == 16


def planned(spread, mean=0.0, seeds=5, most=12):
    found = [
        {"setting": setting, "seed": seed, "metrics": {"mIoU": value}}
        for seed, noise in enumerate(np.linspace(-1, 1, seeds))
        for setting, value in (("plain", 0.5), ("other", 0.5 + mean + spread * noise))
    ]
    return power.plans(found, ["plain", "other"], most)


def test_the_plan_asks_for_seeds_by_the_deviation_of_the_first_five():
    assert planned(0.001)[0]["seeds"] == 5  # narrow enough
    assert planned(0.03)[0]["seeds"] == 8  # deviation 0.0237: t(7) * 0.0237 / sqrt(8) = 0.0198, with 7 seeds 0.0219
    assert planned(0.3)[0]["seeds"] == 12  # as many as it may
    assert planned(0.3, mean=2.0)[0]["seeds"] == 5  # settled
    assert planned(0.03, seeds=4) == []


def test_what_can_be_seen_is_that_of_the_textbook():
    values = [1.0, 2.0, 3.0, 4.0]
    error = np.std(values, ddof=1) / 2
    assert power.seen_from(values) == pytest.approx((3.182446 + 0.978472) * error, rel=1e-5)  # t(3) at 0.975 and 0.8


def test_pieces_and_holes_are_counted():
    image = np.zeros((64, 64), bool)
    image[5:20, 5:20] = True
    image[8:12, 8:12] = False  # a hole
    image[20, 20] = True  # touches the corner
    image[40, :] = True  # a second piece, which cuts the background without making a hole
    assert lines.betti(image) == (2, 1)
    whole = lines.measures(image[None], image[None])
    assert whole == {"IoU": 1.0, "clDice": 1.0, "pieces wrong": 0.0, "holes wrong": 0.0}
    broken = image.copy()
    broken[40, 30:34] = False
    assert lines.measures(broken[None], image[None])["pieces wrong"] == 1.0


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
    mean, half = power.interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert half == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)  # t(0.975, 2) times the standard error
    assert report.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    values = power.differences({0: 1.0, 1: 2.0, 2: 4.0}, {0: 2.0, 1: 4.0, 2: 5.0, 9: 0.0})
    assert values == [1.0, 2.0, 1.0]
    assert report.p_value(values) == pytest.approx(0.0572, abs=1e-4)  # t = 4, two degrees of freedom


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([0.1, 0.11, 0.12], "higher"),
        ([-0.1, -0.11, -0.12], "lower"),
        ([0.03, 0.05, 0.06], "higher"),  # 0.047, and 4.302653 * 0.0153 / sqrt(3) = 0.038
        ([0.02, 0.05, 0.05], "open"),  # 0.040, and 0.043
        ([0.001, -0.001, 0.003], "none above 0.006"),  # 0.001 + 4.302653 * 0.002 / sqrt(3)
        ([0.1, -0.1, 0.3], "open"),
        ([0.1], "–"),
    ],
)
def test_an_interval_is_told_in_a_word(values, said):
    assert report.answer(values) == said


RECORDED = [name for name in QUESTIONS if (RESULTS / f"{name}.jsonl").exists()]


@pytest.mark.parametrize("name", RECORDED)
def test_the_committed_table_is_that_of_the_committed_records(name):
    found = records.read(RESULTS / f"{name}.jsonl")
    assert (RESULTS / f"{name}.md").read_text() == report.table(QUESTIONS[name], found, name)
    assert (RESULTS / f"{name}.png").exists()
    assert f"results/{name}.md" in (ROOT / "docs" / "experiments.md").read_text()


def test_the_committed_page_about_all_is_that_of_the_committed_records():
    found = {name: records.read(RESULTS / f"{name}.jsonl") for name in RECORDED}
    assert (RESULTS / "summary.md").read_text() == report.summary(found)
    assert {path.stem for path in RESULTS.glob("*.jsonl")} == set(RECORDED)


@pytest.mark.parametrize("page", ["what_to_use.md", "zh/what_to_use.md"])
def test_each_interval_that_a_page_quotes_stands_in_a_table(page):
    interval = r"[+-]\d\.\d{3} ± \d\.\d{3}"
    there = {found for path in RESULTS.glob("*.md") for found in re.findall(interval, path.read_text())}
    quoted = re.findall(interval, (ROOT / "docs" / page).read_text())
    assert len(quoted) >= 10
    assert set(quoted) <= there
