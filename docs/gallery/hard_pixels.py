"""
What OHEM keeps
===============

``hard_mask`` picks the pixels with the largest losses. ``OHEMCrossEntropyLoss`` is
cross-entropy over those, and ``ohem_cross_entropy`` the same as a function.
"""

# %%
import matplotlib.pyplot as plt
import torch
from scene import CLASS_NAMES, COLORS, draw_scene

from segkit import viz
from segkit.io import to_tensor
from segkit.losses import functional as L
from segkit.mining import hard_mask

scenes = [draw_scene(seed) for seed in (0, 1)]
images = torch.stack([to_tensor(image) for image, _ in scenes])
masks = torch.stack([torch.from_numpy(mask) for _, mask in scenes])

# %%
# The network is a simple one: a few steps of two convolutions on these two pictures. It
# is unsure at borders, at roads and at houses.
torch.manual_seed(0)
net = torch.nn.Sequential(
    torch.nn.Conv2d(3, 16, 5, padding=2),
    torch.nn.ReLU(),
    torch.nn.Conv2d(16, len(CLASS_NAMES), 5, padding=2),
)
optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
for _ in range(40):
    loss = L.cross_entropy(net(images), masks)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
losses = L.cross_entropy(net(images).detach(), masks, reduction="none")  # [2, H, W]

# %%
# A quarter and a twentieth of the pixels, and a threshold. The number is kept exactly,
# even among equal losses.
kept = {
    "keep_ratio=0.25": hard_mask(losses, keep_ratio=0.25),
    "keep_ratio=0.05": hard_mask(losses, keep_ratio=0.05),
    "threshold=2.0": hard_mask(losses, threshold=2.0),
}
figure, axes = plt.subplots(2, 5, figsize=(7.2, 2.5), layout="constrained")
for row in range(2):
    axes[row, 0].imshow(viz.overlay(images[row], masks[row], colors=COLORS, alpha=0.5))
    axes[row, 1].imshow(losses[row], cmap="magma", vmax=4)
    for axis, (name, hard) in zip(axes[row, 2:], kept.items(), strict=True):
        axis.imshow(hard[row], cmap="gray")
        axis.set_title(f"{name}:\n{hard[row].float().mean():.1%} here", fontsize=8)
axes[0, 0].set_title("image and mask", fontsize=8)
axes[0, 1].set_title("loss of each pixel", fontsize=8)
for axis in axes.flat:
    axis.set_axis_off()

# %%
# With ``scope="batch"`` the quota is one for the whole batch, so the harder picture
# gets more of it; with ``scope="image"`` each picture gets its own. Which classes are
# among the kept ones, against their share of all pixels:
all_shares = torch.bincount(masks.flatten(), minlength=6) / masks.numel()
figure, axis = plt.subplots(figsize=(7.2, 2.2), layout="constrained")
bars = {"all pixels": all_shares} | {
    name: torch.bincount(masks[hard], minlength=6) / hard.sum()
    for name, hard in kept.items()
}
for number, (name, shares) in enumerate(bars.items()):
    axis.bar(torch.arange(6) + 0.2 * number - 0.3, shares * 100, 0.2, label=name)
axis.set_xticks(range(6), CLASS_NAMES)
axis.set_ylabel("% of the pixels")
axis.legend(fontsize=8)
