"""What no mask can be made of, or not as its annotator meant it, in every format: one sentence, and nothing half."""

from __future__ import annotations

import re

import numpy as np
import pytest

import annotation_files as files
from annotation_files import HEIGHT, WIDTH, write
from segkit.annotations import read
from segkit.cli import main
from segkit.errors import DataError

FORMATS = {
    "coco": ("c.json", files.coco),
    "labelme": ("a.json", files.labelme),
    "cvat": ("c.xml", files.cvat),
    "label_studio": ("s.json", files.label_studio),
    "yolo": ("labels/a.txt", files.yolo),
}
NAN = float("nan")
OUTLINES = {  # what is drawn -> the kind of note that it gives, or the error
    "a ring that crosses itself": ([(4, 4), (30, 30), (30, 4), (4, 30)], "self-crossing"),
    "a polygon of two points": ([(4, 4), (30, 30)], "no-area"),
    "a polygon between the centres of pixels": ([(4.6, 4.6), (5.4, 4.6), (5.4, 5.4)], "empty"),
    "vertices outside": ([(-8, 4), (30, 4), (30, 30)], "outside"),
    "all vertices outside": ([(-8, 4), (-4, 4), (-4, 30)], "outside"),
    "NaN": ([(4, 4), (NAN, 4), (30, 30)], DataError("finite coordinates")),
    "infinity": ([(4, 4), (float("inf"), 4), (30, 30)], DataError("finite coordinates")),
    "a class that is not declared": ([(4, 4), (30, 4), (30, 30)], DataError("must name every class .* got 'dog'")),
}


def one_line(error: str) -> bool:
    return "\n" not in error.strip() and error.strip().endswith(".") and "Traceback" not in error


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "names.txt", "cat\n")
    return tmp_path


def shell(path, *options):
    return main(["convert-masks", str(path), "out", "--classes", "names.txt", *options])


def leaves_nothing(here, said):
    assert one_line(said.err), said.err
    assert not [path for path in here.rglob("*") if path.suffix in (".png", ".tif", ".part")]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("bad", OUTLINES)
def test_an_outline_that_makes_no_mask_is_told_in_every_format(here, monkeypatch, capsys, kind, bad):
    outline, expected = OUTLINES[bad]
    undeclared = bad.startswith("a class")
    monkeypatch.setattr(files, "OUTLINES", [("dog" if undeclared else "cat", outline)])
    name, content = FORMATS[kind]
    path = write(here / name, content())
    options = ["--size", str(HEIGHT), str(WIDTH), "--format", kind]
    if kind == "yolo":
        options += ["--names", str(write(here / "all.txt", "cat\ndog\n"))]
    if isinstance(expected, DataError):
        assert shell(path, *options) == 2
        said = capsys.readouterr()
        leaves_nothing(here, said)
        assert re.search(str(expected), said.err), said.err
        return
    assert shell(path, *options, "--report", "notes.json") == 0
    notes = (here / "notes.json").read_text()
    assert f'"kind": "{expected}"' in notes
    assert expected in capsys.readouterr().out


def table(runs):
    return f"ImageId,EncodedPixels\na.jpg,{runs}\n"


def coco_runs(lengths):
    entry = {"id": 1, "image_id": 7, "category_id": 3, "iscrowd": 0}
    return files.coco(annotations=[{**entry, "segmentation": {"size": [HEIGHT, WIDTH], "counts": lengths}}])


def cvat_runs(text):
    mask = f'<mask label="cat" left="0" top="0" width="{WIDTH}" height="{HEIGHT}" rle="{text}"></mask>'
    return files.cvat(f'<image id="0" name="a.jpg" width="{WIDTH}" height="{HEIGHT}">{mask}</image>')


def brush_of(height, width):
    value = {"format": "rle", "rle": files.brush(np.full((height, width), 255)), "brushlabels": ["cat"]}
    return files.label_studio([files.region("brushlabels", value, 1)])


RUNS = {
    "coco": ("c.json", lambda more: coco_runs([5, HEIGHT * WIDTH - 5 + more])),
    "cvat": ("c.xml", lambda more: cvat_runs(f"5, {HEIGHT * WIDTH - 5 + more}")),
    "label_studio": ("s.json", lambda more: brush_of(HEIGHT + more, WIDTH)),
    "rle_csv": ("t.csv", lambda more: table(f"6 {HEIGHT * WIDTH - 5 + more}")),
}


@pytest.mark.parametrize("kind", RUNS)
def test_run_lengths_longer_than_the_picture_are_told_in_every_format(here, capsys, kind):
    name, content = RUNS[kind]
    options = ["--size", str(HEIGHT), str(WIDTH), "--order", "row", "--origin", "1"]
    path = write(here / name, content(1))
    assert shell(path, *options) == 2
    said = capsys.readouterr()
    leaves_nothing(here, said)
    assert str(HEIGHT * WIDTH + (WIDTH if kind == "label_studio" else 1)) in said.err or "past the end" in said.err
    assert shell(write(here / name, content(0)), *options) == 0


@pytest.mark.parametrize("kind", ["coco", "labelme", "cvat", "label_studio"])
def test_a_size_that_is_not_the_pictures_is_told_in_every_format(here, capsys, kind):
    name, content = FORMATS[kind]
    write(here / "names.txt", "cat\ndog\n")
    path = write(here / name, content())
    assert shell(path, "--size", str(WIDTH), str(HEIGHT)) == 2
    said = capsys.readouterr()
    leaves_nothing(here, said)
    assert "Height and width are swapped" in said.err
    with pytest.raises(DataError, match="must be that in .* got \\(3, 3\\)"):
        read(path).mask("a.jpg", classes=["cat", "dog"], size=(3, 3))


@pytest.mark.parametrize("kind", [*FORMATS, "rle_csv"])
def test_a_file_that_ends_too_early_is_told_in_every_format(here, capsys, kind):
    name, content = FORMATS.get(kind, ("t.csv", lambda: table("6 4 20 9")))
    text = (here / write(here / name, content())).read_text()
    write(here / name, text[: text.rstrip().rindex(" ")])
    options = ["--size", str(HEIGHT), str(WIDTH), "--format", kind, "--order", "row", "--origin", "1"]
    assert shell(here / name, *options) == 2
    leaves_nothing(here, capsys.readouterr())
