"""What every test may use: the real data beside the checkout, and one thread for each process."""

from __future__ import annotations

import os
import pathlib

import numpy as np
import pytest

# Before torch is imported, here and in child processes: the tests run side by side, one thread each.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED = pathlib.Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk():
    """What a power cut would leave no test can see, and each written file would wait some milliseconds for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """The folder with real images beside the checkout; the test says that it skips where there is none."""
    if not SHARED.is_dir():
        pytest.skip(f"no real data: {SHARED} is not there")
    return SHARED


@pytest.fixture
def pack_bits() -> None:
    """Some versions of imagecodecs read samples of a few bits, but cannot write them: then there is no file to read."""
    imagecodecs = pytest.importorskip("imagecodecs")
    try:
        imagecodecs.packints_encode(np.zeros(8, np.uint8), 4)
    except NotImplementedError:
        pytest.skip("this version of imagecodecs cannot write samples of a few bits")
