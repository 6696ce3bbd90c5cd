"""Every window of every scene, once: for validation and prediction on images that are too large for a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from segkit.datasets._dataset import Files, PairDataset, carried_by

Box = tuple[int, int, int, int]


class GridDataset(PairDataset):
    """The windows of scenes, row by row and scene by scene, each read by itself.

    They cover each scene, evenly spread, and overlap by at least `overlap`. A scene that is smaller than a window along
    an axis gives windows as small as it is there (batch them with `collate.pad_collate`). Random windows of many scenes
    are `PairDataset` with `transforms.RandomCrop`.

    Args:
        pairs: (image, mask) paths, as `find_pairs` gives them; or paths of images alone, which give no ``"mask"``.
        size: (height, width) of a window in pixels; an int is a square.
        overlap: how much neighbours share at least: an int is a number of pixels, a float a fraction of the side.
        transform: called ``transform(image, mask)`` on a window, with the keywords that the index carries.
        colors: as in `PairDataset`, like all that follow.
        unknown: the class of any other colour.
        remap: old class -> new class.
        unmapped: the class of what `remap` does not name.
        scale: float32 images in [0, 1], or integers.
        channels: which channels, or "rgb".
        orientation: "apply" or "ignore".
        nodata: "ignore" makes 255 of what the file declares to be no data.
        pages: "first" or "channels" of files with several pages.
        mask_scale: how many pixels of the image one of the mask covers along each side.

    Returns:
        ``dataset[i]`` is a dict: ``"image"`` [C, h, w], ``"mask"`` [h, w], ``"index"`` int, ``"scene"`` int (which of
        `pairs`) and ``"box"``, (top, left, height, width) in the scene.

    Raises:
        ImageReadError: a file cannot be read. All headers are looked at when the data set is made.
        DataError: an image and its mask do not fit.

    Example:
        >>> from segkit.io import write_image, write_mask
        >>> write_image("scene.tif", np.zeros((7, 10, 4), np.uint16))
        >>> write_mask("scene_mask.png", np.zeros((7, 10), np.uint8))
        >>> windows = GridDataset([("scene.tif", "scene_mask.png")], 4, overlap=1)
        >>> len(windows), windows[4]["box"], windows[4]["image"].shape
        (6, (3, 3, 4, 4), torch.Size([4, 4, 4]))
        >>> windows.scenes
        [(7, 10)]
    """

    def __init__(
        self,
        pairs: Iterable[Files | tuple[Files, Files]],
        size: int | tuple[int, int],
        *,
        overlap: int | float = 0,
        transform: Callable[..., Any] | None = None,
        colors: Mapping[tuple[int, int, int], int] | None = None,
        unknown: Literal["error"] | int = "error",
        remap: Mapping[int, int] | None = None,
        unmapped: Literal["error", "keep"] | int = "error",
        scale: bool = True,
        channels: Literal["rgb"] | Sequence[int] | None = None,
        orientation: Literal["apply", "ignore"] | None = None,
        nodata: Literal["keep", "ignore"] = "keep",
        pages: Literal["first", "channels"] | None = None,
        mask_scale: float = 1,
    ) -> None:
        if pages not in (None, "first", "channels"):
            raise ValueError(f"GridDataset: `pages` must be 'first', 'channels' or None, got {pages!r}.")
        super().__init__(
            [(item, ()) if isinstance(item, str) or hasattr(item, "__fspath__") else item for item in pairs],  # type: ignore[arg-type]
            colors=colors,
            unknown=unknown,
            remap=remap,
            unmapped=unmapped,
            transform=transform,
            scale=scale,
            channels=channels,
            orientation=orientation,
            nodata=nodata,
            pages=pages,
            mask_scale=mask_scale,
        )
        self.size = _size(size)
        self.overlap = overlap
        self._steps = [_step(side, overlap) for side in self.size]
        sizes = []
        for scene in range(len(self._paths) // 2):
            with self._reading.open(*self._files(scene)) as opened:
                sizes.append(opened.size)
        self._sizes = np.array(sizes, dtype=np.int64).reshape(-1, 2)
        self._pages = np.cumsum([math.prod(map(len, self._grid(scene))) for scene in range(len(sizes))], dtype=np.int64)

    @property
    def scenes(self) -> list[tuple[int, int]]:
        """(height, width) of each scene."""
        return [(int(height), int(width)) for height, width in self._sizes]

    def box(self, index: int) -> Box:
        """The (top, left, height, width) of a window in its scene."""
        return self._box(*self._place(self._number(index)))

    def _box(self, scene: int, place: int) -> Box:
        rows, columns = self._grid(scene)
        height, width = (min(side, int(length)) for side, length in zip(self.size, self._sizes[scene], strict=True))
        return rows[place // len(columns)], columns[place % len(columns)], height, width

    def _grid(self, scene: int) -> tuple[list[int], list[int]]:
        rows, columns = (
            _spread(int(length), side, step)
            for length, side, step in zip(self._sizes[scene], self.size, self._steps, strict=True)
        )
        return rows, columns

    def _sample(self, number: int, key: int, told: int | None = None) -> Any:
        scene, place = self._place(number)
        box = self._box(scene, place)
        image_files, mask_files = self._files(scene)
        with self._reading.open(image_files, mask_files) as opened:
            pixels, labels = opened.read(box)
            image = opened.image_tensor(pixels)
            mask = opened.mask_tensor(labels) if mask_files else None
        if self._two_values is not None and mask is not None:
            self._two_values.look(mask, mask_files[0])
        if self.transform is not None:
            changed = self.transform(image, *([mask] if mask_files else []), **carried_by(key))
            image, mask = changed if mask_files else (changed, None)
        index = number if told is None else told
        sample = {"image": image, "mask": mask, "index": index, "box": box, "scene": scene}
        return sample if mask_files else {name: value for name, value in sample.items() if name != "mask"}

    def __repr__(self) -> str:
        return f"GridDataset({len(self)} windows, size={self.size}, overlap={self.overlap}, {super().__repr__()})"


def _size(size: int | tuple[int, int]) -> tuple[int, int]:
    pair = (size, size) if isinstance(size, int | np.integer) else tuple(size)
    if len(pair) != 2 or not all(isinstance(side, int | np.integer) and side >= 1 for side in pair):
        raise ValueError(f"GridDataset: `size` must be an int or (height, width), each at least 1, got {size!r}.")
    return int(pair[0]), int(pair[1])


def _step(side: int, overlap: int | float) -> int:
    shared = math.ceil(overlap * side) if isinstance(overlap, float) else overlap
    if shared < 0 or shared >= side:
        raise ValueError(
            f"GridDataset: `overlap` must be at least 0 and smaller than the window {side}, got {overlap!r}. An int "
            "counts pixels, a float is a fraction of the side."
        )
    return side - shared


def _spread(length: int, side: int, step: int) -> list[int]:
    """Where windows of `side` begin that cover [0, length), at most `step` apart."""
    gaps = -(-max(0, length - side) // step)
    return [i * (length - side) // gaps for i in range(gaps + 1)] if gaps else [0]
