"""Batches with a draw for each sample: at once or one by one they are the same, and at once nothing depends on B."""

from __future__ import annotations

import collections
import pickle
import subprocess
import sys

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from segkit import transforms as T
from segkit.transforms import PerSample, _per_sample
from segkit.transforms._resampling import chance as _chance
from segkit.transforms._resampling.geometry import Geometry

ROWS = {
    "affine": T.Compose([T.RandomAffine(20), T.HorizontalFlip(), T.ColorJitter(0.2, 0.2, 0.2, 0.1), T.RandomCrop(40)]),
    "whole pixels": T.Compose([T.HorizontalFlip(), T.Rotate90(), T.RandomCrop(30), T.PadTo(50, center=True)]),
    "bent": T.Compose([T.ElasticDeform(3, spacing=12, p=0.5), T.RandomAffine(20, p=0.6), T.RandomCrop(30)]),
    "bent twice": T.Compose([T.ElasticDeform(3, spacing=12), T.RandomAffine(20), T.ElasticDeform(2, p=0.5)]),
    "slanted": T.Compose(
        [T.RandomPerspective(0.2, p=0.7), T.RandomAffine(20), T.RandomPerspective(0.1), T.RandomCrop(40)]
    ),
    "slanted and bent": T.Compose([T.RandomCrop(40), T.RandomPerspective(0.2), T.ElasticDeform(3, spacing=12, p=0.5)]),
    "clipped": T.Compose([T.RandomCrop(40), T.RandomAffine(50), T.RandomCrop(20), T.RandomAffine(30, image_fill=0.5)]),
    "scaled": T.Compose([T.RandomScale((0.3, 1.5)), T.PadTo(50), T.RandomCrop(50)]),
    "of several sizes on the way": T.Compose(
        [T.RandomScale((0.4, 1.5)), T.RandomGamma(), T.PadTo(50), T.RandomCrop(50)]
    ),
    "values": T.Compose([T.Cutout(2, p=0.7), T.GaussianBlur(p=0.7), T.RandomGamma(p=0.7), T.ColorJitter(p=0.5)]),
    "choices": T.Compose(
        [
            T.OneOf([T.RandomAffine(10), T.ColorJitter(), T.GaussianNoise()]),
            T.SomeOf([T.HorizontalFlip(), T.VerticalFlip(), T.ElasticDeform()], (0, 3)),
            T.Maybe(T.GaussianBlur()),
        ]
    ),
    "one that moves": T.RandomAffine(20),
    "one that is sized": T.RandomResizedCrop(33),
    "one that colours": T.ColorJitter(0.2, 0.2, 0.2, 0.1, p=0.5),
    "one that cannot say first": T.GaussianNoise(),
    "a class in the crop": T.Compose([T.RandomAffine(20), T.RandomCrop(30, focus_class=2)]),
    "a class after a hole": T.Compose([T.Cutout(), T.RandomCrop(30, focus_class=2)]),
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(count=5, channels=3, size=(64, 56), dtype=torch.float64, seed=0):
    images = torch.rand(count, channels, *size, generator=seeded(seed), dtype=torch.float64)
    images = images.to(dtype) if dtype.is_floating_point else (images * 255).to(dtype)
    return images, torch.randint(0, 5, (count, *size), generator=seeded(seed + 1)).to(torch.uint8)


def looped(row, images, masks, generator):
    pairs = [row(*each, generator=generator) for each in zip(images, masks, strict=True)]
    return [torch.stack(part) for part in zip(*pairs, strict=True)]


@pytest.mark.parametrize("name", ROWS)
def test_at_once_one_by_one_and_a_loop_give_the_same(name):
    """In float64, where all three resample by torch; masks bit for bit in every dtype."""
    images, masks = batch()
    generators = seeded(3), seeded(3), seeded(3)
    at_once = PerSample(ROWS[name], batched=True)(images, masks, generator=generators[0])
    one_by_one = PerSample(ROWS[name], batched=False)(images, masks, generator=generators[1])
    loop = looped(ROWS[name], images, masks, generators[2])
    torch.testing.assert_close(at_once[0], loop[0], rtol=0, atol=1e-6)
    assert torch.equal(one_by_one[0], loop[0])
    assert torch.equal(at_once[1], loop[1])
    assert torch.equal(one_by_one[1], loop[1])
    assert len({generator.get_state().numpy().tobytes() for generator in generators}) == 1, "all drew as much"
    alone = PerSample(ROWS[name], batched=True)(images, generator=seeded(3)) if "class" not in name else at_once[0]
    assert torch.equal(alone, at_once[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.uint8])
@pytest.mark.parametrize("channels", [1, 3, 13])
def test_whole_pixels_and_masks_keep_their_bits_in_every_dtype(dtype, channels):
    images, masks = batch(channels=channels, dtype=dtype)
    whole = PerSample(ROWS["whole pixels"], batched=True)(images, masks, generator=seeded(1))
    loop = looped(ROWS["whole pixels"], images, masks, seeded(1))
    assert torch.equal(whole[0], loop[0])
    assert torch.equal(whole[1], loop[1])
    flips = T.Compose([T.HorizontalFlip(), T.RandomAffine(20, p=0.5)])
    mixed = PerSample(flips, batched=True)(images, masks, generator=seeded(1))
    generator, seen = seeded(1), set()
    for i in range(len(images)):
        geometry = flips.draw((64, 56), generator=generator).steps
        straight = geometry[1][1].stages == ()
        seen.add(straight)
        if straight:
            flipped = images[i].flip(-1) if geometry[0][1].stages else images[i]
            assert torch.equal(mixed[0][i], flipped)
    assert seen == {True, False}
    assert torch.equal(mixed[1], looped(flips, images, masks, seeded(1))[1])


def test_float32_at_once_is_nearer_to_float64_than_opencv_is():
    images, masks = batch(3, size=(512, 512))
    row = PerSample(T.Compose([T.RandomAffine(20), T.HorizontalFlip()]), batched=True)
    exact = row(images, masks, generator=seeded(2))[0]
    at_once = row(images.float(), masks, generator=seeded(2))[0]
    torch.testing.assert_close(at_once.double(), exact, rtol=0, atol=1e-6)
    by_opencv = PerSample(row.transform)(images.float(), masks, generator=seeded(2))[0]
    torch.testing.assert_close(by_opencv.double(), exact, rtol=0, atol=1e-4)  # its places are in float32


def test_masks_of_4096_pixels_are_those_of_the_float64_map():
    mask = torch.arange(4096 * 4096, dtype=torch.int32).reshape(1, 4096, 4096)
    image = torch.zeros(1, 1, 4096, 4096, dtype=torch.uint8)
    one = T.RandomAffine(30)
    moved = PerSample(one, batched=True)(image, mask, generator=seeded(5))[1]
    assert torch.equal(moved[0], one(image[0], mask[0], generator=seeded(5))[1])


def operators(row, count):
    images, masks = batch(count, dtype=torch.float32)
    row(images, masks, generator=seeded(1))
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        row(images, masks, generator=seeded(1))
    return collections.Counter(event.name for event in seen.events())


@pytest.mark.parametrize(
    "row",
    [
        T.Compose([T.RandomAffine(20), T.HorizontalFlip(), T.ColorJitter(0.2, 0.2, 0.2, 0.1), T.Normalize(0.5, 0.2)]),
        T.Compose([T.ElasticDeform(3, spacing=12), T.RandomAffine(20), T.RandomCrop(40)]),
        T.Compose([T.RandomGamma(), T.GaussianBlur((1, 2)), T.Cutout(2)]),
        T.Compose([T.HorizontalFlip(), T.Rotate90(p=0.0), T.RandomCrop(30)]),
        T.RandomResizedCrop(80, scale=(0.9, 1.0)),
    ],
)
def test_the_number_of_operators_does_not_depend_on_the_batch(row):
    two, many = (operators(PerSample(row, batched=True), count) for count in (2, 32))
    assert two == many
    assert two != operators(PerSample(row, batched=False), 2), "the count can differ"


@pytest.mark.parametrize("name", ["affine", "whole pixels", "bent", "bent twice", "clipped", "scaled", "values"])
def test_nothing_is_asked_of_the_device(name):
    """Tensors of the device "meta" have no numbers: to read one is an error."""
    images, masks = batch(4, dtype=torch.float32)
    done = PerSample(ROWS[name])(images.to("meta"), masks.to("meta"), generator=seeded(1))
    expected = PerSample(ROWS[name])(images, masks, generator=seeded(1))
    assert [(each.shape, each.dtype, each.device.type) for each in done] == [
        (each.shape, each.dtype, "meta") for each in expected
    ]
    with pytest.raises(RuntimeError):
        T.GaussianNoise()(images.to("meta")).sum().item()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own compiler
def test_a_compiled_step_gives_the_same():
    row = PerSample(T.Compose([T.RandomAffine(20), T.ElasticDeform(p=0.5), T.ColorJitter(0.2, 0.2)]), batched=True)

    def step(images, masks, generator):
        images, masks = row(images * 2, masks, generator=generator)
        return images.relu(), masks

    compiled = torch.compile(step, backend="aot_eager")
    for seed in range(3):
        images, masks = batch(3, dtype=torch.float32, seed=seed)
        plain, again = step(images, masks, seeded(seed)), compiled(images, masks, seeded(seed))
        torch.testing.assert_close(plain[0], again[0], rtol=0, atol=1e-6)
        assert torch.equal(plain[1], again[1])


def test_gradients_flow_through_a_whole_batch():
    images, _ = batch(2, size=(9, 8))
    row = PerSample(T.Compose([T.RandomAffine(20), T.ColorJitter(0.2, 0.2, 0.2, 0.1)]), batched=True)
    assert torch.autograd.gradcheck(lambda x: row(x, generator=seeded(1)), images.requires_grad_())


@pytest.mark.parametrize("seed", [0, 5, 2**40 + 3, 2**62 - 1])
def test_chance_without_torch_draws_what_torch_draws(seed):
    assert _chance.can_be_read()
    generator = seeded(seed)
    ways = _chance.Chance.of(generator), _chance.Chance.seeded(seed), generator
    for turn in range(200):
        assert len({_chance.uniform(-3, 5, way) for way in ways}) == 1
        assert len({_chance.integer(7 + turn, way) for way in ways}) == 1
        assert len({_chance.integer(1 << 62, way) for way in ways}) == 1
        assert len({tuple(_chance.permutation(9, way)) for way in ways}) == 1
        first, *others = (torch.from_numpy(_chance.normals((2, 4, 6 + turn % 3), way)) for way in ways)
        for other in others:
            torch.testing.assert_close(other, first, rtol=0, atol=1e-14)
    later = seeded(1)
    ways[0].give_back(later)
    assert torch.equal(torch.rand(5, generator=later), torch.rand(5, generator=generator))


def test_where_torch_keeps_its_generators_otherwise_the_numbers_are_the_same(monkeypatch):
    images, masks = batch()
    expected = PerSample(ROWS["choices"], batched=True)(images, masks, generator=seeded(4))
    monkeypatch.setattr(_per_sample, "can_be_read", lambda: False)
    got = PerSample(ROWS["choices"], batched=True)(images, masks, generator=seeded(4))
    assert torch.equal(got[0], expected[0])
    assert torch.equal(got[1], expected[1])


class OnDevice:
    """Stands for a generator of a device: what the host knows of it, and a place that moves when it draws."""

    device = torch.device("cuda")

    def __init__(self, seed):
        self.seed, self.place = seed, 0

    def get_state(self):
        return torch.tensor([self.seed, self.place])


def test_a_generator_on_the_device_is_followed_without_reading_from_there(monkeypatch):
    class Empty:
        def uniform_(self, *, generator):
            generator.place += 4

    monkeypatch.setattr(_chance.torch, "empty", lambda *_, **__: Empty())
    one, same, other = OnDevice(1), OnDevice(1), OnDevice(2)
    drawn = [[_chance.on_host(each).initial_seed() for _ in range(3)] for each in (one, same, other)]
    assert drawn[0] == drawn[1]
    assert len({*drawn[0], *drawn[2]}) == 6
    assert _chance.on_host(None) is None


class Nudge(T.GeometricTransform):
    """Somebody's own: it asks torch's generator itself."""

    def draw(self, source, *, generator=None):
        return Geometry.window(source, 0, int(torch.randint(9, (), generator=generator)), source)


class Negative(T.Transform):
    def apply(self, image, mask, generator):
        return torch.rand((), generator=generator) - image, mask


@pytest.mark.parametrize("batched", [None, True, False])
def test_somebodys_own_transforms_take_part(batched):
    images, masks = batch()
    row = T.Compose([Nudge(), T.RandomAffine(20), Negative(), T.OnImage(torch.sqrt)])
    images = images - 2
    got = PerSample(row, batched=batched)(images, masks, generator=seeded(6))
    expected = looped(row, images, masks, seeded(6))
    torch.testing.assert_close(got[0], expected[0], rtol=0, atol=1e-6, equal_nan=True)
    assert torch.equal(got[1], expected[1])


def test_threads_give_what_one_gives(monkeypatch):
    images, masks = batch(6, size=(160, 170), dtype=torch.float32)
    row = PerSample(T.Compose([T.RandomAffine(20), T.ColorJitter(0.2, 0.2), T.GaussianNoise(), T.RandomCrop(100)]))
    pools = []
    pool = _per_sample.ThreadPoolExecutor
    monkeypatch.setattr(_per_sample, "ThreadPoolExecutor", lambda count: pools.append(count) or pool(count))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    threaded = row(images, masks, generator=seeded(1))
    assert pools == [3]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    alone = row(images, masks, generator=seeded(1))
    assert torch.equal(threaded[0], alone[0])
    assert torch.equal(threaded[1], alone[1])
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    with pytest.raises(ValueError, match="must give one size for all samples"):
        PerSample(T.RandomScale())(images, masks)


@pytest.mark.parametrize("batched", [True, False])
def test_stacks_of_masks_sizes_and_targets_go_through(batched):
    images, masks = batch(3, dtype=torch.float32)
    stack = torch.stack([masks, 4 - masks], 1)
    row = PerSample(T.Compose([T.RandomAffine(20), T.RandomCrop(40)]), batched=batched)
    moved, labels = row(images, stack, generator=seeded(), size=24)
    assert moved.shape == (3, 3, 24, 24)
    assert labels.shape == (3, 2, 24, 24)
    assert torch.equal(labels[:, 0], row(images, masks, generator=seeded(), size=24)[1])
    made = PerSample(T.Compose([T.HorizontalFlip(), T.SkeletonTarget()]), batched=batched)(images, masks)[1]
    assert {name: each.shape for name, each in made.items()} == dict.fromkeys(("mask", "skeleton"), masks.shape)
    with pytest.raises(ValueError, match="`size` must not be given"):
        PerSample(T.ColorJitter(), batched=batched)(images, masks, size=24)


def test_it_pickles_shows_itself_and_refuses_what_it_cannot_be():
    assert repr(PerSample(T.HorizontalFlip())) == "PerSample(HorizontalFlip(p=0.5))"
    again = pickle.loads(pickle.dumps(PerSample(T.HorizontalFlip(), batched=True)))
    assert repr(again) == "PerSample(HorizontalFlip(p=0.5), batched=True)"
    with pytest.raises(TypeError, match="`batched` must be None, True or False, got 2"):
        PerSample(T.HorizontalFlip(), batched=2)
    with pytest.raises(TypeError, match="torch.Generator"):
        PerSample(T.HorizontalFlip())(*batch(), generator=0)


def test_to_import_the_room_loads_no_compiler():
    """It takes torch's a second and a half."""
    code = "import sys, segkit.transforms; print('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
