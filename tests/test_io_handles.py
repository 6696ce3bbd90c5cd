"""Handles, windows, pages and levels: what they read, in how many blocks, from how many threads and processes."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sys
import threading

import numpy as np
import pytest
import tifffile
import torch
from torch.utils.data import DataLoader, Dataset

import segkit.io as sio
from segkit.errors import ImageReadError
from segkit.io._backends import tifffile_pages as _tifffile_pages
from segkit.io._headers import source as _source

LONG = bool(os.environ.get("SEGKIT_LONG"))


def noise(*shape, dtype=np.uint16):
    return np.random.default_rng(list(shape)).integers(0, np.iinfo(dtype).max, shape, dtype=dtype)


@pytest.fixture
def bands(tmp_path):
    """A tiled TIFF of 13 bands and what is in it."""
    image = noise(150, 200, 13)
    tifffile.imwrite(
        tmp_path / "bands.tif",
        image,
        photometric="minisblack",
        planarconfig="contig",
        tile=(32, 48),
        compression="zlib",
    )
    return tmp_path / "bands.tif", image


def windows(height, width, count):
    rng = np.random.default_rng(7)
    for _ in range(count):
        h, w = int(rng.integers(1, height + 1)), int(rng.integers(1, width + 1))
        yield int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w


@pytest.mark.parametrize("layout", ["tiles", "strips", "planar tiles", "planar strips", "one strip", "uncompressed"])
def test_every_window_is_the_part_of_the_whole_image(tmp_path, layout):
    image = noise(70, 90, 3)
    options = {"tile": (16, 32)} if "tiles" in layout else {"rowsperstrip": 70 if layout == "one strip" else 9}
    options["planarconfig"] = "separate" if "planar" in layout else "contig"
    tifffile.imwrite(
        tmp_path / "a.tif",
        image.transpose(2, 0, 1) if "planar" in layout else image,
        photometric="rgb",
        compression=None if layout == "uncompressed" else "lzw",
        predictor=layout != "uncompressed",
        **options,
    )
    with sio.open_image(tmp_path / "a.tif") as handle:
        for top, left, height, width in windows(70, 90, 60):
            part = handle.read(window=(top, left, height, width), channels=[2, 0])
            np.testing.assert_array_equal(part, image[top : top + height, left : left + width, [2, 0]])


def test_blocks_decoded_by_several_threads_are_the_same(bands, monkeypatch):
    path, image = bands
    monkeypatch.setattr(_tifffile_pages, "WORTH_THREADS", 0)
    monkeypatch.setattr(_tifffile_pages.multiprocessing, "cpu_count", lambda: 16)
    threads = set()
    real = _tifffile_pages._Blocks.decode

    def noting(self, *place):
        threads.add(threading.get_ident())
        return real(self, *place)

    monkeypatch.setattr(_tifffile_pages._Blocks, "decode", noting)
    np.testing.assert_array_equal(sio.read_image(path), image)
    assert threading.get_ident() not in threads
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ImageReadError):
        sio.read_image(path)


def test_a_window_reads_only_the_blocks_it_touches(bands, monkeypatch):
    path, image = bands
    blocks = []
    with tifffile.TiffFile(path) as file:
        places = set(file.pages[0].dataoffsets)
    with sio.open_image(path) as handle:
        real = _source.Source.pread

        def counting(self, offset, count):
            if offset in places:
                blocks.append(offset)
            return real(self, offset, count)

        monkeypatch.setattr(_source.Source, "pread", counting)
        part = handle.read(window=(40, 50, 30, 40))
    np.testing.assert_array_equal(part, image[40:70, 50:90])
    assert len(blocks) == 2  # rows 40 to 70 lie in the tiles of 32..64 and 64..96, columns 50 to 90 in those of 48..96


def test_pages_are_read_by_number_and_a_missing_one_is_refused(tmp_path):
    pages = noise(4, 20, 30)
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="minisblack", compression="zlib")
    assert sio.image_info(tmp_path / "a.tif").pages == 4
    for backend in ("auto", "opencv", "pillow", "tifffile"):
        for number, page in enumerate(pages):
            np.testing.assert_array_equal(
                sio.read_image(tmp_path / "a.tif", page=number, backend=backend)[..., 0], page
            )
    np.testing.assert_array_equal(sio.read_mask(tmp_path / "a.tif", page=2), pages[2])
    with pytest.raises(ImageReadError, match=r"page 4 was asked for, but it has 4"):
        sio.read_image(tmp_path / "a.tif", page=4)


@pytest.mark.parametrize("where", ["chain", "sub-directories"])
def test_levels_of_a_pyramid_are_read_by_number(tmp_path, where):
    levels = [noise(64 >> i, 96 >> i, 3, dtype=np.uint8) for i in range(3)]
    options = {"photometric": "rgb", "tile": (16, 16), "compression": "zlib", "metadata": None}
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(levels[0], subifds=2 if where == "sub-directories" else None, **options)
        for level in levels[1:]:
            writer.write(level, subfiletype=1, **options)
    info = sio.image_info(tmp_path / "a.tif")
    assert (info.pages, info.levels) == (1, 3)
    assert info.level_shapes == ((64, 96), (32, 48), (16, 24))
    with sio.open_image(tmp_path / "a.tif") as handle:
        for number, level in enumerate(levels):
            np.testing.assert_array_equal(handle.read(level=number), level)
    with pytest.raises(ImageReadError, match=r"level 3 was asked for, but this page has 3"):
        sio.read_image(tmp_path / "a.tif", level=3)


def test_orientation_of_a_tiff_turns_windows_too(tmp_path):
    image = noise(6, 9, 2)
    for orientation in range(1, 9):
        tifffile.imwrite(
            tmp_path / "a.tif",
            image,
            photometric="minisblack",
            planarconfig="contig",
            extratags=[(274, 3, 1, orientation, True)],
        )
        whole = sio.read_image(tmp_path / "a.tif")
        np.testing.assert_array_equal(sio.read_image(tmp_path / "a.tif", orientation="ignore"), image)
        first = {1: (0, 0), 2: (0, 8), 3: (5, 8), 4: (5, 0), 5: (0, 0), 6: (5, 0), 7: (5, 8), 8: (0, 8)}[orientation]
        np.testing.assert_array_equal(whole[0, 0], image[first])  # which stored pixel is top left: EXIF 2.32, 4.6.4
        height, width = whole.shape[:2]
        assert (height, width) == ((6, 9) if orientation < 5 else (9, 6))
        for top, left, h, w in windows(height, width, 12):
            part = sio.read_image(tmp_path / "a.tif", window=(top, left, h, w))
            np.testing.assert_array_equal(part, whole[top : top + h, left : left + w])


def test_a_handle_pickles_and_reads_the_same(bands):
    path, image = bands
    with sio.open_image(path) as handle, pickle.loads(pickle.dumps(handle)) as again:
        assert again.info == handle.info
        np.testing.assert_array_equal(again.read(window=(3, 4, 50, 60)), image[3:53, 4:64])


def test_a_closed_handle_says_so(bands):
    handle = sio.open_image(bands[0])
    handle.close()
    handle.close()
    with pytest.raises(ImageReadError, match="is closed"):
        handle.read(window=(100, 100, 5, 5))


class Windows(Dataset):
    def __init__(self, path, size):
        self.handle = sio.open_image(path)
        self.places = list(windows(*size, 48))

    def __len__(self):
        return len(self.places)

    def __getitem__(self, index):
        part = self.handle.read(window=self.places[index])
        return index, int(part.astype(np.int64).sum()), os.getpid()


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more than this machine has cores
@pytest.mark.parametrize(("start", "workers"), [("fork", 8), ("spawn", 3)])  # each spawned one imports all anew
def test_a_handle_gives_the_same_in_several_data_loader_workers(bands, start, workers):
    if start not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this platform has no {start}")
    path, image = bands
    data = Windows(path, image.shape[:2])
    loader = DataLoader(data, batch_size=None, num_workers=workers, multiprocessing_context=start, timeout=100)
    seen = list(loader)
    assert len({pid for *_, pid in seen}) == workers
    for index, total, _ in seen:
        top, left, height, width = data.places[index]
        assert total == int(image[top : top + height, left : left + width].astype(np.int64).sum())
    assert data[0][1] == seen[0][1]  # and in the parent it still works
    data.handle.close()


def test_a_handle_is_shared_by_8_threads(bands):
    path, image = bands
    wrong = []
    with sio.open_image(path) as handle:

        def work(number):
            for top, left, height, width in list(windows(150, 200, 40))[number:]:
                part = handle.read(window=(top, left, height, width))
                if not np.array_equal(part, image[top : top + height, left : left + width]):
                    wrong.append((number, top, left))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert wrong == []


@pytest.mark.skipif(sys.platform != "linux", reason="open descriptors are counted in /proc")
def test_no_descriptor_is_left_open(tmp_path):
    sio.write_image(tmp_path / "good.png", noise(8, 8, 3))
    sio.write_image(tmp_path / "good.tif", noise(8, 8, 3))
    data = (tmp_path / "good.png").read_bytes()
    (tmp_path / "broken.png").write_bytes(data[:-20])
    (tmp_path / "broken.tif").write_bytes((tmp_path / "good.tif").read_bytes()[:-150])
    (tmp_path / "text.txt").write_text("no image")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(100_000 // 13 if LONG else 150):
        for name in ("good.png", "good.tif"):
            sio.read_image(tmp_path / name)
            handle = sio.open_image(tmp_path / name)
            del handle  # a forgotten handle closes itself
        for name in ("broken.png", "broken.tif", "text.txt", "missing.png", "."):
            for read in (sio.read_image, sio.open_image) if name != "broken.tif" else (sio.read_image,):
                with pytest.raises(ImageReadError):
                    read(tmp_path / name)
    assert len(os.listdir("/proc/self/fd")) == before


def test_uint16_never_becomes_a_torch_uint16(bands):
    assert sio.to_tensor(sio.read_image(bands[0])).dtype == torch.float32
