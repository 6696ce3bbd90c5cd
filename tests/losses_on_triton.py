"""A pytest plugin that runs loss tests on the Triton kernels: ``pytest -p losses_on_triton tests/test_losses_laws.py``.

With TRITON_INTERPRET=1 on the CPU; with SEGKIT_LOSSES_DEVICE=cuda each call of a loss moves its tensors there and its
result back, so that the tests stay as they are. Counts the passes of the kernels in each file, since a run without one
proves nothing.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import inspect
import os
import types

import pytest
import torch
from triton.runtime import interpreter

from segkit import losses
from segkit.losses import functional as L
from segkit.losses._engine.triton import launch
from segkit.mining import _select_triton


def hurry():
    """The interpreter patches the language anew at each call of a helper, two thirds of its time; once is enough."""
    if not hasattr(interpreter, "_patch_lang"):
        return
    patch, done = interpreter._patch_lang, set()

    def once(fn):
        modules = frozenset(id(v) for v in fn.__globals__.values() if inspect.ismodule(v))
        if modules not in done:
            done.add(modules)
            patch(fn)
        return types.SimpleNamespace(restore=lambda: None)

    interpreter._patch_lang = once
    builder = (
        interpreter.interpreter_builder
    )  # checks each integer sum for overflow; test_losses_triton_kernels keeps it
    if hasattr(builder, "options"):
        builder.options = dataclasses.replace(builder.options, sanitize_overflow=False)


if os.environ.get("TRITON_INTERPRET") == "1":
    hurry()
    # Numerical gradients by one random direction instead of by each element.
    torch.autograd.gradcheck = functools.partial(torch.autograd.gradcheck, fast_mode=True)
DEVICE = os.environ.get("SEGKIT_LOSSES_DEVICE", "")
KERNELS = ("forward", "backward", "lovasz_forward", "lovasz_backward", "reached")
passes, here = collections.defaultdict(collections.Counter), [""]  # of each file, and the file that runs


def counting(name):
    module = _select_triton if name == "reached" else launch
    run = getattr(module, name)

    @functools.wraps(run)
    def counted(*args, **kwargs):
        passes[here[0]][name] += 1
        return run(*args, **kwargs)

    setattr(module, name, counted)


for _name in KERNELS:
    counting(_name)


def there(loss):
    """The loss, with its tensors on the device and its result back on the CPU."""

    def moved(x):
        return x.to(DEVICE) if isinstance(x, torch.Tensor) else x

    @functools.wraps(loss)
    def call(*args, **options):
        out = loss(*map(moved, args), **{k: moved(v) for k, v in options.items()})
        return out.cpu() if isinstance(out, torch.Tensor) else out if not callable(out) else there(out)

    return call


if DEVICE:
    for _name in L.__all__:
        setattr(L, _name, there(getattr(L, _name)))
    for _name in losses.__all__:
        module = getattr(losses, _name)
        if hasattr(module, "_function"):
            module._function = staticmethod(there(module._function))


@pytest.fixture(autouse=True)
def on_triton():
    with losses.use_backend("triton"):
        yield


def pytest_runtest_setup(item):
    here[0] = item.path.name


LEFT_OUT = {
    "test_the_backend_that_runs_has_a_name": "is about the backend without a choice",
    "test_nothing_is_read_back_from_a_device": "the interpreter reads the memory of all tensors",
    "test_the_hardest_are_those_of_a_stable_sort[None]": "is the same code as 'any device' here",
    "(8, 16)-(32, 300)": "takes long under the interpreter",
}
if os.environ.get("TRITON_INTERPRET") == "1":  # a sum over several programs has a test of its own there
    LARGE = [f"-{case}]" for case in ("an image a block", "several blocks an image", "several images", "coarse")]
    LARGE += ["test_the_whole_is_cut_into_blocks_without_a_seam"]
    LEFT_OUT |= dict.fromkeys(LARGE, "is as large as it is for the blocks of the torch code")


def pytest_collection_modifyitems(config, items):
    for item in items:
        for name, reason in LEFT_OUT.items():
            if name in item.name:
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter):
    for name, counts in passes.items():
        terminalreporter.write_line(
            f"passes on the kernels in {name}: " + " ".join(f"{k}={counts[k]}" for k in KERNELS)
        )
