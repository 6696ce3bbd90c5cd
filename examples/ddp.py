"""Several processes, your own loop: every rank the same steps and sizes, one loss and one ledger for all of them.

torchrun --nproc-per-node 2 ddp.py            # CPUs: gloo; with GPUs: one process for each, nccl
torchrun --nproc-per-node 2 ddp.py --quick
"""

from __future__ import annotations

import argparse
import os
import pathlib
import tempfile

import torch
import torch.distributed as dist
from shapes import CLASS_NAMES, draw_pairs
from torch import nn
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
    if not dist.is_torchelastic_launched():
        parser.error("torchrun must start it: torchrun --nproc-per-node 2 ddp.py")
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if torch.cuda.is_available() else torch.device("cpu")
    try:
        with tempfile.TemporaryDirectory() as scratch:
            train(
                shared_folder(pathlib.Path(scratch), 20 if options.quick else 200), device, 2 if options.quick else 10
            )
        dist.barrier()  # DDP keeps gloo's threads: they must have let go of the last tensors when Python ends
    finally:
        dist.destroy_process_group()


def shared_folder(scratch: pathlib.Path, pairs: int) -> pathlib.Path:
    """Rank 0 draws the images and tells the others where they are. Yours are there already: leave this out."""
    place = [str(scratch)]
    if dist.get_rank() == 0:
        draw_pairs(scratch / "data", pairs=pairs)
    dist.broadcast_object_list(place)  # the others wait here until the images are drawn
    return pathlib.Path(place[0]) / "data"


def train(folder: pathlib.Path, device: torch.device, epochs: int) -> None:
    rank, world_size = dist.get_rank(), dist.get_world_size()
    augment = T.Compose([T.PadTo(64), T.RandomCrop(64), T.HorizontalFlip()])
    dataset = PairDataset(find_pairs(folder / "images", folder / "masks"), transform=augment)
    # Everything is the same on every rank except its own number: all take the same steps, at the same size.
    batches = MultiScaleBatchSampler(
        len(dataset), scales=[64, 96], batch_size=4, every=1, seed=0, rank=rank, world_size=world_size
    )
    loader = DataLoader(dataset, batch_sampler=batches, collate_fn=stack_collate)

    torch.manual_seed(0)  # DDP copies the weights of rank 0 anyway
    net: nn.Module = UNet(3, len(CLASS_NAMES), width=8).to(device)
    if device.type == "cuda":
        net = nn.SyncBatchNorm.convert_sync_batchnorm(net)  # there is none on the CPU
    net = nn.parallel.DistributedDataParallel(net)
    # With the group, Dice is that of the whole batch; the mean of the Dice of the ranks' shares is another number.
    criterion = losses.DiceCELoss(scope="batch", process_group=dist.group.WORLD)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    ledger = mining.DifficultyLedger(len(dataset))

    for epoch in range(epochs):
        for batch in loader:
            image, mask = batch["image"].to(device), batch["mask"].to(device)
            logits = net(image)
            loss = criterion(logits, mask)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            batches.advance()  # this batch has been used: a checkpoint of batches.state_dict() resumes right here
            pixels = losses.functional.cross_entropy(logits.detach(), mask, reduction="none")
            ledger.update(batch["index"], mining.per_sample_loss(pixels, mask), epoch=epoch)
        ledger.all_reduce()  # each rank saw its share; now all know of all
        seen = int((ledger.counts() > 0).sum())
        total = torch.tensor([float(loss.detach())])  # the loss of the whole batch: the same on each rank
        alike = [torch.empty_like(total) for _ in range(world_size)]
        dist.all_gather(alike, total)
        if rank == 0:
            print(f"epoch {epoch + 1}: loss {total.item():.3f}, ledger knows {seen} of {len(dataset)} samples")
            print(f"  loss on each rank: {' '.join(f'{one.item():.6f}' for one in alike)}")


if __name__ == "__main__":
    main()
