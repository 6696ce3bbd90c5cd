"""The one table of losses that the laws run over: every function, in the ways that differ inside.

A loss is called with logits [B, C, *spatial] and class indices with 255 for ignored pixels. A name after a comma is a
further way of the same function. What is not here has no laws, and `test_losses_laws` says so.
"""

from __future__ import annotations

from functools import partial

import torch

from segkit.losses import functional as L

IGNORED = 255


def planes(logits, target):
    """0 and 1 for each class, and ignored."""
    classes = torch.arange(logits.shape[1], device=target.device).view(-1, *[1] * (target.ndim - 1))
    return torch.where(target[:, None] == IGNORED, IGNORED, target[:, None] == classes)


def volume(sums):
    """A formula of one's own."""
    return (sums.prediction - sums.truth).abs() / (sums.prediction + sums.truth)


def by_planes(loss, logits, target, **options):
    return loss(logits, planes(logits, target), mode="multilabel", **options)


def boundary(logits, target, **options):
    """Maps that tell inside from outside, and weights for what counts."""
    maps = torch.where(planes(logits, target) == 1, -1.5, 2.0)
    return L.boundary(logits, maps, pixel_weights=(target != IGNORED).float(), **options)


def component_dice_ce(logits, target, **options):
    return L.component_dice_ce(logits, target, regions_of(target), **options)


def regions_of(target):
    """Each class is one object, wherever it lies: so regions follow their classes, and padding changes none."""
    return torch.where(target == IGNORED, 0, (target.int() + 1) * 65536 + target.int()).int()


LOSSES = {
    "cross_entropy": L.cross_entropy,
    "cross_entropy, smoothed": partial(L.cross_entropy, label_smoothing=0.1),
    "binary_cross_entropy": partial(by_planes, L.binary_cross_entropy),
    "focal": L.focal,
    "ohem_cross_entropy": L.ohem_cross_entropy,
    "dice": L.dice,
    "dice, squared": partial(L.dice, power=2, scope="batch"),
    "dice, absent one": partial(L.dice, absent="one"),
    "jaccard": partial(L.jaccard, log=True),
    "tversky": partial(L.tversky, alpha=0.3, beta=0.7, gamma=0.75),
    "generalized_dice": L.generalized_dice,
    "region_loss": partial(L.region_loss, volume),
    "lovasz": L.lovasz,
    "lovasz, image": partial(L.lovasz, scope="image", exact=True),
    "cl_dice": partial(L.cl_dice, iterations=2),
    "skeleton_recall": L.skeleton_recall,
    "boundary": boundary,
    "component_dice_ce": component_dice_ce,
    "dice_ce": L.dice_ce,
    "dice_focal": L.dice_focal,
    "combine": L.combine({"dice": 0.5, "tversky": 1.0, "cross_entropy": 1.0, "focal": 2.0}),
    "combine, own": L.combine({"own": (volume, 1.0), "cross_entropy": 0.5, "lovasz": 0.3}),
}
# Once each, and without what is made anew in every test.
ONCE = [name for name in LOSSES if "," not in name]
