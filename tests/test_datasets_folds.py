"""split_folds: the same classes in every fold, and nothing in two of them."""

from __future__ import annotations

import csv
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit._whole import whole_file
from segkit.audit import Finding
from segkit.datasets import split_folds
from segkit.errors import DataError
from segkit.io import write_mask


def named(count):
    return [(f"images/{i:04d}.png", f"masks/{i:04d}.png") for i in range(count)]


def rows_of(path):
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def amounts(rng, count, classes):
    """Pixels of classes, some of which are rare and in few images."""
    shares = rng.dirichlet(np.full(classes, 0.4), count) * (
        rng.random((count, classes)) < rng.uniform(0.05, 1, classes)
    )
    pixels = (shares * 10_000).round()
    pixels[:, 0] += 100
    return pixels


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_no_group_and_no_duplicate_is_in_two_folds_and_every_pair_is_in_one(data):
    count = data.draw(st.integers(8, 60))
    groups = data.draw(st.lists(st.integers(0, 12), min_size=count - 4, max_size=count - 4)) + [20, 21, 22, 23]
    same = data.draw(st.lists(st.lists(st.integers(0, count - 4), min_size=2, max_size=3), max_size=6))
    folds = data.draw(st.sampled_from([2, 3, (0.7, 0.3), (0.6, 0.2, 0.2)]))
    pairs = named(count)
    pixels = amounts(np.random.default_rng(data.draw(st.integers(0, 99))), count, 4)
    duplicates = [[pairs[i][0] for i in one] for one in same]
    split = split_folds(pairs, folds, groups=groups, duplicates=duplicates, stratify=pixels)
    assert sorted(i for fold in split for i in fold) == list(range(count))
    assert all(fold == sorted(fold) and fold for fold in split)
    where = {i: k for k, fold in enumerate(split) for i in fold}
    for key in set(groups):
        assert len({where[i] for i in range(count) if groups[i] == key}) == 1
    for one in same:
        assert len({where[i] for i in one}) == 1


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.permutations(range(24)))
def test_the_fold_of_a_pair_does_not_depend_on_the_order_of_the_pairs(seed, order):
    pairs, pixels = named(24), amounts(np.random.default_rng(3), 24, 3)
    groups = [i // 2 for i in range(24)]
    first = split_folds(pairs, 3, stratify=pixels, groups=groups, seed=seed)
    other = split_folds(
        [pairs[i] for i in order], 3, stratify=pixels[order], groups=[groups[i] for i in order], seed=seed
    )
    assert [{pairs[i] for i in fold} for fold in first] == [{pairs[order[i]] for i in fold} for fold in other]


@pytest.mark.parametrize("count", [40, 90, 400])
@pytest.mark.parametrize("folds", [2, 5])
def test_class_shares_are_nearer_to_the_whole_than_those_of_iterative_stratification(count, folds):
    peer = pytest.importorskip("iterstrat.ml_stratifiers")
    pixels = amounts(np.random.default_rng(count), count, 8)
    ours = split_folds(named(count), folds, stratify=pixels)
    whole = pixels.sum(0) / pixels.sum()
    present = pixels > 0
    theirs = [
        part for _, part in peer.MultilabelStratifiedKFold(folds, shuffle=True, random_state=0).split(present, present)
    ]

    def error(split):
        return np.mean([np.abs(pixels[fold].sum(0) / pixels[fold].sum() - whole).mean() for fold in split])

    assert ours.error() == pytest.approx(error(ours))
    assert error(ours) <= error(theirs)
    assert max(map(len, ours)) - min(map(len, ours)) <= max(2, count // 50)


def test_camvid_is_split_by_film(shared):
    folder = shared / "data" / "camvid"
    if not folder.is_dir():
        pytest.skip("no camvid here")
    names = [row["file"] for row in rows_of(folder / "pairs.csv")]
    pairs = [(str(folder / "images" / name), str(folder / "masks" / name)) for name in names]
    by_film = split_folds(pairs, 2, groups=r"^(.+?)_", ignore_index=11)
    films = [{names[i].split("_")[0] for i in fold} for fold in by_film]
    assert films[0] & films[1] == set()
    assert by_film.labels == list(range(11))
    assert split_folds(pairs, 5, ignore_index=11).error() < 0.002 < by_film.error()


def test_masks_are_read_and_255_does_not_count(tmp_path):
    pairs = []
    for i in range(8):
        mask = np.full((4, 4), 255, np.uint8)
        mask[: 1 + i % 2] = i % 2
        write_mask(tmp_path / f"{i}.png", mask)
        pairs.append((f"{i}.jpg", tmp_path / f"{i}.png"))
    folds = split_folds(pairs, 2)
    assert folds.labels == [0, 1]
    assert folds.pixels.sum(axis=0).tolist() == [16, 32]
    assert folds.error() == 0


def test_images_of_several_bands_and_masks_of_several_objects_are_one_pair(tmp_path):
    pairs = []
    for i in range(4):
        for k in range(2):
            mask = np.zeros((4, 4), np.uint8)
            mask[k] = 9
            write_mask(tmp_path / f"{i}{k}.png", mask)
        pairs.append(((f"{i}_red.tif", f"{i}_nir.tif"), (tmp_path / f"{i}0.png", tmp_path / f"{i}1.png")))
    folds = split_folds(pairs, 2)
    assert (folds.labels, folds.pixels.tolist()) == ([0, 1], [[8, 8]] * 4)
    assert sorted(map(len, folds)) == [2, 2]


def test_duplicates_of_an_audit_stay_together_and_its_other_findings_do_not_matter():
    pairs = named(12)
    finding = Finding("near-duplicate", "warning", pairs[0][0], pairs[7][0], 0.9, "", "")
    other = Finding("size-mismatch", "error", pairs[1][0], pairs[2][0], 0.9, "", "")
    report = SimpleNamespace(findings=[finding, other, finding._replace(path=f"./{pairs[7][0]}", related=pairs[9][0])])
    folds = split_folds(pairs, 4, duplicates=report, stratify=None)
    assert folds.units[0] == folds.units[7] == folds.units[9]
    assert len(set(folds.units.tolist())) == 10
    absolute = [[str(Path(pairs[3][0]).absolute()), pairs[4][0]]]
    folds = split_folds(pairs, 4, duplicates=absolute, stratify=None)
    assert folds.units[3] == folds.units[4]
    with pytest.raises(DataError, match="of the images in `pairs`, got others, such as 'x.png'"):
        split_folds(pairs, 2, duplicates=[["x.png", "y.png"]], stratify=None)
    with pytest.raises(TypeError, match="groups of paths, got the path"):
        split_folds(pairs, 2, duplicates=[pairs[0][0]], stratify=None)


def test_the_same_image_twice_stays_together():
    folds = split_folds([("a.png", "m0"), ("b.png", "m1"), ("./a.png", "m2")], 2, stratify=None)
    assert [0, 2] in folds


def test_tiles_that_touch_stay_together_and_a_gap_parts_them():
    places = [("s", 0, 0), ("s", 0, 256), ("s", 256, 512), ("s", 1024, 0), ("s", 1024, 256), ("t", 0, 0)]
    pairs = [(f"{scene}_r{row}_c{column}.png", "m") for scene, row, column in places]
    pattern = r"(?P<scene>\w+)_r(?P<row>\d+)_c(?P<column>\d+)"
    assert split_folds(pairs, 3, groups=pattern, stratify=None).units.tolist() == [0, 0, 0, 1, 1, 2]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from([(256, 0), (256, 64), (100, 30)]))
def test_no_two_tiles_that_touch_are_in_two_folds_however_the_last_ones_are_moved(seed, tiles):
    rng, (size, overlap) = np.random.default_rng(seed), tiles
    places = []
    for scene in range(3):
        tops, lefts = (
            sorted({min(i, end - size) for i in range(0, end - overlap, size - overlap)})
            for end in rng.integers(3 * size, 6 * size, 2).tolist()
        )
        places += [(scene, top, left) for top in tops for left in lefts if rng.random() < 0.8]
    pairs = [(f"s{scene}_r{top}_c{left}.png", "m") for scene, top, left in places]
    pattern = r"(?P<scene>\w+)_r(?P<row>\d+)_c(?P<column>\d+)"
    units = split_folds(pairs, 2, groups=pattern, stratify=None).units
    for i, (scene, top, left) in enumerate(places):
        for j, (other, down, across) in enumerate(places):
            if scene == other and abs(top - down) <= size - overlap and abs(left - across) <= size - overlap:
                assert units[i] == units[j], (pairs[i], pairs[j])
            assert scene == other or units[i] != units[j]


def test_boxes_that_touch_stay_together():
    boxes = np.array([[0, 0, 1, 1], [1, 0, 2, 1], [2.1, 0, 3, 1], [0, 5, 3, 6], [2.5, 0.5, 4, 5]])
    assert split_folds(named(5), 2, groups=boxes, stratify=None).units.tolist() == [0, 0, 1, 1, 1]


def test_shares_are_met_as_well_as_the_groups_allow():
    folds = split_folds(named(100), (0.8, 0.1, 0.1), stratify=None)
    assert [len(fold) for fold in folds] == [80, 10, 10]
    assert [len(fold) for fold in split_folds(named(5), 5, stratify=None)] == [1] * 5


def test_the_table_says_what_each_fold_has_and_what_it_lacks():
    pixels = np.array([[9, 1], [9, 0], [9, 0]])
    text = split_folds(named(3), 3, stratify=pixels).table()
    assert "class 1" in text
    assert "whole       3" in text
    assert text.count("has no pixel of class 1") == 2
    assert "mean difference of a class's share" in text


def test_the_csv_is_what_quickstart_and_audit_read(tmp_path):
    folds = split_folds(named(10), (0.8, 0.2), stratify=None)
    folds.to_csv(tmp_path / "pairs.csv")
    rows = rows_of(tmp_path / "pairs.csv")
    assert [row["file"] for row in rows] == [f"{i:04d}.png" for i in range(10)]
    assert {int(row["file"][:4]) for row in rows if row["split"] == "val"} == set(folds[1])
    five = split_folds(named(10), 5, stratify=None)
    five.to_csv(tmp_path / "pairs.csv", val=3)
    rows = rows_of(tmp_path / "pairs.csv")
    assert {int(row["file"][:4]) for row in rows if row["split"] == "val"} == set(five[3])
    five.to_csv(tmp_path / "pairs.csv", names="abcde")
    assert {row["split"] for row in rows_of(tmp_path / "pairs.csv")} == set("abcde")
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.csv"]
    with pytest.raises(DataError, match="a stem of its own, got 'a' twice"):
        split_folds([("x/a.png", "m"), ("y/a.png", "n")], 2, stratify=None).to_csv(tmp_path / "no.csv")
    for wrong in ({"val": 5}, {"names": ["a"]}, {"val": 0, "names": "abcde"}):
        with pytest.raises(ValueError, match="to_csv"):
            five.to_csv(tmp_path / "no.csv", **wrong)


@pytest.mark.parametrize(
    ("folds", "options", "match"),
    [
        (1, {}, "`folds` must be 2 or more"),
        (True, {}, "`folds` must be 2 or more"),
        ((0.5, 0.6), {}, "shares above 0 that add up to 1"),
        ((1.0,), {}, "shares above 0"),
        (7, {}, "at least as many groups that stay together as folds, 7, got 6 of 6 pairs"),
        (2, {"groups": [1] * 6}, "got 1 of 6 pairs"),
        (2, {"groups": [1, 2]}, "one entry for each of 6 pairs, got 2"),
        (2, {"groups": "("}, "a regular expression"),
        (2, {"groups": "a"}, "Put parentheses"),
        (2, {"groups": "^(x)"}, "be found in each image's name, got 'images/0000.png'"),
        (2, {"stratify": np.zeros((2, 2))}, "must be \\[6, C\\]"),
        (2, {"stratify": "pixels"}, "'classes', an array or None"),
    ],
)
def test_what_cannot_be_split_is_refused_in_one_sentence(folds, options, match):
    with pytest.raises(ValueError, match=f"split_folds: .*{match}"):
        split_folds(named(6), folds, **{"stratify": None, **options})


def test_a_table_for_a_pipe_is_written_into_it(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()), daemon=True)
    reader.start()
    with whole_file(tmp_path / "pipe") as file:
        file.write("file,split\n")
    reader.join(10)
    assert read == ["file,split\n"]
    assert (tmp_path / "pipe").is_fifo()
