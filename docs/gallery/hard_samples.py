"""
What a ledger of hard samples knows
===================================

A ``DifficultyLedger`` remembers the losses of each sample. Here 400 samples of four
kinds are played through: easy ones, hard ones that are learnt late, and some with a
wrong label whose loss never falls.
"""

# %%
import io

import matplotlib.pyplot as plt
import numpy as np

from segkit.mining import DifficultyLedger
from segkit.samplers import DifficultySampler, LinearSchedule

rng = np.random.default_rng(0)
kinds = rng.choice(
    ["easy", "middling", "hard", "wrong label"], 400, p=[0.55, 0.3, 0.12, 0.03]
)
speed = np.select(
    [kinds == "easy", kinds == "middling", kinds == "hard"], [0.6, 0.25, 0.08], 0.0
)
start = np.where(kinds == "wrong label", 2.5, 1.4)
ledger = DifficultyLedger(400, momentum=0.7)
sampler = DifficultySampler(
    ledger,
    hard_ratio=LinearSchedule(0.2, 0.5, epochs=6, begin=2),
    warmup_epochs=2,
    drop_easy=0.1,
)
learnt, drawn = np.zeros(400), []
for epoch in range(10):
    keys = np.array([int(key) for key in sampler])
    drawn.append(np.bincount(keys, minlength=400))
    for sample in keys:
        learnt[sample] += speed[sample]
        loss = start[sample] * np.exp(-learnt[sample]) + abs(rng.normal(0, 0.03))
        ledger.update([sample], [loss], positive=[sample % 3 == 0], epoch=epoch)

# %%
# How often each kind is drawn. Samples whose loss never falls are drawn like any other,
# but never as hard ones.
figure, axis = plt.subplots(figsize=(7.2, 2.2), layout="constrained")
for kind in ("easy", "middling", "hard", "wrong label"):
    axis.plot([counts[kinds == kind].mean() for counts in drawn], marker="o", label=kind)
axis.set(xlabel="epoch", ylabel="draws for each sample", ylim=(0, None))
axis.legend(fontsize=8)

# %%
# The ledger draws itself: how the losses spread, easy and hard by class, how tags moved
# at the last epoch.
file = io.BytesIO()
ledger.plot().savefig(file, dpi=200)
file.seek(0)
picture = plt.imread(file)
plt.figure(figsize=(7.2, 7.2 * picture.shape[0] / picture.shape[1]))
plt.axes((0, 0, 1, 1)).imshow(picture)
plt.axis("off")

# %%
# And it names the labels to look at first:
noisy = ledger.noisy()
wrong = kinds == "wrong label"
print(f"{noisy.sum()} are noisy, {(noisy & wrong).sum()} of them labelled wrong;")
print(f"{wrong.sum()} are labelled wrong in all")
