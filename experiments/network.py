"""The one small network of all experiments: a U-Net of two or three resolutions, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SmallUNet(nn.Module):
    """[B, channels, H, W] → [B, classes, H, W]; H and W multiples of 4.

    Args:
        norm: "batch" for BatchNorm after each convolution, "none" for none (a bias instead).
    """

    def __init__(self, channels: int, classes: int, *, width: int = 12, norm: str = "batch") -> None:
        super().__init__()

        def block(inputs: int, outputs: int) -> nn.Sequential:
            layers: list[nn.Module] = []
            for size in (inputs, outputs):
                layers.append(nn.Conv2d(size, outputs, 3, padding=1, bias=norm == "none"))
                layers += [nn.BatchNorm2d(outputs)] if norm == "batch" else []
                layers.append(nn.ReLU(inplace=True))
            return nn.Sequential(*layers)

        self.fine, self.middle, self.coarse = (
            block(channels, width),
            block(width, 2 * width),
            block(2 * width, 4 * width),
        )
        self.to_middle, self.to_fine = block(6 * width, 2 * width), block(3 * width, width)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.fine(x)
        middle = self.middle(F.max_pool2d(fine, 2))
        coarse = self.coarse(F.max_pool2d(middle, 2))
        middle = self.to_middle(torch.cat([middle, F.interpolate(coarse, scale_factor=2.0)], 1))
        return self.head(self.to_fine(torch.cat([fine, F.interpolate(middle, scale_factor=2.0)], 1)))
