"""segkit with Lightning: the parts go where Lightning asks for them, nothing is wrapped.

python lightning_fit.py            # or --quick; --devices 2 trains in two processes
"""

from __future__ import annotations

import argparse
import pathlib
import tempfile

import lightning
import torch
from shapes import CLASS_NAMES, draw_pairs
from torch import Tensor
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassJaccardIndex
from unet import UNet

from segkit import IGNORE_INDEX, losses, mining
from segkit import transforms as T
from segkit.collate import pad_collate, stack_collate
from segkit.datasets import PairDataset, find_pairs
from segkit.samplers import MultiScaleBatchSampler


class Segmentation(lightning.LightningModule):
    def __init__(self, pairs: list, val_pairs: list, *, num_classes: int, width: int = 12) -> None:
        super().__init__()
        augment = T.Compose([T.PadTo(64), T.RandomCrop(64), T.HorizontalFlip()])
        self.train_set = PairDataset(pairs, transform=augment)
        self.val_set = PairDataset(val_pairs, transform=T.PadToMultiple(4))  # the margin is 255: it counts nowhere
        self.net = UNet(3, num_classes, width=width)
        self.criterion = losses.DiceCELoss()
        self.iou = MulticlassJaccardIndex(num_classes, ignore_index=IGNORE_INDEX)
        self.ledger = mining.DifficultyLedger(len(self.train_set))

    def train_dataloader(self) -> DataLoader:
        # Here, where rank and world size are known. Lightning must then not divide the batches a second time.
        batches = MultiScaleBatchSampler(
            len(self.train_set),
            scales=[64, 96],
            batch_size=4,
            every=1,
            rank=self.global_rank,
            world_size=self.trainer.world_size,
        )
        return DataLoader(self.train_set, batch_sampler=batches, collate_fn=stack_collate)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.val_set, batch_size=2, collate_fn=pad_collate)

    def training_step(self, batch: dict, number: int) -> Tensor:
        logits = self.net(batch["image"])
        pixels = losses.functional.cross_entropy(logits.detach(), batch["mask"], reduction="none")
        self.ledger.update(
            batch["index"], mining.per_sample_loss(pixels, batch["mask"]), epoch=min(self.current_epoch, 65534)
        )
        return self.criterion(logits, batch["mask"])  # uint8 masks, as the loader hands them out

    def on_train_epoch_end(self) -> None:
        self.ledger.all_reduce()

    def validation_step(self, batch: dict, number: int) -> None:
        # Not segkit.metrics: Lightning resets, and reduces over ranks, the metrics of torchmetrics by itself.
        self.iou.update(self.net(batch["image"]).argmax(1), batch["mask"].long())  # torchmetrics wants int64
        self.log("val_iou", self.iou, batch_size=len(batch["image"]), prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=3e-3)

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint["ledger"] = self.ledger.state_dict()  # plain numbers and tensors

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        self.ledger.load_state_dict(checkpoint["ledger"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few steps on a few small images")
    parser.add_argument("--devices", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        pairs = find_pairs(*draw_pairs(pathlib.Path(scratch) / "data", pairs=20 if options.quick else 200))
        cut = len(pairs) * 4 // 5
        model = Segmentation(pairs[:cut], pairs[cut:], num_classes=len(CLASS_NAMES), width=6 if options.quick else 24)
        trainer = lightning.Trainer(
            accelerator="auto",
            devices=options.devices,
            max_epochs=2 if options.quick else 20,
            use_distributed_sampler=False,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=not options.quick,
            num_sanity_val_steps=0,
            default_root_dir=scratch,
        )
        trainer.fit(model)
        if trainer.is_global_zero:
            print(f"validation IoU {float(trainer.callback_metrics['val_iou']):.3f}")
            print("hardest:", [pairs[i].image[-7:] for i in model.ledger.losses().argsort()[-3:]])


if __name__ == "__main__":
    main()
