"""One draw for everything in a sample, what was drawn, and choices among transforms."""

from __future__ import annotations

import pickle
from typing import NamedTuple

import pytest
import torch

from segkit.transforms import (
    ColorJitter,
    Compose,
    Cutout,
    ElasticDeform,
    FromAlbumentations,
    GaussianNoise,
    HorizontalFlip,
    Maybe,
    Normalize,
    OneOf,
    PadTo,
    RandomAffine,
    RandomCrop,
    RandomScale,
    Resize,
    Rotate90,
    SkeletonTarget,
    SomeOf,
    ToTensor,
    VerticalFlip,
    functional,
)
from transforms_table import MOVING, VALUES

ROW = Compose([RandomScale((0.7, 1.3)), RandomAffine(20), HorizontalFlip(), RandomCrop(32)])


def seeded(seed=7):
    return torch.Generator().manual_seed(seed)


IMAGE = torch.rand(3, 64, 80, generator=seeded(1))
MASK = torch.randint(0, 4, (64, 80), generator=seeded(2), dtype=torch.uint8)
STACK = torch.randint(0, 2, (5, 64, 80), generator=seeded(3), dtype=torch.uint8)
HEAT = torch.rand(64, 80, generator=seeded(4))


class Sample(NamedTuple):
    image: torch.Tensor
    gt: torch.Tensor
    name: str


def test_everything_in_a_sample_moves_by_one_draw_each_by_its_own_rule():
    after, depth = torch.rand(3, 64, 80), torch.rand(1, 64, 80)
    sample = {"image": IMAGE, "after": after, "depth": depth, "seg": MASK, "instances": STACK, "heat": HEAT}
    moved = ROW({**sample, "path": "a.png", "label": torch.tensor(3)}, generator=seeded())
    image, mask = ROW(IMAGE, MASK, generator=seeded())
    assert torch.equal(moved["image"], image)
    assert torch.equal(moved["seg"], mask)
    assert torch.equal(moved["after"], ROW(after, generator=seeded()))
    assert torch.equal(moved["depth"], ROW(depth, generator=seeded()))
    assert torch.equal(moved["heat"], ROW(HEAT[None], generator=seeded())[0])
    for each, plane in zip(moved["instances"], STACK, strict=True):
        assert torch.equal(each, ROW(IMAGE, plane, generator=seeded())[1])
    assert (moved["path"], int(moved["label"])) == ("a.png", 3)
    assert list(moved) == [*sample, "path", "label"]
    assert torch.equal(sample["image"], IMAGE)


def test_a_sample_comes_back_in_its_own_form():
    image, mask = ROW(IMAGE, MASK, generator=seeded())
    named = ROW(Sample(IMAGE, MASK, "x"), generator=seeded())
    assert type(named) is Sample
    assert named.name == "x"
    assert torch.equal(named.gt, mask)
    for sample in ((IMAGE, MASK), [IMAGE, MASK]):
        moved = ROW(sample, generator=seeded())
        assert type(moved) is type(sample)
        assert torch.equal(moved[1], mask)
    both, label = ROW((IMAGE, IMAGE), MASK, generator=seeded())
    assert torch.equal(both[1], image)
    assert torch.equal(label, mask)
    _, labels = ROW(IMAGE, {"semantic": MASK, "weight": HEAT}, generator=seeded())
    assert torch.equal(labels["semantic"], mask)
    assert labels["weight"].shape == (32, 32)
    assert torch.equal(ROW(IMAGE, (MASK, STACK[0]), generator=seeded())[1][0], mask)
    assert torch.equal(ROW(None, MASK, generator=seeded())[1], mask)
    assert torch.equal(ROW(IMAGE, STACK, generator=seeded())[1][2], ROW(IMAGE, STACK[2], generator=seeded())[1])


def test_a_batch_of_samples_moves_as_each_sample_does():
    batch = {
        "image": IMAGE[None].repeat(2, 1, 1, 1),
        "gt": MASK[None].repeat(2, 1, 1),
        "heat": HEAT[None].repeat(2, 1, 1),
    }
    batch["instances"] = STACK[None].repeat(2, 1, 1, 1)
    one = ROW({"image": IMAGE, "gt": MASK, "heat": HEAT, "instances": STACK}, generator=seeded())
    moved = ROW(batch, generator=seeded())
    for key, value in one.items():
        assert torch.equal(moved[key][1], value), key


def test_maps_keep_their_values_and_hold_their_own_fill_outside():
    row = Compose(
        [PadTo(96, image_fill=0.5), ColorJitter(0.5, 0.5), GaussianNoise((0.1, 0.1)), Cutout(2), Normalize(0.5, 0.2)]
    )
    moved = row({"image": IMAGE, "heat": HEAT, "gt": MASK}, maps={"heat": -1.0}, generator=seeded())
    assert torch.equal(moved["heat"][:64, :80], HEAT)
    assert (moved["heat"][64:] == -1).all()
    assert (moved["gt"][64:] == 255).all()
    channels = torch.rand(4, 64, 80)
    moved = row({"image": IMAGE, "heat": channels}, maps=("heat",), generator=seeded())
    assert torch.equal(moved["heat"][:, :64, :80], channels)


def test_chance_is_the_same_for_images_of_any_number_of_channels():
    row = Compose(
        [HorizontalFlip(), GaussianNoise((0.1, 0.1)), ColorJitter(0.3, 0.3), RandomAffine(20), RandomCrop(32)]
    )
    masks = [row(torch.rand(c, 64, 80), MASK, generator=seeded())[1] for c in (1, 3, 13)]
    assert torch.equal(masks[0], masks[1])
    assert torch.equal(masks[0], masks[2])


@pytest.mark.parametrize("call", [ROW, RandomCrop(8), HorizontalFlip(1), ColorJitter()], ids=lambda t: type(t).__name__)
def test_what_is_in_doubt_is_refused_and_can_be_said(call):
    whole = (IMAGE * 255).to(torch.uint8)
    for sample, message, said in (
        (
            {"image": whole, "x": STACK[:3]},
            r"must be clear what 'x' is.*images=\('x',\) or masks=\('x',\)",
            {"masks": ("x",)},
        ),
        ({"a": whole, "b": whole}, r"which tensors of the sample are images", {"images": ("a", "b")}),
        (
            {"image": IMAGE, "mask": HEAT},
            r"'mask' must hold integer class numbers.*maps=\(\"mask\",\)",
            {"maps": ("mask",)},
        ),
    ):
        with pytest.raises(TypeError, match=message):
            call(sample)
        assert call(sample, **said).keys() == sample.keys()
    for wrong, error, message in (
        (
            {"image": IMAGE, "boxes": torch.rand(7, 4)},
            ValueError,
            r"'boxes' must have the height and width of the image",
        ),
        ({"image": IMAGE, "gt": MASK.numpy()}, TypeError, r"'gt' must be a tensor, got an array"),
        ({"name": "x"}, TypeError, r"`image` must be a torch.Tensor, or a sample with one, got str"),
    ):
        with pytest.raises(error, match=message):
            call(wrong)
    with pytest.raises(ValueError, match=r"must name what is in the sample, got \['seg'\], and it has \['image'\]"):
        call({"image": IMAGE}, masks=("seg",))
    with pytest.raises(TypeError, match=r"'gt' must hold integers to be a mask"):
        call({"image": IMAGE, "gt": HEAT}, masks=("gt",))


def test_a_picture_that_may_be_a_map_is_refused_only_where_values_change():
    depth = torch.rand(1, 64, 80)
    assert ROW({"image": IMAGE, "depth": depth})["depth"].shape == (1, 32, 32)
    row = Compose([HorizontalFlip(1), ColorJitter()])
    with pytest.raises(TypeError, match=r"clear whether \['depth'\] hold pictures.*maps=\('depth',\)"):
        row({"image": IMAGE, "depth": depth})
    assert torch.equal(row({"image": IMAGE, "depth": depth}, maps=("depth",))["depth"], depth.flip(-1))
    with pytest.raises(TypeError, match=r"FromAlbumentations: a sample must have no maps"):
        Compose([FromAlbumentations(lambda **arrays: arrays)])({"image": IMAGE, "heat": HEAT})


@pytest.mark.parametrize("name", [*MOVING, *VALUES])
def test_a_sample_is_changed_by_each_transform_as_its_image_and_mask_are(name):
    transform = (MOVING | VALUES)[name]
    image, mask = IMAGE[:, :23, :27], MASK[:23, :27]
    sample = {"image": image, "gt": mask, "again": mask}
    alone = Compose([transform])(image, mask, generator=seeded())
    for call in (transform, Compose([transform])):
        moved = call(sample, generator=seeded())
        assert torch.equal(moved["image"], alone[0])
        assert torch.equal(moved["gt"], alone[1])
        assert torch.equal(moved["again"], alone[1])


def test_what_was_drawn_does_the_same_again_is_stored_and_printed():
    row = Compose(
        [RandomAffine(20), OneOf([ElasticDeform(2), HorizontalFlip(1)]), RandomCrop(32), ColorJitter(), GaussianNoise()]
    )
    drawn = row.draw((64, 80), generator=seeded())
    image, mask = row(IMAGE, MASK, generator=seeded())
    for again in (drawn, pickle.loads(pickle.dumps(drawn))):
        moved = again({"image": IMAGE, "gt": MASK})
        assert torch.equal(moved["image"], image)
        assert torch.equal(moved["gt"], mask)
        assert torch.equal(again(IMAGE), image)
    text = repr(drawn)
    assert text.startswith("Drawn(source=(64, 80):\n    RandomAffine: Geometry(")
    assert "ColorJitter: seed=" in text
    assert "OneOf" not in text
    with pytest.raises(ValueError, match=r"must have the size \(64, 80\) it was drawn for, got \(20, 20\)"):
        drawn(torch.zeros(3, 20, 20))
    focused = Compose([HorizontalFlip(1), RandomCrop(8)]).draw((64, 80), mask=(MASK == 3).byte(), focus_class=1)
    assert (focused(IMAGE, MASK)[1] == 3).any()
    assert Compose([RandomCrop(8)]).draw((64, 80), size=12)(IMAGE).shape == (3, 12, 12)


def test_what_moved_whole_pixels_is_undone():
    row = Compose(
        [HorizontalFlip(), Rotate90(), VerticalFlip(), ColorJitter(), PadTo((90, 100), center=True), Rotate90()]
    )
    for seed in range(20):
        drawn = row.draw((64, 80), generator=seeded(seed))
        back = drawn.inverse()
        image, mask = back(drawn(MASK[None].float()), drawn(IMAGE, MASK)[1])
        assert torch.equal(mask, MASK)
        assert image.shape == (1, 64, 80)
    drawn = Compose([RandomCrop((20, 30)), HorizontalFlip(1)]).draw((64, 80), generator=seeded())
    _, mask = drawn.inverse()(*drawn(IMAGE, MASK))
    shown = mask != 255
    assert shown.sum() == 20 * 30
    assert torch.equal(mask[shown], MASK[shown])
    with pytest.raises(ValueError, match=r"Geometry.inverse: `stages` must move whole pixels"):
        Compose([RandomAffine((5, 5))]).draw((64, 80)).inverse()
    joined = RandomCrop(20).draw((64, 80), generator=seeded()).then(PadTo(40, center=True).draw((20, 20)))
    there = functional.apply_geometry(IMAGE, MASK, geometry=joined)
    _, mask = functional.apply_geometry(*there, geometry=joined.inverse())
    assert (mask != 255).sum() == 400
    assert torch.equal(mask[mask != 255], MASK[mask != 255])


def test_choices_are_as_likely_as_they_say_and_join_the_resampling():
    image = torch.arange(4.0).reshape(1, 2, 2)
    flips = [HorizontalFlip(1), VerticalFlip(1)]

    def count(row, expected, runs=600):
        same = 0
        for seed in range(runs):
            moved = row(image, generator=seeded(seed))
            same += torch.equal(moved, expected)
        return same / runs

    assert abs(count(OneOf(flips), image.flip(-1)) - 0.5) < 0.07
    assert abs(count(OneOf(flips, weights=[3, 1]), image.flip(-1)) - 0.75) < 0.07
    assert abs(count(Maybe(flips[0], 0.2), image.flip(-1)) - 0.2) < 0.07
    assert abs(count(SomeOf(flips, 1), image.flip(-2)) - 0.5) < 0.07
    assert count(SomeOf(flips, 2), image.flip(-1, -2), 20) == 1
    assert abs(count(SomeOf(flips, (0, 2)), image) - 1 / 3) < 0.07
    row = Compose([OneOf([RandomCrop(32), Resize(32)]), Maybe(Compose([RandomAffine(9), ToTensor()]))])
    assert row.sized
    assert {row(IMAGE, size=24, generator=seeded(s)).shape for s in range(9)} == {(3, 24, 24)}
    ahead = Compose([Maybe(HorizontalFlip(1)), OneOf([RandomCrop(8), RandomCrop((8, 8))]), Normalize(0.5, 0.5)])
    for seed in range(6):
        plan = ahead.plan((64, 80), generator=seeded(seed))
        top, left, height, width = plan.window
        assert (height, width) == (8, 8)
        part = plan(IMAGE[:, top : top + 8, left : left + 8], MASK[top : top + 8, left : left + 8])
        assert torch.equal(part[0], ahead(IMAGE, MASK, generator=seeded(seed))[0])
    for seed in range(6):
        late = Compose([OneOf([ColorJitter(), RandomCrop(8)]), RandomCrop(8)])
        plan = late.plan((64, 80), generator=seeded(seed))
        top, left, height, width = plan.window
        part = plan(IMAGE[:, top : top + height, left : left + width], MASK[top : top + height, left : left + width])
        assert torch.equal(part[0], late(IMAGE, MASK, generator=seeded(seed))[0])
    for wrong in (
        lambda: OneOf([]),
        lambda: OneOf(flips, weights=[1]),
        lambda: OneOf(flips, weights=[0, 0]),
        lambda: SomeOf(flips, 3),
        lambda: SomeOf(flips, (2, 1)),
        lambda: Maybe(flips[0], 2),
    ):
        with pytest.raises(ValueError, match=r"^\w+: `\w+` must "):
            wrong()
    with pytest.raises(TypeError, match=r"OneOf: `transforms` at 0 must take .*OnImage"):
        OneOf([lambda image: image])


def test_targets_made_of_the_mask_stay_with_what_changes_values_only():
    row = Compose([RandomCrop(32), SkeletonTarget(), Normalize(0.5, 0.5), ColorJitter()])
    image, targets = row(IMAGE, MASK, generator=seeded())
    assert set(targets) == {"mask", "skeleton"}
    assert image.shape == (3, 32, 32)
    with pytest.raises(TypeError, match="must come last"):
        Compose([SkeletonTarget(), RandomCrop(32)])(IMAGE, MASK)
