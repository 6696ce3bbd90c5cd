"""The kernels compile to machine code for cards that are not here: the interpreter does not check types as a compiler.

Each pass is prepared as for a card; instead of being launched, its kernel is compiled for one.
"""

from __future__ import annotations

import os

import pytest
import torch

from segkit.losses import functional as L

pytest.importorskip("triton", "3.3", reason="Triton is in the dev extra on x86-64 Linux only; 3.2 is asked otherwise")
pytestmark = [
    pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="nothing is compiled under the interpreter"),
    pytest.mark.filterwarnings("ignore:AnnAssign:DeprecationWarning"),  # Triton 3.7 itself, on Python 3.13
]

CARDS = [80] if not os.environ.get("SEGKIT_LONG") else [75, 80, 86, 90, 100]
TYPES = {
    torch.float64: "fp64", torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16", torch.uint8: "u8",
    torch.int8: "i8", torch.int16: "i16", torch.int32: "i32", torch.int64: "i64",
}  # fmt: skip


def compile_for(card, kernel, arguments, warps=4):
    """Machine code of a kernel, specialised as a launch with these arguments would."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from segkit.losses._engine.triton import launch

    assert set(arguments) == {p.name for p in kernel.params}, "a launch refuses what it does not know"
    signature, constants, aligned = {}, {}, {}
    for place, parameter in enumerate(kernel.params):
        name, value = parameter.name, arguments[parameter.name]
        if isinstance(value, torch.Tensor):
            signature[name] = "*" + TYPES[value.dtype]
        elif isinstance(value, float) and not parameter.is_constexpr:
            signature[name] = "fp32"
        elif value is None or parameter.is_constexpr or value == 1:
            signature[name], constants[name] = "constexpr", value
        else:
            signature[name] = "i32" if -(2**31) <= value < 2**31 else "i64"
        if isinstance(value, torch.Tensor) or (signature[name] in ("i32", "i64") and value % 16 == 0):
            aligned[place,] = [["tt.divisibility", 16]]  # as the launch finds out
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=aligned)
    return triton.compile(source, target=GPUTarget("cuda", card, 32), options={"num_warps": warps, **launch.COMPILE})


class Compiled(list):
    """Machine code of kernels; also the assembly of each for the first card, and how large their tiles are."""

    def __init__(self):
        super().__init__()
        self.text, self.elements = {}, 0


@pytest.fixture
def compiled(monkeypatch, tmp_path):
    """Prepare passes as on a card, and collect the machine code of their kernels instead of running them."""
    from segkit.losses._engine import levels, route, walk
    from segkit.losses._engine.triton import launch

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    done = Compiled()

    def compile_only(kernel, grid, block_c, arguments, pixels, places=0):
        block_n = min(max(4096 // block_c, 16), 1024, pixels or 1024)
        given = {"BLOCK_C": block_c, "BLOCK_N": block_n} | arguments
        code = [compile_for(card, kernel, given).asm for card in CARDS]
        done.extend(asm["cubin"] for asm in code)
        done.text[kernel.__name__], done.elements = code[0]["ptx"], block_c * block_n

    class Levels:
        def __getitem__(self, grid):
            def run(*args, enable_fp_fusion, **options):
                given = dict(zip([p.name for p in kernel.params], args, strict=False)) | options
                done.extend(compile_for(c, kernel, given).asm["cubin"] for c in CARDS)

            return run

    kernel = launch.level_sums
    monkeypatch.setattr(launch, "launch", compile_only)
    monkeypatch.setattr(launch, "level_sums", Levels())
    for module in (levels, route):
        monkeypatch.setattr(module, "runs_kernels", lambda logits, size: True)
    for module in (levels, walk):  # what is only compiled gives no numbers to compare
        monkeypatch.setattr(module, "trusted", lambda *arguments: True)
    return done


def sample(classes, dtype, spatial=(8, 8)):
    logits = torch.zeros(2, classes, *spatial, dtype=dtype, requires_grad=True)
    return logits, torch.zeros(2, *spatial, dtype=torch.uint8)


CASES = {
    "cross_entropy": (L.cross_entropy, 19, torch.bfloat16, {}),
    "dice_ce": (L.dice_ce, 19, torch.float32, {}),
    "dice_ce of many": (L.dice_ce, 1000, torch.bfloat16, {"class_weights": torch.ones(1000)}),
    "focal": (L.focal, 4, torch.float16, {"gamma": 1.5, "alpha": [1.0] * 4}),
    "weights": (L.dice_focal, 4, torch.float64, {"pixel_weights": torch.ones(2, 8, 8), "power": 2}),
    "map": (lambda *a, **k: L.cross_entropy(*a, reduction="none", **k).sum(), 4, torch.float32, {}),
    "smoothing": (L.cross_entropy, 150, torch.bfloat16, {"label_smoothing": 0.1}),
    "soft": (lambda x, y, **k: L.dice_ce(x, x.detach(), **k), 5, torch.float32, {"class_weights": torch.ones(5)}),
    "multilabel": (lambda x, y, **k: L.dice_focal(x, (x == 1) * 1, mode="multilabel", **k), 7, torch.bfloat16, {"class_weights": torch.ones(7)}),  # noqa: E501
    "binary": (lambda x, y, **k: L.focal(x[:, 0], y, mode="binary", **k), 2, torch.float32, {"alpha": 0.25}),
    "lovasz": (L.lovasz, 19, torch.bfloat16, {}),
    "lovasz, weights": (L.lovasz, 4, torch.float32, {"pixel_weights": torch.ones(2, 8, 8)}),
    "lovasz, multilabel": (lambda x, y, **k: L.lovasz(x, (x == 1) * 1, mode="multilabel", **k), 4, torch.float32, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_kernels_compile_to_machine_code(name, compiled):
    loss, classes, dtype, options = CASES[name]
    logits, target = sample(classes, dtype)
    loss(logits, target, **options).backward()
    assert len(compiled) == len(CARDS) * (3 if "lovasz" in name else 2)
    assert all(compiled)


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "dice_ce", "dice_focal"])
def test_the_logits_are_read_once_and_the_gradient_written_once_in_wide_accesses(name, compiled):
    logits, target = sample(19, torch.bfloat16, (64, 64))
    getattr(L, name)(logits, target).backward()
    wide = compiled.elements * 2 // (16 * 4 * 32)  # accesses of 16 bytes by each thread of 4 warps
    assert compiled.text["softmax_forward"].count("ld.global.v4.b32") == wide
    assert compiled.text["softmax_backward"].count("ld.global.v4.b32") == wide
    assert compiled.text["softmax_backward"].count("st.global.v4.b32") == wide
    assert "b16" not in "".join(part.split(" ")[0] for part in compiled.text["softmax_backward"].split("ld.global")[1:])


COARSE = [("dice_ce", (4, 6)), ("lovasz", (4, 6)), ("focal", (7,)), ("dice_ce", (2, 4, 5))]


@pytest.mark.parametrize(("name", "size"), COARSE, ids=str)
def test_kernels_for_coarse_logits_compile_to_machine_code(name, size, compiled):
    logits, _ = sample(5, torch.bfloat16, size)
    target = torch.zeros(2, *(2 * n for n in size), dtype=torch.int64)
    getattr(L, name)(logits, target, upsample="bilinear").backward()
    assert len(compiled) == len(CARDS) * (4 if name == "lovasz" else 3)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("first", [False, True])
def test_kernels_of_the_selection_compile_to_machine_code(dtype, first, tmp_path, monkeypatch):
    from segkit.mining import _select_triton as kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    keys, asked = torch.zeros(2, 3, dtype=dtype), torch.zeros(2, 1, dtype=torch.int64)
    given = {"keys": keys, "prefix": keys, "counts": asked.int(), "asked": asked, "M": 3, "key_r": 3, "key_m": 1}
    given |= {"SHIFT": 24 if first else 8, "FIRST": first, "BINS": 256, "STEPS": 4, "BLOCK": 2048}
    for kernel in (kernels.count_digits, kernels.pick_digit):
        of_kernel = {p.name: given[p.name] for p in kernel.params}
        assert all(compile_for(card, kernel, of_kernel).asm["cubin"] for card in CARDS)


class NoCard:
    """A driver of a card that compiles and launches nothing."""

    def get_current_target(self):
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 80, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0

    def get_benchmarker(self):
        return lambda call, **options: call() or [1.0, 1.0, 1.0]


@pytest.mark.parametrize("name", ["dice_ce", "lovasz", "multilabel", "coarse", "ohem_cross_entropy"])
def test_launches_bind_their_arguments_choose_tile_sizes_and_do_so_again(name, monkeypatch, tmp_path):
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    from segkit.losses._engine import levels, route, walk
    from segkit.losses._engine.triton import launch
    from segkit.mining import _select_triton

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    for module in (levels, route):
        monkeypatch.setattr(module, "runs_kernels", lambda logits, size: True)
    for module in (levels, walk):  # what is only compiled gives no numbers to compare
        monkeypatch.setattr(module, "trusted", lambda *arguments: True)
    run, ran = JITFunction.run, []

    def without_launch(kernel, *args, grid, warmup, **options):
        ran.append(kernel.__name__)
        return run(kernel, *args, grid=grid, warmup=True, **options)

    monkeypatch.setattr(JITFunction, "run", without_launch)
    launch.tuned.cache_clear()
    before = dict(vars(driver))
    driver.set_active(NoCard())
    try:
        numbers = []
        for _ in range(2):
            logits, target = sample(3, torch.bfloat16, (16, 16))
            options = {}
            if name == "multilabel":
                target, options = logits.detach().long(), {"mode": "multilabel"}
            if name == "coarse":
                target, options = target.repeat_interleave(2, 1), {"upsample": "bilinear"}
            getattr(L, name if hasattr(L, name) else "dice_ce")(logits, target, **options).backward()
            if name == "ohem_cross_entropy":
                _select_triton.reached(torch.zeros(2, 300, dtype=torch.int32), torch.ones(2, 1, dtype=torch.int64))
            numbers.append(len(ran))
    finally:
        vars(driver).update(before)
        launch.tuned.cache_clear()
    tried = numbers[0] - (numbers[1] - numbers[0])
    assert numbers[1] > numbers[0] > 1
    assert tried > 0, "the second pass tries tile sizes anew"
