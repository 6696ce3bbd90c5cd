"""Which labels does a trained network doubt: scores of images and classes, and the places that are probably wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from segkit import IGNORE_INDEX, io
from segkit._whole import whole_file
from segkit.audit._measure.places import PLACE, places_of, scored
from segkit.audit._report.places import Gallery, page_of_places

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
    """The quality of each image, in order, with the scores of all as arrays, and the places that are probably wrong.

    `places` is a structured array, the surest first: number (of the image), top, left, height, width, label, predicted,
    pixels, depth (of its innermost pixel), given_probability, predicted_probability, score in [0, 1].

    Example:
        >>> LabelQuality([ImageQuality(0, 0.9, np.array([0.9]), np.array([0]), 0.0)]).scores
        array([0.9])
    """

    def __init__(self, images: Iterable[ImageQuality] = ()) -> None:
        super().__init__(images)
        self.places = np.zeros(0, PLACE)
        self.names: list[str] = []
        self._gallery = Gallery()

    def worst_places(self, count: int = 10) -> np.ndarray:
        """The places that are most surely wrong, records of `places`: one connected patch of one label each."""
        return self.places[:count]

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write the places as one self-contained page that sorts: each with its image, its label and the prediction.

        Images are shown if `label_quality` was given them.

        Raises:
            OSError: the file cannot be written; nothing is left behind.
        """
        page = page_of_places(self.places, self.names, self._gallery)
        with whole_file(path) as file:
            file.write(page)

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
    predictions: Iterable[Any],
    masks: Iterable[Any],
    *,
    images: Iterable[Any] | None = None,
    ignore_index: int | None = IGNORE_INDEX,
) -> LabelQuality:
    """Score the labels of each image, and each place in it, by the probabilities that a network gives them.

    A place is a connected patch of one label that the network takes for one other class. How much a label must be
    doubted is learnt from the set: its probability beside what that class usually gets where it is labelled, and deeper
    inside than the slivers that every network gets wrong along boundaries.

    Use predictions that were not trained on these masks (from another fold), else the network has learnt the mistakes.
    Both streams are read once, image by image: generators will do, and only a few numbers of each image are kept.

    Args:
        predictions: for each image the class probabilities, [C, H, W], float, summing to 1; arrays or tensors. Batches
            [B, C, H, W] are taken apart.
        masks: for each image its labels, [H, W], or the path of its mask; for a batch [B, H, W].
        images: for each its pixels, [H, W, C], or a tensor [C, H, W], or its path: what the page shows.
        ignore_index: the label of pixels that are not scored; None when there is none.

    Returns:
        One entry for each image, and `places`, the surest first. The score of an image is the softmin of the
        probabilities of the given labels: near 1 where all fit, near 0 where many do not.

    Raises:
        ValueError: no probabilities, other sizes, labels outside [0, C), or streams of different lengths.

    Example:
        >>> sure = np.zeros((2, 4, 4))
        >>> sure[0] = 1
        >>> right, wrong = np.zeros((4, 4), int), np.ones((4, 4), int)
        >>> label_quality([sure, sure], [right, wrong]).scores
        array([1., 0.])
        >>> label_quality([sure, sure], [right, wrong]).worst_places(1)[["number", "label", "predicted"]].tolist()
        [(1, 1, 0)]

    Source: Lad and Mueller 2023, Estimating label quality and errors in semantic segmentation data via any model
    (softmin of self-confidence at temperature 0.1); Rottmann and Reese 2022, Automated detection of label errors in
    semantic segmentation datasets via deep learning and uncertainty quantification (components, and not pixels); class
    thresholds as in Northcutt et al. 2021, Confident learning. There a second network judges the components; here
    their depth and probabilities do. Suspect pixels of an image are by a fixed margin.
    """
    result = LabelQuality()
    names: list[str] = result.names
    pictures = None if images is None else _images(images, 3, [], read=io.read_image)
    sums, counts, found = np.zeros(0), np.zeros(0), []
    for index, (probs, mask) in enumerate(_together(predictions, masks, names)):
        result.append(_image_quality(index, probs, mask, ignore_index))
        valid = np.ones(mask.shape, bool) if ignore_index is None else mask != ignore_index
        labels = np.where(valid, mask, 0).astype(np.int64)
        sums, counts = (np.pad(x, (0, max(0, len(probs) - len(x)))) for x in (sums, counts))
        sure = np.take_along_axis(probs, labels[None], 0)[0][valid]
        sums += np.bincount(labels[valid], sure, len(sums))
        counts += np.bincount(labels[valid], minlength=len(counts))
        found.append(places_of(index, probs, labels, valid))
        picture = None if pictures is None else next(pictures, None)
        result._gallery.add(scored(found[-1], sums / np.maximum(counts, 1)), picture, mask, probs, ignore_index)
    if found:
        result.places = scored(np.concatenate(found), sums / np.maximum(counts, 1))
    return result


def _together(
    predictions: Iterable[Any], masks: Iterable[Any], names: list[str]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Single images of both streams, which must end together."""
    nothing = object()
    ours, theirs = _images(predictions, 3, []), _images(masks, 2, names)
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


def _images(
    stream: Iterable[Any], axes: int, names: list[str], read: Callable[[Any], np.ndarray] = io.read_mask
) -> Iterator[np.ndarray]:
    """The arrays of a stream of arrays, tensors, batches and paths; the name of each is noted."""
    for item in stream:
        if isinstance(item, str | os.PathLike):
            names.append(os.fspath(item))
            yield read(item)
            continue
        array = item.detach().cpu().numpy() if hasattr(item, "detach") else np.asarray(item)
        if hasattr(item, "detach") and read is io.read_image:
            array = np.moveaxis(array, -3, -1)  # channels last, as arrays have them
        for each in array if array.ndim == axes + 1 else [array]:
            names.append(f"image {len(names)}")
            yield each


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
