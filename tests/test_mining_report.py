"""What a ledger says about itself, what it freezes for an epoch, and that a killed save leaves a whole file."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from segkit.mining import DifficultyLedger, Tag, fingerprint


def filled():
    ledger = DifficultyLedger(10)
    ledger.update(range(8), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], positive=[True] * 4 + [False] * 4)
    return ledger


def test_the_summary_counts_what_is_there_and_is_json():
    ledger = filled()
    with pytest.warns(RuntimeWarning, match="samples 9"):
        ledger.update([9], [math.nan])
    found = json.loads(json.dumps(ledger.summary()))
    assert (found["num_samples"], found["seen"], found["updates"]) == (10, 8, 8)
    assert found["loss"]["mean"] == 4.5
    assert (found["loss"]["min"], found["loss"]["median"], found["loss"]["max"]) == (1.0, 4.5, 8.0)
    assert found["tags"] == {  # 2 of 8 hard (0.2 * 8, rounded up), 3 easy
        "negative": {"unseen": 0, "easy": 0, "medium": 2, "hard": 2},
        "positive": {"unseen": 0, "easy": 3, "medium": 1, "hard": 0},
        "unknown": {"unseen": 2, "easy": 0, "medium": 0, "hard": 0},
    }
    assert found["not_finite"] == {"samples": 1, "first": [9]}
    assert found["noisy"] == {"samples": 0, "first": []}
    by_class = ledger.summary(classes=["a"] * 5 + ["b"] * 5)["tags"]
    assert by_class["a"] == {"unseen": 0, "easy": 3, "medium": 2, "hard": 0}
    with pytest.raises(ValueError, match="`classes` must have one label for each of the 10 samples"):
        ledger.summary(classes=[1])


def test_the_summary_of_nothing():
    assert DifficultyLedger(0).summary()["seen"] == 0
    found = json.loads(json.dumps(DifficultyLedger(3).summary()))
    assert found["loss"]["mean"] is None
    assert found["tags"] == {"unknown": {"unseen": 3, "easy": 0, "medium": 0, "hard": 0}}


def test_a_freeze_holds_until_another_epoch_and_counts_the_moves(tmp_path):
    ledger = filled()
    pools, checksum = ledger.freeze(1)
    assert pools.tolist() == [1, 1, 1, 0, 0, 0, 2, 2, 0, 0]
    ledger.update(range(8), [800.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0])
    again, same = ledger.freeze(1)
    assert np.array_equal(again, pools)
    assert same == checksum
    ledger.save(tmp_path / "ledger.npz")
    loaded = DifficultyLedger.load(tmp_path / "ledger.npz")
    assert loaded.freeze(1)[1] == checksum
    assert loaded.freeze(2)[1] == ledger.freeze(2)[1] != checksum
    epoch, table = ledger._moves[-1]
    assert epoch == 2
    assert table[1][3] == 1, "sample 0 went from easy to hard"
    assert sum(map(sum, table)) == 10


def test_a_frozen_epoch_survives_in_the_memory_map(tmp_path):
    ledger = DifficultyLedger(10, path=tmp_path / "ledger.map")
    ledger.update(range(10), range(10))
    frozen = ledger.freeze(4)
    del ledger
    again = DifficultyLedger(10, path=tmp_path / "ledger.map")
    again.update(range(10), range(100, 0, -10))
    assert np.array_equal(again.freeze(4)[0], frozen[0])
    for epoch in range(5, 300):  # the header keeps its room
        again.freeze(epoch)
    assert DifficultyLedger(10, path=tmp_path / "ledger.map").freeze(299)[1] == again.freeze(299)[1]


def test_the_plot_shows_losses_classes_and_moves(tmp_path):
    pytest.importorskip("matplotlib")
    ledger = filled()
    for classes in (None, [0, 1] * 5):
        figure = ledger.plot(classes)
        assert [axes.get_title() for axes in figure.axes] == [
            "running loss", "easy and hard by class", "moves: none frozen yet",
        ]  # fmt: skip
    ledger.freeze(3)
    figure = ledger.plot()
    assert figure.axes[2].get_title() == "moves when epoch 3 began"
    heights = sum(patch.get_height() for patch in figure.axes[0].patches)
    assert heights == pytest.approx(8), "every sample seen is in the histogram"
    figure.savefig(tmp_path / "ledger.png")
    assert (tmp_path / "ledger.png").stat().st_size > 1000
    DifficultyLedger(0).plot()


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'segkit\[plot\]'"):
        filled().plot()


def test_a_noisy_sample_keeps_its_mark():
    ledger = DifficultyLedger(20, momentum=0.0)
    for epoch in range(6):
        ledger.update(range(20), [3.0] + [2.0 * 0.5**epoch] * 19)
    pools, _ = ledger.freeze(6)
    assert pools[0] == 0
    assert ledger._records["tag"][0] & Tag.NOISY
    assert pools.tolist().count(2) == 3, "4 are hard, one of them noise"


def test_a_fingerprint_depends_on_names_and_order():
    names = ["a.png", "b.png", "c.png"]
    assert fingerprint(names) == fingerprint(tuple(names))
    others = [names[::-1], names[:2], ["a.pngb.png", "c.png"], []]
    assert len({fingerprint(other) for other in [names, *others]}) == 5


WRITER = """
import sys
import numpy as np
from segkit.mining import DifficultyLedger
ledger = DifficultyLedger(200_000)
for value in range(1, 10**6):
    ledger._records["loss"] = value
    ledger._records["count"] = value
    ledger.save(sys.argv[1])
    print(value, flush=True)
"""


@pytest.mark.parametrize("delay", [0.0, 0.013, 0.029, 0.047])
def test_kill_9_while_saving_leaves_the_old_or_the_new_file(tmp_path, delay):
    path = tmp_path / "ledger.npz"
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        for _ in range(3):
            written = int(process.stdout.readline())
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        rest = process.stdout.read().split()
    finally:
        process.kill()
        process.wait(30)
        process.stdout.close()
    last = int(rest[-1]) if rest else written
    found = DifficultyLedger.load(path)
    values = set(found.losses().tolist()) | set(found.counts().tolist())
    assert values in ({last}, {last + 1}), "one whole version: the last that was reported, or the next"
