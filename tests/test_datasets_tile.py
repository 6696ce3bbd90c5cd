"""tile_images: the same samples, the same looks, the same facts, in blocks that a crop can read by itself."""

from __future__ import annotations

import os

import numpy as np
import pytest
import tifffile
from PIL import Image

from segkit.cli import main
from segkit.datasets import tile_images
from segkit.errors import DataError
from segkit.io import image_info, read_image

RNG = np.random.default_rng(0)
SIZE = (70, 101)


def write_kinds(folder) -> list[str]:
    """One file of each kind that has to come through."""
    rgb = RNG.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    grey = rgb[..., 0]
    turned = Image.Exif()
    turned[274] = 6
    Image.fromarray(rgb).save(folder / "rgb.png")
    Image.fromarray(rgb).save(folder / "turned.jpg", exif=turned)
    Image.fromarray(grey > 90).save(folder / "bilevel.png")
    Image.fromarray(rgb).convert("RGBA").save(folder / "rgba.png")
    Image.fromarray(rgb).convert("LA").save(folder / "la.png")
    for name, colours, bits in (("palette", 7, 8), ("few", 2, 1)):
        indices = Image.fromarray(grey % colours)
        indices.putpalette(list(range(3 * colours)))
        indices.save(folder / f"{name}.png", bits=bits)
    (folder / "sub").mkdir()
    Image.fromarray(grey).save(folder / "sub" / "grey.png", icc_profile=b"a profile")
    deep = RNG.integers(0, 4000, (*SIZE, 5), dtype=np.uint16)
    earth = [(33550, 12, 3, (10.0, 10.0, 0.0), True), (42113, 2, 0, "0", True)]
    options = {"photometric": "minisblack", "planarconfig": "contig"}
    tifffile.imwrite(folder / "bands.tif", deep, extratags=earth, metadata=None, **options)
    tifffile.imwrite(folder / "floats.tif", RNG.random(SIZE, dtype=np.float32))
    tifffile.imwrite(folder / "signed.tif", RNG.integers(-9, 9, SIZE).astype(np.int16))
    tifffile.imwrite(folder / "white.tif", grey, photometric="miniswhite")
    return sorted(str(path) for path in folder.rglob("*.*"))


@pytest.mark.parametrize("compression", ["zstd", "deflate", "lzw", "none"])
def test_samples_looks_and_facts_come_through(tmp_path, compression):
    (tmp_path / "in").mkdir()
    sources = write_kinds(tmp_path / "in")
    done = tile_images(tmp_path / "in", tmp_path / "out", tile=32, compression=compression, progress=False)
    assert done.failed == []
    assert len(done.written) == len(sources)
    for source in sources:
        copy = tmp_path / "out" / os.path.relpath(os.path.splitext(source)[0] + ".tif", tmp_path / "in")
        before, after = image_info(source), image_info(copy)
        assert after.tiled
        for fact in ("height", "width", "channels", "dtype", "orientation", "icc"):
            assert getattr(before, fact) == getattr(after, fact), (source, fact)
        np.testing.assert_array_equal(read_image(source), read_image(copy))
        if before.format != "JPEG":
            assert before.photometric == after.photometric
            np.testing.assert_array_equal(read_image(source, samples="stored"), read_image(copy, samples="stored"))
    with tifffile.TiffFile(tmp_path / "out" / "bands.tif") as file:
        assert file.pages[0].tags[33550].value == (10.0, 10.0, 0.0)
        assert file.pages[0].tags[42113].value == "0"


def test_what_a_tiled_tiff_would_change_is_left_out_by_name(tmp_path):
    (tmp_path / "in").mkdir()
    rgb = Image.fromarray(RNG.integers(0, 256, (20, 20, 3), dtype=np.uint8))
    rgb.convert("CMYK").save(tmp_path / "in/cmyk.tif")
    (tmp_path / "in/deep.pgm").write_bytes(b"P5\n4 4\n4095\n" + bytes(32))
    tifffile.imwrite(tmp_path / "in/pages.tif", np.zeros((3, 9, 9), np.uint8), photometric="minisblack", metadata=None)
    clear = rgb.quantize(4)
    clear.save(tmp_path / "in/clear.png", transparency=0)
    rgb.save(tmp_path / "in/cut.png")
    (tmp_path / "in/cut.png").write_bytes((tmp_path / "in/cut.png").read_bytes()[:200])
    done = tile_images(tmp_path / "in", tmp_path / "out", progress=False)
    assert done.written == []
    assert {os.path.basename(path) for path, _ in done.failed} == set(os.listdir(tmp_path / "in"))
    assert not [name for _, _, names in os.walk(tmp_path / "out") for name in names]  # nothing half written


def test_a_second_call_makes_only_what_is_missing_or_older(tmp_path):
    for name in "ab":
        Image.fromarray(np.full((20, 20), 7, np.uint8)).save(tmp_path / f"{name}.png")
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    first = tile_images(files, tmp_path / "out", progress=False).written
    times = [os.stat(path).st_mtime_ns for path in first]
    assert tile_images(files, tmp_path / "out", progress=False).written == first
    assert [os.stat(path).st_mtime_ns for path in first] == times
    Image.fromarray(np.full((20, 20), 9, np.uint8)).save(files[0])
    os.utime(files[0], (os.stat(first[0]).st_mtime + 5,) * 2)
    tile_images(files, tmp_path / "out", progress=False)
    assert read_image(first[0]).max() == 9
    assert os.stat(first[1]).st_mtime_ns == times[1]


def test_arguments_that_cannot_be_are_refused(tmp_path):
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "a.bmp")
    with pytest.raises(ValueError, match="`tile` must be a multiple of 16, got 100"):
        tile_images(tmp_path, tmp_path / "out", tile=100)
    with pytest.raises(ValueError, match="`compression` must be one of"):
        tile_images(tmp_path, tmp_path / "out", compression="jpeg")
    with pytest.raises(DataError, match="every file must get a name of its own"):
        tile_images(tmp_path, tmp_path / "out")
    tifffile.imwrite(tmp_path / "out.tif", np.zeros((9, 9), np.uint8))
    with pytest.raises(DataError, match="`out` must be another folder"):
        tile_images([tmp_path / "out.tif"], tmp_path)


def test_the_command_line_tiles_names_what_it_leaves_out_and_says_how_many(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "in/a.png")
    assert main(["tile", str(tmp_path / "in"), str(tmp_path / "out"), "--quiet"]) == 0
    assert "1 of 1 files in" in capsys.readouterr().out
    (tmp_path / "in/b.png").write_bytes(b"nothing")
    assert main(["tile", str(tmp_path / "in"), str(tmp_path / "out"), "--tile", "64", "--quiet"]) == 1
    assert "b.png" in capsys.readouterr().err
    assert main(["tile", str(tmp_path / "in/b.png"), str(tmp_path / "other"), "--quiet"]) == 2
