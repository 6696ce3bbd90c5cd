"""Samples as users nest them become one batch; what does not fit is named in full."""

from __future__ import annotations

import functools
import pathlib
import types
from collections import OrderedDict, defaultdict, deque
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, default_collate

from segkit.collate import crop_stack_collate, list_collate, pad_collate, resize_collate, stack_collate


class Sample(NamedTuple):
    image: torch.Tensor
    mask: torch.Tensor


class Key(int):
    """An int that carries more, as a sampler's key does."""


def sample(height=4, width=5, channels=3, index=0, **more):
    image = torch.rand(channels, height, width, generator=torch.Generator().manual_seed(index))
    mask = torch.full((height, width), index, dtype=torch.uint8)
    return {"image": image, "mask": mask, "index": index, **more}


def test_equal_samples_are_stacked_as_torch_does_it():
    batch = [sample(index=i, weight=0.5 * i, nested={"a": torch.arange(3) + i, "b": [i, float(i)]}) for i in range(3)]
    ours, theirs = stack_collate(batch), default_collate(batch)
    assert torch.equal(ours["image"], theirs["image"])
    assert torch.equal(ours["mask"], theirs["mask"])
    assert ours["index"].tolist() == [0, 1, 2]
    assert ours["index"].dtype == torch.int64
    assert torch.equal(ours["nested"]["a"], theirs["nested"]["a"])
    assert [part.tolist() for part in ours["nested"]["b"]] == [[0, 1, 2], [0.0, 1.0, 2.0]]


def test_every_container_comes_back_as_its_own_kind():
    image, mask = torch.zeros(1, 2, 2), torch.zeros(2, 2, dtype=torch.uint8)
    assert isinstance(stack_collate([Sample(image, mask)] * 2), Sample)
    assert isinstance(stack_collate([(image, mask)] * 2), tuple)
    assert isinstance(stack_collate([[image, mask]] * 2), list)
    assert isinstance(stack_collate([OrderedDict(image=image)] * 2), OrderedDict)
    assert stack_collate([types.MappingProxyType({"image": image})] * 2)["image"].shape == (2, 1, 2, 2)
    assert stack_collate([image] * 2).shape == (2, 1, 2, 2)


def test_arrays_numbers_text_and_nothing():
    batch = stack_collate(
        [
            {
                "array": np.full((2, 2), i, np.int16),
                "scalar": np.float32(i),
                "flag": i == 1,
                "key": Key(i),
                "path": pathlib.Path(f"{i}.png"),
                "name": f"{i}",
                "absent": None,
                "readonly": np.broadcast_to(np.uint8(i), (3,)),
            }
            for i in range(2)
        ]
    )
    assert batch["array"].dtype == torch.int16
    assert batch["array"].shape == (2, 2, 2)
    assert batch["scalar"].dtype == torch.float32
    assert batch["flag"].tolist() == [False, True]
    assert batch["flag"].dtype == torch.bool
    assert batch["key"].tolist() == [0, 1]
    assert batch["path"] == [pathlib.Path("0.png"), pathlib.Path("1.png")]
    assert batch["name"] == ["0", "1"]
    assert batch["absent"] is None
    assert batch["readonly"].tolist() == [[0, 0, 0], [1, 1, 1]]


def test_ragged_samples_are_padded_below_and_to_the_right():
    sizes = [(4, 5), (7, 3), (6, 6)]
    batch = [
        sample(h, w, index=i, vector=torch.ones(2), box=torch.eye(2), distances=torch.rand(4, h, w))
        for i, (h, w) in enumerate(sizes)
    ]
    padded = pad_collate(batch, multiple_of=4, image_fill=-1, return_valid=True)
    assert padded["image"].shape == (3, 3, 8, 8)
    assert padded["mask"].shape == (3, 8, 8)
    assert padded["distances"].shape == (3, 4, 8, 8)
    assert padded["vector"].shape == (3, 2)
    assert padded["box"].shape == (3, 2, 2)
    for i, (h, w) in enumerate(sizes):
        inside = torch.zeros(8, 8, dtype=torch.bool)
        inside[:h, :w] = True
        assert torch.equal(padded["valid"][i], inside)
        assert torch.equal(padded["image"][i, :, :h, :w], batch[i]["image"])
        assert (padded["image"][i, :, ~inside] == -1).all()
        assert (padded["mask"][i][inside] == i).all()
        assert (padded["mask"][i][~inside] == 255).all()


def test_targets_that_a_transform_made_of_the_mask_are_padded_with_it():
    targets = {"mask": torch.zeros(2, 3, dtype=torch.uint8), "distance_maps": torch.ones(4, 2, 3)}
    padded = pad_collate([{"image": torch.zeros(1, 2, 3), "mask": targets}], multiple_of=4)
    assert padded["mask"]["mask"][0, -1].tolist() == [255] * 4
    assert padded["mask"]["distance_maps"][0, :, -1].tolist() == [[0] * 4] * 4


def test_padding_nothing_is_stacking():
    batch = [sample(index=i) for i in range(3)]
    assert torch.equal(pad_collate(batch)["image"], stack_collate(batch)["image"])


def test_the_valid_mask_finds_its_place_in_every_container():
    image, mask = torch.zeros(1, 2, 2, dtype=torch.uint8), torch.zeros(2, 2, dtype=torch.uint8)
    assert pad_collate([(image, mask)] * 2, return_valid=True)[2].shape == (2, 2, 2)
    batch, valid = pad_collate([Sample(image, mask)] * 2, return_valid=True)
    assert isinstance(batch, Sample)
    assert valid.all()
    grey, valid = pad_collate([torch.zeros(2, 3), torch.zeros(4, 1)], return_valid=True)
    assert grey.shape == valid.shape == (2, 4, 3)
    with pytest.raises(ValueError, match="free for return_valid"):
        pad_collate([{"image": image, "valid": 1}], return_valid=True)


def test_integer_images_and_masks_are_told_apart_by_name_or_axes():
    image, mask = torch.zeros(1, 2, 2, dtype=torch.uint8), torch.zeros(2, 2, dtype=torch.uint8)
    images, masks = pad_collate([(image, mask)] * 2, multiple_of=3)
    assert images.max() == 0
    assert masks.max() == 255
    named = pad_collate([{"label_map": image, "image": image}], multiple_of=3)
    assert named["label_map"].max() == 255
    assert named["image"].max() == 0


def test_crop_stacks_become_one_batch_of_crops():
    batch = [
        {
            "image": torch.rand(5, 3, 8, 8),
            "mask": torch.zeros(5, 8, 8, dtype=torch.uint8),
            "index": i,
            "vector": torch.ones(5),
        }
        for i in range(2)
    ]
    joined = crop_stack_collate(batch)
    assert torch.equal(joined["image"], torch.cat([each["image"] for each in batch]))
    assert joined["mask"].shape == (10, 8, 8)
    assert joined["index"].tolist() == [0, 1]
    assert joined["vector"].shape == (2, 5)


def test_ragged_samples_are_resized_with_masks_nearest():
    sizes = [(4, 5), (9, 3), (6, 7)]
    batch = [sample(h, w, index=i, vector=torch.ones(2)) for i, (h, w) in enumerate(sizes)]
    for each, (h, w) in zip(batch, sizes, strict=True):
        each["mask"] = torch.randint(5, (h, w), generator=torch.Generator().manual_seed(h), dtype=torch.uint8)
        each["deep"] = torch.full((2, h, w), 60_000, dtype=torch.int32)
        each["seen"] = each["mask"] > 2
    resized = resize_collate(batch, size=(6, 7))
    assert resized["image"].shape == (3, 3, 6, 7)
    assert torch.equal(resized["image"][2], batch[2]["image"])
    assert (resized["deep"] == 60_000).all()
    assert resized["deep"].dtype == torch.int32
    assert resized["vector"].shape == (3, 2)
    for i, (h, w) in enumerate(sizes):
        rows = [int((r + 0.5) * h / 6) for r in range(6)]
        columns = [int((c + 0.5) * w / 7) for c in range(7)]
        assert torch.equal(resized["mask"][i], batch[i]["mask"][rows][:, columns])
        assert torch.equal(resized["seen"][i], batch[i]["seen"][rows][:, columns])
    ramp = torch.arange(8.0).expand(1, 8, 8)
    assert torch.allclose(resize_collate([ramp], size=4)[0, 0, 1, 1:3], torch.tensor([2.5, 4.5]))  # edges stay edges


IMAGE = torch.rand(3, 2, 3)
GREY = torch.zeros(1, 2, 3, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("beside", "tensor", "is_mask"),
    [
        ("seg", torch.ones(2, 3, dtype=torch.uint8), True),
        ("gt", torch.ones(1, 2, 3, dtype=torch.int64), True),
        ("x", torch.ones(5, 2, 3, dtype=torch.uint8), True),  # labels that overlap, or one mask an object
        ("x", torch.ones(3, 2, 3, dtype=torch.int16), True),
        ("probabilities", torch.rand(4, 2, 3), False),
        ("mask_logits", torch.rand(4, 2, 3), False),
        ("weights", torch.rand(2, 3), False),
        ("depth", torch.rand(1, 2, 3), False),
        ("depth", torch.ones(2, 3, dtype=torch.int32), False),
        ("label", torch.ones(1, 2, 3), True),  # MONAI's masks
        ("GT", torch.ones(2, 3), True),
    ],
)
@pytest.mark.parametrize("kind", ["dict", "nested"])
def test_what_is_a_mask_is_decided_by_dtype_and_shape_beside_the_image(kind, beside, tensor, is_mask):
    parts = {beside: tensor} if kind == "dict" else {"others": {beside: tensor}}
    batch = [{"image": IMAGE, **parts}] * 2
    padded = pad_collate(batch, multiple_of=4, image_fill=7)
    padded = padded[beside] if kind == "dict" else padded["others"][beside]
    assert (padded[..., 2:, :] == (255 if is_mask else 7)).all()
    resized = resize_collate([{"image": IMAGE, **parts}], size=(3, 5))
    resized = resized[beside] if kind == "dict" else resized["others"][beside]
    assert set(resized.unique().tolist()) <= set(tensor.unique().tolist()) or not is_mask


@pytest.mark.parametrize(
    ("sample", "name"),
    [
        ({"image": IMAGE, "x": torch.ones(1, 2, 3)}, "'x'"),
        ({"image": IMAGE, "x": torch.ones(2, 3)}, "'x'"),
        ((IMAGE, torch.ones(1, 2, 3)), "1"),
        ({"image": GREY, "x": GREY}, "'x'"),
        ({"image": {"a": IMAGE}, "b": [torch.ones(2, 3)]}, None),
    ],
)
def test_what_may_be_a_mask_or_an_image_is_refused_until_it_is_said(sample, name):
    for collate in (functools.partial(pad_collate, multiple_of=4), functools.partial(resize_collate, size=3)):
        with pytest.raises(ValueError, match=r"must be known as a mask or as an image, got .* Say images=\("):
            collate([sample])
        if name is None:
            continue
        place = int(name) if name.isdigit() else name.strip("'")
        both = [collate([sample], **{said: (place,)}) for said in ("masks", "images")]
        if collate.func is pad_collate:
            assert [batch[place].max().item() for batch in both] == [255, sample[place].max().item()]


def test_what_is_said_of_a_tensor_must_be_there():
    with pytest.raises(ValueError, match=r"`masks` must name tensors of a sample, got \['gt'\]; there are \['image'"):
        pad_collate([sample()], masks=("gt",))
    with pytest.raises(TypeError, match=r"`masks` must be several names, got 'mask'. Write \('mask',\)"):
        pad_collate([sample()], masks="mask")
    with pytest.raises(ValueError, match="`lists` must name tensors"):
        stack_collate([sample()], lists=("boxes",))


def test_boxes_and_instance_masks_stay_lists_beside_stacked_images():
    batch = [
        sample(4, 5, index=0, boxes=torch.ones(2, 4), objects=torch.ones(2, 4, 5, dtype=torch.uint8)),
        sample(4, 5, index=1, boxes=torch.zeros(0, 4), objects=torch.zeros(0, 4, 5, dtype=torch.uint8)),
    ]
    with pytest.raises(ValueError, match=r"'boxes' must have one shape .* give lists=\('boxes',\), or use"):
        stack_collate(batch)
    stacked = stack_collate(batch, lists=("boxes", "objects"))
    assert stacked["image"].shape == (2, 3, 4, 5)
    assert [boxes.shape for boxes in stacked["boxes"]] == [(2, 4), (0, 4)]
    padded = pad_collate(batch, multiple_of=8, lists=("boxes", "objects"))
    assert [objects.shape for objects in padded["objects"]] == [(2, 8, 8), (0, 8, 8)]
    assert (padded["objects"][0][:, 4:] == 255).all()
    resized = resize_collate(batch, size=(8, 10), lists=("boxes", "objects"))
    assert [objects.shape for objects in resized["objects"]] == [(2, 8, 10), (0, 8, 10)]
    pairs = stack_collate([(IMAGE, torch.ones(1, 4)), (IMAGE, torch.ones(3, 4))], lists=(1,))
    assert [len(boxes) for boxes in pairs[1]] == [1, 3]


def test_numbers_and_containers_are_kept_as_torch_keeps_them():
    batch = [{"a": 0.1, "b": [1, 2], "c": defaultdict(int, n=1), "d": deque([1.5])}] * 2
    ours, theirs = stack_collate(batch), default_collate(batch)
    for key in "ab":
        one, other = (part[key] if key == "a" else part[key][0] for part in (ours, theirs))
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    assert ours["a"].tolist() == [0.1, 0.1], "a Python float is not rounded"
    assert type(ours["c"]) is defaultdict
    assert type(ours["d"]) is deque
    assert stack_collate([1, 2.5]).tolist() == [1, 2.5]
    assert stack_collate([range(2)] * 2)[1].tolist() == [1, 1]


def test_tensors_of_other_classes_become_plain_ones():
    class Meta(torch.Tensor):
        pass

    image, mask = torch.rand(1, 2, 2).as_subclass(Meta), torch.ones(2, 2, dtype=torch.uint8).as_subclass(Meta)
    for collate in (stack_collate, pad_collate, functools.partial(resize_collate, size=3)):
        assert {type(part) for part in collate([(image, mask)] * 2)} == {torch.Tensor}


def test_samples_of_any_kind_are_kept_in_lists():
    batch = list_collate([sample(path="a.png"), sample(7, 3, channels=5, index=4, path="b.png")])
    assert [image.shape for image in batch["image"]] == [(3, 4, 5), (5, 7, 3)]
    assert batch["index"].tolist() == [0, 4]
    assert batch["path"] == ["a.png", "b.png"]


class Ragged(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return sample(4 + index % 3, 5, index=index)


class CountsCopies:
    """A collate function that also tells how its tensors came into shared memory."""

    def __init__(self, collate):
        self.collate = collate

    def __call__(self, batch):
        made, original = [], torch.UntypedStorage._new_shared

        def new_shared(size, **keywords):
            made.append(size)
            return original(size, **keywords)

        torch.UntypedStorage._new_shared = new_shared
        try:
            combined = self.collate(batch)
        finally:
            torch.UntypedStorage._new_shared = original
        shared = [tensor.is_shared() for tensor in (combined["image"], combined["mask"])]
        return {**combined, "made": sorted(made), "shared": shared}


COLLATES = [pad_collate, functools.partial(resize_collate, size=4)]


@pytest.mark.parametrize("collate", COLLATES, ids=["pad", "resize"])
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_a_worker_writes_a_batch_once_into_shared_memory(context, collate):
    loader = DataLoader(
        Ragged(), 4, num_workers=1, collate_fn=CountsCopies(collate), multiprocessing_context=context, timeout=60
    )
    for batch in loader:
        # made: one block for the masks and one for the images, of exactly their bytes, and already shared when returned
        assert batch["made"] == sorted([batch["mask"].nbytes, batch["image"].nbytes])
        assert batch["shared"] == [True, True]
    assert not pad_collate([sample()])["image"].is_shared()


def test_gradients_pass_through():
    image = torch.rand(2, 3, 3, requires_grad=True)
    for collate in (stack_collate, pad_collate, functools.partial(resize_collate, size=3)):
        (grad,) = torch.autograd.grad(collate([image, image]).sum(), image)
        assert (grad == 2).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: stack_collate([sample(path="a.png"), sample(6, 5, path="b.png")]),
            ValueError,
            r"stack_collate: 'image' must have one shape in all samples, got \[3, 4, 5\] in sample 0 \('a.png'\), "
            r"\[3, 6, 5\] in sample 1 \('b.png'\). Use pad_collate, resize_collate or list_collate",
        ),
        (
            lambda: stack_collate([sample(), sample(channels=4, index=9)]),
            ValueError,
            r"\[4, 4, 5\] in sample 1 \(index 9\). Use list_collate",
        ),
        (
            lambda: pad_collate([sample(), sample(channels=4)]),
            ValueError,
            r"pad_collate: 'image' must differ in height and width only",
        ),
        (
            lambda: pad_collate([{"index": 1}]),
            ValueError,
            r"must hold an image .* got no tensor at all .*Use stack_collate",
        ),
        (lambda: pad_collate([sample()], multiple_of=0), ValueError, r"`multiple_of` must be an int of at least 1"),
        (
            lambda: pad_collate([{"image": torch.zeros(1, 2, 2), "mask": torch.zeros(2, 2, dtype=torch.bool)}]),
            ValueError,
            r"'mask' must have a dtype that can hold its fill 255, got torch.bool",
        ),
        (lambda: crop_stack_collate([sample()]), ValueError, r"must hold an image \[K, C, h, w\].* put FiveCrop"),
        (
            lambda: crop_stack_collate([torch.zeros(5, 3, 8, 8), torch.zeros(6, 3, 8, 8)]),
            ValueError,
            r"as many crops of one size .* Use list_collate, or batch_size=1",
        ),
        (lambda: resize_collate([sample()], size=0), ValueError, r"`size` must be an int or \(height, width\)"),
        (
            lambda: resize_collate([sample(), sample(channels=4)], size=4),
            ValueError,
            r"resize_collate: 'image' must differ in height and width only",
        ),
        (lambda: stack_collate([]), ValueError, r"`batch` must hold at least one sample, got none"),
        (lambda: stack_collate([sample(), None]), TypeError, r"got None in sample 1. Filter such samples out"),
        (
            lambda: stack_collate([sample(path=None), sample(path="b.png")]),
            TypeError,
            r"'path' must be there in all samples or in none, got None in sample 0",
        ),
        (
            lambda: stack_collate([sample(), sample(extra=1)]),
            ValueError,
            r"same keys in all samples, got \['extra'\] in one of sample 0 \(index 0\) and sample 1",
        ),
        (
            lambda: stack_collate([(1, 2), (1,)]),
            ValueError,
            r"one length in all samples, got 2 in sample 0, 1 in sample 1",
        ),
        (
            lambda: stack_collate([{"x": 1}, {"x": "1"}]),
            TypeError,
            r"'x' must be of one kind in all samples, got int in",
        ),
        (
            lambda: stack_collate([{"x": object()}]),
            TypeError,
            r"'x' must hold tensors, arrays, numbers, text or containers",
        ),
        (lambda: stack_collate([{"x": 2**70}]), TypeError, r"'x' must hold numbers that torch has, got 1180591"),
        (lambda: stack_collate([{"x": np.datetime64("2020")}]), TypeError, r"'x' must hold numbers that torch has"),
        (lambda: stack_collate([torch.eye(2).to_sparse()]), TypeError, r"must be a dense tensor, got torch.sparse_coo"),
        (lambda: stack_collate([np.array(["a"])]), TypeError, r"must be an array of numbers, got <U1"),
        (
            lambda: stack_collate([torch.zeros(2), torch.zeros(2, dtype=torch.int64)]),
            TypeError,
            r"must have one dtype, got torch.float32 in sample 0, torch.int64 in sample 1",
        ),
    ],
)
def test_a_batch_that_does_not_fit_is_named_in_full(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    "array", [np.arange(12.0).reshape(3, 4)[:, ::-1], np.arange(12, dtype=">i4"), np.arange(5)[::2]]
)
def test_arrays_that_are_mirrored_or_of_another_byte_order_are_stacked_too(array):
    batch = stack_collate([{"a": array}, {"a": array + 1}])
    assert batch["a"].tolist() == [array.tolist(), (array + 1).tolist()]
