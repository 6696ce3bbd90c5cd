"""Which decoder is the fastest that is exact, on the kinds of file that people have.

    python benchmarks/bench_decoders.py [--repeats 9] [--kinds png jpeg tiff]

Everything that is installed anyway decodes the same bytes in turns; the median is told, and whether the samples are
those that were written (for JPEG: those of OpenCV). What differs is not used.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
import zlib

import cv2
import imagecodecs as ic
import numpy as np
import tifffile
from PIL import Image

import segkit.io

SIZE = (1024, 2048)


def photograph(channels, top):
    """Smooth shapes and a little noise, so that compression has an ordinary day."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (SIZE[0] // 16, SIZE[1] // 16, channels)).astype(np.float32)
    smooth = cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC).reshape(*SIZE, channels)
    smooth += rng.integers(-4, 5, smooth.shape)
    return (smooth.clip(0, 255) * (top / 255)).astype(np.uint8 if top == 255 else np.uint16)


def labels():
    rng = np.random.default_rng(0)
    return rng.integers(0, 19, (SIZE[0] // 16, SIZE[1] // 16)).astype(np.uint8).repeat(16, 0).repeat(16, 1)


def by_pillow(pixels, kind, **options):
    out = io.BytesIO()
    image = Image.fromarray(pixels)
    if options.pop("palette", False):
        image.putpalette(np.random.default_rng(0).integers(0, 255, 768, dtype=np.uint8).tobytes())
    image.save(out, kind, **options)
    return out.getvalue()


def by_opencv(pixels):
    turned = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels
    return cv2.imencode(".png", turned)[1].tobytes()


def files():
    """Name -> (bytes of a file, samples that are in it or None)."""
    rgb, deep, mask = photograph(3, 255), photograph(3, 65535), labels()
    yield "png rgb, by OpenCV", by_opencv(rgb), rgb
    yield "png rgb, by Pillow", by_pillow(rgb, "PNG"), rgb
    yield "png 16 bit rgb", by_opencv(deep), deep
    yield "png grey, by OpenCV", by_opencv(mask), mask
    yield "png grey, by Pillow", by_pillow(mask, "PNG"), mask
    yield "png palette", by_pillow(mask, "PNG", palette=True), mask
    for name, options in (("4:2:0", {}), ("4:4:4", {"subsampling": 0}), ("progressive", {"progressive": True})):
        yield f"jpeg {name}", by_pillow(rgb, "JPEG", quality=92, **options), None
    yield "jpeg grey", by_pillow(rgb[..., 0], "JPEG", quality=92), None


def read_by_opencv(data):
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB) if pixels.ndim == 3 else pixels


DECODERS = {
    "OpenCV": read_by_opencv,
    "Pillow": lambda data: np.asarray(Image.open(io.BytesIO(data))),
    "imagecodecs png": lambda data: ic.png_decode(data),
    "imagecodecs spng": lambda data: ic.spng_decode(data),
    "imagecodecs apng": lambda data: ic.apng_decode(data),
    "imagecodecs jpeg8": lambda data: ic.jpeg8_decode(data),
    "segkit": lambda data: segkit.io.read_image(data, samples="stored"),
    "segkit, middle half": lambda data: segkit.io.read_image(data, samples="stored", window=(256, 512, 512, 1024)),
}


def blocks():
    """Name -> (a block of a TIFF, decoders of it)."""
    plain = np.diff(photograph(1, 10_000)[:512, :512, 0], axis=1, prepend=0).astype("<u2").tobytes()
    size = len(plain)
    yield "tiff deflate", zlib.compress(plain, 6), {
        "zlib": lambda data: zlib.decompress(data, bufsize=size),
        "imagecodecs zlib": lambda data: ic.zlib_decode(data, out=size),
        "imagecodecs zlibng": lambda data: ic.zlibng_decode(data, out=size),
        "imagecodecs deflate": lambda data: ic.deflate_decode(data, out=size),
    }, plain  # fmt: skip
    out = io.BytesIO()
    tifffile.imwrite(out, np.frombuffer(plain, np.uint8).reshape(1, -1), compression="lzw", metadata=None)
    page = tifffile.TiffFile(io.BytesIO(out.getvalue())).pages[0]
    lzw = out.getvalue()[page.dataoffsets[0] :][: page.databytecounts[0]]
    yield "tiff lzw", lzw, {
        "imagecodecs lzw": lambda data: ic.lzw_decode(data, out=size),
        "libtiff": lambda data: ic.tiff_decode(out.getvalue()).tobytes(),
    }, plain  # fmt: skip
    yield "tiff zstd", ic.zstd_encode(plain), {"imagecodecs zstd": lambda data: ic.zstd_decode(data, out=size)}, plain


def in_turns(decoders, data, repeats):
    """Decoder -> (its result, or the error; milliseconds)."""
    results, times = {}, {name: [] for name in decoders}
    for _ in range(repeats + 1):
        for name, decode in decoders.items():
            if isinstance(results.get(name), Exception):
                continue
            began = time.perf_counter()
            try:
                results[name] = decode(data)
            except Exception as error:
                results[name] = error
            times[name].append((time.perf_counter() - began) * 1e3)
    return {name: (results[name], statistics.median(times[name][1:] or [0])) for name in decoders}


def show(kind, name, took, verdict):
    print(f"| {kind} | {name} | {took:.2f} | {verdict} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--kinds", nargs="+", default=["png", "jpeg", "tiff"])
    options = parser.parse_args()
    cv2.setNumThreads(0)
    print(f"OpenCV {cv2.__version__}, imagecodecs {ic.__version__}; {SIZE[0]} x {SIZE[1]}, TIFF blocks of 512 x 512")
    print("| file | decoder | ms | samples |\n| --- | --- | --- | --- |")
    for kind, data, truth in files():
        if kind.split()[0] not in options.kinds:
            continue
        found = in_turns(DECODERS, data, options.repeats)
        truth = found["OpenCV"][0] if truth is None else truth
        for name, (result, took) in found.items():
            if isinstance(result, Exception):
                continue
            expected = truth[256:768, 512:1536] if "middle" in name else truth
            same = result.dtype == truth.dtype and result.size == expected.size
            exact = same and np.array_equal(result.reshape(expected.shape), expected)
            show(kind, name, took, "exact" if exact else "not those of the file")
    for kind, data, decoders, truth in blocks():
        if "tiff" in options.kinds:
            for name, (result, took) in in_turns(decoders, data, options.repeats).items():
                show(kind, name, took, "exact" if bytes(result) == truth else f"differs, or fails: {result!r:.60}")


if __name__ == "__main__":
    main()
