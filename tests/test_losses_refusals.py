"""What the losses refuse, and in which words; each says what to type next."""

from __future__ import annotations

import warnings

import pytest
import torch

from segkit import losses
from segkit.losses import functional as L

X = torch.randn(2, 5, 6, 7, generator=torch.Generator().manual_seed(0))
Y = torch.randint(0, 5, (2, 6, 7), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "dice", "jaccard", "tversky", "generalized_dice", "lovasz", "cl_dice", "dice_ce", "dice_focal", "ohem_cross_entropy"])  # fmt: skip  # noqa: E501
def test_every_loss_refuses_what_none_can_take(name):
    loss = getattr(L, name)
    with pytest.raises(ValueError, match=r"`class_weights` must have length 5, got shape \[4\]. Give one number for each class, the background too"):  # fmt: skip  # noqa: E501
        loss(X, Y, class_weights=[1.0] * 4)
    with pytest.raises(ValueError, match=r"labels in \[0, 5\) or 255 \(ignored\), got 7. labels.validate_target"):
        loss(X, torch.full_like(Y, 7))
    bad = Y.clone()
    bad[0, 0, 0], bad[1] = 9, 255
    with pytest.raises(ValueError, match=rf"^{name}: `target` must hold labels in \[0, 5\) or 255 \(ignored\), got 9"):
        loss(X, bad)
    with pytest.raises(ValueError, match=r"labels in \[0, 5\).*got -3"):
        loss(X, Y.long() - 3)
    with pytest.raises(ValueError, match=r"`mode` must be one of 'multiclass', 'binary'"):
        loss(X, Y, mode="multi_class")
    with pytest.raises(ValueError, match="must be one of"):
        loss(X, Y, reduction="average")
    with pytest.raises(ValueError, match="at least 2 classes in mode 'multiclass'.*Pass mode='binary'"):
        loss(X[:, :1], Y.clamp_max(0))
    with pytest.raises(ValueError, match=r"`target` must be \[B, \*spatial\] = \[2, 6, 7\].*swapped"):
        loss(X, Y.transpose(1, 2))
    with pytest.raises(TypeError, match="`logits` must be a floating point tensor, got torch.int64"):
        loss(X.long(), Y)
    with pytest.raises(TypeError, match="`target` must be a tensor, got list"):
        loss(X, Y.tolist())
    with pytest.raises(ValueError, match=r"`pixel_weights` must be \[B, \*spatial\] = \[2, 6, 7\], got \[2, 6\]"):
        loss(X, Y, pixel_weights=torch.ones(2, 6))
    with pytest.raises(ValueError, match="`target` must be on the device of `logits`, cpu, got meta"):
        loss(X, Y.to("meta"))


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "dice", "dice_ce"])
def test_float_targets_must_be_a_share_of_each_class(name):
    with pytest.raises(TypeError, match=r"one share for each class, \[2, 5, 6, 7\], got torch.float32 \[2, 6, 7\].*target.long\(\)"):  # fmt: skip  # noqa: E501
        getattr(L, name)(X, Y.float())


def test_lovasz_refuses_soft_targets_and_ranks():
    with pytest.raises(TypeError, match="Soft targets have no set"):
        L.lovasz(X, X.softmax(1))
    with pytest.raises(ValueError, match="`process_group` must be None for scope 'batch'"):
        L.lovasz(X, Y, process_group=object())
    with pytest.raises(ValueError, match="`exact` must be False with upsample"):
        L.lovasz(X[..., :3, :3], Y, upsample="bilinear", exact=True)


def test_a_channel_axis_and_one_hot_are_taken_for_what_they_are():
    expected = L.cross_entropy(X, Y)
    one_hot = (Y[:, None] == torch.arange(5)[:, None, None]).to(torch.uint8)
    for target in (Y[:, None], Y[..., None], one_hot, one_hot.movedim(1, -1), one_hot.bool()):
        assert torch.equal(L.cross_entropy(X, target), expected)


def test_colours_are_no_target():
    with pytest.raises(ValueError, match=r"\[2, 6, 7\]"):
        L.cross_entropy(X, torch.randint(0, 256, (2, 6, 7, 3), dtype=torch.uint8))


def test_sigmoid_modes_refuse_indices_and_other_shapes():
    with pytest.raises(
        ValueError, match=r"`target` must hold 0, 1 or 255 \(ignored\), got 4. If it holds class indices"
    ):
        L.binary_cross_entropy(X[:, 0], Y)
    with pytest.raises(ValueError, match="in mode 'binary' `logits` and `target` must both be"):
        L.binary_cross_entropy(X, Y)
    with pytest.raises(ValueError, match="in mode 'multilabel' `target` must have the shape of `logits`"):
        L.dice(X, Y, mode="multilabel")
    with pytest.raises(ValueError, match="must have length 1 or 2, got shape.*label 0 and of label 1"):
        L.cross_entropy(X[:, 0], Y % 2, mode="binary", class_weights=[1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="`pos_weight` must be one number, or one for each of the 5 channels, got 4"):
        L.binary_cross_entropy(X, X.sigmoid(), mode="multilabel", pos_weight=[1.0] * 4)


def test_options_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"focal: `gamma` must be at least 0, got -1"):
        L.focal(X, Y, gamma=-1)
    with pytest.raises(ValueError, match="`alpha` must hold one number for each of the 5 classes"):
        L.focal(X, Y, alpha=0.25)
    with pytest.raises(ValueError, match=r"`alpha` must be one number in \[0, 1\]"):
        L.focal(X[:, 0], Y % 2, mode="binary", alpha=3.0)
    with pytest.raises(ValueError, match=r"`label_smoothing` must be in \[0, 1\], got 2"):
        L.cross_entropy(X, Y, label_smoothing=2)
    with pytest.raises(ValueError, match=r"`label_smoothing` must be in \[0, 0.5\], got 0.7"):
        L.cross_entropy(X[:, 0], Y % 2, mode="binary", label_smoothing=0.7)
    with pytest.raises(ValueError, match=r"`classes` must name classes in \[0, 5\), got 5"):
        L.dice(X, Y, classes=[1, 5])
    with pytest.raises(ValueError, match="`power` must be one of 1, 2, got 3"):
        L.dice(X, Y, power=3)
    with pytest.raises(ValueError, match="`absent` must be one of 'skip', 'zero', 'one', 'include', got 'all'"):
        L.dice(X, Y, absent="all")
    with pytest.raises(ValueError, match="`scope` must be one of 'image', 'batch'"):
        L.tversky(X, Y, scope="pixel")
    with pytest.raises(ValueError, match="`upsample` must be one of None, 'bilinear', got 'nearest'"):
        L.dice_ce(X, Y, upsample="nearest")
    with pytest.raises(ValueError, match="as many spatial axes as `target`"):
        L.dice_ce(X[..., 0, 0], Y, upsample="bilinear")
    with pytest.raises(ValueError, match="`iterations` must be at least 1"):
        L.cl_dice(X, Y, iterations=0)
    with pytest.raises(TypeError, match="`distance_maps` must be floating point"):
        L.boundary(X, Y)
    with pytest.raises(ValueError, match="Resize the logits to the target, or pass upsample='bilinear'"):
        L.dice_ce(X[..., ::2, ::2], Y)


def test_compound_losses_name_what_they_know():
    with pytest.raises(ValueError, match="`parts` must be one of 'dice', 'jaccard', .*got 'dise'"):
        losses.CompoundLoss({"dise": 1.0})
    with pytest.raises(
        ValueError, match=r"`options\['focal'\]` must be one of 'gamma', 'alpha', 'class_weights', got 'gama'"
    ):
        losses.CompoundLoss({"focal": 1.0}, options={"focal": {"gama": 2.0}})
    with pytest.raises(ValueError, match="`parts` must name at least one loss"):
        losses.CompoundLoss({})
    with pytest.raises(ValueError, match="`outputs` must hold 2, one for each weight, got 1"):
        losses.DeepSupervision(losses.DiceLoss(), weights=[1.0, 0.5])([X], Y)


@pytest.mark.parametrize("module", [losses.DiceLoss, losses.DiceCELoss, losses.CrossEntropyLoss, losses.LovaszLoss])
def test_modules_refuse_a_wrong_choice_when_they_are_made(module):
    with pytest.raises(ValueError, match=rf"{module.__name__}: `mode` must be one of"):
        module(mode="softmax")


def test_probabilities_are_told_from_logits():
    with pytest.warns(UserWarning, match="dice: `logits` look like probabilities.*without softmax"):
        L.dice(X.softmax(1), Y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        L.dice(X, Y)
        L.dice(torch.full_like(X, 0.2), Y)  # equal scores: as good as any


def test_the_warning_about_probabilities_is_shown_once():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("default")
        for _ in range(3):
            L.dice_ce(X.softmax(1), Y)
    assert len(seen) == 1


def test_the_backend_that_runs_has_a_name():
    assert losses.backend("cpu") == "torch"
    with losses.use_backend("torch"):
        assert losses.backend() == "torch"
    with pytest.raises(ValueError, match="must be one of 'torch', 'triton', got 'jax'"), losses.use_backend("jax"):
        pass
