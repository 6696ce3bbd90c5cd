"""Mixed samples: each pasted pixel keeps its donor's label, what is ignored stays ignored, and a key tells all."""

from __future__ import annotations

import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as distributions
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader

from mix_records import Numbers
from segkit import losses
from segkit.datasets import MixDataset
from segkit.samplers import ClassBalancedSampler, ShuffleSampler
from segkit.transforms import ClassMix, CopyPaste, CutMix, MixUp, RandomAffine

PASTING = {
    "cut": CutMix((0.1, 0.6)),
    "class": ClassMix(0.5),
    "some classes": ClassMix(1.0, classes=[1, 3]),
    "objects": CopyPaste([1, 2, 3], share=0.7),
    "large objects": CopyPaste([1, 2], share=1.0, smallest=5),
    "by chance": CutMix(0.3, p=0.5),
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(count=4, channels=3, size=(13, 17), seed=0, dtype=torch.uint8, mask_dtype=torch.uint8):
    """Samples whose pixels say where they come from: the value is the number of the sample, the label a class."""
    generator = seeded(seed)
    coarse = torch.randint(0, 5, (count, 1, *(-(-edge // 4) for edge in size)), generator=generator).float()
    masks = torch.nn.functional.interpolate(coarse, scale_factor=4)[:, 0, : size[0], : size[1]].to(mask_dtype)
    masks[masks == 4] = 255
    images = torch.arange(count).view(-1, 1, 1, 1).expand(count, channels, *size).to(dtype).clone()
    return images, masks


@pytest.mark.parametrize("name", PASTING)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_each_pixel_has_the_label_of_the_picture_it_comes_from(name, data):
    kind = data.draw(st.sampled_from([torch.uint8, torch.int32, torch.float32, torch.float16]))
    mask_kind = data.draw(st.sampled_from([torch.uint8, torch.int64, torch.int16]))
    size = (data.draw(st.integers(1, 20)), data.draw(st.integers(1, 20)))
    images, masks = batch(data.draw(st.integers(2, 5)), data.draw(st.integers(1, 5)), size, 1, kind, mask_kind)
    before = images.clone(), masks.clone()
    mixed, labels = PASTING[name](images, masks, generator=seeded(data.draw(st.integers(0, 2**32))))
    assert torch.equal(images, before[0])
    assert torch.equal(masks, before[1])
    assert (mixed.dtype, labels.dtype, mixed.shape, labels.shape) == (kind, mask_kind, images.shape, masks.shape)
    assert (mixed == mixed[:, :1]).all(), "all channels of a pixel come from one picture"
    source = mixed[:, 0].long()
    rows, columns = torch.arange(size[0])[:, None], torch.arange(size[1])
    assert torch.equal(labels, masks[source, rows, columns])
    donors = [set(source[i].unique().tolist()) - {i} for i in range(len(images))]
    assert all(len(of) <= 1 for of in donors), "one donor a sample"


@pytest.mark.parametrize("name", [n for n in PASTING if n not in ("cut", "by chance")])
def test_ignored_pixels_are_not_pasted(name):
    images, masks = batch(2)
    masks[1] = 255
    mixed, labels = PASTING[name](images[0], masks[0], donor=(images[1], masks[1]), generator=seeded())
    assert torch.equal(mixed, images[0])
    assert torch.equal(labels, masks[0])


def test_a_rectangle_has_the_area_that_was_asked_for():
    images, masks = batch(200, 1, (64, 96))
    shares = (CutMix((0.2, 0.4))(images, masks, generator=seeded())[0] != images).double().mean((1, 2, 3))
    assert shares.min() > 0.18
    assert shares.max() < 0.42
    assert 0.28 < shares.mean() < 0.32


def test_half_of_the_classes_are_pasted_each_whole():
    images, masks = batch(2, 1, (40, 40))
    there = [label for label in masks[1].unique().tolist() if label != 255]
    for seed in range(10):
        mixed, _ = ClassMix(0.5)(images[0], masks[0], donor=(images[1], masks[1]), generator=seeded(seed))
        pasted = mixed[0] == 1
        taken = [label for label in there if pasted[masks[1] == label].any()]
        assert len(taken) == -(-len(there) // 2)
        assert all(pasted[masks[1] == label].all() for label in taken)


def test_objects_are_pasted_whole_and_one_by_one():
    mask = torch.zeros(9, 9, dtype=torch.uint8)
    mask[1:3, 1:3] = mask[5:8, 5:8] = mask[3, 3] = 1  # a corner joins the first square and the pixel beside it
    image, donor = torch.zeros(1, 9, 9), torch.ones(1, 9, 9)
    found = set()
    for seed in range(20):
        mixed, labels = CopyPaste([1])(image, torch.zeros_like(mask), donor=(donor, mask), generator=seeded(seed))
        assert torch.equal(mixed[0].bool(), labels.bool())
        found.add((int(labels[:4, :4].sum()), int(labels[5:, 5:].sum())))
    assert found == {(0, 0), (5, 0), (0, 9), (5, 9)}


def test_a_moved_donor_brings_in_nothing_from_outside():
    images, masks = batch(2, 1, (31, 33))
    paste = CopyPaste([0, 1, 2, 3], share=1.0, transform=RandomAffine(45, translate=0.5))
    mixed, labels = paste(images[0] + 7, masks[0], donor=(images[1] + 7, masks[1]), generator=seeded(3))
    assert set(mixed.unique().tolist()) <= {7, 8}
    assert (mixed[0] == 8).any()
    assert (labels[mixed[0] == 8] != 255).all()


def test_the_rim_of_an_object_fades_and_is_ignored_where_asked():
    image, mask = torch.zeros(1, 21, 21), torch.zeros(21, 21, dtype=torch.uint8)
    donor_mask = mask.clone()
    donor_mask[4:17, 4:17] = 1
    donor = torch.full((1, 21, 21), 1.0), donor_mask
    mixed, labels = CopyPaste([1], share=1.0, edge=3, ignore_edge=True)(image, mask, donor=donor)
    assert mixed[0, 10].tolist()[:9] == [0.0] * 4 + [0.25, 0.5, 0.75, 1.0, 1.0]
    assert labels[10].tolist()[:9] == [0] * 4 + [255, 255, 255, 1, 1]
    plain = CopyPaste([1], share=1.0, edge=3)(image, mask, donor=donor)[1]
    assert torch.equal(plain, donor_mask), "the mask stays exact"


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.5, 1.0, 3.0])
def test_the_share_of_mix_up_has_a_beta_distribution(alpha):
    images = torch.zeros(20_000, 1, 1, 1)
    donor = torch.ones_like(images)
    masks = torch.zeros(20_000, 1, 1, dtype=torch.uint8)
    mixed, _ = MixUp(1, alpha=alpha)(images, masks, donor=(donor, masks), generator=seeded())
    shares = mixed.flatten().double().numpy()
    lower = shares[shares < 0.5]  # float32 has no numbers as near to 1 as to 0
    assert abs(len(lower) / len(shares) - 0.5) < 0.015
    cdf = distributions.beta(alpha, alpha).cdf
    assert distributions.kstest(lower, lambda x: 2 * cdf(x)).statistic < 0.02


def test_mix_up_gives_shares_that_every_loss_takes_and_leaves_out_what_either_picture_ignores():
    images, masks = batch(3)
    mixed, target = MixUp(4, alpha=1.0)(images, masks, generator=seeded())
    soft, weights = target["mask"], target["pixel_weights"]
    torch.testing.assert_close(soft.sum(1), torch.ones_like(weights))
    for i in range(3):
        counted = weights[i] > 0
        fits = [
            j
            for j in range(3)
            if j != i
            and torch.equal(counted, (masks[i] != 255) & (masks[j] != 255))
            and bool((soft[i].gather(0, masks[j].long().clamp(max=3)[None])[0][counted] > 0).all())
        ]
        assert fits, "the shares are those of the picture and of one other"
    logits = torch.randn(3, 4, 13, 17)
    loss = losses.functional.dice_ce(logits, soft, pixel_weights=weights)
    logits[:, 0][weights == 0] += 5
    torch.testing.assert_close(losses.functional.dice_ce(logits, soft, pixel_weights=weights), loss)


def test_a_donor_of_share_zero_ignores_nothing():
    images, masks = batch(2)
    masks[0], masks[1] = 1, 255
    _, target = MixUp(4, p=0.0)(images[0], masks[0], donor=(images[1], masks[1]))
    assert target["pixel_weights"].min() == 1
    assert torch.equal(target["mask"].argmax(0), masks[0].long())


@pytest.mark.parametrize("mix", [*PASTING.values(), MixUp(4)], ids=[*PASTING, "fade"])
def test_the_same_generator_gives_the_same_mix_also_after_pickling(mix):
    images, masks = batch()
    first, again = (
        mix(images, masks, generator=seeded(5)),
        pickle.loads(pickle.dumps(mix))(images, masks, generator=seeded(5)),
    )
    assert torch.equal(first[0], again[0])
    assert repr(mix).startswith(type(mix).__name__ + "(")


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: CutMix()(torch.zeros(3, 4, 4), torch.zeros(4, 4).byte()), ValueError, "MixDataset"),
        (lambda: CutMix()(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4).byte()), ValueError, "at least two"),
        (lambda: CutMix()(torch.zeros(2, 3, 4, 4), None), ValueError, "`mask` must be given"),
        (lambda: CutMix((0.5, 0.1)), ValueError, "low <= high"),
        (lambda: CutMix(1.5), ValueError, r"\[0, 1\]"),
        (lambda: CopyPaste([]), ValueError, "at least one class"),
        (lambda: CopyPaste([255]), ValueError, "must not hold the ignored label"),
        (lambda: MixUp(2)(torch.zeros(2, 1, 2, 2), torch.full((2, 2, 2), 3)), ValueError, r"got \[3\]"),
        (
            lambda: ClassMix()(*batch(2)[:2], donor=(torch.zeros(1, 3, 5, 5), torch.zeros(1, 5, 5).byte())),
            ValueError,
            "Crop both to one size",
        ),
        (lambda: MixDataset([1, 2], CutMix(), donors=[2]), ValueError, r"in \[0, 2\), got \[2\]"),
        (lambda: MixDataset([1, 2], None), TypeError, "`mix` must be callable"),
    ],
)
def test_what_cannot_be_is_refused(call, error, text):
    with pytest.raises(error, match=text):
        call()


def epoch(workers, start=None, persistent=False):
    dataset = MixDataset(Numbers(), CutMix(0.5), donors={1: [1, 5], 3: [3]})
    sampler = ShuffleSampler(len(dataset), seed=0)
    context = start if workers else None
    loader = DataLoader(dataset, 4, sampler=sampler, num_workers=workers, multiprocessing_context=context)
    return [(b["image"], b["mask"], b["donor"]) for b in loader]


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_keys_make_the_same_mixes_with_any_number_of_workers():
    expected = epoch(0)
    assert {int(d) for _, _, donors in expected for d in donors} == {1, 3, 5}
    # Fewer workers than batches, of which there are three, and more: a spawned one imports all anew.
    for workers, start in ((2, "fork"), (2, "spawn"), (8, "fork"), (4, "spawn")):
        for one, other in zip(epoch(workers, start), expected, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_donor_is_augmented_by_chance_of_its_own_and_asked_for_its_class():
    seen = []

    class Spy(Numbers):
        def __getitem__(self, index):
            seen.append(index)
            return super().__getitem__(index)

    dataset = MixDataset(Spy(), CutMix(0.5), donors={3: [3]})
    for key in ShuffleSampler(12, seed=0):
        dataset[key]
    pairs = list(zip(seen[::2], seen[1::2], strict=True))
    assert all((key.focus_class, donor.focus_class, int(donor)) == (None, 3, 3) for key, donor in pairs)
    draws = [[torch.rand((), generator=k.generator()).item() for k in pair] for pair in pairs]
    assert all(one != other for one, other in draws)


def test_the_class_that_a_balanced_sampler_draws_is_that_of_the_donor():
    frequencies = torch.zeros(12, 4)
    frequencies[torch.arange(12), torch.arange(12) % 4] = 16
    keys = list(ClassBalancedSampler(frequencies, seed=0))
    dataset = MixDataset(Numbers(), CutMix(0.5), donors={1: [1, 5], 3: [3]})
    donors = {key.focus_class: set() for key in keys}
    for key in keys * 3:
        donors[key.focus_class].add(dataset[key]["donor"])
    assert donors.keys() == {0, 1, 2, 3}
    assert donors[1] <= {1, 5}
    assert donors[3] == {3}


@pytest.mark.parametrize("mix", [CutMix(0.4), ClassMix(0.5), MixUp(5, alpha=1.0)])
def test_mixing_a_batch_asks_nothing_of_the_device_and_takes_the_same_operators_for_every_size(mix):
    counts = []
    for count in (2, 32):
        images, masks = batch(count, size=(16, 16), dtype=torch.float32)
        masks[masks == 255] = 4
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            mix(images, masks, generator=seeded(1))
        counts.append(len(seen.events()))
    assert counts[0] == counts[1]
    mixed, _ = mix(images.to("meta"), masks.to("meta"))
    assert mixed.device.type == "meta"


def test_tuples_stay_tuples():
    samples = [(torch.zeros(1, 2, 2), torch.full((2, 2), i), f"{i}.png") for i in range(2)]
    image, mask, name = MixDataset(samples, CutMix(1.0), donors=[1])[0]
    assert (mask.tolist(), name) == ([[1, 1], [1, 1]], "0.png")
