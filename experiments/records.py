"""What was measured: one line of JSON for each run, so that a stopped experiment goes on where it was."""

from __future__ import annotations

import json
import pathlib
import platform
import subprocess
from collections.abc import Iterable
from typing import Any

import numpy
import torch

import segkit

Record = dict[str, Any]
_KEY = ("phase", "group", "setting", "seed", "lr", "steps", "sha256")


def environment() -> Record:
    """Commit, versions and machine."""
    root = pathlib.Path(__file__).parent
    commit = subprocess.run(["git", "-C", root, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return {
        "commit": commit.stdout.strip() or "unknown",
        "segkit": segkit.__version__,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} thread(s)",
    }


def read(path: pathlib.Path) -> list[Record]:
    """All whole lines; a line that was cut by a kill is left out and run again."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


def append(path: pathlib.Path, record: Record) -> None:
    """Add a line, beginning a new one if the last was cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cut = path.exists() and path.stat().st_size > 0 and path.read_bytes()[-1:] != b"\n"
    with open(path, "a") as file:
        file.write(("\n" if cut else "") + json.dumps(record, ensure_ascii=False) + "\n")


def key(record: Record) -> tuple[Any, ...]:
    """What makes a run the same run, the pixels it saw included."""
    return tuple(record[name] for name in _KEY)


def done(records: Iterable[Record]) -> dict[tuple[Any, ...], Record]:
    """key → record, of all runs and searches."""
    return {key(record): record for record in records if record["phase"] != "plan"}


def of(records: Iterable[Record], phase: str) -> list[Record]:
    """Those of one phase: "search" for a learning rate, "run", or "plan" for how many seeds."""
    return [record for record in records if record.get("phase", "run") == phase]
