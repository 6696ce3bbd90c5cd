"""Counting a batch: `ConfusionMatrix.update` against argmax and bincount, and against torchmetrics.

    python benchmarks/bench_metrics.py [--repeats 7] [--threads 2] [--json FILE]

Logits 8 x 21 x 512 x 512, a uint8 target of areas as masks have them, a tenth of it 255. A ratio is that of the medians
of turns taken in one process; below 1 means that segkit is faster. The goals: 0.1 for logits, and for labels 0.6 of the
bincount of int64 codes alone.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import time
from collections.abc import Callable

import torch

from segkit.metrics import ConfusionMatrix

CLASSES = 21


def in_turn(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each call, taken in turn so that a busy machine is busy for all."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if turn:
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def bare(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """What people write by hand."""
    valid = target != 255
    codes = target[valid].long() * CLASSES + logits.argmax(1)[valid]
    return torch.bincount(codes, minlength=CLASSES**2).view(CLASSES, CLASSES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(8, CLASSES, 512, 512, generator=generator)
    areas = torch.randint(0, CLASSES, (8, 16, 16), generator=generator, dtype=torch.uint8)
    areas[torch.rand(areas.shape, generator=generator) < 0.1] = 255
    target = areas.repeat_interleave(32, 1).repeat_interleave(32, 2)
    logits.scatter_add_(1, target.clamp(max=CLASSES - 1).long()[:, None], torch.full((8, 1, 512, 512), 3.0))
    labels = logits.argmax(1).to(torch.uint8)
    codes = target.long() * CLASSES + labels
    mine = ConfusionMatrix(CLASSES)
    mine.update(logits, target)
    assert torch.equal(mine.counts, bare(logits, target))

    of_logits = {
        "ConfusionMatrix.update(logits)": lambda: ConfusionMatrix(CLASSES).update(logits, target),
        "argmax + bincount": lambda: bare(logits, target),
    }
    try:
        from torchmetrics.classification import MulticlassConfusionMatrix

        theirs = MulticlassConfusionMatrix(CLASSES, ignore_index=255, validate_args=False)
        wide = target.long()  # it takes no uint8
        of_logits["torchmetrics"] = lambda: theirs.update(logits, wide)
    except ImportError:
        print("torchmetrics is not installed: its row is left out")
    of_labels = {
        "ConfusionMatrix.update(labels)": lambda: ConfusionMatrix(CLASSES).update(labels, target),
        "ConfusionMatrix.update(labels, per_image)": lambda: ConfusionMatrix(CLASSES, per_image=True).update(
            labels, target
        ),
        "bincount of int64 codes": lambda: torch.bincount(codes.flatten(), minlength=256 * CLASSES),
        "codes and bincount": lambda: torch.bincount((target.long() * CLASSES + labels).flatten()),
        "with boundary=0.02": lambda: ConfusionMatrix(CLASSES, boundary=0.02).update(labels, target),
    }
    rows = []
    for base, calls in (("argmax + bincount", of_logits), ("bincount of int64 codes", of_labels)):
        seconds = in_turn(calls, options.repeats)
        rows += [{"what": name, "ms": 1e3 * s, "ratio": s / seconds[base], "to": base} for name, s in seconds.items()]
    print(f"torch {torch.__version__}, {options.threads} threads")
    for row in rows:
        print(f"{row['what']:44} {row['ms']:8.1f} ms  {row['ratio']:6.3f} x {row['to']}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
