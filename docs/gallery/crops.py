"""
Five crops and a grid, cut and merged
=====================================

``crop.geometry((H, W))`` says where the crops of a picture of that size lie;
``merge_crops`` puts maps of crops back there and averages where they overlap.
"""

# %%
import matplotlib.pyplot as plt
import torch
from matplotlib.patches import Rectangle
from scene import draw_scene

from segkit import transforms as T
from segkit.io import to_tensor

scene, _ = draw_scene()
size = scene.shape[:2]
figure, axes = plt.subplots(1, 2, figsize=(7.2, 2.9), layout="constrained")
for axis, crop in zip(
    axes, [T.FiveCrop((160, 208)), T.GridCrop(112, overlap=24)], strict=True
):
    axis.imshow(scene)
    for number, box in enumerate(crop.geometry(size)):
        color = f"C{number % 10}"
        axis.add_patch(
            Rectangle(
                (box.left, box.top),
                box.width,
                box.height,
                fill=False,
                edgecolor=color,
                linewidth=2,
            )
        )
    axis.set_title(f"{crop}: {len(crop.geometry(size))} crops", fontsize=9)
    axis.set_axis_off()

# %%
# ``TenCrop`` adds the mirror image of each of the five; ``merge_crops`` turns them back.
ten = T.TenCrop((160, 208))
stack = ten(to_tensor(scene))  # [10, 3, 160, 208]
figure, axes = plt.subplots(2, 5, figsize=(7.2, 2.4), layout="constrained")
for axis, picture, box in zip(axes.flat, stack, ten.geometry(size), strict=True):
    axis.imshow(picture.permute(1, 2, 0))
    axis.set_title("mirrored" if box.mirrored else f"({box.top}, {box.left})", fontsize=8)
    axis.set_axis_off()

# %%
# Why the overlap is weighted
# ---------------------------
# A network sees less around a pixel near the edge of a crop, so it is worse there. Here
# the "network" gets the brightness right in the middle of a crop and wrong towards its
# edge. The plain mean leaves seams; a Gaussian trusts the middle.
image = to_tensor(scene).mean(0, keepdim=True)
crop = T.GridCrop(112, overlap=40)
crops = T.stack_crops(crop(image)[None])  # [K, 1, 112, 112]
edge = torch.linspace(-1, 1, 112).abs() ** 4
answers = crops + 0.25 * torch.maximum(edge[:, None], edge[None])
figure, axes = plt.subplots(1, 3, figsize=(7.2, 2.1), layout="constrained")
merged = {
    blend: T.merge_crops(answers, crop.geometry(size), size, blend=blend)[0, 0]
    for blend in ("mean", "gaussian")
}
for axis, (name, picture) in zip(
    axes, {"truth": image[0], **merged}.items(), strict=True
):
    error = (picture - image[0]).abs().mean()
    axis.imshow(picture, cmap="gray", vmin=0, vmax=1)
    axis.set_title(
        name if name == "truth" else f'blend="{name}": mean error {error:.3f}', fontsize=9
    )
    axis.set_axis_off()

# %%
# A scene that is too large for memory
# ------------------------------------
# ``CropMerger`` gives the same map from crops that come one after the other, and keeps
# only what a later crop still touches.
merger = T.CropMerger(crop.geometry(size), size)
for box, answer in zip(crop.geometry(size), answers, strict=True):
    merger.add(answer[None], box)
print(torch.equal(merger.finish()[0], merged["gaussian"]))
