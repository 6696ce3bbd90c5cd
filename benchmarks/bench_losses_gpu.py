"""The losses on a GPU: milliseconds, share of the bandwidth bound, and ratios in time and peak memory to the peers.

    python benchmarks/bench_losses_gpu.py [--repeats 30] [--losses cross_entropy focal dice_ce] [--no-peers]
    TRITON_INTERPRET=1 python benchmarks/bench_losses_gpu.py --dry-run      # rehearses the script on the CPU

A time is forward + backward, the median over repeats, all calls taking turns. The bound is what must be moved at least,
the logits read twice and the gradient written once, and the labels read twice, over the bandwidth that a copy of 1 GiB
reaches in the same run. "graph" is the same loss replayed as a CUDA graph: what the kernels take without the launches
from Python. Memory is the peak of what torch allocates above where it was, divided by the size of the logits; the
gradient itself is 1.0 of it. Ratios are to eager F.cross_entropy of the same shape and dtype: below 1 is faster.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
import warnings

import torch
import torch.nn.functional as F

SHAPES = [(8, 19, 1024, 1024), (8, 21, 512, 512), (2, 150, 512, 512), (4, 4, 128, 128, 128)]
SMALL = [(2, 19, 8, 8), (2, 21, 4, 4), (1, 150, 4, 4), (1, 4, 4, 4, 4)]
DTYPES = [torch.bfloat16, torch.float32]
LOSSES = ["cross_entropy", "focal", "dice_ce"]
GOALS = """Goals: at least 75 % of the bound for cross_entropy, focal and dice_ce; dice_ce at most 0.5 x eager
F.cross_entropy and 0.2 x MONAI DiceCE; peak memory at most 1.05 x logits."""


class Card:
    """What is measured on a GPU."""

    def __init__(self):
        self.device = torch.device("cuda", torch.cuda.current_device())
        self.name = torch.cuda.get_device_name(self.device)

    def milliseconds(self, call):
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        stop.record()
        stop.synchronize()
        return start.elapsed_time(stop)

    def peak(self, call):
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before

    def captured(self, call):
        """The call as a CUDA graph; tile sizes must have been chosen before."""
        graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        with torch.cuda.stream(side):
            for _ in range(3):
                call()
        torch.cuda.current_stream().wait_stream(side)
        with torch.cuda.graph(graph):
            call()
        return graph.replay

    def compiled(self, loss):
        return torch.compile(loss)

    def copied(self):
        """A gigabyte, and a call that copies it."""
        source = torch.empty(2**28, device=self.device)
        target = torch.empty_like(source)
        return source.nbytes, lambda: target.copy_(source)


class Rehearsal(Card):
    """The same on the CPU, to see that the script runs: its numbers mean nothing."""

    def __init__(self):
        self.device, self.name = torch.device("cpu"), "a rehearsal on the CPU: no number here means anything"

    def milliseconds(self, call):
        start = time.perf_counter()
        call()
        return (time.perf_counter() - start) * 1e3

    def peak(self, call):
        call()
        return 0

    def captured(self, call):
        return call

    def compiled(self, loss):
        return loss

    def copied(self):
        source = torch.empty(2**20)
        return source.nbytes, source.clone


def peers(axes):
    """name -> loss of (logits, int64 labels); None for those that are not installed."""
    found = dict.fromkeys(["MONAI DiceCE", "smp Dice", "kornia Dice"])
    try:
        from monai.losses import DiceCELoss

        dice_ce = DiceCELoss(to_onehot_y=True, softmax=True)
        found["MONAI DiceCE"] = lambda x, y: dice_ce(x, y[:, None])
    except ImportError:
        pass
    try:
        from segmentation_models_pytorch.losses import DiceLoss

        found["smp Dice"] = DiceLoss("multiclass")
    except ImportError:
        pass
    try:
        from kornia.losses import dice_loss

        if axes == 2:
            found["kornia Dice"] = lambda x, y: dice_loss(x, y, average="macro")
        else:
            del found["kornia Dice"]  # it takes images only
    except ImportError:
        pass
    return found


def backward_of(loss, x, y):
    """A call that takes the loss and its gradient, and keeps neither."""

    def call():
        torch.autograd.grad(loss(x, y), x)

    return call


def measure(card, shape, dtype, args, bandwidth):
    """One table: shape and dtype."""
    from segkit.losses import functional as L

    torch.manual_seed(0)
    x = torch.randn(shape, device=card.device, dtype=dtype).requires_grad_()
    labels = torch.randint(0, shape[1], (shape[0], *shape[2:]), device=card.device)
    small = labels.to(torch.uint8)
    bound = (3 * x.nbytes + 2 * small.nbytes) / bandwidth * 1e3
    calls = {"F.cross_entropy": backward_of(F.cross_entropy, x, labels)}
    calls["F.cross_entropy, compiled"] = backward_of(card.compiled(F.cross_entropy), x, labels)
    ours = {f"segkit {name}": backward_of(getattr(L, name), x, small) for name in args.losses}
    calls |= ours
    missing = []
    for name, loss in peers(len(shape) - 2).items() if args.peers else ():
        if loss is None:
            missing.append(name)
        else:
            calls[name] = backward_of(loss, x, labels)
    memory, failed = {}, {}
    for name, call in list(calls.items()):
        try:
            for _ in range(2):  # compiles, and chooses tile sizes
                call()
            memory[name] = card.peak(call)
            if name in ours:
                calls[f"{name}, graph"] = card.captured(call)
        except Exception as error:  # a peer that cannot: say so and go on
            failed[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:90]}"
            del calls[name]
    times = {name: [] for name in calls}
    for _ in range(args.repeats):
        for name, call in calls.items():
            times[name].append(card.milliseconds(call))
    times = {name: statistics.median(t) for name, t in times.items()}
    title = "x".join(map(str, shape))
    print(f"\n{title} {str(dtype).removeprefix('torch.')}: {x.nbytes / 2**20:.0f} MiB of logits, bound {bound:.3f} ms")
    print("| loss | ms | share of the bound | time / F.cross_entropy | memory / logits | memory / F.cross_entropy |")
    print("| --- | --- | --- | --- | --- | --- |")
    base, base_memory = times.get("F.cross_entropy"), memory.get("F.cross_entropy")
    for name, taken in times.items():
        ratio = f"{taken / base:.2f}" if base else ""
        of_logits = f"{memory[name] / x.nbytes:.2f}" if name in memory else ""
        of_base = f"{memory[name] / base_memory:.2f}" if name in memory and base_memory else ""
        print(f"| {name} | {taken:.3f} | {bound / taken:.0%} | {ratio} | {of_logits} | {of_base} |")
    if {"segkit dice_ce", "MONAI DiceCE"} <= times.keys():
        print(f"segkit dice_ce takes {times['segkit dice_ce'] / times['MONAI DiceCE']:.2f} of MONAI DiceCE.")
    for name in missing:
        print(f"Left out: {name}, which is not installed (pip install segkit[bench]).")
    for name, reason in failed.items():
        print(f"Left out: {name}: {reason}")
    if any(name in failed for name in ours):
        raise SystemExit("A loss of segkit failed; see above.")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--losses", nargs="+", default=LOSSES)
    parser.add_argument("--no-peers", dest="peers", action="store_false")
    parser.add_argument("--dry-run", action="store_true", help="small shapes on the CPU, under TRITON_INTERPRET=1")
    args = parser.parse_args()
    if args.dry_run:
        if os.environ.get("TRITON_INTERPRET") != "1":
            parser.error("--dry-run needs Triton's interpreter: TRITON_INTERPRET=1 python ... --dry-run")
        card, shapes, args.repeats = Rehearsal(), SMALL, 1
    elif not torch.cuda.is_available():
        print("No GPU at hand: nothing is measured. TRITON_INTERPRET=1 and --dry-run rehearse the script on the CPU.")
        return
    else:
        card, shapes = Card(), SHAPES
    warnings.simplefilter("ignore")  # of the peers
    from segkit import losses

    with losses.use_backend("triton"):
        print(f"{card.name}; torch {torch.__version__}, Python {platform.python_version()}, {sys.platform}")
        size, copy = card.copied()
        copy()
        bandwidth = 2 * size / statistics.median(card.milliseconds(copy) for _ in range(args.repeats)) * 1e3
        print(f"bandwidth of a copy: {bandwidth / 1e9:.0f} GB/s. {GOALS}")
        for shape in shapes:
            for dtype in DTYPES:
                measure(card, shape, dtype, args, bandwidth)


if __name__ == "__main__":
    main()
