"""
How scales vary over an epoch
=============================

``MultiScaleBatchSampler`` draws the size of each batch from a list. Scales come in
shuffled rounds, so each is used equally often, and all samples of a batch (and of a
step, on every rank) have one size.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np

from segkit.samplers import MultiScaleBatchSampler

scales = [192, 256, 320, 384, 448]
figure, axes = plt.subplots(3, 1, figsize=(7.2, 3.7), layout="constrained", sharex=True)
for axis, every in zip(axes, ("epoch", 10, 1), strict=True):
    batches = MultiScaleBatchSampler(
        240, scales=scales, batch_size=6, every=every, seed=0
    )
    sides = np.array(
        [batch[0].size[0] for _ in range(5) for batch in batches]
    )  # five epochs of 40 batches
    axis.step(np.arange(len(sides)), sides, where="post", linewidth=1)
    axis.set(title=f"every={every!r}", ylabel="side, pixels", yticks=scales)
    for epoch in range(1, 5):
        axis.axvline(epoch * 40, color="gray", linewidth=0.6, linestyle=":")
axes[-1].set_xlabel("batch; dotted: a new epoch")

# %%
# A budget of pixels
# ------------------
# With ``max_pixels`` small scales get larger batches: the memory stays full and each
# step costs about the same.
budget = MultiScaleBatchSampler(
    960, scales=scales, max_pixels=6 * 448**2, every=1, seed=0
)
drawn = [(batch[0].size[0], len(batch)) for batch in budget]
figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.2), layout="constrained")
for side in scales:
    sizes = [count for s, count in drawn if s == side]
    left.bar(f"{side} px", max(sizes), color="C0")
    right.bar(f"{side} px", max(sizes) * side**2 / (6 * 448**2) * 100, color="C1")
left.set(ylabel="samples in a batch")
right.set(ylabel="% of the budget")

# %%
# Not every scale need be square. Each side is a multiple of what the network's
# strides ask for; with ``multiple_of=1`` any size comes as it is.
print(
    MultiScaleBatchSampler(
        100, scales=[(200, 300), 333], batch_size=4, every=1, multiple_of=1
    ).scales
)
