"""Bombs, loops and absurd counts are refused before anything is allocated; a short fuzz run finds nothing else."""

from __future__ import annotations

import json
import os
import pathlib
import struct
import subprocess
import sys
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

import segkit.io as sio
from segkit.errors import ImageReadError

LONG = bool(os.environ.get("SEGKIT_LONG"))
BACKENDS = ["auto", "opencv", "pillow", "tifffile"]
FUZZ = pathlib.Path(__file__).parent / "fuzz" / "fuzz_io.py"


def tiff(entries, *, order="<", blocks=b"", following=0, big=False):
    """A TIFF of one directory right after the header; entries are (tag, type, count, value or offset)."""
    mark = {"<": b"II", ">": b"MM"}[order]
    if big:
        head = mark + struct.pack(order + "HHHQ", 43, 8, 0, 16)
        body = struct.pack(order + "Q", len(entries))
        body += b"".join(struct.pack(order + "HHQQ", *entry) for entry in entries)
        return head + body + struct.pack(order + "Q", following) + blocks
    head = mark + struct.pack(order + "HI", 42, 8)
    body = struct.pack(order + "H", len(entries)) + b"".join(struct.pack(order + "HHII", *entry) for entry in entries)
    return head + body + struct.pack(order + "I", following) + blocks


def page(width, height, *, compression=1, offset=200, size=100, bits=8, extra=()):
    entries = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 1, bits),
        (259, 3, 1, compression),
        (262, 3, 1, 1),
        (273, 4, 1, offset),
        (277, 3, 1, 1),
        (278, 4, 1, height),
        (279, 4, 1, size),
        *extra,
    ]
    return sorted(entries)


def refused(path, match=None):
    """Refused by every backend and for every way of reading, without allocating more than a few megabytes."""
    for backend in BACKENDS:
        tracemalloc.start()
        with pytest.raises(ImageReadError, match=match):
            sio.read_image(path, backend=backend, max_pixels=2**62)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 16 << 20, f"{backend} allocated {peak >> 20} MiB"


def test_a_tiff_of_absurd_size_is_refused(tmp_path):
    for width, height in ((2**31 - 1, 2**31 - 1), (100_000, 100_000), (2**32 - 1, 1)):
        for compression in (1, 5, 8, 32773):
            (tmp_path / "a.tif").write_bytes(tiff(page(width, height, compression=compression), blocks=bytes(400)))
            refused(tmp_path / "a.tif")


def test_max_pixels_holds_for_every_format(tmp_path):
    sio.write_image(tmp_path / "a.tif", np.zeros((50, 60, 1), np.uint8))
    sio.write_image(tmp_path / "a.png", np.zeros((50, 60, 1), np.uint8))
    Image.fromarray(np.zeros((50, 60), np.uint8)).save(tmp_path / "a.jpg")
    for name in ("a.tif", "a.png", "a.jpg"):
        with pytest.raises(ImageReadError, match="3000 pixels, more than max_pixels=2999"):
            sio.read_image(tmp_path / name, max_pixels=2999)
        sio.read_image(tmp_path / name, max_pixels=3000)
    sio.read_image(tmp_path / "a.tif", window=(0, 0, 10, 10), max_pixels=100)


def test_a_deflate_bomb_in_a_strip_is_refused(tmp_path):
    bomb = zlib.compress(bytes(100_000_000), 9)  # 97 kB that claim to be a 64-pixel image
    data = tiff(page(8, 8, compression=8, size=len(bomb)), blocks=bytes(200 - 122) + bomb)
    (tmp_path / "a.tif").write_bytes(data)
    tracemalloc.start()
    for backend in BACKENDS:
        try:
            image = sio.read_image(tmp_path / "a.tif", backend=backend)
        except ImageReadError:
            continue
        assert image.shape == (8, 8, 1)  # the first 64 bytes are its pixels; the rest is never inflated
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("tag", [258, 273, 279, 320, 330, 339, 347, 34675])
def test_a_tag_that_counts_4_gib_is_refused_or_ignored(tmp_path, tag):
    for big, count in ((False, 2**32 - 1), (True, 2**62)):
        entries = [entry for entry in page(8, 8) if entry[0] != tag] + [(tag, 4, count, 8)]
        (tmp_path / "a.tif").write_bytes(tiff(sorted(entries), blocks=bytes(400), big=big))
        tracemalloc.start()
        try:
            sio.image_info(tmp_path / "a.tif")
            sio.read_image(tmp_path / "a.tif")
        except ImageReadError:
            pass
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
        tracemalloc.stop()


def test_a_directory_that_points_at_itself_ends(tmp_path):
    data = tiff(page(4, 4, size=16), following=8, blocks=bytes(200))
    (tmp_path / "a.tif").write_bytes(data)
    assert sio.image_info(tmp_path / "a.tif").pages == 1
    with pytest.raises(ImageReadError, match="page 1 was asked for, but it has 1"):
        sio.read_image(tmp_path / "a.tif", page=1)
    (tmp_path / "b.tif").write_bytes(tiff([*page(4, 4, size=16), (330, 4, 1, 8)], blocks=bytes(200)))
    assert sio.image_info(tmp_path / "b.tif").levels == 1


def test_a_directory_outside_the_file_is_refused(tmp_path):
    for offset in (2, 9_000, 2**32 - 1):
        (tmp_path / "a.tif").write_bytes(b"II*\0" + struct.pack("<I", offset) + bytes(64))
        refused(tmp_path / "a.tif")
    (tmp_path / "a.tif").write_bytes(b"II+\0\x08\0\0\0" + struct.pack("<Q", 2**63 + 5) + bytes(64))
    refused(tmp_path / "a.tif")


def test_an_old_jpeg_that_lists_too_few_blocks_is_refused(tmp_path):
    entries = [entry for entry in page(8, 80, compression=6, size=100) if entry[0] != 278] + [(278, 4, 1, 8)]
    (tmp_path / "a.tif").write_bytes(tiff(sorted(entries), blocks=bytes(400)))
    refused(tmp_path / "a.tif", match="no backend gives|old kind of JPEG|proven")
    assert not any(verdict for _, verdict, _ in sio.explain_backends(tmp_path / "a.tif"))


@pytest.mark.parametrize("tag", [258, 259, 262, 277, 278])
def test_an_unknown_tag_out_of_order_is_refused(tmp_path, tag):
    """A flipped bit made it, and what the lost tag said would be replaced by a default."""
    entries = [(entry[0] ^ 1 << 14, *entry[1:]) if entry[0] == tag else entry for entry in page(8, 8)]
    (tmp_path / "a.tif").write_bytes(tiff(entries, blocks=bytes(400)))
    refused(tmp_path / "a.tif", match="out of order, and its tag")


def test_tags_that_a_writer_sorted_badly_or_wrote_twice_are_read(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (8, 8, 1), dtype=np.uint8)
    for _ in range(20):
        entries = page(8, 8, offset=170, size=64)  # right behind the thirteen entries
        text = (270, 2, 4, int.from_bytes(b"one\0", "little"))
        entries = [entries[i] for i in rng.permutation(len(entries))] + [text, text, (305, 2, 4, 0), entries[0]]
        data = tiff(entries, blocks=image.tobytes())
        (tmp_path / "a.tif").write_bytes(data)
        np.testing.assert_array_equal(sio.read_image(tmp_path / "a.tif"), image)


def test_a_tag_that_says_two_different_things_is_refused(tmp_path):
    for tag in (256, 258, 262, 273):
        twice = [entry for entry in page(8, 8) if entry[0] == tag]
        entries = sorted([*page(8, 8), (*twice[0][:3], twice[0][3] + 8)])
        (tmp_path / "a.tif").write_bytes(tiff(entries, blocks=bytes(400)))
        refused(tmp_path / "a.tif", match=f"tag {tag} twice, with different values")


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, data, *chunks, depth=8, color_type=0):
    head = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(chunks) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_text_and_profiles_that_inflate_without_end_are_never_inflated(tmp_path, kind):
    start = {b"zTXt": b"comment\0\0", b"iTXt": b"comment\0\1\0\0\0", b"iCCP": b"profile\0\0"}[kind]
    bomb = start + zlib.compress(bytes(300_000_000), 9)
    data = zlib.compress(b"".join(b"\0" + bytes(range(8)) for _ in range(8)))
    (tmp_path / "a.png").write_bytes(png(8, 8, data, chunk(kind, bomb)))
    tracemalloc.start()
    for backend in BACKENDS:
        assert sio.read_image(tmp_path / "a.png", backend=backend)[:, 3, 0].tolist() == [3] * 8
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


def test_a_png_that_claims_more_than_its_data_can_hold_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(png(2**31 - 1, 2**31 - 1, zlib.compress(bytes(1000))))
    refused(tmp_path / "a.png", match="cannot hold")


def test_a_png_whose_data_end_early_is_refused(tmp_path):
    for row in (bytes(9), b"\1" + bytes(8)):  # without and with a filter: they take different ways
        (tmp_path / "a.png").write_bytes(png(8, 8, zlib.compress(row * 5)))  # 5 of 8 rows
        refused(tmp_path / "a.png")
        (tmp_path / "a.png").write_bytes(png(8, 8, zlib.compress(row * 8)[:-4]))  # all rows, but not the checksum
        refused(tmp_path / "a.png")


@pytest.mark.parametrize("place", ["checksum", "data"])
def test_a_png_with_damaged_pixel_data_is_refused(tmp_path, place):
    rows = b"".join(b"\0" + np.random.default_rng(y).bytes(64) for y in range(64))
    data = bytearray(png(64, 64, zlib.compress(rows)))
    start = data.index(b"IDAT")
    data[-13 if place == "checksum" else start + 500] ^= 1
    (tmp_path / "a.png").write_bytes(data)
    refused(tmp_path / "a.png")


def jpeg(tmp_path, **options):
    image = np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "a.jpg", **options)
    return bytearray((tmp_path / "a.jpg").read_bytes())


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_claims_more_than_its_data_can_hold_is_refused(tmp_path, progressive):
    data = jpeg(tmp_path, progressive=progressive)
    frame = data.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    data[frame + 5 : frame + 9] = b"\xff\xff\xff\xff"
    (tmp_path / "a.jpg").write_bytes(data)
    refused(tmp_path / "a.jpg", match="cannot hold")


def test_a_jpeg_of_a_thousand_scans_is_refused(tmp_path):
    data = jpeg(tmp_path, progressive=True)
    last = data.rindex(b"\xff\xda")
    (tmp_path / "a.jpg").write_bytes(data[:last] + data[last:-2] * 1000 + b"\xff\xd9")
    refused(tmp_path / "a.jpg", match="more than 200 scans")


@pytest.mark.parametrize("progressive", [False, True])
def test_a_second_picture_in_a_jpeg_changes_nothing_and_does_not_hide_that_the_first_is_cut(tmp_path, progressive):
    whole = bytes(jpeg(tmp_path, progressive=progressive))
    truth = sio.read_image(tmp_path / "a.jpg")
    (tmp_path / "two.jpg").write_bytes(whole + whole)
    (tmp_path / "cut.jpg").write_bytes(whole[: -len(whole) // 4] + whole)
    for backend in ("auto", "pillow", "opencv", "tifffile"):
        np.testing.assert_array_equal(sio.read_image(tmp_path / "two.jpg", backend=backend), truth)
        with pytest.raises(ImageReadError, match="its end .* is missing"):
            sio.read_image(tmp_path / "cut.jpg", backend=backend)


@pytest.mark.parametrize(
    ("progressive", "share"), [(False, 0.3), (False, 0.6), (False, 0.95), (True, 0.2), (True, 0.5)]
)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_that_was_cut_and_closed_again_is_not_half_grey(tmp_path, progressive, mode, share):
    image = np.random.default_rng(3).integers(0, 255, (65, 83, 3), dtype=np.uint8)
    Image.fromarray(image).convert(mode).save(tmp_path / "a.jpg", progressive=progressive)
    data = (tmp_path / "a.jpg").read_bytes()
    start = data.index(b"\xff\xda")
    cut = start + int(share * (len(data) - start))
    (tmp_path / "a.jpg").write_bytes(data[: cut - (data[cut - 1] == 0xFF)] + b"\xff\xd9")
    for backend in ("auto", "pillow", "opencv", "tifffile"):
        with pytest.raises(ImageReadError, match="data end early|unfinished"):
            sio.read_image(tmp_path / "a.jpg", backend=backend)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_that_ends_in_middle_grey_by_itself_is_read(tmp_path, progressive, mode):
    image = np.full((40, 56, 3), 128, np.uint8)
    image[:16] = np.random.default_rng(4).integers(0, 255, (16, 56, 3))
    Image.fromarray(image).convert(mode).save(tmp_path / "a.jpg", progressive=progressive)
    for backend in ("auto", "pillow", "opencv", "tifffile"):
        assert (sio.read_image(tmp_path / "a.jpg", backend=backend)[-8:] == 128).all()


def test_a_named_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageReadError, match="no regular file"):
        sio.read_image(tmp_path / "pipe.png")


def test_fax_codes_about_which_two_decoders_disagree_are_refused(tmp_path):
    rng = np.random.default_rng(2)
    shape = np.kron(rng.random((9, 12)) > 0.5, np.ones((11, 13), bool))
    Image.fromarray(shape).save(tmp_path / "a.tif", compression="group4")
    if "needs imagecodecs" in {n: r for n, _, r in sio.explain_backends(tmp_path / "a.tif")}["tifffile"]:
        pytest.skip("this version of imagecodecs decodes no fax codes")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    whole = sio.read_image(tmp_path / "a.tif", samples="stored")
    outcomes = []
    for place in range(8, 60, 3):
        damaged = bytearray(data)
        damaged[place] ^= 0x18
        (tmp_path / "b.tif").write_bytes(damaged)
        try:
            outcomes.append(bool((sio.read_image(tmp_path / "b.tif", samples="stored") == whole).all()))
        except ImageReadError as error:
            outcomes.append("decoders disagree" in error.reason)
    assert outcomes.count(True) > len(outcomes) // 2  # some damage looks like other, sound codes to both


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_damaged_lzw_code_neither_crashes_nor_gives_wrong_samples(tmp_path, order):
    # Clear, then code 376, which names a table entry that cannot exist yet; then 258 and the end.
    bits = f"{256:09b}{376:09b}{258:09b}{257:09b}"
    codes = int(bits.ljust(40, "0"), 2).to_bytes(5, "big")
    entries = page(8, 8, compression=5, size=len(codes))
    (tmp_path / "a.tif").write_bytes(tiff(entries, order=order, blocks=bytes(200 - 122) + codes))
    path = str(tmp_path / "a.tif")
    code = f"import segkit.io\ntry: segkit.io.read_image({path!r})\nexcept OSError: print('refused')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "refused\n")


def test_ycbcr_coefficients_that_divide_by_zero_are_refused(tmp_path):
    entries = [entry for entry in page(8, 8, size=192) if entry[0] not in (258, 262, 277)]
    entries += [(258, 3, 3, 180), (262, 3, 1, 6), (277, 3, 1, 3), (529, 5, 3, 186)]
    side = struct.pack("<HHH", 8, 8, 8) + struct.pack("<IIIIII", 299, 0, 587, 1000, 114, 1000)
    blocks = bytes(180 - 134) + side
    (tmp_path / "a.tif").write_bytes(tiff(sorted(entries), blocks=blocks + bytes(300)))
    refused(tmp_path / "a.tif", match="tag 529 is malformed")
    wrong = blocks.replace(struct.pack("<II", 299, 0), struct.pack("<II", 2990, 1000))
    (tmp_path / "a.tif").write_bytes(tiff(sorted(entries), blocks=wrong + bytes(300)))
    refused(tmp_path / "a.tif", match="coefficients are 2.99")


def test_overlapping_directories_do_not_cost_minutes(tmp_path):
    # 3000 directories of 4096 entries each, one starting 14 bytes after the other, all in 100 kB.
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, 0) for tag in range(300, 4396))
    body = bytearray(entries * 2)
    for i in range(3000):
        struct.pack_into("<H", body, 14 * i, 4096)
    (tmp_path / "a.tif").write_bytes(b"II*\0\x08\0\0\0" + bytes(body))
    refused(tmp_path / "a.tif")


@pytest.fixture
def fuzz_seeds(tmp_path):
    """One small file of each kind that the tests can write."""
    folder = tmp_path / "seeds"
    folder.mkdir()
    rng = np.random.default_rng(3)
    rgb = rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)
    for ending in ("png", "jpg", "bmp", "webp", "gif", "ppm", "jp2"):
        Image.fromarray(rgb).save(folder / f"a.{ending}")
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        Image.fromarray(rgb).save(folder / f"{compression}.tif", compression=compression)
    Image.fromarray(rgb[..., 0] > 99).save(folder / "g4.tif", compression="group4")
    sio.write_image(folder / "deep.png", rgb.astype(np.uint16) * 257)
    sio.write_image(folder / "bands.tif", rng.integers(0, 9999, (20, 24, 13), dtype=np.uint16))
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="limits on memory are set the Linux way")
def test_a_short_fuzz_run_finds_nothing(fuzz_seeds, tmp_path):
    count = 200_000 if LONG else 3000
    command = [sys.executable, str(FUZZ), str(fuzz_seeds), "--count", str(count), "--report", str(tmp_path / "r.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3000)
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["failures"] == [], done.stderr[-500:]
    assert result["mutations"] == count
    assert result["outcomes"]["read"] > count // 50  # it gets past the first bytes


SHORT = {"lzw": 5, "deflate": 8, "packbits": 32773, "lzma": 34925, "zstd": 50000}


@pytest.mark.parametrize("predictor", [1, 2])
@pytest.mark.parametrize("bits", [1, 8, 12, 16])
@pytest.mark.parametrize("name", list(SHORT))
def test_a_block_that_decodes_to_fewer_rows_is_refused(tmp_path, name, bits, predictor):
    import imagecodecs

    encode = {
        "lzw": imagecodecs.lzw_encode,
        "deflate": zlib.compress,
        "packbits": imagecodecs.packbits_encode,
        "lzma": imagecodecs.lzma_encode,
        "zstd": imagecodecs.zstd_encode,
    }[name]
    for rows in (5, 7.5):  # of 8
        data = encode(np.random.default_rng(1).bytes(int(rows * (8 * bits // 8))))
        entries = [*page(8, 8, compression=SHORT[name], size=len(data), bits=bits), (317, 3, 1, predictor)]
        (tmp_path / "a.tif").write_bytes(tiff(sorted(entries), blocks=bytes(200 - 134) + data))
        refused(tmp_path / "a.tif")


@pytest.mark.parametrize("samples", [1, 3])
def test_a_jpeg_block_of_another_size_is_refused(tmp_path, samples):
    rgb = np.random.default_rng(1).integers(0, 255, (16, 16, samples), dtype=np.uint8)
    image = Image.fromarray(rgb[..., 0] if samples == 1 else rgb)
    image.save(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    for width, height in ((16, 32), (24, 16), (64, 64)):
        entries = [
            entry for entry in page(width, height, compression=7, size=len(data)) if entry[0] not in (258, 262, 277)
        ]
        entries += [(258, 3, 1, 8), (262, 3, 1, 6 if samples == 3 else 1), (277, 3, 1, samples)]
        (tmp_path / "a.tif").write_bytes(tiff(sorted(entries), blocks=bytes(200 - 122) + data))
        refused(tmp_path / "a.tif")


LOW_MEMORY = """
import resource, sys
import cv2, tifffile, imagecodecs, PIL.Image
import segkit.io as sio
for name in ("small.png", "small.tif", "small.jpg"):
    for backend in ("opencv", "pillow", "tifffile"):
        sio.read_image(name, backend=backend)
size = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmSize:"))
resource.setrlimit(resource.RLIMIT_AS, (size + (60 << 20),) * 2)
for name in ("large.png", "large.tif", "large.jpg"):
    for backend in ("auto", "opencv", "pillow", "tifffile"):
        try:
            sio.read_image(name, backend=backend)
            print("read", name, backend)
        except sio._read.ImageReadError as error:
            assert "memory" in str(error), error
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits on memory are set the Linux way")
def test_an_image_that_does_not_fit_into_memory_is_refused(tmp_path):
    for name, side in (("small", 8), ("large", 11_000)):
        image = np.zeros((side, side, 1), np.uint8)
        sio.write_image(tmp_path / f"{name}.png", image)
        sio.write_image(tmp_path / f"{name}.tif", image.astype(np.uint16))
        Image.fromarray(image[..., 0]).save(tmp_path / f"{name}.jpg")
    done = subprocess.run([sys.executable, "-c", LOW_MEMORY], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr[-800:]
