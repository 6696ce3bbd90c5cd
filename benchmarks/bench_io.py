"""Reading through segkit against the bare call of the same library on the same file.

    python benchmarks/bench_io.py [--repeats 40] [--json FILE]

Both are timed in turn, in one process; the ratio is the median over neighbouring runs, and below 1 means that segkit is
faster. The bare calls are those that people write: ``cv2.imread(path, cv2.IMREAD_UNCHANGED)`` (which gives BGR),
``np.asarray(Image.open(path))`` and ``tifffile.imread(path)``; for a window of a large file, reading and decoding its
blocks only.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import cv2
import imagecodecs
import numpy as np
import tifffile
from PIL import Image

import segkit.io as sio


def picture(height, width, channels, dtype):
    """Something like a photograph: smooth shapes and a little noise, so that compression has an ordinary day."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    planes = [
        np.sin(x / (31 + 5 * c)) + np.cos(y / (47 + 3 * c)) + rng.normal(0, 0.03, (height, width))
        for c in range(channels)
    ]
    image = (np.stack(planes, axis=2) + 2.2) / 4.4
    return (image.clip(0, 1) * (np.iinfo(dtype).max // (1 if dtype == "uint8" else 8))).astype(dtype)


def labels(height, width):
    """A mask of eight classes with ragged borders."""
    return (picture(height, width, 1, "uint8")[..., 0] // 32).astype(np.uint8)


def pillow(path):
    with Image.open(path) as image:
        return np.asarray(image)


def opencv(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def measure(ours, bare, repeats):
    """Median seconds of both, run in turn, and the median ratio of neighbours: a busy machine disturbs that least."""
    times: tuple[list[float], list[float]] = ([], [])
    for i in range(repeats + 3):
        for call, out in ((ours, times[0]), (bare, times[1])) if i % 2 else ((bare, times[1]), (ours, times[0])):
            began = time.perf_counter()
            call()
            if i >= 3:
                out.append(time.perf_counter() - began)
    ratios = [ours / bare for ours, bare in zip(*times, strict=True)]
    return statistics.median(times[0]), statistics.median(times[1]), statistics.median(ratios)


def files(folder):
    """(name, path, bare call) of files of one megapixel."""
    rgb8, rgb16 = picture(1024, 1024, 3, "uint8"), picture(1024, 1024, 3, "uint16")
    bands = picture(1024, 1024, 13, "uint16")
    mask = labels(1024, 1024)
    sio.write_image(folder / "rgb8.png", rgb8)
    sio.write_image(folder / "grey8.png", rgb8[..., :1])
    sio.write_image(folder / "rgb16.png", rgb16)
    sio.write_image(folder / "grey16.png", rgb16[..., :1])
    Image.fromarray(rgb8).save(folder / "rgb.jpg", quality=92)
    palette = Image.fromarray(mask)
    palette.putpalette(bytes(range(256)) * 3)
    palette.save(folder / "palette.png")
    deflate = {"compression": "zlib", "predictor": True}
    tifffile.imwrite(folder / "tiled.tif", rgb8, photometric="rgb", tile=(256, 256), **deflate)
    tifffile.imwrite(folder / "strips.tif", rgb8, photometric="rgb", rowsperstrip=16, **deflate)
    tifffile.imwrite(folder / "lzw.tif", rgb8, photometric="rgb", rowsperstrip=16, compression="lzw", predictor=True)
    tifffile.imwrite(folder / "plain.tif", rgb8, photometric="rgb", rowsperstrip=16)
    options = {"photometric": "minisblack", "planarconfig": "contig", **deflate}
    tifffile.imwrite(folder / "bands13.tif", bands, rowsperstrip=64, **options)
    tifffile.imwrite(folder / "bands13_tiled.tif", bands, tile=(256, 256), **options)
    tifffile.imwrite(
        folder / "bands13_planar.tif",
        bands.transpose(2, 0, 1),
        photometric="minisblack",
        planarconfig="separate",
        **deflate,
    )
    yield "PNG 8-bit RGB", folder / "rgb8.png", opencv, "opencv"
    yield "PNG 8-bit RGB", folder / "rgb8.png", pillow, "pillow"
    yield "PNG 8-bit grey", folder / "grey8.png", opencv, "opencv"
    yield "PNG 16-bit RGB", folder / "rgb16.png", opencv, "opencv"
    yield "PNG 16-bit grey", folder / "grey16.png", opencv, "opencv"
    yield "JPEG", folder / "rgb.jpg", opencv, "opencv"
    yield "JPEG", folder / "rgb.jpg", pillow, "pillow"
    for name in ("tiled", "strips", "lzw", "plain", "bands13", "bands13_tiled", "bands13_planar"):
        yield f"TIFF {name}", folder / f"{name}.tif", tifffile.imread, "tifffile"


def large(folder, size):
    """A tiled TIFF of size x size pixels, written tile by tile."""
    path = folder / f"large{size}.tif"
    tile = picture(256, 256, 3, "uint8")
    tiles = (np.roll(tile, i, axis=1) for i in range((size // 256) ** 2))
    tifffile.imwrite(
        path, tiles, shape=(size, size, 3), dtype="uint8", photometric="rgb", tile=(256, 256), compression="zlib"
    )
    return path


PEAK = """
import sys
import segkit.io as sio
for i in range(20):
    sio.read_image(sys.argv[1], window=(1000 + i, 2000 + i, 256, 256))
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM:")))
"""


def peak_kib(path):
    """Peak memory of a fresh process that reads windows of a file."""
    out = subprocess.run([sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True).stdout
    return int(out.split()[1])


def blocks_only(path, window):
    """The least that a window can cost: read the blocks it touches and decode them."""
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        columns = page.imagewidth // 256
        top, left, height, width = window
        numbers = [
            row * columns + column
            for row in range(top // 256, (top + height - 1) // 256 + 1)
            for column in range(left // 256, (left + width - 1) // 256 + 1)
        ]
        places = [(page.dataoffsets[n], page.databytecounts[n]) for n in numbers]

    def call():
        with open(path, "rb") as file:
            for offset, count in places:
                file.seek(offset)
                np.frombuffer(imagecodecs.zlib_decode(file.read(count), out=256 * 256 * 3), np.uint8)

    return call


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--json")
    args = parser.parse_args()
    rows = []

    def report(name, against, ours, bare, ratio, bar):
        rows.append({"case": name, "against": against, "segkit_ms": ours * 1e3, "bare_ms": bare * 1e3, "ratio": ratio})
        print(f"{name:32s} {against:22s} {ours * 1e3:8.2f} ms {bare * 1e3:8.2f} ms  ratio {ratio:5.2f}  (bar {bar})")

    print(f"{'case':32s} {'against':22s} {'segkit':>11s} {'bare':>11s}")
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        for name, path, bare, backend in files(folder):
            for chosen in ("auto", backend):
                times = measure(
                    lambda p=path, c=chosen: sio.read_image(p, backend=c), lambda p=path, b=bare: b(p), args.repeats
                )
                report(f"{name} ({chosen})", backend, *times, 1.1)
        path = folder / "palette.png"
        report("palette mask", "pillow", *measure(lambda: sio.read_mask(path), lambda: pillow(path), args.repeats), 1.0)
        big = large(folder, 16384)
        for window in ((1024, 2048, 256, 256), (1000, 2000, 256, 256)):
            bare = blocks_only(big, window)
            name = f"window of 16384^2 at {window[0]}, {window[1]}"
            report(
                name, "its blocks", *measure(lambda w=window: sio.read_image(big, window=w), bare, args.repeats), 2.0
            )
            with sio.open_image(big) as handle:
                ours = measure(lambda w=window, h=handle: h.read(window=w), bare, args.repeats)
            report(name + ", handle", "its blocks", *ours, 2.0)
        small, huge = peak_kib(large(folder, 2560)), peak_kib(big)
        print(f"peak memory of windows: 2560^2 {small / 1024:.1f} MiB, 16384^2 {huge / 1024:.1f} MiB")
        rows.append({"case": "peak memory", "2560": small, "16384": huge})
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
