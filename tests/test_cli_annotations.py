"""From a shell: masks of annotations, and folds that share nothing."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from PIL import Image

import annotation_files as files
from annotation_files import CLASSES, HEIGHT, WIDTH, write
from segkit.cli import main
from segkit.io import read_mask


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "names.txt", "cat\ndog\n")
    return tmp_path


def test_masks_of_an_export_are_written_and_what_they_lack_is_told(here, capsys):
    content = files.coco()
    content["images"].append({"id": 8, "file_name": "sub/b.jpg", "height": 4, "width": 5})
    content["annotations"].append({"id": 9, "image_id": 8, "category_id": 3, "segmentation": [], "bbox": [0, 0, 2, 2]})
    write(here / "c.json", content)
    assert main(["convert-masks", "c.json", "out", "--classes", "names.txt", "--report", "notes.json"]) == 0
    assert (read_mask("out/a.png") == files.expected()).all()
    assert read_mask("out/sub/b.png").tolist() == np.zeros((4, 5)).tolist()
    said = capsys.readouterr().out
    assert "2 of 2 masks written to out" in said
    assert "no-area            1  sub/b.jpg, annotation 9: It is a box without an outline." in said
    assert "overlap" in said
    assert {note["kind"] for note in json.loads((here / "notes.json").read_text())} == {"no-area", "empty", "overlap"}


def test_a_class_that_is_not_declared_leaves_nothing_behind(here, capsys):
    write(here / "c.json", files.coco())
    write(here / "one.txt", "cat\n")
    assert main(["convert-masks", "c.json", "out", "--classes", "one.txt"]) == 2
    assert "got 'dog' besides 'cat'" in capsys.readouterr().err
    assert not (here / "out").exists()
    assert main(["convert-masks", "c.json", "out"]) == 2
    assert "'c.json' has the classes cat, dog" in capsys.readouterr().err
    assert main(["convert-masks", "c.json", "out", "--classes", "one.txt", "--unknown", "255"]) == 0
    assert set(np.unique(read_mask("out/a.png"))) == {0, 1, 255}


def test_class_numbers_may_come_from_json_and_objects_be_numbered(here):
    write(here / "a.json", files.labelme())
    write(here / "classes.json", {"cat": 7, "dog": 300})
    assert main(["convert-masks", "a.json", "out", "--classes", "classes.json"]) == 0
    assert set(np.unique(read_mask("out/a.png"))) == {0, 7, 300}
    assert main(["convert-masks", "a.json", "ids", "--classes", "names.txt", "--instances"]) == 0
    assert set(np.unique(read_mask("ids/a.png"))) == {0, 1, 2, 3}


def test_sizes_come_from_the_pictures_as_exif_turns_them(here, capsys):
    (here / "images").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (HEIGHT, WIDTH)).save(here / "images" / "a.jpg", exif=exif)  # stored upright, shown on its side
    write(here / "labels" / "a.txt", files.yolo())
    options = ["--classes", "names.txt", "--images", "images"]
    assert main(["convert-masks", "labels", "out", *options]) == 0
    assert (read_mask("out/a.png") == files.expected()).all()
    write(here / "c.json", files.coco(images=[{"id": 7, "file_name": "a.jpg", "height": WIDTH, "width": HEIGHT}]))
    assert main(["convert-masks", "c.json", "no", *options]) == 2
    assert "turned by its EXIF orientation" in capsys.readouterr().err
    assert main(["convert-masks", "labels", "no", "--classes", "names.txt"]) == 2
    assert "Pass --size " in capsys.readouterr().err


def test_names_cannot_leave_the_folder_and_two_cannot_share_a_file(here, capsys):
    content = files.coco()
    content["images"][0]["file_name"] = "../../up/a.jpg"
    write(here / "c.json", content)
    assert main(["convert-masks", "c.json", "out", "--classes", "names.txt"]) == 0
    assert [path.relative_to(here).as_posix() for path in here.rglob("*.png")] == ["out/up/a.png"]
    content["images"].append({"id": 8, "file_name": "up/a.png", "height": 4, "width": 5})
    write(here / "c.json", content)
    assert main(["convert-masks", "c.json", "two", "--classes", "names.txt"]) == 2
    assert "a mask of its own, got '../../up/a.jpg' and 'up/a.png'" in capsys.readouterr().err
    assert not (here / "two").exists()


def test_tables_need_order_and_origin(here, capsys):
    from segkit.annotations import write_rle

    write_rle(
        "t.csv", {"a.png": files.expected()}, order="row", origin=0, classes=CLASSES, columns=("image", "rle", "class")
    )
    options = ["--classes", "names.txt", "--size", str(HEIGHT), str(WIDTH)]
    assert main(["convert-masks", "t.csv", "out", *options]) == 2
    assert "does not say how it counts pixels" in capsys.readouterr().err
    assert main(["convert-masks", "t.csv", "out", *options, "--order", "row", "--origin", "0"]) == 0
    assert (read_mask("out/a.png") == files.expected()).all()


def test_one_broken_picture_does_not_stop_the_others(here, capsys):
    lines = ["ImageId,EncodedPixels", "a.png,1 4", "b.png,15 9"]
    write(here / "t.csv", "\n".join(lines))
    options = ["--classes", "ship.txt", "--size", "4", "4", "--order", "row", "--origin", "1"]
    write(here / "ship.txt", "ship")
    assert main(["convert-masks", "t.csv", "out", *options]) == 1
    said = capsys.readouterr()
    assert "1 of 2 masks written" in said.out
    assert "'b.png', line 3: its runs must end within 4 x 4" in said.err
    assert [path.name for path in (here / "out").iterdir()] == ["a.png"]


def test_folds_are_written_from_a_shell(here, capsys):
    for folder in ("images", "masks"):
        (here / folder).mkdir()
    for film in "ab":
        for i in range(6):
            Image.new("L", (4, 4), i).save(here / "images" / f"{film}_{i}.png")
            Image.new("L", (4, 4), i % 2).save(here / "masks" / f"{film}_{i}.png")
    assert (
        main(["split", "images", "masks", "--folds", "2", "--groups", "^(.+?)_", "--csv", "pairs.csv", "--val", "0"])
        == 0
    )
    rows = list(csv.DictReader((here / "pairs.csv").read_text().splitlines()))
    assert {(row["file"][0], row["split"]) for row in rows} in (
        {("a", "val"), ("b", "train")},
        {("b", "val"), ("a", "train")},
    )
    assert "mean difference of a class's share: 0.0000%" in capsys.readouterr().out
    finding = {"code": "near-duplicate", "path": "images/a_0.png", "related": "images/b_5.png"}
    write(here / "report.json", {"findings": [finding]})
    shares = ["--shares", "0.75", "0.25", "--no-classes"]
    assert main(["split", "images", "masks", *shares, "--duplicates", "report.json", "--csv", "pairs.csv"]) == 0
    part = {row["file"]: row["split"] for row in csv.DictReader((here / "pairs.csv").read_text().splitlines())}
    assert part["a_0.png"] == part["b_5.png"]
    assert sorted(part.values()).count("val") == 3
    write(here / "report.json", [])
    assert main(["split", "images", "masks", "--duplicates", "report.json"]) == 2
    assert "--duplicates report.json: must be the JSON" in capsys.readouterr().err


def test_errors_name_the_options_of_the_shell(here, capsys):
    write(here / "t.csv", "x,y\na.png,1 4\n")
    size = ["--size", "4", "4"]
    assert main(["convert-masks", "t.csv", "out", "--classes", "names.txt", *size]) == 2
    assert "Pass --order 'column' (Kaggle, usually) or 'row', and --origin 1" in capsys.readouterr().err
    options = ["--order", "row", "--origin", "1", "--classes", "names.txt"]
    assert main(["convert-masks", "t.csv", "out", *options, *size]) == 2
    assert "Pass --columns (picture, runs)" in capsys.readouterr().err
    write(here / "names.txt", "cat")
    assert main(["convert-masks", "t.csv", "out", *options, "--columns", "x", "y"]) == 2
    assert "Pass --size (height, width)" in capsys.readouterr().err
    assert main(["convert-masks", "t.csv", "out", *options, *size, "--columns", "x", "y"]) == 0
    write(here / "c.json", files.coco())
    assert main(["convert-masks", "c.json", "no", "--classes", "names.txt"]) == 2
    assert "or pass --unknown 'skip' or a number" in capsys.readouterr().err


def test_crowds_may_be_ignored_from_a_shell(here):
    content = files.coco()
    for entry in content["annotations"]:
        entry["iscrowd"] = int(entry["category_id"] == 18)
    write(here / "c.json", content)
    assert main(["convert-masks", "c.json", "out", "--classes", "names.txt", "--crowd", "ignore"]) == 0
    assert set(np.unique(read_mask("out/a.png"))) == {0, 1, 255}


def test_a_target_that_is_a_file_is_told_once(here, capsys):
    write(here / "c.json", files.coco())
    assert main(["convert-masks", "c.json", "names.txt", "--classes", "names.txt"]) == 2
    assert capsys.readouterr().err == (
        "segkit: convert-masks: OUT must be a folder, got the file names.txt. Name another one.\n"
    )
    assert main(["convert-masks", ".", "out"]) == 2
    assert "or --classes FILE for annotations" in capsys.readouterr().err


def test_a_table_that_cannot_be_written_leaves_nothing_behind(here, capsys):
    for folder in ("images", "masks"):
        (here / folder).mkdir()
        for i in range(4):
            Image.new("L", (4, 4), i % 2).save(here / folder / f"{i}.png")
    before = sorted(here.rglob("*"))
    for target, said in (
        (".", "a folder where a file is to be written: '.'"),
        ("no/pairs.csv", "no such folder: 'no'"),
    ):
        assert main(["split", "images", "masks", "--folds", "2", "--csv", target]) == 2
        assert said in capsys.readouterr().err
    assert main(["split", "images", "masks", "--folds", "2", "--val", "0"]) == 2
    assert "Add --csv FILE" in capsys.readouterr().err
    assert sorted(here.rglob("*")) == before
