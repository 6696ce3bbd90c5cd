"""The flags of the quickstart."""

from __future__ import annotations

import argparse
import json
import pathlib

import torch


def parse_options(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    files = parser.add_argument_group("your files (without them, a small data set is drawn)")
    files.add_argument(
        "--images", type=pathlib.Path, metavar="DIR", help="folder of images, any size, depth and channels"
    )
    files.add_argument("--masks", type=pathlib.Path, metavar="DIR", help="folder of masks with the same stems")
    files.add_argument("--pairs", type=pathlib.Path, metavar="CSV", help="columns 'file' and 'split' (train or val)")
    files.add_argument("--pattern", metavar="P", help="mask names, where they differ: '{stem}_mask'")
    files.add_argument(
        "--val-fraction", type=float, default=0.2, metavar="F", help="share kept for the test, without --pairs"
    )

    labels = parser.add_argument_group("your labels (without these, every id found in the masks is a class)")
    labels.add_argument("--num-classes", type=int, metavar="N", help="the ids are 0 to N-1")
    labels.add_argument("--classes", metavar="IDS", help="the ids that are classes, in order, gaps allowed: 1,2,3,4,8")
    labels.add_argument(
        "--ignore-index", type=int, default=255, metavar="ID", help="the id of pixels that do not count"
    )
    labels.add_argument("--binary", action="store_true", help="0 is background and every other id is class 1")
    labels.add_argument("--colors", type=pathlib.Path, metavar="JSON", help='colour masks: {"255,0,0": 1, ...}')
    labels.add_argument("--class-names", metavar="NAMES", help="names for the report: sky,road,car")

    training = parser.add_argument_group("training")
    training.add_argument("--epochs", type=int, default=24, metavar="E")
    training.add_argument(
        "--loss", default="dice_ce", choices=["cross_entropy", "focal", "dice", "dice_ce", "dice_focal"]
    )
    training.add_argument("--multi-scale", action="store_true", help="another crop size for each batch")
    training.add_argument("--ohem", action="store_true", help="cross-entropy on the hardest quarter of the pixels only")
    training.add_argument("--crop", type=int, default=128, metavar="PIXELS", help="size of the training crops")
    training.add_argument(
        "--crops-per-image", type=int, default=0, metavar="K", help="per epoch; 0: enough to cover it"
    )
    training.add_argument("--batch-size", type=int, default=8, metavar="B")
    training.add_argument("--width", type=int, default=24, metavar="W", help="channels of the network's first level")
    training.add_argument("--lr", type=float, default=1e-3, metavar="LR")
    training.add_argument(
        "--workers", type=int, default=0, metavar="N", help="processes that load; the numbers stay the same"
    )
    training.add_argument("--seed", type=int, default=0, metavar="S", help="the same seed gives the same numbers")
    training.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    training.add_argument("--out", type=pathlib.Path, default=pathlib.Path("quickstart_out"), metavar="DIR")
    options = parser.parse_args()

    if options.pairs and not options.images:
        options.images, options.masks = options.pairs.parent / "images", options.pairs.parent / "masks"
    if (options.images is None) != (options.masks is None):
        parser.error("--images and --masks go together")
    if options.ohem and options.loss not in ("cross_entropy", "dice_ce"):
        parser.error("--ohem selects pixels of the cross-entropy: use it with --loss cross_entropy or dice_ce")
    if options.crop % 32 or options.crop < 64:
        parser.error(f"--crop must be a multiple of 32 and at least 64, got {options.crop}")
    for name in ("epochs", "batch_size", "width"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1, got {getattr(options, name)}")
    if options.classes:
        options.classes = [int(label) for label in options.classes.split(",")]
    if options.colors:
        table = json.loads(options.colors.read_text())
        options.colors = {tuple(map(int, color.split(","))): label for color, label in table.items()}
    if options.device == "auto":
        options.device = "cuda" if torch.cuda.is_available() else "cpu"
    return options
