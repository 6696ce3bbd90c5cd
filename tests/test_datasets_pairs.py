"""find_pairs: by stem, and no file without partner goes unmentioned."""

from __future__ import annotations

import os
import pickle
import re
import unicodedata
import warnings

import pytest

from segkit.datasets import Pair, find_images, find_pairs
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


def relative(pairs, top):
    def short(files):
        return os.path.relpath(files, top) if isinstance(files, str) else tuple(os.path.relpath(f, top) for f in files)

    return [(short(pair.image), short(pair.mask)) for pair in pairs]


@pytest.fixture
def cases(tmp_path):
    return touch(
        tmp_path, *[f"data/case{c}/{kind}/{i}.png" for c in (1, 2) for kind in ("images", "masks") for i in "01"]
    )


EXPECTED = [(f"data/case{c}/images/{i}.png", f"data/case{c}/masks/{i}.png") for c in (1, 2) for i in "01"]


def test_the_same_names_in_case_folders_are_told_apart_by_the_path_that_is_common(cases):
    images, masks = sorted(cases.glob("data/*/images/*")), sorted(cases.glob("data/*/masks/*"), reverse=True)
    assert relative(find_pairs(images, masks), cases) == EXPECTED


@pytest.mark.parametrize(
    "pattern", [None, r"(case\d)/(?:images|masks)/(.+)", lambda stem: stem.replace("images", "masks")]
)
def test_one_folder_may_hold_both_and_no_file_is_its_own_mask(cases, pattern):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert relative(find_pairs(cases / "data", cases / "data", pattern=pattern), cases) == EXPECTED
    assert len(find_pairs(cases / "data/case1", cases / "data/case1")) == 2


def test_images_and_masks_side_by_side_in_one_folder_need_a_pattern_and_are_no_orphans(tmp_path):
    touch(tmp_path, *[f"a_{i}{end}" for i in range(12) for end in (".tif", "_mask.tif")])
    with pytest.raises(DataError, match=r'no file is its own mask.*Pass pattern="\{stem\}_mask", which gives every'):
        find_pairs(tmp_path, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(find_pairs(tmp_path, tmp_path, pattern="{stem}_mask")) == 12
    touch(tmp_path / "two", "a.jpg", "a.png", "b.JPEG", "b.png")
    assert relative(find_pairs(tmp_path / "two", tmp_path / "two"), tmp_path / "two") == [
        ("a.jpg", "a.png"),
        ("b.JPEG", "b.png"),
    ]


@pytest.mark.parametrize("pattern", [None, r"^([0-9a-f]+)/(?:images|masks)/"])
def test_one_mask_file_for_each_object_becomes_one_pair(tmp_path, pattern):
    for case in ("00ae", "0121"):
        touch(tmp_path / case, f"images/{case}.png", "masks/f7.png", "masks/03.png")
    assert relative(find_pairs(tmp_path, tmp_path, pattern=pattern), tmp_path) == [
        ("00ae/images/00ae.png", ("00ae/masks/03.png", "00ae/masks/f7.png")),
        ("0121/images/0121.png", ("0121/masks/03.png", "0121/masks/f7.png")),
    ]


@pytest.mark.parametrize("name", ["{}_{}.tif", "{}/{}.tif", "{1}/{1}_{0}.tif", "train_{1}/{1}.{0}.tif"])
def test_one_file_for_each_band_becomes_one_pair_in_the_order_of_the_bands(tmp_path, name):
    touch(tmp_path / "i", *[name.format(scene, band) for scene in ("x", "y") for band in ("B10", "B02", "B8A")])
    touch(tmp_path / "m", "x.tif", "y.tif")
    pairs = find_pairs(tmp_path / "i", tmp_path / "m")
    assert relative(pairs, tmp_path)[0] == (
        tuple(f"i/{name.format('x', band)}" for band in ("B02", "B8A", "B10")),
        "m/x.tif",
    )
    assert len(pairs) == 2


@pytest.mark.parametrize("mask", ["{}_mask.tif", "gt_{}.tif"])
def test_a_pattern_is_for_the_names_of_images_without_their_bands(tmp_path, mask):
    touch(tmp_path / "i", *[f"{scene}_{band}_10m.tif" for scene in ("x1", "y2") for band in ("B02", "B03")])
    touch(tmp_path / "m", mask.format("x1"), mask.format("y2"))
    with pytest.raises(DataError) as error:
        find_pairs(tmp_path / "i", tmp_path / "m")
    proposed = re.search('pattern="(.+?)"', str(error.value))[1]
    pairs = find_pairs(tmp_path / "i", tmp_path / "m", pattern=proposed)
    assert [len(pair.image) for pair in pairs] == [2, 2]
    assert (pairs.orphan_images, pairs.orphan_masks) == ([], [])


@pytest.mark.parametrize("name", ["{1}/{0}.png", "{0}/{1}.png", "{1}/{0}_{1}.tif", "0{1}/{0}_{1}.tif"])
@pytest.mark.parametrize("classes", [("cell", "wall"), ("0", "1")])
def test_several_masks_of_an_image_are_no_pair_and_the_message_says_what_to_do(tmp_path, name, classes):
    touch(tmp_path / "i", "1.jpg", "2.jpg")
    touch(tmp_path / "m", *[name.format(stem, kind) for stem in "12" for kind in classes])
    with pytest.raises(DataError, match=r"2 masks for '1', such as .*from_one_hot.*Pair\(image, \("):
        find_pairs(tmp_path / "i", tmp_path / "m")


def test_a_folder_of_masks_inside_that_of_the_images_is_not_taken_for_images(tmp_path):
    touch(tmp_path, "1.jpg", "2.jpg", "masks/1.png", "masks/2.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(find_pairs(tmp_path, tmp_path / "masks")) == 2
    touch(tmp_path / "b", "1.png", "images/1.png")
    assert relative(find_pairs(tmp_path / "b/images", tmp_path / "b"), tmp_path / "b") == [("images/1.png", "1.png")]


def test_decomposed_names_belong_to_composed_ones(tmp_path):
    names = ["M\u00fcnster_01", "\u3070\u3057", "plain"]
    touch(tmp_path / "i", *[unicodedata.normalize("NFD", name) + ".png" for name in names])
    touch(tmp_path / "m", *[unicodedata.normalize("NFC", name) + ".png" for name in names])
    assert len(find_pairs(tmp_path / "i", tmp_path / "m")) == 3
    listed = [[str(path) for path in (tmp_path / side).iterdir()] for side in "im"]
    assert len(find_pairs(*listed)) == 3


def test_what_file_managers_leave_behind_is_no_image(tmp_path):
    left = ["._a.png", "Thumbs.db", ".DS_Store", "__MACOSX/a.png", "@eaDir/a.png/SYNOFILE_THUMB_M.png"]
    touch(tmp_path / "i", "a.png", *left, "desktop.ini", ".ipynb_checkpoints/a-checkpoint.png")
    touch(tmp_path / "m", "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(find_pairs(tmp_path / "i", tmp_path / "m")) == 1
    assert find_images(tmp_path / "i") == [str(tmp_path / "i/a.png")]


NAMES = {
    "suffixes": (["a_image", "b_image"], ["a_mask", "b_mask"]),
    "prefixes": (["image_1", "image_2", "image_10"], ["mask_1", "mask_2", "mask_10"]),
    "drive": (["21_training", "22_training"], ["21_manual1", "22_manual1"]),
    "zeros": (["1", "2", "10"], ["0001", "0002", "0010"]),
    "zeros and words": (["img1", "img2", "img10"], ["seg_0001", "seg_0002", "seg_0010"]),
    "ome": (["a.ome", "b.ome"], ["a", "b"]),
    "shorter": (["a_sat", "b_sat"], ["a", "b"]),
    "longer": (["a", "b"], ["a.jpg", "b.jpg"]),
    "around": (["a", "b"], ["gt_a_v2", "gt_b_v2"]),
    "brackets": (["scan (a)", "scan (b)"], ["scan (a) [mask]", "scan (b) [mask]"]),
    "case": (["Img_A", "Img_B"], ["img_a", "img_b"]),
    "folders": (["x/1_im", "y/1_im", "y/2_im"], ["x/1_gt", "y/1_gt", "y/2_gt"]),
    "folders and prefixes": (["x/im_1", "y/im_1", "y/im_2"], ["x/gt_1", "y/gt_1", "y/gt_2"]),
    "cityscapes": (
        ["u/u_01_leftImg8bit", "v/v_02_leftImg8bit"],
        [f"{c}_gtFine_{kind}" for c in ("u/u_01", "v/v_02") for kind in ("color", "instanceIds", "labelIds")],
    ),
}


@pytest.mark.parametrize("kind", NAMES)
def test_the_pattern_that_an_error_proposes_gives_every_image_a_mask(tmp_path, kind):
    images, masks = NAMES[kind]
    touch(tmp_path / "i", *[f"{name}.png" for name in images])
    touch(tmp_path / "m", *[f"{name}.png" for name in masks])
    with pytest.raises(DataError, match="which gives every image a mask") as caught:
        find_pairs(tmp_path / "i", tmp_path / "m")
    proposal = re.search(r"Pass pattern=(.+), which gives", str(caught.value)).group(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pairs = find_pairs(tmp_path / "i", tmp_path / "m", pattern=eval(proposal))
    assert len(pairs) == len(images)
    assert pairs.orphan_images == []
    if kind == "cityscapes":
        assert all("labelIds" in pair.mask for pair in pairs)


def test_a_pattern_that_leaves_files_out_says_so(tmp_path):
    """ISIC brings superpixels beside the images; other sets a mask for each class."""
    touch(tmp_path / "i", *[f"ISIC_{n}{end}.png" for n in (1, 2) for end in ("", "_superpixels")])
    touch(tmp_path / "m", "ISIC_1_segmentation.png", "ISIC_2_segmentation.png")
    said = r"pattern=.+, which gives every mask an image and leaves out 2 images, the first .+ISIC_1_superpixels"
    with pytest.raises(DataError, match=said):
        find_pairs(tmp_path / "i", tmp_path / "m")
    touch(tmp_path / "x", "a.png", "b.png")
    touch(tmp_path / "y", *[f"{name}_{kind}.png" for name in "ab" for kind in ("cat", "dog")])
    said = "gives every image a mask and leaves out 2 masks, the first .+a_dog.+There are 2 masks for 'a'"
    with pytest.raises(DataError, match=said):
        find_pairs(tmp_path / "x", tmp_path / "y")


def test_where_no_pattern_gives_every_image_a_mask_none_is_proposed(tmp_path):
    with pytest.raises(DataError, match="Say how the names belong together") as caught:
        find_pairs(["i/alpha.png", "i/beta.png"], ["m/x.png", "m/y.png"])
    assert "Pass pattern" not in str(caught.value)
