"""cli: exit codes 0, 1 and 2, one clear sentence for bad input, results on standard output."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from segkit.cli import main


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


def test_the_module_runs_as_a_command():
    done = subprocess.run([sys.executable, "-m", "segkit", "--help"], capture_output=True, text=True, check=True)
    assert "audit" in done.stdout
    assert done.stderr == ""
