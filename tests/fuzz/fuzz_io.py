"""Mutate image files and read them: no crash, no hang, no exception but ImageReadError.

    python tests/fuzz/fuzz_io.py FOLDER --count 200000 --seed 1 --report fuzz.json

FOLDER holds image files (the corpus). Each mutation is a pure function of (seed, its number), so a failure is repeated
with ``--first NUMBER --count 1``. The reading happens in a child process whose address space may grow by 512 MiB and in
which each read has 5 seconds of processor time; when it dies, the mutation that killed it is recorded and a new child
goes on.
"""

from __future__ import annotations

import argparse
import collections
import json
import pathlib
import struct
import subprocess
import sys
import tempfile
import time
import zlib

import numpy as np

BACKENDS = ["opencv", "pillow", "tifffile"]
LARGEST_SEED = 300_000  # bytes; larger files only make the run slower
HANG = (-14, -27)  # SIGALRM, SIGPROF
PER_CHILD = 25_000  # the libraries below leak a kilobyte or two for each damaged file
INTERESTING = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]


def seeds(folder: pathlib.Path) -> list[bytes]:
    """The files to mutate, in a fixed order."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size <= LARGEST_SEED)
    return [path.read_bytes() for path in paths if path.suffix != ".csv"]


def mutate(files: list[bytes], seed: int, number: int) -> bytes:
    """Mutation `number`: one to six edits, most of them where headers are."""
    rng = np.random.default_rng([seed, number])
    data = bytearray(files[rng.integers(len(files))])
    for _ in range(min(6, rng.geometric(0.5))):
        if not data:
            break
        near = [min(len(data), 64), min(len(data), 1024), len(data)][rng.integers(3)]
        place = int(rng.integers(near)) if rng.random() < 0.7 else len(data) - 1 - int(rng.integers(near))
        kind = rng.integers(8)
        if kind == 0:
            data[place] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            data[place] = int(rng.integers(256))
        elif kind in (2, 3):
            value = INTERESTING[rng.integers(len(INTERESTING))]
            order = "<>"[rng.integers(2)]
            word = struct.pack(order + "I", value) if kind == 2 else struct.pack(order + "H", value & 0xFFFF)
            data[place : place + len(word)] = word
        elif kind == 4:
            del data[place:]
        elif kind == 5:
            del data[place : place + int(rng.integers(1, 64))]
        elif kind == 6:
            data[place:place] = rng.bytes(int(rng.integers(1, 64)))
        else:
            other = files[rng.integers(len(files))]
            start = int(rng.integers(len(other)))
            part = other[start : start + int(rng.integers(1, 256))]
            data[place : place + len(part)] = part
    return repaired(bytes(data)) if rng.random() < 0.5 else bytes(data)


def repaired(data: bytes) -> bytes:
    """The same PNG with right checksums, so that what lies behind them is reached; other files unchanged."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return data
    out, position = bytearray(data), 8
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            break
        out[end : end + 4] = struct.pack(">I", zlib.crc32(data[position + 4 : end]))
        position = end + 4
    return bytes(out)


def child(folder: str, seed: int, first: int, count: int, seconds: int, mib: int) -> None:
    """Read mutations and print "number" before and "number outcome seconds" after each."""
    import resource
    import signal

    import cv2  # noqa: F401
    import imagecodecs  # noqa: F401
    import tifffile  # noqa: F401

    import segkit.io as sio
    from segkit.errors import ImageReadError

    files = seeds(pathlib.Path(folder))
    with open("/proc/self/status") as status:
        size = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmSize:"))
    resource.setrlimit(resource.RLIMIT_AS, (size + (mib << 20),) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory(dir="/dev/shm" if pathlib.Path("/dev/shm").is_dir() else None) as place:
        path = pathlib.Path(place) / "mutant"
        for number in range(first, first + count):
            print(number, flush=True)  # noqa: T201
            path.write_bytes(mutate(files, seed, number))
            began = time.process_time()
            outcomes = []
            for read in (
                lambda: sio.image_info(path),
                lambda: sio.read_image(path),
                lambda number=number: sio.read_image(path, samples="stored", backend=BACKENDS[number % 3]),
            ):
                # Processor time, so that a busy machine is no hang; and a wall clock for what waits without working.
                signal.setitimer(signal.ITIMER_PROF, seconds)
                signal.alarm(20 * seconds)
                try:
                    read()
                    outcomes.append("read")
                except ImageReadError:
                    outcomes.append("refused")
                except BaseException as error:
                    outcomes.append(f"{type(error).__name__}: {error}"[:200])
                signal.setitimer(signal.ITIMER_PROF, 0)
                signal.alarm(0)
            wrong = [outcome for outcome in outcomes if outcome not in ("read", "refused")]
            print(json.dumps([number, (wrong or [outcomes[1]])[0], time.process_time() - began]), flush=True)  # noqa: T201


def main(arguments: list[str] | None = None) -> int:
    """Run; 0 if nothing went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--report", help="write the figures to this JSON file")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.child:
        child(args.folder, args.seed, args.first, args.count, args.seconds, args.mib)
        return 0
    counts: collections.Counter[str] = collections.Counter()
    failures: list[tuple[int, str]] = []
    slowest, number, end = 0.0, args.first, args.first + args.count
    began = time.perf_counter()
    while number < end:
        started = number
        command = [sys.executable, __file__, args.folder, "--child", "--seed", str(args.seed), "--first", str(number)]
        command += [
            "--count",
            str(min(end - number, PER_CHILD)),
            "--seconds",
            str(args.seconds),
            "--mib",
            str(args.mib),
        ]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout is not None
        running = -1
        for line in process.stdout:
            if not line.startswith("["):
                running = int(line) if line.strip().isdigit() else running
                continue
            number, outcome, seconds = json.loads(line)
            counts[outcome if outcome in ("read", "refused") else "exception"] += 1
            slowest = max(slowest, seconds)
            if outcome not in ("read", "refused"):
                failures.append((number, outcome))
            number, running = number + 1, -1
        code = process.wait()
        if running >= 0:  # it died while reading this one
            outcome = "hang" if code in HANG else f"killed by signal {-code}" if code < 0 else f"exit code {code}"
            failures.append((running, outcome))
            counts["hang" if code in HANG else "crash"] += 1
            number = running + 1
        elif number == started:
            failures.append((number, f"the child ended with exit code {code} before it read anything"))
            break
    result = {
        "mutations": sum(counts.values()),
        "seed": args.seed,
        "outcomes": dict(counts),
        "slowest_s": round(slowest, 3),
        "minutes": round((time.perf_counter() - began) / 60, 1),
        "failures": failures,
    }
    text = json.dumps(result, indent=1)
    if args.report:
        pathlib.Path(args.report).write_text(text)
    print(text)  # noqa: T201
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
