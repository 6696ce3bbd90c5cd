"""Which code makes the pass over the pixels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

BACKENDS = ("torch",)


def backend() -> str:
    """The name of the code that runs the losses: ``"torch"``, the streamed operators.

    Example:
        >>> backend()
        'torch'
    """
    return "torch"


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Run the losses on one backend inside a ``with`` block.

    Args:
        name: ``"torch"``. It runs on every device that torch does.

    Raises:
        RuntimeError: ``"triton"``: its kernels are not in this version.
        ValueError: no backend has this name.

    Example:
        >>> with use_backend("torch"):
        ...     backend()
        'torch'
    """
    if name == "triton":
        raise RuntimeError("use_backend: `name` must be 'torch', got 'triton', whose kernels are not in this version.")
    if name not in BACKENDS:
        raise ValueError(f"use_backend: `name` must be one of {', '.join(map(repr, BACKENDS))}, got {name!r}.")
    yield
