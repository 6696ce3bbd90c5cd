"""Where a network contradicts the labels of an image: connected places of one label that it takes for another class."""

from __future__ import annotations

import cv2
import numpy as np

PLACE = np.dtype(
    [
        ("number", "i8"),  # of the image
        ("top", "i4"),
        ("left", "i4"),
        ("height", "i4"),
        ("width", "i4"),
        ("label", "i4"),  # what the mask says
        ("predicted", "i4"),  # what the network says
        ("pixels", "i8"),
        ("depth", "f4"),  # of its innermost pixel, from its border: slivers along a boundary are shallow
        ("given_probability", "f4"),  # mean probability of the label
        ("predicted_probability", "f4"),  # and of the class that the network says
        ("score", "f4"),
    ]
)
_LEAST = 4  # pixels of a place
DEPTH = 0.75  # its power in the score | two drawings of wrong objects in each of three sets, bench_label_quality.py
_MOST = 256  # places of one image, the largest, so that memory is bounded


def places_of(number: int, probs: np.ndarray, mask: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """The places of an image, records of `PLACE` without score, from probabilities [C, H, W] and labels [H, W]."""
    predicted = probs.argmax(0)
    wrong = valid & (predicted != mask)
    classes = len(probs)
    codes = np.where(wrong, mask.astype(np.int64) * classes + predicted, -1)
    found = []
    for code in np.unique(codes[wrong]).tolist():
        label, other = divmod(code, classes)
        part = (codes == code).astype(np.uint8)
        count, numbers, boxes, _ = cv2.connectedComponentsWithStats(part, connectivity=8)
        inside = part > 0
        which = numbers[inside]
        depth = np.zeros(count, np.float32)
        # One pixel beyond the picture counts as border, so that a place at the edge is as deep as it is seen.
        around = cv2.copyMakeBorder(part, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        np.maximum.at(depth, which, cv2.distanceTransform(around, cv2.DIST_L2, 3)[1:-1, 1:-1][inside])
        given, taken = (np.bincount(which, probs[c][inside], count) for c in (label, other))
        for i in range(1, count):
            left, top, width, height, pixels = (int(value) for value in boxes[i])
            if pixels >= _LEAST:
                place = number, top, left, height, width, label, other, pixels, depth[i]
                found.append((*place, given[i] / pixels, taken[i] / pixels, 0.0))
    records = np.array(found, PLACE)
    return records[np.argsort(-records["pixels"], kind="stable")[:_MOST]]


def scored(places: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """The places with their score, the surest first.

    Both margins are learnt from the set. A label is doubted as far as its probability lies below what its class usually
    gets where it is labelled (`confidence`, float [C]); to which of the others the network gives it is not asked, as it
    may be unsure between two. A place is deep if it is deeper than three of four: a network that is a little wrong
    along every boundary makes many shallow ones. Depth counts less than doubt, by a power of `DEPTH`.
    """
    places = places.copy()
    if not len(places):
        return places
    usual = np.where(np.isfinite(confidence) & (confidence > 0), confidence, 1.0)
    doubt = np.clip(1 - places["given_probability"] / usual[places["label"]], 0, 1)
    shallow = max(float(np.percentile(places["depth"], 75)), 1.0)
    places["score"] = doubt * (places["depth"] / (places["depth"] + shallow)) ** DEPTH
    return places[np.lexsort([places["left"], places["top"], places["number"], -places["score"]])]
