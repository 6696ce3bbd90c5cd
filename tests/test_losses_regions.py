"""The region losses, the hardest pixels and coarse logits against naive loops (and against torch's interpolation)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import losses_oracle as oracle
from segkit.losses import functional as L
from test_losses_oracle import REGION, close, ours, problems, repeatedly


@repeatedly
@given(problems(), st.fixed_dictionaries(REGION), st.sampled_from([0.0, 1.0]), st.booleans())
def test_jaccard_is_what_the_loops_say(problem, more, smooth, log):
    logits, target, options = problem
    expected = oracle.region_loss(oracle.jaccard_formula(smooth, log=log), logits, target, **options, **more)
    close(ours(L.jaccard, logits, target, options, smooth=smooth, log=log, **more), expected)


@repeatedly
@given(problems(), st.fixed_dictionaries(REGION), st.sampled_from([(0.5, 0.5, 1.0), (0.3, 0.7, 0.75), (0.0, 1.0, 2.0)]))
def test_tversky_is_what_the_loops_say(problem, more, prices):
    logits, target, options = problem
    how = dict(zip(("alpha", "beta", "gamma"), prices, strict=True))
    expected = oracle.region_loss(oracle.tversky_formula(**how), logits, target, **options, **more)
    close(ours(L.tversky, logits, target, options, **how, **more), expected)


@repeatedly
@given(problems(), st.sampled_from(["image", "batch"]), st.sampled_from([0.0, 1e-5]))
def test_generalized_dice_is_what_the_loops_say(problem, scope, smooth):
    logits, target, options = problem
    options = {**options, "reduction": "mean", "class_weights": None}
    plain = {k: v for k, v in options.items() if k not in ("reduction", "class_weights")}
    expected = oracle.generalized_dice(logits, target, scope=scope, smooth=smooth, **plain)
    close(ours(L.generalized_dice, logits, target, options, scope=scope, smooth=smooth), expected)


@repeatedly
@given(problems(soft=False), st.sampled_from(["image", "batch"]), st.sampled_from(["present", "all"]))
def test_exact_lovasz_is_what_the_loops_say(problem, scope, classes):
    logits, target, options = problem
    expected = oracle.lovasz(logits, target, scope=scope, classes=classes, **options)
    close(ours(L.lovasz, logits, target, options, scope=scope, classes=classes, exact=True), expected)


@repeatedly
@given(problems(soft=False), st.sampled_from(["present", "all"]))
def test_binned_lovasz_is_within_its_bound(problem, classes):
    logits, target, options = problem
    options = {**options, "reduction": "none", "class_weights": None}
    expected = oracle.lovasz(logits, target, classes=classes, **options)
    actual = ours(L.lovasz, logits, target, options, classes=classes)
    assert np.abs(actual - expected).max(initial=0) <= 2**-16


@pytest.mark.parametrize("scope", ["image", "batch"])
def test_binned_lovasz_lowers_a_class_that_is_not_there_where_it_is_most_probable(scope):
    """The loss of such a class is its largest probability, so its slope is 1 there."""
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 200, 200, generator=g).requires_grad_()
    for image in range(2):
        logits.data[image, 2, 4 + image, 5] = 6.0 - image  # alone at its level
    truth = torch.randint(0, 2, (2, 200, 200), generator=g)
    exact, binned = (
        torch.autograd.grad(L.lovasz(logits, truth, classes=[2], scope=scope, exact=exact), logits)[0]
        for exact in (True, False)
    )
    assert (exact[:, 2] > 0).sum() == (2 if scope == "image" else 1)
    torch.testing.assert_close(binned, exact)


def test_binned_lovasz_has_the_gradient_of_the_exact_one():
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 40, 50, generator=g, dtype=torch.float64).mul_(2).requires_grad_()
    target = torch.randint(0, 4, (2, 40, 50), generator=g)
    target[0, :3] = 255
    weights = torch.rand(2, 40, 50, generator=g)
    for pixel_weights in (None, weights):
        for mode, truth in (("multiclass", target), ("multilabel", torch.randint(0, 2, logits.shape, generator=g))):
            grads = [
                torch.autograd.grad(
                    L.lovasz(logits, truth, mode=mode, exact=exact, pixel_weights=pixel_weights), logits
                )[0]
                for exact in (True, False)
            ]
            # Slopes differ only by where in a level's group of pixels a pixel stands: relative to the largest slope.
            assert (grads[0] - grads[1]).abs().max() < 2e-3 * grads[0].abs().max()


@repeatedly
@given(problems(soft=False, modes=("multiclass", "binary")), st.sampled_from(["image", "batch"]), st.integers(0, 2))
def test_ohem_is_the_mean_of_the_largest_losses(problem, scope, which):
    logits, target, options = problem
    options = {**options, "reduction": "mean", "class_weights": None}
    how = [{"keep_ratio": 0.3}, {"min_kept": 3}, {"keep_ratio": 0.1, "min_kept": 2}][which]
    keeps = [
        lambda n: math.ceil(0.3 * n),
        lambda n: min(3, n),
        lambda n: max(math.ceil(0.1 * n), min(2, n)),
    ]
    expected = oracle.ohem(logits, target, keep=keeps[which], scope=scope, **options)
    close(ours(L.ohem_cross_entropy, logits, target, options, scope=scope, **how), expected)


def test_ohem_above_a_threshold_keeps_at_least_so_many():
    logits = torch.tensor([[[0.0] * 4, [1.0, 2.0, 3.0, 4.0]]])
    target = torch.zeros(1, 4, dtype=torch.uint8)
    losses = L.cross_entropy(logits, target, reduction="none")[0]
    kept = L.ohem_cross_entropy(logits, target, threshold=3.0, reduction="none")[0]
    assert kept.tolist() == [0.0, 0.0, losses[2].item(), losses[3].item()]
    kept = L.ohem_cross_entropy(logits, target, threshold=30.0, min_kept=1, reduction="none")[0]
    assert kept.tolist() == [0.0, 0.0, 0.0, losses[3].item()]


@repeatedly
@given(problems(soft=False, modes=("multiclass",)), st.sampled_from([1, 2]))
def test_cl_dice_is_what_the_loops_say(problem, iterations):
    logits, target, options = problem
    options = {**options, "reduction": "mean", "class_weights": None}
    expected = oracle.cl_dice(
        logits, target, ignore_index=options["ignore_index"], pixel_weights=options["pixel_weights"],
        iterations=iterations,
    )  # fmt: skip
    close(ours(L.cl_dice, logits, target, options, iterations=iterations), expected)


def test_boundary_is_the_mean_of_probability_times_distance():
    rng = np.random.default_rng(1)
    logits, maps = rng.normal(0, 2, (2, 3, 4, 5)), rng.normal(0, 4, (2, 3, 4, 5))
    weights = rng.random((2, 4, 5))
    weights[0, 0] = 0
    values = []
    for b in range(2):
        for c in range(3):
            above = below = 0.0
            for i in range(4):
                for j in range(5):
                    p = oracle.softmax(logits[b, :, i, j].tolist())[c]
                    above += weights[b, i, j] * p * maps[b, c, i, j]
                    below += weights[b, i, j]
            values.append(above / below)
    actual = L.boundary(torch.tensor(logits), torch.tensor(maps), pixel_weights=torch.tensor(weights))
    close(actual.numpy(), math.fsum(values) / len(values))


@pytest.mark.parametrize("planes", [False, True])
def test_skeleton_recall_is_the_share_of_the_skeleton_that_is_found(planes):
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 2, (2, 3, 4, 5))
    lines = np.full((2, 4, 5), 255)
    lines[0, 1, :], lines[0, :, 2], lines[1, 2, 1:4] = 1, 2, 2
    values = []
    for b in range(2):
        for c in (1, 2):
            found = [oracle.softmax(logits[b, :, i, j].tolist())[c] for i, j in np.argwhere(lines[b] == c)]
            if found:
                values.append(1 - math.fsum(found) / len(found))
    skeleton = torch.tensor(lines)
    if planes:
        skeleton = torch.stack([skeleton == c for c in range(3)], 1).long()
    actual = L.skeleton_recall(torch.tensor(logits), skeleton, classes=[1, 2])
    close(actual.numpy(), math.fsum(values) / len(values))


COARSE = [((5, 7), (11, 17)), ((8, 16), (32, 300)), ((3, 4, 5), (5, 4, 7)), ((9,), (40,)), ((6, 6), (4, 9))]


@pytest.mark.parametrize(("coarse", "fine"), COARSE, ids=str)
@pytest.mark.parametrize("name", ["cross_entropy", "dice_ce", "lovasz", "ohem_cross_entropy", "tversky"])
def test_coarse_logits_give_what_interpolating_them_first_gives(name, coarse, fine):
    g = torch.Generator().manual_seed(3)
    x = torch.randn(2, 3, *coarse, generator=g, dtype=torch.float64).requires_grad_()
    y = torch.randint(0, 3, (2, *fine), generator=g)
    y[0, 0] = 255
    loss = getattr(L, name)
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(coarse)]
    options = {"class_weights": [1.0, 2.0, 0.5], "pixel_weights": torch.rand(y.shape, generator=g)}
    first = loss(torch.nn.functional.interpolate(x, fine, mode=mode, align_corners=False), y, **options)
    (expected,) = torch.autograd.grad(first, x)
    ours_ = loss(x, y, upsample="bilinear", **options)
    (actual,) = torch.autograd.grad(ours_, x)
    # The first sorts, as the image is small; the second counts levels, which is within 2**-16 of it.
    torch.testing.assert_close(ours_, first, rtol=1e-9, atol=2**-16 if name == "lovasz" else 1e-9)
    # An error at the edge between two levels of Lovász may round to either, as its last bit differs.
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-3 if name == "lovasz" else 1e-12)


def test_the_whole_is_cut_into_blocks_without_a_seam():
    g = torch.Generator().manual_seed(4)
    x = torch.randn(3, 5, 200, 211, generator=g)  # 633,000 elements: several blocks, one of them short
    y = torch.randint(0, 5, (3, 200, 211), generator=g, dtype=torch.uint8)
    y[:, 50:60] = 255
    for name in ("cross_entropy", "focal", "dice", "tversky", "dice_ce"):
        loss = getattr(L, name)
        parts = []
        for dtype in (torch.float32, torch.float64):
            z = x.to(dtype).requires_grad_()
            value = loss(z, y, scope="batch") if name in ("dice", "tversky", "dice_ce") else loss(z, y)
            parts.append((value, *torch.autograd.grad(value, z)))
        torch.testing.assert_close(parts[0][0].double(), parts[1][0], rtol=1e-5, atol=0)
        torch.testing.assert_close(parts[0][1].double(), parts[1][1], rtol=1e-4, atol=1e-11)
        one_by_one = [loss(x[b : b + 1].double(), y[b : b + 1], reduction="sum") for b in range(3)]
        torch.testing.assert_close(loss(x.double(), y, reduction="sum"), sum(one_by_one), rtol=1e-9, atol=0)


@pytest.mark.parametrize("classes", [2, 4, 8])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("labels", [torch.uint8, torch.int64])
def test_many_pixels_of_few_classes_have_the_loss_and_gradient_of_the_plain_formula(classes, weighted, labels):
    torch.manual_seed(classes)
    x = torch.randn(2, classes, 96, 100, requires_grad=True)  # 9600 pixels an image
    y = torch.randint(0, classes, (2, 96, 100)).to(labels)
    share = torch.rand(2, 96, 100).double() if weighted else torch.ones(2, 96, 100).double()
    if weighted:
        y[:, :5] = 255
        share[:, :5] = 0

    wide = x.detach().double().requires_grad_()
    truth = torch.nn.functional.one_hot(y.long() % 255 % classes, classes).movedim(3, 1) * share[:, None]
    p = wide.softmax(1)
    dice = 1 - 2 * (p * truth).sum((2, 3)) / ((p * share[:, None]).sum((2, 3)) + truth.sum((2, 3)))
    expected = dice.mean() - (truth * wide.log_softmax(1)).sum() / share.sum()
    expected.backward()

    loss = L.dice_ce(x, y, pixel_weights=share.float() if weighted else None)
    loss.backward()
    torch.testing.assert_close(loss.detach().double(), expected.detach(), rtol=1e-6, atol=0)
    torch.testing.assert_close(x.grad.double(), wide.grad, rtol=1e-4, atol=1e-10)


def test_errors_are_sorted_as_torch_sorts_them_with_the_first_of_equal_ones_first():
    from segkit.losses._engine.sort import largest_first

    errors = torch.rand(2, 3, 500)
    errors[:, :, ::3] = 0.25
    errors[:, :, 100:200] = 0
    errors[0, 0, 7], errors[1, 2, 4] = math.nan, 1
    expected = errors.argsort(dim=2, descending=True, stable=True)
    assert torch.equal(largest_first(errors, True), expected)
    assert torch.equal(largest_first(errors, False), expected)
