"""389 awkward real files with a known truth: each backend gives exactly the stored samples or says why not."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
import sys

import imagecodecs
import numpy as np
import pytest

import segkit.io as sio
from segkit.errors import ImageReadError

BACKENDS = ["auto", "opencv", "pillow", "tifffile"]
LEVELS = 3  # what "a few levels" means for lossy files: decoders round the colour transform differently
SECONDS, MIB = 5, 512


@pytest.fixture(scope="module")
def corpus(shared):
    folder = shared / "corpus"
    if not (folder / "truth.csv").exists():
        pytest.skip(f"no corpus: {folder} holds no truth.csv")
    with open(folder / "truth.csv", newline="") as file:
        return [{**row, "path": str(folder / "files" / row["file"])} for row in csv.DictReader(file)]


def digest(image):
    little = image.astype(image.dtype.newbyteorder("<"), copy=False)
    return hashlib.sha256(np.ascontiguousarray(little).tobytes()).hexdigest()


def close_to_another_backend(row, image, backend):
    """A lossy file whose hash differs by a decoder's rounding is within a few levels of a backend that has the hash."""
    for other in BACKENDS:
        try:
            reference = sio.read_image(row["path"], page=0, samples="stored", backend=other)
        except ImageReadError:
            continue
        if digest(reference) == row["sha256"]:
            return int(np.abs(image.astype(int) - reference).max()) <= LEVELS
    return False


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_file_differs_in_silence(corpus, backend):
    different, silent, compared = [], [], 0
    for row in corpus:
        if row["ok"] != "yes" or not row["sha256"]:
            continue
        try:
            image = sio.read_image(row["path"], page=0, samples="stored", backend=backend)
        except ImageReadError as error:
            if not (error.path == row["path"] and error.reason and error.hint):
                silent.append(row["file"])
            continue
        compared += 1
        shape = (int(row["height"]), int(row["width"]), int(row["channels"]))
        same = image.shape == shape and image.dtype == row["dtype"] and digest(image) == row["sha256"]
        if not same and not ("LOSSY" in row["notes"] and close_to_another_backend(row, image, backend)):
            different.append((row["file"], image.shape, str(image.dtype)))
    assert different == []
    assert silent == [], "an error must name the file, the reason and what to do"
    assert compared > 100


def test_a_header_tells_the_size_and_the_bits_of_what_is_read(corpus):
    wrong, turned, deep = [], 0, 0
    for row in corpus:
        try:
            info, image = sio.image_info(row["path"]), sio.read_image(row["path"], page=0)
        except ImageReadError:
            continue
        turned += info.upright_size != (info.height, info.width)
        deep += info.value_bits < 8 * image.itemsize
        fits = image.dtype.kind != "u" or int(image.max(initial=0)).bit_length() <= info.value_bits
        if image.shape[:2] != info.upright_size or not fits:
            wrong.append((row["file"], image.shape, info))
    assert wrong == []
    assert turned, "without such files the check could not fail"
    assert deep, "without such files the check could not fail"


def test_auto_reads_at_least_97_percent_of_the_good_files(corpus):
    good = [row for row in corpus if row["ok"] == "yes"]
    refused = []
    for row in good:
        try:
            sio.read_image(row["path"], page=0, samples="stored")
        except ImageReadError as error:
            refused.append((row["file"], error.reason))
    if not getattr(getattr(imagecodecs, "CCITTFAX4", None), "available", False):  # the newest one for Python 3.10
        refused = [(name, reason) for name, reason in refused if "ccitt" not in reason]
    assert len(refused) <= 0.03 * len(good), refused


def test_the_header_tells_size_channels_dtype_of_every_file_that_is_read(corpus):
    for row in corpus:
        try:
            info = sio.image_info(row["path"])
            image = sio.read_image(row["path"], page=0, samples="stored")
        except ImageReadError:
            continue
        assert (info.height, info.width, info.channels) == image.shape, row["file"]
        assert info.dtype == image.dtype
        if image.dtype.kind == "u":
            scaled = info.format in ("PNG", "APNG") and info.photometric == "minisblack" and info.bits_per_sample < 8
            assert image.max() < 1 << info.bits_per_sample or scaled, row["file"]


def test_display_samples_agree_between_all_backends_that_accept_a_file(corpus):
    several = 0
    for row in corpus:
        if row["ok"] != "yes":
            continue
        images = []
        for backend in BACKENDS:
            try:
                images.append(sio.read_image(row["path"], page=0, backend=backend))
            except ImageReadError:
                continue
        several += len(images) > 2
        tolerance = LEVELS if "LOSSY" in row["notes"] else 0
        for image in images[1:]:
            assert image.shape == images[0].shape, row["file"]
            assert image.dtype == images[0].dtype
            if tolerance:
                assert np.abs(image.astype(float) - images[0].astype(float)).max() <= tolerance, row["file"]
            else:
                np.testing.assert_array_equal(image, images[0], err_msg=row["file"])
    assert several > 150


# Runs in a fresh process: the address space may grow by 512 MiB from here on, and each file has an alarm.
CHILD = """
import json, resource, signal, sys, time
import numpy, cv2, PIL.Image, tifffile, imagecodecs
import segkit.io as sio
from segkit.errors import ImageReadError
backend, mib, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for plugin in ("Bmp", "Gif", "Jpeg2K", "Jpeg", "Png", "Ppm", "Tiff", "WebP"):
    __import__(f"PIL.{plugin}ImagePlugin")
for line in open("/proc/self/status"):
    if line.startswith("VmSize:"):
        limit = int(line.split()[1]) * 1024 + (mib << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for path in json.load(sys.stdin):
    signal.alarm(seconds)
    began = time.perf_counter()
    try:
        sio.read_image(path, samples="stored", backend=backend)
        outcome = "read"
    except ImageReadError as error:
        outcome = "refused" if error.path == path and error.reason and error.hint else "refused without saying why"
    except BaseException as error:
        outcome = repr(error)
    signal.alarm(0)
    print(json.dumps([path, outcome, time.perf_counter() - began]), flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits on memory are set the Linux way")
@pytest.mark.parametrize("backend", BACKENDS)
def test_broken_and_unsupported_files_are_refused_within_5_seconds_and_512_mib(corpus, backend):
    paths = [row["path"] for row in corpus if row["ok"] != "yes"]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, backend, str(MIB), str(SECONDS)],
        input=json.dumps(paths),
        capture_output=True,
        text=True,
        timeout=120,
    )
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(outcomes) == len(paths), f"died at {paths[len(outcomes)]}: {done.stderr[-500:]}"
    assert [(path, outcome) for path, outcome, _ in outcomes if outcome != "refused"] == []
    assert max(seconds for *_, seconds in outcomes) < SECONDS
