"""Where a picture may come from: paths as people write them, bytes, and files that are open."""

from __future__ import annotations

import io
import pathlib
import pickle
import tempfile
import zipfile

import numpy as np
import pytest

import segkit.io as sio

IMAGE = np.random.default_rng(0).integers(0, 255, (8, 9, 3), dtype=np.uint8)


@pytest.fixture(params=["png", "tif"])
def path(tmp_path, request):
    sio.write_image(tmp_path / f"a.{request.param}", IMAGE)
    return tmp_path / f"a.{request.param}"


def moved(data):
    file = io.BytesIO(data)
    file.seek(5)
    return file


def in_zip(path):
    with zipfile.ZipFile(path.with_suffix(".zip"), "w") as archive:
        archive.write(path, "a")
    return zipfile.ZipFile(path.with_suffix(".zip")).open("a")


def temporary(data):
    file = tempfile.TemporaryFile()  # noqa: SIM115
    file.write(data)
    file.flush()
    return file


SOURCES = {
    "text": str,
    "a path": pathlib.Path,
    "bytes": lambda path: path.read_bytes(),
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "BytesIO": lambda path: io.BytesIO(path.read_bytes()),
    "BytesIO that was read already": lambda path: moved(path.read_bytes()),
    "an open file": lambda path: path.open("rb"),
    "an open file without a buffer": lambda path: path.open("rb", buffering=0),
    "a file in a zip": in_zip,
    "a temporary file without a name": lambda path: temporary(path.read_bytes()),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_way_to_hold_a_file_reads_alike(path, kind):
    file = SOURCES[kind](path)
    np.testing.assert_array_equal(sio.read_image(file), IMAGE)
    np.testing.assert_array_equal(sio.read_image(file, window=(1, 2, 3, 4)), IMAGE[1:4, 2:6])
    assert sio.image_info(file) == sio.image_info(path)
    assert sio.explain_backends(file) == sio.explain_backends(path)
    with sio.open_image(file) as handle, pickle.loads(pickle.dumps(handle)) as other:
        np.testing.assert_array_equal(other.read(), IMAGE)
    if hasattr(file, "close"):
        file.close()


def test_a_mask_is_read_from_bytes_and_an_error_says_that_it_was_bytes(tmp_path):
    sio.write_mask(tmp_path / "mask.png", IMAGE[..., 0])
    data = (tmp_path / "mask.png").read_bytes()
    np.testing.assert_array_equal(sio.read_mask(data), IMAGE[..., 0])
    with pytest.raises(OSError, match=f"read_mask: cannot read '<{len(data) - 9} bytes>'"):
        sio.read_mask(data[:-9])
    with pytest.raises(OSError, match="the file is empty"):
        sio.read_mask(b"")


@pytest.mark.parametrize("wrong", [None, 3, ["a.png"], IMAGE, io.StringIO("a")])
def test_what_is_no_file_is_refused_with_what_would_be_one(wrong):
    with pytest.raises(TypeError, match="read_image: path must be a path, the bytes of a file, or a file that is open"):
        sio.read_image(wrong)


def test_drive_letters_and_the_home_folder_are_local(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "D:" / "data").mkdir(parents=True)
    for name in ("D://data//a.png", "D:/data/b.png", "~/c.png", "x:y.png", "data:, 1.png"):
        sio.write_image(name, IMAGE)
        np.testing.assert_array_equal(sio.read_image(name), IMAGE)
    assert (tmp_path / "c.png").exists()


@pytest.mark.parametrize("name", ["x" * 251, "x" * 225, "影" * 77 + "a" * 20, "影" * 78, "é" * 120])
def test_names_as_long_as_the_file_system_takes_are_written(tmp_path, name):
    sio.write_image(tmp_path / f"{name}.png", IMAGE)
    np.testing.assert_array_equal(sio.read_image(tmp_path / f"{name}.png"), IMAGE)
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}.png"]
