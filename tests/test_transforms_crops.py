"""Crop stacks: taken apart and put together again without losing a bit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit.transforms import (
    Compose,
    CropBox,
    FiveCrop,
    GridCrop,
    HorizontalFlip,
    TenCrop,
    merge_crops,
    stack_crops,
    unstack_crops,
)


def test_five_crops_are_the_corners_and_the_centre():
    image = torch.arange(2 * 7 * 9).reshape(2, 7, 9)
    mask = image[0] % 5
    crops, masks = FiveCrop((4, 6))(image, mask)
    places = [(0, 0), (0, 3), (3, 0), (3, 3), (1, 1)]
    for k, (top, left) in enumerate(places):
        assert torch.equal(crops[k], image[:, top : top + 4, left : left + 6])
        assert torch.equal(masks[k], mask[top : top + 4, left : left + 6])


def test_ten_crops_are_the_five_and_their_mirror_images():
    image = torch.arange(2 * 7 * 9).reshape(2, 7, 9)
    crops, masks = TenCrop(4)(image, image[0])
    five, labels = FiveCrop(4)(image, image[0])
    assert torch.equal(crops, torch.cat([five, five.flip(-1)]))
    assert torch.equal(masks, torch.cat([labels, labels.flip(-1)]))


def test_stacking_keeps_the_crops_of_one_image_together():
    images = torch.rand(3, 2, 8, 9)
    crops = FiveCrop(4)(images)
    assert crops.shape == (3, 5, 2, 4, 4)
    stacked = stack_crops(crops)
    assert torch.equal(stacked[5], crops[1, 0])
    assert torch.equal(unstack_crops(stacked, 5), crops)
    assert unstack_crops(stacked[:0], 5).shape == (0, 5, 2, 4, 4)


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 24),
    width=st.integers(1, 24),
    data=st.data(),
    kind=st.sampled_from([FiveCrop, TenCrop]),
    blend=st.sampled_from(["mean", "gaussian"]),
)
def test_merged_crops_are_the_picture_again(height, width, data, kind, blend):
    # five crops cover a picture if each is at least half of it on both sides
    crop = kind((data.draw(st.integers((height + 1) // 2, height)), data.draw(st.integers((width + 1) // 2, width))))
    image = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(height * 100 + width))
    merged = merge_crops(stack_crops(crop(image)), crop.geometry((height, width)), (height, width), blend=blend)
    assert torch.equal(merged, image)


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    data=st.data(),
    blend=st.sampled_from(["mean", "gaussian"]),
)
def test_a_grid_covers_every_picture_and_merges_to_it_again(height, width, data, blend):
    size = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    overlap = data.draw(st.integers(0, min(size) - 1) | st.floats(0, 0.9))
    try:
        crop = GridCrop(size, overlap)
    except ValueError:
        assert isinstance(overlap, float)  # so much of so small a crop leaves no step
        return
    image = torch.randn(1, 2, height, width, generator=torch.Generator().manual_seed(height * 100 + width))
    boxes = crop.geometry((height, width))
    assert len(set(boxes)) == len(boxes)
    merged = merge_crops(stack_crops(crop(image)), boxes, (height, width), blend=blend)
    assert torch.equal(merged, image)
    for side, axis in ((size[0], 0), (size[1], 1)):
        places = sorted({box[axis] for box in boxes})
        wanted = overlap if isinstance(overlap, int) else overlap * side
        assert all(b - a <= side - wanted for a, b in zip(places, places[1:], strict=False))


def naive_merge(logits, boxes, size, weight_of):
    """Sums of weighted values and weights, pixel by pixel, in float64."""
    b, _, c, h, w = logits.shape
    total = torch.zeros(b, c, *size, dtype=torch.float64)
    weights = torch.zeros(size, dtype=torch.float64)
    for k, (top, left, _, _, mirrored) in enumerate(boxes):
        for i in range(h):
            for j in range(w):
                weight = weight_of(i, j)
                total[:, :, top + i, left + j] += weight * logits[:, k, :, i, w - 1 - j if mirrored else j].double()
                weights[top + i, left + j] += weight
    return total / weights


@pytest.mark.parametrize("blend", ["mean", "gaussian"])
def test_overlaps_are_weighted_averages(blend):
    crop = TenCrop((6, 5))
    boxes = crop.geometry((9, 7))
    logits = torch.randn(2, 10, 3, 6, 5, generator=torch.Generator().manual_seed(0))

    def gaussian(i, j):
        sides = ((i - 2.5) / (6 / 8)) ** 2, ((j - 2.0) / (5 / 8)) ** 2
        return torch.tensor(sides).mul(-0.5).exp().double().clamp(min=1e-3).prod()

    expected = naive_merge(logits, boxes, (9, 7), (lambda i, j: 1) if blend == "mean" else gaussian)
    for given_logits in (logits, logits.flatten(0, 1)):
        merged = merge_crops(given_logits, boxes, (9, 7), blend=blend)
        assert (merged - expected).abs().max() < 1e-5  # ten float32 averages


def test_half_precision_is_averaged_in_float32_and_infinite_logits_stay():
    crop = FiveCrop(4)
    logits = torch.full((5, 2, 4, 4), -torch.inf, dtype=torch.bfloat16)
    logits[:, 1] = 3.0
    merged = merge_crops(logits, crop.geometry((6, 6)), (6, 6))
    assert merged.dtype == torch.float32
    assert (merged[:, 0] == -torch.inf).all()
    assert (merged[:, 1] == 3).all()


def test_gradients_pass_through_a_merge():
    crop = TenCrop(3)
    logits = torch.randn(10, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: merge_crops(x, crop.geometry((4, 5)), (4, 5)), (logits,))


def test_a_size_for_one_call_holds_for_crops_and_boxes():
    crop = Compose([HorizontalFlip(1), FiveCrop(4)])
    assert crop(torch.zeros(3, 9, 9), size=6).shape == (5, 3, 6, 6)
    assert FiveCrop(4).geometry((9, 9), size=6)[3] == CropBox(3, 3, 6, 6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: stack_crops(torch.zeros(2, 3, 8, 8)),
            r"got torch.float32 \[2, 3, 8, 8\]. Make the K axis with FiveCrop",
        ),
        (lambda: stack_crops(torch.zeros(3, 8, 8, dtype=torch.uint8)), r"integer masks \[B, K, h, w\]"),
        (lambda: unstack_crops(torch.zeros(9, 3, 8, 8), 5), r"multiple of k=5, got \[9, 3, 8, 8\]"),
        (lambda: unstack_crops(torch.zeros(9, 3, 8, 8), 0), r"`k` must be an int of at least 1"),
        (
            lambda: FiveCrop(9)(torch.zeros(1, 8, 20)),
            r"FiveCrop: `size` must not exceed .* Put PadTo\(\(9, 9\)\) before",
        ),
        (lambda: merge(size=(9, 9)), r"Use larger crops, or GridCrop"),
        (lambda: merge(size=(5, 8)), r"`geometry` at 2 must lie inside `size` \(5, 8\)"),
        (lambda: merge(logits=torch.zeros(9, 2, 4, 4)), r"for 5 boxes, got \[9, 2, 4, 4\]"),
        (lambda: merge(logits=torch.zeros(5, 2, 3, 3)), r"as large as their crops \(4, 4\) \(box 0\), .* got \[3, 3\]"),
        (lambda: merge(geometry=[]), r"at least one box"),
        (lambda: merge(blend="max"), r'must be "gaussian" or "mean", got \'max\''),
    ],
)
def test_what_does_not_fit_together_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_merged_classes_are_refused():
    with pytest.raises(TypeError, match=r"take .argmax\(1\) after"):
        merge(logits=torch.zeros(5, 2, 4, 4, dtype=torch.int64))


def merge(*, logits=None, geometry=None, size=(8, 8), blend="mean"):
    logits = torch.zeros(5, 2, 4, 4) if logits is None else logits
    return merge_crops(logits, FiveCrop(4).geometry((8, 8)) if geometry is None else geometry, size, blend=blend)
