"""
What an audit finds
===================

A data set is drawn, some of its files are spoilt, and ``audit_dataset`` reads each file
once. The report is one HTML page for people (``report.to_html``), JSON for programs,
and a list for you.
"""

# %%
import pathlib
import tempfile

import cv2
import matplotlib.pyplot as plt
import numpy as np
from scene import COLORS, draw_scene

from segkit import io, viz
from segkit.audit import audit_dataset

scratch = tempfile.TemporaryDirectory()
images, masks = pathlib.Path(scratch.name, "images"), pathlib.Path(scratch.name, "masks")
images.mkdir()
masks.mkdir()
for number in range(16):
    image, mask = draw_scene(number, (160, 200))
    io.write_image(images / f"{number:02d}.png", image)
    io.write_mask(masks / f"{number:02d}.png", mask)

# %%
# The faults: an interrupted copy, a dark picture, a shifted mask, a picture that is there
# twice (mirrored), a label outside the classes, labels resized with interpolation.
whole = (images / "02.png").read_bytes()
(images / "02.png").write_bytes(whole[: len(whole) // 2])
io.write_image(images / "04.png", io.read_image(images / "04.png") // 12)
io.write_mask(masks / "06.png", np.roll(io.read_mask(masks / "06.png"), (6, 5), (0, 1)))
io.write_image(images / "09.png", io.read_image(images / "08.png")[:, ::-1])
io.write_mask(masks / "09.png", io.read_mask(masks / "08.png")[:, ::-1])
labels = io.read_mask(masks / "11.png")
labels[20:24, 30:40] = 17
io.write_mask(masks / "11.png", labels)
small = cv2.resize(
    io.read_mask(masks / "13.png") * 20, (100, 80), interpolation=cv2.INTER_AREA
)
io.write_mask(masks / "13.png", cv2.resize(small, (200, 160)) // 20)

report = audit_dataset(images, masks, num_classes=6, progress=False)
for finding in report.findings:
    name = pathlib.Path(finding.path).name
    print(f"{finding.severity:7}  {name}  {finding.code}: {finding.reason}")

# %%
# The samples with a finding, on one sheet. ``clean_pairs`` leaves out those with an
# error.
found = {}
for finding in report.findings:
    found.setdefault(pathlib.Path(finding.path).name, []).append(finding.code)
tiles = []
for name, codes in sorted(found.items()):
    if "truncated" not in codes:
        sample = {
            "image": io.read_image(images / name),
            "mask": io.read_mask(masks / name),
        }
        tiles.append(sample | {"name": f"{name} {codes[0]}"})
sheet = viz.contact_sheet(tiles, columns=3, colors=COLORS)
plt.figure(figsize=(7.2, 7.2 * sheet.shape[0] / sheet.shape[1]))
plt.axes((0, 0, 1, 1)).imshow(sheet)
plt.axis("off")
print(f"{len(report.clean_pairs())} of {len(report.pairs)} pairs are left to train on")
