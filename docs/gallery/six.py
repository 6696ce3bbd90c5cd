"""
In six pictures
===============

What the parts are for, one picture each; the pages after this one look closer.
"""

# %%
# **Look at the data.** The audit reads each file once and says what is wrong with it.
# Here are six good pictures, and three that were spoilt on purpose.
import pathlib
import tempfile

import cv2
import matplotlib.pyplot as plt
import numpy as np
import torch
from scene import CLASS_NAMES, COLORS, draw_scene

from segkit import audit, collate, io, mining, viz
from segkit import transforms as T
from segkit.losses import functional as L

WIDE = {"figsize": (4.0, 3.0), "layout": "constrained"}


def show(axis, picture, title="", **how):
    axis.imshow(picture, **how)
    axis.set_title(title, fontsize=8)
    axis.set_axis_off()


folder = pathlib.Path(tempfile.mkdtemp())
for name in ("images", "masks"):
    (folder / name).mkdir()
for number in range(9):
    image, mask = draw_scene(number, (120, 160))
    if number == 2:
        image = cv2.GaussianBlur(image, (0, 0), 3)
    if number == 4:
        mask = np.roll(mask, (9, 14), (0, 1))
    if number == 7:
        image, mask = draw_scene(0, (120, 160))
    io.write_image(folder / "images" / f"{number}.png", image)
    io.write_mask(folder / "masks" / f"{number}.png", mask)

report = audit.audit_dataset(
    folder / "images", folder / "masks", num_classes=len(CLASS_NAMES), progress=False
)
said = {
    pathlib.Path(f.path).stem: f.code for f in report.findings if f.severity != "info"
}
figure, axes = plt.subplots(3, 3, **WIDE)
for number, axis in enumerate(axes.flat):
    image = io.read_image(folder / "images" / f"{number}.png")
    mask = io.read_mask(folder / "masks" / f"{number}.png")
    show(
        axis,
        viz.overlay(image, mask, colors=COLORS, alpha=0.35),
        said.get(str(number), ""),
    )

# %%
# **Read exactly.** A scene of 16 bits whose values end at 4,095: one reader keeps the
# upper byte, another cuts at 255. Below, what is in the file.
image, mask = draw_scene(1, (120, 160))
deep = (image.astype(np.uint16) * 16).clip(0, 4095)
io.write_image(folder / "deep.tif", deep)
stored = io.read_image(folder / "deep.tif")
assert np.array_equal(stored, deep)
figure, axes = plt.subplots(2, 2, **WIDE)
show(axes[0, 0], (deep >> 8).astype(np.uint8), "the upper byte")
show(axes[0, 1], deep.clip(0, 255).astype(np.uint8), "cut at 255")
show(axes[1, 0], stored / 4095, "as it is stored")
axes[1, 1].hist(stored.ravel(), bins=48, color="#4c9be8")
axes[1, 1].set_title("its values", fontsize=8)
axes[1, 1].set_yticks([])
axes[1, 1].tick_params(labelsize=7)

# %%
# **Augment.** Image and mask move together, resampled once; what comes in from outside is
# ignored, not background.
image, mask = draw_scene(3, (120, 160))
turn = T.Compose([T.RandomAffine(degrees=25, scale=(0.8, 1.2)), T.HorizontalFlip()])
figure, axes = plt.subplots(2, 2, **WIDE)
for seed, axis in enumerate(axes.flat):
    new, label = turn(
        io.to_tensor(image),
        torch.from_numpy(mask),
        generator=torch.Generator().manual_seed(seed),
    )
    show(axis, viz.overlay(new, label, colors=COLORS, alpha=0.35))

# %%
# **Batch.** Pictures of several sizes become one tensor; the hatched rest counts nowhere.
sizes = [(120, 160), (90, 160), (120, 100), (70, 120)]
samples = []
for number, size in enumerate(sizes):
    image, mask = draw_scene(number + 4, size)
    samples.append({"image": io.to_tensor(image), "mask": torch.from_numpy(mask)})
batch = collate.pad_collate(samples)
figure, axes = plt.subplots(2, 2, **WIDE)
for image, mask, axis in zip(batch["image"], batch["mask"], axes.flat, strict=True):
    show(axis, viz.overlay(image, mask, colors=COLORS, alpha=0.35))

# %%
# **Compute the loss.** Of each pixel, from raw logits and uint8 labels in one pass.
images = torch.stack([io.to_tensor(draw_scene(seed, (120, 160))[0]) for seed in range(4)])
masks = torch.stack(
    [torch.from_numpy(draw_scene(seed, (120, 160))[1]) for seed in range(4)]
)
torch.manual_seed(0)
net = torch.nn.Sequential(
    torch.nn.Conv2d(3, 16, 5, padding=2),
    torch.nn.ReLU(),
    torch.nn.Conv2d(16, len(CLASS_NAMES), 5, padding=2),
)
optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
for _ in range(40):
    optimizer.zero_grad()
    L.dice_ce(net(images), masks).backward()
    optimizer.step()
logits = net(images).detach()
losses = L.cross_entropy(logits, masks, reduction="none")
figure, axes = plt.subplots(2, 2, **WIDE)
show(axes[0, 0], images[0].movedim(0, -1), "image")
show(axes[0, 1], viz.overlay(images[0], masks[0], colors=COLORS), "truth")
show(
    axes[1, 0],
    viz.overlay(images[0], logits[0].argmax(0).to(torch.uint8), colors=COLORS),
    "prediction",
)
show(axes[1, 1], losses[0], "loss of each pixel", cmap="magma", vmax=4)

# %%
# **Find the hard ones.** The twentieth of all pixels with the largest losses, and the
# order of the pictures by theirs.
hard = mining.hard_mask(losses, keep_ratio=0.05)
per_image = mining.per_sample_loss(losses, masks)
figure, axes = plt.subplots(2, 2, **WIDE)
for place, axis in zip(
    per_image.argsort(descending=True).tolist(), axes.flat, strict=True
):
    shown = viz.overlay(
        images[place], hard[place].to(torch.uint8), colors=[(0, 0, 0), (255, 60, 0)]
    )
    show(axis, shown, f"loss {per_image[place]:.2f}")
