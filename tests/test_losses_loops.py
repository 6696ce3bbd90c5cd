"""The losses in other people's loops: loss scaling, sure pixels, foreign tensors, odd labels, groups, no labels."""

from __future__ import annotations

import copy
import io
import math
import pickle
import warnings
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from losses_table import LOSSES, ONCE
from segkit import losses
from segkit.losses import functional as L
from segkit.mining import hard_mask


def sample(batch=2, classes=3, spatial=(9, 8), seed=0, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    target = torch.randint(0, classes, (batch, *spatial), generator=g, dtype=torch.uint8)
    target[:, 0] = 255
    return torch.randn(batch, classes, *spatial, generator=g).to(dtype), target


def gradient(loss, x, target, scale=1.0, **options):
    x = x.detach().clone().requires_grad_()
    (loss(x, target, **options) * scale).backward()
    return x.grad


@pytest.mark.parametrize("name", [n for n in ONCE if n not in ("lovasz", "cl_dice", "combine")])
def test_a_scaled_loss_in_half_precision_loses_no_gradient(name):
    """At this size most gradients are below 6e-8, the smallest number of float16, before the scale is on them."""
    logits, target = sample(1, 4, (512, 512), dtype=torch.float16)
    logits = (logits * 6).half()
    found = gradient(LOSSES[name], logits, target, 2.0**16).double()
    expected = gradient(LOSSES[name], logits.double(), target, 2.0**16)
    there = expected.abs() > 1e-3
    # Rounded once, to 11 bits; focal, at (1 - p)**2 in float32, has 3 digits less where p is nearly 1.
    torch.testing.assert_close(found[there], expected[there], rtol=2e-3 if "focal" in name else 6e-4, atol=0)


SURE = ["dice", "jaccard", "tversky", "lovasz", "generalized_dice", "dice_ce"]


@pytest.mark.parametrize("margin", [5.0, 12.0, 15.0, 20.0, 25.0, 60.0])
@pytest.mark.parametrize("name", SURE)
@pytest.mark.parametrize("mode", ["multiclass", "multilabel", "soft"])
def test_the_slope_of_sure_pixels_has_its_digits(name, mode, margin):
    if mode == "soft" and name == "lovasz":
        pytest.skip("has no soft targets")
    g = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 3, 6, 7, generator=g)
    target = torch.randint(0, 3, (2, 6, 7), generator=g)
    answer = torch.where(torch.rand(target.shape, generator=g) < 0.5, target, (target + 1) % 3)
    logits.scatter_add_(1, answer[:, None], torch.full((2, 1, 6, 7), margin))
    options = {"exact": True} if name == "lovasz" else {}
    if mode == "multilabel":
        target, options["mode"] = F.one_hot(target, 3).movedim(-1, 1), "multilabel"
    if mode == "soft":
        target = F.one_hot(target, 3).movedim(-1, 1).float()
    found = gradient(getattr(L, name), logits, target, **options).double()
    expected = gradient(getattr(L, name), logits.double(), target.double() if mode == "soft" else target, **options)
    there = expected.abs() > 1e-30
    torch.testing.assert_close(found[there], expected[there], rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    ("classes", "side", "wrong"), [(4, 128, 0.03), (4, 128, 0.5), (21, 230, 0.03), (21, 230, 0.5), (150, 70, 0.03)]
)
@pytest.mark.parametrize("name", ["dice", "tversky", "dice_ce"])
def test_the_slope_of_sure_pixels_has_its_digits_in_every_block(name, classes, side, wrong):
    """Few classes are gone over one by one, and of an image of many a piece at a time."""
    g = torch.Generator().manual_seed(1)
    logits = torch.randn(1, classes, side, side, generator=g)
    target = torch.randint(0, classes, (1, side, side), generator=g)
    answer = torch.where(torch.rand(target.shape, generator=g) < wrong, (target + 1) % classes, target)
    logits.scatter_add_(1, answer[:, None], torch.full((1, 1, side, side), 15.0))
    found, expected = (gradient(getattr(L, name), x, target).double() for x in (logits, logits.double()))
    right = torch.isclose(found, expected, rtol=1e-3, atol=0)
    for some in (answer, target):  # where it would be lost; elsewhere two classes may cancel each other out
        assert right.gather(1, some[:, None]).double().mean() > 0.999


@pytest.mark.parametrize("margin", [5.0, 15.0, 20.0, 60.0])  # at 12 many errors lie at the edge of the last level
@pytest.mark.parametrize("mode", ["multiclass", "multilabel"])
def test_binned_lovasz_keeps_the_digits_of_sure_pixels_too(mode, margin):
    logits, target = sample(1, 3, (200, 200))
    g = torch.Generator().manual_seed(1)
    answer = torch.where(torch.rand(target.shape, generator=g) < 0.5, target, 0).long().clamp_max(2)
    logits.scatter_add_(1, answer[:, None], torch.full((1, 3, 200, 200), margin))
    options = {"mode": mode}
    if mode == "multilabel":
        target = torch.where(target[:, None] == 255, 255, (target[:, None] == torch.arange(3).view(3, 1, 1)).long())
    found, expected = (gradient(L.lovasz, x, target, **options).double() for x in (logits, logits.double()))
    there = expected.abs() > 1e-30
    right = torch.isclose(found, expected, rtol=1e-3, atol=0)[there]
    assert right.double().mean() > 0.99  # an error between two levels may be rounded to the other, of another slope


def test_the_square_of_a_soft_target_stands_below_the_fraction():
    t = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).softmax(1)
    for name in ("dice", "jaccard", "tversky"):
        assert getattr(L, name)(t.log(), t, power=2).item() == pytest.approx(0, abs=1e-6)
        assert gradient(getattr(L, name), t.log(), t, power=2).abs().max() < 1e-6
    assert L.dice(t[:, :1].logit(), t[:, :1], mode="binary", power=2).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", ["dice", "jaccard", "tversky", "region_loss"])
def test_the_smaller_of_both_makes_the_loss_of_a_soft_target_0_where_it_is_met(name):
    t = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).softmax(1)
    x = t.log().double().requires_grad_()
    formula = [lambda s: 1 - 2 * s.intersection / (s.prediction + s.truth)] if name == "region_loss" else []
    loss = getattr(L, name)
    assert loss(*formula, x, t.double(), intersection="minimum").item() == pytest.approx(0, abs=1e-7)
    moved = (x.detach() + torch.randn(x.shape, generator=torch.Generator().manual_seed(1))).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss(*formula, z, t.double(), intersection="minimum"), moved)
    hard = torch.randint(0, 3, (2, 8, 8))
    assert torch.equal(loss(*formula, x, hard, intersection="minimum"), loss(*formula, x, hard))


@pytest.mark.parametrize("value", [85.0, -1.0, math.nan])
@pytest.mark.parametrize("name", ["cross_entropy", "dice", "focal", "dice_ce", "ohem_cross_entropy"])
def test_shares_that_are_none_are_refused_where_they_count(name, value):
    logits, _ = sample()
    share = torch.full(logits.shape, 1 / 3)
    share[0, 0, 0, 0] = value
    with pytest.raises(ValueError, match=rf"^{name}: a floating point `target` must hold shares in \[0, 1\], got"):
        getattr(L, name)(logits, share)
    weights = torch.ones(2, 9, 8)
    weights[0, 0, 0] = 0
    assert getattr(L, name)(logits, share, pixel_weights=weights).isfinite()


def test_class_weights_leave_other_classes_out_of_generalized_dice():
    logits, target = sample()
    only = L.dice(logits, target, classes=[2])
    torch.testing.assert_close(L.generalized_dice(logits, target, class_weights=[0.0, 0.0, 1.0]), only)
    torch.testing.assert_close(losses.GeneralizedDiceLoss(class_weights=[0.0, 0.0, 1.0])(logits, target), only)
    some = L.generalized_dice(logits, target, class_weights=[0.0, 2.0, 2.0])
    torch.testing.assert_close(some, L.generalized_dice(logits, target, classes=[1, 2]))


@pytest.mark.parametrize("weights", [[1.0, 1.0, math.inf], [1.0, math.nan, 1.0], [-1.0, 1.0, 1.0]], ids=str)
@pytest.mark.parametrize("name", [n for n in ONCE if n not in ("combine", "boundary", "binary_cross_entropy")])
def test_class_weights_that_are_no_weights_are_refused(name, weights):
    logits, target = sample()
    with pytest.raises(ValueError, match="`class_weights` must be finite and at least 0"):
        LOSSES[name](logits, target, class_weights=weights)


@pytest.mark.parametrize("name", ["lovasz", "dice", "cl_dice", "dice_ce"])
def test_chosen_classes_are_one_several_a_tensor_or_a_range(name):
    logits, target = sample()
    loss = getattr(L, name)
    expected = loss(logits, target, classes=[1, 2])
    for classes in (range(1, 3), torch.tensor([1, 2]), (1, 2), np.array([1, 2])):
        assert torch.equal(loss(logits, target, classes=classes), expected)
    assert torch.equal(loss(logits, target, classes=1), loss(logits, target, classes=[1]))
    for wrong in ([-1], [], [3]):
        with pytest.raises(ValueError, match="`classes` must name classes"):
            loss(logits, target, classes=wrong)


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("classes", [2, 5, 9])
def test_focal_with_alpha_and_gamma_0_is_weighted_cross_entropy_in_float64(classes, ignored):
    logits, target = sample(2, classes, (8, 9), dtype=torch.float64)
    target = target if ignored else target.clamp_max(classes - 1)
    alpha = torch.linspace(0.1, 1, classes, dtype=torch.float64)
    found = gradient(L.focal, logits, target, gamma=0.0, alpha=alpha.tolist())
    x = logits.clone().requires_grad_()
    F.cross_entropy(x, target.long(), weight=alpha, ignore_index=255, reduction="sum").div(
        (target != 255).sum()
    ).backward()
    torch.testing.assert_close(found, x.grad)


def test_another_default_device_is_of_no_consequence():
    logits, target = sample(2, 3, (100, 100))
    expected = {name: gradient(loss, logits, target) for name, loss in LOSSES.items()}
    from segkit.losses._engine.streamed import by_class

    for kept in (by_class._kept_grid, by_class._column, by_class._names):
        kept.cache_clear()
    with torch.device("meta"):
        for name in ("dice_ce", "lovasz", "ohem_cross_entropy"):
            gradient(LOSSES[name], logits, target)
        losses.DiceCELoss(class_weights=[1.0, 2.0, 3.0])
    for name, loss in LOSSES.items():
        assert torch.equal(gradient(loss, logits, target), expected[name]), name


class Foreign(torch.Tensor):
    """As MONAI's and torchvision's: comes back from every operator."""


@pytest.mark.parametrize("name", ONCE)
def test_a_tensor_of_somebody_elses_class_gives_the_plain_result(name):
    logits, target = sample()
    expected = gradient(LOSSES[name], logits, target)
    x = logits.as_subclass(Foreign).requires_grad_()
    value = LOSSES[name](x, target.as_subclass(Foreign))
    assert type(value) is torch.Tensor
    value.backward()
    assert torch.equal(x.grad.as_subclass(torch.Tensor), expected)
    parameter = torch.nn.Parameter(logits)
    LOSSES[name](parameter, target).backward()
    assert torch.equal(parameter.grad, expected)


def test_a_tensor_of_somebody_elses_class_is_refused_in_the_same_words():
    logits, target = sample()
    with pytest.raises(ValueError, match=r"labels in \[0, 3\) or 255 \(ignored\), got 7"):
        L.dice_ce(logits.as_subclass(Foreign), torch.full_like(target, 7).as_subclass(Foreign))


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64])
@pytest.mark.parametrize("name", ["cross_entropy", "dice", "lovasz", "ohem_cross_entropy", "cl_dice"])
def test_unsigned_labels_mean_what_they_say(name, dtype):
    logits, target = sample()
    loss = getattr(L, name)
    assert torch.equal(loss(logits, target.long().to(dtype)), loss(logits, target))
    planes = (target == 1)[:, None]
    if name not in ("ohem_cross_entropy",):
        assert torch.equal(
            loss(logits[:, :1], planes.long().to(dtype), mode="binary"), loss(logits[:, :1], planes, mode="binary")
        )


@pytest.mark.parametrize(
    "name", ["cross_entropy", "focal", "dice", "lovasz", "ohem_cross_entropy", "cl_dice", "dice_ce"]
)
def test_nothing_or_several_labels_may_be_ignored(name):
    logits, target = sample()
    loss = getattr(L, name)
    inside = target.clamp_max(2)
    assert torch.equal(loss(logits, inside, ignore_index=None), loss(logits, inside))
    two = target.clone()
    two[:, 1] = 254
    one = two.where(two != 254, 255)
    assert torch.equal(loss(logits, two, ignore_index=(254, 255)), loss(logits, one))
    assert torch.equal(loss(logits, two, ignore_index=(-100, 254, 255)), loss(logits, one))  # no byte is -100
    with pytest.raises(ValueError, match=r"labels in \[0, 3\), got 255"):
        loss(logits, target, ignore_index=None)
    with pytest.raises(TypeError, match="`ignore_index` must be a whole number, a tuple of them, or None"):
        loss(logits, target, ignore_index=0.5)


def test_an_absent_class_may_cost_what_is_taken_for_it():
    x, nothing = torch.full((1, 1, 8, 8), -2.0), torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    taken = x.sigmoid().sum().item()
    found = L.dice(x, nothing, mode="binary", smooth=1.0, absent="include")
    assert found.item() == pytest.approx(1 - 1 / (taken + 1))
    assert gradient(L.dice, x, nothing, mode="binary", smooth=1.0, absent="include").sum() > 0
    mine = lambda s: 1 - (2 * s.intersection + 1) / (s.prediction + s.truth + 1)  # noqa: E731
    torch.testing.assert_close(L.region_loss(mine, x, nothing, mode="binary", absent="include"), found)
    logits, target = sample()
    target = target.where(target != 2, 1)
    plain = L.dice(logits, target, smooth=1.0, absent="include", reduction="none")
    torch.testing.assert_close(L.dice(logits, target, smooth=1.0, absent="include"), plain.mean())


def test_a_class_that_is_left_out_is_no_number_beside_a_perfect_one_of_0():
    target = torch.zeros(1, 4, 4, dtype=torch.uint8)
    logits = torch.stack([torch.full((1, 4, 4), 30.0), torch.zeros(1, 4, 4), torch.zeros(1, 4, 4)], 1)
    for name in ("dice", "jaccard", "tversky", "lovasz", "skeleton_recall"):
        found = getattr(L, name)(logits, target, reduction="none")[0]
        assert found[0] < 1e-9, name
        assert found[1:].isnan().all(), name


@pytest.mark.parametrize("mode", ["multiclass", "binary", "multilabel"])
def test_hardest_pixels_may_be_smoothed_and_of_many_labels(mode):
    logits, target = sample()
    weights = torch.rand(target.shape, generator=torch.Generator().manual_seed(2))
    if mode == "binary":
        logits, target = logits[:, :1], target[:, None].where(target[:, None] > 250, target[:, None] % 2)
    if mode == "multilabel":
        target = torch.where(target[:, None] == 255, 255, (target[:, None] == torch.arange(3).view(3, 1, 1)).long())
    smoothing = {"label_smoothing": 0.1} if mode == "multiclass" else {}
    plain = L.cross_entropy(logits, target, mode=mode, pixel_weights=weights, reduction="none", **smoothing)
    every = L.ohem_cross_entropy(logits, target, mode=mode, keep_ratio=1.0, pixel_weights=weights, **smoothing)
    torch.testing.assert_close(every, L.cross_entropy(logits, target, mode=mode, pixel_weights=weights, **smoothing))
    kept = L.ohem_cross_entropy(
        logits, target, mode=mode, min_kept=7, pixel_weights=weights, reduction="sum", **smoothing
    )
    torch.testing.assert_close(kept, plain.flatten().topk(7).values.sum())
    for wrong in ({"keep_ratio": 0.0}, {"keep_ratio": 70}, {"min_kept": 0}):
        with pytest.raises(ValueError, match="must be (in|at least)"):
            L.ohem_cross_entropy(logits, target, mode=mode, **wrong)
        with pytest.raises(ValueError, match="must be (in|at least)"):
            losses.OHEMCrossEntropyLoss(mode=mode, **wrong)


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "dice", "lovasz", "dice_ce", "ohem_cross_entropy"])
def test_what_nobody_looked_for_gets_no_gradient(name):
    logits, target = sample()
    several = torch.where(target[:, None] == 255, 255, (target[:, None] == torch.arange(3).view(3, 1, 1)).long())
    looked = torch.tensor([[True, True, False], [True, False, True]])
    loss = getattr(L, name)
    found = gradient(loss, logits, several, mode="multilabel", labelled=looked)
    assert not found[~looked].any()
    ignored = torch.where(looked[:, :, None, None], several, 255)
    assert torch.equal(found, gradient(loss, logits, ignored, mode="multilabel"))


@pytest.mark.parametrize("name", ["cross_entropy", "dice", "dice_ce", "lovasz"])
def test_under_a_softmax_what_nobody_looked_for_is_one_with_the_background(name):
    logits, target = sample()
    target = target.where(target != 2, 0)
    looked = torch.tensor([[True, True, False]] * 2)
    merged = torch.stack([logits[:, ::2].logsumexp(1), logits[:, 1]], 1)
    loss = getattr(L, name)
    torch.testing.assert_close(loss(logits, target, labelled=looked), loss(merged, target))
    assert gradient(loss, logits, target, labelled=looked).isfinite().all()
    module = getattr(
        losses,
        {"cross_entropy": "CrossEntropyLoss", "dice": "DiceLoss", "dice_ce": "DiceCELoss", "lovasz": "LovaszLoss"}[
            name
        ],
    )()
    torch.testing.assert_close(module(logits, target, labelled=looked), loss(merged, target))


@pytest.mark.parametrize("name", ["cross_entropy", "dice", "dice_ce", "lovasz", "ohem_cross_entropy"])
def test_coarse_logits_are_interpolated_before_classes_become_one_with_the_background(name):
    logits, target = sample(spatial=(4, 4))[0], sample(spatial=(8, 12))[1]
    target = target.where(target != 2, 0)
    looked = torch.tensor([[True, True, False], [True, False, True]])
    options = {"labelled": looked, "upsample": "bilinear"}
    found = gradient(getattr(L, name), logits, target, **options)
    fine = lambda x, y, **k: getattr(L, name)(  # noqa: E731
        F.interpolate(x, (8, 12), mode="bilinear", align_corners=False), y, **k
    )
    torch.testing.assert_close(found, gradient(fine, logits, target, labelled=looked))
    assert gradient(getattr(L, name), logits.half(), target, **options).dtype == torch.float16


@pytest.mark.parametrize(
    "loss", [L.cross_entropy, L.binary_cross_entropy, L.ohem_cross_entropy], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("mode", ["binary", "multilabel"])
def test_smoothing_gives_a_share_to_the_other_answer(loss, mode):
    logits, target = sample()
    several = torch.where(target[:, None] == 255, 255, (target[:, None] == torch.arange(3).view(3, 1, 1)).long())
    x, y = (logits[:, :1], several[:, :1]) if mode == "binary" else (logits, several)
    known = y != 255
    soft = torch.where(y == 1, 0.9, 0.1)[known]
    expected = F.binary_cross_entropy_with_logits(x[known], soft)
    every = {"keep_ratio": 1.0} if loss is L.ohem_cross_entropy else {}
    found = loss(x, y, mode=mode, label_smoothing=0.1, **every)
    torch.testing.assert_close(found, expected)
    grad = gradient(loss, x, y, mode=mode, label_smoothing=0.1, **every)
    torch.testing.assert_close(grad[known], (x[known].sigmoid() - soft) / known.sum())
    compound = L.dice_ce(x, y, mode=mode, label_smoothing=0.1)
    torch.testing.assert_close(compound, L.dice(x, y, mode=mode) + expected)  # the overlap is of what is there


@pytest.mark.parametrize(
    "name", ["binary_cross_entropy", "focal", "dice", "lovasz", "cl_dice", "ohem_cross_entropy", "combine"]
)
@pytest.mark.parametrize("soft", [False, True])
def test_each_channel_may_have_weights_of_its_own(name, soft):
    if soft and name == "lovasz":
        pytest.skip("has no soft targets")
    logits, target = sample()
    several = (target[:, None] == torch.arange(3).view(3, 1, 1)).long()
    known = torch.rand(several.shape, generator=torch.Generator().manual_seed(3)) < 0.7
    loss = partial(getattr(L, name), mode="multilabel")
    if name == "combine":
        loss = L.combine({"dice": 1.0, "cross_entropy": 0.5}, mode="multilabel")
    given = several.float() if soft else several
    found = gradient(loss, logits, given, pixel_weights=known.float())
    torch.testing.assert_close(found, gradient(loss, logits, torch.where(known, several, 255)))
    assert not found[~known].any()
    same = gradient(loss, logits, given, pixel_weights=torch.full(several.shape, 0.5))
    torch.testing.assert_close(same, gradient(loss, logits, given, pixel_weights=torch.full(target.shape, 0.5)))
    if soft:
        unknown = torch.where(known, given, -1.0)
        torch.testing.assert_close(gradient(loss, logits, unknown, pixel_weights=known.float()), found)


def test_pixels_chosen_as_mmsegmentation_does_have_its_loss():
    """The row on OHEM of the page for those who come from there, with the sampler's rule written out."""
    logits, target = sample(4, 3, (16, 16))
    logits, valid = logits * 3, target != 255
    weights, batch = torch.tensor([1.0, 1.0, 9.0]), 4
    plain = L.cross_entropy(logits, target, reduction="none")
    for threshold, kept in ((0.7, 20), (1e-6, 50)):
        p = plain.neg().exp()[valid]
        edge = max(p.sort().values[min(kept * batch, len(p) - 1)].item(), threshold)
        theirs = valid & (plain.neg().exp() < edge)
        ours = L.ohem_cross_entropy(
            logits, target, threshold=-math.log(threshold), min_kept=kept * batch, reduction="none"
        )
        assert torch.equal(ours > 0, theirs)
        total = L.ohem_cross_entropy(
            logits, target, threshold=-math.log(threshold), min_kept=kept * batch, reduction="sum"
        )
        torch.testing.assert_close(total / target.numel(), (plain * theirs).mean())
    chosen = hard_mask(plain, threshold=-math.log(0.7), valid=valid).float()  # by probability, before class weights
    found = L.cross_entropy(logits, target, class_weights=weights, pixel_weights=chosen)
    labels = torch.where(chosen > 0, target, 255).long()
    torch.testing.assert_close(found, F.cross_entropy(logits, labels, weight=weights, ignore_index=255))


def test_classification_without_a_pixel():
    x, y = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 1])
    hot, expected = F.one_hot(y, 3), F.cross_entropy(x, y)
    for target in (y, y[:, None], hot, hot.bool(), hot.float()):
        torch.testing.assert_close(L.cross_entropy(x, target), expected)
    torch.testing.assert_close(L.cross_entropy(x[:3], hot[:3]), F.cross_entropy(x[:3], y[:3]))
    b, t = x[:, 0], torch.tensor([0, 1, 1, 0])
    for logits, target in ((b, t), (b[:, None], t), (b[:, None], t[:, None])):
        torch.testing.assert_close(
            L.binary_cross_entropy(logits, target), F.binary_cross_entropy_with_logits(b, t.float())
        )
    with pytest.raises(ValueError, match="cl_dice: `logits` must have 1 to 3 spatial axes"):
        L.cl_dice(x, y)


@pytest.mark.parametrize("alpha", [0.25, np.float32(0.25), torch.tensor(0.25), [0.25] * 3])
def test_alpha_is_a_number_of_any_kind_or_one_for_each_channel(alpha):
    logits, target = sample()
    several = (target[:, None] == torch.arange(3).view(3, 1, 1)).long()
    expected = L.focal(logits, several, mode="multilabel", alpha=0.25)
    torch.testing.assert_close(L.focal(logits, several, mode="multilabel", alpha=alpha), expected)


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (lambda: losses.DiceCELoss(reduction="none"), "`reduction` must be one of 'mean', 'sum', got 'none'"),
        (lambda: losses.BinaryCrossEntropyLoss(mode="multiclass"), "`mode` must be one of 'binary', 'multilabel'"),
        (lambda: losses.DiceLoss(classes=[-1]), "`classes` must name classes in"),
        (lambda: losses.LovaszLoss(exact=True, upsample="bilinear"), "`exact` must be False with upsample"),
        (lambda: losses.DiceLoss(smooth=-1.0), "`smooth` must be at least 0, got -1.0"),
        (lambda: losses.TverskyLoss(alpha=-1.0), "`alpha` must be at least 0, got -1.0"),
        (lambda: losses.FocalLoss(mode="binary", alpha=2.0), r"`alpha` must be one number in \[0, 1\]"),
        (lambda: losses.FocalLoss(gamma=-1.0), "`gamma` must be at least 0"),
        (lambda: losses.CrossEntropyLoss(class_weights=[1.0, -1.0]), "`class_weights` must be finite and at least 0"),
        (lambda: losses.CrossEntropyLoss(label_smoothing=2.0), r"`label_smoothing` must be in \[0, 1\]"),
        (lambda: losses.CLDiceLoss(iterations=0), "`iterations` must be at least 1"),
        (lambda: losses.CompoundLoss({"dice": math.nan}), "the weight of 'dice' must be finite"),
        (lambda: losses.CompoundLoss({"dice": 1.0}, options={"dice": {"power": 3}}), "`power` must be one of 1, 2"),
        (lambda: losses.DeepSupervision(losses.DiceLoss(), weights=[1.0, -1.0]), "`weights` must be finite"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_when_a_module_is_made(made, text):
    with pytest.raises(ValueError, match=text):
        made()


def test_weight_is_named_as_it_is_called_here_and_left_out_of_a_state():
    with pytest.raises(TypeError, match=r"CrossEntropyLoss: there is no `weight`. Pass class_weights="):
        losses.CrossEntropyLoss(weight=torch.ones(3))
    with pytest.raises(TypeError, match=r"CrossEntropyLoss: there is no `weight`. Pass class_weights="):
        losses.CrossEntropyLoss(torch.ones(3))  # where torch has it
    state = torch.nn.ModuleDict({"loss": torch.nn.CrossEntropyLoss(weight=torch.ones(3))}).state_dict()
    ours = losses.CrossEntropyLoss(class_weights=[1.0, 2.0, 3.0])
    for loss in (ours, losses.DeepSupervision(ours), losses.CompoundLoss({"dice": 1.0})):
        with pytest.warns(UserWarning, match="`loss.weight` of another loss, which is left out"):
            torch.nn.ModuleDict({"loss": loss}).load_state_dict(state, strict=True)


def test_what_a_loss_of_several_parts_kept_is_left_out_and_what_is_ours_stays():
    class Theirs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.cross_entropy = torch.nn.CrossEntropyLoss(weight=torch.ones(3))
            self.register_buffer("class_weight", torch.ones(3))

    class Learnt(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.zeros(()))

        def forward(self, logits, target):
            return self.scale * logits.sum()

    with pytest.warns(UserWarning, match="of another loss") as told:
        losses.DiceCELoss().load_state_dict(Theirs().state_dict())
    assert len(told) == 2
    with_state = losses.CompoundLoss({"dice": 1.0, "learnt": (Learnt(), 1.0)})
    state = {name: torch.ones_like(value) for name, value in with_state.state_dict().items()}
    assert state
    with_state.load_state_dict(state)
    assert all(value == 1 for value in with_state.state_dict().values())


def test_class_weights_keep_their_digits_through_half():
    logits, target = sample(dtype=torch.float64)
    weights = [0.1, 0.7, 123.456]
    for loss in (losses.CrossEntropyLoss(class_weights=weights), losses.CrossEntropyLoss(class_weights=weights).half()):
        expected = F.cross_entropy(logits, target.long(), weight=torch.tensor(weights).double(), ignore_index=255)
        exact = F.cross_entropy(
            logits, target.long(), weight=torch.tensor(weights, dtype=torch.float64), ignore_index=255
        )
        assert (loss(logits, target) - exact).abs() < 1e-12 < (expected - exact).abs()


@pytest.mark.parametrize("loss", [lambda x: L.lovasz(x, X3), lambda x: L.cl_dice(x, X3), lambda x: L.dice(x, X3)])
def test_a_softmax_before_a_softmax_is_told(loss):
    with pytest.warns(UserWarning, match="look like probabilities.*without softmax"):
        loss(torch.randn(2, 3, 9, 8, generator=torch.Generator().manual_seed(0)).softmax(1))


X3 = torch.zeros(2, 9, 8, dtype=torch.uint8)


def test_a_sigmoid_before_a_sigmoid_and_a_mask_without_foreground_are_told():
    logits = torch.randn(2, 1, 9, 8, generator=torch.Generator().manual_seed(0))
    mask = (logits > 0).to(torch.uint8)
    with pytest.warns(UserWarning, match="look like probabilities .all in .0, 1.*without sigmoid"):
        L.binary_cross_entropy(logits.sigmoid(), mask)
    with pytest.warns(UserWarning, match="0 and 255 only, and 255 is ignored: nothing is foreground.*target > 0"):
        L.dice(logits, mask * 255, mode="binary")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        L.binary_cross_entropy(logits, mask)
        L.binary_cross_entropy(torch.full_like(logits, 0.2), mask)


def test_deep_supervision_takes_what_networks_give():
    g = torch.Generator().manual_seed(0)
    x, z = torch.randn(2, 3, 8, 8, generator=g), torch.randn(2, 3, 4, 4, generator=g)
    y = torch.randint(0, 3, (2, 8, 8), generator=g, dtype=torch.uint8)
    up = F.interpolate(z, (8, 8), mode="bilinear", align_corners=False)
    deep = losses.DeepSupervision(losses.CrossEntropyLoss())
    expected = (2 * L.cross_entropy(x, y) + L.cross_entropy(up, y)) / 3
    torch.testing.assert_close(deep([x, z], y), expected)
    torch.testing.assert_close(deep({"out": x, "aux": z}, y), expected)
    torch.testing.assert_close(deep(torch.stack([x, up], 1), y), expected)
    torch.testing.assert_close(deep([x, z], y, pixel_weights=torch.ones(2, 8, 8)), expected)
    torch.testing.assert_close(deep(x, y), L.cross_entropy(x, y))
    hot = F.one_hot(y.long(), 3)
    for target in (y[:, None], y[..., None], hot, hot.movedim(-1, 1), hot.movedim(-1, 1).float()):
        torch.testing.assert_close(deep([x, z], target), expected)
    nothing = losses.DeepSupervision(losses.CrossEntropyLoss(), weights=[1.0, 0.0])
    torch.testing.assert_close(nothing([x, torch.full_like(z, math.nan)], y), L.cross_entropy(x, y))
    binary = losses.DeepSupervision(losses.DiceLoss(mode="binary"))
    mask, fine = (y > 0), up[:, :1]
    wanted = (2 * L.dice(x[:, :1], mask, mode="binary") + L.dice(fine, mask, mode="binary")) / 3
    torch.testing.assert_close(binary([x[:, :1], z[:, :1]], mask), wanted)
    torch.testing.assert_close(binary([x[:, 0], z[:, 0]], mask), wanted)
    for loss in (losses.CLDiceLoss(), losses.LovaszLoss(exact=True)):
        wanted = (2 * loss(x, y) + loss(up, y)) / 3
        torch.testing.assert_close(losses.DeepSupervision(loss)([x, z], y), wanted)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_tracer_and_second_derivatives_are_refused_in_words():
    logits, target = sample()
    with pytest.raises(RuntimeError, match="dice_ce: torch.jit.trace would keep"):
        torch.jit.trace(losses.DiceCELoss(), (logits, target), check_trace=False)
    for name in ("cross_entropy", "dice", "dice_ce", "lovasz"):
        loss = lambda x, name=name: getattr(L, name)(x, target)  # noqa: E731
        for transform in (torch.func.jacrev, torch.func.hessian):
            with pytest.raises(RuntimeError, match="segkit"):
                transform(loss)(logits)
    hard = losses.OHEMCrossEntropyLoss(keep_ratio=0.5)
    torch.func.grad(lambda x: hard(x, target))(logits)
    assert int(copy.deepcopy(hard).last_kept) == 64


def test_a_group_by_name_survives_copies_and_is_nobody_while_evaluating(tmp_path):
    logits, target = sample()
    loss = losses.DiceCELoss(scope="batch", process_group="world")
    expected = L.dice_ce(logits, target, scope="batch")
    assert torch.equal(loss(logits, target), expected)  # no group yet: one process
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        there = losses.DiceCELoss(scope="batch", process_group=torch.distributed.group.WORLD)
        saved = io.BytesIO()
        torch.save(there, saved)
        for other in (copy.deepcopy(there), pickle.loads(pickle.dumps(there)), copy.deepcopy(loss)):
            torch.testing.assert_close(other(logits, target), expected)
        torch.optim.swa_utils.AveragedModel(torch.nn.ModuleList([there]))
        calls = []
        run, torch.distributed.all_reduce = torch.distributed.all_reduce, lambda *a, **k: calls.append(1)
        try:
            there.eval()(logits, target)
            assert not calls
            there.train()(logits, target)
            assert calls
        finally:
            torch.distributed.all_reduce = run
    finally:
        torch.distributed.destroy_process_group()
