"""labels: exact, small dtypes, and a sentence for what cannot be told apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segkit import labels
from segkit.errors import DataError

COLORS = {(0, 0, 255): 0, (255, 0, 0): 1, (0, 255, 0): 2, (255, 255, 0): 3}


def test_red_and_blue_are_not_swapped():
    rgb = np.array([[[0, 0, 255], [255, 0, 0]]], dtype=np.uint8)
    assert labels.colors_to_index(rgb, COLORS).tolist() == [[0, 1]]


def test_real_colour_masks_round_trip(shared):
    import tifffile

    for path in sorted((shared / "data/sandstone_ct/original_masks_rgb").glob("*.tif"))[:3]:
        rgb = tifffile.imread(path)
        mask = labels.colors_to_index(rgb, COLORS)
        assert mask.dtype == np.uint8
        assert set(np.unique(mask).tolist()) <= {0, 1, 2, 3}
        np.testing.assert_array_equal(labels.index_to_colors(mask, COLORS), rgb)


@given(arrays(np.uint8, (3, 5), elements=st.sampled_from([0, 1, 2, 3, 255])))
def test_painting_and_reading_back_is_the_identity(mask):
    colors = {**COLORS, (1, 2, 3): 255}
    np.testing.assert_array_equal(labels.colors_to_index(labels.index_to_colors(mask, colors), colors), mask)


def test_an_unknown_colour_is_named_with_its_place():
    rgb = np.zeros((2, 3, 3), dtype=np.uint8)
    rgb[1, 2] = (9, 8, 7)
    with pytest.raises(
        DataError, match=r"1 pixels, the commonest \(9, 8, 7\), the first at row 1, column 2.*unknown=255"
    ):
        labels.colors_to_index(rgb, {(0, 0, 0): 0})
    assert labels.colors_to_index(rgb, {(0, 0, 0): 0}, unknown=255)[1, 2] == 255


def test_a_colour_beyond_the_last_known_one_is_unknown_too():
    rgb = np.full((1, 1, 3), 255, dtype=np.uint8)
    assert labels.colors_to_index(rgb, {(0, 0, 0): 3}, unknown=7).tolist() == [[7]]


def test_sixteen_bit_colours_are_compared_in_full():
    rgb = np.array([[[256, 0, 0], [0, 0, 1]]], dtype=np.uint16)
    assert labels.colors_to_index(rgb, {(256, 0, 0): 300, (0, 0, 1): 1}).tolist() == [[300, 1]]


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (2, 4, 4, 3)])
def test_only_three_channels_are_colours(shape):
    with pytest.raises(ValueError, match=r"\[H, W, 3\]"):
        labels.colors_to_index(np.zeros(shape, np.uint8), COLORS)


def test_colours_must_be_triples():
    with pytest.raises(ValueError, match=r"must map \(r, g, b\)"):
        labels.colors_to_index(np.zeros((1, 1, 3), np.uint8), {0: (1, 2, 3)})
    with pytest.raises(ValueError, match="at least one colour"):
        labels.index_to_colors(np.zeros((1, 1), np.uint8), {})


def test_an_index_without_colour_is_named():
    with pytest.raises(DataError, match=r"got \[9\] without"):
        labels.index_to_colors(np.array([[0, 9]]), COLORS)


def test_remap_swaps_at_once_and_keeps_the_dtype():
    out = labels.remap(np.array([[0, 1, 1]], dtype=np.uint8), {0: 1, 1: 0})
    assert (out.tolist(), out.dtype) == ([[1, 0, 0]], np.uint8)


def test_remap_widens_only_when_it_must_and_alike_for_every_mask_of_a_set():
    for mask in ([[0]], [[1]]):
        assert labels.remap(np.array(mask, dtype=np.uint8), {0: 0, 1: 1000}).dtype == np.uint16


@pytest.mark.parametrize(("unmapped", "expected"), [("keep", [[5, 8]]), (255, [[5, 255]])])
def test_unmapped_indices_go_where_they_are_told(unmapped, expected):
    assert labels.remap(np.array([[3, 8]]), {3: 5}, unmapped=unmapped).tolist() == expected


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "uint16", "int16", "int32", "int64", "uint32"])
@pytest.mark.parametrize("unmapped", ["keep", 255, 7, 70_000, -1])
def test_remap_says_of_each_pixel_what_the_mapping_says_for_every_dtype(dtype, unmapped):
    rng = np.random.default_rng(0)
    if dtype == "bool":
        mask = rng.integers(0, 2, (5, 9)).astype(bool)
    else:
        info = np.iinfo(dtype)
        mask = rng.integers(max(-90, info.min), min(400, info.max), (5, 9)).astype(dtype)
        mask[0, :2] = info.min, info.max  # too far apart for a table from 32 bits on
    mapping = {int(v): int(v) * 3 % 11 for v in mask.ravel()[::2]} | {99_999: 3}
    expected = [mapping.get(int(v), int(v) if unmapped == "keep" else unmapped) for v in mask.ravel()]
    assert labels.remap(mask, mapping, unmapped=unmapped).ravel().tolist() == expected


def test_all_256_new_indices_may_be_in_use_and_an_unnamed_one_is_still_found():
    mask = np.arange(256, dtype=np.uint8)[None]
    backwards = {i: 255 - i for i in range(256)}
    assert labels.remap(mask, backwards).tolist() == mask[:, ::-1].tolist()
    del backwards[17]
    with pytest.raises(DataError, match=r"got \[17\] besides"):
        labels.remap(mask, backwards)


def test_remap_names_what_is_missing_beyond_a_table_too():
    with pytest.raises(DataError, match=r"got \[1000000\] besides \[0\]"):
        labels.remap(np.array([[0, 1_000_000]]), {0: 0})


def test_unmapped_indices_are_refused_by_default():
    with pytest.raises(DataError, match=r"got \[8\] besides \[3\]"):
        labels.remap(np.array([[3, 8]]), {3: 5})
    with pytest.raises(ValueError, match="'error', 'keep' or an index"):
        labels.remap(np.array([[3]]), {3: 5}, unmapped="drop")
    with pytest.raises(TypeError, match="integer dtype, got float64"):
        labels.remap(np.array([[3.0]]), {3: 5})


@given(st.integers(1, 6), st.data())
def test_one_hot_and_back_is_the_identity(classes, data):
    values = data.draw(arrays(np.int64, (2, 3, 4), elements=st.sampled_from([*range(classes), 255])))
    target = torch.from_numpy(values)
    hot = labels.one_hot(target, classes)
    assert hot.shape == (2, classes, 3, 4)
    assert torch.equal(labels.from_one_hot(hot).long(), target)


def test_an_ignored_class_number_has_an_empty_plane():
    assert labels.one_hot(torch.tensor([[0, 1]]), 2, ignore_index=0).tolist() == [[[0, 0], [0, 1]]]


def test_what_is_not_one_hot_is_refused():
    with pytest.raises(DataError, match="only 0 and 1"):
        labels.from_one_hot(torch.full((1, 2, 3), 0.5))
    with pytest.raises(DataError, match="at most one class"):
        labels.from_one_hot(torch.ones(1, 2, 3))


LOGITS = torch.zeros(2, 5, 6, 7)
INDICES = torch.randint(5, (2, 6, 7), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


@pytest.mark.parametrize(
    "target",
    [
        INDICES,
        INDICES[:, None],
        INDICES[..., None],
        labels.one_hot(INDICES, 5),
        labels.one_hot(INDICES, 5).movedim(1, -1),
        labels.one_hot(INDICES, 5).bool(),
        labels.one_hot(INDICES, 5).long(),
    ],
)
def test_every_shape_of_a_loader_becomes_indices(target):
    out = labels.as_index_target(target, LOGITS)
    assert out.dtype == torch.uint8
    assert torch.equal(out, INDICES)


def test_a_colour_mask_is_not_taken_for_one_hot():
    with pytest.raises(ValueError, match=r"got values up to 9.*colors_to_index"):
        labels.as_index_target(torch.full((2, 6, 7, 3), 9, dtype=torch.uint8), torch.zeros(2, 3, 6, 7))


def test_index_targets_are_not_copied():
    assert labels.as_index_target(INDICES[:, None], LOGITS).data_ptr() == INDICES.data_ptr()


def test_uint16_targets_become_int32():
    assert labels.as_index_target(INDICES.to(torch.uint16), LOGITS).dtype == torch.int32


def test_an_empty_one_hot_pixel_is_ignored():
    hot = labels.one_hot(INDICES, 5)
    hot[0, :, 0, 0] = 0
    assert labels.as_index_target(hot, LOGITS)[0, 0, 0] == 255


@pytest.mark.parametrize(
    ("target", "logits", "text"),
    [
        (torch.zeros(2, 4, 4, 4, dtype=torch.uint8), torch.zeros(2, 4, 4, 4), "classes first or last"),
        (torch.zeros(2, 7, 6, dtype=torch.uint8), LOGITS, "swapped"),
        (torch.zeros(2, 3, 6, 7, dtype=torch.uint8), LOGITS, "number of planes"),
        (torch.zeros(2, 12, 14, dtype=torch.uint8), LOGITS, "upsample='bilinear'"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(target, logits, text):
    with pytest.raises(ValueError, match=text):
        labels.as_index_target(target, logits)


def test_float_targets_are_refused_with_what_to_type():
    with pytest.raises(TypeError, match=r"target\.to\(torch\.uint8\)"):
        labels.as_index_target(INDICES.float(), LOGITS)


def test_labels_outside_are_named_with_their_place():
    target = np.zeros((3, 4, 5), dtype=np.int64)
    target[2, 1, 3] = 7
    target[2, 2, 2] = -1
    with pytest.raises(DataError, match=r"\[-1, 7\] on 2 pixels, first in item 2 .* at \(1, 3\)"):
        labels.validate_target(target, 4)
    labels.validate_target(torch.tensor([0, 3, 255], dtype=torch.uint8), 4)


@pytest.mark.parametrize(
    ("values", "classes", "ignore", "text"),
    [
        ([[1, 2, 3]], 3, 255, "start at 1"),
        ([[0, 255]], 2, -1, "255 seems to mean foreground"),
        ([[0, 1, 8]], 3, 255, r"Raise num_classes to 9.*\{0: 0, 1: 1, 8: 2\}"),
    ],
)
def test_the_remedy_fits_the_fault(values, classes, ignore, text):
    with pytest.raises(DataError, match=text):
        labels.validate_target(np.array(values), classes, ignore_index=ignore)


def test_validate_target_refuses_floats_that_are_no_soft_target():
    with pytest.raises(TypeError, match=r"integer dtype, or a soft target \[B, 2, \*spatial\], got float64 \[3\]"):
        labels.validate_target(np.zeros(3), 2)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (255.0, r"got \[255.0\] on 1 values, first in item 1 .* at \(2, 3\). Divide by 255"),
        (-1.0, r"got \[-1.0\].*If -1 means unknown"),
        (float("nan"), r"got \[nan\].*Give shares from 0 to 1"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_validate_target_checks_the_shares_of_a_soft_target(value, text, dtype):
    target = torch.full((2, 3, 4), 0.5, dtype=dtype)
    labels.validate_target(target, 3)
    target[1, 2, 3] = value
    with pytest.raises(DataError, match=text):
        labels.validate_target(target, 3)


@pytest.mark.parametrize("ignored", [None, 255, (254, 255)])
def test_what_is_ignored_may_be_nothing_or_several_labels(ignored):
    ids = () if ignored is None else ignored if isinstance(ignored, tuple) else (ignored,)
    labels.validate_target(np.array([[0, 1, *ids]]), 2, ignore_index=ignored)
    with pytest.raises(DataError, match="got \\[253\\]"):
        labels.validate_target(np.array([[0, 253, *ids]]), 2, ignore_index=ignored)
    hot = torch.tensor([[[1, 0, 0], [0, 1, 0]]])
    if ignored is None:
        with pytest.raises(ValueError, match="must have a class where `ignore_index` is None"):
            labels.as_index_target(hot, torch.zeros(1, 2, 3), ignore_index=None)
    else:
        assert labels.as_index_target(hot, torch.zeros(1, 2, 3), ignore_index=ignored).tolist() == [[0, 1, ids[0]]]


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64, torch.bool])
def test_dtypes_with_few_operators_become_ones_with_many(dtype):
    target = labels.as_index_target(torch.tensor([[0, 1, 1]]).to(dtype), torch.zeros(1, 2, 3))
    assert (target + 1).tolist() == [[1, 2, 2]]


class Tagged(torch.Tensor):
    pass


def test_a_subclass_gives_the_plain_target_and_the_plain_error():
    logits = torch.zeros(2, 5, 8, 8)
    target = torch.zeros(2, 1, 8, 8, dtype=torch.uint8).as_subclass(Tagged)
    assert type(labels.as_index_target(target, logits)) is torch.Tensor
    for wrong in (torch.zeros(2, 8, 8), torch.zeros(2, 3, 8, 8, dtype=torch.uint8)):
        messages = []
        for kind in (torch.Tensor, Tagged):
            with pytest.raises((TypeError, ValueError)) as caught:
                labels.as_index_target(wrong.as_subclass(kind), logits)
            messages.append(str(caught.value))
        assert messages[0] == messages[1]


@pytest.mark.parametrize("batch", [4, 3])
def test_one_hot_of_a_classification_needs_no_spatial_axes(batch):
    target = torch.tensor([0, 1, 2, 1])[:batch]
    hot = torch.nn.functional.one_hot(target, 3)
    assert torch.equal(labels.as_index_target(hot, torch.zeros(batch, 3)).long(), target)


def test_large_colour_masks_say_the_same_as_small_ones():
    rng = np.random.default_rng(0)
    colors = {(int(i * 7 % 256), int(i * 3 % 256), int(i * 5 % 256)): i for i in range(300)}
    known = np.array(list(colors), np.uint8)
    rgb = known[rng.integers(0, len(colors), (300, 400))]
    large = labels.colors_to_index(rgb, colors, unknown=999)
    assert large.tolist() == labels.colors_to_index(rgb.astype(np.uint16), colors, unknown=999).tolist()
    assert labels.index_to_colors(large, colors).tolist() == rgb.tolist()
    rgb[17, 3] = 1, 2, 200
    with pytest.raises(DataError, match=r"the commonest \(1, 2, 200\), the first at row 17, column 3"):
        labels.colors_to_index(rgb, colors)
    assert labels.colors_to_index(rgb, colors, unknown=999)[17, 3] == 999
