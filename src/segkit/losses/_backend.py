"""Which code makes the pass over the pixels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from segkit import _triton

__all__ = ["backend", "use_backend"]


def backend(device: torch.device | str | None = None) -> str:
    """The name of the code that runs the losses: ``"triton"``, its kernels, or ``"torch"``, the streamed operators.

    Args:
        device: where the tensors are; None for the current CUDA device if there is one, else the CPU.

    Returns:
        Inside `use_backend` what was chosen; else ``"triton"`` on a CUDA device that Triton can use, ``"torch"``
        everywhere else.

    Example:
        >>> backend("cpu")
        'torch'
    """
    return "triton" if _triton.triton_runs(_device(device)) else "torch"


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Run the losses on one backend inside a ``with`` block, in all threads.

    Args:
        name: ``"torch"``, on every device that torch has; or ``"triton"``, on CUDA (on the CPU only under Triton's
            interpreter, ``TRITON_INTERPRET=1``, which is slow and there for tests).

    Raises:
        RuntimeError: ``"triton"`` cannot run here; the message says why.
        ValueError: no backend has this name.

    Example:
        >>> with use_backend("torch"):
        ...     backend()
        'torch'
    """
    if name not in _triton.NAMES:
        raise ValueError(f"use_backend: `name` must be one of {', '.join(map(repr, _triton.NAMES))}, got {name!r}.")
    reason = _triton.why_not(_device(None)) if name == "triton" else ""
    if reason:
        raise RuntimeError(f"use_backend: `name` must be 'torch' here, got 'triton': {reason}")
    _triton.chosen.append(name)
    try:
        yield
    finally:
        _triton.chosen.pop()


def _device(device: torch.device | str | None) -> torch.device:
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    place = torch.device(device)
    return torch.device("cuda", torch.cuda.current_device()) if place == torch.device("cuda") else place
