"""All tests of losses and selection once more, on the Triton kernels: under its interpreter, and on a GPU if there is.

In processes of their own, since the interpreter is chosen before Triton is imported.
"""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest
import torch

from segkit import _triton as _backend
from segkit import losses

HERE = pathlib.Path(__file__).parent
# A process each, of about the same length: most of a short file is the start of its process.
FILES = {
    "kernels": ["losses_triton_kernels", "mining_select"],
    "laws": ["losses_laws", "losses_regions"],
    "torch": ["losses_oracle", "losses_peers", "losses_refusals", "losses_torch"],
}
ON_A_GPU = [
    "losses_laws",
    "losses_oracle",
    "losses_peers",
    "losses_regions",
]  # refusals look at labels, which on a GPU would wait for it
needs_triton = pytest.mark.skipif(not _backend.installed(), reason="Triton is in the dev extra on x86-64 Linux only")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU at hand")


def run(names, *options, **environment):
    """Run files of loss tests on the kernels; gives their output."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "losses_on_triton", *options]
    path = os.pathsep.join([str(HERE), *sys.path])
    environment = {"SEGKIT_EXAMPLES": "8", "PYTHONPATH": path, **environment}
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")} | environment
    where = ["--rootdir", str(HERE.parent), "-c", str(HERE.parent / "pyproject.toml")]
    done = subprocess.run(
        [*command, *where, *(str(HERE / f"test_{name}.py") for name in names)],
        env=environment, capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-5000:]
    assert " passed" in output
    for name in names:
        passes = re.findall(rf"^passes on the kernels in test_{name}.py: .*", output, re.MULTILINE)
        if name != "losses_peers":  # which may all be missing
            number = sum(map(int, re.findall(r" (?:forward|reached)=(\d+)", "".join(passes))))
            assert number > 10, f"the kernels did not run for {name}"
    return output


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("group", FILES)
def test_the_loss_tests_pass_under_the_interpreter(group):
    run(FILES[group], "-m", "not slow", TRITON_INTERPRET="1")


@needs_triton
@needs_gpu
@pytest.mark.parametrize("name", ON_A_GPU)
def test_the_loss_tests_pass_on_the_gpu(name):
    run([name], SEGKIT_LOSSES_DEVICE="cuda", TRITON_INTERPRET="0")


@needs_triton
def test_a_failing_kernel_fails_the_run(tmp_path):
    broken = "import torch\nfrom segkit.losses._engine.triton import launch\nlaunch.forward = lambda *a: 1 / 0\n"
    (tmp_path / "broken.py").write_text(broken)
    path = os.pathsep.join([str(tmp_path), str(HERE), *sys.path])
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        run(["losses_oracle"], "-p", "broken", "-x", TRITON_INTERPRET="1", PYTHONPATH=path)


def bench(*options, **environment):
    script = HERE.parent / "benchmarks" / "bench_losses_gpu.py"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    return subprocess.run([sys.executable, script, *options], env=environment, capture_output=True, text=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to measure")
def test_the_benchmark_says_that_there_is_no_gpu():
    done = bench()
    assert (done.returncode, done.stdout.split(":")[0]) == (0, "No GPU at hand")


@needs_triton
def test_the_benchmark_can_be_rehearsed():
    done = bench("--dry-run", "--losses", "dice_ce", "--no-peers", TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("| segkit dice_ce, graph |") == 8  # four shapes, two dtypes
    assert "no number here means anything" in done.stdout


def test_importing_the_losses_does_not_import_triton():
    code = (
        "import sys, segkit.losses.functional as L, torch\nL.dice_ce(torch.randn(1, 2, 4), torch.zeros(1, 4).long())\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", code + "print('triton' in sys.modules)"], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "False"


@pytest.fixture
def no_answers_kept():
    functions = _backend.why_not, _backend._note, _backend.installed
    for function in functions:
        function.cache_clear()
    yield
    for function in functions:
        function.cache_clear()


def test_a_device_without_triton_falls_back_with_one_note(monkeypatch, no_answers_kept):
    monkeypatch.setattr(_backend, "installed", lambda: False)
    with pytest.warns(UserWarning, match="the torch code runs, since Triton is not installed. Type pip install triton"):
        assert not _backend.triton_runs(torch.device("cuda", 0))
    assert not _backend.triton_runs(torch.device("cuda", 0))  # a second note would be an error
    with pytest.raises(RuntimeError, match="must be 'torch' here, got 'triton': Triton is not installed"):
        losses.use_backend("triton").__enter__()


@needs_triton
def test_an_old_card_falls_back_with_one_note(monkeypatch, no_answers_kept):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (6, 1))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "GeForce GTX 1080")
    with pytest.warns(UserWarning, match=r"GeForce GTX 1080 has compute capability 6.1, and Triton needs 7.0"):
        assert not _backend.triton_runs(torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    assert _backend.triton_runs(torch.device("cuda", 1))


@needs_triton
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to run on")
def test_triton_without_a_gpu_or_its_interpreter_is_refused_in_a_sentence(monkeypatch, no_answers_kept):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    sentence = "the tensors are on the CPU. Move them to CUDA; to test, set TRITON_INTERPRET=1 before Python starts"
    with pytest.raises(RuntimeError, match=sentence), losses.use_backend("triton"):
        pass
    monkeypatch.setattr(_backend, "chosen", ["triton"])  # as on a machine with a GPU
    with pytest.raises(RuntimeError, match=rf"use_backend\('triton'\) must be able to run, but {sentence}"):
        losses.functional.dice_ce(torch.randn(1, 2, 4), torch.zeros(1, 4).long())


def test_the_innermost_choice_counts(monkeypatch, no_answers_kept):
    monkeypatch.setattr(_backend, "installed", lambda: True)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert losses.backend() == "torch"
    with losses.use_backend("triton"):
        assert losses.backend() == "triton"
        with losses.use_backend("torch"):
            assert losses.backend() == "torch"
        assert losses.backend() == "triton"
    assert losses.backend() == "torch"


@pytest.fixture
def kernels_by_default(monkeypatch):
    """As on a card: the kernels are the default, and nothing was tried yet."""
    from segkit.losses._engine import levels, route, trust

    for module in (levels, route):
        monkeypatch.setattr(module, "runs_kernels", lambda logits, size: True)
    monkeypatch.setattr(trust, "_found", {})


@needs_triton
@pytest.mark.parametrize("name", ["dice_ce", "lovasz", "focal", "cross_entropy"])
def test_kernels_that_fail_give_way_to_the_torch_code_with_one_warning(name, kernels_by_default):
    x, y = torch.randn(2, 3, 200, 200, generator=torch.Generator().manual_seed(0)), torch.zeros(2, 200, 200).long()
    y[:, 100:] = 2
    loss = getattr(losses.functional, name)
    with losses.use_backend("torch"), pytest.MonkeyPatch.context() as plain:
        from segkit.losses._engine import levels, route

        for module in (levels, route):
            plain.setattr(module, "runs_kernels", lambda logits, size: False)
        expected = loss(x, y)
    with pytest.warns(UserWarning, match="the torch code runs for .* since its Triton kernel fails: "):
        found = loss(x, y)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(loss(x, y), expected)  # a second warning would be an error


@needs_triton
@pytest.mark.parametrize("off", [0.0, 0.01])
def test_kernels_that_differ_give_way_and_equal_ones_stay(off, kernels_by_default, monkeypatch):
    from segkit.losses._engine import walk
    from segkit.losses._engine.triton import launch

    ran = []

    def forward(inputs, spec, size):
        ran.append(inputs.logits.shape)
        found = walk._forward(inputs, spec, size, False)[0]
        return found._replace(terms=found.terms * (1 + off))

    monkeypatch.setattr(launch, "forward", forward)
    monkeypatch.setattr(launch, "backward", walk._backward)
    x, y = torch.randn(2, 3, 7, 8), torch.zeros(2, 7, 8).long()
    if off:
        with pytest.warns(UserWarning, match="gives other numbers .by 1.0e-02 of the largest"):
            losses.functional.cross_entropy(x, y)
        assert ran == [(2, 3, 300)]  # the trial alone
    else:
        losses.functional.cross_entropy(x, y)
        assert ran == [(2, 3, 300), (2, 3, 56)]
