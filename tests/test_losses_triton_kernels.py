"""The Triton kernels against the torch code: dtypes, strides, many classes, odd sizes, bits, labels out of range.

Runs on a GPU where there is one; else under Triton's interpreter, where `test_losses_triton` starts it.
"""

from __future__ import annotations

import math
import os

import pytest
import torch
from torch.nn.functional import pad

from segkit import losses
from segkit.losses import functional as L

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if not INTERPRETED and not torch.cuda.is_available():
    pytest.skip("no GPU at hand: test_losses_triton runs this file under the interpreter", allow_module_level=True)
DEVICE = "cpu" if INTERPRETED else "cuda"
needs_gpu = pytest.mark.skipif(INTERPRETED, reason="no GPU at hand")


@pytest.fixture(autouse=True)
def on_triton():
    with losses.use_backend("triton"):
        yield


def sample(classes, spatial, dtype=torch.float32, batch=2, labels=torch.int64, seed=0):
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, classes, *spatial, generator=g).mul(2).to(dtype)
    target = torch.randint(0, classes, (batch, *spatial), generator=g)
    target[torch.rand(target.shape, generator=g) < 0.2] = 255 if classes < 256 else -1
    return logits.to(DEVICE), target.to(labels).to(DEVICE)


def both(loss, logits, target, **options):
    """(value, gradient) on the kernels, and on the torch code in float64 of the same logits."""
    results = []
    for name, x in (("triton", logits), ("torch", logits.double())):
        x = x.detach().requires_grad_()
        with losses.use_backend(name):
            value = loss(x, target, **options)
            upstream = torch.linspace(0.5, 1.5, value.numel(), device=DEVICE).view(value.shape)
            (value * upstream).sum().backward()
        results.append((value.detach().double(), x.grad.double()))
    return results


def agree(loss, logits, target, rtol=2e-5, slope=None, **options):
    (value, grad), (exact, exact_grad) = both(loss, logits, target, **options)
    torch.testing.assert_close(value, exact, rtol=rtol, atol=rtol)
    # Rounded once to the logits' dtype (the interpreter cuts bfloat16 off); the scale is that of the largest entry.
    rounding = torch.finfo(logits.dtype).eps * 2
    slope = max(rounding, 1e-4) if slope is None else slope
    torch.testing.assert_close(grad, exact_grad, rtol=slope, atol=1e-5 * float(exact_grad.abs().max()) + 1e-7)


DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("classes", "spatial"), [(2, (1,)), (3, (7, 5)), (19, (9, 31)), (150, (6, 7)), (1024, (3, 5))])
def test_kernels_give_what_the_torch_code_gives(classes, spatial, dtype):
    logits, target = sample(classes, spatial, dtype)
    ignore = {"ignore_index": 255 if classes < 256 else -1}
    for loss in (L.dice_ce, L.focal):
        agree(loss, logits, target, **ignore)
    if dtype == torch.float32:
        agree(lambda *a, **k: L.dice_focal(*a, power=2, **k), logits, target, **ignore)
        agree(L.cross_entropy, logits, target, label_smoothing=0.1, **ignore)
        agree(L.cross_entropy, logits, target, reduction="none", **ignore)


@pytest.mark.parametrize("layout", ["channels last", "every second", "expanded", "cut out"])
@pytest.mark.parametrize("mode", ["multiclass", "multilabel"])
def test_strides_do_not_matter(layout, mode):
    logits, target = sample(19, (6, 9))
    if layout == "channels last":
        logits = logits.to(memory_format=torch.channels_last)
    elif layout == "every second":
        logits = logits.repeat_interleave(2, 1)[:, ::2]
    elif layout == "expanded":
        logits = logits[:1].expand(2, -1, -1, -1)
    else:
        logits = pad(logits, (2, 3))[..., 2:-3]
    target = target.transpose(1, 2).contiguous().transpose(1, 2)
    if mode == "multilabel":
        target = torch.where(
            target[:, None] == 255, 255, target[:, None] == torch.arange(19, device=DEVICE)[:, None, None]
        )
    agree(L.dice_focal, logits, target, mode=mode)


@pytest.mark.parametrize("labels", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_class_ids_of_any_integer_type(labels):
    logits, target = sample(7, (5, 6))
    target = torch.where(target == 255, 100, target).to(labels)
    agree(L.dice_ce, logits, target, ignore_index=100)


def test_labels_and_weights_with_gaps_between_them():
    logits, target = sample(3, (11,))
    weights = torch.rand(2, 22, generator=torch.Generator().manual_seed(4)).to(DEVICE)
    agree(L.dice_ce, logits, target.repeat_interleave(2, 1)[:, ::2], pixel_weights=weights[:, ::2])
    yes = ((target == 1) * 1)[:, None].repeat_interleave(2, 2)[..., ::2]
    agree(L.dice_ce, logits[:, :1], yes, pixel_weights=weights[:, ::2], mode="binary")


@pytest.mark.parametrize("mode", ["binary", "multilabel"])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("classes", [1, 5, 40])
def test_yes_or_no_questions(mode, soft, classes):
    if mode == "binary" and classes > 1:
        pytest.skip("binary has one channel")
    g = torch.Generator().manual_seed(1)
    logits = torch.randn(2, classes, 5, 7, generator=g).mul(3).to(DEVICE)
    target = torch.rand(logits.shape, generator=g)
    if not soft:
        target = torch.where(target < 0.1, 255, (target > 0.6) * 1).to(torch.uint8)
    weights = torch.rand(2, 5, 7, generator=g).mul(2).sub(0.3).clamp_min(0).to(DEVICE)
    per_class = [0.5, 2.0] if mode == "binary" else [0.5 + c / 7 for c in range(classes)]
    options = {"mode": mode, "pixel_weights": weights, "class_weights": per_class}
    for loss in (L.dice_ce, L.dice_focal):
        agree(loss, logits, target.to(DEVICE), **options)
    agree(L.focal, logits, target.to(DEVICE), gamma=0.5, alpha=0.25, reduction="none", mode=mode)


def test_easy_answers_keep_their_small_losses():
    logits = torch.tensor([[[-15.0, 15.0, -12.0]]], device=DEVICE)
    target = torch.tensor([[[0, 1, 0]]], device=DEVICE)
    value = L.cross_entropy(logits, target, mode="multilabel", reduction="none").flatten()
    torch.testing.assert_close(value.cpu(), torch.tensor([3.059023e-07, 3.059023e-07, 6.144193e-06]), rtol=1e-5, atol=0)


@pytest.mark.parametrize("classes", [4, 300])
def test_soft_targets_and_weights(classes):
    logits, target = sample(classes, (4, 5))
    g = torch.Generator().manual_seed(2)
    soft = torch.rand(logits.shape, generator=g).softmax(1).to(DEVICE)
    weights = torch.rand(2, 4, 5, generator=g).to(DEVICE)
    weights[:, 0] = 0
    options = {"class_weights": [1 + c / classes for c in range(classes)], "pixel_weights": weights}
    ignore = 255 if classes < 256 else -1
    for truth in (soft, target):
        agree(L.dice_ce, logits, truth, ignore_index=ignore, **options)
        agree(L.dice_focal, logits, truth, ignore_index=ignore, gamma=1.5, power=2, **options)
        agree(L.cross_entropy, logits, truth, ignore_index=ignore, label_smoothing=0.2, **options)


@pytest.mark.parametrize(
    ("classes", "spatial", "weighted", "mode"),
    [(3, (40, 50), w, m) for w in (False, True) for m in ("multiclass", "multilabel")]
    + [(260, (5, 6), False, "multiclass")],
)
def test_lovasz_counts_what_the_torch_code_counts(classes, spatial, weighted, mode):
    logits, target = sample(classes, spatial, torch.float32)
    ignore = 255 if classes < 256 else -1
    if mode == "multilabel":
        target = torch.where(
            target[:, None] == ignore, ignore, target[:, None] == torch.arange(classes, device=DEVICE)[:, None, None]
        )
    weights = torch.rand(2, *spatial, generator=torch.Generator().manual_seed(3)).to(DEVICE) if weighted else None
    options = {"mode": mode, "pixel_weights": weights, "ignore_index": ignore}
    (value, grad), (exact, exact_grad) = both(L.lovasz, logits, target, **options)
    torch.testing.assert_close(value, exact, rtol=0, atol=2**-16)
    # An error may round to either of two levels; slopes then differ by as much as from one pixel to the next.
    assert (grad - exact_grad).abs().max() < 2e-2 * exact_grad.abs().max()
    if classes > 3:
        return
    per_image, exact = both(L.lovasz, logits, target, reduction="none", classes="all", **options)
    torch.testing.assert_close(per_image[0], exact[0], rtol=0, atol=2**-15)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_slopes_of_lovasz_where_many_errors_are_equal(weighted):
    from segkit.losses._engine.levels import lovasz_sums  # the operator: few errors are sorted by the function

    logits, target = sample(3, (300,), torch.float64)
    weights = (torch.arange(600).view(2, 300) % 7 / 4).to(DEVICE) if weighted else None

    def loss(x, y):
        return lovasz_sums(x, y, weights, "lovasz", False, 255, [], False)[0]

    (value, grad), (exact, exact_grad) = both(loss, logits.div(2).round(), target)
    torch.testing.assert_close(value, exact, rtol=1e-9, atol=0)
    torch.testing.assert_close(grad, exact_grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("classes", [3, 300])
@pytest.mark.parametrize("name", ["dice", "jaccard", "tversky", "dice_ce", "soft", "lovasz", "coarse"])
def test_the_slope_of_sure_pixels_has_its_digits(name, classes):
    """The pixels of every second image are sure by 15, of the others by 60: each image has a loss of its own."""
    from segkit.losses._engine.levels import lovasz_sums

    g = torch.Generator().manual_seed(1)
    shape = (4, classes, 1, 1) if name == "coarse" else (2, classes, 4, 5)
    logits = torch.randn(shape, generator=g)
    target = torch.randint(0, 3, (4, 2, 3) if name == "coarse" else (2, 4, 5), generator=g)
    answer = torch.where(torch.rand(target.shape, generator=g) < 0.5, target, (target + 1) % 3)
    if name == "coarse":  # all fine pixels of an image are as sure as the one coarse pixel
        answer = answer[:, :1, :1]
    margins = torch.tensor([15.0, 60.0]).repeat(len(answer) // 2).view(-1, 1, 1, 1)
    logits = logits.scatter_add_(1, answer[:, None], margins.expand_as(answer[:, None])).to(DEVICE)
    target, options = target.to(DEVICE), {"upsample": "bilinear"} if name == "coarse" else {}
    if name == "soft":
        target = torch.nn.functional.one_hot(target, classes).movedim(-1, 1).float()
    loss = getattr(L, {"soft": "dice", "coarse": "dice"}.get(name, name))
    if name == "lovasz":
        loss = lambda x, y: lovasz_sums(x, y.flatten(1), None, "lovasz", False, 255, [], True)[0]  # noqa: E731
        logits = logits.flatten(2)
    (_, grad), (_, exact) = both(loss, logits, target, **options)
    for margin, found, wanted in zip(margins.flatten().tolist(), grad, exact, strict=True):
        right = torch.isclose(found, wanted, rtol=1e-3, atol=0)[wanted.abs() > 1e-30]
        # An error of Lovász that lies between two levels may be rounded to the other one, whose slope is another.
        assert right.double().mean() >= (0.998 if name == "lovasz" else 1), margin


# Finer by a fraction, coarser, of each number of axes, from one pixel. Each takes from 2 x fine / coarse pixels
# along an axis, which the interpreter goes over one by one.
COARSE = [
    ((5, 7), (11, 17)),
    ((6, 6), (4, 9)),
    ((9,), (40,)),
    ((2, 2, 3), (3, 2, 7)),
    ((1, 1), (2, 3)),
    ((4, 3), (4, 6)),
]


@pytest.mark.parametrize(("coarse", "fine"), COARSE, ids=str)
@pytest.mark.parametrize("mode", ["multiclass", "multilabel"])
def test_coarse_logits(coarse, fine, mode):
    logits, _ = sample(3, coarse, torch.float32)
    _, target = sample(3, fine)
    if mode == "multilabel":
        target = (target[:, None] == torch.arange(3, device=DEVICE).view(-1, *[1] * len(fine))) * 1
    agree(L.dice_focal, logits, target, mode=mode, upsample="bilinear")
    agree(L.cross_entropy, logits, target, mode=mode, upsample="bilinear", reduction="none")


def test_coarse_logits_of_many_classes_in_channels_last():
    logits, _ = sample(300, (3, 4), torch.float32)
    _, target = sample(300, (6, 7))
    agree(
        L.dice_ce, logits.to(memory_format=torch.channels_last), target, ignore_index=-1, upsample="bilinear",
        label_smoothing=0.1,
    )  # fmt: skip


def bits(x):
    return x.contiguous().view({8: torch.int64, 4: torch.int32, 2: torch.int16}[x.element_size()])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", ["dice_ce", "focal", "lovasz", "ohem_cross_entropy", "weighted lovasz", "coarse"])
def test_twice_the_same_input_gives_the_same_bits(name, dtype):
    logits, target = sample(19, (24, 30), dtype)
    options = {}
    if name == "coarse":
        _, target = sample(19, (48, 60) if not INTERPRETED else (30, 31))
        options = {"upsample": "bilinear"}
    if name == "weighted lovasz":
        options = {"pixel_weights": torch.rand(2, 24, 30, generator=torch.Generator().manual_seed(5)).to(DEVICE)}
    loss = getattr(L, {"coarse": "dice_ce", "weighted lovasz": "lovasz"}.get(name, name))
    loss(logits, target, **options)  # tile sizes are chosen here
    results = []
    for _ in range(2):
        x = logits.clone().requires_grad_()
        value = loss(x, target, **options)
        value.backward()
        results.append((bits(value.detach()), bits(x.grad)))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "dice", "tversky", "dice_ce"])
def test_a_sum_over_several_programs_has_no_seam(name):
    """Under the interpreter a program takes 8192 pixels of five classes."""
    logits, target = sample(5, (90, 200), torch.float32)
    agree(getattr(L, name), logits, target, **({} if name in ("cross_entropy", "focal") else {"scope": "batch"}))


@pytest.mark.parametrize("name", ["cross_entropy", "dice", "lovasz", "ohem_cross_entropy"])
def test_labels_out_of_range_make_the_loss_nan_where_looking_would_wait(name, monkeypatch):
    from segkit.losses._engine.triton import launch

    monkeypatch.setattr(launch, "check_labels", lambda *a: None)
    logits, target = sample(4, (5, 6))
    target[0, 0, 0] = 7
    assert math.isnan(getattr(L, name)(logits, target))
    if name != "ohem_cross_entropy":
        several = (target[:, None] == torch.arange(4, device=DEVICE)[:, None, None]) * 1
        several[0, 1, 2, 3] = 2
        assert math.isnan(getattr(L, name)(logits, several, mode="multilabel"))


def test_either_backend_may_run_the_backward_of_the_other():
    logits, target = sample(4, (5, 6))
    grads = []
    for forward, backward in (("triton", "torch"), ("torch", "triton"), ("triton", "triton")):
        for loss in (L.dice_ce, L.lovasz):
            x = logits.clone().requires_grad_()
            with losses.use_backend(forward):
                value = loss(x, target)
            with losses.use_backend(backward):
                value.backward()
            grads.append(x.grad)
    for a, b in ((0, 2), (0, 4), (1, 3), (1, 5)):
        torch.testing.assert_close(grads[a], grads[b], rtol=1e-4, atol=1e-6)


def test_few_tile_sizes_are_tried():
    pytest.importorskip("triton", "3.3", reason="Triton 3.2 wants a card for this")
    from segkit.losses._engine.triton import launch

    for kernel in (launch.softmax_forward, launch.sigmoid_backward):
        for block_c in (2, 32, 256):
            for pixels in (64, 16384, None):
                configs = launch.tuned.__wrapped__(kernel, block_c, pixels).configs
                assert 1 <= len(configs) <= 4
                assert all(pixels is None or pixels % c.kwargs["BLOCK_N"] == 0 for c in configs)


FAR = 2**31 + 64  # elements


@pytest.mark.parametrize("strides", [(FAR, 64, 1), (0, FAR, 1), (0, 1, FAR // 5 + 1)], ids=["image", "class", "pixel"])
def test_offsets_beyond_two_to_the_31_elements(strides):
    """Memory that nobody touches is not there on the CPU: of the 4 GiB only a few pages are."""
    shape = (1 + (strides[0] > 0), 2, 6)
    try:
        memory = torch.empty(FAR + 256, dtype=torch.bfloat16, device=DEVICE)
    except RuntimeError:
        pytest.skip("takes 4 GiB of address space (on a GPU of memory)")
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(shape, generator=g).to(DEVICE, torch.bfloat16)
    far = memory.as_strided(shape, strides)
    far.copy_(logits)
    target = torch.tensor([[0, 1, 1, 0, 1, 255]] * shape[0], dtype=torch.uint8, device=DEVICE)
    for name in ("dice_ce", "lovasz"):
        results = []
        for x in (logits, far):
            x = x.detach().requires_grad_()
            value = getattr(L, name)(x, target)
            results.append((value.detach(), torch.autograd.grad(value, x)[0].contiguous()))
        assert torch.equal(results[0][0], results[1][0])
        assert torch.equal(results[0][1], results[1][1])


@needs_gpu
@pytest.mark.parametrize("name", ["cross_entropy", "focal", "dice_ce", "lovasz", "ohem_cross_entropy"])
def test_losses_compile_to_one_graph_on_the_gpu(name):
    logits, target = sample(19, (64, 64), torch.bfloat16)
    loss = getattr(L, name)
    x, z = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    value, expected = torch.compile(loss, fullgraph=True)(x, target), loss(z, target)
    value.backward()
    expected.backward()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(x.grad, z.grad)


@needs_gpu
@pytest.mark.parametrize("name", ["cross_entropy", "focal", "dice_ce", "lovasz", "ohem_cross_entropy"])
def test_a_cuda_graph_captures_loss_and_gradient(name):
    logits, target = sample(19, (64, 64), torch.bfloat16)
    loss, x = getattr(L, name), logits.clone().requires_grad_()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):  # tile sizes are chosen before the capture
        for _ in range(3):
            loss(x, target).backward()
            x.grad = None
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        value = loss(x, target)
        (grad,) = torch.autograd.grad(value, x)
    with torch.no_grad():
        x.copy_(logits.flip(-1))
    graph.replay()
    z = logits.flip(-1).requires_grad_()
    expected = loss(z, target)
    expected.backward()
    assert torch.equal(value, expected)
    assert torch.equal(grad, z.grad)


@needs_gpu
def test_more_than_two_to_the_31_elements_on_the_gpu():
    pixels = 2**30 + 70000
    if torch.cuda.mem_get_info()[0] < 12 * 2**30:
        pytest.skip("takes 11 GB of the card")
    logits = torch.zeros(1, 2, pixels, dtype=torch.bfloat16, device=DEVICE)
    logits[0, 1, -1] = 8
    logits.requires_grad_()
    loss = L.cross_entropy(logits, torch.zeros(1, pixels, dtype=torch.uint8, device=DEVICE), reduction="sum")
    loss.backward()
    assert loss.item() == pytest.approx((pixels - 1) * math.log(2) + 8.000335, rel=1e-6)
    assert logits.grad[0, :, -1].tolist() == pytest.approx([-0.99966, 0.99966], rel=1e-2)
