"""Train the small network, average its weights, and judge it at several late points."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from experiments.data import Images
from experiments.network import SmallUNet
from segkit import IGNORE_INDEX, samplers
from segkit import transforms as T

BATCH, CROP = 8, 64
LATE = (0.7, 0.8, 0.9, 1.0)  # when the averaged network is judged, as shares of the steps

Judge = Callable[[nn.Module], dict[str, float]]


@dataclass(frozen=True)
class Outcome:
    """What one run measured: the mean over the late points of the averaged network, and what stands behind it."""

    metrics: dict[str, float]
    late: list[float]  # the first metric at each late point
    raw: float  # the first metric of the last weights, not averaged
    seconds: float  # CPU time of the training alone


def crops(size: int = CROP, *before: Any) -> T.Compose:
    """Crop, flips and right angles, after what comes ``before``."""
    return T.Compose([*before, T.RandomCrop(size), T.HorizontalFlip(), T.VerticalFlip(), T.Rotate90()])


def plain(images: Tensor) -> Tensor:
    """uint8 → [0, 1]."""
    return images.float() / 255


def normalized(data: Images) -> Callable[[Tensor], Tensor]:
    """uint8 → mean 0 and deviation 1 over the training images."""
    values = plain(data.images)
    mean, std = values.mean((0, 2, 3), keepdim=True), values.std((0, 2, 3), keepdim=True)
    return lambda images: (plain(images) - mean) / std


class Crops:
    """(image, mask) of each key: the transform with the chance, the size and the class that the key brings."""

    def __init__(self, data: Images, transform: Callable[..., Any]) -> None:
        self.data, self.transform = data, transform

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: Any) -> tuple[Tensor, Any]:
        image, mask = self.data.images[key], self.data.masks[key]
        return self.transform(image, mask, generator=key.generator(), size=key.size, focus_class=key.focus_class)


def batches_of(sampler: Any) -> Iterator[tuple[int, list[Any]]]:
    """(epoch, batch of keys) for ever; the last, smaller batch of an epoch is left out, unless it is the only one."""
    epoch = 0
    while keys := list(sampler):
        size = min(BATCH, len(keys))
        for start in range(0, len(keys) - size + 1, size):
            yield epoch, keys[start : start + size]
        epoch += 1


class Averaged:
    """The exponential average of a network's weights; its horizon is a twentieth of the steps, shorter at first."""

    def __init__(self, net: nn.Module, steps: int) -> None:
        self.net, self.steps, self.seen = copy.deepcopy(net).eval(), steps, 0

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """One step more."""
        self.seen += 1
        share = max(20 / self.steps, 1 / self.seen)
        for mean, now in zip(self.net.state_dict().values(), net.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(now, min(1.0, share))


def fit(
    data: Images,
    classes: int,
    criterion: Callable[[Tensor, Any], Tensor],
    judge: Judge,
    *,
    seed: int,
    steps: int,
    lr: float,
    batches: Iterator[tuple[int, list[Any]]] | None = None,
    transform: Callable[..., Any] | None = None,
    prepare: Callable[[Tensor], Tensor] | None = None,
    norm: str = "batch",
    after_batch: Callable[[list[Any], Tensor, Tensor, int], None] | None = None,
    mixed: Callable[[Crops], Any] | None = None,
) -> Outcome:
    """What ``judge`` says after ``steps`` steps of AdamW under a one-cycle schedule; all chance comes from ``seed``."""
    torch.manual_seed(seed)
    net = SmallUNet(data.images.shape[1], classes, norm=norm).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=1e-3)
    samples: Any = Crops(data, transform or crops())
    samples = mixed(samples) if mixed else samples
    prepare = prepare or normalized(data)
    batches = batches or batches_of(samplers.ShuffleSampler(len(data), seed=seed))
    mean, late, seconds = Averaged(net, steps), [], 0.0
    points = {max(1, round(share * steps)) for share in LATE}
    for step in range(1, steps + 1):
        start = time.process_time()
        epoch, keys = next(batches)
        images, targets = _together([samples[k] for k in keys])
        for group in optimizer.param_groups:
            group["lr"] = lr * one_cycle((step - 1) / steps)
        logits = net(prepare(images))
        loss = criterion(logits, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        mean.update(net)
        if after_batch is not None:
            after_batch(keys, logits.detach(), targets, epoch)
        seconds += time.process_time() - start
        if step in points:
            late.append(judge(mean.net))
    first = next(iter(late[0]))
    metrics = {name: sum(at[name] for at in late) / len(late) for name in late[0]}
    return Outcome(metrics, [at[first] for at in late], judge(net.eval())[first], seconds)


def _together(samples: list[tuple[Tensor, Any]]) -> tuple[Tensor, Any]:
    images, targets = zip(*samples, strict=True)
    if isinstance(targets[0], dict):
        return torch.stack(images), {name: torch.stack([t[name] for t in targets]) for name in targets[0]}
    return torch.stack(images), torch.stack(targets)


def one_cycle(spent: float) -> float:
    """The learning rate at a share of the training, of its highest: up over a fifth, down to nothing."""
    return 0.04 + 0.96 * spent / 0.2 if spent < 0.2 else 0.5 + 0.5 * math.cos(math.pi * (spent - 0.2) / 0.8)


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


def recall(table: Tensor) -> list[float]:
    """Share of each class's pixels that is found; 0 where it is not there."""
    return (table.diag().double() / table.sum(1).clamp_min(1)).tolist()
