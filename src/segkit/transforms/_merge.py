"""From crops to a batch for the network, and from its logits back to one map of the whole picture."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from segkit.errors import DataError
from segkit.labels import from_logits
from segkit.transforms._crops import CropBox
from segkit.transforms._merging.overlaps import overlaps_of, uncovered
from segkit.transforms._merging.scene_file import SceneFile
from segkit.transforms._resampling.geometry import Size
from segkit.transforms._resampling.inputs import as_size


def stack_crops(x: Tensor) -> Tensor:
    """All crops of a batch as one batch: images [B, K, C, h, w] -> [B*K, C, h, w], masks [B, K, h, w] -> [B*K, h, w].

    The crops of one image stay together: row b * K + k. No copy where the memory allows it.

    Args:
        x: images with five axes of any dtype, or masks with four axes and an integer dtype.

    Raises:
        ValueError: the K axis is missing.

    Example:
        >>> stack_crops(torch.zeros(2, 5, 3, 8, 8)).shape
        torch.Size([10, 3, 8, 8])
        >>> stack_crops(torch.zeros(2, 5, 8, 8, dtype=torch.uint8)).shape
        torch.Size([10, 8, 8])
    """
    images = x.ndim == 5
    masks = x.ndim == 4 and not x.is_floating_point()
    if not (images or masks):
        raise ValueError(
            "stack_crops: `x` must be images [B, K, C, h, w] or integer masks [B, K, h, w], got "
            f"{x.dtype} {list(x.shape)}. Make the K axis with FiveCrop, TenCrop or GridCrop in the data set, "
            "or with x.unsqueeze(1) for one crop an image."
        )
    return x.flatten(0, 1)


def unstack_crops(x: Tensor, k: int) -> Tensor:
    """The inverse of `stack_crops`: [B*K, ...] -> [B, K, ...].

    Args:
        x: anything whose first axis counts crops: images, masks, logits, losses.
        k: crops of one image.

    Raises:
        ValueError: the first axis is not a multiple of k.

    Example:
        >>> unstack_crops(torch.zeros(10, 4, 8, 8), 5).shape
        torch.Size([2, 5, 4, 8, 8])
    """
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ValueError(f"unstack_crops: `k` must be an int of at least 1, got {k!r}.")
    if x.ndim == 0 or x.shape[0] % k:
        raise ValueError(
            f"unstack_crops: `x` must have a first axis that is a multiple of k={k}, got {list(x.shape)}. "
            "Pass what the network returned for all crops of the batch."
        )
    return x.reshape(-1, k, *x.shape[1:]) if len(x) else x.new_empty((0, k, *x.shape[1:]))


def merge_crops(
    logits: Tensor,
    geometry: Sequence[CropBox | tuple[int, int, int, int]],
    size: int | Size,
    *,
    blend: str = "gaussian",
) -> Tensor:
    """One map for the whole picture from the maps of its crops, averaged where they overlap.

    The average is a running one, so that equal values stay exactly what they are; the only memory needed beside the
    result is that of the overlaps. For a picture whose crops do not fit into memory at once there is `CropMerger`.

    Args:
        logits: [B*K, C, h, w] or [B, K, C, h, w], floating point: one map per crop, at the crop's own size or smaller
            by a whole factor (a network's stride; it is then resized, bilinear).
        geometry: the K boxes, from the transform that made the crops: `FiveCrop(size).geometry((H, W))`.
        size: (H, W) of the whole picture.
        blend: "gaussian" trusts the centre of a crop more than its edge (standard deviation: an eighth of the side),
            "mean" trusts all alike.

    Returns:
        [B, C, H, W] in the dtype of `logits`; float16 and bfloat16 are averaged in, and returned as, float32.

    Raises:
        ValueError: shapes do not fit the boxes, or the boxes leave a part of the picture uncovered.

    Example:
        >>> from segkit.transforms import FiveCrop
        >>> crop = FiveCrop(48)
        >>> image = torch.rand(2, 3, 64, 80)
        >>> crops = stack_crops(crop(image))  # [10, 3, 48, 48]: what the network sees
        >>> torch.equal(merge_crops(crops, crop.geometry((64, 80)), (64, 80)), image)
        True

    Source: Isensee et al. 2021 (nnU-Net) for the Gaussian; theirs sums and divides at the end.
    """
    merging = _Merging("merge_crops", geometry, size, blend, "logits")
    k = len(merging.boxes)
    logits = _as_logits("merge_crops", logits)
    shape = list(logits.shape)
    if logits.ndim == 4 and shape[0] % k == 0:
        logits = unstack_crops(logits, k)
    if logits.ndim != 5 or logits.shape[1] != k:
        raise ValueError(
            f"merge_crops: `logits` must have the shape [B*{k}, C, h, w] or [B, {k}, C, h, w] for {k} boxes, "
            f"got {shape}. Pass all crops of each image, in order."
        )
    for number in merging.order:
        merging.take(number, logits[:, number])
    return merging.result


class CropMerger:
    """The map of a picture from crops that come one batch after the other, in constant memory.

    What comes out equals `merge_crops` bit for bit, in whatever order and batches the crops come: they are averaged in
    the order of their places, and one that comes before its turn waits. Rows are finished, and with `out` written and
    forgotten, as soon as no crop can touch them; then memory holds the overlaps of one row of crops, whatever
    the height. Of crops that stand in no grid it holds whole rows.

    Args:
        geometry: the boxes of all crops, from `GridCrop(size, overlap).geometry((H, W))` for instance.
        size: (H, W) of the whole picture.
        blend: "gaussian" or "mean", as in `merge_crops`.
        keep: what comes out: the averaged "logits", their softmax as "probabilities", or "argmax", the class of each
            pixel in uint8 (int16 for more than 256 classes).
        out: a path ending in .tif or .tiff: a tiled TIFF, losslessly compressed, that appears when it is whole. If the
            process is stopped, the same call goes on after the rows that were finished: see `missing`. None: a tensor.
        scene: a TIFF whose resolution and georeference `out` gets.
        tag: a line that says of what the crops are, a checksum of the network for instance: a file that was left
            unfinished is gone on with only if it is the same.

    Example:
        >>> from segkit.transforms import GridCrop
        >>> image = torch.rand(3, 70, 90)
        >>> crop = GridCrop(32, 8)
        >>> merger = CropMerger(crop.geometry((70, 90)), (70, 90), keep="argmax")
        >>> for box in merger.missing:
        ...     top, left, height, width, _ = box
        ...     merger.add(image[None, :, top : top + height, left : left + width], [box])
        >>> torch.equal(merger.finish(), image.argmax(0).to(torch.uint8))
        True
    """

    def __init__(
        self,
        geometry: Sequence[CropBox | tuple[int, int, int, int]],
        size: int | Size,
        *,
        blend: Literal["gaussian", "mean"] = "gaussian",
        keep: Literal["logits", "probabilities", "argmax"] = "logits",
        out: str | os.PathLike[str] | None = None,
        scene: str | os.PathLike[str] | None = None,
        tag: str = "",
    ) -> None:
        path = None if out is None else os.fspath(out)
        if path is not None and os.path.splitext(path)[1].lower() not in (".tif", ".tiff"):
            raise ValueError(
                f"CropMerger: `out` must end in .tif or .tiff, got {path!r}. Write another format from it."
            )
        self._merging = _Merging("CropMerger", geometry, size, blend, keep)
        self._merging.to_file(path, None if scene is None else os.fspath(scene), tag)
        self._waiting: dict[int, Tensor] = {}
        self._numbers: dict[CropBox, list[int]] = {}  # equal boxes are taken one after the other
        for number, box in enumerate(self._merging.boxes):
            self._numbers.setdefault(box, []).append(number)

    @property
    def missing(self) -> list[CropBox]:
        """The boxes whose crops are still needed, in the order that needs the least memory."""
        merging = self._merging
        return [merging.boxes[n] for n in merging.order[merging.turn :] if n not in self._waiting and merging.needs(n)]

    def add(self, logits: Tensor, boxes: Any) -> None:
        """Take in some crops.

        Args:
            logits: [K, C, h, w] floating point, at the crops' own size or smaller by a whole factor (bilinear then).
            boxes: their K boxes, as they stand in `geometry`: `CropBox`, or (top, left, height, width), as a list, a
                tensor [K, 4], or the four tensors that `default_collate` makes of them. One that is already in the file
                is passed over.

        Raises:
            ValueError: shapes and boxes do not belong together, or a box is not in the geometry or came before.
        """
        merging = self._merging
        logits = _as_logits("CropMerger.add", logits)
        wanted = _as_boxes(boxes)
        if logits.ndim != 4 or len(logits) != len(wanted):
            raise ValueError(
                f"CropMerger.add: `logits` must be [K, C, h, w] for {len(wanted)} boxes, got {list(logits.shape)}. "
                "Add the axis of one crop with logits[None]; flatten [B, K, ...] with stack_crops."
            )
        for values, box in zip(logits.detach(), wanted, strict=True):
            numbers = self._numbers.get(box)
            if not numbers:
                why = "came before" if numbers is not None else "is not in `geometry`"
                raise ValueError(
                    f"CropMerger.add: each of `boxes` must be one that is missing, got {box}, which {why}."
                )
            number = numbers.pop(0)
            if number == merging.expected:
                merging.take(number, values)
            elif merging.needs(number):
                self._waiting[number] = values.clone()
            while merging.expected in self._waiting:
                merging.take(merging.expected, self._waiting.pop(merging.expected))

    def finish(self) -> Any:
        """The whole map.

        Returns:
            Logits or probabilities [C, H, W], or classes [H, W]; with `out` the path of the file, which is there now.

        Raises:
            DataError: crops are missing.
        """
        missing = self.missing
        if missing or self._waiting:
            raise DataError(
                f"CropMerger.finish: all crops must have been added, {len(missing)} of {len(self._merging.boxes)} are "
                f"missing, the first {missing[0]}. Add those that `missing` lists."
            )
        return self._merging.finish()

    def close(self) -> None:
        """Stop here: what is finished stays beside `out` for the next run. `finish` needs no `close`."""
        self._merging.close()


class _Merging:
    """Crops in the order of their places, and where finished rectangles go."""

    def __init__(
        self,
        function: str,
        geometry: Sequence[CropBox | tuple[int, int, int, int]],
        size: int | Size,
        blend: str,
        keep: str,
    ) -> None:
        self.function = function
        self.size = as_size(function, size)
        self.boxes = [CropBox(*box) for box in geometry]
        self.keep = keep
        self.blend = blend
        if blend not in ("gaussian", "mean"):
            raise ValueError(f'{function}: `blend` must be "gaussian" or "mean", got {blend!r}.')
        if keep not in ("logits", "probabilities", "argmax"):
            raise ValueError(f'{function}: `keep` must be "logits", "probabilities" or "argmax", got {keep!r}.')
        self._check_boxes()
        self.order = sorted(range(len(self.boxes)), key=lambda n: (self.boxes[n][:2], n))
        self.turn = 0
        self._classes: int | None = None
        self.result: Tensor = torch.empty(0)  # all of the map, or the rows of it that are not in the file
        self._first = 0  # the row of the map that `result` begins with
        self._file: SceneFile | None = None
        self._overlaps = overlaps_of([self.boxes[n][:4] for n in self.order], self.size, blend, self._keep_rectangle)

    def _check_boxes(self) -> None:
        height, width = self.size
        if not self.boxes:
            raise ValueError(f"{self.function}: `geometry` must hold at least one box, got none.")
        for place, box in enumerate(self.boxes):
            inside = 0 <= box.top < box.top + box.height <= height and 0 <= box.left < box.left + box.width <= width
            if not inside:
                raise ValueError(
                    f"{self.function}: `geometry` at {place} must lie inside `size` {(height, width)}, got {box}. "
                    "Ask the crop transform for the geometry of this very size."
                )
        pixels = uncovered([box[:4] for box in self.boxes], self.size)
        if pixels:
            raise ValueError(
                f"{self.function}: `geometry` must cover the picture of {height} x {width}, got {len(self.boxes)} "
                f"crops that leave {pixels} pixels out. Use larger crops, or GridCrop, which covers every size."
            )

    def to_file(self, path: str | None, scene: str | None, tag: str) -> None:
        """Hand finished rows to a file, and pass over those that it has."""
        if path is None:
            return
        places = zlib.crc32(repr([*self.boxes, self.blend, self.keep]).encode())
        self._file = SceneFile(path, self.size, scene, f"{places:08x} {tag}")
        self._first = self._file.done
        self.turn = self._next(0)

    def needs(self, number: int) -> bool:
        """Whether a crop touches a row that the file does not have."""
        return self._file is None or self.boxes[number].top + self.boxes[number].height > self._file.done

    def _next(self, turn: int) -> int:
        while turn < len(self.order) and not self.needs(self.order[turn]):
            turn += 1
        return turn

    @property
    def expected(self) -> int:
        """The crop whose turn it is; -1 when all have come."""
        return self.order[self.turn] if self.turn < len(self.order) else -1

    def take(self, number: int, values: Tensor) -> None:
        """Average in the crop whose turn it is, [..., C, h, w]."""
        self._check_classes(values.shape[-3])
        box = self.boxes[number]
        values = self._of_full_size(values, number)
        if values.dtype in (torch.float16, torch.bfloat16):
            values = values.float()
        row = self._overlaps.add(self.turn, values.flip(-1) if box.mirrored else values)
        self.turn = self._next(self.turn + 1)
        if self._file is not None and row > self._first:
            rows = self.result[: row - self._first].cpu().numpy()
            self._file.write(self._first, rows[..., None] if rows.ndim == 2 else rows)
            self._first = row

    def _check_classes(self, classes: int) -> None:
        if classes == 1 and self.keep != "logits":
            raise ValueError(
                f"{self.function}: `keep` of {self.keep!r} must have logits of 2 classes or more, got 1, which would "
                "win everywhere. One logit is two classes, of which the first has 0: torch.nn.functional.pad(logits, "
                "(0, 0, 0, 0, 1, 0))."
            )
        if self._classes not in (None, classes):
            raise ValueError(
                f"{self.function}: `logits` must have the classes of the crops before, {self._classes}, got {classes}. "
                "Pass the same output of one network."
            )
        self._classes = classes

    def _of_full_size(self, values: Tensor, number: int) -> Tensor:
        box = self.boxes[number]
        height, width = values.shape[-2:]
        if (height, width) == (box.height, box.width):
            return values
        if height and width and box.height % height == 0 and box.width % width == 0:
            flat = values.reshape(-1, *values.shape[-3:])
            resized = torch.nn.functional.interpolate(flat, (box.height, box.width), mode="bilinear")
            return resized.view(*values.shape[:-2], box.height, box.width)
        lost = box.height - height, box.width - width
        hint = "Resize the network's output to its input's size first."
        if min(lost) > 0 and lost[0] % 2 == 0 and lost[1] % 2 == 0:
            down, over = lost[0] // 2, lost[1] // 2
            hint = (
                f"If the network crops a border of {(down, over)}, pad the picture by it, and let `geometry` be "
                f"what comes out: GridCrop({(height, width)}, overlap).geometry(size)."
            )
        raise ValueError(
            f"{self.function}: `logits` must be as large as their crops {(box.height, box.width)} (box {number}), or "
            f"smaller by a whole factor, got {[height, width]}. {hint}"
        )

    def _keep_rectangle(self, top: int, left: int, values: Tensor) -> None:
        """Put what is finished where it belongs."""
        values, top = values[..., max(0, self._first - top) :, :], max(top, self._first)  # the file has those before
        if self.keep == "argmax":
            values = from_logits(values, axis=-3)
        elif self.keep == "probabilities":
            values = values.softmax(-3)
        if channels_last := self._file is not None and self.keep != "argmax":
            values = values.movedim(-3, -1)
        rows, columns = (-3, -2) if channels_last else (-2, -1)
        if not self.result.numel():
            shape = list(values.shape)
            shape[rows] = self.size[0] if self._file is None else max(box.height for box in self.boxes)
            shape[columns] = self.size[1]
            self.result = values.new_empty(shape)
        place = self.result.narrow(rows, top - self._first, values.shape[rows])
        place.narrow(columns, left, values.shape[columns]).copy_(values)

    def finish(self) -> Any:
        """The result, or the path of the file, which is whole now."""
        if self._file is None:
            return self.result
        self._file.finish()
        return self._file.path

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _as_logits(function: str, logits: Any) -> Tensor:
    if not isinstance(logits, Tensor):
        hint = "Pass the output that counts, for instance out['out'] or out[0]."
        raise TypeError(f"{function}: `logits` must be a tensor, got {type(logits).__name__}. {hint}")
    if not logits.is_floating_point():
        raise TypeError(
            f"{function}: `logits` must be floating point, got {logits.dtype}. Merge logits, and take .argmax(1) after."
        )
    return logits


def _as_boxes(boxes: Any) -> list[CropBox]:
    """A list of boxes from what loaders make of them."""
    if isinstance(boxes, (Tensor, np.ndarray)):
        boxes = boxes.reshape(-1, boxes.shape[-1]).tolist()
    elif len(boxes) and all(isinstance(column, Tensor) and column.ndim == 1 for column in boxes):
        boxes = torch.stack(list(boxes), 1).tolist() if len(boxes) in (4, 5) else boxes
    elif len(boxes) and not isinstance(boxes[0], Sequence):
        boxes = [boxes]  # one box
    return [CropBox(int(box[0]), int(box[1]), int(box[2]), int(box[3]), any(box[4:])) for box in boxes]
