"""Pictures to mix that say which they are. Apart from the tests, since each spawned worker imports this file."""

from __future__ import annotations

import torch

from segkit.transforms import HorizontalFlip


class Numbers:
    """Pictures whose values are their number, flipped by the generator of their key."""

    flip = HorizontalFlip()

    def __len__(self):
        return 12

    def __getitem__(self, index):
        image = torch.arange(16.0).reshape(1, 4, 4) + 100 * int(index)
        mask = torch.full((4, 4), int(index) % 4, dtype=torch.uint8)
        generator = index.generator() if hasattr(index, "generator") else None
        image, mask = self.flip(image, mask, generator=generator)
        return {"image": image, "mask": mask, "index": int(index), "focus": getattr(index, "focus_class", None) or -1}
