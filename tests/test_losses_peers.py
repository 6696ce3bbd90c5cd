"""Where other libraries define the same quantity, the numbers agree; the settings are those of the table in the docs.

Runs where the `bench` extra is installed.
"""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F

from segkit.losses import functional as L


def sample(classes=4, spatial=(9, 11)):
    g = torch.Generator().manual_seed(0)
    target = torch.randint(0, classes, (3, *spatial), generator=g)
    target[:, 0, :classes] = torch.arange(classes)  # every class is in every image
    return torch.randn(3, classes, *spatial, generator=g).mul(2), target


X, Y = sample()
XB, YB = X[:, :1], (Y > 1).long()[:, None]
ONE_HOT = F.one_hot(Y, 4).movedim(-1, 1)


def agree(ours, theirs, x):
    """Values and gradients to 1e-5."""
    results = []
    for loss in (ours, theirs):
        z = x.clone().requires_grad_()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = loss(z)
        value.backward()
        results.append((value.detach(), z.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_cross_entropy_is_torchs(smoothing, reduction):
    weight, target = torch.tensor([1.0, 2.0, 0.5, 3.0]), Y.clone()
    target[:, 2] = 255
    agree(
        lambda z: L.cross_entropy(z, target, class_weights=weight, label_smoothing=smoothing, reduction=reduction),
        lambda z: F.cross_entropy(
            z, target, weight=weight, label_smoothing=smoothing, ignore_index=255, reduction=reduction
        ),
        X,
    )


def test_binary_cross_entropy_is_torchs():
    agree(
        lambda z: L.binary_cross_entropy(z, YB, pos_weight=3.0),
        lambda z: F.binary_cross_entropy_with_logits(z, YB.float(), pos_weight=torch.tensor(3.0)),
        XB,
    )
    agree(
        lambda z: L.binary_cross_entropy(z, ONE_HOT, mode="multilabel"),
        lambda z: F.binary_cross_entropy_with_logits(z, ONE_HOT.float()),
        X,
    )


@pytest.mark.filterwarnings("ignore")
def test_monai_agrees():
    losses = pytest.importorskip("monai.losses")
    target, common = Y[:, None], {"to_onehot_y": True, "softmax": True}
    agree(lambda z: L.dice(z, Y, smooth=1e-5), lambda z: losses.DiceLoss(**common)(z, target), X)
    agree(
        lambda z: L.dice(z, Y, smooth=1e-5, power=2, classes=[1, 2, 3], scope="batch"),
        lambda z: losses.DiceLoss(**common, squared_pred=True, include_background=False, batch=True)(z, target),
        X,
    )
    agree(lambda z: L.jaccard(z, Y, smooth=1e-5), lambda z: losses.DiceLoss(**common, jaccard=True)(z, target), X)
    agree(
        lambda z: L.tversky(z, Y, alpha=0.3, beta=0.7, smooth=1e-5),
        lambda z: losses.TverskyLoss(**common, alpha=0.3, beta=0.7)(z, target),
        X,
    )
    agree(lambda z: L.dice_ce(z, Y, smooth=1e-5), lambda z: losses.DiceCELoss(**common)(z, target), X)
    agree(lambda z: L.generalized_dice(z, Y, smooth=1e-5), lambda z: losses.GeneralizedDiceLoss(**common)(z, target), X)
    # Its focal keeps the class axis and averages over it, too.
    agree(
        lambda z: L.focal(z, Y) / 4,
        lambda z: losses.FocalLoss(to_onehot_y=True, use_softmax=True, gamma=2.0)(z, target),
        X,
    )
    agree(
        lambda z: L.focal(z, ONE_HOT, mode="multilabel"),
        lambda z: losses.FocalLoss(to_onehot_y=True, gamma=2.0)(z, target),
        X,
    )


@pytest.mark.filterwarnings("ignore")
def test_monai_agrees_on_weights_soft_targets_and_absent_classes():
    losses = pytest.importorskip("monai.losses")
    target, common = Y[:, None], {"to_onehot_y": True, "softmax": True}
    weight = [1.0, 2.0, 0.5, 3.0]
    agree(
        lambda z: L.dice(z, Y, smooth=1e-5, class_weights=weight) * sum(weight) / 4,
        lambda z: losses.DiceLoss(**common, weight=torch.tensor(weight))(z, target),
        X,
    )
    shares = torch.rand(X.shape, generator=torch.Generator().manual_seed(1)).mul(3).softmax(1)
    agree(
        lambda z: L.dice(z, shares, power=2, smooth=1e-5),
        lambda z: losses.DiceLoss(softmax=True, squared_pred=True)(z, shares),
        X,
    )
    agree(
        lambda z: L.dice(z, shares, intersection="minimum", smooth=1e-5),
        lambda z: losses.DiceLoss(softmax=True, soft_label=True)(z, shares),
        X,
    )
    three = torch.where(Y == 3, 0, Y)  # nowhere is class 3
    agree(
        lambda z: L.dice(z, three, smooth=1.0, absent="include"),
        lambda z: losses.DiceLoss(**common, smooth_nr=1.0, smooth_dr=1.0)(z, three[:, None]),
        X,
    )


@pytest.mark.filterwarnings("ignore")
def test_segmentation_models_pytorch_agrees():
    losses = pytest.importorskip("segmentation_models_pytorch.losses")
    agree(lambda z: L.dice(z, Y, scope="batch"), lambda z: losses.DiceLoss("multiclass")(z, Y), X)
    agree(
        lambda z: L.dice(z, Y, scope="batch", log=True), lambda z: losses.DiceLoss("multiclass", log_loss=True)(z, Y), X
    )
    agree(lambda z: L.dice(z, YB, mode="binary", scope="batch"), lambda z: losses.DiceLoss("binary")(z, YB), XB)
    agree(lambda z: L.jaccard(z, Y, scope="batch"), lambda z: losses.JaccardLoss("multiclass")(z, Y), X)
    agree(
        lambda z: L.tversky(z, Y, scope="batch", alpha=0.3, beta=0.7),
        lambda z: losses.TverskyLoss("multiclass", alpha=0.3, beta=0.7)(z, Y),
        X,
    )
    agree(lambda z: L.lovasz(z, Y, exact=True), lambda z: losses.LovaszLoss("multiclass")(z, Y), X)
    agree(lambda z: L.focal(z, YB, mode="binary"), lambda z: losses.FocalLoss("binary")(z, YB), XB)
    agree(
        lambda z: L.binary_cross_entropy(z, YB, label_smoothing=0.1),
        lambda z: losses.SoftBCEWithLogitsLoss(smooth_factor=0.1, ignore_index=None)(z, YB.float()),
        XB,
    )


@pytest.mark.filterwarnings("ignore")
def test_kornia_agrees():
    losses = pytest.importorskip("kornia.losses")
    agree(lambda z: L.dice(z, Y, smooth=1e-8), lambda z: losses.dice_loss(z, Y, average="macro"), X)
    agree(lambda z: L.lovasz(z, Y, exact=True, scope="image"), lambda z: losses.lovasz_softmax_loss(z, Y), X)
    agree(
        lambda z: L.focal(z, Y),
        lambda z: losses.focal_loss(z, Y, alpha=None, gamma=2.0, reduction="none").sum(1).mean(),
        X,
    )
