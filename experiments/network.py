"""The one small network of all experiments: a U-Net of three resolutions, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SmallUNet(nn.Module):
    """[B, channels, H, W] → [B, classes, H, W]; H and W multiples of 8.

    Blocks of 2 x 2 pixels enter as channels and leave again as pixels, so that most of a CPU's time goes into widths
    that teach something, and a logit is still one pixel's own.

    Args:
        norm: "batch" for BatchNorm after each convolution, "none" for none (a bias instead).
    """

    def __init__(self, channels: int, classes: int, *, width: int = 16, norm: str = "batch") -> None:
        super().__init__()

        def block(inputs: int, outputs: int) -> nn.Sequential:
            layers: list[nn.Module] = []
            for size in (inputs, outputs):
                layers.append(nn.Conv2d(size, outputs, 3, padding=1, bias=norm == "none"))
                layers += [nn.BatchNorm2d(outputs)] if norm == "batch" else []
                layers.append(nn.ReLU(inplace=True))
            return nn.Sequential(*layers)

        self.fine, self.middle, self.coarse = (
            block(4 * channels, width),
            block(width, 2 * width),
            block(2 * width, 4 * width),
        )
        self.to_middle, self.to_fine = block(6 * width, 2 * width), block(3 * width, width)
        self.head = nn.Conv2d(width, 4 * classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.fine(F.pixel_unshuffle(x, 2))
        middle = self.middle(F.max_pool2d(fine, 2))
        coarse = self.coarse(F.max_pool2d(middle, 2))
        middle = self.to_middle(torch.cat([middle, F.interpolate(coarse, scale_factor=2.0)], 1))
        fine = self.to_fine(torch.cat([fine, F.interpolate(middle, scale_factor=2.0)], 1))
        return F.pixel_shuffle(self.head(fine), 2)
