"""The counts are exact, whatever comes in, and the numbers are the formulas on the counts."""

from __future__ import annotations

import itertools
import json
import math
import pickle

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from hypothesis import given, settings
from hypothesis import strategies as st

from preloaded import START
from segkit import labels
from segkit.errors import DataError
from segkit.metrics import ConfusionMatrix

INTEGERS = ("uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64")


def naive_counts(prediction, target, classes, ignored=(255,)):
    """[C][C] by a loop over pixels."""
    counts = [[0] * classes for _ in range(classes)]
    for p, t in zip(np.ravel(prediction).tolist(), np.ravel(target).tolist(), strict=True):
        if t not in ignored:
            counts[t][p] += 1
    return counts


def labelled(seed, shape, classes, ignored=255):
    """Prediction and target, int64; a tenth of the target ignored."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, classes, shape)
    target[rng.random(shape) < 0.1] = ignored
    return torch.from_numpy(rng.integers(0, classes, shape)), torch.from_numpy(target)


# The class of a pixel -------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=80)
@given(
    shape=st.tuples(st.integers(0, 3), st.integers(1, 6), st.integers(1, 5), st.integers(1, 7)),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    special=st.sampled_from([0.0, -math.inf, math.inf, math.nan]),
    layout=st.sampled_from(["contiguous", "channels last", "every second"]),
    seed=st.integers(0, 99),
)
def test_the_class_of_a_pixel_is_argmax_with_ties_infinities_and_nan(shape, dtype, special, layout, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randint(-2, 3, shape, generator=generator).to(dtype)  # many ties
    logits[torch.rand(shape, generator=generator) < 0.2] = special
    if layout == "channels last":
        logits = logits.contiguous(memory_format=torch.channels_last)
    elif layout == "every second":
        logits = logits.repeat_interleave(2, -1)[..., ::2]
    assert torch.equal(labels.from_logits(logits).long(), logits.argmax(1))
    assert torch.equal(labels.from_logits(logits.movedim(1, 0), axis=0).long(), logits.argmax(1))


@pytest.mark.parametrize(
    "shape", [(2, 3, 700, 800), (1, 3, 1, 600_000), (1, 2, 600_000, 1), (3, 2, 400_000), (2, 300, 9)]
)
def test_the_class_of_a_pixel_is_argmax_across_blocks(shape):
    logits = torch.randint(0, 5, shape, generator=torch.Generator().manual_seed(1)).float()
    logits[0, 1].view(-1)[-1] = math.nan
    found = labels.from_logits(logits)
    assert torch.equal(found.long(), logits.argmax(1))
    assert found.dtype == (torch.int16 if shape[1] > 256 else torch.uint8)


def test_labels_are_no_logits():
    with pytest.raises(TypeError, match=r"from_logits: `logits` must be floating point, got torch.int64"):
        labels.from_logits(torch.zeros(1, 2, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"`axis` must be one of classes in \[3\], got 1"):
        labels.from_logits(torch.zeros(3))


# Counting -------------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=100)
@given(
    classes=st.integers(1, 300),
    shape=st.sampled_from([(3,), (1, 7), (2, 3, 5), (2, 0, 5), (2, 1, 3, 4)]),
    kinds=st.tuples(st.sampled_from(INTEGERS), st.sampled_from(INTEGERS)),
    ignore=st.sampled_from([255, 0, -1, -100, 65535, None, (255, 1)]),
    seed=st.integers(0, 99),
)
def test_counts_equal_a_loop_for_every_shape_dtype_and_ignored_label(classes, shape, kinds, ignore, seed):
    kinds = [np.dtype(kind) for kind in kinds]
    ignored = () if ignore is None else ignore if isinstance(ignore, tuple) else (ignore,)
    classes = min(classes, *(np.iinfo(kind).max for kind in kinds))
    rng = np.random.default_rng(seed)
    prediction, target = rng.integers(0, classes, shape), rng.integers(0, classes, shape)
    for label in ignored:
        if np.iinfo(kinds[1]).min <= label <= np.iinfo(kinds[1]).max:
            target[rng.random(shape) < 0.2] = label
    confusion = ConfusionMatrix(classes, ignore_index=ignore)
    confusion.update(prediction.astype(kinds[0]), target.astype(kinds[1]))
    assert confusion.counts.tolist() == naive_counts(prediction, target, classes, ignored)


def test_counts_equal_those_of_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics")
    prediction, target = labelled(0, (3, 20, 30), 6)
    confusion = ConfusionMatrix(6)
    confusion.update(prediction, target)
    valid = target != 255
    t, p = target[valid].numpy(), prediction[valid].numpy()
    assert confusion.counts.tolist() == sklearn.confusion_matrix(t, p, labels=range(6)).tolist()
    scores = sklearn.precision_recall_fscore_support(t, p, labels=range(6))
    for mine, theirs in zip((confusion.precision(), confusion.recall(), confusion.dice()), scores, strict=False):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12)
    np.testing.assert_allclose(confusion.iou(), sklearn.jaccard_score(t, p, labels=range(6), average=None), rtol=1e-12)
    assert confusion.accuracy() == pytest.approx(sklearn.accuracy_score(t, p), rel=1e-12)


@pytest.mark.parametrize("form", ["logits", "probabilities", "half", "one image", "[B, 1, H, W]", "one-hot", "arrays"])
def test_what_networks_and_loaders_hand_out_is_counted_alike(form):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 6, 5, generator=generator).half().float()
    target = torch.randint(0, 4, (2, 6, 5), generator=generator, dtype=torch.uint8)
    expected = naive_counts(logits.argmax(1), target, 4)
    confusion = ConfusionMatrix(4)
    if form == "one image":
        for one, truth in zip(logits, target, strict=True):
            confusion.update(one, truth)
    elif form == "arrays":
        confusion.update(logits.argmax(1).numpy().astype(">i4"), target.numpy()[:, ::-1, ::-1][:, ::-1, ::-1])
    else:
        given_target = {"[B, 1, H, W]": target[:, None], "one-hot": labels.one_hot(target, 4)}.get(form, target)
        given_logits = {"probabilities": logits.double().softmax(1), "half": logits.half()}.get(form, logits)
        confusion.update(given_logits.requires_grad_(), given_target)
    assert confusion.counts.tolist() == expected


def test_a_volume_larger_than_a_block_is_counted_whole():
    prediction, target = labelled(3, (1, 3, 700, 800), 5)
    confusion = ConfusionMatrix(5)
    confusion.update(prediction.to(torch.uint8), target.to(torch.uint8))
    valid = target != 255
    expected = torch.bincount(target[valid] * 5 + prediction[valid], minlength=25).view(5, 5)
    assert torch.equal(confusion.counts, expected)


def test_changing_the_prediction_of_ignored_pixels_changes_nothing():
    prediction, target = labelled(1, (2, 30, 40), 5)
    one, two = (ConfusionMatrix(5, per_image=True, boundary=0.05) for _ in range(2))
    one.update(prediction, target)
    two.update(torch.where(target == 255, (prediction + 1) % 5, prediction), target)
    assert one.state_dict() == two.state_dict()


def test_a_padded_border_that_is_ignored_changes_nothing():
    prediction, target = labelled(1, (1, 30, 40), 5)
    one, two = ConfusionMatrix(5, boundary=1.5 / 50), ConfusionMatrix(5, boundary=1.5 / math.hypot(40, 60))
    one.update(prediction, target)
    pad = torch.nn.functional.pad
    two.update(pad(prediction, (10, 10, 5, 5)), pad(target, (10, 10, 5, 5), value=255))
    assert torch.equal(one.counts, two.counts)
    assert torch.equal(one.boundary_iou(), two.boundary_iou())


def test_update_does_not_wait_for_an_accelerator():
    """A meta tensor has no numbers: whatever would fetch one raises."""
    logits = torch.empty(2, 4, 6, 5, device="meta")
    target = torch.empty(2, 6, 5, dtype=torch.uint8, device="meta")
    with pytest.raises((NotImplementedError, RuntimeError)):
        torch.bincount(target.flatten())
    confusion = ConfusionMatrix(4, per_image=True, boundary=0.1)
    confusion.update(logits, target)
    confusion.update(target, target)


def test_the_way_of_an_accelerator_gives_the_same_counts(monkeypatch):
    from segkit.metrics import _count

    prediction, target = labelled(5, (3, 9, 8), 4)
    flat = prediction.reshape(3, -1), target.reshape(3, -1)
    expected = _count.count_pairs(*flat, 4, (255,))

    class Elsewhere:
        """A tensor that says that it is on another device."""

        def __init__(self, tensor):
            self.tensor = tensor

        def __getattr__(self, name):
            return torch.device("cuda") if name == "device" else getattr(self.tensor, name)

    monkeypatch.setattr(_count, "_codes", lambda p, t, *rest, f=_count._codes: f(p.tensor, t, *rest))
    assert torch.equal(_count.count_pairs(Elsewhere(flat[0]), flat[1], 4, (255,)), expected)


# Numbers --------------------------------------------------------------------------------------------------------------


def test_an_absent_class_is_nan_and_left_out_of_the_mean():
    confusion = ConfusionMatrix(4)
    confusion.update(torch.tensor([[0, 0, 2, 1]]), torch.tensor([[0, 1, 1, 1]]))
    expected = {"iou": [1 / 2, 1 / 3, 0, None], "dice": [2 / 3, 1 / 2, 0, None]}
    expected |= {"precision": [1 / 2, 1, 0, None], "recall": [1, 1 / 3, None, None]}
    for name, values in expected.items():
        found = [None if v != v else v for v in getattr(confusion, name)().tolist()]
        assert found == pytest.approx(values), name
        there = [v for v in values if v is not None]
        assert getattr(confusion, f"mean_{name}")() == pytest.approx(sum(there) / len(there)), name
    assert confusion.accuracy() == 0.5


def test_a_class_that_is_ignored_is_not_judged():
    confusion = ConfusionMatrix(3, ignore_index=0, per_image=True)
    confusion.update(torch.tensor([[0, 0, 1, 2]]), torch.tensor([[0, 1, 1, 2]]))
    assert confusion.counts.tolist() == [[0, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert confusion.iou().isnan().tolist() == [True, False, False]
    assert confusion.mean_iou() == pytest.approx(0.75)
    assert confusion.mean_iou(per="image") == pytest.approx(0.75)
    assert confusion.accuracy() == pytest.approx(2 / 3)


def test_nothing_counted_is_nan_and_no_error():
    confusion = ConfusionMatrix(3, per_image=True, boundary=0.02)
    values = [
        confusion.mean_iou(),
        confusion.accuracy(),
        confusion.mean_iou(per="image"),
        confusion.mean_boundary_iou(),
    ]
    confusion.update(torch.zeros(2, 4, 4, dtype=torch.uint8), torch.full((2, 4, 4), 255, dtype=torch.uint8))
    values += [confusion.mean_iou(), confusion.mean_dice(per="class"), confusion.mean_recall()]
    assert all(value != value for value in values)


def naive_fine_grained(prediction, target, classes, worst):
    """(mIoU-I, mIoU-C) of the paper by loops, over the lowest share of images."""
    rows = []
    for p, t in zip(prediction, target, strict=True):
        row = {}
        for c in range(classes):
            truth, found = (t == c), (p == c) & (t != 255)
            if truth.any():
                row[c] = int((truth & found).sum()) / int((truth | found).sum())
        rows.append(row)

    def lowest(values):
        kept = sorted(values)[: max(1, int(worst * len(values)))]
        return sum(kept) / len(kept)

    by_image = lowest([sum(row.values()) / len(row) for row in rows if row])
    by_class = [[row[c] for row in rows if c in row] for c in range(classes)]
    means = [lowest(values) for values in by_class if values]
    return by_image, sum(means) / len(means)


@pytest.mark.parametrize("worst", [1.0, 0.3, 0.01])
def test_means_over_images_and_their_worst_cases_follow_the_paper(worst):
    rng = np.random.default_rng(0)
    target = rng.integers(0, 4, (13, 6, 7))
    prediction = np.where(rng.random(target.shape) < rng.random((13, 1, 1)), target, rng.integers(0, 4, target.shape))
    target[3][target[3] == 1] = 255  # a class that this image lacks
    target[5] = 255  # an image without any
    confusion = ConfusionMatrix(4, per_image=True)
    for part in (slice(0, 4), slice(4, 5), slice(5, 13)):
        confusion.update(prediction[part], target[part])
    image, per_class = naive_fine_grained(prediction, target, 4, worst)
    assert confusion.mean_iou(per="image", worst=worst) == pytest.approx(image)
    assert confusion.mean_iou(per="class", worst=worst) == pytest.approx(per_class)
    scores = confusion.per_image_iou()
    assert scores.shape == (13, 4)
    assert scores[3].isnan().tolist() == [False, True, False, False]
    np.testing.assert_allclose(confusion.per_image_dice(), 2 * scores / (1 + scores), rtol=1e-12)


def naive_boundary_iou(prediction, target, classes, ratio):
    """The authors' definition by brute force: a mask without its erosion by `d` steps of 3 x 3, zeros outside."""
    height, width = target.shape
    distance = max(1, round(ratio * math.hypot(height, width)))

    def boundary(mask):
        inside = mask.copy()
        for _ in range(distance):
            padded = np.pad(inside, 1)
            shifts = itertools.product((0, 1, 2), (0, 1, 2))
            inside = np.logical_and.reduce([padded[y : y + height, x : x + width] for y, x in shifts])
        return mask & ~inside

    values = []
    for c in range(classes):
        one, two = boundary(target == c), boundary(prediction == c)
        union = (one | two).sum()
        values.append((one & two).sum() / union if union else np.nan)
    return values


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    ratio=st.sampled_from([0.02, 0.05, 0.2]),
    cell=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_boundary_iou_equals_the_authors_formula_by_brute_force(height, width, ratio, cell, seed):
    rng = np.random.default_rng(seed)

    def areas():
        small = rng.integers(0, 3, (height // cell + 1, width // cell + 1))
        return np.kron(small, np.ones((cell, cell), int))[:height, :width]

    target = areas()
    prediction = np.where(rng.random(target.shape) < 0.9, target, areas())
    confusion = ConfusionMatrix(3, boundary=ratio)
    confusion.update(prediction[None], target[None].astype(np.uint8))
    np.testing.assert_allclose(confusion.boundary_iou(), naive_boundary_iou(prediction, target, 3, ratio))


def test_boundaries_of_images_are_added_up_and_of_volumes_taken_in_all_directions():
    prediction, target = labelled(2, (4, 20, 30), 3)
    both, single = ConfusionMatrix(3, boundary=0.05), ConfusionMatrix(3, boundary=0.05)
    both.update(prediction, target)
    for p, t in zip(prediction, target, strict=True):
        single.update(p, t)
    assert torch.equal(both.boundary_iou(), single.boundary_iou())
    volume = torch.zeros(1, 9, 9, 9, dtype=torch.uint8)
    solid = ConfusionMatrix(1, boundary=0.13)  # two voxels
    solid.update(volume, volume)
    assert int(solid._edges[2, 0]) == 9**3 - 5**3


# Adding up ------------------------------------------------------------------------------------------------------------


def test_parts_add_up_to_the_whole_in_merge_and_in_a_state_that_went_through_json():
    prediction, target = labelled(4, (6, 8, 9), 4)
    options = {"per_image": True, "boundary": 0.1}
    whole, first, second = (ConfusionMatrix(4, **options) for _ in range(3))
    whole.update(prediction, target)
    first.update(prediction[:2], target[:2])
    second.update(prediction[2:], target[2:])
    loaded = ConfusionMatrix(4, **options)
    loaded.load_state_dict(json.loads(json.dumps(second.state_dict())))
    before = second.state_dict()
    assert first.merge(pickle.loads(pickle.dumps(loaded))) is first
    assert first.state_dict() == whole.state_dict()
    assert loaded.state_dict() == before
    first.reset()
    assert int(first.counts.sum()) == 0


def rank(number, world, folder):
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=number, world_size=world)
    prediction, target = labelled(4, (7, 8, 9), 4)
    confusion = ConfusionMatrix(4, per_image=True, boundary=0.1)
    mine = slice(*((0, 5), (5, 5), (5, 7))[number])  # one rank saw nothing
    confusion.update(prediction[mine], target[mine])
    confusion.all_reduce("world")
    torch.save(confusion.state_dict(), f"{folder}/{number}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_all_ranks_end_as_one_process_would(tmp_path):
    mp.start_processes(rank, (3, str(tmp_path)), nprocs=3, start_method=START)
    prediction, target = labelled(4, (7, 8, 9), 4)
    one = ConfusionMatrix(4, per_image=True, boundary=0.1)
    one.update(prediction, target)
    assert one.all_reduce() is one  # without a group nothing happens
    for number in range(3):
        assert torch.load(f"{tmp_path}/{number}.pt") == one.state_dict()


# Showing and refusing -------------------------------------------------------------------------------------------------


def test_the_table_has_a_line_for_each_class_and_one_for_the_means():
    confusion = ConfusionMatrix(3)
    confusion.update(torch.tensor([[0, 1, 1]]), torch.tensor([[0, 0, 1]]))
    lines = confusion.table(["road", "tree", "water"]).splitlines()
    assert lines[0].split() == ["IoU", "Dice", "precision", "recall", "pixels"]
    assert lines[1].split() == ["road", "0.500", "0.667", "1.000", "0.500", "2"]
    assert lines[3].split() == ["water", "-", "-", "-", "-", "0"]
    assert lines[4].split() == ["mean", "0.500", "0.667", "0.750", "0.750", "3"]
    assert str(confusion).splitlines()[1].split()[0] == "0"
    assert repr(confusion) == "ConfusionMatrix(3, ignore_index=255, per_image=False, boundary=None)"


def test_the_picture_has_the_names_on_both_axes(tmp_path):
    pytest.importorskip("matplotlib")
    confusion = ConfusionMatrix(2)
    confusion.update(torch.tensor([[0, 1, 1]]), torch.tensor([[0, 0, 1]]))
    figure = confusion.plot(["road", "tree"])
    figure.savefig(tmp_path / "confusion.png")
    (axes,) = figure.axes
    for marks in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [mark.get_text() for mark in marks] == ["road", "tree"]


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (ValueError, r"`num_classes` must be an int of at least 1, got 0", lambda c: ConfusionMatrix(0)),
        (ValueError, r"`num_classes` must be an int of at least 1, got True", lambda c: ConfusionMatrix(True)),
        (
            TypeError,
            r"`ignore_index` must be an int, ints or None, got 'no'",
            lambda c: ConfusionMatrix(2, ignore_index="no"),
        ),
        (ValueError, r"`boundary` must be a fraction .* got 2. Take 0.02", lambda c: ConfusionMatrix(2, boundary=2)),
        (
            DataError,
            r"`target` must be in \[0, 3\) or 255 \(ignored\), got others on 1 pixels",
            lambda c: c.update(L(0, 1), L(3, 1)),
        ),
        (DataError, r"`target` .* got others on 2 pixels", lambda c: c.update(L(0, 1), L(-1, -2))),
        (DataError, r"`prediction` must be in \[0, 3\), got others on 1", lambda c: c.update(L(9, 1), L(2, 1))),
        (ValueError, r"pass logits\[:, 0\] > 0", lambda c: c.update(torch.zeros(2, 1, 4), L(0, 1))),
        (ValueError, r"pass prediction.to\(torch.uint8\)", lambda c: c.update(torch.zeros(1, 2), L(0, 1))),
        (TypeError, r"got dict. Pass the output that counts", lambda c: c.update({"out": 1}, L(0, 1))),
        (TypeError, r"`target` must hold integer class indices", lambda c: c.update(L(0, 1), torch.zeros(1, 2))),
        (ValueError, r"`target` must be \[B, \*spatial\]", lambda c: c.update(L(0, 1), L(0, 1, 2))),
        (
            ValueError,
            r"must be where `prediction` is, on cpu, got meta",
            lambda c: c.update(L(0, 1), L(0, 1).to("meta")),
        ),
        (ValueError, r"merge: `other` must be made as ConfusionMatrix\(3, ", lambda c: c.merge(ConfusionMatrix(2))),
        (ValueError, r"per_image_iou: images were not kept. Make it with per_image=True", lambda c: c.per_image_iou()),
        (ValueError, r"Make it with boundary=0.02", lambda c: c.boundary_iou()),
        (ValueError, r'`per` must be "dataset", "image" or "class", got \'pixel\'', lambda c: c.mean_iou(per="pixel")),
        (ValueError, r"`worst` must be in \(0, 1\], got 5", lambda c: c.mean_iou(per="image", worst=5)),
        (ValueError, r'`worst` needs per="image"', lambda c: c.mean_dice(worst=0.5)),
        (ValueError, r"`names` must be one for each of the 3 classes, got 1", lambda c: c.table(["a"])),
        (DataError, r"must be what state_dict\(\) returned", lambda c: c.load_state_dict({"counts": []})),
        (DataError, r"got one with {'num_classes': 2}", lambda c: c.load_state_dict(ConfusionMatrix(2).state_dict())),
    ],
)
def test_what_cannot_be_counted_is_refused_in_a_sentence(error, message, call):
    confusion = ConfusionMatrix(3)
    with pytest.raises(error, match=message):
        call(confusion)
    assert int(confusion.counts.sum()) == 0


def L(*values):
    return torch.tensor([values])
