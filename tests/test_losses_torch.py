"""The losses inside torch: compiled, traced, deterministic, over ranks, checkpointed."""

from __future__ import annotations

import inspect
import os
from functools import partial

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from losses_table import LOSSES, ONCE, planes, regions_of, volume
from preloaded import START
from segkit import losses
from segkit.losses import functional as L


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()


def sample(batch=2, classes=3, spatial=(5, 6)):
    g = torch.Generator().manual_seed(0)
    target = torch.randint(0, classes, (batch, *spatial), generator=g, dtype=torch.uint8)
    target[:, 0] = 255
    return torch.randn(batch, classes, *spatial, generator=g), target


def value_and_gradient(loss, logits, target):
    x = logits.detach().clone().requires_grad_()
    value = loss(x, target)
    value.backward()
    return value.detach(), x.grad


@pytest.mark.parametrize("name", ONCE)
def test_losses_compile_without_a_graph_break(name):
    logits, target = sample()
    loss = LOSSES[name]
    compiled = torch.compile(lambda x, y: loss(x * 1.5, y) * 2, fullgraph=True, backend="aot_eager")
    expected = value_and_gradient(lambda x, y: loss(x * 1.5, y) * 2, logits, target)
    actual = value_and_gradient(compiled, logits, target)
    torch.testing.assert_close(actual[0], expected[0])
    torch.testing.assert_close(actual[1], expected[1], rtol=1e-5, atol=1e-7)


def test_modules_and_coarse_logits_compile():
    logits, target = sample(spatial=(8, 8))
    module = losses.DeepSupervision(losses.CompoundLoss({"dice": 1.0, "focal": 1.0}, class_weights=[1.0, 2.0, 3.0]))
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    outputs = [logits, logits[..., ::2, ::2]]
    torch.testing.assert_close(compiled(outputs, target), module(outputs, target))


def module_of(name):
    """The module of a function, with numbers among its options."""
    if name == "combine":
        parts = {"dice": 1.0, "focal": 2.0, "tversky": 0.3}
        return partial(losses.CompoundLoss, parts, options={"tversky": {"alpha": 0.3, "beta": 0.7}})
    if name == "region_loss":
        return partial(partial, L.region_loss, volume)
    options = {
        "tversky": {"alpha": 0.3, "beta": 0.7, "gamma": 0.75},
        "dice": {"smooth": 1.5},
        "lovasz": {"classes": [1]},
        "cl_dice": {"iterations": 2},  # each is the same once more in the graph
    }
    found = [m for m in vars(losses).values() if getattr(m, "_function", None) is getattr(L, name)]
    return partial(found[0], **options.get(name, {}))


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted and coarse"])
@pytest.mark.parametrize("name", ONCE)
def test_losses_of_any_size_compile_at_once(name, weighted):
    """With ``dynamic=True`` sizes and numbers are symbols, of which nothing may be asked."""
    module = module_of(name)
    coarse = weighted and (name == "region_loss" or "upsample" in inspect.signature(module.func).parameters)
    options = {"class_weights": [1.0, 2.0, 3.0]} if weighted else {}
    options |= {"upsample": "bilinear"} if coarse else {}
    sigmoid = "binary_cross_entropy" in name
    loss = module(**options, **({"mode": "multilabel"} if sigmoid else {}))
    beside = (lambda y: [regions_of(y)]) if name == "component_dice_ce" else lambda y: []
    twice = lambda x, y: loss(x, y, *beside(y)) * 2  # noqa: E731
    compiled = torch.compile(twice, fullgraph=True, dynamic=True, backend="aot_eager")
    for side in (8, 12, 20):
        _, target = sample(spatial=(side, side))
        if sigmoid:
            target = planes(torch.empty(2, 3, 1), target)
        if name == "boundary":
            target = planes(torch.empty(2, 3, 1), target) * 3.5 - 2
        fine = side // 2 if coarse else side
        logits = sample(spatial=(fine, fine))[0]
        expected = value_and_gradient(twice, logits, target)
        actual = value_and_gradient(compiled, logits, target)
        torch.testing.assert_close(actual[0], expected[0])
        torch.testing.assert_close(actual[1], expected[1], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, while it loads its compiler
# torch 2.6 says so of its own settings, of which it makes the key of its cache
@pytest.mark.filterwarnings("ignore:Skipping serialization of skipfiles_inline_module_allowlist:UserWarning")
def test_losses_compile_to_machine_code():
    logits, target = sample()
    compiled = torch.compile(L.dice_ce, fullgraph=True)
    actual, expected = value_and_gradient(compiled, logits, target), value_and_gradient(L.dice_ce, logits, target)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("per_pixel", [False, True])
def test_the_operators_keep_their_promises_to_the_compiler(per_pixel):
    from segkit.losses._arguments import flatten
    from segkit.losses._engine import levels, operator
    from segkit.losses._engine.wanted import Spec

    logits, target = sample()
    flat = flatten("dice_ce", logits.requires_grad_(), target, "multiclass", 255, None, None, None)
    spec = Spec("dice_ce", False, 255, pixelwise="map" if per_pixel else "image", region=not per_pixel)
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(operator._pixel_sums, (*flat.inputs, *spec.settings(), []), test_utils=tests)
    torch.library.opcheck(levels.lovasz_sums, (*flat.inputs[:3], "lovasz", False, 255, [], False), test_utils=tests)


@pytest.mark.parametrize("name", ONCE)
def test_losses_run_with_deterministic_algorithms(name):
    logits, target = sample()
    torch.use_deterministic_algorithms(True)
    try:
        first = value_and_gradient(LOSSES[name], logits, target)
        second = value_and_gradient(LOSSES[name], logits, target)
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


@pytest.mark.parametrize("name", ["cross_entropy", "dice", "lovasz"])
def test_vmap_is_refused_in_a_sentence(name):
    logits, target = sample()
    with pytest.raises(RuntimeError, match="vmap is not supported, since a loss sums over the batch"):
        torch.func.vmap(getattr(L, name))(logits[:, None], target[:, None])


@pytest.mark.parametrize("name", [*ONCE, "lovasz, levels"])
def test_func_grad_works(name):
    logits, target = sample(spatial=(120, 200) if "levels" in name else (5, 6))  # where levels are counted
    loss = LOSSES[name.split(",")[0]]
    value, expected = value_and_gradient(loss, logits, target)
    actual = torch.func.grad_and_value(loss)(logits, target)
    torch.testing.assert_close(actual, (expected, value), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_gives_the_same_gradient(reentrant):
    logits, target = sample()
    checkpointed = lambda x, y: torch.utils.checkpoint.checkpoint(  # noqa: E731
        lambda a: L.dice_ce(a * 2, y), x, use_reentrant=reentrant
    )
    expected = value_and_gradient(lambda x, y: L.dice_ce(x * 2, y), logits, target)
    torch.testing.assert_close(value_and_gradient(checkpointed, logits, target), expected)


class Operators(TorchDispatchMode):
    """Lists the names of all operators that run."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "_to_copy.cpu", "item", "index.Tensor(bool)")


@pytest.mark.parametrize("name", [n for n in ONCE if n not in ("cl_dice",)])
def test_no_operator_waits_for_the_device(name):
    logits, target = sample()
    with Operators() as seen:
        LOSSES[name](logits.requires_grad_(), target).backward()
    assert seen.names
    assert [n for n in seen.names if any(w in n for w in WAITS)] == []


def test_the_list_of_operators_can_show_a_wait():
    with Operators() as seen:
        torch.ones(3).sum().item()
    assert any("_local_scalar_dense" in n for n in seen.names)


@pytest.mark.parametrize("name", ONCE)
def test_shapes_are_known_without_data(name):
    """On fake tensors nothing can be read, so that whatever would wait for a device fails."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        logits = torch.empty(2, 3, 5, 6, requires_grad=True)
        value = LOSSES[name](logits, torch.empty(2, 5, 6, dtype=torch.uint8))
        value.backward()
    assert value.shape == ()
    assert logits.grad.shape == logits.shape


def test_modules_have_the_arguments_of_their_functions():
    for name in losses.__all__:
        module = getattr(losses, name)
        if not (inspect.isclass(module) and issubclass(module, torch.nn.Module)) or name == "DeepSupervision":
            continue
        function = L.combine if name == "CompoundLoss" else module._function
        wanted = [p for p in inspect.signature(function).parameters.values() if p.kind == p.KEYWORD_ONLY]
        wanted = [(p.name, p.default) for p in wanted if p.name not in ("pixel_weights", "labelled")]
        given = [p for p in inspect.signature(module).parameters.values() if p.kind == p.KEYWORD_ONLY]
        assert [(p.name, p.default) for p in given] == wanted, name


@pytest.mark.skipif(not os.environ.get("SEGKIT_LONG"), reason="takes 9 GB: SEGKIT_LONG=1")
def test_more_than_two_to_the_31_elements():
    half = 2**30 + 70000
    logits = torch.zeros(1, 2, half, dtype=torch.bfloat16)
    logits[0, 1, -1] = 8
    logits.requires_grad_()
    target = torch.zeros(1, half, dtype=torch.uint8)
    loss = L.cross_entropy(logits, target, reduction="sum")
    loss.backward()
    assert loss.item() == pytest.approx((half - 1) * 0.6931471805599453 + 8.000335, rel=1e-6)
    assert logits.grad[0, :, -1].tolist() == pytest.approx([-0.99966, 0.99966], rel=1e-2)


def steps(mine, group=None):
    """A small network on a part of the batch, under DDP where there is a group: loss and gradients of each case."""
    results = []
    for options in CASES:
        torch.manual_seed(0)
        network = torch.nn.Conv2d(2, 3, 3, padding=1)
        g = torch.Generator().manual_seed(5)
        images, masks = torch.randn(6, 2, 8, 9, generator=g), torch.randint(0, 3, (6, 8, 9), generator=g)
        masks[torch.rand(masks.shape, generator=g) < 0.3] = 255
        masks[4] = 255
        model = torch.nn.parallel.DistributedDataParallel(network, process_group=group) if group else network
        loss = run(options, model(images[mine]), masks[mine], group)
        loss.backward()
        results.append((loss.item(), [p.grad.clone() for p in network.parameters()]))
    return results


def share(rank, folder):
    """One process of four: saves what its parts of the batch give."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=4)
    try:
        for sizes in SHARES:
            group = torch.distributed.new_group(list(range(len(sizes)))) if len(sizes) < 4 else None
            if rank < len(sizes):
                start = sum(sizes[:rank])
                group = group or torch.distributed.group.WORLD
                torch.save(steps(slice(start, start + sizes[rank]), group), f"{folder}/{len(sizes)}_{rank}.pt")
        torch.distributed.barrier()  # DDP keeps gloo's threads: they must hold no tensor when Python ends
    finally:
        torch.distributed.destroy_process_group()


SHARES = [(1, 3, 0, 2), (4, 2)]  # of the whole group of processes, and of a group of two of them

CASES = [
    ("dice", {"scope": "batch"}),
    ("dice", {"scope": "image", "class_weights": [1.0, 2.0, 0.5]}),
    ("dice_ce", {"scope": "batch", "class_weights": [1.0, 2.0, 0.5]}),
    ("cross_entropy", {"label_smoothing": 0.1}),
    ("focal", {}),
    ("tversky", {"scope": "batch", "alpha": 0.3, "beta": 0.7}),
    ("combine", {"scope": "batch"}),
    ("cross_entropy", {"reduction": "sum"}),
]


def run(case, logits, masks, group):
    name, options = case
    if name == "combine":
        return L.combine({"jaccard": 1.0, "focal": 0.5}, process_group=group, **options)(logits, masks)
    return getattr(L, name)(logits, masks, process_group=group, **options)


@pytest.mark.slow
def test_ranks_with_uneven_shares_give_the_loss_and_gradients_of_the_whole_batch(tmp_path):
    whole = steps(slice(None))
    torch.multiprocessing.start_processes(share, (str(tmp_path),), nprocs=4, start_method=START)
    for sizes in SHARES:
        for rank in range(len(sizes)):
            for case, one, many in zip(CASES, whole, torch.load(tmp_path / f"{len(sizes)}_{rank}.pt"), strict=True):
                where = f"{case} on rank {rank} of {sizes}"
                assert many[0] == pytest.approx(one[0], rel=1e-5), where
                torch.testing.assert_close(many[1], one[1], rtol=1e-4, atol=1e-6, msg=lambda m, w=where: f"{w}: {m}")


class _OnLooker(TorchDispatchMode):
    """Does nothing, but a loss is then made from its sums by autograd, and its gradient by a second pass."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


AT_ONCE = {
    "small": ((2, 3, 8, 9), {}),
    "an image a block": ((3, 4, 256, 260), {}),
    "several blocks an image": ((2, 5, 600, 501), {}),
    "bfloat16": ((2, 3, 64, 65), {"dtype": torch.bfloat16}),
    "several images": ((5, 3, 150, 150), {}),
    "coarse": ((2, 3, 30, 20), {"upsample": 4}),
    "coarse and small": ((2, 3, 5, 4), {"upsample": 2}),
}


@pytest.mark.parametrize("case", AT_ONCE)
@pytest.mark.parametrize(
    "loss",
    [
        L.cross_entropy,
        partial(L.focal, gamma=2.5),
        partial(L.dice, absent="one", classes=[2, 1]),
        partial(L.dice_ce, scope="batch", power=2, dice_weight=0.3),
        partial(L.dice_focal, gamma=1.5, log=True),
        partial(L.tversky, alpha=0.3, beta=0.6, gamma=1.4, reduction="sum"),
        partial(L.jaccard, smooth=1.0, absent="zero"),
    ],
    ids=lambda loss: getattr(loss, "func", loss).__name__,
)
def test_a_gradient_made_with_the_loss_is_the_one_made_after_it(loss, case):
    shape, options = AT_ONCE[case]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator).to(options.get("dtype", torch.float32)).requires_grad_()
    size = [options.get("upsample", 1) * n for n in shape[2:]]
    upsample = "bilinear" if "upsample" in options else None
    target = torch.randint(0, shape[1], (shape[0], *size), generator=generator).to(torch.uint8)
    for ignored in (False, True):
        weights = torch.rand(target.shape, generator=generator) if ignored else None
        if ignored:
            target[:, 2:5] = 255
        found = loss(x, target, pixel_weights=weights, upsample=upsample)
        with torch.no_grad():
            torch.testing.assert_close(loss(x, target, pixel_weights=weights, upsample=upsample), found.detach())
        with _OnLooker():
            expected = loss(x, target, pixel_weights=weights, upsample=upsample)
            (grad,) = torch.autograd.grad(3 * expected, x)
        torch.testing.assert_close(found, expected)
        scale = grad.abs().max()  # of a large batch each gradient is below any fixed tolerance
        torch.testing.assert_close(torch.autograd.grad(3 * found, x)[0] / scale, grad / scale)


def test_a_smallest_value_of_zero_below_the_fraction_gives_numbers():
    x = torch.tensor([[[40.0, 50.0], [-90.0, -90.0]]], requires_grad=True)  # class 1 is neither there nor predicted
    loss = L.dice(x, torch.zeros(1, 2, dtype=torch.uint8), eps=0.0)
    loss.backward()
    assert loss.isfinite()
    assert x.grad.isfinite().all()


def test_the_hardest_pixels_know_that_a_byte_cannot_be_negative():
    x, target = torch.randn(1, 3, 4, 5), torch.full((1, 4, 5), 2, dtype=torch.uint8)
    found = L.ohem_cross_entropy(x, target, ignore_index=-254, keep_ratio=1.0)  # which wraps to 2
    torch.testing.assert_close(found, L.cross_entropy(x, target.long()))


@pytest.mark.parametrize("name", ["cross_entropy", "dice_ce", "lovasz", "ohem_cross_entropy"])
def test_coarse_logits_are_interpolated_in_full_precision_under_autocast(name):
    x = torch.randn(2, 5, 16, 15, requires_grad=True)
    target = torch.randint(0, 5, (2, 32, 30), dtype=torch.uint8)
    expected = getattr(L, name)(x, target, upsample="bilinear")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = getattr(L, name)(x, target, upsample="bilinear")
        (grad,) = torch.autograd.grad(found, x)
    assert torch.equal(found, expected)
    assert torch.equal(grad, torch.autograd.grad(expected, x)[0])
