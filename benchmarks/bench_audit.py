"""How long a whole audit takes, compared with merely decoding the files and with cleanvision's checks of the images.

    python benchmarks/bench_audit.py [--images 400] [--repeats 3]

Draws pairs (JPEG pictures of 768 x 1024, PNG masks of 5 classes), then times in one run, on the same files, with as
many workers as there are CPUs: OpenCV decoding every file; all checks of segkit; all checks of cleanvision on the
images alone (if it is installed). The bounds: at most 2.0 times decoding, and faster per image than cleanvision.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import platform
import statistics
import tempfile
import time

import cv2
import numpy as np

from segkit.audit import audit_dataset
from segkit.stats import map_in_chunks


def draw(folder: pathlib.Path, count: int) -> None:
    """Pictures with waves of all lengths, objects with edges, and sensor noise; they compress like photographs."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for i in range(count):
        image = np.zeros((768, 1024, 3), np.float32)
        for sigma in (3, 12, 48):
            wave = cv2.GaussianBlur(rng.standard_normal((96, 128, 3), dtype=np.float32), (0, 0), sigma / 8)
            image += cv2.resize(wave, (1024, 768), interpolation=cv2.INTER_CUBIC) * sigma * 6
        mask = np.zeros((768, 1024), np.uint8)
        for _ in range(40):
            centre = int(rng.integers(0, 1024)), int(rng.integers(0, 768))
            axes = int(rng.integers(10, 90)), int(rng.integers(10, 90))
            label, angle = int(rng.integers(1, 5)), float(rng.uniform(0, 180))
            cv2.ellipse(mask, centre, axes, angle, 0, 360, label, -1)
            cv2.ellipse(image, centre, axes, angle, 0, 360, rng.uniform(-90, 90, 3).tolist(), -1)
        image += 120 + rng.normal(0, 4, image.shape).astype(np.float32)
        cv2.imwrite(
            str(folder / f"images/{i:05d}.jpg"), image.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 92]
        )
        cv2.imwrite(str(folder / f"masks/{i:05d}.png"), mask)


def decode(paths: list[str]) -> int:
    return sum(cv2.imread(path, cv2.IMREAD_UNCHANGED).size for path in paths)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        draw(folder, arguments.images)
        files = sorted(str(path) for path in folder.rglob("*.*"))
        images = [path for path in files if path.endswith(".jpg")]
        print(
            f"{arguments.images} pairs, {os.cpu_count()} CPUs, OpenCV {cv2.__version__}, "
            f"Python {platform.python_version()}"
        )

        def run_decode() -> None:
            import bench_audit  # a worker finds functions by name, and not those of a script

            pixels = list(map_in_chunks(bench_audit.decode, files, on_lost=lambda item, reason: 0, progress=False))
            assert min(pixels) > 0, "a file was not decoded"

        def run_audit() -> None:
            report = audit_dataset(folder / "images", folder / "masks", num_classes=5, progress=False)
            assert not report.select(severity="error"), report.counts()

        runs = {"decode": run_decode, "segkit audit": run_audit}
        try:
            from cleanvision import Imagelab

            def run_cleanvision() -> None:
                Imagelab(filepaths=images, verbose=False).find_issues(n_jobs=os.cpu_count(), verbose=False)

            runs["cleanvision"] = run_cleanvision
        except ImportError:
            print("cleanvision is not installed")
        times: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(arguments.repeats):
            for name, run in runs.items():  # in turns, so that a busy moment of the machine hits all
                started = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - started)
        base = statistics.median(times["decode"])
        for name, seconds in times.items():
            middle = statistics.median(seconds)
            print(
                f"{name:14} {middle:7.2f} s  ({min(seconds):.2f} to {max(seconds):.2f})  "
                f"{1000 * middle / arguments.images:6.2f} ms an image  {middle / base:5.2f} x decode"
            )


if __name__ == "__main__":
    main()
