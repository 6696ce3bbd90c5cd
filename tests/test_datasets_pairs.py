"""find_pairs: by stem, and no file without partner goes unmentioned."""

from __future__ import annotations

import os
import pickle
import warnings

import pytest

from segkit.datasets import Pair, find_pairs
from segkit.errors import DataError


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


def test_pairs_are_found_by_stem_whatever_the_suffix(tmp_path):
    touch(tmp_path / "i", "b.jpg", "a.PNG")
    touch(tmp_path / "m", "a.png", "b.tif")
    pairs = find_pairs(tmp_path / "i", str(tmp_path / "m"))
    assert [(os.path.basename(p.image), os.path.basename(p.mask)) for p in pairs] == [
        ("a.PNG", "a.png"),
        ("b.jpg", "b.tif"),
    ]
    assert (pairs.orphan_images, pairs.orphan_masks) == ([], [])


def test_subfolders_are_part_of_the_stem(tmp_path):
    touch(tmp_path / "i", "x/1.png", "y/1.png")
    touch(tmp_path / "m", "x/1.png", "y/1.png")
    assert [os.path.relpath(p.mask, tmp_path) for p in find_pairs(tmp_path / "i", tmp_path / "m")] == [
        "m/x/1.png",
        "m/y/1.png",
    ]


def test_orphans_of_both_sides_are_reported(tmp_path):
    touch(tmp_path / "i", "a.png", "lonely.png")
    touch(tmp_path / "m", "a.png", "left.png")
    with pytest.warns(UserWarning, match="are left out") as caught:
        pairs = find_pairs(tmp_path / "i", tmp_path / "m")
    assert [os.path.basename(p) for p in pairs.orphan_images + pairs.orphan_masks] == ["lonely.png", "left.png"]
    assert len(caught) == 2
    assert "1 image(s) without mask are left out" in str(caught[0].message)
    assert caught[0].filename == __file__


def test_notes_hidden_files_and_hidden_folders_are_no_images(tmp_path):
    touch(tmp_path / "i", "a.png", "notes.txt", ".a.png", ".git/b.png", "Thumbs.db")
    touch(tmp_path / "m", "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(find_pairs(tmp_path / "i", tmp_path / "m")) == 1


def test_a_symlink_loop_ends(tmp_path):
    touch(tmp_path / "i", "a.png")
    touch(tmp_path / "m", "a.png")
    (tmp_path / "i" / "again").symlink_to(tmp_path / "i")
    assert len(find_pairs(tmp_path / "i", tmp_path / "m")) == 1


def test_a_linked_folder_is_followed(tmp_path):
    touch(tmp_path / "elsewhere", "a.png")
    touch(tmp_path / "m", "deep/a.png")
    (tmp_path / "i").mkdir()
    (tmp_path / "i" / "deep").symlink_to(tmp_path / "elsewhere")
    assert len(find_pairs(tmp_path / "i", tmp_path / "m")) == 1


@pytest.mark.parametrize("pattern", ["{stem}_mask", r"^(.+?)(?:_mask)?$", lambda stem: stem + "_mask"])
def test_patterns_tell_which_names_belong_together(pattern):
    pairs = find_pairs(["i/a.jpg", "i/b.jpg"], ["m/a_mask.png", "m/b_mask.png"], pattern=pattern)
    assert pairs == [Pair("i/a.jpg", "m/a_mask.png"), Pair("i/b.jpg", "m/b_mask.png")]


def test_a_regular_expression_may_have_both_suffixes():
    pairs = find_pairs(
        ["i/a_0_leftImg8bit.png"], ["m/a_0_gtFine_labelIds.png"], pattern=r"(.+)_(?:leftImg8bit|gtFine_labelIds)$"
    )
    assert len(pairs) == 1


def test_names_that_a_regular_expression_does_not_fit_are_orphans():
    with pytest.warns(UserWarning, match="other"):
        pairs = find_pairs(["i/a_x.png", "i/other.png"], ["m/a_y.png"], pattern=r"(.+)_[xy]$")
    assert pairs.orphan_images == ["i/other.png"]


def test_no_common_stem_shows_names_and_the_pattern_to_type():
    with pytest.raises(DataError, match=r"such as 'a'.*such as 'a_seg'.*pattern=\"\{stem\}_seg\""):
        find_pairs(["i/a.png"], ["m/a_seg.png"])


def test_two_files_with_one_stem_are_refused():
    with pytest.raises(DataError, match="one file for each stem, got 'i/a.png' and 'i/a.jpg'"):
        find_pairs(["i/a.png", "i/a.jpg"], ["m/a.png"])
    with pytest.raises(DataError, match="must tell the files apart, got 'a'"):
        find_pairs(["i/a_1.png", "i/a_2.png"], ["m/a_1.png"], pattern=r"(.)_")


def test_a_pattern_without_group_is_refused():
    with pytest.raises(ValueError, match="regular expression with a group"):
        find_pairs(["a.png"], ["a.png"], pattern="_mask$")


def test_an_empty_or_missing_folder_is_named(tmp_path):
    touch(tmp_path / "m", "a.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"`images` must hold image files, got none in the folder '.*empty'"):
        find_pairs(tmp_path / "empty", tmp_path / "m")
    with pytest.raises(FileNotFoundError, match="`images` must be a folder that exists"):
        find_pairs(tmp_path / "nowhere", tmp_path / "m")
    with pytest.raises(DataError, match="got none in the list"):
        find_pairs([], tmp_path / "m")
    with pytest.raises(TypeError, match="a folder or a list of paths, got a int"):
        find_pairs([1], tmp_path / "m")


def test_names_that_are_not_utf8_are_kept(tmp_path):
    for folder in ("i", "m"):
        (tmp_path / folder).mkdir()
        with open(os.path.join(os.fsencode(tmp_path / folder), b"\xff.png"), "wb"):
            pass
    assert len(find_pairs(tmp_path / "i", tmp_path / "m")) == 1


def test_pairs_pickle_with_their_orphans():
    with pytest.warns(UserWarning, match="b.png"):
        pairs = find_pairs(["a.png", "b.png"], ["a.png"])
    again = pickle.loads(pickle.dumps(pairs))
    assert (again, again.orphan_images) == (pairs, ["b.png"])
