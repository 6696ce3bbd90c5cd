"""A map-style data set over pairs of files, light to share between workers."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from segkit import IGNORE_INDEX
from segkit.datasets._pairs import Pair
from segkit.errors import DataError
from segkit.io import image_info, read_image, read_mask, to_tensor
from segkit.labels import remap as remap_labels

if TYPE_CHECKING:
    from torch import Tensor

# What a SampleKey may carry, besides its generator, and the transform's keyword that takes it.
_CARRIED = ("size", "focus_class")


class PairDataset:
    """Images and masks as tensors, one pair per index: the map-style data set that a DataLoader takes.

    The paths live in one flat array and not in a list of strings, so workers share them instead of copying them page
    by page as reference counts change. Nothing else is kept: no open file, no epoch, no size.

    Args:
        pairs: (image, mask) paths, as `find_pairs` gives them.
        colors: (r, g, b) -> class, for masks that are painted in colours.
        remap: old class -> new class, applied to every mask. 255 stays 255 unless it is named, too.
        transform: called ``transform(image, mask)``, or with the keywords ``generator``, ``size`` and ``focus_class``
            as far as the index carries them (see `segkit.samplers.SampleKey`); returns (image, mask).
        scale: True gives float32 images in [0, 1], divided by the largest value of their *stored* depth (12 bits:
            4095). False keeps uint8; wider integers become int32, since torch.uint16 has few operators.

    Returns:
        ``dataset[i]`` is a dict: ``"image"`` [C, H, W], ``"mask"`` [H, W] of the mask's small dtype (uint8 stays
        uint8, uint16 becomes int32), ``"index"`` int.

    Raises:
        ImageReadError: a file cannot be read.
        DataError: an image and its mask differ in size, or a mask holds a class that ``remap`` does not name.
        IndexError: the index is outside [-len, len).

    Example:
        >>> from segkit.io import write_image, write_mask
        >>> write_image("a.png", np.full((2, 3, 3), 255, np.uint8))
        >>> write_mask("a_mask.png", np.array([[0, 1, 7], [0, 1, 255]], np.uint8))
        >>> sample = PairDataset([("a.png", "a_mask.png")], remap={0: 0, 1: 1, 7: 2})[0]
        >>> sample["image"].shape, sample["image"].max().item(), sample["mask"].tolist()
        (torch.Size([3, 2, 3]), 1.0, [[0, 1, 2], [0, 1, 255]])
    """

    def __init__(
        self,
        pairs: Iterable[tuple[str | os.PathLike[str], str | os.PathLike[str]]],
        *,
        colors: Mapping[tuple[int, int, int], int] | None = None,
        remap: Mapping[int, int] | None = None,
        transform: Callable[..., Any] | None = None,
        scale: bool = True,
    ) -> None:
        flat: list[bytes] = []
        for number, pair in enumerate(pairs):
            if isinstance(pair, str) or len(pair) != 2:
                raise ValueError(
                    f"PairDataset: `pairs` item {number} must be (image path, mask path), got {pair!r}. "
                    "Make pairs with datasets.find_pairs(images, masks)."
                )
            flat += map(os.fsencode, pair)
        self._paths = _FlatStrings(flat)
        self.colors = dict(colors) if colors is not None else None
        self.remap = {IGNORE_INDEX: IGNORE_INDEX, **remap} if remap is not None else None
        self.transform = transform
        self.scale = scale

    def __len__(self) -> int:
        return len(self._paths) // 2

    def pair(self, index: int) -> Pair:
        """The two paths of a sample, for messages and reports.

        Args:
            index: in [-len, len).

        Example:
            >>> PairDataset([("a.jpg", "a.png")]).pair(0)
            Pair(image='a.jpg', mask='a.png')
        """
        position = operator.index(index)
        if not -len(self) <= position < len(self):
            raise IndexError(f"PairDataset: `index` must be in [{-len(self)}, {len(self)}), got {position}.")
        position %= len(self)
        return Pair(os.fsdecode(self._paths[2 * position]), os.fsdecode(self._paths[2 * position + 1]))

    def __getitem__(self, index: int) -> dict[str, Any]:
        pair = self.pair(index)
        image, mask = self._read_image(pair.image), self._read_mask(pair.mask)
        if image.shape[-2:] != mask.shape:
            raise DataError(
                f"PairDataset: {pair.mask!r} must have the size of its image {pair.image!r}, "
                f"{tuple(image.shape[-2:])}, got {tuple(mask.shape)}. Leave the pair out: "
                "audit.audit_dataset finds all such pairs."
            )
        if self.transform is not None:
            image, mask = self.transform(image, mask, **_carried_by(index))
        return {"image": image, "mask": mask, "index": int(index) % len(self)}

    def _read_image(self, path: str) -> Tensor:
        import torch

        image = read_image(path)
        if self.scale:
            # The header is asked again only where the stored depth can differ from the dtype's: 10, 12 or 14 bits.
            bits = image_info(path).bits_per_sample if image.dtype == np.uint16 else None
            return to_tensor(image, bits=bits)
        planes = np.ascontiguousarray(np.moveaxis(image, -1, 0))
        return torch.from_numpy(planes.astype(np.int32) if planes.dtype.kind == "u" and planes.itemsize > 1 else planes)

    def _read_mask(self, path: str) -> Tensor:
        import torch

        mask = read_mask(path, colors=self.colors)
        if self.remap is not None:
            try:
                mask = remap_labels(mask, self.remap)
            except DataError as error:
                raise DataError(f"PairDataset: {path!r}: {error}") from error
        if mask.dtype == np.uint16:
            mask = mask.astype(np.int32)
        return torch.from_numpy(np.ascontiguousarray(mask.view(np.uint8) if mask.dtype == np.bool_ else mask))

    def __repr__(self) -> str:
        return (
            f"PairDataset({len(self)} pairs, colors={self.colors}, remap={self.remap}, "
            f"transform={self.transform!r}, scale={self.scale})"
        )


class _FlatStrings:
    """Many byte strings in two arrays: no Python object per string."""

    def __init__(self, strings: Sequence[bytes]) -> None:
        self._ends = np.cumsum([len(string) for string in strings], dtype=np.int64)
        self._bytes = np.frombuffer(b"".join(strings), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> bytes:
        start = int(self._ends[index - 1]) if index else 0
        return self._bytes[start : int(self._ends[index])].tobytes()


def _carried_by(index: int) -> dict[str, Any]:
    """What a `SampleKey` says about the sample; nothing for a plain int. Asked by name: any such int will do."""
    keywords = {name: getattr(index, name, None) for name in _CARRIED}
    generator = getattr(index, "generator", None)
    if generator is not None:
        keywords["generator"] = generator()
    return {name: value for name, value in keywords.items() if value is not None}
