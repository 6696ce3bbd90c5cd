"""Tune when and how often hard samples are drawn, with Optuna: the schedule is four numbers, the score is test IoU.

    python tune_schedule.py            # or --quick

A schedule that does nothing is the first trial, so that the best one has something to beat.
"""

from __future__ import annotations

import argparse
import pathlib
import tempfile
import warnings

import optuna
import torch
from shapes import CLASS_NAMES, draw_pairs
from torch.utils.data import DataLoader
from unet import UNet

from segkit import losses, mining
from segkit import transforms as T
from segkit.collate import stack_collate
from segkit.datasets import Pair, PairDataset, find_pairs
from segkit.metrics import ConfusionMatrix
from segkit.samplers import DifficultySampler, LinearSchedule

CROP = T.Compose([T.PadTo(96), T.RandomCrop(96), T.HorizontalFlip()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="two trials on a few images")
    options = parser.parse_args()
    trials, epochs = (2, 4) if options.quick else (options.trials, 10)
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        pairs = find_pairs(*draw_pairs(pathlib.Path(scratch) / "data", pairs=24 if options.quick else 160))
        cut = len(pairs) * 3 // 4
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            direction="maximize",
            sampler=optuna.samplers.TPESampler(seed=0),
            # A trial that is worse than half of the others at the same epoch is stopped there.
            pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=epochs // 3),
        )
        study.enqueue_trial({"start": 0.2, "end": 0.2, "warmup": 1, "drop_easy": 0.0})  # 20 % is hard anyway: no change
        study.optimize(lambda trial: score(trial, pairs[:cut], pairs[cut:], epochs), n_trials=trials)
    print(f"no schedule: IoU {study.trials[0].value:.3f}")
    chosen = ", ".join(f"{name}={value:.2f}" for name, value in study.best_params.items())
    print(f"best of {trials}: IoU {study.best_value:.3f} with {chosen}")
    print("Train both again with other seeds before you believe it: the best of many trials is partly luck.")


def score(trial: optuna.Trial, train_pairs: list[Pair], test_pairs: list[Pair], epochs: int) -> float:
    schedule = LinearSchedule(
        trial.suggest_float("start", 0.0, 0.5), trial.suggest_float("end", 0.0, 0.8), epochs=max(1, epochs // 2)
    )
    ledger = mining.DifficultyLedger(len(train_pairs))
    sampler = DifficultySampler(
        ledger,
        hard_ratio=schedule,
        warmup_epochs=trial.suggest_int("warmup", 1, max(1, epochs // 2)),
        drop_easy=trial.suggest_float("drop_easy", 0.0, 0.3),
        seed=0,
    )
    loader = DataLoader(
        PairDataset(train_pairs, transform=CROP), batch_size=6, sampler=sampler, collate_fn=stack_collate
    )
    torch.manual_seed(0)  # the same weights to begin with in each trial
    net = UNet(3, len(CLASS_NAMES), width=6)
    criterion = losses.DiceCELoss()
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3)
    iou = 0.0
    for epoch in range(epochs):
        net.train()
        for batch in loader:
            logits = net(batch["image"])
            optimizer.zero_grad()
            criterion(logits, batch["mask"]).backward()
            optimizer.step()
            pixels = losses.functional.cross_entropy(logits.detach(), batch["mask"], reduction="none")
            ledger.update(batch["index"], mining.per_sample_loss(pixels, batch["mask"]), epoch=epoch)
        iou = test(net, test_pairs)
        trial.report(iou, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned
    return iou


@torch.no_grad()
def test(net: UNet, pairs: list[Pair]) -> float:
    """Mean IoU over the classes, of the middle of each image."""
    net.eval()
    confusion = ConfusionMatrix(len(CLASS_NAMES))
    for sample in PairDataset(pairs, transform=T.Compose([T.PadTo(96), T.CenterCrop(96)])):
        confusion.update(net(sample["image"][None]), sample["mask"][None])
    return confusion.mean_iou()


if __name__ == "__main__":
    main()
