"""cli: exit codes 0, 1 and 2, one clear sentence for bad input, results on standard output."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from segkit.cli import build_parser, main
from segkit.io import write_image


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    rng = np.random.default_rng(0)
    for i in range(6):
        Image.fromarray(rng.integers(0, 256, (32, 40, 3), dtype=np.uint8)).save(f"images/{i}.png")
        Image.fromarray(rng.integers(0, 3, (4, 5), dtype=np.uint8).repeat(8, 0).repeat(8, 1)).save(f"masks/{i}.png")
    return tmp_path


def test_a_clean_set_gives_0(folders, capsys):
    assert main(["audit", "images", "masks", "--num-classes", "3"]) == 0
    out, err = capsys.readouterr()
    assert "6 images, 6 pairs, of which 6 are usable" in out
    assert err == ""


def test_findings_give_1_and_both_reports(folders, capsys):
    (folders / "images/0.png").write_bytes(b"")
    arguments = ["audit", "images", "masks", "--num-classes", "3", "--html", "r.html", "--json", "r.json"]
    assert main(arguments) == 1
    assert json.loads((folders / "r.json").read_text())["codes"]["unreadable"] == 1
    assert (folders / "r.html").read_text().startswith("<!DOCTYPE html>")
    assert "unreadable" in capsys.readouterr().out


def test_json_on_standard_output_is_nothing_but_json(folders, capsys):
    assert main(["audit", "images", "masks", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["pairs"] == 6


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["audit", "nowhere"], "nowhere"),
        (["audit", "images", "empty"], "got none in the folder 'empty'"),
        (["audit", "images", "masks", "--num-classes", "0"], "`num_classes` must be at least 1, got 0"),
        (["audit", "images", "masks", "--html", "no/such/folder.html"], "no/such/folder.html"),
        (["audit", "images", "masks", "--colors", "bad.json"], "must be JSON such as"),
        (["info", "nowhere.png"], "nowhere.png"),
    ],
)
def test_unusable_input_gives_2_and_one_sentence(folders, capsys, arguments, text):
    (folders / "empty").mkdir()
    (folders / "bad.json").write_text('{"red": 1}')
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert text in err
    assert err.startswith("segkit: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_info_says_what_is_in_a_file(folders, capsys):
    assert main(["info", "images/0.png"]) == 0
    assert capsys.readouterr().out.startswith("images/0.png: PNG 32 x 40 x 3 uint8, 8 bits, rgb")
    assert main(["info", "--json", "images/0.png"]) == 0
    assert json.loads(capsys.readouterr().out)["width"] == 40


def test_info_says_which_backends_read_a_file_and_what_is_wrong_with_the_others(tmp_path, capsys):
    write_image(tmp_path / "deep.tif", np.zeros((4, 5, 13), np.uint16))
    assert main(["info", str(tmp_path / "deep.tif")]) == 0
    out = capsys.readouterr().out
    assert "\n  read exactly by tifffile\n" in out
    assert "\n  not by opencv: " in out
    assert "\n  not by pillow: " in out
    assert main(["info", "--json", str(tmp_path / "deep.tif")]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["backends"] == ["tifffile"]
    assert {"opencv", "pillow"} <= facts["refused"].keys()
    assert all(facts["refused"].values())


def test_stats_shows_channels_and_classes(folders, capsys):
    assert main(["stats", "images", "masks", "--num-classes", "3", "--json", "s.json"]) == 0
    out, err = capsys.readouterr()
    assert "6 images, 3 channels of uint8" in out
    assert "weight" in out
    assert err == ""
    content = json.loads((folders / "s.json").read_text())
    assert sum(content["class_pixels"]) == 6 * 32 * 40
    assert main(["stats", "images", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 6


def test_stats_names_what_it_leaves_out_and_gives_1(folders, capsys):
    (folders / "images/0.png").write_bytes(b"")
    assert main(["stats", "images", "masks"]) == 1
    assert "images/0.png is left out" in capsys.readouterr().err
    for i in range(1, 6):
        (folders / f"images/{i}.png").write_bytes(b"")
    assert main(["stats", "images"]) == 2


def test_convert_masks_turns_colours_into_classes(folders, capsys):
    (folders / "coded").mkdir()
    colored = np.zeros((8, 9, 3), np.uint8)
    colored[:, 4:] = 255, 0, 0
    Image.fromarray(colored).save("coded/a.png")
    (folders / "colors.json").write_text('{"0,0,0": 0, "#ff0000": 2}')
    assert main(["convert-masks", "coded", "new", "--colors", "colors.json"]) == 0
    mask = np.array(Image.open("new/a.png"))
    assert np.unique(mask[:, :4]).tolist() == [0]
    assert np.unique(mask[:, 4:]).tolist() == [2]
    Image.fromarray(np.full((8, 9, 3), 7, np.uint8)).save("coded/b.png")
    capsys.readouterr()
    assert main(["convert-masks", "coded", "new", "--colors", "colors.json"]) == 1
    out, err = capsys.readouterr()
    assert "b.png" in err
    assert "1 of 2 masks written" in out


def test_convert_masks_renumbers(folders, capsys):
    assert main(["convert-masks", "masks", "new", "--map", "2=1", "--map", "0=255"]) == 0
    old, new = (np.array(Image.open(f"{name}/3.png")) for name in ("masks", "new"))
    np.testing.assert_array_equal(new, np.array([255, 1, 1], np.uint8)[old])
    assert main(["convert-masks", "masks", "new"]) == 2
    assert main(["convert-masks", "masks", "new", "--map", "two=1"]) == 2
    assert "must be OLD=NEW" in capsys.readouterr().err


def test_expand_writes_copies(folders, capsys):
    assert main(["expand", "images", "masks", "more", "--copies", "2", "--flip", "--crop", "16", "16"]) == 0
    assert "12 pairs in more" in capsys.readouterr().out
    assert main(["audit", "more/images", "more/masks", "--num-classes", "3"]) in (0, 1)
    assert main(["expand", "images", "masks", "other", "--copies", "1"]) == 0


def test_audit_takes_splits_and_lists_the_usable_pairs(folders, capsys):
    (folders / "splits.csv").write_text(
        "file,split\n" + "".join(f"{i}.png,{'val' if i else 'train'}\n" for i in range(6))
    )
    (folders / "images/1.png").write_bytes((folders / "images/0.png").read_bytes())
    (folders / "masks/1.png").write_bytes((folders / "masks/0.png").read_bytes())
    assert main(["audit", "images", "masks", "--splits", "splits.csv", "--list-clean", "clean.csv"]) == 1
    assert "split-leak" in capsys.readouterr().out
    lines = (folders / "clean.csv").read_text().splitlines()
    assert lines[0] == "image,mask"
    assert len(lines) == 1 + 5
    (folders / "bad.csv").write_text("a,b\n")
    assert main(["audit", "images", "--splits", "bad.csv"]) == 2


def test_a_progress_bar_is_for_terminals_only(folders, capsys):
    assert main(["audit", "images", "masks"]) == 0
    assert capsys.readouterr().err == ""


def test_help_names_every_command_and_option(capsys):
    for command in ("audit", "stats", "info", "convert-masks", "expand"):
        assert main([command, "--help"]) == 0
        assert "usage: segkit " + command in capsys.readouterr().out
    assert main([]) == 2
    assert main(["--version"]) == 0


def test_options_and_signature_agree():
    from segkit.audit import audit_dataset

    options = {"num_classes", "ignore_index", "colors", "splits", "pattern"}
    assert options <= set(inspect.signature(audit_dataset).parameters)
    arguments = build_parser().parse_args(["audit", "images"])
    assert options <= set(vars(arguments))
    assert arguments.ignore_index == inspect.signature(audit_dataset).parameters["ignore_index"].default


def test_the_module_runs_as_a_command():
    done = subprocess.run([sys.executable, "-m", "segkit", "--help"], capture_output=True, text=True, check=True)
    assert "audit" in done.stdout
    assert done.stderr == ""


# --- tables as people have them


def split_table(kind, names=None):
    rows = [(name, "val" if i > 3 else "train") for i, name in enumerate(names or [f"{i}.png" for i in range(6)])]
    mark = {"semicolon": ";", "utf16": "\t"}.get(kind, ",")
    head = mark.join({"capital": ("File", "Split"), "set": ("filename", "subset")}.get(kind, ("file", "split")))
    text = "\r\n".join([head, *(mark.join(row) for row in rows)]) + "\r\n"
    if kind == "no head":
        text = text.partition("\r\n")[2]
    if kind == "sep":
        text = "sep=,\r\n" + text
    codes = {"bom": "utf-8-sig", "utf16": "utf-16", "utf16 unmarked": "utf-16-le", "utf16 big": "utf-16-be"}
    return text.encode(codes.get(kind, "utf-8"))


SPLIT_NAMES = {
    "plain": None,
    "bom": None,
    "semicolon": None,
    "utf16": None,
    "capital": None,
    "set": None,
    "stems": [f"{i}" for i in range(6)],
    "windows": [f"D:\\data\\images\\{i}.png" for i in range(6)],
    "other machine": [f"/home/me/data/images/{i}.jpg" for i in range(6)],
    "blank lines": None,
    "no head": None,
    "sep": None,
    "utf16 unmarked": None,
    "utf16 big": None,
}


@pytest.fixture
def leak(folders):
    for name in ("images", "masks"):
        (folders / name / "5.png").write_bytes((folders / name / "0.png").read_bytes())
    return folders


@pytest.mark.parametrize("kind", SPLIT_NAMES)
def test_a_leak_is_found_by_a_table_of_splits_in_any_form(leak, capsys, kind):
    names = SPLIT_NAMES[kind]
    if kind == "other machine":
        names = [name.replace(".jpg", ".png") for name in names]
    data = split_table(kind, names)
    (leak / "s.csv").write_bytes(data.replace(b"\r\n", b"\r\n\r\n") if kind == "blank lines" else data)
    assert main(["audit", "images", "masks", "--splits", "s.csv"]) == 1
    assert "split-leak" in capsys.readouterr().out


def test_a_leak_is_found_by_lists_of_names(leak, capsys):
    (leak / "lists").mkdir()
    (leak / "lists/train.txt").write_text("0\n1\n2\n3\n")
    (leak / "lists/val.txt").write_text("4.png\nimages/5.png\n")
    assert main(["audit", "images", "masks", "--splits", "lists"]) == 1
    assert "split-leak" in capsys.readouterr().out
    (leak / "lists/val.txt").write_text("0\n")
    assert main(["audit", "images", "masks", "--splits", "lists"]) == 2
    assert "'0' must be in one list, got 'train' and 'val'" in capsys.readouterr().err


def test_splits_in_nested_folders_are_told_apart_by_their_folders(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for case in ("a", "b"):
        (tmp_path / "images" / case).mkdir(parents=True)
        for i in range(3):
            image = rng.integers(0, 256, (32, 40, 3), dtype=np.uint8)
            Image.fromarray(image).save(tmp_path / "images" / case / f"{i}{case}.png")
    (tmp_path / "images/b/2b.png").write_bytes((tmp_path / "images/a/0a.png").read_bytes())
    rows = [f"{case}/{i}{case}.png,{'train' if case == 'a' else 'val'}" for case in "ab" for i in range(3)]
    (tmp_path / "s.csv").write_text("\n".join(["file,split", *rows]))
    assert main(["audit", "images", "--splits", "s.csv"]) == 1
    assert "split-leak" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([f"img_{i}.png" for i in range(6)], "got 6 of 6 names that match none, the first 'img_0.png'"),
        ([*(f"{i}.png" for i in range(5)), "six.png"], "got 1 of 6 names that match none, the first 'six.png'"),
    ],
)
def test_names_of_splits_that_match_nothing_are_an_error(leak, capsys, names, text):
    (leak / "s.csv").write_bytes(split_table("plain", names))
    assert main(["audit", "images", "masks", "--splits", "s.csv"]) == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("a,b\n", "columns file and split, or a folder of lists such as train.txt, got a, b"),
        ("", "columns file and split"),
        ("file,split\n0.png\n", "line 2 must have 2 columns, got 1"),
        ("file,split\n0.png,train\n0.png,val\n", "'0.png' must be in one split, got 'train' and 'val'"),
    ],
)
def test_a_table_of_splits_that_cannot_be_meant_is_refused(folders, capsys, table, text):
    (folders / "s.csv").write_text(table)
    assert main(["audit", "images", "--splits", "s.csv"]) == 2
    assert text in capsys.readouterr().err


LABELMAP = "# label:color_rgb:parts:actions\ncar:255,0,0::\nbackground:0,0,0::\n\n"


@pytest.mark.parametrize(
    ("name", "data", "car"),
    [
        ("c.json", '{"0,0,0": 0, "255,0,0": 2}'.encode("utf-8-sig"), 2),
        ("c.json", '{"#000000": 0, "#ff0000": 2}'.encode("utf-16"), 2),
        ("labelmap.txt", LABELMAP.encode(), 1),
        ("labelmap.txt", LABELMAP.replace("\n", "\r\n").encode("utf-8-sig"), 1),
    ],
)
def test_colours_are_read_from_json_and_from_cvat_with_or_without_a_bom(folders, name, data, car):
    (folders / "coded").mkdir()
    Image.fromarray(np.array([[[0, 0, 0], [255, 0, 0]]], np.uint8)).save("coded/a.png")
    (folders / name).write_bytes(data)
    assert main(["convert-masks", "coded", "new", "--colors", name]) == 0
    assert np.array(Image.open("new/a.png")).tolist() == [[0, car]]


def test_a_labelmap_without_colours_is_refused(folders, capsys):
    (folders / "labelmap.txt").write_text("# nothing\n")
    assert main(["convert-masks", "masks", "new", "--colors", "labelmap.txt"]) == 2
    assert "or the labelmap.txt of CVAT" in capsys.readouterr().err


# --- convert-masks: whatever form the labels have


TWO = np.kron(np.array([[0, 255], [255, 0]]), np.ones((8, 8))).astype(np.uint8)


def write_form(path, form):
    import tifffile

    if form == "three equal channels":
        Image.fromarray(np.dstack([TWO] * 3)).save(path / "1.png")
    elif form == "with an opaque alpha":
        Image.fromarray(np.dstack([TWO, TWO, TWO, np.full_like(TWO, 255)])).save(path / "1.png")
    elif form == "grey and alpha":
        Image.fromarray(np.dstack([TWO, np.full_like(TWO, 255)]), "LA").save(path / "1.png")
    elif form == "whole floats":
        tifffile.imwrite(path / "1.tif", TWO.astype(np.float32))
    elif form == "lossless webp":
        Image.fromarray(np.dstack([TWO] * 3)).save(path / "1.webp", lossless=True)
    elif form == "floats and NaN":
        tifffile.imwrite(path / "1.tif", np.where(TWO > 0, 255, np.nan).astype(np.float32))
    elif form == "one bit":
        Image.fromarray(TWO > 0).save(path / "1.png")
    elif form == "sixteen bits":
        Image.fromarray(TWO.astype(np.uint16)).save(path / "1.png")


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
@pytest.mark.parametrize(
    "form",
    [
        "three equal channels",
        "with an opaque alpha",
        "grey and alpha",
        "whole floats",
        "lossless webp",
        "one bit",
        "sixteen bits",
        "floats and NaN",
    ],
)
def test_labels_of_any_form_are_converted(folders, form):
    (folders / "m").mkdir()
    write_form(folders / "m", form)
    # NaN is nothing measured: here 0.
    options = ["--unknown", "0"] if form == "floats and NaN" else []
    assert main(["convert-masks", "m", "new", "--map", f"{1 if form == 'one bit' else 255}=1", *options]) == 0
    np.testing.assert_array_equal(np.array(Image.open("new/1.png")), TWO > 0)


@pytest.mark.parametrize(
    ("write", "text"),
    [
        (lambda top: Image.fromarray(TWO).save(top / "1.jpg"), "it is a JPEG, which changes labels"),
        (
            lambda top: Image.fromarray(np.dstack([TWO, TWO, 255 - TWO])).save(top / "1.png"),
            "has 3 channels (rgb), but a mask has one",
        ),
        (lambda top: write_image(top / "1.tif", (TWO[..., None] / 7).astype(np.float32)), "samples are floats"),
        (lambda top: Image.fromarray(TWO).save(top / "1.webp", quality=80), "it is a lossy WebP, which changes labels"),
        (lambda top: Image.fromarray(TWO).save(top / "1.tif", compression="jpeg"), "it is a JPEG, which changes"),
        (
            lambda top: Image.fromarray(TWO).save(top / "1.tif", save_all=True, append_images=[Image.fromarray(TWO)]),
            "has 2 pages",
        ),
    ],
)
def test_what_is_no_label_is_refused_and_nothing_is_written(folders, capsys, write, text):
    (folders / "m").mkdir()
    write(folders / "m")
    assert main(["convert-masks", "m", "new", "--map", "255=1"]) == 2
    assert text in capsys.readouterr().err
    assert not (folders / "new").exists()


def test_masks_that_would_become_one_file_are_both_refused(folders, capsys):
    from segkit.io import write_mask

    (folders / "m").mkdir()
    for name in ("1.png", "1.tif", "2.png"):
        write_mask(folders / "m" / name, TWO)
    code = main(["convert-masks", "m", "new", "--map", "255=1"])
    assert code in (1, 2)
    assert "1.png" in capsys.readouterr().err
    assert not (folders / "new/1.png").exists()


def test_a_label_to_renumber_that_no_mask_has_is_said(folders, capsys):
    assert main(["convert-masks", "masks", "new", "--map", "7=2", "--map", "2=1"]) == 0
    assert capsys.readouterr().err == "segkit: no mask has the label 7 of --map 7=2\n"


# --- what is told


def test_the_audit_names_a_remedy_beside_each_kind_of_finding(folders, capsys):
    (folders / "images/0.png").write_bytes(b"")
    assert main(["audit", "images", "masks"]) == 1
    lines = capsys.readouterr().out.splitlines()
    place = next(i for i, line in enumerate(lines) if "unreadable" in line)
    assert lines[place + 1].strip() == "-> Copy the file again from its source, or delete it with its partner."


@pytest.mark.parametrize("command", ["audit", "stats"])
def test_masks_are_renumbered_as_a_data_set_does_it(folders, capsys, command):
    for i in range(6):
        mask = np.array(Image.open(f"masks/{i}.png"))
        Image.fromarray(np.where(mask == 2, 255, mask * 9).astype(np.uint8)).save(f"masks/{i}.png")
    options = ["--map", "0=0", "--map", "9=1", "--map", "255=2", "--num-classes", "3"]
    assert main([command, "images", "masks", *options, "--json", "-"]) == 0
    content = json.loads(capsys.readouterr().out)
    labels = content["labels"] if command == "audit" else dict(enumerate(content["class_pixels"]))
    assert list(map(int, labels)) == [0, 1, 2]
    assert main([command, "images", "masks", "--map", "0=0", "--unmapped", "255", "--json", "-"]) in (0, 1)
    assert main([command, "images", "masks", "--map", "0=0", "--json", "-"]) in (1, 2)
    assert main([command, "images", "masks", "--map", "0=0", "--unmapped", "what"]) == 2
    assert "--unmapped: must be error, keep or a whole number, got 'what'" in capsys.readouterr().err


def test_stats_says_that_masks_of_0_and_255_are_ignored(folders, capsys):
    for i in range(6):
        mask = np.array(Image.open(f"masks/{i}.png"))
        Image.fromarray((mask > 0).astype(np.uint8) * 255).save(f"masks/{i}.png")
    assert main(["stats", "images", "masks", "--num-classes", "2"]) == 0
    err = capsys.readouterr().err
    assert err.startswith("segkit: dataset_statistics: the masks hold 0 and 255 only")
    assert "pass remap={0: 0, 255: 1}" in err
    assert main(["stats", "images", "masks", "--ignore-index", "none"]) == 0
    assert capsys.readouterr().err == ""
