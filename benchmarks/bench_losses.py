"""Time and memory of the losses, as multiples of F.cross_entropy and of the logits, under two allocator conditions.

    python benchmarks/bench_losses.py [--peers] [--repeats 7] [--threads 2] [--clock wall|cpu] [--quick]

Each shape runs in a process of its own, twice: with the C library's default allocator, where fresh large tensors cost
page faults, and with a warm heap (MALLOC_TRIM_THRESHOLD_ and MALLOC_MMAP_THRESHOLD_ large), where they do not. A time
is forward + backward, the median over repeats, divided by that of F.cross_entropy measured in turn with it; with
--clock cpu it is the process's own time, which other processes disturb less (give --threads 1 with it).

Memory is the most that is alive in tensors at a time during one call (from torch.profiler's record of allocations,
exact). Beside it stands the rise of a fresh process's peak resident size (VmHWM, reset through /proc/self/clear_refs,
freed memory given back before; Linux only), which depends on how the allocator reuses what was freed. Both are divided
by the size of the logits.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
import warnings

SHAPES = {"8x4x256x256": (8, 4, 256, 256), "4x21x512x512": (4, 21, 512, 512), "2x150x512x512": (2, 150, 512, 512)}
SMALL = "2x3x64x48"
COARSE = "2x19x128x256 to 512x1024"
# name -> time with the default allocator, with a warm heap, memory; from the issue, None where it names none
GOALS = {
    "cross_entropy": (0.85, 1.2, 1.15),
    "focal": (0.85, 1.2, 1.15),
    "dice_ce": (0.85, 1.2, 1.15),
    "dice_focal": (1.1, None, 1.15),
    "ohem_cross_entropy": (1.3, None, 1.15),
    "lovasz": (4, None, 1.15),
}
WARM = {"MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_MMAP_THRESHOLD_": str(2**40)}


def ours():
    from segkit.losses import functional as L

    return {name: getattr(L, name) for name in GOALS} | {"dice": L.dice}


def steps(classes):
    """The losses of the quickstart's step with what its ledger takes: by two modules and a third call, and in one."""
    from segkit import losses, mining

    weights = [1.0 + c % 3 for c in range(classes)]
    dice, pixels = losses.DiceLoss(scope="batch"), losses.CrossEntropyLoss(class_weights=weights)
    compound = losses.CompoundLoss(
        {"dice": 1.0, "cross_entropy": 1.0},
        options={"dice": {"scope": "batch"}, "cross_entropy": {"class_weights": weights}},
    )

    def by_hand(x, y):
        loss = dice(x, y) + pixels(x, y)
        mining.per_sample_loss(losses.functional.cross_entropy(x.detach(), y, reduction="none"), y)
        return loss

    return {"a step by hand": by_hand, "a step in one": lambda x, y: compound(x, y, details=True)[0]}


def objects(size):
    """The loss of objects, on a target and regions that are made beforehand, as in a loader."""
    import torch

    from segkit.losses import functional as L
    from segkit.transforms.functional import component_regions

    cells = torch.randint(0, size[1], (size[0], *(-(-n // 32) for n in size[2:])), dtype=torch.uint8)
    target = cells.repeat_interleave(32, 1).repeat_interleave(32, 2)[:, : size[2], : size[3]].contiguous()
    regions = component_regions(target)
    return {"component_dice_ce": lambda x, _: L.component_dice_ce(x, target, regions)}


def peers():
    found = {}
    try:
        from monai import losses as monai

        both = {"to_onehot_y": True, "softmax": True}
        dice_ce, dice_focal = monai.DiceCELoss(**both), monai.DiceFocalLoss(**both)
        found["MONAI DiceCE"] = lambda x, y: dice_ce(x, y[:, None])
        found["MONAI DiceFocal"] = lambda x, y: dice_focal(x, y[:, None])
    except ImportError:
        pass
    try:
        from segmentation_models_pytorch import losses as smp

        found["smp Dice"] = smp.DiceLoss("multiclass")
        found["smp Dice, ignore_index"] = smp.DiceLoss("multiclass", ignore_index=255)
        found["smp Lovász"] = smp.LovaszLoss("multiclass")
    except ImportError:
        pass
    try:
        from kornia import losses as kornia

        found["kornia Dice"] = lambda x, y: kornia.dice_loss(x, y, average="macro")
        found["kornia Lovász"] = kornia.lovasz_softmax_loss
    except ImportError:
        pass
    return found


def status(key):
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    return 0


def peak_extra(call, clear):
    """Bytes by which the resident size rises above where it was, at its highest."""
    call()  # whatever is loaded on the first call
    clear()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS:")
    kept = call()
    del kept
    return status("VmHWM:") - before


def peak_alive(call, clear):
    """Bytes of the tensors that a call makes, at the moment when most are alive."""
    import torch

    call()
    clear()  # not in the record, where it would stand for memory that is given back
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        kept = call()
    del kept
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    alive = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        alive += event.nbytes()
        most = max(most, alive)
    return most


def seconds(calls, repeats, inner, clock):
    """Median time of each call; they take turns, so that all meet the same machine."""
    times = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(repeats):
        for name, call in calls.items():
            start = clock()
            for _ in range(inner):
                call()
            times[name].append((clock() - start) / inner)
    return {name: statistics.median(t) for name, t in times.items()}


def child(shape, repeats, threads, with_peers, clock, only):
    import torch
    import torch.nn.functional as F

    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    coarse = shape == COARSE
    size = (2, 19, 128, 256) if coarse else SHAPES.get(shape, (2, 3, 64, 48))
    x = torch.randn(size, requires_grad=True)
    target = torch.randint(0, size[1], (size[0], *((512, 1024) if coarse else size[2:])))
    small = target.to(torch.uint8)
    logit_bytes = x.numel() * 4 * (16 if coarse else 1)

    def clear():
        x.grad = None

    def run(loss, y, **options):
        def call():
            clear()
            loss(x, y, **options).backward()

        return call

    def interpolated(x, y):
        return F.cross_entropy(F.interpolate(x, y.shape[1:], mode="bilinear", align_corners=False), y)

    options = {"upsample": "bilinear"} if coarse else {}
    base = "interpolate + F.cross_entropy" if coarse else "F.cross_entropy"
    calls = {base: run(interpolated if coarse else F.cross_entropy, target)}
    calls |= {name: run(loss, small, **options) for name, loss in ours().items()}
    if not coarse:
        calls |= {name: run(loss, small) for name, loss in (steps(size[1]) | objects(size)).items()}
    if with_peers and not coarse:
        calls |= {name: run(loss, target) for name, loss in peers().items()}
    if only:  # memory, in a process that did nothing else: a used heap spreads what it hands out over more pages
        extra = [peak_extra(calls[only], clear), peak_alive(calls[only], clear)]
        if only in ours():
            clear()
            with torch.no_grad():
                extra.append(peak_alive(lambda: ours()[only](x, small, **options), clear))
        extra = [e / logit_bytes for e in extra]
        print(json.dumps(extra))
        return
    slow = {name for name in calls if "Lovász" in name or "MONAI DiceFocal" in name}
    clock = {"wall": time.perf_counter, "cpu": time.process_time}[clock]
    taken = seconds({n: c for n, c in calls.items() if n not in slow}, repeats, 100 if shape == SMALL else 1, clock)
    taken |= seconds({n: calls[n] for n in slow}, 2, 1, clock)
    for name in calls:
        row = {"shape": shape, "loss": name, "ms": taken[name] * 1e3, "ratio": taken[name] / taken[base]}
        print(json.dumps(row), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", action="store_true", help="measure MONAI, smp and kornia too, where installed")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--quick", action="store_true", help="leave out the largest shape")
    parser.add_argument("--shapes", nargs="+", metavar="SHAPE", help=f"only these, of {SMALL}, {', '.join(SHAPES)}")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return child(args.child[0], args.repeats, args.threads, args.peers, args.clock, args.child[1])
    import torch

    print(
        f"torch {torch.__version__}, {args.threads} threads, {platform.machine()}, Python {platform.python_version()}"
    )
    shapes = args.shapes or [SMALL, *list(SHAPES)[: 2 if args.quick else 3], COARSE]
    rows = {}
    for shape in shapes:
        for condition in ("default", "warm"):
            common = ["--repeats", str(args.repeats), "--threads", str(args.threads), "--clock", args.clock] + [
                "--peers"
            ] * args.peers
            command = [sys.executable, __file__, "--child", shape, "", *common]
            done = subprocess.run(
                command,
                env=os.environ | (WARM if condition == "warm" else {}),
                text=True,
                stdout=subprocess.PIPE,
                check=True,
            )
            for line in done.stdout.splitlines():
                row = json.loads(line)
                rows.setdefault((shape, row["loss"]), {})[condition] = row
                if condition == "default":
                    alone = subprocess.run(
                        [*command[:4], row["loss"], *common], text=True, stdout=subprocess.PIPE, check=True
                    )
                    row["resident"], row["memory"], row["memory_forward"] = (*json.loads(alone.stdout), None)[:3]
    print("\n| logits | loss | time, default | time, warm heap | memory | no gradient | resident | goals |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for (shape, loss), row in rows.items():
        default, warm = row["default"], row["warm"]
        forward = "" if default["memory_forward"] is None else f"{default['memory_forward']:.2f}"
        goal = GOALS.get(loss, (None, None, None))
        if shape == SMALL:
            goal = (3, 3, None) if loss in GOALS else (None,) * 3
        if shape == COARSE:
            goal = (1.5, 1.5, None) if loss in GOALS else (None,) * 3
        words = " / ".join("-" if g is None else f"{g:g}" for g in goal) if any(goal) else ""
        print(
            f"| {shape} | {loss} | {default['ratio']:.2f} ({default['ms']:.2f} ms) | {warm['ratio']:.2f} "
            f"({warm['ms']:.2f} ms) | {default['memory']:.2f} | {forward} | {default['resident']:.2f} | {words} |"
        )
    print(
        "\nTimes are multiples of the first row of each shape, memory of the (full-size) logits; the goals are those of"
    )
    print("time, default / time, warm / memory.")
    return None


if __name__ == "__main__":
    main()
