"""Whether Triton kernels run on a device.

The choice is that of `segkit.losses.use_backend`. It stands at the root, since losses and mining both have kernels.
Triton itself is not imported here.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import warnings

import torch

NAMES = ("torch", "triton")
chosen: list[str] = []  # the innermost choice last; autograd's threads see it, which they would not a context variable
OLDEST = (7, 0)  # Triton's own lower bound of compute capability


def interpreting() -> bool:
    """Whether Triton runs its kernels in Python, on the CPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@functools.lru_cache
def installed() -> bool:
    """Whether Triton can be imported."""
    return importlib.util.find_spec("triton") is not None


@functools.lru_cache
def why_not(device: torch.device) -> str:
    """The reason why no kernel can run on a device, with what to do; empty if one can."""
    if not installed():
        return "Triton is not installed. Type pip install triton."
    if device.type == "cpu" and not interpreting():
        return "the tensors are on the CPU. Move them to CUDA; to test, set TRITON_INTERPRET=1 before Python starts."
    if device.type not in ("cpu", "cuda"):
        return f"the tensors are on {device}, and the kernels are for CUDA."
    if device.type == "cuda" and torch.version.hip is None and torch.cuda.get_device_capability(device) < OLDEST:
        name, (major, minor) = torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)
        return f"{name} has compute capability {major}.{minor}, and Triton needs {OLDEST[0]}.{OLDEST[1]}."
    return ""


@functools.lru_cache
def _note(reason: str) -> None:
    warnings.warn(f"segkit.losses: the torch code runs, since {reason}", stacklevel=1)


def _reason(device: torch.device) -> str:
    """`why_not`; a compiler asks once, since it does not look through a cache."""
    return why_not(device)


# What torch.compiler.assume_constant_result does, without loading the compiler, and Triton with it.
_reason._dynamo_marked_constant = True  # type: ignore[attr-defined]


def triton_runs(device: torch.device) -> bool:
    """Whether the kernels run for tensors on ``device``: as chosen, else on CUDA where they can, with a note if not.

    Raises:
        RuntimeError: ``"triton"`` is chosen, and cannot run there.
    """
    choice = chosen[-1] if chosen else "triton" if device.type == "cuda" else "torch"
    if choice == "torch":
        return False
    reason = _reason(device)
    if reason and chosen:
        raise RuntimeError(f"segkit.losses: use_backend('triton') must be able to run, but {reason}")
    if reason:
        _note(reason)
    return not reason
