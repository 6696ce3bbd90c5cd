"""Per-sample losses and the reasons why a picture is hard, against loops over pixels."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from segkit.mining import DifficultyLedger, per_sample_loss, segmentation_difficulty
from segkit.mining._components import object_sizes


def picture(shape, classes=3, ignored=0.15, seed=0):
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, classes, shape, generator=generator)
    target[torch.rand(shape, generator=generator) < ignored] = 255
    logits = torch.randn(shape[0], classes, *shape[1:], generator=generator, dtype=torch.float64) * 2
    return logits, target


def test_the_mean_of_each_sample_over_the_pixels_that_count():
    logits, target = picture((3, 5, 7))
    target[1] = 255
    loss_map = torch.nn.functional.cross_entropy(logits, target, reduction="none", ignore_index=255)
    got = per_sample_loss(loss_map, target)
    for sample in (0, 2):
        values = [
            loss_map[sample, y, x].item() for y in range(5) for x in range(7) if target[sample, y, x].item() != 255
        ]
        assert got[sample].item() == pytest.approx(sum(values) / len(values), rel=1e-12)
    assert math.isnan(got[1])
    wider = per_sample_loss(
        torch.cat([loss_map, torch.full((3, 5, 90), 7.0)], 2), torch.cat([target, torch.full((3, 5, 90), 255)], 2)
    )
    torch.testing.assert_close(wider, got, equal_nan=True, rtol=1e-12, atol=0)  # the sum in another order


def test_half_precision_is_summed_in_float32():
    loss_map, target = torch.full((1, 4096, 8), 0.1).half(), torch.zeros(1, 4096, 8, dtype=torch.uint8)
    got = per_sample_loss(loss_map, target)
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx(loss_map[0, 0, 0].item(), rel=1e-5)


def test_a_ledger_takes_them():
    logits, target = picture((4, 6, 6))
    loss_map = torch.nn.functional.cross_entropy(logits.requires_grad_(), target, reduction="none", ignore_index=255)
    ledger = DifficultyLedger(4)
    ledger.update(torch.arange(4), per_sample_loss(loss_map, target))
    assert ledger.counts().tolist() == [1, 1, 1, 1]


def oracle(logits, target, hard_below, band, small):
    """Loops over samples, classes and pixels; objects by scipy."""
    samples, classes = logits.shape[:2]
    rows = []
    for b, c in itertools.product(range(samples), range(classes)):
        labels = target[b].numpy()
        places = [p for p in itertools.product(*map(range, labels.shape)) if labels[p] == c]
        objects, _ = ndimage.label(labels == c)
        loss, hard, edge, little = [], [], [], []
        for place in places:
            scores = [logits[(b, k, *place)].item() for k in range(classes)]
            top = max(scores)
            probability = math.exp(scores[c] - top) / sum(math.exp(s - top) for s in scores)
            wrong = scores.index(top) != c
            loss.append(-math.log(probability))
            hard.append(probability < hard_below)
            window = labels[tuple(slice(max(0, i - band), i + band + 1) for i in place)]
            if ((window != c) & (window != 255)).any():
                edge.append(wrong)
            if (objects == objects[place]).sum() <= small:
                little.append(wrong)
        rows.append([sum(v) / len(v) if v else math.nan for v in (loss, hard, edge, little)])
    return torch.tensor(rows, dtype=torch.float64).T.reshape(4, samples, classes)


@pytest.mark.parametrize("shape", [(2, 11), (2, 6, 7), (3, 1, 1), (2, 3, 4, 5)])
@pytest.mark.parametrize(("hard_below", "band", "small"), [(0.5, 1, 2), (0.3, 2, 5)])
def test_reasons_are_those_of_a_loop_over_pixels(shape, hard_below, band, small):
    logits, target = picture(shape)
    got = segmentation_difficulty(logits, target, hard_below=hard_below, band=band, small=small)
    torch.testing.assert_close(torch.stack(list(got)), oracle(logits, target, hard_below, band, small), equal_nan=True)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(1, 4))
def test_object_sizes_are_those_of_scipy(seed, samples, height, width, classes):
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, classes, (samples, height, width), generator=generator)
    target[torch.rand(target.shape, generator=generator) < 0.2] = 255
    expected = torch.zeros_like(target)
    for sample, label in itertools.product(range(samples), range(classes)):
        objects, number = ndimage.label((target[sample] == label).numpy())
        for one in range(1, number + 1):
            inside = torch.from_numpy(objects == one)
            expected[sample][inside] = int(inside.sum())
    assert torch.equal(object_sizes(target, target != 255), expected)


def test_a_long_snake_is_one_object():
    target = torch.ones(1, 21, 21, dtype=torch.uint8)
    target[0, ::2] = 0
    target[0, 1::4, -1] = target[0, 3::4, 0] = 0  # joins the rows, right and left by turns
    assert set(object_sizes(target, target != 255)[target == 0].tolist()) == {11 * 21 + 10}


def test_ignored_pixels_change_nothing():
    logits, target = picture((2, 6, 7))
    target[:, :, -2:] = 255
    before = segmentation_difficulty(logits, target)
    noise = logits.clone()
    noise[:, :, :, -2:] = 1e4
    for got in (
        segmentation_difficulty(noise, target),
        segmentation_difficulty(logits[..., :-1], target[..., :-1]),
        segmentation_difficulty(logits, target.to(torch.uint8)),
    ):
        torch.testing.assert_close(torch.stack(list(got)), torch.stack(list(before)), equal_nan=True)


def test_all_ignored_is_nan_and_half_precision_is_widened():
    logits, target = picture((1, 4, 4))
    found = segmentation_difficulty(logits.bfloat16(), torch.full_like(target, 255))
    assert all(part.isnan().all() and part.dtype == torch.float32 and part.shape == (1, 3) for part in found)
    assert not any(part.requires_grad for part in segmentation_difficulty(logits.requires_grad_(), target))


@pytest.mark.parametrize(("call", "message"), [
    (lambda x, t: segmentation_difficulty(x, t[:, :2]), r"must have the shape of `logits` without its class axis"),
    (lambda x, t: segmentation_difficulty(x[0], t), "must have the shape of `logits` without its class axis"),
    (lambda x, t: segmentation_difficulty(x, t, hard_below=0), r"`hard_below` must lie in \(0, 1\], got 0"),
    (lambda x, t: segmentation_difficulty(x, t, band=0), "`band` and `small` must be at least 1, got 0 and 1024"),
    (lambda x, t: per_sample_loss(x, t), r"`target` must have the shape of `loss_map`"),
    (lambda x, t: per_sample_loss(x[:, 0, 0, 0], t[:, 0, 0]), r"`target` must have the shape of `loss_map`"),
])  # fmt: skip
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(*picture((2, 4, 4)))


@pytest.mark.parametrize(
    ("dtype", "ignored", "kept"),
    [
        (torch.uint8, -100, [156, 255, 0, 1]),  # the last eight bits of -100 are 156
        (torch.uint8, -1, [156, 255, 0, 1]),
        (torch.uint8, 511, [156, 255, 0, 1]),
        (torch.uint8, None, [156, 255, 0, 1]),
        (torch.uint8, (156, 255), [0, 1]),
        (torch.int8, 255, [-1, 2, 0, 1]),
        (torch.int64, -1, [156, 255, 0, 1]),
        (torch.uint16, 255, [156, 0, 1]),
        (torch.uint32, 255, [156, 0, 1]),
        (torch.uint64, 255, [156, 0, 1]),
        (torch.bool, 255, [0, 1]),
    ],
)
def test_only_the_ignored_number_itself_is_ignored(dtype, ignored, kept):
    first = {torch.int8: [-1, 2], torch.bool: []}.get(dtype, [156, 255])
    target = torch.tensor([[*first, 0, 1]]).to(dtype)
    loss_map = torch.arange(1.0, 1 + target.shape[1])[None]
    expected = [float(loss_map[0, i]) for i, label in enumerate([*first, 0, 1]) if label in kept]
    found = per_sample_loss(loss_map, target, ignore_index=ignored).tolist()
    assert found == pytest.approx([sum(expected) / len(expected)])


def test_masks_with_a_channel_axis_mean_the_same():
    losses, target = torch.rand(2, 5, 6), torch.randint(0, 3, (2, 5, 6))
    assert torch.equal(per_sample_loss(losses, target[:, None]), per_sample_loss(losses, target))
