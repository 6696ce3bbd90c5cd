"""Which labels does a trained network doubt: scores of images and classes from its predictions."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from segkit import IGNORE_INDEX, io

_TEMPERATURE = 0.1  # of the softmin: how much the worst pixels decide
_SURE = 0.5  # by how much another class must be likelier for a label to be suspect


class ImageQuality(NamedTuple):
    """How well the labels of one image fit the predictions.

    Args:
        number: its place in the stream, counted from 0.
        score: in [0, 1]; low means that labels are probably wrong. NaN if every pixel is ignored.
        class_scores: the same for the pixels of each label, float64 [C]; NaN where the label does not occur.
        suspect_pixels: pixels of each label for which another class is likelier by more than 0.5, int64 [C].
        suspect_share: their share of all pixels that are not ignored.

    Example:
        >>> ImageQuality(0, 0.9, np.array([0.9]), np.array([0]), 0.0).score
        0.9
    """

    number: int
    score: float
    class_scores: np.ndarray
    suspect_pixels: np.ndarray
    suspect_share: float


class LabelQuality(list[ImageQuality]):
    """The quality of each image, in order, with the scores of all as arrays.

    Example:
        >>> LabelQuality([ImageQuality(0, 0.9, np.array([0.9]), np.array([0]), 0.0)]).scores
        array([0.9])
    """

    @property
    def scores(self) -> np.ndarray:
        """float64 [N]: the score of each image."""
        return np.array([image.score for image in self])

    @property
    def class_scores(self) -> np.ndarray:
        """float64 [N, C]: the score of each class in each image; NaN where it does not occur."""
        return np.stack([image.class_scores for image in self]) if self else np.zeros((0, 0))

    def worst(self, count: int = 10) -> list[ImageQuality]:
        """The images whose labels are the most suspect, worst first; those without a score are left out."""
        return sorted((image for image in self if image.score == image.score), key=lambda i: (i.score, i.number))[
            :count
        ]


def label_quality(
    predictions: Iterable[Any], masks: Iterable[Any], *, ignore_index: int | None = IGNORE_INDEX
) -> LabelQuality:
    """Score the labels of each image by the probabilities that a network gives them: the lowest are worth a look.

    Use predictions that were not trained on these masks (from another fold), else the network has learnt the mistakes.
    Both streams are read once, image by image: generators will do, and only a few numbers of each image are kept.

    Args:
        predictions: for each image the class probabilities, [C, H, W], float, summing to 1; arrays or tensors. Batches
            [B, C, H, W] are taken apart.
        masks: for each image its labels, [H, W], or the path of its mask; for a batch [B, H, W].
        ignore_index: the label of pixels that are not scored; None when there is none.

    Returns:
        One entry for each image. Its score is the softmin of the probabilities of the given labels: near 1 where all
        fit, near 0 where many do not.

    Raises:
        ValueError: no probabilities, other sizes, labels outside [0, C), or streams of different lengths.

    Example:
        >>> sure = np.zeros((2, 4, 4))
        >>> sure[0] = 1
        >>> right, wrong = np.zeros((4, 4), int), np.ones((4, 4), int)
        >>> label_quality([sure, sure], [right, wrong]).scores
        array([1., 0.])

    Source: Lad and Mueller 2023, Estimating label quality and errors in semantic segmentation data via any model
    (softmin of self-confidence at temperature 0.1). Suspect pixels are by a fixed margin and not by class thresholds,
    which would need a second pass.
    """
    result = LabelQuality()
    for index, (probs, mask) in enumerate(_together(predictions, masks)):
        result.append(_image_quality(index, probs, mask, ignore_index))
    return result


def _together(predictions: Iterable[Any], masks: Iterable[Any]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Single images of both streams, which must end together."""
    nothing = object()
    ours, theirs = _images(predictions, 3), _images(masks, 2)
    number = 0
    while True:
        probs, mask = next(ours, nothing), next(theirs, nothing)
        if probs is nothing and mask is nothing:
            return
        if probs is nothing or mask is nothing:
            short = "predictions" if probs is nothing else "masks"
            raise ValueError(
                f"label_quality: `predictions` and `masks` must be equally many, got only {number} {short}. "
                "Make both from the same list of pairs, unshuffled."
            )
        number += 1
        yield np.asarray(probs), np.asarray(mask)


def _images(stream: Iterable[Any], axes: int) -> Iterator[np.ndarray]:
    for item in stream:
        if isinstance(item, str | os.PathLike):
            yield io.read_mask(item)
            continue
        array = item.detach().cpu().numpy() if hasattr(item, "detach") else np.asarray(item)
        if array.ndim == axes + 1:
            yield from array
        else:
            yield array


def _image_quality(index: int, probs: np.ndarray, mask: np.ndarray, ignore_index: int | None) -> ImageQuality:
    if probs.ndim != 3 or probs.shape[1:] != mask.shape:
        raise ValueError(
            f"label_quality: prediction {index} must be [C, H, W] of its mask's size {mask.shape}, got {probs.shape}. "
            "Resize the predictions to the masks."
        )
    classes = probs.shape[0]
    valid = np.ones(mask.shape, bool) if ignore_index is None else mask != ignore_index
    labels = mask[valid].astype(np.int64)
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        raise ValueError(
            f"label_quality: mask {index} must have labels in [0, {classes}), got {labels.min()} to {labels.max()}. "
            "Renumber it with labels.remap."
        )
    pixels = probs[:, valid].astype(np.float64)  # (C, P)
    if labels.size and (pixels.min() < -1e-4 or abs(pixels.sum(0) - 1).max() > 1e-2):
        raise ValueError(
            f"label_quality: prediction {index} must be probabilities that sum to 1 over the classes, got values from "
            f"{probs.min():.3g} to {probs.max():.3g}. Pass logits.softmax(0)."
        )
    given = pixels[labels, np.arange(labels.size)]
    suspect = pixels.max(0, initial=0) - given > _SURE
    class_scores = np.full(classes, np.nan)
    for label in np.unique(labels):
        class_scores[label] = _softmin(given[labels == label])
    return ImageQuality(
        number=index,
        score=_softmin(given) if labels.size else float("nan"),
        class_scores=class_scores,
        suspect_pixels=np.bincount(labels[suspect], minlength=classes),
        suspect_share=float(suspect.mean()) if labels.size else 0.0,
    )


def _softmin(values: np.ndarray) -> float:
    """A mean in which low values weigh more: by exp((1 - value) / temperature)."""
    weights = np.exp((1 - values) / _TEMPERATURE)
    return float((values * weights).sum() / weights.sum())
