"""ShuffleSampler against torch's RandomSampler, and the goals that it must meet.

    python benchmarks/bench_samplers.py [--repeats 7] [--json FILE]

Ratios are of the medians of turns taken in one process; below 1 means that segkit is faster. `RandomSampler` builds and
yields one epoch; so does `ShuffleSampler`, whose items also carry their epoch, seed and generator.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import statistics
import sys
import time
import tracemalloc

import numpy as np
import torch
from torch.utils.data import RandomSampler

from segkit.samplers import ClassBalancedSampler, MultiScaleBatchSampler, RepeatFactorSampler, ShuffleSampler

BILLION = 10**9


def in_turn(calls, repeats):
    """Median seconds and spread of each call, taken in turn so that a busy machine is busy for all."""
    times = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if turn:
                times[name].append(time.perf_counter() - began)
    return {name: (statistics.median(t), min(t), max(t)) for name, t in times.items()}


def read(items):
    """What a loop costs: as a training loop does, one Python iteration an index."""
    for _ in items:
        pass


def peak_kib(call):
    """The most Python and NumPy memory that a call had at one time."""
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json")
    options = parser.parse_args()
    million = 10**6
    random, shuffle, huge = RandomSampler(range(million)), ShuffleSampler(million), ShuffleSampler(BILLION)
    shown = in_turn({"RandomSampler": lambda: read(random), "ShuffleSampler": lambda: read(shuffle)}, options.repeats)
    first = in_turn({"first": lambda: next(iter(ShuffleSampler(BILLION)))}, 50)["first"]
    deep = in_turn({"deep": lambda: read(itertools.islice(iter(huge), million))}, options.repeats)["deep"]
    state = {**huge.state_dict(), "epoch": 1, "consumed": 999_999_000}

    def resume():
        huge.load_state_dict(state)
        return next(iter(huge))

    resumed = in_turn({"resume": resume}, 50)["resume"]
    memory = peak_kib(lambda: collections.deque(itertools.islice(iter(huge), million), maxlen=0))
    labels = np.random.default_rng(0).integers(0, 20, million)
    others = {
        "ClassBalancedSampler, 10**6 samples": ClassBalancedSampler(labels),
        "RepeatFactorSampler, 10**6 samples": RepeatFactorSampler(labels),
        "MultiScaleBatchSampler, batches of 16": MultiScaleBatchSampler(million, scales=[256, 512], batch_size=16),
    }
    rates = {}
    for name, sampler in others.items():
        items = 10_000 if "Batch" in name else 200_000
        seconds = in_turn({name: lambda s=sampler, n=items: read(itertools.islice(iter(s), n))}, 3)[name][0]
        rates[name] = items * (16 if "Batch" in name else 1) / seconds
    rows = [
        ("per index at n = 10**6, / RandomSampler", shown["ShuffleSampler"][0] / shown["RandomSampler"][0], "<=", 1.5),
        ("first index of 10**9, ms", first[0] * 1e3, "<=", 1.0),
        ("indices a second at n = 10**9, millions", million / deep[0] / 1e6, ">=", 1.0),
        ("peak memory of a million indices of 10**9, KiB", memory, "<=", 16 * 1024),
        ("resume near the end of 10**9, ms", resumed[0] * 1e3, "<=", 1.0),
    ]
    print(f"torch {torch.__version__}, numpy {np.__version__}, python {sys.version.split()[0]}")
    for name, (median, low, high) in shown.items():
        print(f"{name:16} {median * 1e3:8.1f} ns an index (median; {low * 1e3:.1f} to {high * 1e3:.1f})")
    print(f"\n{'what':50} {'measured':>10} {'goal':>12}")
    for what, value, sign, goal in rows:
        met = value <= goal if sign == "<=" else value >= goal
        print(f"{what:50} {value:10.3f} {sign:>4} {goal:7g} {'' if met else '  MISSED'}")
    print("\nkeys a second, no goal set:")
    for name, rate in rates.items():
        print(f"{name:50} {rate:10,.0f}")
    if options.json:
        with open(options.json, "w") as file:
            json.dump({what: {"measured": value, "goal": f"{sign} {goal}"} for what, value, sign, goal in rows}, file)


if __name__ == "__main__":
    main()
