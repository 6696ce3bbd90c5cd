"""The quickstart's two figures: how training went, and what the network predicts."""

from __future__ import annotations

import pathlib

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from segkit import viz
from segkit.io import read_image


def draw_curves(path: pathlib.Path, history: list[dict[str, float]]) -> None:
    """Loss and IoU over the epochs."""
    epochs = np.arange(1, len(history) + 1)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    left.plot(epochs, [row["loss"] for row in history], marker="." if len(history) < 10 else None)
    left.set(xlabel="epoch", ylabel="loss", ylim=(0, None))
    right.plot(epochs, [row["train_miou"] for row in history], label="train crops")
    checked = [(epoch, row["val_miou"]) for epoch, row in zip(epochs, history, strict=True) if "val_miou" in row]
    right.plot(*zip(*checked, strict=True), marker="o", label="validation, five crops")
    right.set(xlabel="epoch", ylabel="mean IoU", ylim=(0, 1))
    right.legend(loc="lower right")
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_predictions(path: pathlib.Path, images: list[str], truths: list[np.ndarray], found: list[np.ndarray]) -> None:
    """A row per sample: image, truth, prediction."""
    figure, axes = plt.subplots(len(images), 3, figsize=(7.5, 2.6 * len(images)), layout="constrained", squeeze=False)
    for row, image_path, truth, prediction in zip(axes, images, truths, found, strict=True):
        image = read_image(image_path)
        pictures = [viz.to_rgb(image), viz.overlay(image, truth), viz.overlay(image, prediction)]
        for axis, picture in zip(row, pictures, strict=True):
            axis.imshow(picture)
            axis.set_axis_off()
    for axis, title in zip(axes[0], ("image", "truth", "prediction"), strict=True):
        axis.set_title(title)
    figure.savefig(path, dpi=110)
    plt.close(figure)
