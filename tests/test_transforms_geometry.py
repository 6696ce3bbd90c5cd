"""Image and mask move together through every geometric transform, in one resampling, exactly where that can be."""

from __future__ import annotations

import dataclasses
import math

import cv2
import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline

from segkit.transforms import (
    CenterCrop,
    Compose,
    Cutout,
    ElasticDeform,
    Geometry,
    GridCrop,
    HorizontalFlip,
    PadTo,
    PadToMultiple,
    PerSample,
    RandomAffine,
    RandomCrop,
    RandomPerspective,
    RandomResizedCrop,
    RandomScale,
    Resize,
    ResizeKeepRatio,
    Rotate90,
    RotateInside,
    VerticalFlip,
    functional,
)
from segkit.transforms._resampling import by_opencv, by_torch, nearest
from segkit.transforms._resampling.affine import Affine
from segkit.transforms._resampling.geometry import coordinates
from transforms_table import MOVING

TRANSFORMS = MOVING | {
    "row": Compose([RandomAffine(30), ElasticDeform(1.5, spacing=11), HorizontalFlip(), RandomScale(), PadTo(40)]),
    "clipped row": Compose(
        [RandomAffine(45), RandomCrop(17), RandomAffine(45), ElasticDeform(2, spacing=8), PadToMultiple(24)]
    ),
}
# The largest value of each kind of image; int32 holds 16 bits.
TOPS = {torch.uint8: 255, torch.int32: 65_535, torch.float32: 1.0, torch.bool: 1}


@pytest.fixture(autouse=True)
def one_thread():
    """As in a worker; tests that run side by side would otherwise wait for each other's threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(*shape, dtype=torch.float32, seed=0):
    values = torch.rand(shape, generator=seeded(seed), dtype=torch.float64) * TOPS.get(dtype, 1)
    return values.to(dtype) if dtype.is_floating_point else values.round().to(dtype)


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("dtype", list(TOPS))
@pytest.mark.parametrize("channels", [1, 3, 4, 13])
def test_image_and_mask_keep_their_values_and_share_what_is_outside(name, dtype, channels):
    transform = TRANSFORMS[name]
    mask = torch.randint(3, (23, 27), generator=seeded(1), dtype=torch.int64) * 3 + 1
    for seed in range(3):
        full = torch.full((channels, 23, 27), TOPS[dtype], dtype=dtype)
        moved, labels = transform(full, mask, generator=seeded(seed))
        assert moved.dtype == dtype
        assert labels.dtype == torch.int64
        assert moved.shape[-2:] == labels.shape[-2:]
        assert set(labels.unique().tolist()) <= {*mask.unique().tolist(), 255}
        # a full image is full exactly where the mask shows something, and 0 exactly where it is ignored
        ignored = (labels == 255).unsqueeze(-3).expand_as(moved)
        assert (moved[ignored] == 0).all()
        assert (moved[~ignored] == TOPS[dtype]).all() or (
            dtype == torch.float32 and (moved[~ignored] - 1).abs().max() < 1e-6
        )
        image = noise(channels, 23, 27, dtype=dtype)
        kept, labels_kept = image.clone(), mask.clone()
        first, second = (transform(image, mask, generator=seeded(seed)) for _ in range(2))
        assert torch.equal(first[0], second[0])
        assert torch.equal(first[1], second[1])
        assert torch.equal(image, kept)
        assert torch.equal(mask, labels_kept)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_marker_lands_at_the_same_place_in_image_and_mask(name):
    rows, columns = torch.meshgrid(torch.arange(61.0), torch.arange(67.0), indexing="ij")
    transform = TRANSFORMS[name]
    seen = 0
    for seed in range(12):
        centre = 20 + 20 * torch.rand(2, generator=seeded(seed))
        disc = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= 36
        moved, labels = transform(disc.float()[None], disc.to(torch.uint8), generator=seeded(seed), **sized(transform))
        for image, mask in zip(
            moved.reshape(-1, *moved.shape[-2:]), labels.reshape(-1, *labels.shape[-2:]), strict=True
        ):
            whole = not torch.cat([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).eq(1).any()
            if whole and (mask == 1).sum() > 20:
                seen += 1
                assert (centroid(image) - centroid((mask == 1).float())).abs().max() < 0.5
    assert seen >= 4


def sized(transform):
    """Larger crops for a larger picture, where the transform takes a size."""
    if isinstance(transform, Compose):
        return {"size": 48} if any(getattr(member, "sized", False) for member in transform.transforms) else {}
    return {"size": (45, 48)} if getattr(transform, "sized", False) else {}


def centroid(weights):
    rows, columns = (torch.arange(n, dtype=torch.float32) for n in weights.shape)
    return torch.stack([(weights.sum(1) * rows).sum(), (weights.sum(0) * columns).sum()]) / weights.sum()


@pytest.mark.parametrize("name", TRANSFORMS)
def test_single_batched_and_stacked_pictures_move_alike(name):
    transform = TRANSFORMS[name]
    images = noise(2, 3, 4, 23, 27, dtype=torch.uint8)
    masks = torch.randint(4, (2, 3, 23, 27), generator=seeded(), dtype=torch.uint8)
    moved, labels = transform(images, masks, generator=seeded(5))
    alone = transform(images, generator=seeded(5))
    assert torch.equal(moved, alone)
    for b in range(2):
        for k in range(3):
            one, label = transform(images[b, k], masks[b, k], generator=seeded(5))
            assert torch.equal(moved[b, k], one)
            assert torch.equal(labels[b, k], label)


@pytest.mark.parametrize(
    "same",
    [
        RandomScale((1, 1)),
        RandomAffine(0, translate=0, scale=(1, 1)),
        RandomAffine(p=0),
        ElasticDeform(0),
        ElasticDeform(p=0),
        RandomPerspective(0),
        RandomPerspective(p=0),
        Rotate90(p=0),
        PadToMultiple(1),
        RandomResizedCrop((23, 31), scale=(1, 1), ratio=(31 / 23, 31 / 23)),
        Compose([RandomAffine(0, translate=0, scale=(1, 1)), HorizontalFlip(1), HorizontalFlip(1), Resize((23, 31))]),
    ],
    ids=repr,
)
@pytest.mark.parametrize("dtype", list(TOPS))
def test_identity_parameters_return_the_input_bit_for_bit(same, dtype):
    image, mask = noise(5, 23, 31, dtype=dtype), torch.randint(5, (23, 31), generator=seeded(), dtype=torch.int16)
    moved, labels = same(image, mask)
    assert torch.equal(moved, image)
    assert torch.equal(labels, mask)


@pytest.mark.parametrize("dtype", list(TOPS))
def test_right_angles_are_exact_for_turns_and_affine_maps(dtype):
    image, mask = noise(4, 21, 21, dtype=dtype), torch.randint(5, (21, 21), generator=seeded())
    for quarters in range(-4, 8):
        expected = image.rot90(quarters, (-2, -1)), mask.rot90(quarters, (-2, -1))
        for moved in (
            functional.rotate90(image, mask, quarters=quarters),
            functional.affine(image, mask, angle=90.0 * quarters),
        ):
            assert torch.equal(moved[0], expected[0])
            assert torch.equal(moved[1], expected[1])
    wide = noise(2, 5, 8, dtype=dtype)
    assert torch.equal(functional.rotate90(wide, quarters=1), wide.rot90(1, (-2, -1)))
    assert torch.equal(functional.rotate90(wide, quarters=3), wide.rot90(3, (-2, -1)))
    turns = {tuple(Rotate90()(wide.float(), generator=seeded(seed)).flatten().tolist()) for seed in range(30)}
    assert len(turns) == 4


# -- the direct float64 map: each step inverted on its own, for every pixel, by code that shares nothing with ours


def back_through_affine(points, size, angle, translate, scale, shear):
    """Where (row, column) points of the output of functional.affine come from, by solving the forward map."""
    centre = np.array([(size[0] - 1) / 2, (size[1] - 1) / 2])
    turn = math.radians(angle)
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])  # of (row, column), ccw
    tan_y, tan_x = math.tan(math.radians(shear[0])), math.tan(math.radians(shear[1]))
    slant = np.array([[1, tan_y], [0, 1]]) @ np.array([[1, 0], [tan_x, 1]])
    forward = scale * rotation @ slant
    return np.linalg.solve(forward, (points - centre - np.array(translate)).T).T + centre


def back_through_elastic(points, field):
    """The displacement by SciPy's B-splines."""
    grid = np.asarray(field.points)
    spaced = points / np.array(field.spacing)

    def basis(places, count):
        knots = np.arange(-3, count + 1, dtype=np.float64) - 0.0
        return np.stack([BSpline(knots, np.eye(count)[i], 3, extrapolate=False)(places) for i in range(count)], 1)

    down, across = basis(spaced[:, 0], grid.shape[1]), basis(spaced[:, 1], grid.shape[2])
    shift = np.einsum("nr,krc,nc->nk", down, grid, across)  # x, y
    return points + shift[:, ::-1]


def pixels(size):
    return np.stack(np.meshgrid(np.arange(size[0]), np.arange(size[1]), indexing="ij"), -1).reshape(-1, 2).astype(float)


def nearest_of(mask, points, size, inside=None):
    index = np.floor(points + 0.5).astype(int)
    shown = ((index >= 0) & (index < np.array(mask.shape))).all(1)
    if inside is not None:
        shown &= inside
    found = np.full(len(points), 255)
    found[shown] = mask.numpy()[index[shown, 0], index[shown, 1]]
    return torch.from_numpy(found.reshape(size))


@pytest.mark.parametrize(
    "size", [(43, 57), (90, 1300), (50, 32_000)], ids=str
)  # narrow, in several tiles, too long for them
@pytest.mark.parametrize("seed", range(8))
def test_a_mask_is_the_direct_float64_nearest_map(seed, size):
    draw = np.random.default_rng([seed, 1])
    mask = torch.from_numpy(draw.integers(0, 250, size))
    parameters = {
        "angle": draw.uniform(-180, 180) if size[1] < 9_000 else draw.uniform(-0.03, 0.03),
        "translate": tuple(draw.uniform(-9, 9, 2)),
        "scale": draw.uniform(0.5, 2) if size[1] < 9_000 else draw.uniform(0.9, 1),
        "shear": tuple(draw.uniform(-25, 25, 2)) if size[1] < 9_000 else (0, 0),
    }
    image, moved = functional.affine(torch.ones(1, *size), mask, **parameters)
    expected = nearest_of(mask, back_through_affine(pixels(size), size, **parameters), size)
    assert torch.equal(moved, expected)
    assert torch.equal(image[0] == 0, expected == 255)
    assert torch.equal(functional.affine(torch.ones(1, *size), **parameters), image)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool])
def test_a_mask_of_any_integers_is_filled_with_what_was_asked_for(dtype):
    fill = {torch.uint8: 200, torch.bool: 1}.get(dtype, -100)
    mask = torch.ones(20, 24, dtype=dtype)
    for geometry in (
        RandomAffine((30, 30), translate=0).draw((20, 24)),
        RandomAffine((30, 30), translate=0)
        .draw((20, 24))
        .then(CenterCrop(9).draw((20, 24)))
        .then(PadTo(15).draw((9, 9))),
        CenterCrop(2).draw((20, 24)).then(RandomAffine((45, 45), translate=0, scale=(0.5, 0.5)).draw((2, 2))),
    ):
        image, labels = functional.apply_geometry(torch.ones(1, 20, 24), mask, geometry=geometry, mask_fill=fill)
        assert set(labels.unique().tolist()) <= {1, fill}
        assert (image[0] == 0).any()
        assert dtype == torch.bool or torch.equal(image[0] == 0, labels == fill)


@pytest.mark.parametrize("seed", range(4))
def test_a_fused_row_is_the_direct_float64_nearest_map_of_all_its_members(seed):
    draw = np.random.default_rng([seed, 2])
    mask = torch.from_numpy(draw.integers(0, 250, (60, 70)))
    angle, scale = draw.uniform(-40, 40), draw.uniform(0.8, 1.3)
    row = [
        RandomAffine((angle, angle), translate=0, scale=(scale, scale)),
        ElasticDeform(2.5, spacing=17),
        HorizontalFlip(1),
        Resize((50, 90)),
        CenterCrop((33, 41)),
    ]
    _, moved = Compose(row)(torch.zeros(1, 60, 70), mask, generator=seeded(seed))
    generator = seeded(seed)
    row[0].draw((60, 70), generator=generator)
    (field,) = row[1].draw((60, 70), generator=generator).stages  # the one that the row drew

    points = pixels((33, 41)) + np.array([(50 - 33) // 2, (90 - 41) // 2])
    points = (points + 0.5) * np.array([60 / 50, 70 / 90]) - 0.5
    points[:, 1] = 69 - points[:, 1]
    points = back_through_elastic(points, field)
    in_frame = ((points >= -0.5) & (points < np.array([59.5, 69.5]))).all(1)
    points = back_through_affine(points, (60, 70), angle, (0, 0), scale, (0, 0))
    assert torch.equal(moved, nearest_of(mask, points, (33, 41), in_frame))


def back_through_perspective(points, size, shifts):
    """By a homography, found with a linear solver in float64, from the frame's corners to those that were drawn."""
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) * size[::-1] - 0.5
    drawn = corners + np.array(shifts) * size[::-1]
    rows = []
    for (x, y), (u, v) in zip(corners, drawn, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    onto = np.append(np.linalg.solve(rows, drawn.reshape(-1)), 1).reshape(3, 3)
    x, y, w = onto @ np.stack([points[:, 1], points[:, 0], np.ones(len(points))])
    return np.stack([y / w, x / w], 1)


@pytest.mark.parametrize("size", [(43, 57), (90, 1300)], ids=str)
@pytest.mark.parametrize("seed", range(8))
def test_a_mask_seen_at_a_slant_is_the_direct_float64_nearest_map(seed, size):
    mask = torch.from_numpy(np.random.default_rng([seed, 5]).integers(0, 250, size))
    image, moved = RandomPerspective(0.24)(torch.ones(1, *size), mask, generator=seeded(seed))
    generator = seeded(seed)
    torch.rand(1, generator=generator, dtype=torch.float64)  # whether anything happens
    shifts = 0.24 * (2 * torch.rand(8, generator=generator, dtype=torch.float64).numpy().reshape(4, 2) - 1)
    expected = nearest_of(mask, back_through_perspective(pixels(size), size, shifts), size)
    assert torch.equal(moved, expected)
    assert torch.equal(image[0] == 0, expected == 255)
    assert 0.01 < (expected == 255).double().mean() < 0.5


@pytest.mark.parametrize("seed", range(4))
def test_a_slant_in_a_row_is_resampled_once_and_hides_what_lies_beyond_its_frame(seed):
    mask = torch.from_numpy(np.random.default_rng([seed, 6]).integers(0, 250, (60, 70)))
    turn, zoom = RandomAffine((25, 25), translate=0, scale=(1, 1)), RandomAffine(0, translate=0, scale=(0.2, 0.2))
    row = Compose([turn, RandomPerspective(0.24), zoom, HorizontalFlip(1)])
    drawn = row.draw((60, 70), generator=seeded(seed))
    ((_, slanted),) = [step for step in drawn.steps if isinstance(step[0], RandomPerspective)]
    image, moved = drawn(torch.ones(1, 60, 70), mask)

    points = pixels((60, 70))
    points[:, 1] = 69 - points[:, 1]
    points = back_through_affine(points, (60, 70), 0, (0, 0), 0.2, (0, 0))  # far enough for a horizon
    shown = ((points >= -0.5) & (points < np.array([59.5, 69.5]))).all(1)
    corners = np.array(
        [slanted.stages[0].at(x, y) for x, y in ((-0.5, -0.5), (69.5, -0.5), (69.5, 59.5), (-0.5, 59.5))]
    )
    shifts = (corners + 0.5) / (70, 60) - np.array([(0, 0), (1, 0), (1, 1), (0, 1)])
    points = back_through_perspective(points, (60, 70), shifts)
    shown &= ((points >= -0.5) & (points < np.array([59.5, 69.5]))).all(1)
    points = back_through_affine(points, (60, 70), 25, (0, 0), 1, (0, 0))
    assert torch.equal(moved, nearest_of(mask, points, (60, 70), shown))
    assert torch.equal(image[0] == 0, moved == 255)
    assert torch.equal(row(torch.ones(1, 60, 70), mask, generator=seeded(seed))[1], moved)


@pytest.mark.parametrize("seed", range(4))
def test_what_a_crop_or_a_rotation_cut_off_stays_cut_off_in_a_fused_row(seed):
    draw = np.random.default_rng([seed, 3])
    mask = torch.from_numpy(draw.integers(0, 250, (60, 70)))
    first, second = draw.uniform(20, 70), draw.uniform(20, 70)
    fixed = {"translate": 0, "scale": (1, 1)}
    row = [RandomAffine((first, first), **fixed), CenterCrop((35, 41)), RandomAffine((second, second), **fixed)]
    moved, labels = Compose([*row, PadTo((50, 48), center=True)])(torch.ones(1, 60, 70), mask)

    points = pixels((50, 48)) - np.array([(50 - 35) // 2, (48 - 41) // 2])
    shown = ((points >= -0.5) & (points < np.array([34.5, 40.5]))).all(1)
    points = back_through_affine(points, (35, 41), second, (0, 0), 1, (0, 0))
    shown &= ((points >= -0.5) & (points < np.array([34.5, 40.5]))).all(1)
    points = points + np.array([(60 - 35) // 2, (70 - 41) // 2])
    points = back_through_affine(points, (60, 70), first, (0, 0), 1, (0, 0))
    assert torch.equal(labels, nearest_of(mask, points, (50, 48), shown))
    assert torch.equal(moved[0] == 0, labels == 255)
    assert 0.3 < shown.mean() < 0.9


def test_members_that_blur_otherwise_are_not_mixed_up():
    image = noise(1, 80, 80)
    row = [Resize(40, antialias=False), RandomScale((0.5, 0.5))]
    one = row[1](row[0](image))
    assert torch.equal(Compose(row)(image), one)


def test_an_elastic_field_is_the_same_on_a_grid_and_on_scattered_places():
    (field,) = ElasticDeform(3.0, spacing=7).draw((30, 40), generator=seeded()).stages
    x, y = torch.arange(40, dtype=torch.float64)[None], torch.arange(30, dtype=torch.float64)[:, None]
    apart = field.displacement(x, y)
    scattered = field.displacement(x.expand(30, 40), y.expand(30, 40))
    for one, other in zip(apart, scattered, strict=True):
        assert (one - other).abs().max() < 1e-12


def smooth(channels, height, width, top=255.0):
    """Waves of at least 16 pixels: what any interpolation must reproduce."""
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float64), torch.arange(width, dtype=torch.float64), indexing="ij"
    )
    waves = [torch.sin(2 * math.pi * (x / (16 + c) + y / (23 + c))) for c in range(channels)]
    return (torch.stack(waves) + 1) / 2 * top


def test_the_fused_picture_is_the_unfused_one_up_to_interpolation():
    # Bilinear interpolation of a wave of period p errs by at most (2 pi / p)^2 / 8 of its amplitude: 1.9 % at 16 pixels
    # for each resampling; the unfused row resamples three times, the fused one once.
    bound = 4 * (2 * math.pi / 16) ** 2 / 8 * 255 / 2
    image = smooth(3, 90, 100)
    row = [RandomAffine(25, scale=(1, 1.2)), ElasticDeform(2.0, spacing=24), HorizontalFlip(), RandomScale((1, 1.2))]
    for seed in range(6):
        fused, mask = Compose([*row, CenterCrop(50)])(image, torch.zeros(90, 100).byte(), generator=seeded(seed))
        unfused, generator = (image, torch.zeros(90, 100).byte()), seeded(seed)
        for member in [*row, CenterCrop(50)]:
            unfused = member(*unfused, generator=generator)
        both = (mask == 0) & (unfused[1] == 0)
        edge = torch.nn.functional.max_pool2d((~both).float()[None], 5, 1, 2)[0] > 0  # interpolated with the fill
        assert (edge | ((fused - unfused[0]).abs().amax(0) < bound)).all()
        assert both.float().mean() > 0.7


RANGES = {  # int32: of 16 bits, and wider; half floats hold 11 and 8 bits
    "uint8": (torch.uint8, 0, 255),
    "int8": (torch.int8, -128, 127),
    "int16": (torch.int16, -30_000, 32_767),
    "16 bits": (torch.int32, 0, 65_535),
    "int32": (torch.int32, -(2**22), 2**23),
    "some below 0": (torch.int32, -500, 30_000),
    "int64": (torch.int64, 0, 70_000),
    "float16": (torch.float16, -1, 1),
    "bfloat16": (torch.bfloat16, -1, 1),
    "float32": (torch.float32, 0, 1),
    "float64": (torch.float64, 0, 1),
}


@pytest.mark.parametrize("kind", RANGES)
@pytest.mark.parametrize(
    "name", ["RandomAffine", "RandomPerspective", "ElasticDeform", "Resize", "RandomScale", "RandomResizedCrop", "row"]
)
def test_the_two_ways_to_resample_agree(name, kind):
    """OpenCV on the CPU and grid_sample elsewhere, within 1 % of the value range on white noise, and one rounding.

    Before version 5, OpenCV puts places on a grid of 1/32 of a pixel: 1/64 off on both axes can cost 3 %.
    """
    dtype, low, high = RANGES[kind]
    share = 0.01 if int(cv2.__version__.split(".")[0]) >= 5 else 0.035
    step = torch.finfo(dtype).eps if dtype.is_floating_point else 1
    values = noise(5, 61, 67, dtype=torch.float64) * (high - low) + low
    image = values.to(dtype) if dtype.is_floating_point else values.round().to(dtype)
    for seed in range(4):
        geometry = geometry_of(TRANSFORMS[name], (61, 67), seeded(seed))
        sigma = (0.9, 0.6) if seed % 2 else (0.0, 0.0)
        one, other = by_opencv.sample(image, geometry, sigma), by_torch.sample(image, geometry, sigma)
        assert one.dtype == other.dtype == dtype
        hidden = nearest.outside(geometry, image.device)  # what is filled afterwards they need not agree on
        shown = torch.ones(geometry.size).bool() if hidden is None else ~hidden
        apart = (one.double() - other.double()).abs()[..., shown]
        assert apart.max() <= share * (high - low) + step
        assert shown.float().mean() > 0.5


@pytest.mark.parametrize("name", ["RandomAffine", "RandomPerspective", "ElasticDeform", "Resize", "row", "clipped row"])
def test_both_ways_to_look_up_the_nearest_pixel_give_the_same(name):
    """By OpenCV on the CPU, and by an index elsewhere, which a tensor that needs a gradient takes as well."""
    image = noise(2, 61, 67, dtype=torch.float64)
    for seed in range(4):
        geometry = geometry_of(TRANSFORMS[name], (61, 67), seeded(seed))
        looked_up, hidden = nearest.look_up(image, geometry, 7.0)
        by_index, hidden_too = nearest.look_up(image.clone().requires_grad_(), geometry, 7.0)
        assert torch.equal(looked_up, by_index)
        assert torch.equal(torch.zeros_like(hidden_too) if hidden is None else hidden, hidden_too)


def geometry_of(transform, size, generator):
    if not isinstance(transform, Compose):
        return transform.draw(size, generator=generator)
    joined = transform.transforms[0].draw(size, generator=generator)
    for member in transform.transforms[1:]:
        joined = joined.then(member.draw(joined.size, generator=generator))
    return joined


def test_a_picture_too_large_for_opencv_is_resampled_all_the_same():
    image = torch.arange(40_000, dtype=torch.float32).expand(1, 2, 40_000)
    mask = (torch.arange(40_000) % 200).expand(2, 40_000)
    moved, labels = functional.affine(image, mask, translate=(0, 0.25))
    assert torch.allclose(moved[0, 0, 1:], torch.arange(1, 40_000) - 0.25, atol=0.01)
    assert torch.equal(labels, mask)  # nearest: a quarter of a pixel rounds to none
    turned, labels = functional.affine(image, mask, angle=0.01)
    assert turned.shape == image.shape
    assert (labels == 255).any()


def test_each_sample_of_a_batch_gets_its_own_draw():
    images = noise(1, 3, 40, 40).expand(4, 3, 40, 40)
    masks = torch.randint(5, (1, 40, 40), generator=seeded()).expand(4, 40, 40)
    moved, labels = PerSample(RandomCrop(16))(images, masks, generator=seeded(3))
    generator = seeded(3)
    for i in range(4):
        one, label = RandomCrop(16)(images[i], masks[i], generator=generator)
        assert torch.equal(moved[i], one)
        assert torch.equal(labels[i], label)
    assert not torch.equal(moved[0], moved[1])
    assert PerSample(RandomCrop(16))(images[:0]).shape == (0, 3, 40, 40)
    row = Compose([HorizontalFlip(), PerSample(RandomCrop(16))])
    assert row(images, size=8).shape == (4, 3, 8, 8)
    with pytest.raises(ValueError, match=r"must be a batch \[B, ..., C, H, W\], got \[3, 40, 40\]"):
        PerSample(RandomCrop(4))(images[0])
    with pytest.raises(ValueError, match=r"must give one size for all samples"):
        PerSample(RandomScale())(images, generator=seeded())


def test_a_shrunken_picture_is_blurred_in_a_fused_row_too():
    stripes = (torch.arange(160) % 2 * 255.0).expand(1, 160, 160)
    row = Compose([RandomScale((0.25, 0.25)), HorizontalFlip(1), CenterCrop(30)])
    assert row(stripes).std() < 5
    assert (row(stripes).mean() - 127.5).abs() < 5


def test_members_with_other_fills_are_not_mixed_up():
    image, mask = torch.ones(1, 4, 4), torch.zeros(4, 4, dtype=torch.uint8)
    row = Compose([PadTo(6, mask_fill=7), PadTo(8, image_fill=0.5)])
    moved, labels = row(image, mask)
    assert ((labels == 7).sum(), (labels == 255).sum()) == (36 - 16, 64 - 36)
    assert ((moved == 0).sum(), (moved == 0.5).sum()) == (36 - 16, 64 - 36)


def test_half_floats_and_small_integers_are_resampled_in_their_own_dtype():
    for dtype in (torch.float16, torch.bfloat16, torch.int8, torch.int16, torch.int64):
        image = (smooth(2, 20, 24, top=100) - 20).to(dtype)
        moved, labels = functional.affine(image, torch.zeros(20, 24, dtype=torch.int16), angle=10.0)
        assert moved.dtype == dtype
        exact = functional.affine(image.double(), angle=10.0)
        # half a step of rounding, and what the grid of OpenCV before version 5 can cost on this slope
        assert (moved.double() - exact).abs().max() <= 0.9
    large = torch.full((1, 8, 8), 2**40 + 1)
    assert (functional.affine(large, angle=45.0).unique() == torch.tensor([0, 2**40 + 1])).all()


def test_draws_cover_the_ranges_that_were_asked_for():
    source, generator = (40, 60), seeded(1)

    def drawn(transform, count=400):
        return [transform.draw(source, generator=generator) for _ in range(count)]

    def shift(geometry):
        return geometry.stages[0].at(0, 0) if geometry.stages else (0, 0)

    tops = {shift(each)[::-1] for each in drawn(RandomCrop((38, 57)))}
    assert tops == {(top, left) for top in range(3) for left in range(4)}
    for flip in (
        HorizontalFlip(0.25),
        VerticalFlip(0.25),
        RandomAffine(p=0.25),
        RandomPerspective(p=0.25),
        ElasticDeform(p=0.25),
        Rotate90(p=1 / 3),
    ):
        moved = sum(bool(each.stages) for each in drawn(flip))
        assert 70 < moved < 130
    x, y = zip(*map(shift, drawn(RandomAffine(0, translate=(0.1, 0.2), scale=(1, 1)))), strict=True)
    assert -4 <= min(y) < -3.8 < 3.8 < max(y) <= 4
    assert -12 <= min(x) < -11.4 < 11.4 < max(x) <= 12
    heights = [each.size[0] / 40 for each in drawn(RandomScale((0.5, 2)))]
    assert 0.5 <= min(heights) < 0.55 < 1.85 < max(heights) <= 2
    assert 0.4 < np.mean(np.array(heights) < 1) < 0.6  # halving is as likely as doubling
    angles = [math.degrees(math.asin(each.stages[0].xy)) for each in drawn(RandomAffine(30, translate=0, scale=(1, 1)))]
    assert -30 <= min(angles) < -28 < 28 < max(angles) <= 30
    spans = [each.stages[0].spans() for each in drawn(RandomResizedCrop(10, scale=(0.25, 0.36), ratio=(1, 2.25)))]
    areas = [across * down * 100 / 2400 for across, down in spans]
    assert 0.24 <= min(areas) < 0.27 < 0.34 < max(areas) < 0.38
    shapes = [across / down for across, down in spans]
    assert 0.95 < min(shapes) < 1.1 < 2 < max(shapes) < 2.4


@pytest.mark.parametrize(
    "name",
    [
        "Resize",
        "RandomResizedCrop",
        "PadTo",
        "PadToMultiple",
        "RandomScale",
        "Rotate90",
        "RandomAffine",
        "RandomPerspective",
        "ElasticDeform",
    ],
)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.float32])
def test_a_single_pixel_and_an_empty_batch_pass_through(name, dtype):
    one = torch.ones(3, 1, 1, dtype=dtype)
    moved, labels = TRANSFORMS[name](one, torch.ones(1, 1, dtype=torch.int64), generator=seeded())
    assert ((moved == 1) == (labels == 1)).all()
    images, masks = torch.zeros(0, 3, 23, 27, dtype=dtype), torch.zeros(0, 23, 27, dtype=torch.uint8)
    moved, labels = TRANSFORMS[name](images, masks, generator=seeded())
    assert moved.shape[:2] == (0, 3)
    assert labels.shape == (0, *moved.shape[-2:])


def test_parameters_that_make_no_sense_are_refused():
    nan = float("nan")
    for make in (
        lambda: RandomAffine(nan),
        lambda: RandomAffine((10, -10)),
        lambda: RandomAffine(translate=2),
        lambda: RandomAffine(scale=(0, 1)),
        lambda: RandomAffine(shear=90),
        lambda: RandomScale((nan, 1)),
        lambda: RandomScale((2, 1)),
        lambda: RandomScale((0.0, 1)),
        lambda: RandomResizedCrop(8, scale=(0.5, 1.5)),
        lambda: RandomResizedCrop(8, ratio=(nan, 1)),
        lambda: RandomPerspective(0.25),
        lambda: RandomPerspective(-0.1),
        lambda: Geometry.perspective((8, 8), [(0, 0), (7, 0), (1, 1), (0, 7)]),
        lambda: Geometry.perspective((8, 8), [(0, 0), (0, 0), (0, 0), (0, 0)]),
        lambda: ElasticDeform(-1),
        lambda: ElasticDeform(nan),
        lambda: ElasticDeform(spacing=0),
        lambda: Rotate90(p=2),
        lambda: PadToMultiple(0),
        lambda: GridCrop(8, 8),
        lambda: GridCrop(8, -1),
        lambda: GridCrop(8, 1.0),
        lambda: functional.affine(torch.zeros(1, 2, 2), angle=nan),
        lambda: functional.affine(torch.zeros(1, 2, 2), translate=(nan, 0)),
        lambda: functional.affine(torch.zeros(1, 2, 2), scale=0.0),
    ):
        with pytest.raises(ValueError, match=r"^[\w.]+: `\w+` must "):
            make()
    with pytest.raises(
        ValueError, match=r"can hold mask_fill=255, got torch.bool. Convert it with mask.to\(torch.uint8\)"
    ):
        RandomAffine()(torch.zeros(1, 4, 4), torch.zeros(4, 4, dtype=torch.bool))


@pytest.mark.parametrize(
    ("dtype", "fill"), [(torch.uint8, 300), (torch.uint8, -1), (torch.int32, 0.5), (torch.bool, 2)]
)
def test_a_fill_that_the_image_cannot_hold_is_refused(dtype, fill):
    image = torch.ones(3, 8, 9, dtype=dtype)
    for change in (
        RandomAffine((45, 45), image_fill=fill),
        ElasticDeform(image_fill=fill),
        PadTo(12, image_fill=fill),
        PadToMultiple(5, image_fill=fill),
        Cutout(image_fill=fill),
        Compose([HorizontalFlip(), PadTo(12, image_fill=fill)]),
        lambda x: functional.pad(x, top=1, image_fill=fill),
        lambda x: functional.affine(x, angle=3, image_fill=fill),
        lambda x: functional.cutout(x, boxes=[(0, 0, 2, 2)], image_fill=fill),
        lambda x: functional.apply_geometry(x, geometry=CenterCrop(2).draw((8, 9)), image_fill=fill),
    ):
        with pytest.raises(ValueError, match=rf"dtype that can hold image_fill={fill}, got {dtype}. Put ToTensor"):
            change(image)
    with pytest.raises(ValueError, match=r"PadTo: `mask_fill` must be a whole number, got 2.7"):
        PadTo(9, mask_fill=2.7)


def test_coordinates_of_a_crop_of_an_elastic_picture_stay_on_their_axes():
    # what keeps a crop of a deformed picture cheap: x and y are only combined where a field or a rotation needs it
    crop = CenterCrop(5).draw((20, 30)).then(Resize(10).draw((5, 5)))
    x, y = coordinates(crop.stages, crop.size, torch.device("cpu"))
    assert (x.shape, y.shape) == ((1, 10), (10, 1))


@pytest.mark.parametrize("size", [(40, 60), (61, 40), (50, 50), (9, 90)], ids=str)
def test_a_turn_inside_shows_no_corner_and_hardly_leaves_anything_out(size):
    image, mask = torch.ones(1, *size), torch.zeros(size, dtype=torch.uint8)
    for seed in range(40):
        moved, labels = RotateInside(180)(image, mask, generator=seeded(seed))
        assert (labels == 0).all()
        assert (moved > 0.999).all()
    for degrees in (0.0, 10.0, 45.0, 80.0, 90.0):
        geometry = RotateInside((degrees, degrees)).draw(size)
        larger = dataclasses.replace(geometry, size=(geometry.size[0] + 4, geometry.size[1] + 4))
        top_left = larger.stages[0].after(Affine(1, 0, -2, 0, 1, -2))
        _, labels = functional.apply_geometry(image, mask, geometry=dataclasses.replace(larger, stages=(top_left,)))
        assert (labels == 255).any()  # two pixels more on each side would show a corner
    turned, exact = functional.affine(smooth(1, *size), angle=10.0), RotateInside((10, 10))(smooth(1, *size))
    middle = tuple(n // 2 for n in size), tuple(n // 2 for n in exact.shape[-2:])
    assert abs(turned[0][middle[0]] - exact[0][middle[1]]) < 60


def test_a_resize_that_keeps_the_ratio_goes_by_the_shorter_or_the_longer_side():
    for source, shortest, longest, expected in (
        ((60, 120), 30, None, (30, 60)),
        ((120, 60), 30, None, (60, 30)),
        ((60, 120), None, 60, (30, 60)),
        ((60, 120), 30, 40, (20, 40)),
        ((60, 120), 30, 400, (30, 60)),
        ((1, 90), None, 30, (1, 30)),
    ):
        assert ResizeKeepRatio(shortest, longest).draw(source).size == expected
    with pytest.raises(ValueError, match="`shortest` or `longest` must be given"):
        ResizeKeepRatio()
