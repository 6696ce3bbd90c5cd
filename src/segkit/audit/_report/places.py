"""The page of places whose labels are probably wrong: each beside its image, its label and the prediction."""

from __future__ import annotations

import base64
import importlib.resources
from typing import Any

import cv2
import numpy as np

import segkit
from segkit import viz

_TILE, _CONTEXT = 128, 1.0  # edge of a picture; how much is seen around a place, in its own size
_PICTURES, _EACH = 200, 8  # in all, and of one image


class Gallery:
    """Pictures of the places that looked worst so far: few, whatever the number of images."""

    def __init__(self) -> None:
        self._best: list[tuple[float, tuple[int, ...], bytes]] = []

    def add(
        self, places: np.ndarray, image: Any, mask: np.ndarray, probs: np.ndarray, ignore_index: int | None
    ) -> None:
        """Draw those of an image's places that are among the best of all so far."""
        least = self._best[-1][0] if len(self._best) >= _PICTURES else -1.0
        worth = places[places["score"] > least][:_EACH]
        if not len(worth):
            return
        predicted = probs.argmax(0).astype(np.int64)
        shown = None if image is None or np.shape(image)[:2] != mask.shape else viz.to_rgb(image)
        for place in worth:
            picture = _drawn(place, shown, mask, predicted, ignore_index)
            self._best.append((float(place["score"]), key_of(place), picture))
        self._best = sorted(self._best, key=lambda one: (-one[0], one[1]))[:_PICTURES]

    def pictures(self) -> dict[tuple[int, ...], bytes]:
        """JPEG of each place that was kept, by `key_of` it."""
        return {key: data for _, key, data in self._best}


def key_of(place: np.void) -> tuple[int, ...]:
    """What tells a place from all others."""
    return tuple(int(place[name]) for name in ("number", "top", "left", "label", "predicted"))


def _drawn(
    place: np.void, image: np.ndarray | None, mask: np.ndarray, predicted: np.ndarray, ignore_index: int | None
) -> bytes:
    """The place and what is around it: the image, its labels, the prediction, side by side."""
    top, left, height, width = (int(place[name]) for name in ("top", "left", "height", "width"))
    around = round(max(height, width) * _CONTEXT) + 4
    window = np.s_[
        max(0, top - around) : top + height + around,
        max(0, left - around) : left + width + around,
    ]
    ground = np.full((*mask.shape, 3), 128, np.uint8)[window] if image is None else image[window]
    scale = _TILE / max(ground.shape[:2])
    size = tuple(max(1, round(edge * scale)) for edge in ground.shape[1::-1])

    def enlarged(picture: np.ndarray) -> np.ndarray:
        return cv2.resize(np.ascontiguousarray(picture), size, interpolation=cv2.INTER_NEAREST)

    ground = enlarged(ground)
    laid = [
        viz.overlay(ground, enlarged(part[window].astype(np.int32)), alpha=0.6, ignore_index=ignore_index)
        for part in (mask, predicted)
    ]
    gap = np.full((size[1], 4, 3), 255, np.uint8)
    sheet = np.concatenate([ground, gap, laid[0], gap, laid[1]], 1)
    _, code = cv2.imencode(".jpg", sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
    return code.tobytes()


def page_of_places(places: np.ndarray, names: list[str], gallery: Gallery) -> str:
    """The page as HTML text: the places that have a picture, the surest first."""
    import jinja2

    source = importlib.resources.files("segkit.audit._report").joinpath("places.html.j2").read_text("utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    pictures = gallery.pictures()
    shown = [
        {
            **{name: place[name].item() for name in places.dtype.names or ()},
            "name": names[place["number"]],
            "picture": base64.b64encode(pictures[key_of(place)]).decode("ascii"),
        }
        for place in places
        if key_of(place) in pictures
    ]
    page = environment.from_string(source).render(places=shown, total=len(places), version=segkit.__version__)
    return page.encode("utf-8", "backslashreplace").decode("utf-8")
