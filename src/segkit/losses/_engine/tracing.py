"""What torch is doing with a tensor just now. Private names of torch stand in this file and in no other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode


def readable(x: Tensor) -> bool:
    """Whether numbers can be looked at for free: elsewhere that waits for the device, or breaks a traced graph."""
    return x.device.type == "cpu" and type(x) is Tensor and not torch.compiler.is_compiling()


def looked_on() -> bool:
    """Whether a dispatch mode sees each operator."""
    return _get_current_dispatch_mode() is not None


def may_be_looked_at(x: Tensor) -> bool:
    """Whether what runs may depend on numbers: that costs no wait, and nobody writes down or watches what runs."""
    return readable(x) and not looked_on()


def in_plain_sight(x: Tensor) -> bool:
    """Whether a tensor is what it seems to be: no graph is traced, no mode looks on, and no class wraps it."""
    return not (torch.compiler.is_compiling() or looked_on() or type(x) not in (Tensor, torch.nn.Parameter))


def transformed() -> bool:
    """Whether a transform of `torch.func` runs."""
    return torch._C._are_functorch_transforms_active()


def is_batched(x: Tensor) -> bool:
    """Whether `torch.func.vmap` has put an axis into a tensor."""
    return not torch.compiler.is_compiling() and torch._C._functorch.is_batchedtensor(x)


def jit_traces() -> bool:
    """Whether `torch.jit.trace` writes down what runs."""
    return not torch.compiler.is_compiling() and torch._C._get_tracing_state() is not None


def has_a_dispatch(x: Tensor) -> bool:
    """Whether a tensor's class runs its operators itself, as that of a fake or traced one does."""
    return type(x).__torch_dispatch__ is not torch._C._disabled_torch_dispatch_impl


def unwrapped(x: Tensor) -> Tensor:
    """A tensor that outlives the transform of `torch.func` in which it was made."""
    while torch._C._functorch.is_functorch_wrapped_tensor(x):
        x = torch._C._functorch.get_unwrapped(x)
    return x


def group_of_name(name: str) -> Any:
    """The process group that has this name on all its ranks."""
    from torch.distributed import distributed_c10d

    return distributed_c10d._resolve_process_group(name)  # type: ignore[attr-defined,arg-type]
