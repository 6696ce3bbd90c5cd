"""
Losses as a function of error and of class imbalance
====================================================

What a loss is worth in a training is a question for experiments. What it says about a
given error is a question of arithmetic, and can be drawn.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch

from segkit.losses import functional as L

# %%
# One pixel
# ---------
# The loss of one pixel and its slope, by the probability that the network gives to the
# true class. Focal says almost nothing about pixels that are already right.
p = torch.linspace(0.005, 0.995, 200, dtype=torch.float64)
logits = torch.stack([p.log(), (1 - p).log()])[
    None
].requires_grad_()  # [1, 2, 200]: softmax gives p and 1 - p
truth = torch.zeros(1, 200, dtype=torch.uint8)
losses = {
    "cross_entropy": L.cross_entropy(logits, truth, reduction="none"),
    "cross_entropy, label_smoothing=0.1": L.cross_entropy(
        logits, truth, label_smoothing=0.1, reduction="none"
    ),
    "focal, gamma=1": L.focal(logits, truth, gamma=1.0, reduction="none"),
    "focal, gamma=2": L.focal(logits, truth, gamma=2.0, reduction="none"),
    "focal, gamma=5": L.focal(logits, truth, gamma=5.0, reduction="none"),
}
figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.7), layout="constrained")
for name, loss in losses.items():
    (slope,) = torch.autograd.grad(loss.sum(), logits, retain_graph=True)
    left.plot(p, loss[0].detach(), label=name)
    right.plot(p, -slope[0, 0])
left.set(xlabel="probability of the true class", ylabel="loss", ylim=(0, 4))
right.set(
    xlabel="probability of the true class", ylabel="pull on its logit", ylim=(-0.1, 1.1)
)
left.legend(fontsize=8)

# %%
# A whole object
# --------------
# 64 × 64 pixels, an object of 20 × 20. On the left a growing share of it is missed; on
# the right more and more background is mistaken for it. All predictions are 98 % sure.
# Tversky with ``alpha=0.3, beta=0.7`` penalises a miss more than a false alarm.
mask = torch.zeros(1, 64, 64, dtype=torch.uint8)
mask[:, 20:40, 20:40] = 1


def sure(prediction):
    """Logits [1, 2, H, W] that give 0.98 to the predicted class."""
    score = (prediction.double() * 2 - 1) * np.log(0.98 / 0.02)
    return torch.stack([torch.zeros_like(score), score], 1)


region = {
    "dice": lambda x, y: L.dice(x, y, classes=[1]),
    "jaccard": lambda x, y: L.jaccard(x, y, classes=[1]),
    "tversky, alpha=0.3, beta=0.7": lambda x, y: L.tversky(
        x, y, alpha=0.3, beta=0.7, classes=[1]
    ),
    "lovasz": lambda x, y: L.lovasz(x, y, classes=[1]),
    "cross_entropy": L.cross_entropy,
}
figure, axes = plt.subplots(1, 2, figsize=(7.2, 2.7), layout="constrained", sharey=True)
for name, loss in region.items():
    missed, false = [], []
    for lines in range(21):
        less, more = mask.clone(), mask.clone()
        less[:, 20 : 20 + lines] = 0
        more[:, 40 : 40 + lines, 20:40] = 1
        missed.append(loss(sure(less), mask).item())
        false.append(loss(sure(more), mask).item())
    axes[0].plot(np.arange(21) / 20, missed, label=name)
    axes[1].plot(np.arange(21) / 20, false)
axes[0].set(xlabel="share of the object that is missed", ylabel="loss")
axes[1].set(xlabel="pixels of false alarm / pixels of the object")
axes[0].legend(fontsize=8)

# %%
# Class imbalance
# ---------------
# A network that says "background, 90 %" everywhere, for objects that are rarer and
# rarer. Cross-entropy is content with it, focal even more so; Dice and Lovász are not.
# On the right: which part of the pull on the logits comes from the pixels of the
# object. Plain cross-entropy loses it with the share. Inverse weights keep it where it
# is, generalized Dice and Lovász at about one half.
shares = np.geomspace(0.001, 0.5, 25)
pixels = 10_000


def loss_and_pull(loss, share):
    """The loss, and the object's share of the gradient's absolute sum."""
    count = round(share * pixels)
    labels = torch.zeros(1, pixels, dtype=torch.uint8)
    labels[:, :count] = 1
    x = (
        torch.tensor([0.9, 0.1], dtype=torch.float64)
        .log()[None, :, None]
        .repeat(1, 1, pixels)
        .requires_grad_()
    )
    value = loss(x, labels, share)
    (gradient,) = torch.autograd.grad(value, x)
    weight = gradient.abs().sum(1)[0]
    return value.item(), (weight[:count].sum() / weight.sum()).item()


choices = {
    "cross_entropy": lambda x, y, share: L.cross_entropy(x, y),
    "cross_entropy, inverse weights": lambda x, y, share: L.cross_entropy(
        x, y, class_weights=[1 / (1 - share), 1 / share]
    ),
    "focal, gamma=2": lambda x, y, share: L.focal(x, y, gamma=2.0),
    "dice": lambda x, y, share: L.dice(x, y),
    "dice_ce": lambda x, y, share: L.dice_ce(x, y),
    "generalized_dice": lambda x, y, share: L.generalized_dice(x, y),
    "lovasz": lambda x, y, share: L.lovasz(x, y),
    "ohem, keep_ratio=0.25": lambda x, y, share: L.ohem_cross_entropy(
        x, y, keep_ratio=0.25
    ),
}
figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.0), layout="constrained")
for name, loss in choices.items():
    values, pulls = zip(*(loss_and_pull(loss, share) for share in shares), strict=True)
    left.semilogx(shares * 100, values, label=name)
    right.semilogx(shares * 100, pulls)
left.set(xlabel="object, % of the pixels", ylabel="loss")
right.set(
    xlabel="object, % of the pixels",
    ylabel="object's share of the pull",
    ylim=(0, 1.02),
)
figure.legend(loc="outside lower center", ncols=4, fontsize=8)
