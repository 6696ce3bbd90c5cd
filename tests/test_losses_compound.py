"""Losses of several losses: what shares a pass, and what each part is."""

from __future__ import annotations

import copy
import pickle
from functools import partial

import pytest
import torch
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils._python_dispatch import TorchDispatchMode

from losses_table import volume
from segkit import losses, mining
from segkit.losses import functional as L
from segkit.losses._engine import walk
from segkit.losses._engine.streamed import at_once


def sample():
    g = torch.Generator().manual_seed(0)
    target = torch.randint(0, 3, (2, 9, 8), generator=g, dtype=torch.uint8)
    target[:, 0] = 255
    return torch.randn(2, 3, 9, 8, generator=g, requires_grad=True), target


class Passes(TorchDispatchMode):
    """Counts passes over the pixels that go through the operator."""

    def __init__(self):
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.number += str(func) == "segkit.pixel_sums.default"
        return func(*args, **(kwargs or {}))


SHARED = {
    "a formula": {"mine": (volume, 1.0), "cross_entropy": 0.5},
    "formulas": {
        "mine": (volume, 1.0),
        "yours": (lambda s: 1 - s.intersection / s.truth.clamp_min(1), 2.0),
        "focal": 0.5,
    },
    "a module": {"mine": (losses.TverskyLoss(alpha=0.3, beta=0.7), 1.0), "dice": 1.0, "cross_entropy": 1.0},
    "a function": {"mine": (L.jaccard, 1.0), "generalized_dice": 1.0, "cross_entropy": 1.0},
}


@pytest.mark.parametrize("parts", SHARED.values(), ids=SHARED)
def test_formulas_and_losses_share_one_pass_with_cross_entropy(parts, monkeypatch):
    logits, target = sample()
    loss = losses.CompoundLoss(parts)
    with Passes() as seen:
        loss(logits, target)
    assert seen.number == 1
    made = []  # the same without the operator
    for module, name in ((walk, "forward"), (at_once._Pass, "run")):
        run = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, run=run: (made.append(1), run(*a))[1])
    loss(logits, target).backward()
    assert len(made) == 1


def test_a_second_loss_of_pixels_takes_one_more_pass():
    loss = losses.CompoundLoss({"dice": 1.0, "cross_entropy": 1.0, "focal": 1.0})
    with Passes() as seen:
        loss(*sample())
    assert seen.number == 2


@pytest.mark.parametrize(
    ("given", "alone"),
    [
        ({"lovasz": 2.0}, lambda x, y: 2 * L.lovasz(x, y)),
        ({"ohem_cross_entropy": 1.0}, L.ohem_cross_entropy),
        ({"cl_dice": 1.0}, L.cl_dice),
        ({"own": (volume, 0.5)}, lambda x, y: 0.5 * L.region_loss(volume, x, y)),
        ({"own": (losses.LovaszLoss(scope="image"), 1.0)}, lambda x, y: L.lovasz(x, y, scope="image")),
        ({"own": (losses.OHEMCrossEntropyLoss(min_kept=5), 1.0)}, partial(L.ohem_cross_entropy, min_kept=5)),
        ({"own": (losses.DiceLoss(ignore_index=2), 1.0)}, partial(L.dice, ignore_index=2)),  # another mask
        ({"own": (lambda x, y: cross_entropy(x, y.long(), ignore_index=255), 1.0)}, L.cross_entropy),
    ],
    ids=lambda given: next(iter(given)) if isinstance(given, dict) else "",
)  # fmt: skip
def test_any_loss_may_be_a_part(given, alone):
    logits, target = sample()
    if "ignore_index=2" in str(given):
        target = target.where(target != 255, 2)
    expected = L.dice(logits, target) + alone(logits, target)
    found = losses.CompoundLoss({"dice": 1.0, **given})(logits, target)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(x, logits)[0] for x in (found, expected)))


def test_each_part_has_its_own_options():
    logits, target = sample()
    options = {
        "dice": {"scope": "batch", "power": 2, "classes": [1, 2]},
        "cross_entropy": {"class_weights": [1.0, 2.0, 3.0]},
    }
    found = L.combine(
        {"dice": 1.0, "mine": (volume, 1.0), "cross_entropy": 1.0}, options={**options, "mine": {"absent": "zero"}}
    )
    expected = L.dice(logits, target, **options["dice"]) + L.region_loss(volume, logits, target, absent="zero")
    expected = expected + L.cross_entropy(logits, target, class_weights=[1.0, 2.0, 3.0])
    torch.testing.assert_close(found(logits, target), expected)


def test_an_option_of_a_part_that_is_not_there_or_has_none_is_refused():
    with pytest.raises(ValueError, match="`options` must be one of 'dice', got 'dise'"):
        L.combine({"dice": 1.0}, options={"dise": {}})
    with pytest.raises(ValueError, match=r"`options\['mine'\]` must be one of .*'scope'.*, got 'gamma'"):
        L.combine({"mine": (volume, 1.0)}, options={"mine": {"gamma": 1.0}})
    with pytest.raises(ValueError, match=r"`options\['mse'\]` must be one of , got 'x'|takes no options"):
        L.combine({"mse": (mse_loss, 1.0)}, options={"mse": {"x": 1.0}})


def test_an_own_formula_of_a_class_that_is_not_there_may_divide_by_zero():
    """0 / 0 counts nowhere, in the gradient neither."""
    logits = torch.zeros(1, 2, 4, requires_grad=True)
    weights = torch.zeros(1, 4)
    L.region_loss(volume, logits, torch.zeros(1, 4, dtype=torch.uint8), pixel_weights=weights).backward()
    assert not logits.grad.any()


@pytest.mark.parametrize("way", ["at once", "operator", "without gradient"])
@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5]])
def test_details_are_the_parts_and_the_loss_of_each_sample_from_the_same_pass(way, weights):
    logits, target = sample()
    parts = {"dice": 0.5, "cross_entropy": 2.0, "mine": (volume, 1.0), "lovasz": 0.0}
    if way == "at once":
        del parts["mine"]
    options = {"cross_entropy": {"class_weights": weights}}
    compound = losses.CompoundLoss(parts, options=options)
    with Passes() if way == "operator" else torch.set_grad_enabled(way == "at once") as seen:
        loss, details = compound(logits, target, details=True)
    if way == "operator":
        assert seen.number == 1
    torch.testing.assert_close(loss.detach(), compound(logits, target).detach())
    alone = {"dice": L.dice(logits, target), "cross_entropy": L.cross_entropy(logits, target, class_weights=weights)}
    alone |= {"mine": L.region_loss(volume, logits, target), "lovasz": L.lovasz(logits, target)}
    for name, value in details.parts.items():
        torch.testing.assert_close(value, alone[name].detach())
        assert not value.requires_grad
    each = [L.cross_entropy(logits[b : b + 1], target[b : b + 1], class_weights=weights).detach() for b in range(2)]
    torch.testing.assert_close(details.per_sample, torch.stack(each))
    if weights is None:
        map_ = L.cross_entropy(logits, target, reduction="none").detach()
        torch.testing.assert_close(details.per_sample, mining.per_sample_loss(map_, target))


@pytest.mark.parametrize("size", [(2, 3, 9, 8), (3, 4, 256, 260), (2, 5, 600, 501)], ids=str)
def test_details_of_blocks_add_up_and_an_ignored_sample_is_no_number(size):
    g = torch.Generator().manual_seed(1)
    logits = torch.randn(size, generator=g, requires_grad=True)
    target = torch.randint(0, size[1], (size[0], *size[2:]), generator=g, dtype=torch.uint8)
    for ignored in (False, True):
        if ignored:
            target[0] = 255
        _, details = losses.CompoundLoss({"dice": 1.0, "cross_entropy": 1.0})(logits, target, details=True)
        map_ = L.cross_entropy(logits, target, reduction="none").detach()
        expected = mining.per_sample_loss(map_, target)
        torch.testing.assert_close(details.per_sample, expected, equal_nan=True, rtol=1e-5, atol=0)
        torch.testing.assert_close(details.parts["dice"], L.dice(logits, target).detach())


def test_weights_may_be_changed_and_a_dictionary_that_changes_changes_nothing():
    logits, target = sample()
    parts = {"dice": 1.0, "cross_entropy": 1.0}
    options = {"dice": {"scope": "batch"}}
    loss = losses.CompoundLoss(parts, options=options)
    before = loss(logits, target)
    parts["dice"], options["dice"]["scope"] = 5.0, "image"
    assert torch.equal(loss(logits, target), before)
    loss.set_weight("dice", 0.25)
    for other in (loss, copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        expected = 0.25 * L.dice(logits, target, scope="batch") + L.cross_entropy(logits, target)
        torch.testing.assert_close(other(logits, target), expected)
        assert "'dice': 0.25" in repr(other)
    with pytest.raises(ValueError, match="CompoundLoss: `name` must be one of 'dice', 'cross_entropy', got 'focal'"):
        loss.set_weight("focal", 1.0)
    both = losses.DiceCELoss()
    both.dice_weight = 0.0
    torch.testing.assert_close(both(logits, target), L.cross_entropy(logits, target))


def test_maps_made_in_the_loader_go_to_the_parts_that_take_them():
    logits, target = sample()
    maps = torch.randn(2, 3, 9, 8, generator=torch.Generator().manual_seed(2))
    loss = losses.CompoundLoss({"dice": 1.0, "boundary": 0.1})
    expected = L.dice(logits, target) + 0.1 * L.boundary(logits, maps)
    torch.testing.assert_close(loss(logits, target, targets={"boundary": maps}), expected)
    with pytest.raises(ValueError, match="`targets` must hold what 'boundary' is compared with"):
        loss(logits, target)


def test_pos_weight_stands_beside_dice():
    logits, target = sample()
    mask = (target == 1).long()
    options = {"cross_entropy": {"pos_weight": 3.0}}
    found = L.combine({"dice": 1.0, "cross_entropy": 1.0}, mode="binary", options=options)(logits[:, 0], mask)
    expected = L.dice(logits[:, 0], mask, mode="binary") + L.binary_cross_entropy(logits[:, 0], mask, pos_weight=3.0)
    torch.testing.assert_close(found, expected)
