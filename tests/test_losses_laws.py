"""What must hold for every loss, whatever its formula."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from torch.nn.functional import cross_entropy, pad

from losses_table import IGNORED, LOSSES, planes
from segkit import losses
from segkit.losses import functional as L


def sample(seed=0, batch=2, classes=4, spatial=(6, 7), dtype=torch.float32, ignored=True):
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, classes, *spatial, generator=g, dtype=torch.float64).mul(2).to(dtype)
    target = torch.randint(0, classes, (batch, *spatial), generator=g, dtype=torch.uint8)
    if ignored:
        target[torch.rand(target.shape, generator=g) < 0.25] = IGNORED
    return logits, target


def weights_of(target, seed=1):
    return torch.rand(target.shape, generator=torch.Generator().manual_seed(seed))


every_loss = pytest.mark.parametrize("loss", list(LOSSES.values()), ids=list(LOSSES))
MODES = {"multiclass": lambda logits, target: target, "multilabel": planes}


def test_every_loss_stands_in_the_table_that_the_laws_run_over():
    assert {name.partition(",")[0] for name in LOSSES} == set(L.__all__)


def value_and_gradient(loss, logits, target, **options):
    x = logits.detach().clone().requires_grad_()
    value = loss(x, target, **options)
    value.sum().backward()
    return value.detach(), x.grad


def bits(x):
    return x.contiguous().view({4: torch.int32, 8: torch.int64, 2: torch.int16}[x.element_size()])


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_of_ignored_pixels_change_neither_loss_nor_gradient_by_a_bit(loss, dtype):
    logits, target = sample(dtype=dtype)
    before = value_and_gradient(loss, logits, target)
    for value in (0.0, 1e30, -1e30, math.inf, -math.inf, math.nan):
        changed = torch.where((target == IGNORED)[:, None], value, logits)
        after = value_and_gradient(loss, changed, target)
        assert torch.equal(bits(before[0]), bits(after[0])), value
        assert torch.equal(bits(before[1] + 0.0), bits(after[1] + 0.0)), value  # of 0 and -0 either
        assert not after[1].where((target == IGNORED)[:, None], 0).any(), value


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "dice", "tversky", "lovasz", "dice_ce", "combine"])
@pytest.mark.parametrize("value", [1e30, math.inf, math.nan])
def test_the_same_for_sigmoid_and_for_pixels_of_weight_zero(name, value):
    loss = LOSSES[name] if name != "combine" else L.combine({"dice": 1.0, "focal": 1.0}, mode="multilabel")
    logits, target = sample()
    several = MODES["multilabel"](logits, target)
    weights = weights_of(target) * (target != 2)
    gone = ((target == IGNORED) | (weights == 0))[:, None]
    options = {"pixel_weights": weights} if name == "combine" else {"pixel_weights": weights, "mode": "multilabel"}
    results = [value_and_gradient(loss, x, several, **options) for x in (logits, torch.where(gone, value, logits))]
    assert torch.equal(bits(results[0][0]), bits(results[1][0]))
    assert torch.equal(bits(results[0][1]), bits(results[1][1]))


@every_loss
def test_adding_ignored_pixels_changes_nothing_but_the_order_of_sums(loss):
    logits, target = sample()
    wider, more = pad(logits, (0, 90, 3, 1), value=7.0), pad(target, (0, 90, 3, 1), value=IGNORED)
    small, big = value_and_gradient(loss, logits, target), value_and_gradient(loss, wider, more)
    torch.testing.assert_close(big[0], small[0], rtol=3e-6, atol=1e-6)
    torch.testing.assert_close(big[1][:, :, 3:-1, :7], small[1], rtol=1e-4, atol=1e-7)
    assert not big[1][:, :, :, 7:].any()


@every_loss
def test_permuting_classes_permutes_the_gradient(loss):
    logits, target = sample(dtype=torch.float64)
    order = torch.tensor([2, 0, 3, 1])
    moved = torch.where(target == IGNORED, IGNORED, order.argsort()[target.long().clamp_max(3)])
    one, other = value_and_gradient(loss, logits, target), value_and_gradient(loss, logits[:, order], moved)
    torch.testing.assert_close(other[0], one[0])
    torch.testing.assert_close(other[1], one[1][:, order], rtol=1e-6, atol=1e-9)


@every_loss
def test_a_batch_without_a_pixel_that_counts_gives_zero_with_zero_connected_gradients(loss):
    logits, target = sample()
    for x in (logits, torch.full_like(logits, math.nan)):
        value, gradient = value_and_gradient(loss, x, torch.full_like(target, IGNORED))
        assert value.item() == 0
        assert not gradient.any()


@every_loss
@pytest.mark.parametrize("shape", [(0, 4, 6, 7), (2, 4, 0, 7), (2, 4, 6, 0)])
def test_an_empty_batch_or_image_gives_zero(loss, shape):
    logits = torch.zeros(shape, requires_grad=True)
    value = loss(logits, torch.zeros(shape[0], *shape[2:], dtype=torch.uint8))
    value.backward()
    assert value.item() == 0
    assert logits.grad.shape == shape


@every_loss
def test_inputs_stay_as_they_are_and_twice_gives_the_same_bits(loss):
    logits, target = sample()
    kept = logits.clone(), target.clone()
    first, second = value_and_gradient(loss, logits, target), value_and_gradient(loss, logits, target)
    assert torch.equal(logits, kept[0])
    assert torch.equal(target, kept[1])
    assert torch.equal(bits(first[0]), bits(second[0]))
    assert torch.equal(bits(first[1]), bits(second[1]))


@every_loss
def test_a_second_backward_and_a_kept_graph_give_the_same_gradient(loss):
    logits, target = sample()
    logits.requires_grad_()
    value = loss(logits, target)
    first = torch.autograd.grad(value, logits, retain_graph=True)[0].clone()
    second = torch.autograd.grad(value, logits, retain_graph=True)[0]
    torch.testing.assert_close(second, first, rtol=1e-6, atol=1e-9)


@every_loss
def test_labels_of_any_integer_dtype_mean_the_same(loss):
    logits, target = sample(ignored=False)
    expected = loss(logits, target)  # of uint8
    for dtype in (torch.int8, torch.int16, torch.int32, torch.int64):
        torch.testing.assert_close(loss(logits, target.to(dtype)), expected, msg=lambda m, d=dtype: f"{d}: {m}")


def test_a_negative_ignore_index_is_no_label_of_uint8():
    logits, target = sample(classes=200, ignored=False)
    target[0, 0] = 156  # -100 modulo 256
    expected = cross_entropy(logits, target.long())
    torch.testing.assert_close(L.cross_entropy(logits, target, ignore_index=-100), expected)


@every_loss
@pytest.mark.parametrize("layout", ["channels_last", "strided", "expanded", "transposed"])
def test_memory_layout_does_not_matter(loss, layout):
    logits, target = sample(batch=2)
    if layout == "channels_last":
        other = logits.to(memory_format=torch.channels_last)
    elif layout == "strided":
        other = pad(logits, (2, 3)).repeat_interleave(2, 1)[:, ::2, :, 2:-3]
    elif layout == "expanded":
        logits = logits[:1].expand(2, -1, -1, -1).contiguous()
        other = logits[:1].expand(2, -1, -1, -1)
    else:
        other = logits.transpose(2, 3).contiguous().transpose(2, 3)
    target = target.t().contiguous().t() if target.ndim == 2 else target.transpose(1, 2).contiguous().transpose(1, 2)
    x = other.detach().requires_grad_()
    value = loss(x, target)
    value.backward()
    expected = value_and_gradient(loss, logits, target)
    torch.testing.assert_close(value, expected[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(x.grad, expected[1], rtol=1e-4, atol=1e-7)


@every_loss
@pytest.mark.parametrize("scale", [1e4, 1e2])
def test_far_off_logits_give_finite_losses_and_gradients(loss, scale):
    logits, target = sample()
    value, gradient = value_and_gradient(loss, logits.sign() * scale, target)
    assert value.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@every_loss
def test_half_precision_computes_the_loss_of_its_logits_in_float32(loss, dtype):
    logits, target = sample(dtype=dtype, spatial=(16, 17))
    value, gradient = value_and_gradient(loss, logits, target)
    exact, slope = value_and_gradient(loss, logits.double(), target)
    assert value.dtype == torch.float32
    assert gradient.dtype == dtype
    torch.testing.assert_close(value.double(), exact, rtol=2e-5, atol=2e-5)  # float32 sums; Lovász: half a level
    # The gradient is rounded once, to the logits' dtype; fp16 has no numbers below 6e-8.
    torch.testing.assert_close(gradient.double(), slope, rtol=2 * torch.finfo(dtype).eps, atol=1e-6 if loss is not LOSSES["lovasz"] else 1e-4)  # fmt: skip  # noqa: E501


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_million_ones_in_half_precision_are_counted(dtype):
    logits = torch.zeros(1, 2, 1024, 1024, dtype=dtype)
    target = torch.ones(1, 1024, 1024, dtype=torch.uint8)
    assert L.dice(logits, target).item() == pytest.approx(1 - 2 * 0.5 / 1.5, rel=1e-6)
    assert L.cross_entropy(logits, target).item() == pytest.approx(math.log(2), rel=1e-6)
    sure = torch.stack([torch.zeros(1, 64, 64), torch.full((1, 64, 64), 8.0)], 1).to(dtype)  # 1 - p_y = 3e-4
    assert L.focal(sure, target[:, :64, :64]).item() == pytest.approx(3.3535e-4**3, rel=2e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["dice_ce", "lovasz", "cl_dice", "ohem_cross_entropy"])
def test_autocast_changes_nothing(name, dtype):
    logits, target = sample()
    expected = value_and_gradient(LOSSES[name], logits, target)
    with torch.autocast("cpu", dtype=dtype):
        actual = value_and_gradient(LOSSES[name], logits, target)
    assert torch.equal(actual[0], expected[0])
    assert torch.equal(actual[1], expected[1])


def test_focal_without_gamma_is_cross_entropy_to_the_bit():
    logits, target = sample()
    assert torch.equal(L.focal(logits, target, gamma=0.0), L.cross_entropy(logits, target))


def test_tversky_with_equal_prices_is_dice_and_with_prices_of_one_jaccard():
    logits, target = sample()
    torch.testing.assert_close(L.tversky(logits, target, alpha=0.5, beta=0.5), L.dice(logits, target))
    torch.testing.assert_close(L.tversky(logits, target, alpha=1.0, beta=1.0), L.jaccard(logits, target))


def test_hard_labels_and_their_one_hot_are_the_same_target():
    logits, target = sample(ignored=False)
    one_hot = (target[:, None] == torch.arange(4)[:, None, None]).float()
    for name in ("cross_entropy", "cross_entropy, smoothed", "focal", "dice", "dice_ce", "combine"):
        torch.testing.assert_close(LOSSES[name](logits, one_hot), LOSSES[name](logits, target))
        torch.testing.assert_close(
            LOSSES[name](logits, one_hot, pixel_weights=weights_of(target)),
            LOSSES[name](logits, target, pixel_weights=weights_of(target)),
        )


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "dice", "jaccard", "tversky", "lovasz"])
@pytest.mark.parametrize("mode", list(MODES))
def test_none_sum_and_mean_agree(name, mode):
    logits, target = sample(dtype=torch.float64)
    truth, loss = MODES[mode](logits, target), LOSSES[name]
    one, total, mean = (loss(logits, truth, mode=mode, reduction=r) for r in ("none", "sum", "mean"))
    torch.testing.assert_close(one.sum(), total)
    if one.shape == truth.shape:
        counted = truth != IGNORED
        assert not one[~counted].any()
    else:
        counted = one > 0
    torch.testing.assert_close(one.sum() / counted.sum(), mean)


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "dice", "jaccard", "skeleton_recall"])
def test_the_sums_of_a_split_batch_add_up_to_the_batchs(name):
    logits, target = sample(batch=5, dtype=torch.float64)
    loss = LOSSES[name]
    whole = loss(logits, target, reduction="sum")
    parts = [loss(logits[a:b], target[a:b], reduction="sum") for a, b in ((0, 1), (1, 3), (3, 5))]
    torch.testing.assert_close(sum(parts), whole)


def test_weights_of_one_are_no_weights_and_a_weight_of_two_is_a_pixel_twice():
    logits, target = sample(dtype=torch.float64)
    doubled = torch.cat([logits, logits[..., :2]], -1), torch.cat([target, target[..., :2]], -1)
    weights = torch.ones(target.shape)
    weights[..., :2] = 2
    for name in ("cross_entropy", "focal", "dice", "tversky", "lovasz", "dice_ce"):
        loss = LOSSES[name]
        torch.testing.assert_close(
            loss(logits, target, pixel_weights=torch.ones(target.shape)), loss(logits, target), rtol=1e-6, atol=1e-7
        )
        torch.testing.assert_close(loss(logits, target, pixel_weights=weights), loss(*doubled), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(
    "name", [n for n in LOSSES if n.partition(",")[0] not in ("lovasz", "cl_dice") and n != "combine, own"]
)
def test_gradients_are_those_of_finite_differences(name, reduction):
    logits, target = sample(spatial=(3, 4), dtype=torch.float64)
    single = name in ("dice_ce", "dice_focal", "combine", "component_dice_ce")
    if single and reduction == "none":
        pytest.skip("a sum of a map and of a number for each class has no shape")
    options = {"reduction": reduction}
    loss = LOSSES[name]
    if name == "combine":
        loss, options = L.combine({"dice": 0.5, "tversky": 1.0, "focal": 2.0}, reduction=reduction), {}
    upstream = torch.rand(100, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).add(0.5)

    def weighted(x):
        value = loss(x, target, **options).nan_to_num()  # what is left out
        return value * upstream[: value.numel()].view(value.shape)

    assert torch.autograd.gradcheck(weighted, logits.requires_grad_())


@pytest.mark.parametrize("mode", ["multiclass", "multilabel"])
@pytest.mark.parametrize("name", ["lovasz", "lovasz, image"])
def test_gradients_of_exact_lovasz_are_those_of_finite_differences(name, mode):
    logits, target = sample(spatial=(3, 4), dtype=torch.float64)
    scope = "batch" if name == "lovasz" else "image"
    truth = MODES[mode](logits, target)
    assert torch.autograd.gradcheck(
        lambda x: L.lovasz(x, truth, mode=mode, exact=True, scope=scope), logits.requires_grad_()
    )


def test_the_gradient_of_pixel_weights_soft_targets_and_double_backward_are_refused():
    logits, target = sample()
    with pytest.raises(ValueError, match="`pixel_weights` must not require a gradient"):
        L.cross_entropy(logits, target, pixel_weights=torch.ones(target.shape, requires_grad=True))
    with pytest.raises(ValueError, match="`target` must not require a gradient"):
        L.cross_entropy(logits, logits.softmax(1).requires_grad_())
    x = logits.requires_grad_()
    for name in ("dice_ce", "lovasz"):
        (slope,) = torch.autograd.grad(LOSSES[name](x, target), x, create_graph=True)
        with pytest.raises(RuntimeError, match="gradient of the gradient is not implemented"):
            slope.sum().backward()


MODULES = [getattr(losses, n) for n in losses.__all__ if n.endswith("Loss") and n != "CompoundLoss"]


@pytest.mark.parametrize("module", [*MODULES, lambda **k: losses.CompoundLoss({"dice": 1.0, "focal": 2.0}, **k)])
def test_modules_pickle_copy_and_show_every_argument(module):
    several = {"mode": "multilabel"} if module is losses.BinaryCrossEntropyLoss else {}
    loss = module(class_weights=[1.0, 2.0, 0.5, 1.0], **several)
    logits, target = sample(ignored=False)
    target = logits.detach() if isinstance(loss, losses.BoundaryLoss) else target
    target = target[:, None].expand(-1, 4, -1, -1) % 2 if isinstance(loss, losses.BinaryCrossEntropyLoss) else target
    beside = [target.int()] if isinstance(loss, losses.ComponentDiceCELoss) else []
    for other in (pickle.loads(pickle.dumps(loss)), copy.deepcopy(loss)):
        assert torch.equal(other(logits, target, *beside), loss(logits, target, *beside))
        assert repr(other) == repr(loss)
    assert "class_weights=[1.0, 2.0, 0.5, 1.0]" in repr(loss)
    assert all(f"{name}=" in repr(loss) for name in loss._options)
    assert loss.state_dict() == {}


def test_deep_supervision_compares_each_output_with_the_full_target():
    logits, target = sample(spatial=(8, 12))
    coarse = logits[..., ::2, ::2].contiguous()
    expected = L.cross_entropy(logits, target) * 2 / 3 + L.cross_entropy(coarse, target, upsample="bilinear") / 3
    deep = losses.DeepSupervision(losses.CrossEntropyLoss())
    torch.testing.assert_close(deep([logits, coarse], target), expected)
    plain = losses.DeepSupervision(lambda x, y: cross_entropy(x, y.long(), ignore_index=IGNORED))
    torch.testing.assert_close(plain([logits, coarse], target), expected)
    reduced = losses.DeepSupervision(losses.CrossEntropyLoss(), weights=[1.0, 0.5], resize="target")
    small = target[:, 1::2, 1::2]
    expected = L.cross_entropy(logits, target) + 0.5 * L.cross_entropy(coarse, small)
    torch.testing.assert_close(reduced([logits, coarse], target), expected)
