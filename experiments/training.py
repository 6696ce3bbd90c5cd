"""Train the small network for a fixed number of steps, and count what it gets right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from experiments.data import Images
from experiments.network import SmallUNet
from segkit import IGNORE_INDEX, samplers
from segkit import transforms as T

BATCH, CROP = 8, 64


def crops(size: int = CROP, scale: tuple[float, float] | None = None) -> T.Compose:
    """Crop, flips and right angles; before that another scale, if asked for."""
    scaled = [T.RandomScale(scale), T.PadTo(size)] if scale else []
    return T.Compose([*scaled, T.RandomCrop(size), T.HorizontalFlip(), T.VerticalFlip(), T.Rotate90()])


def plain(images: Tensor) -> Tensor:
    """uint8 → [0, 1]."""
    return images.float() / 255


def normalized(data: Images) -> Callable[[Tensor], Tensor]:
    """uint8 → mean 0 and deviation 1 over the training images."""
    values = plain(data.images)
    mean, std = values.mean((0, 2, 3), keepdim=True), values.std((0, 2, 3), keepdim=True)
    return lambda images: (plain(images) - mean) / std


class Crops:
    """(image, mask) of each key: the transform with the chance, and the class, that the key brings."""

    def __init__(self, data: Images, transform: T.Compose) -> None:
        self.data, self.transform = data, transform

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: Any) -> tuple[Tensor, Tensor]:
        image, mask = self.data.images[key], self.data.masks[key]
        return self.transform(image, mask, generator=key.generator(), focus_class=key.focus_class)


def epochs(sampler: Any) -> Iterator[tuple[int, list[Any]]]:
    """(epoch, batch of keys) for ever; the last, smaller batch of an epoch is left out."""
    epoch = 0
    while True:
        keys = list(sampler)
        for start in range(0, len(keys) - BATCH + 1, BATCH):
            yield epoch, keys[start : start + BATCH]
        epoch += 1


def fit(
    data: Images,
    classes: int,
    criterion: Callable[[Tensor, Tensor], Tensor],
    *,
    seed: int,
    steps: int,
    sampler: Any = None,
    transform: T.Compose | None = None,
    prepare: Callable[[Tensor], Tensor] | None = None,
    norm: str = "batch",
    lr: float = 3e-3,
    after_batch: Callable[[list[Any], Tensor, Tensor, int], None] | None = None,
    mixed: Callable[[Crops], Any] | None = None,
) -> nn.Module:
    """The network after ``steps`` steps of AdamW under a one-cycle schedule; all randomness comes from ``seed``."""
    torch.manual_seed(seed)
    net = SmallUNet(data.images.shape[1], classes, norm=norm).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    sampler = sampler or samplers.ShuffleSampler(len(data), seed=seed)
    transform = transform or crops()
    prepare = prepare or normalized(data)
    samples = Crops(data, transform)
    samples = mixed(samples) if mixed else samples
    batches = epochs(sampler)
    for _ in range(steps):
        epoch, keys = next(batches)
        images, masks = (torch.stack(part) for part in zip(*(samples[k] for k in keys), strict=True))
        logits = net(prepare(images))
        loss = criterion(logits, masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if after_batch is not None:
            after_batch(keys, logits.detach(), masks, epoch)
    return net.eval()


@torch.no_grad()
def confusion(net: nn.Module, images: Tensor, masks: Tensor, classes: int) -> Tensor:
    """[C, C] counts, rows the truth; ``images`` are prepared already."""
    table = torch.zeros(classes * classes, dtype=torch.int64)
    for i in range(0, len(images), 4):
        guess, truth = net(images[i : i + 4]).argmax(1), masks[i : i + 4].long()
        counts = truth != IGNORE_INDEX
        table += torch.bincount(truth[counts] * classes + guess[counts], minlength=classes * classes)
    return table.view(classes, classes)


def iou(table: Tensor) -> list[float]:
    """Intersection over union of each class; 0 where it is neither there nor predicted."""
    hit = table.diag().double()
    return (hit / (table.sum(0) + table.sum(1) - hit).clamp_min(1)).tolist()
