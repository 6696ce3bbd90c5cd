"""Drawn before it is read: what a plan makes of its window is what the transform makes of the whole picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit.transforms import (
    CenterCrop,
    ColorJitter,
    Compose,
    ElasticDeform,
    GaussianNoise,
    HorizontalFlip,
    Normalize,
    PadTo,
    PadToMultiple,
    Plan,
    RandomAffine,
    RandomCrop,
    RandomPerspective,
    RandomResizedCrop,
    RandomScale,
    Resize,
    Rotate90,
    VerticalFlip,
)

WHOLE = {  # each output pixel is one of the source: to the bit
    "crop": lambda: RandomCrop((15, 18)),
    "centre": lambda: CenterCrop((14, 19)),
    "flip": lambda: HorizontalFlip(),
    "upside": lambda: VerticalFlip(),
    "turn": lambda: Rotate90(),
    "pad": lambda: PadTo((48, 60), center=True),
    "multiple": lambda: PadToMultiple(16),
    "filled": lambda: PadTo((40, 40), image_fill=0.4, mask_fill=7),
}
MIXED = {
    "resize": lambda: Resize((29, 20)),
    "zoom": lambda: RandomResizedCrop(16),
    "scale": lambda: RandomScale((0.3, 2.0)),
    "affine": lambda: RandomAffine(40, shear=8, scale=(0.5, 1.5)),
    "perspective": lambda: RandomPerspective(0.2),
    "elastic": lambda: ElasticDeform(3, spacing=12),
}
VALUES = {
    "normalize": lambda: Normalize([0.4, 0.5, 0.6], [0.2, 0.1, 0.3]),
    "jitter": lambda: ColorJitter(),
    "noise": lambda: GaussianNoise(),
}


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(seed: int, size: tuple[int, int], dtype: str) -> tuple[np.ndarray, torch.Tensor]:
    rng = np.random.default_rng(seed)
    top = {"uint8": 256, "uint16": 65536, "float32": 1}[dtype]
    image = rng.random((*size, 3)) if dtype == "float32" else rng.integers(0, top, (*size, 3))
    return image.astype(dtype), torch.from_numpy(rng.integers(0, 5, size, dtype=np.uint8))


def as_floats(pixels: np.ndarray) -> torch.Tensor:
    top = 1 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1).astype(np.float32) / np.float32(top)))


def both(transform, seed: int, size: tuple[int, int], dtype: str, *, stored: bool, **keywords):
    """The sample of the whole picture, and the one that the plan makes of its window."""
    pixels, mask = picture(seed, size, dtype)
    whole = transform(as_floats(pixels), mask, generator=generator(seed), **keywords)
    plan = transform.plan(size, generator=generator(seed), find_mask=lambda: mask, **keywords)
    top, left, height, width = plan.window
    assert top >= 0
    assert left >= 0
    assert top + height <= size[0]
    assert left + width <= size[1]
    rows, columns = slice(top, top + height), slice(left, left + width)
    window = pixels[rows, columns]
    scale = 1.0 if dtype == "float32" else float(np.iinfo(dtype).max)
    cut = mask[rows, columns].contiguous()
    parts = plan(window.copy(), cut, top=scale) if stored else plan(as_floats(window), cut)
    return whole, parts, plan


@settings(max_examples=150, deadline=None)
@given(
    names=st.lists(st.sampled_from([*WHOLE, *MIXED]), min_size=1, max_size=4),
    values=st.lists(st.sampled_from([*VALUES]), max_size=2),
    last=st.booleans(),
    size=st.tuples(st.integers(30, 70), st.integers(30, 70)),
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
    stored=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_a_window_gives_what_the_whole_picture_gives(names, values, last, size, dtype, stored, seed):
    members = [(WHOLE | MIXED)[name]() for name in names]
    members = [step for member in members for step in (PadTo(20), member)]  # what follows a crop may be a larger one
    members = [*members, PadTo(20), *[VALUES[name]() for name in values]] + [RandomCrop(12)] * last
    whole, parts, _ = both(Compose(members), seed, size, dtype, stored=stored)
    assert torch.equal(whole[1], parts[1])
    assert torch.equal(whole[0], parts[0])  # resampled ones, too: the same places, rounded alike


@pytest.mark.parametrize("name", [*WHOLE, *MIXED])
@pytest.mark.parametrize("seed", range(3))
def test_a_single_transform_plans_too(name, seed):
    whole, parts, plan = both((WHOLE | MIXED)[name](), seed, (43, 37), "uint8", stored=bool(seed))
    assert isinstance(plan, Plan)
    assert torch.equal(whole[1], parts[1])
    assert torch.equal(whole[0], parts[0])


def test_a_crop_needs_itself_and_a_turned_one_little_more():
    plan = Compose([RandomCrop(64), HorizontalFlip(), Normalize(0.5, 0.5)]).plan((4096, 4096))
    assert plan.window[2:] == (64, 64)
    turned = Compose([RandomAffine(10, translate=0), RandomCrop(64)]).plan((4096, 4096), generator=generator(0))
    assert max(turned.window[2:]) < 64 * 1.4


@pytest.mark.parametrize("focus", [3, 17])
def test_a_class_is_looked_for_in_the_mask_and_only_then(focus):
    asked = []
    mask = torch.zeros(60, 70, dtype=torch.uint8)
    mask[50, 9] = 3

    def find_mask():
        asked.append(1)
        return mask

    image = torch.rand(3, 60, 70)
    augment = Compose([RandomScale((1.5, 1.5)), RandomCrop(16), HorizontalFlip()])
    plan = augment.plan((60, 70), generator=generator(1), focus_class=focus, find_mask=find_mask)
    assert asked == [1]
    top, left, height, width = plan.window
    cut = (slice(top, top + height), slice(left, left + width))
    parts = plan(image[(..., *cut)], mask[cut])
    whole = augment(image, mask, generator=generator(1), focus_class=focus)
    assert all(torch.equal(a, b) for a, b in zip(parts, whole, strict=True))
    assert (3 in whole[1].unique()) == (focus == 3)
    augment.plan((60, 70), generator=generator(1), find_mask=find_mask)
    assert asked == [1]


def test_what_looks_at_values_first_is_not_planned_and_draws_nothing():
    chance = generator(0)
    before = chance.get_state()
    assert Compose([ColorJitter(), RandomCrop(8)]).plan((20, 20), generator=chance) is None
    assert Compose([]).plan((20, 20), generator=chance) is None
    assert torch.equal(chance.get_state(), before)


def test_a_plan_says_what_the_call_would_say_of_a_crop_that_is_too_large():
    with pytest.raises(ValueError, match=r"RandomCrop: `size` must not exceed"):
        RandomCrop(30).plan((20, 40))
    with pytest.raises(ValueError, match=r"`size` must have a member that takes it"):
        Compose([HorizontalFlip()]).plan((20, 40), size=8)
