"""Run lengths: text of competitions, compressed strings of COCO, and back."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from annotation_files import write
from segkit import annotations
from segkit.annotations import decode_rle, encode_rle, read, write_coco, write_rle
from segkit.errors import DataError

masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=9))


@settings(deadline=None)
@given(masks, st.sampled_from(["column", "row"]), st.sampled_from([0, 1]))
def test_decoding_gives_back_what_was_encoded(mask, order, origin):
    text = encode_rle(mask, order=order, origin=origin)
    back = decode_rle(text, mask.shape, order=order, origin=origin)
    assert back.dtype == bool
    assert (back == mask).all()


def test_pixels_are_counted_as_said():
    mask = np.array([[0, 1, 0], [1, 1, 0]])
    assert encode_rle(mask) == "2 3"  # down the columns, from 1: Kaggle's way
    assert encode_rle(mask, order="row") == "2 1 4 2"
    assert encode_rle(mask, origin=0) == "1 3"
    assert encode_rle(np.zeros((2, 2)).astype(bool)) == ""
    assert encode_rle(mask * 255) == "2 3"


@pytest.mark.parametrize("nothing", ["", "  ", "nan", "NaN", None, float("nan")])
def test_nothing_is_an_empty_mask(nothing):
    assert decode_rle(nothing, (2, 3)).tolist() == [[False] * 3] * 2


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("1 7", "end within 2 x 3 .* got 7: they go past the end. .*swapped, or the origin is wrong"),
        ("7 1", "past the end"),
        ("0 2", "start at 1 or later, got 0. It counts from 0: pass origin=0"),
        ("1 2 3", "pairs 'start length …', got 3 numbers"),
        ("1 0", "lengths of at least 1"),
        ("1 2 2 2", "without overlap.*relative to the run before"),
        ("4 1 1 1", "without overlap"),
        ("-1", "SIIM-ACR marks an empty mask, and there starts are relative"),
        ("1 a", "whole numbers"),
        ("1.5 2", "whole numbers"),
    ],
)
def test_text_that_cannot_be_runs_is_refused_in_one_sentence(text, match):
    with pytest.raises(DataError, match=f"decode_rle: .*{match}"):
        decode_rle(text, (2, 3))


def test_wrong_arguments_are_refused():
    with pytest.raises(DataError, match="of one class, got the values \\[1, 2\\]"):
        encode_rle(np.array([[1, 2]]))
    with pytest.raises(ValueError, match="bool or integers \\[H, W\\]"):
        encode_rle(np.zeros((2, 2, 1), bool))
    with pytest.raises(ValueError, match="`order` must be 'column' or 'row', got 'F'"):
        encode_rle(np.zeros((2, 2), bool), order="F")
    with pytest.raises(ValueError, match="`origin` must be 0 or 1"):
        decode_rle("1 1", (2, 2), origin=2)
    with pytest.raises(ValueError, match="`size` must be"):
        decode_rle("1 1", 4)
    with pytest.raises(TypeError, match="`text` must be a str, got a list"):
        decode_rle([1, 1], (2, 2))


@settings(deadline=None, max_examples=60)
@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40)))
def test_compressed_strings_are_those_of_pycocotools(mask):
    coco = pytest.importorskip("pycocotools.mask")
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    runs = annotations._drawing.runs
    lengths = runs.runs_of(mask, "column").lengths
    assert runs.pack_counts(lengths) == theirs["counts"].decode()
    assert runs.unpack_counts(theirs["counts"]).tolist() == lengths.tolist()


def pictures():
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 4, (3, 6, 5), np.uint8)
    return {f"面 {i}.png": picture.repeat(3, 0).repeat(4, 1) for i, picture in enumerate(coarse)}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools itself
def test_what_is_written_as_coco_is_read_back_bit_for_bit(tmp_path):
    masks, classes = pictures(), ["bg", "a", "b", "c"]
    write_coco(tmp_path / "out.json", masks, classes=classes)
    back = read(tmp_path / "out.json")
    assert back.images == list(masks)
    for name, mask in masks.items():
        assert (back.mask(name, classes=classes) == mask).all()
    coco = pytest.importorskip("pycocotools.mask")
    content = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    for entry in content["annotations"]:
        name = list(masks)[entry["image_id"] - 1]
        assert (coco.decode(entry["segmentation"]) == (masks[name] == entry["category_id"])).all()
        assert coco.toBbox(entry["segmentation"]).tolist() == entry["bbox"]
        assert int(coco.area(entry["segmentation"])) == entry["area"]


def test_objects_written_as_coco_are_read_back_as_objects(tmp_path):
    mask = np.array([[1, 1, 0, 1], [2, 0, 0, 1]], np.uint8)
    ids = np.array([[1, 1, 0, 2], [3, 0, 0, 2]])
    write_coco(tmp_path / "out.json", {"a": mask}, classes=["a", "b"], instances={"a": ids})
    assert (read(tmp_path / "out.json").mask("a", classes=["a", "b"], instances=True) == ids).all()
    with pytest.raises(ValueError, match="`instances` must have 'a' of shape"):
        write_coco(tmp_path / "no.json", {"a": mask}, classes=["a", "b"], instances={})
    assert not list(tmp_path.glob("no*"))


@pytest.mark.parametrize("columns", [("ImageId", "EncodedPixels", "ClassId"), ("Image_Label", "EncodedPixels")])
@pytest.mark.parametrize(("order", "origin"), [("column", 1), ("row", 0)])
def test_what_is_written_as_a_table_is_read_back_bit_for_bit(tmp_path, columns, order, origin):
    masks, classes = pictures(), ["bg", "a", "b", "c"]
    write_rle(tmp_path / "out.csv", masks, order=order, origin=origin, classes=classes, columns=columns)
    back = read(tmp_path / "out.csv", order=order, origin=origin)
    assert back.images == list(masks)
    for name, mask in masks.items():
        assert (back.mask(name, classes=classes, size=mask.shape) == mask).all()


def test_a_table_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    write(tmp_path / "out.csv", "old")
    with pytest.raises(DataError, match="of one class"):
        write_rle(tmp_path / "out.csv", {"a": np.array([[1]]), "b": np.array([[1, 2]])}, order="row", origin=0)
    assert [p.name for p in tmp_path.iterdir()] == ["out.csv"]
    assert (tmp_path / "out.csv").read_text() == "old"
