"""hard_mask against a full sort, and ledger updates at a hundred million samples in a memory map.

    python benchmarks/bench_mining.py [--repeats 9] [--samples 100000000] [--device cpu] [--json FILE]

A ratio is that of the medians of turns taken in one process; below 1 means that segkit is faster.
"""

from __future__ import annotations

import argparse
import json
import mmap
import pathlib
import statistics
import sys
import tempfile
import time

import numpy as np
import torch

from segkit.mining import DifficultyLedger, hard_mask, per_sample_loss, segmentation_difficulty

SHAPE = 8, 512, 512
RECORD_BYTES = 22


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
    if kind in ("sorted", "falling"):
        values = values.flatten().sort(descending=kind == "falling").values.reshape(SHAPE)
    if kind == "half zeros":
        values = (values - values.median()).clamp(0)
    if kind == "few, else zeros":
        values = torch.where(values > 7, values, 0)
    if kind == "constant":
        values = torch.full_like(values, 0.7)
    return values.to(device)


def selection(repeats, device):
    """Ratios to torch.sort of all the losses."""
    rows = {}
    for kind in ("plain", "ties", "half zeros", "few, else zeros", "constant", "sorted", "falling"):
        values = losses(kind, device)
        valid = (torch.rand(SHAPE, generator=torch.Generator().manual_seed(1)) > 0.1).to(device)
        calls = {
            "torch.sort": lambda v=values: torch.sort(v.flatten()),
            "keep_ratio": lambda v=values: hard_mask(v, keep_ratio=0.25),
            "keep_ratio, valid": lambda v=values, ok=valid: hard_mask(v, keep_ratio=0.25, valid=ok),
            "keep_ratio, valid, image": lambda v=values, ok=valid: hard_mask(
                v, keep_ratio=0.25, valid=ok, scope="image"
            ),
            "keep_ratio 0.7, valid": lambda v=values, ok=valid: hard_mask(v, keep_ratio=0.7, valid=ok),
            "threshold, min_kept, valid": lambda v=values, ok=valid: hard_mask(
                v, threshold=0.7, min_kept=10**5, valid=ok
            ),
        }
        if kind in ("plain", "ties"):  # it takes minutes where losses fall
            calls["torch.kthvalue"] = lambda v=values: torch.kthvalue(v.flatten(), v.numel() * 3 // 4)
        seconds = in_turn(calls, repeats, device)
        full = seconds.pop("torch.sort")
        print(f"{kind}: torch.sort of {SHAPE} on {device} {full * 1e3:.2f} ms")
        rows |= {f"{kind}, {name}, / torch.sort": (value / full, value) for name, value in seconds.items()}
    return rows


def ledger(samples, repeats):
    """Microseconds of an update of 256 random samples in a memory map: the call, and all told, the take-in included.

    An update notes the losses; when 65,536 wait they are taken into the map. The first touch of a page of a map, or of
    any memory, costs the system a page fault, so a new map is timed apart from one whose pages are known, and beside
    what the faults cost alone: one byte written for each sample, in the order and the portions of the ledger. Over an
    epoch, each page is new once and each of its 186 samples is updated.
    """
    rows = {}
    rng = np.random.default_rng(0)
    values = rng.random(256)

    def all_told(book, batches):
        calls = []
        began = time.perf_counter()
        for indices in batches:
            start = time.perf_counter()
            book.update(indices, values)
            calls.append(time.perf_counter() - start)
        _ = book._records  # take in what waits
        told = (time.perf_counter() - began) / len(batches)
        return statistics.median(calls) * 1e6, told * 1e6

    batches = list(rng.integers(0, samples, (repeats * 256, 256)))
    with tempfile.TemporaryDirectory() as folder:
        book = DifficultyLedger(samples, path=pathlib.Path(folder) / "ledger.map")
        for kind in ("new", "known"):
            call, told = all_told(book, batches)
            rows[f"update of 256, {kind} pages, the call, us"] = call
            rows[f"update of 256, {kind} pages, all told, us"] = told
        del book
        with open(pathlib.Path(folder) / "bare", "w+b") as file:
            file.truncate(samples * RECORD_BYTES)
            for where, bare in (
                ("file", mmap.mmap(file.fileno(), samples * RECORD_BYTES)),
                ("memory", mmap.mmap(-1, samples * RECORD_BYTES)),
            ):
                bare.madvise(mmap.MADV_RANDOM)
                rows[f"bound: bare page faults, {where}, us"] = bare_faults(bare, batches)
                bare.close()
    with tempfile.TemporaryDirectory() as folder:
        book = DifficultyLedger(samples, path=pathlib.Path(folder) / "epoch.map")
        told = [all_told(book, rng.integers(0, samples, (4096, 256)))[1] for _ in range(samples // 4096 // 256)]
        rows["update of 256, mean of a first epoch, all told, us"] = statistics.mean(told)
    return rows


def bare_faults(bare, batches):
    """Microseconds a batch to write one byte for each sample into new pages, 256 batches at a time and sorted."""
    memory = np.frombuffer(bare, dtype=np.uint8)
    portions = [np.sort(np.concatenate(batches[i : i + 256])) * RECORD_BYTES for i in range(0, len(batches), 256)]
    began = time.perf_counter()
    for offsets in portions:
        memory[offsets] = 1
    return (time.perf_counter() - began) / len(batches) * 1e6


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
    print(f"\n{'what':55} {'measured':>10} {'goal':>12}")
    for what, value, goal in rows:
        note = "(peer)" if "kthvalue" in what else "(bound)" if "bound" in what else "" if value <= goal else "MISSED"
        print(f"{what:55} {value:10.3f}   <= {goal:7g} {note}")
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
