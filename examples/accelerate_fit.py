"""segkit with Accelerate: give it a sampler of rank 0 of 1, and it divides the batches among the processes itself.

python accelerate_fit.py --quick
accelerate launch --num-processes 2 accelerate_fit.py
"""

from __future__ import annotations

import argparse
import pathlib
import tempfile

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from shapes import CLASS_NAMES, draw_pairs
from torch.utils.data import DataLoader
from unet import UNet

from segkit import losses, mining
from segkit import transforms as T
from segkit.collate import stack_collate
from segkit.datasets import PairDataset, find_pairs
from segkit.samplers import MultiScaleBatchSampler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few steps on a few small images")
    options = parser.parse_args()
    accelerator = Accelerator()
    with tempfile.TemporaryDirectory() as scratch:
        place = [scratch]
        if accelerator.is_main_process:  # yours are there already: leave this out
            draw_pairs(pathlib.Path(scratch) / "data", pairs=16 if options.quick else 200)
        broadcast_object_list(place)
        folder = pathlib.Path(place[0]) / "data"
        train(accelerator, folder, epochs=2 if options.quick else 20, width=6 if options.quick else 24)
        accelerator.wait_for_everyone()
    accelerator.end_training()


def train(accelerator: Accelerator, folder: pathlib.Path, *, epochs: int, width: int) -> None:
    augment = T.Compose([T.PadTo(64), T.RandomCrop(64), T.HorizontalFlip()])
    dataset = PairDataset(find_pairs(folder / "images", folder / "masks"), transform=augment)
    # Rank 0 of 1: `prepare` hands batch 0 to process 0, batch 1 to process 1, and so on. `every` is then a multiple of
    # the number of processes (or "epoch"), so that all of them have one size at each step.
    batches = MultiScaleBatchSampler(
        len(dataset), scales=[64, 96], batch_size=4, every=accelerator.num_processes, seed=0
    )
    loader = DataLoader(dataset, batch_sampler=batches, collate_fn=stack_collate)
    torch.manual_seed(0)
    net = UNet(3, len(CLASS_NAMES), width=width)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    net, optimizer, loader = accelerator.prepare(net, optimizer, loader)

    criterion = losses.DiceCELoss()
    ledger = mining.DifficultyLedger(len(dataset))
    for epoch in range(epochs):
        for batch in loader:  # it fetches ahead: for a checkpoint count, and save batches.state_dict(consumed=count)
            with accelerator.accumulate(net):
                logits = net(batch["image"])
                loss = criterion(logits, batch["mask"])
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
            pixels = losses.functional.cross_entropy(logits.detach(), batch["mask"], reduction="none")
            ledger.update(batch["index"], mining.per_sample_loss(pixels, batch["mask"]), epoch=epoch)
        ledger.all_reduce()
        accelerator.print(
            f"epoch {epoch + 1}: loss {loss.item():.3f}, {int((ledger.counts() > 0).sum())} samples known"
        )


if __name__ == "__main__":
    main()
