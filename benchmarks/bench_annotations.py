"""Drawing 1,000 shapes into a picture of 4,096 x 4,096, by the exact rule, against cv2.fillPoly, which paints edges.

    python benchmarks/bench_annotations.py [--repeats 9] [--json FILE]

Both are timed in turn, in one process, and begin with the same float outlines and an empty picture of one dtype; the
ratio is the median over neighbouring runs; below 1 means that segkit is faster. "smooth" outlines are like those
of objects, "jagged" ones have a random radius at each vertex, so that most rows are crossed more than twice.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import time

import cv2
import numpy as np

from segkit.annotations import rasterize

SIDE = 4096


def outlines(kind, smallest, largest, vertices):
    rng = np.random.default_rng(0)
    for _ in range(1000):
        count, radius, centre = rng.integers(8, vertices), rng.uniform(smallest, largest), rng.uniform(0, SIDE, 2)
        angle = np.sort(rng.uniform(0, 2 * np.pi, count))
        wave = 0.8 + 0.1 * np.sin(2 * angle + rng.uniform(0, 6)) + 0.1 * np.sin(3 * angle + rng.uniform(0, 6))
        reach = radius * (wave if kind == "smooth" else rng.uniform(0.6, 1, count))
        yield centre + np.stack([np.cos(angle), np.sin(angle)], 1) * reach[:, None]


def by_opencv(shapes, values, dtype):
    out = np.zeros((SIDE, SIDE), dtype)
    for shape, value in zip(shapes, values, strict=True):
        cv2.fillPoly(out, [np.round(shape).astype(np.int32)], value)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    rows = []
    print(f"{'outlines':8} {'radius':>10} {'values':>22} {'segkit ms':>10} {'fillPoly ms':>12} {'ratio':>6}")
    for kind in ("smooth", "jagged"):
        for smallest, largest, vertices in ((10, 50, 40), (20, 200, 60), (100, 400, 100)):
            shapes = list(outlines(kind, smallest, largest, vertices))
            for name, values, dtype in (
                ("8 classes, uint8", [i % 8 + 1 for i in range(1000)], np.uint8),
                ("1,000 objects, uint16", list(range(1, 1001)), np.uint16),
            ):
                times = ([], [])
                for i in range(arguments.repeats + 2):
                    calls = [
                        (lambda s=shapes, v=values: rasterize(s, (SIDE, SIDE), values=v), times[0]),
                        (lambda s=shapes, v=values, d=dtype: by_opencv(s, v, d), times[1]),
                    ]
                    for call, out in calls[:: 1 if i % 2 else -1]:
                        began = time.perf_counter()
                        call()
                        if i > 1:
                            out.append(time.perf_counter() - began)
                ratio = statistics.median(a / b for a, b in zip(*times, strict=True))
                ours, theirs = (1000 * statistics.median(part) for part in times)
                rows.append({"outlines": kind, "radius": [smallest, largest], "values": name, "ratio": ratio})
                print(f"{kind:8} {smallest:>4} to {largest:<3} {name:>22} {ours:>10.1f} {theirs:>12.1f} {ratio:>6.2f}")
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
