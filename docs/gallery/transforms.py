"""
Each transform on one image and its mask
========================================

One draw holds for both. The image is bilinear, the mask takes the nearest pixel, and
what comes in from outside is ``IGNORE_INDEX`` in the mask: it is hatched here, and it
counts nowhere.
"""

# %%
import matplotlib.pyplot as plt
import torch
from scene import COLORS, draw_scene

from segkit import transforms as T
from segkit import viz
from segkit.io import to_tensor

scene, labels = draw_scene()
image, mask = to_tensor(scene), torch.from_numpy(labels)


def show(rows):
    """A row for each name and (image, mask): the image, and the mask laid over it."""
    figure, axes = plt.subplots(
        len(rows) // 2, 4, figsize=(7.2, 1.6 * (len(rows) // 2)), layout="constrained"
    )
    for (name, (picture, target)), left in zip(
        rows.items(), axes.reshape(-1, 2), strict=True
    ):
        target = target["mask"] if isinstance(target, dict) else target
        shown = (picture * 255).clamp(0, 255).byte()
        left[0].imshow(shown.permute(1, 2, 0))
        left[1].imshow(viz.overlay(shown, target, colors=COLORS, alpha=0.7))
        left[0].set_title(
            f"{name}  {picture.shape[-2]} × {picture.shape[-1]}", fontsize=8
        )
        for axis in left:
            axis.set_axis_off()


def once(transform):
    """The same seed for each, so that this page is the same whenever it is built."""
    return transform(image, mask, generator=torch.Generator().manual_seed(4))


# %%
# Size
# ----
# A sized transform takes another size for one call, ``size=``: that is how a sampler
# changes the scale.
sized = [
    T.Resize(120),
    T.RandomCrop(160),
    T.CenterCrop(160),
    T.RandomResizedCrop(160),
    T.PadTo((280, 360)),
]
show({"untouched": (image, mask)} | {type(t).__name__: once(t) for t in sized})

# %%
show(
    {
        type(t).__name__: once(t)
        for t in (
            T.PadToMultiple(128),
            T.RandomScale((0.5, 0.9)),
            T.ResizeKeepRatio(160),
            T.RotateInside((20, 20)),
        )
    }
)

# %%
# Place and shape
# ---------------
# Neighbours of these in a ``Compose`` are joined into one map, and the image is
# resampled once. The last one here is such a chain: scale, turn, bend, mirror, crop.
row = T.Compose(
    [
        T.RandomScale((0.8, 1.2)),
        T.RandomAffine(30),
        T.ElasticDeform(),
        T.HorizontalFlip(1),
        T.RandomCrop(160),
    ]
)
shape = [
    T.HorizontalFlip(1),
    T.VerticalFlip(1),
    T.Rotate90(),
    T.RandomAffine(30),
    T.RandomPerspective(0.2),
    T.ElasticDeform(),
]
sheared = T.RandomAffine(0, shear=(25, 25))
show(
    {type(t).__name__: once(t) for t in shape}
    | {"RandomAffine, shear": once(sheared)}
    | {"all of them, one resampling": once(row)}
)

# %%
# Values
# ------
# These leave the mask alone, except ``Cutout``: what is cut out is ignored.
values = [
    T.ColorJitter(0.4, 0.4, 0.4, 0.1),
    T.RandomGamma((2, 2)),
    T.CLAHE((4, 4)),
    T.GaussianNoise((0.1, 0.1)),
    T.GaussianBlur((2, 2)),
    T.Cutout(3),
    T.Normalize(0.5, 0.5),
    T.OnImage(lambda picture: 1 - picture),
]
show({type(t).__name__: once(t) for t in values})

# %%
# Choices
# -------
# One of several, some of several, or perhaps: another draw, another choice. What is
# chosen joins its neighbours in a ``Compose``.
turn, bend = T.RandomAffine((25, 25)), T.ElasticDeform(8)
choices = [
    T.OneOf([turn, bend]),
    T.SomeOf([turn, bend, T.HorizontalFlip(1)], n=2),
    T.Maybe(turn, p=0.5),
    T.Maybe(bend, p=1),
]
show({f"{type(t).__name__} {n}": once(t) for n, t in enumerate(choices)})

# %%
# A crop that contains a class
# ----------------------------
# Four draws of ``RandomCrop(64, focus_class=5)``: there is a house in each. A sampler
# that balances classes sends the keyword for each sample.
generator = torch.Generator().manual_seed(0)
crops = [
    T.RandomCrop(64)(image, mask, generator=generator, focus_class=5) for _ in range(4)
]
show({f"draw {number}": crop for number, crop in enumerate(crops)})

# %%
# One draw for each sample of a batch
# -----------------------------------
# A transform of a batch draws once, for all of it; ``PerSample`` draws for each.
batch, batch_masks = image.repeat(3, 1, 1, 1), mask.repeat(3, 1, 1)
for transform in (T.RandomAffine(30), T.PerSample(T.RandomAffine(30))):
    moved = transform(batch, batch_masks, generator=torch.Generator().manual_seed(4))
    figure, axes = plt.subplots(1, 3, figsize=(7.2, 1.9), layout="constrained")
    figure.suptitle(repr(transform), fontsize=8)
    for axis, picture, target in zip(axes, *moved, strict=True):
        axis.imshow(viz.overlay(picture, target, colors=COLORS, alpha=0.4))
        axis.set_axis_off()

# %%
# Two samples in one
# ------------------
# The donor is another scene. ``CopyPaste`` takes its houses, each moved with the rest of
# the donor; ``MixUp`` gives shares of classes, of which the larger is shown.
other, other_labels = draw_scene(seed=5)
donor = to_tensor(other), torch.from_numpy(other_labels)
mixes = [
    T.CutMix(0.3),
    T.ClassMix(0.5),
    T.CopyPaste([5], share=1, transform=T.RandomAffine(30)),
    T.MixUp(6, alpha=1.0),
]
mixed = {}
for mix in mixes:
    picture, target = mix(
        image, mask, donor=donor, generator=torch.Generator().manual_seed(7)
    )
    target = target["mask"].argmax(0) if isinstance(target, dict) else target
    mixed[type(mix).__name__] = picture, target
show({"picture": (image, mask), "donor": donor} | mixed)

# %%
# Targets that losses need
# ------------------------
# Skeletons for thin things, the distance to a class's border, which object is nearest,
# and weights for the gaps between objects: made in the loader and not in each step.
roads = (mask == 4).to(torch.uint8)
_, targets = T.Compose([T.SkeletonTarget(radius=1), T.DistanceMaps(2)])(image, roads)
_, targets = T.BorderWeights(sigma=8.0)(*T.ComponentRegions()(image, targets))
figure, axes = plt.subplots(1, 5, figsize=(11.5, 1.9), layout="constrained")
pictures = {
    "mask of the roads": roads,
    "skeleton": targets["skeleton"],
    "distance to its border": targets["distance_maps"][1],
    "nearest object": (targets["component_regions"] // 65536).float(),
    "weights between objects": targets["pixel_weights"],
}
for axis, (name, picture) in zip(axes, pictures.items(), strict=True):
    axis.imshow(picture, cmap="viridis" if picture.is_floating_point() else "gray")
    axis.set_title(name, fontsize=8)
    axis.set_axis_off()
