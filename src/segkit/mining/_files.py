"""The files of a ledger: a memory map that is worked in, and a saved copy that is whole or not there. No pickle."""

from __future__ import annotations

import json
import mmap
import os
import zipfile
from typing import Any

import numpy as np

from segkit.errors import DataError

# One record a sample, so that an update touches one page of a memory map for each sample and not one for each column.
# Zero everywhere means "never seen": a new map is a sparse file that takes no time to make.
RECORD = np.dtype(
    [
        ("loss", "<f4"),  # running mean
        ("first", "<f4"),  # the first loss, to tell whether it ever fell
        ("count", "<u4"),  # losses taken in
        ("fresh", "<u4"),  # those since the last all_reduce
        ("epoch", "<u2"),  # 1 + the epoch of the last one
        ("positive", "u1"),  # 0 unknown, 1 negative, 2 positive
        ("correct", "u1"),  # 0 unknown, 1 wrong, 2 right, at the last update
        ("rejected", "u1"),  # losses kept out, up to 255
        ("tag", "u1"),  # the tag that the current epoch's samples were drawn by
    ],
    align=False,
)
COLUMNS = tuple(RECORD.names or ())
HEADER_FIELDS = ("num_samples", "momentum", "fingerprint", "frozen", "checksum", "moves")
VERSION = 1
HEADER_BYTES = 2**16  # whole pages, and room for the moves of 256 epochs


def open_map(path: str, header: dict[str, Any]) -> tuple[dict[str, Any], np.memmap]:
    """The header and the records in a memory-mapped file, created if missing.

    Raises:
        DataError: the file is no ledger, or one of another data set.
    """
    size = HEADER_BYTES + header["num_samples"] * RECORD.itemsize
    made = not os.path.exists(path)
    if made:
        with open(path, "xb") as file:
            file.write(_pack(header).ljust(HEADER_BYTES))
            file.truncate(size)
    with open(path, "rb") as file:
        found = _parse(path, file.read(HEADER_BYTES))
        check_header("DifficultyLedger", repr(path), found, header)
        if os.fstat(file.fileno()).st_size != size:
            raise DataError(f"DifficultyLedger: {path!r} must be {size} bytes long. It was cut off; use another file.")
    if not header["num_samples"]:
        return found, np.zeros(0, dtype=RECORD).view(np.memmap)
    records = np.memmap(path, dtype=RECORD, mode="r+", offset=HEADER_BYTES, shape=(header["num_samples"],))
    if made:  # there is nothing to read yet: reading ahead would fill the memory with zeros, megabytes for each sample
        read_ahead(records, False)
    return found, records


def read_ahead(records: np.ndarray, wanted: bool) -> None:
    """Say whether pages near one that is touched will be wanted too; where the system takes no advice, nothing."""
    memory: object = records.base
    if isinstance(memory, mmap.mmap) and hasattr(mmap, "MADV_RANDOM"):
        memory.madvise(mmap.MADV_NORMAL if wanted else mmap.MADV_RANDOM)


def flush(records: np.ndarray) -> None:
    """Have a memory map written to its file."""
    if isinstance(records, np.memmap):
        records.flush()


def rewrite_header(path: str, header: dict[str, Any]) -> None:
    """Change the first bytes of a memory-mapped file."""
    with open(path, "r+b") as file:
        file.write(_pack(header).ljust(HEADER_BYTES))


def write(path: str, header: dict[str, Any], records: np.ndarray) -> None:
    """Write a copy under another name, then give it its name: there is never half a file."""
    text = _pack(header)
    unfinished = f"{path}.{os.getpid()}.tmp"
    try:
        with open(unfinished, "wb") as file:
            np.savez(file, header=np.frombuffer(text, dtype=np.uint8), records=np.asarray(records))
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        if os.path.exists(unfinished):
            os.unlink(unfinished)


def read(path: str) -> tuple[dict[str, Any], np.ndarray]:
    """What `write` wrote.

    Raises:
        DataError: the file is damaged or no ledger.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            header, records = _parse(path, stored["header"].tobytes()), stored["records"]
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError, AttributeError, TypeError) as error:
        if isinstance(error, DataError):
            raise
        raise _no_ledger(path) from error
    if records.dtype != RECORD or records.shape != (header.get("num_samples"),):
        raise _no_ledger(path)
    return header, records


def check_header(function: str, what: str, found: dict[str, Any], mine: dict[str, Any]) -> None:
    """Refuse what belongs to another data set."""
    if found["num_samples"] != mine["num_samples"]:
        raise DataError(
            f"{function}: {what} must be of {mine['num_samples']} samples, got {found['num_samples']}. "
            "Is it from another data set or another split? If samples were added at the end, load it into a ledger of "
            f"its own size and carry its losses over: bigger.update(range({found['num_samples']}), old.losses())."
        )
    got, expected = found["fingerprint"], mine["fingerprint"]
    if got is not None and expected is not None and got != expected:
        raise DataError(
            f"{function}: {what} must be of the data set with fingerprint {expected!r}, got {got!r}. "
            "Sample numbers would mean other samples: start a new ledger."
        )


def _pack(header: dict[str, Any]) -> bytes:
    return json.dumps({"segkit ledger": VERSION, **header}, separators=(",", ":")).encode()


def _parse(path: str, text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text)
        known = header.pop("segkit ledger") == VERSION and set(HEADER_FIELDS) <= header.keys()
    except (ValueError, KeyError, AttributeError) as error:
        raise _no_ledger(path) from error
    if not known:
        raise _no_ledger(path)
    return header


def _no_ledger(path: str) -> DataError:
    return DataError(
        f"DifficultyLedger: {path!r} must be a ledger that segkit saved, got a damaged or another file. "
        "Restore a copy or start a new ledger."
    )
