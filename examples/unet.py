"""A small U-Net in plain torch: enough to see the parts at work, and to be replaced by your own network."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def block(inputs: int, outputs: int) -> nn.Sequential:
    """Two 3 x 3 convolutions. The bias is left to the normalisation that follows."""
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [
            nn.Conv2d(channels, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """[B, in_channels, H, W] float → logits [B, num_classes, H, W]. H and W must be multiples of `UNet.multiple_of`.

    Args:
        in_channels: any number: 1 for CT, 4 for RGBA, 13 for Sentinel-2.
        num_classes: C; softmax is left to the loss.
        width: channels of the first level; each further level doubles them.
        levels: how many resolutions, the first included.
    """

    def __init__(self, in_channels: int, num_classes: int, *, width: int = 24, levels: int = 3) -> None:
        super().__init__()
        channels = [width * 2**level for level in range(levels)]
        self.multiple_of = 2 ** (levels - 1)
        self.down = nn.ModuleList(block(i, o) for i, o in zip([in_channels, *channels], channels, strict=False))
        self.up = nn.ModuleList(nn.ConvTranspose2d(o * 2, o, 2, stride=2) for o in reversed(channels[:-1]))
        self.merge = nn.ModuleList(block(o * 2, o) for o in reversed(channels[:-1]))
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for level, down in enumerate(self.down):
            x = down(x if level == 0 else nn.functional.max_pool2d(x, 2))
            skips.append(x)
        skips.pop()  # the deepest is x itself
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([up(x), skips.pop()], dim=1))
        return self.head(x)
