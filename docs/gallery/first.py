"""
Ten lines, one picture
======================

What the first page of this site shows, on drawn scenes.
"""

# %%
import os
import pathlib
import tempfile

import matplotlib.pyplot as plt
from scene import draw_scene

from segkit import audit, datasets, io, viz
from segkit import transforms as T

here = pathlib.Path(tempfile.mkdtemp())
os.chdir(here)
for name in ("images", "masks"):
    (here / name).mkdir()

# Two folders; usually they are there already.
for number in range(8):
    image, mask = draw_scene(number)
    io.write_image(f"images/{number}.png", image)
    io.write_mask(f"masks/{number}.png", mask)

# Look at the data, leave out what is wrong with it, augment the rest, look again.
pairs = audit.audit_dataset("images", "masks", progress=False).clean_pairs()
augment = T.Compose([T.RandomAffine(degrees=25), T.RandomCrop(96), T.HorizontalFlip()])
dataset = datasets.PairDataset(pairs, transform=augment)
samples = [dataset[i] for i in range(8)]
sheet = viz.contact_sheet([(s["image"], s["mask"]) for s in samples], columns=4)
io.write_image("sheet.png", sheet)

figure, axis = plt.subplots(figsize=(8, 4), layout="constrained")
axis.imshow(io.read_image("sheet.png"))
axis.set_axis_off()
