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
