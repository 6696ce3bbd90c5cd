"""`segkit examples DIR`: what was installed can be run, and nothing of the user's is lost."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import zipfile

import pytest

from segkit.cli import main

ROOT = pathlib.Path(__file__).resolve().parents[1]
NAMES = {path.name for path in (ROOT / "examples").glob("*.py")}


def test_all_examples_are_copied_and_a_second_call_changes_nothing(tmp_path, capsys):
    assert main(["examples", str(tmp_path / "new")]) == 0
    assert f"Try: python {tmp_path / 'new' / 'quickstart.py'}" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "new").iterdir()} == NAMES
    assert main(["examples", str(tmp_path / "new")]) == 0
    for name in NAMES:
        assert (tmp_path / "new" / name).read_bytes() == (ROOT / "examples" / name).read_bytes()


def test_a_file_that_was_changed_is_kept_and_nothing_is_written(tmp_path, capsys):
    (tmp_path / "unet.py").write_text("mine")
    assert main(["examples", str(tmp_path)]) == 2
    assert "1 other file(s) of the same name: unet.py. Nothing was written" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["unet.py"]
    assert (tmp_path / "unet.py").read_text() == "mine"


def test_a_file_in_place_of_the_folder_is_named(tmp_path, capsys):
    (tmp_path / "taken").write_text("")
    assert main(["examples", str(tmp_path / "taken")]) == 2
    assert "OUT must be a folder, got the file" in capsys.readouterr().err


@pytest.mark.slow
def test_the_wheel_holds_the_examples_and_nothing_that_it_should_not(tmp_path):
    """Without the sources at hand: the wheel unpacked, and the command run in a process of its own."""
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    assert {path.name for path in (tmp_path / "site" / "segkit" / "_examples").iterdir()} == NAMES
    top = {path.name for path in (tmp_path / "site").iterdir()}
    assert top == {"segkit", next(name for name in top if name.endswith(".dist-info"))}
    run = (
        "import sys; sys.path.insert(0, sys.argv[1]); from segkit.cli import main; sys.exit(main(['examples', 'here']))"
    )
    subprocess.run([sys.executable, "-I", "-c", run, str(tmp_path / "site")], cwd=tmp_path, check=True, timeout=60)
    assert {path.name for path in (tmp_path / "here").iterdir()} == NAMES
