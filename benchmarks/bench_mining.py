"""hard_mask against a full sort, and ledger updates at a hundred million samples in a memory map.

    python benchmarks/bench_mining.py [--repeats 9] [--samples 100000000] [--device cpu] [--json FILE]

A ratio is that of the medians of turns taken in one process; below 1 means that segkit is faster.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import sys
import tempfile
import time

import numpy as np
import torch

from segkit.mining import DifficultyLedger, hard_mask, per_sample_loss, segmentation_difficulty

SHAPE = 8, 512, 512


def in_turn(calls, repeats, device="cpu"):
    """Median seconds of each call, taken in turn so that a busy machine is busy for all."""
    times = {name: [] for name in calls}
    for turn in range(repeats + 2):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if device != "cpu":
                torch.accelerator.synchronize()
            if turn >= 2:
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def losses(kind, device):
    """Losses as they come: of a trained network most are near zero; many are exactly equal in half precision."""
    values = -torch.log(torch.rand(SHAPE, generator=torch.Generator().manual_seed(0)).clamp(1e-7))
    if kind == "ties":
        values = values.half().float()
    if kind == "sorted":
        values = values.flatten().sort().values.reshape(SHAPE)
    return values.to(device)


def selection(repeats, device):
    """Ratios to torch.sort of all the losses."""
    rows = {}
    for kind in ("plain", "ties", "sorted"):
        values = losses(kind, device)
        valid = (torch.rand(SHAPE, generator=torch.Generator().manual_seed(1)) > 0.1).to(device)
        calls = {
            "torch.sort": lambda v=values: torch.sort(v.flatten()),
            "torch.kthvalue": lambda v=values: torch.kthvalue(v.flatten(), v.numel() * 3 // 4),
            "keep_ratio": lambda v=values: hard_mask(v, keep_ratio=0.25),
            "keep_ratio, valid": lambda v=values, ok=valid: hard_mask(v, keep_ratio=0.25, valid=ok),
            "keep_ratio, valid, image": lambda v=values, ok=valid: hard_mask(
                v, keep_ratio=0.25, valid=ok, scope="image"
            ),
            "threshold, min_kept, valid": lambda v=values, ok=valid: hard_mask(
                v, threshold=0.7, min_kept=10**5, valid=ok
            ),
        }
        seconds = in_turn(calls, repeats, device)
        full = seconds.pop("torch.sort")
        print(f"{kind}: torch.sort of {SHAPE} on {device} {full * 1e3:.2f} ms")
        rows |= {f"{kind}, {name}, / torch.sort": (value / full, value) for name, value in seconds.items()}
    return rows


def ledger(samples, repeats):
    """Microseconds of an update of 256 random samples in a memory map: the call, and all told.

    An update notes the losses; every so often they are taken into the map. "All told" is the mean with that. Records
    that were never touched cost the file system a new page each, which is paid once in an epoch's first moments.
    """
    with tempfile.TemporaryDirectory() as folder:
        book = DifficultyLedger(samples, path=pathlib.Path(folder) / "ledger.map")
        rng = np.random.default_rng(0)
        batches = [rng.integers(0, samples, 256) for _ in range(repeats * 200)]
        values = rng.random(256)
        rows = {}
        for kind in ("new", "known"):
            seconds = []
            began = time.perf_counter()
            for indices in batches:
                start = time.perf_counter()
                book.update(indices, values)
                seconds.append(time.perf_counter() - start)
            _ = book._records  # take in what waits
            rows[f"ledger update of 256, {kind} records, us"] = statistics.median(seconds) * 1e6
            told = (time.perf_counter() - began) / len(batches)
            rows[f"ledger update of 256, {kind} records, all told, us"] = told * 1e6
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--samples", type=int, default=10**8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json")
    options = parser.parse_args()
    threads = torch.get_num_threads()
    print(f"torch {torch.__version__}, numpy {np.__version__}, python {sys.version.split()[0]}, {threads} threads")
    rows = [(what, value, 0.25) for what, (value, _) in selection(options.repeats, options.device).items()]
    rows += [(what, value, 200) for what, value in ledger(options.samples, options.repeats).items()]
    print(f"\n{'what':50} {'measured':>10} {'goal':>12}")
    for what, value, goal in rows:
        peer = "kthvalue" in what
        print(f"{what:50} {value:10.3f}   <= {goal:7g} {'(peer)' if peer else '' if value <= goal else '  MISSED'}")
    logits = torch.randn(8, 5, 512, 512)
    target = torch.randint(0, 5, (8, 16, 16)).repeat_interleave(32, 1).repeat_interleave(32, 2)
    loss = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    others = in_turn(
        {
            "per_sample_loss": lambda: per_sample_loss(loss, target),
            "segmentation_difficulty": lambda: segmentation_difficulty(logits, target),
        },
        3,
    )
    print("\nms for 8 x 5 x 512 x 512, no goal set:")
    for name, seconds in others.items():
        print(f"{name:50} {seconds * 1e3:10.1f}")
    if options.json:
        with open(options.json, "w") as file:
            json.dump({what: {"measured": value, "goal": f"<= {goal}"} for what, value, goal in rows}, file)


if __name__ == "__main__":
    main()
