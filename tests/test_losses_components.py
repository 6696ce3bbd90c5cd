"""Dice of each object, held against loops over objects, and against what other losses say."""

from __future__ import annotations

import pickle

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit import losses
from segkit.losses import functional as L
from segkit.transforms import functional as T


def sample(seed=0, classes=3, shape=(2, 14, 17), ignored=True):
    g = torch.Generator().manual_seed(seed)
    target = torch.randint(0, classes, shape, generator=g) * (torch.rand(shape, generator=g) < 0.2)
    if ignored:
        target[torch.rand(shape, generator=g) < 0.1] = 255
    return torch.randn(shape[0], classes, *shape[1:], generator=g, dtype=torch.float64) * 2, target.to(torch.uint8)


def by_objects(logits, target, regions, weights=None, smooth=0.0):
    """A loop over images and objects, by autograd."""
    p, of_images = logits.softmax(1), []
    weights = torch.ones_like(target, dtype=torch.float64) if weights is None else weights
    for b in range(len(target)):
        each = []
        for region in regions[b].unique().tolist():
            number, c = divmod(region, 65536)
            w = weights[b] * (regions[b] == region) * (target[b] != 255)
            truth = (w * (target[b] == c)).sum()
            if number and truth > 0:
                inter, pred = (w * (target[b] == c) * p[b, c]).sum(), (w * p[b, c]).sum()
                each.append(1 - (2 * inter + smooth) / (pred + truth + smooth))
        if each:
            of_images.append(torch.stack(each).mean())
    return torch.stack(of_images).mean() if of_images else logits.sum() * 0


def gradient(loss, x):
    x = x.detach().clone().requires_grad_()
    value = loss(x)
    value.backward()
    return value.detach(), x.grad


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6), classes=st.integers(2, 5), weighted=st.booleans(), smooth=st.sampled_from([0.0, 1.0])
)
def test_it_is_the_mean_over_objects_and_images_plus_cross_entropy(seed, classes, weighted, smooth):
    logits, target = sample(seed, classes)
    regions = T.component_regions(target)
    g = torch.Generator().manual_seed(seed)
    weights = torch.rand(target.shape, generator=g, dtype=torch.float64) * (target != 1) if weighted else None
    options = {"pixel_weights": weights, "smooth": smooth, "class_weights": list(range(1, classes + 1))}
    found = gradient(lambda x: L.component_dice_ce(x, target, regions, ce_weight=0.7, **options), logits)
    entropy = {"pixel_weights": weights, "class_weights": options["class_weights"]}
    expected = gradient(
        lambda x: by_objects(x, target, regions, weights, smooth) + 0.7 * L.cross_entropy(x, target, **entropy), logits
    )
    torch.testing.assert_close(found, expected)


def test_one_object_whose_region_is_the_image_has_the_dice_of_its_class():
    logits, _ = sample()
    target = torch.zeros(2, 14, 17, dtype=torch.uint8)
    target[:, 3:9, 4:8] = 2
    regions = T.component_regions(target)
    found = L.component_dice_ce(logits, target, regions, ce_weight=0.0)
    torch.testing.assert_close(found, L.dice(logits, target, classes=[2]))


@pytest.mark.parametrize("shape", [(2, 14, 17), (2, 5, 6, 7)])
def test_a_yes_or_no_is_a_choice_between_two(shape):
    logits, target = sample(3, 2, shape)
    regions = T.component_regions(target, spacing=(1,) * (len(shape) - 1))
    x = (logits[:, 1] - logits[:, 0])[:, None]
    both = L.component_dice_ce(logits, target, regions)
    for one, mask in ((x, target), (x[:, 0], target), (x, target[:, None])):
        torch.testing.assert_close(L.component_dice_ce(one, mask, regions, mode="binary"), both)


def test_coarse_logits_are_interpolated():
    logits, target = sample(1, 3, (2, 7, 5))[0], sample(2, 3, (2, 14, 15))[1]
    regions = T.component_regions(target)
    fine = lambda x: F.interpolate(x, (14, 15), mode="bilinear", align_corners=False)  # noqa: E731
    found = gradient(lambda x: L.component_dice_ce(x, target, regions, upsample="bilinear"), logits)
    torch.testing.assert_close(found, gradient(lambda x: L.component_dice_ce(fine(x), target, regions), logits))


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((3, 2, 40, 50), {}),
        ((2, 4, 300, 260), {"class_weights": [1.0, 0.0, 3.0, 0.5], "smooth": 1.0}),
        ((2, 21, 180, 190), {"reduction": "sum", "dice_weight": 0.3}),
        ((3, 3, 30, 20), {"pixel_weights": torch.linspace(0, 2, 1800).view(3, 30, 20), "ce_weight": 2.0}),
    ],
    ids=["few pixels", "whole images", "pieces", "weighted"],
)
def test_what_is_made_image_by_image_is_what_is_made_at_large(shape, options):
    """Under a transform of torch.func all pixels are gone over for one step, and then for the next."""
    g = torch.Generator().manual_seed(3)
    logits = torch.randn(shape, generator=g) * 4
    target = torch.zeros(shape[0], *shape[2:], dtype=torch.uint8)
    target[:-1, 3:9, 2:12], target[:, 12:15, 5:9], target[-1] = 1, 255, 0  # the last image has no object
    target[:-1, 20:29, 10:16] = shape[1] - 1
    regions = T.component_regions(target)
    loss = lambda x: L.component_dice_ce(x, target, regions, **options)  # noqa: E731
    found = gradient(loss, logits)
    expected, value = torch.func.grad_and_value(loss)(logits)
    torch.testing.assert_close(found, (value, expected), rtol=1e-5, atol=1e-6 * expected.abs().max().item())
    with torch.no_grad():
        torch.testing.assert_close(loss(logits), value, rtol=1e-5, atol=0)


@pytest.mark.parametrize("margin", [8.0, 15.0, 25.0, 60.0])
def test_the_slope_of_sure_pixels_has_its_digits(margin):
    logits, target = sample(4, 3, ignored=False)
    logits = logits.float()
    g = torch.Generator().manual_seed(1)
    answer = torch.where(torch.rand(target.shape, generator=g) < 0.5, target.long(), (target.long() + 1) % 3)
    logits.scatter_add_(1, answer[:, None], torch.full((2, 1, 14, 17), margin))
    regions = T.component_regions(target)
    found, expected = (
        gradient(lambda x: L.component_dice_ce(x, target, regions), x)[1].double() for x in (logits, logits.double())
    )
    there = expected.abs() > 1e-30
    torch.testing.assert_close(found[there], expected[there], rtol=1e-3, atol=0)


def test_it_is_a_module_and_a_part_of_a_compound():
    logits, target = sample()
    regions = T.component_regions(target)
    module = pickle.loads(pickle.dumps(losses.ComponentDiceCELoss(class_weights=[1.0, 2.0, 3.0], smooth=0.5)))
    expected = L.component_dice_ce(logits, target, regions, class_weights=[1.0, 2.0, 3.0], smooth=0.5)
    torch.testing.assert_close(module(logits, target, regions), expected)
    compound = losses.CompoundLoss({"dice_ce": 1.0, "component_dice_ce": 0.5})
    found, details = compound(logits, target, targets={"component_dice_ce": regions}, details=True)
    alone = L.component_dice_ce(logits, target, regions)
    torch.testing.assert_close(found, L.dice_ce(logits, target) + 0.5 * alone)
    torch.testing.assert_close(details.parts["component_dice_ce"], alone)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (lambda x, y, r: (x, y, r[:1]), ValueError, "`regions` must be int32 .2, 14, 17., from transforms.Component"),
        (lambda x, y, r: (x, y, r.float()), ValueError, "`regions` must be int32"),
        (lambda x, y, r: (x, y, r + 7), ValueError, r"`regions` must be of classes in \[0, 3\), got"),
        (lambda x, y, r: (x, x.softmax(1), r), TypeError, "Soft targets have no objects"),
        (lambda x, y, r: (x, y.clamp_min(7), r), ValueError, r"labels in \[0, 3\)"),
    ],
)
def test_what_does_not_belong_together_is_refused(change, error, text):
    logits, target = sample()
    with pytest.raises(error, match=f"component_dice_ce: .*{text}"):
        L.component_dice_ce(*change(logits, target, T.component_regions(target)))
