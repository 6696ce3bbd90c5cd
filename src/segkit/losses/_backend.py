"""Which code makes the pass over the pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType

import torch
from torch import Tensor

from segkit import _triton as _choice


def backend(device: torch.device | str | None = None) -> str:
    """The name of the code that runs the losses: ``"triton"``, its kernels, or ``"torch"``, the streamed operators.

    Args:
        device: where the tensors are; None for the current CUDA device if there is one, else the CPU.

    Returns:
        Inside of `use_backend` what was chosen; else ``"triton"`` on a CUDA device that Triton can use, ``"torch"``
        everywhere else.

    Example:
        >>> backend("cpu")
        'torch'
    """
    return "triton" if _choice.triton_runs(_device(device)) else "torch"


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
    if name not in _choice.NAMES:
        raise ValueError(f"use_backend: `name` must be one of {', '.join(map(repr, _choice.NAMES))}, got {name!r}.")
    reason = _choice.why_not(_device(None)) if name == "triton" else ""
    if reason:
        raise RuntimeError(f"use_backend: `name` must be 'torch' here, got 'triton': {reason}")
    _choice.chosen.append(name)
    try:
        yield
    finally:
        _choice.chosen.pop()


def _device(device: torch.device | str | None) -> torch.device:
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    place = torch.device(device)
    return torch.device("cuda", torch.cuda.current_device()) if place == torch.device("cuda") else place


def kernels(logits: Tensor, size: Sequence[int]) -> ModuleType | None:
    """The module with the kernels if they run for these logits.

    Shapes beyond them go to the torch code, and so do the wrapped tensors of `torch.func`.
    """
    if logits.numel() == 0 or torch._C._are_functorch_transforms_active() or not _choice.triton_runs(logits.device):
        return None
    if len(logits) > 65535 or len(size) > 3:
        return None
    if size and max(math.prod(size), math.prod(logits.shape[2:])) >= 2**31:
        return None
    if any(2 * fine * coarse >= 2**31 for fine, coarse in zip(size, logits.shape[2:], strict=bool(size))):
        return None
    from segkit.losses._engine.triton import launch as _triton

    return _triton
