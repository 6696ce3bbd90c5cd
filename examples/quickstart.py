"""From two folders of files to a trained network, through segkit's parts.

    python quickstart.py                                     # draws its own small data set
    python quickstart.py --images DIR --masks DIR            # your files
    python quickstart.py --pairs pairs.csv --num-classes 4   # beside images/ and masks/, with a column "split"

Look at the data, leave out what is unusable, train, test. `main` is the whole way; each step can be copied alone.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
import tempfile
import time

import torch
from options import parse_options
from pictures import draw_curves, draw_predictions
from select_data import Data, look_at
from shapes import CLASS_NAMES, draw_data_set
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm
from unet import UNet

from segkit import collate, losses, mining, samplers
from segkit import transforms as T
from segkit.datasets import PairDataset
from segkit.metrics import ConfusionMatrix


def main() -> None:
    options = parse_options(__doc__)
    check_writable(options.out)
    torch.manual_seed(options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        if options.images is None:
            options.images, options.masks = draw_data_set(pathlib.Path(scratch), seed=options.seed)
            options.class_names = options.class_names or ",".join(CLASS_NAMES)
        data = look_at(options)
        net = UNet(len(data.channels), len(data.names), width=options.width)
        net.to(options.device, memory_format=torch.channels_last)  # a quarter faster, on CPUs and GPUs alike
        history, timing = train(net, data, options)
        report(net, data, history, timing, options)


def train(net: UNet, data: Data, options) -> tuple[list[dict[str, float]], dict[str, float]]:
    """Returns a row per epoch (loss, IoU) and what it took (seconds, images per second)."""
    augment = T.Compose(
        [
            T.PadTo(options.crop),  # only images smaller than the crop; their masks are padded with "ignore"
            T.RandomCrop(options.crop),
            T.HorizontalFlip(),
            T.VerticalFlip(),
            T.Rotate90(),
            T.ColorJitter(brightness=0.05, contrast=0.1),
            T.Normalize(data.mean, data.std),
        ]
    )
    crops = options.crops_per_image or data.crops_per_image(options.crop, options.batch_size)
    dataset = PairDataset(
        data.train * crops, remap=data.remap, colors=options.colors, channels=data.channels, transform=augment
    )
    # A sample's size and its random generator travel with its index: 0 or 8 workers give the same epoch.
    scales = [options.crop * 3 // 4, options.crop, options.crop * 5 // 4] if options.multi_scale else [options.crop]
    batches = samplers.MultiScaleBatchSampler(
        len(dataset), scales=scales, batch_size=options.batch_size, every=1, multiple_of=8, seed=options.seed
    )
    loader = DataLoader(dataset, batch_sampler=batches, collate_fn=collate.pad_collate, num_workers=options.workers)
    criterion = make_loss(options, data.weights.to(options.device))
    optimizer = torch.optim.AdamW(net.parameters(), lr=options.lr, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.lr, total_steps=options.epochs * len(batches))
    ledger = mining.DifficultyLedger(len(dataset))

    history, seen, start = [], 0, time.perf_counter()
    patience = 0.1 if sys.stderr.isatty() else 30  # seconds between two states of the bar; a log needs few
    with tqdm(total=options.epochs * len(batches), unit="batch", mininterval=patience) as bar:
        for epoch in range(options.epochs):
            batches.set_epoch(epoch)
            net.train()
            confusion, total = ConfusionMatrix(len(data.names)), 0.0
            for batch in loader:
                image, mask = batch["image"].to(options.device), batch["mask"].to(options.device)
                logits = net(image)
                loss, details = criterion(logits, mask, details=True)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()

                ledger.update(batch["index"], details.per_sample, epoch=epoch)
                confusion.update(logits.detach(), mask)
                total += loss.item()
                seen += len(image)
                bar.set_description(f"epoch {epoch + 1}", refresh=False)
                bar.set_postfix(loss=f"{loss.item():.3f}", iou=f"{confusion.mean_iou():.3f}", refresh=False)
                bar.update()
            history.append({"loss": total / len(batches), "train_miou": confusion.mean_iou()})
            if (epoch + 1) % max(1, options.epochs // 5) == 0:
                history[-1]["val_miou"] = test(net, data, options)[0].mean_iou()
    seconds = time.perf_counter() - start
    hard = (ledger.tags(hard=0.05) & mining.Tag.HARD).nonzero()[0]
    print("hard samples, worth a look:", *sorted({os.path.basename(dataset.pair(i).image) for i in hard})[:5])
    return history, {"seconds": round(seconds, 1), "images_per_second": round(seen / seconds, 1)}


def make_loss(options, weights: Tensor) -> nn.Module:
    """Softmax is inside: raw logits go in, and uint8 masks just as the loader hands them out.

    The weights help cross-entropy and focal to see rare classes; Dice counts each class alike by itself.
    """
    pixels = "ohem_cross_entropy" if options.ohem else "cross_entropy"
    parts = {
        "cross_entropy": [pixels],
        "focal": ["focal"],
        "dice": ["dice"],
        "dice_ce": ["dice", pixels],
        "dice_focal": ["dice", "focal"],
    }[options.loss]
    weighted = {"class_weights": weights}
    every = {"dice": {"scope": "batch"}, "focal": weighted, "cross_entropy": weighted}
    every["ohem_cross_entropy"] = {"keep_ratio": 0.25, **weighted}
    chosen = dict.fromkeys(parts, 1.0)
    if not {"cross_entropy", "focal"} & set(parts):
        chosen["cross_entropy"] = 0.0  # for the ledger, from the same pass
    return losses.CompoundLoss(chosen, options={name: every[name] for name in chosen})


@torch.no_grad()
def test(net: UNet, data: Data, options) -> tuple[ConfusionMatrix, list[Tensor], list[Tensor]]:
    """The confusion matrix over the validation images, their masks and the predictions, each in its image's size."""
    net.eval()
    confusion, masks, predictions = ConfusionMatrix(len(data.names)), [], []
    normalize = T.Normalize(data.mean, data.std)
    for sample in PairDataset(data.val, remap=data.remap, colors=options.colors, channels=data.channels):
        image = normalize(sample["image"]).to(options.device)
        logits = predict(net, image)
        confusion.update(logits, sample["mask"][None].to(options.device))
        masks.append(sample["mask"])
        predictions.append(logits.argmax(1)[0].to(torch.uint8).cpu())
    return confusion, masks, predictions


def predict(net: UNet, image: Tensor) -> Tensor:
    """[C, H, W] → logits [1, classes, H, W]: five overlapping crops in one batch, merged where they overlap."""
    height, width = image.shape[-2:]
    # Three quarters of each side, so that the five cover the image and overlap, and a multiple of what the net takes.
    multiple = net.multiple_of
    size = tuple(max(multiple, -(-length * 3 // 4) // multiple * multiple) for length in (height, width))
    five = T.FiveCrop(size)
    crops = five(image)[None]  # [1, 5, C, h, w]
    logits = net(T.stack_crops(crops))  # [5, classes, h, w]
    return T.merge_crops(T.unstack_crops(logits, 5), five.geometry((height, width)), (height, width))


def report(net: UNet, data: Data, history: list[dict[str, float]], timing: dict[str, float], options) -> None:
    confusion, masks, predictions = test(net, data, options)
    per_class = [None if iou != iou else round(iou, 4) for iou in confusion.iou().tolist()]
    metrics = {
        "miou": round(confusion.mean_iou(), 4),
        "per_class_iou": per_class,
        "per_class_names": data.names,
        "epochs": options.epochs,
        **timing,
        "device": str(options.device),
        "seed": options.seed,
    }
    (options.out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    draw_curves(options.out / "curves.png", history)
    shown = range(min(3, len(data.val)))
    draw_predictions(
        options.out / "predictions.png",
        [data.val[i].image for i in shown],
        [masks[i].numpy() for i in shown],
        [predictions[i].numpy() for i in shown],
    )
    for name, iou in zip(data.names, per_class, strict=True):
        print(f"  {'absent' if iou is None else f'{iou:.3f}':>7}  {name}")
    print(
        f"mean IoU {metrics['miou']:.3f} after {options.epochs} epochs in {timing['seconds']:.0f} s: see {options.out}"
    )


def check_writable(folder: pathlib.Path) -> None:
    """Find out now, not after the training, that the results can not be written."""
    folder.mkdir(parents=True, exist_ok=True)
    if not folder.stat().st_mode & 0o222:  # the superuser could write, but someone has said that it is read-only
        raise PermissionError(f"--out: the folder {str(folder)!r} is read-only. Pass another folder.")
    probe = folder / "metrics.json"
    probe.touch()


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:  # what segkit raises for bad files, data and arguments
        print(f"quickstart: {error}", file=sys.stderr)
        sys.exit(2)
