"""The questions: for each its settings, the first of which is what the others are compared with."""

from __future__ import annotations

import functools
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments import lines, training
from experiments.damage import damaged_masks
from experiments.data import Data, Images, boundary, with_foreground
from experiments.training import BATCH, Judge, Outcome, crops
from segkit import IGNORE_INDEX, audit, datasets, losses, mining, samplers, stats
from segkit import transforms as T
from segkit.io import write_mask
from segkit.losses import functional as L

STEPS = {"sandstone": 400, "shapes": 400, "camvid": 800, "membrane": 300}

Run = Callable[[Data, int, int, float], Outcome]  # data, seed, steps, learning rate → what was measured


@dataclass(frozen=True)
class Group:
    """Settings on one data set; each is compared with the first.

    ``search_each``: each looks for its own learning rate, as losses must; else all take that of the first.
    """

    data: str
    settings: dict[str, Run]
    search_each: bool = False
    share: float = 1.0  # of the steps that are usual on this data set

    @property
    def steps(self) -> int:
        """Batches in each run."""
        return round(self.share * STEPS[self.data])


@dataclass(frozen=True)
class Question:
    """``groups``: name → settings. The first metric is the one that is planned for, and told with a word."""

    text: str
    groups: dict[str, Group]


def learn(
    data: Data, seed: int, steps: int, lr: float, *, criterion: Any = None, judge: Judge | None = None, **options: Any
) -> Outcome:
    """Train with Dice + cross-entropy if nothing else is asked for; mIoU of the validation images."""
    prepare = options.setdefault("prepare", training.normalized(data.train))
    return training.fit(
        data.train, data.classes, criterion or losses.DiceCELoss(scope="batch"),
        judge or overlap(data, prepare), seed=seed, steps=steps, lr=lr, **options,
    )  # fmt: skip


def overlap(data: Data, prepare: Callable[[Tensor], Tensor], first: str = "mIoU") -> Judge:
    """mIoU, and IoU and recall of the rare classes; the metric named ``first`` comes first."""

    def judge(net: nn.Module) -> dict[str, float]:
        table = training.confusion(net, prepare(data.val.images), data.val.masks, data.classes)
        each, found, rare = training.iou(table), training.recall(table), list(data.rare)
        measured = {"mIoU": float(np.mean(each)), "mean recall": float(np.mean(found))}
        if rare:
            measured["rare IoU"] = float(np.mean([each[c] for c in rare]))
            measured["rare recall"] = float(np.mean([found[c] for c in rare]))
        return {first: measured.pop(first), **measured}

    return judge


def counts(images: Images, classes: int) -> Tensor:
    """Pixels of each class."""
    return torch.bincount(images.masks.flatten(), minlength=256)[:classes]


# Weights for rare classes, by IoU and by recall


def weighted(scheme: str | None) -> Run:
    def run(data: Data, seed: int, steps: int, lr: float) -> Outcome:
        weights = stats.class_weights(counts(data.train, data.classes), scheme) if scheme else None
        return learn(data, seed, steps, lr, criterion=losses.CrossEntropyLoss(class_weights=weights))

    return run


WEIGHTS: dict[str, Run] = {
    "cross-entropy": weighted(None),
    "inverse": weighted("inverse"),
    "log": weighted("log"),
    "Dice + cross-entropy": learn,
}

# Which loss, at which share of foreground


def which_loss(name: str, foreground: int, share: float | None) -> Run:
    def run(data: Data, seed: int, steps: int, lr: float) -> Outcome:
        train, val = (two_classes(part, foreground, share) for part in (data.train, data.val))
        criterion = {
            "cross-entropy": losses.CrossEntropyLoss,
            "focal": losses.FocalLoss,
            "Dice": functools.partial(losses.DiceLoss, scope="batch"),
            "Dice + cross-entropy": functools.partial(losses.DiceCELoss, scope="batch"),
            "Lovász": losses.LovaszLoss,
            "OHEM 25 %": functools.partial(losses.OHEMCrossEntropyLoss, keep_ratio=0.25),
        }[name]()
        prepare = training.normalized(train)

        def judge(net: nn.Module) -> dict[str, float]:
            table = training.confusion(net, prepare(val.images), val.masks, 2)
            hit, false = float(table[1, 1]), float(table[0, 1])
            return {
                "IoU": training.iou(table)[1],
                "precision": hit / max(1.0, hit + false),
                "recall": training.recall(table)[1],
            }

        return training.fit(train, 2, criterion, judge, seed=seed, steps=steps, lr=lr)

    return run


def two_classes(data: Images, foreground: int, share: float | None) -> Images:
    """Foreground or not, thinned to ``share`` where one is asked for."""
    if share is not None:
        return with_foreground(data, foreground, share, block=16, seed=17)
    masks = (data.masks == foreground).to(torch.uint8)
    return Images(data.images, torch.where(data.masks == IGNORE_INDEX, IGNORE_INDEX, masks).to(torch.uint8))


LOSSES = ("cross-entropy", "focal", "Dice", "Dice + cross-entropy", "Lovász", "OHEM 25 %")


def all_losses(data: str, foreground: int, share: float | None) -> Group:
    return Group(data, {name: which_loss(name, foreground, share) for name in LOSSES}, search_each=True)


# Normalise or not, BatchNorm or not, brightness


def normalise(normalized: bool, norm: str, jitter: bool) -> Run:
    def run(data: Data, seed: int, steps: int, lr: float) -> Outcome:
        prepare = training.normalized(data.train) if normalized else training.plain

        def judge(net: nn.Module) -> dict[str, float]:
            found = {}
            for name, factor in (("mIoU", 1.0), ("mIoU darker x0.7", 0.7), ("mIoU brighter x1.3", 1.3)):
                images = (data.val.images.float() * factor).clamp(0, 255)
                table = training.confusion(net, prepare(images), data.val.masks, data.classes)
                found[name] = float(np.mean(training.iou(table)))
            return found

        light = T.ColorJitter(brightness=0.4, contrast=0.0)
        transform = T.Compose([crops(), light]) if jitter else crops()
        return learn(data, seed, steps, lr, judge=judge, prepare=prepare, norm=norm, transform=transform)

    return run


def normalisations(data: str, norm: str) -> Group:
    settings = {
        "normalised": normalise(True, norm, False),
        "0 to 1": normalise(False, norm, False),
        "normalised, brightness augmented": normalise(True, norm, True),
        "0 to 1, brightness augmented": normalise(False, norm, True),
    }
    return Group(data, settings, search_each=True)


# Hard samples and hard pixels


def hard_samples(ratio: float, begin: float) -> Run:
    def run(data: Data, seed: int, steps: int, lr: float) -> Outcome:
        ledger = mining.DifficultyLedger(len(data.train))
        epochs = steps / (len(data.train) // BATCH)
        sampler = samplers.DifficultySampler(
            ledger, hard_ratio=ratio, warmup_epochs=max(1, round(begin * epochs)), hard=0.2, seed=seed
        )

        def remember(keys: list[Any], logits: Tensor, masks: Tensor, epoch: int) -> None:
            each = mining.per_sample_loss(L.cross_entropy(logits, masks, reduction="none"), masks)
            ledger.update([int(k) for k in keys], each, epoch=epoch)

        return learn(data, seed, steps, lr, batches=training.batches_of(sampler), after_batch=remember)

    return run


def hard_pixels(ratio: float) -> Run:
    def run(data: Data, seed: int, steps: int, lr: float) -> Outcome:
        return learn(data, seed, steps, lr, criterion=losses.OHEMCrossEntropyLoss(keep_ratio=ratio))

    return run


HARD_SAMPLES: dict[str, Run] = {
    "no sample more often": learn,
    "30 % hard from the start": hard_samples(0.3, 0.0),
    "50 % hard from the start": hard_samples(0.5, 0.0),
    "50 % hard after a third": hard_samples(0.5, 1 / 3),
}
HARD_PIXELS: dict[str, Run] = {
    "all pixels": weighted(None),
    "hardest 50 %": hard_pixels(0.5),
    "hardest 25 %": hard_pixels(0.25),
    "hardest 10 %": hard_pixels(0.1),
}

# Patches that grow, against sizes that are shuffled

SIDES = (32, 64, 96)


def patches(order: str, *, same_pixels: bool = True, share: float = 1.0) -> Run:
    """Crops of 96, of sides that grow by thirds of the training, or of shuffled sides.

    ``same_pixels``: each batch has the pixels of 8 crops of 96, so that smaller crops are more; else 8 crops always.
    ``share``: of the steps, and so of the pixels.
    """

    def run(data: Data, seed: int, steps: int, lr: float) -> Outcome:
        steps = max(1, round(share * steps))
        draw = np.random.default_rng([seed, 96])

        def batches() -> Iterator[tuple[int, list[Any]]]:
            sampler = samplers.ShuffleSampler(len(data.train), seed=seed)
            keys = (key for _ in iter(int, 1) for key in list(sampler))
            for step in range(steps):
                turn = {"grows": step * len(SIDES) // steps, "shuffled": draw.integers(3)}.get(order, 2)
                side = SIDES[turn]
                number = BATCH * (SIDES[-1] // side) ** 2 if same_pixels else BATCH
                batch = [next(keys) for _ in range(number)]
                for key in batch:
                    key.size = (side, side)
                yield batch[0].epoch, batch

        return learn(data, seed, steps, lr, batches=batches(), transform=crops(SIDES[-1]))

    return run


LESS = sum(side**2 for side in SIDES) / 3 / SIDES[-1] ** 2  # the pixels of 8 growing crops: 52 %
PATCHES = {
    "96": patches("fixed"),
    "growing, same pixels": patches("grows"),
    "shuffled, same pixels": patches("shuffled"),
    "growing, 8 crops: 52 % of the pixels": patches("grows", same_pixels=False),
    "96, 52 % of the steps": patches("fixed", share=LESS),
}

# Damaged labels


def damaged(share: float, remedy: str) -> Run:
    def run(data: Data, seed: int, steps: int, lr: float) -> Outcome:
        masks, hurt = damaged_masks(data.train, share, seed=seed)
        train = Images(data.train.images, torch.from_numpy(np.stack(masks)), data.train.pairs)
        kept = list(range(len(train)))
        if remedy == "clean_pairs":
            kept = clean(train, data.classes)
        elif remedy == "label_quality":
            kept = trusted(data, train, seed, steps, lr)
        known = torch.where(train.masks < data.classes, train.masks, IGNORE_INDEX).to(torch.uint8)
        train = Images(train.images, known, train.pairs).at(kept)
        criterion = generalized_cross_entropy if remedy == "robust" else losses.CrossEntropyLoss()
        judge = overlap(data, training.normalized(train))
        outcome = training.fit(train, data.classes, criterion, judge, seed=seed, steps=steps, lr=lr)
        left = {
            "damaged left": float(len(hurt & set(kept))),
            "clean left out": float(len(set(range(len(masks))) - hurt - set(kept))),
        }
        return replace(outcome, metrics={**outcome.metrics, **left})

    return run


def clean(train: Images, classes: int) -> list[int]:
    """The numbers of the pairs that `audit_dataset` keeps when errors and warnings go."""
    with tempfile.TemporaryDirectory() as folder:
        files = [str(pathlib.Path(folder, pathlib.Path(pair.mask).name)) for pair in train.pairs]
        for file, mask in zip(files, train.masks, strict=True):
            write_mask(file, mask.numpy())
        with ThreadPoolExecutor(1) as here:
            images = [pair.image for pair in train.pairs]
            report = audit.audit_dataset(images, files, num_classes=classes, executor=here, progress=False)
        suspects = {f.path for f in report.findings if f.severity in ("error", "warning")}
    return [i for i, file in enumerate(files) if file not in suspects and images[i] not in suspects]


def trusted(data: Data, train: Images, seed: int, steps: int, lr: float) -> list[int]:
    """Without the tenth that networks of two halves, each trained on the other, doubt most; half the steps each."""
    known = torch.where(train.masks < data.classes, train.masks, IGNORE_INDEX).to(torch.uint8)
    halves = [list(range(first, len(train), 2)) for first in (0, 1)]
    scores = np.zeros(len(train))
    for mine, other in (halves, halves[::-1]):
        part = Images(train.images, known).at(mine)
        prepare = training.normalized(part)

        def judge(net: nn.Module, other: list[int] = other, prepare: Any = prepare) -> dict[str, float]:
            with torch.no_grad():
                probs = (net(prepare(train.images[[i]])).softmax(1)[0].numpy() for i in other)
                scores[other] = audit.label_quality(probs, (known[i].numpy() for i in other)).scores
            return {"score": float(scores[other].mean())}

        training.fit(part, data.classes, losses.CrossEntropyLoss(), judge, seed=seed, steps=max(1, steps // 2), lr=lr)
    return sorted(np.argsort(scores)[round(len(train) / 10) :].tolist())


def generalized_cross_entropy(logits: Tensor, target: Tensor, q: float = 0.7) -> Tensor:
    """(1 - p^q) / q of the true class, which forgives labels that no pixel believes (Zhang and Sabuncu 2018)."""
    there = target != IGNORE_INDEX
    p = logits.softmax(1).gather(1, target.where(there, 0).long()[:, None])[:, 0]
    return ((1 - p.clamp_min(1e-7) ** q) / q)[there].mean()


DAMAGE = {"as they are": "", "clean_pairs": "clean_pairs", "label_quality": "label_quality", "robust loss": "robust"}

# Ignore the boundary or not


def without_boundary(width: int) -> Run:
    def run(data: Data, seed: int, steps: int, lr: float) -> Outcome:
        masks = torch.where(boundary(data.train.masks, width), IGNORE_INDEX, data.train.masks).to(torch.uint8)
        prepare = training.normalized(data.train)
        inside = torch.where(boundary(data.val.masks, 2), IGNORE_INDEX, data.val.masks)

        def judge(net: nn.Module) -> dict[str, float]:
            tables = [
                training.confusion(net, prepare(data.val.images), truth, data.classes)
                for truth in (data.val.masks, inside)
            ]
            names = ("mIoU", "mIoU off the boundary")
            return {name: float(np.mean(training.iou(t))) for name, t in zip(names, tables, strict=True)}

        train = Images(data.train.images, masks)
        criterion = losses.DiceCELoss(scope="batch")
        return training.fit(train, data.classes, criterion, judge, seed=seed, steps=steps, lr=lr, prepare=prepare)

    return run


BOUNDARY = {f"{w} px ignored" if w else "all pixels": without_boundary(w) for w in (0, 1, 2)}

# Thin lines


def thin(extra: str) -> Run:
    def run(data: Data, seed: int, steps: int, lr: float) -> Outcome:
        base = losses.DiceCELoss(scope="batch")
        add = {
            "clDice": (losses.CLDiceLoss(classes=[1], scope="batch"), "mask", None),
            "skeleton recall": (losses.SkeletonRecallLoss(classes=[1], scope="batch"), "skeleton", T.SkeletonTarget()),
            "boundary": (losses.BoundaryLoss(classes=[1]), "distance_maps", T.DistanceMaps(num_classes=2)),
        }
        if extra == "cross-entropy":
            return learn(data, seed, steps, lr, criterion=losses.CrossEntropyLoss(), judge=judge(data))
        if extra not in add:
            return learn(data, seed, steps, lr, judge=judge(data))
        other, name, target = add[extra]

        def criterion(logits: Tensor, targets: Any) -> Tensor:
            mask = targets["mask"] if isinstance(targets, dict) else targets
            second = targets[name] if isinstance(targets, dict) else targets
            return base(logits, mask) + (0.01 if extra == "boundary" else 0.5) * other(logits, second)

        transform = T.Compose([crops(), target]) if target else crops()
        return learn(data, seed, steps, lr, criterion=criterion, transform=transform, judge=judge(data))

    def judge(data: Data) -> Judge:
        prepare, truth = training.normalized(data.train), (data.val.masks == 1).numpy()

        @torch.no_grad()
        def measure(net: nn.Module) -> dict[str, float]:
            guess = np.concatenate([(net(prepare(i[None])).argmax(1) == 1).numpy() for i in data.val.images])
            return lines.measures(guess, truth)

        return measure

    return run


THIN = ("Dice + cross-entropy", "cross-entropy", "clDice", "skeleton recall", "boundary")

# Where the data road ends: one resampling or two


def resampled(times: int) -> Run:
    def run(data: Data, seed: int, steps: int, lr: float) -> Outcome:
        turn = T.RandomAffine(degrees=20, translate=0.0, scale=(1.0, 1.0), image_fill="reflect")
        scale = T.RandomAffine(degrees=0, translate=0.0, scale=(0.8, 1.25), image_fill="reflect")
        once, rest = T.Compose([turn, scale, crops()]), T.Compose([scale, crops()])

        def twice(image: Tensor, mask: Tensor, **drawn: Any) -> Any:
            return rest(*turn(image, mask, generator=drawn["generator"]), **drawn)

        return learn(data, seed, steps, lr, transform={0: crops(), 1: once, 2: twice}[times])

    return run


RESAMPLED = {"once": resampled(1), "twice": resampled(2), "not at all": resampled(0)}

# Objects of rare classes pasted or not


def pasted(chance: float) -> Run:
    def run(data: Data, seed: int, steps: int, lr: float) -> Outcome:
        there = {c: [i for i, mask in enumerate(data.train.masks) if (mask == c).sum() >= 16] for c in data.rare}
        paste = T.CopyPaste(data.rare, share=1.0, smallest=16, p=chance)
        donors = {c: found for c, found in there.items() if found}

        def mixed(samples: training.Crops) -> Any:
            return datasets.MixDataset(samples, paste, donors=donors) if chance else samples

        judge = overlap(data, training.normalized(data.train), first="rare IoU")
        return learn(data, seed, steps, lr, mixed=mixed, judge=judge)

    return run


PASTED = {"none": pasted(0.0), "into half of the crops": pasted(0.5), "into all crops": pasted(1.0)}

QUESTIONS = {
    "weights": Question(
        "Weights for rare classes, by IoU and by recall?",
        {name: Group(name, WEIGHTS, search_each=True) for name in ("sandstone", "shapes", "camvid")},
    ),
    "losses": Question(
        "Which loss, at which share of foreground?",
        {
            **{
                f"foreground {name}": all_losses("sandstone", 1, share)
                for name, share in (("50 %", 0.5), ("10 %", 0.1), ("2 %", 0.02))
            },
            "stars of the shapes, 1 %": all_losses("shapes", 3, None),
        },
    ),
    "normalise": Question(
        "Normalise or not, with and without BatchNorm?",
        {
            "with BatchNorm": normalisations("sandstone", "batch"),
            "without BatchNorm": normalisations("sandstone", "none"),
            "street scenes, with BatchNorm": normalisations("camvid", "batch"),
        },
    ),
    "hard_samples": Question(
        "Hard samples or hard pixels?",
        {
            "samples": Group("sandstone", HARD_SAMPLES),
            "pixels": Group("sandstone", HARD_PIXELS, search_each=True),
            "pixels of street scenes": Group("camvid", HARD_PIXELS, search_each=True),
        },
    ),
    "boundary": Question(
        "Ignore the boundary in training or not?",
        {name: Group(name, BOUNDARY) for name in ("sandstone", "shapes", "camvid")},
    ),
    "audit": Question(
        "Damaged labels: what helps?",
        {
            f"{share:.0%} of the masks damaged": Group(
                "sandstone", {name: damaged(share, remedy) for name, remedy in DAMAGE.items()}, search_each=True
            )
            for share in (0.2, 0.05, 0.0)
        },
    ),
    "thin_lines": Question(
        "Thin lines: what to add to Dice and cross-entropy?",
        {"membrane": Group("membrane", {name: thin(name) for name in THIN}, search_each=True)},
    ),
    "scales": Question(
        "Patches that grow, or sizes that are shuffled?",
        {name: Group(name, PATCHES, share=0.5) for name in ("sandstone", "membrane")},
    ),
    "resampling": Question(
        "One resampling or two?",
        {name: Group(name, RESAMPLED) for name in ("sandstone", "membrane")},
    ),
    "copy_paste": Question(
        "Paste objects of rare classes or not?",
        {name: Group(name, PASTED) for name in ("sandstone", "camvid")},
    ),
}
