"""Classification with hard positives and negatives: a ledger finds them, a sampler draws them more often.

    python classification_hard_examples.py            # or --quick

Is there a bright disk? Most pictures are plain. A few disks are nearly as dark as the ground (hard positives), a few
pictures show a bright ring (hard negatives), and a few labels are wrong.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from segkit.losses import functional as L
from segkit.mining import DifficultyLedger, Tag
from segkit.samplers import DifficultySampler, LinearSchedule

KINDS = ["empty", "disk", "ring: hard negative", "dark disk: hard positive", "wrong label"]


def draw(number: int) -> tuple[Tensor, int, int]:
    """Picture [1, 24, 24], label 0 or 1, and its kind in `KINDS`: a pure function of its number."""
    generator = torch.Generator().manual_seed(number)
    kind = int(torch.multinomial(torch.tensor([0.43, 0.43, 0.05, 0.05, 0.04]), 1, generator=generator))
    y, x = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    center = 8 + 8 * torch.rand(2, generator=generator)
    distance = ((y - center[0]) ** 2 + (x - center[1]) ** 2).sqrt()
    shape = {0: distance < 0, 2: (distance < 6) & (distance > 3.5)}.get(kind, distance < 5)
    brightness = 0.45 if kind == 3 else 1.0
    image = shape * brightness + torch.randn(24, 24, generator=generator) * 0.35
    return image[None], int(kind in (1, 3)), kind


class Pictures(Dataset):
    def __init__(self, count: int, first: int = 0) -> None:
        self.count, self.first = count, first

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict:
        # `index` is a SampleKey: an int that also carries the randomness of this sample in this epoch.
        image, label, kind = draw(self.first + index)
        if hasattr(index, "generator") and torch.rand(1, generator=index.generator()) < 0.5:
            image = image.flip(-1)
        return {"image": image, "label": label, "kind": kind, "index": int(index)}


def network() -> nn.Sequential:
    layers = [nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 4 * 4, 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few pictures and epochs")
    options = parser.parse_args()
    count, epochs = (400, 12) if options.quick else (1500, 12)
    train_set, test_set = Pictures(count), Pictures(count // 2, first=1_000_000)
    ledger = DifficultyLedger(count, momentum=0.8)
    sampler = DifficultySampler(ledger, hard_ratio=LinearSchedule(0.2, 0.3, epochs=epochs // 2), warmup_epochs=2)
    loader = DataLoader(train_set, batch_size=32, sampler=sampler)
    torch.manual_seed(0)
    net = network()
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-2)

    for epoch in range(epochs):
        for batch in loader:
            logits = net(batch["image"])
            each = L.cross_entropy(logits, batch["label"], reduction="none")  # [B]: a sample is a pixel without a place
            optimizer.zero_grad()
            each.mean().backward()
            optimizer.step()
            right = logits.argmax(1) == batch["label"]
            ledger.update(batch["index"], each.detach(), positive=batch["label"] == 1, correct=right, epoch=epoch)

    tags = ledger.tags(hard=0.1)
    kinds = [draw(i)[2] for i in range(count)]
    for name, half in (("positive", Tag.POSITIVE), ("negative", Tag.NEGATIVE)):
        found = [kinds[i] for i in range(count) if tags[i] & Tag.HARD and tags[i] & half]
        print(f"hard {name}s: " + ", ".join(f"{found.count(k)} {KINDS[k]}" for k in sorted(set(found))))
    noisy = ledger.noisy().nonzero()[0]
    print(f"labels to look at: {len(noisy)}, of which wrong: {sum(kinds[i] == 4 for i in noisy)} of {kinds.count(4)}")
    for kind, (right, total) in test(net, test_set).items():
        print(f"  {right / total:6.1%} right of {total:4} {KINDS[kind]}")


@torch.no_grad()
def test(net: nn.Module, pictures: Pictures) -> dict[int, tuple[int, int]]:
    """Right answers and all, for each kind; wrong labels are left out."""
    counts: dict[int, tuple[int, int]] = {}
    for batch in DataLoader(pictures, batch_size=256):
        right = net(batch["image"]).argmax(1) == batch["label"]
        for kind in range(4):
            here = batch["kind"] == kind
            so_far = counts.get(kind, (0, 0))
            counts[kind] = (so_far[0] + int(right[here].sum()), so_far[1] + int(here.sum()))
    return counts


if __name__ == "__main__":
    main()
