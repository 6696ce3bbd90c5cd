"""A map-style data set over pairs of files, light to share between workers."""

from __future__ import annotations

import copy
import operator
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from segkit import IGNORE_INDEX
from segkit.datasets._pairs import Pair
from segkit.datasets._reading.keys import all_asked_for, asked_for, check_size, check_takes, number_told
from segkit.datasets._reading.reading import Reading, files_of, read_sample
from segkit.datasets._reading.strings import FlatStrings, packed, unpacked
from segkit.datasets._reading.transform import check_transform
from segkit.datasets._reading.two_values import TwoValues
from segkit.io import image_info

Files = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

# What a SampleKey may carry, besides its generator, and the transform's keyword that takes it.
_CARRIED = ("size", "focus_class")

if TYPE_CHECKING:
    from torch.utils.data import Dataset

    MapStyle = Dataset[Any]  # what a type checker wants to see in a DataLoader
else:
    MapStyle = object  # torch takes a second to load, and those who only pair files do without it


class PairDataset(MapStyle):
    """Images and masks as tensors, one pair per index: the map-style data set that a DataLoader takes.

    The paths live in one flat array and not in a list of strings, so workers share them instead of copying them page
    by page as reference counts change. Nothing else is kept: no open file, no epoch, no size.

    Where the transform begins with members that only move pixels (crops, flips, affine, ...), these are drawn from the
    header's size, and only the window that they look at is read and decoded. The sample is the one that reading all
    gives. A transform of your own joins by a method ``plan(size, *, generator, find_mask)``, see `transforms.Plan`.

    Args:
        pairs: (image, mask) paths, as `find_pairs` gives them. An image may be several files, one for each band; a
            mask may be several files, one for each object, of which the pixels that are not 0 become class 1.
        colors: (r, g, b) -> class, for masks that are painted in colours.
        unknown: the class of any other colour, or ``"error"`` to refuse it.
        remap: old class -> new class, applied to every mask. 255 stays 255 unless it is named, too.
        unmapped: the class of what `remap` does not name: ``"error"``, ``"keep"``, or a class such as 255.
        masks: what draws the masks instead of files, `pairs` being paths of images: ``Annotations.masks(classes=...)``,
            or your own. Called ``masks(image path, (height, width))``, it gives integers [height, width] in classes; if
            it has an argument ``window``, only that part (top, left, height, width). It has to pickle for workers.
        transform: called ``transform(image, mask)``, or with the keywords ``generator``, ``size`` and ``focus_class``
            as far as the index carries them (see `segkit.samplers.SampleKey`); returns (image, mask).
        scale: True gives float32 images in [0, 1], divided by the largest value of their *stored* depth (12 bits:
            4095). False keeps uint8; uint16 becomes int32 and uint32 int64, since torch has few operators for them.
        channels: None takes them as they are; ``"rgb"`` makes all images three channels (grey is repeated, an opaque
            alpha dropped, a transparent one refused); a list takes these bands in this order.
        orientation: whether to turn both as the image's EXIF says, "apply" or "ignore". None applies it where image and
            mask agree about it, and refuses a pair where they may not.
        nodata: "ignore" makes 255 in the mask, and 0 in the image, of the pixels that the file declares to be no data,
            and with channels="rgb" of those whose alpha is 0. "keep" takes them as any other.
        pages: what the pages of a file are: "channels", "samples" (of the same pages of the mask), or "first" to leave
            the others out. None refuses files with several.
        mask_scale: how many pixels of the image one pixel of the mask covers along each side: 2 for an image of 10 m
            with labels of 20 m, 1 / 2 for labels twice as fine.
        keys: other names for "image", "mask" and "index"; None leaves one out: ``("pixel_values", "labels", None)``.
        as_tuple: True yields (image, mask), "index" (image, mask, index), for loops that unpack.
        mask_dtype: a torch dtype that masks have in the end, such as ``torch.int64`` for `torch.nn.CrossEntropyLoss`.

    Returns:
        ``dataset[i]`` is a dict: ``"image"`` [C, H, W], ``"mask"`` [H, W] of the mask's small dtype (uint8 stays
        uint8, uint16 becomes int32), ``"index"`` int: the sample's number; where a sampler's key came through torch's
        Subset, ConcatDataset or the like, the number that the sampler drew, by which its ledger counts.

    Raises:
        ImageReadError: a file cannot be read.
        DataError: an image and its mask differ in size, a mask holds a class that ``remap`` does not name, or it is
            not known what is in a file; says which argument says so.
        TypeError: the transform takes an image alone.
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
        pairs: Iterable[tuple[Files, Files]] | Iterable[str | os.PathLike[str]],
        *,
        colors: Mapping[tuple[int, int, int], int] | None = None,
        unknown: Literal["error"] | int = "error",
        remap: Mapping[int, int] | None = None,
        unmapped: Literal["error", "keep"] | int = "error",
        masks: Callable[..., np.ndarray] | None = None,
        transform: Callable[..., Any] | None = None,
        scale: bool = True,
        channels: Literal["rgb"] | Sequence[int] | None = None,
        orientation: Literal["apply", "ignore"] | None = None,
        nodata: Literal["keep", "ignore"] = "keep",
        pages: Literal["first", "channels", "samples"] | None = None,
        mask_scale: float = 1,
        keys: Sequence[str | None] = ("image", "mask", "index"),
        as_tuple: bool | Literal["index"] = False,
        mask_dtype: Any = None,
    ) -> None:
        name = type(self).__name__
        check_transform(name, transform)
        self._paths = FlatStrings(_flattened(name, pairs, drawn=masks is not None))
        self._reading = Reading(
            name,
            colors=dict(colors) if colors is not None else None,
            unknown=unknown,
            remap={IGNORE_INDEX: IGNORE_INDEX, **remap} if remap is not None else None,
            unmapped=unmapped,
            masks=masks,
            channels=_channels(name, channels),
            orientation=orientation,
            nodata=nodata,
            pages=pages,
            mask_scale=mask_scale,
            scale=scale,
        )
        given = [key for key in keys if key is not None]
        if len(keys) != 3 or len(set(given)) < len(given) or as_tuple not in (False, True, "index"):
            raise ValueError(
                f"{name}: `keys` must be names for image, mask and index, and `as_tuple` False, True or 'index', got "
                f"{keys!r} and {as_tuple!r}. A name may be None."
            )
        if isinstance(mask_dtype, str):
            raise TypeError(f"{name}: `mask_dtype` must be a torch dtype, got {mask_dtype!r}. Pass torch.{mask_dtype}.")
        self.transform, self.scale = transform, scale
        self.keys, self.as_tuple, self.mask_dtype = tuple(keys), as_tuple, mask_dtype
        self._numbers: np.ndarray | None = None  # of the samples in a part of a data set, in the whole
        self._pages = self._count_pages() if pages == "samples" else None
        self._two_values = None if colors is not None or remap is not None else TwoValues(name)

    def __len__(self) -> int:
        if self._numbers is not None:
            return len(self._numbers)
        return len(self._paths) // 2 if self._pages is None else int(self._pages[-1]) if len(self._pages) else 0

    def pair(self, index: int) -> Pair:
        """The two paths of a sample, for messages and reports.

        Args:
            index: in [-len, len).

        Example:
            >>> PairDataset([("a.jpg", "a.png")]).pair(0)
            Pair(image='a.jpg', mask='a.png')
        """
        image, mask = self._files(self._place(self._number(index))[0])
        return Pair(image[0] if len(image) == 1 else image, mask[0] if len(mask) == 1 else mask)

    def __getitem__(self, index: int) -> Any:
        return self._keyed(asked_for(type(self).__name__, index))

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        return [self._keyed(key) for key in all_asked_for(type(self).__name__, indices)]

    def _keyed(self, key: int) -> Any:
        check_size(type(self).__name__, key, self.transform)
        try:
            return self._sample(self._number(key), key, number_told(key))
        except TypeError:
            check_takes(type(self).__name__, key, self.transform)
            raise

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))

    def split(self, parts: Sequence[float] | Sequence[Sequence[int]], *, seed: int = 0) -> list[PairDataset]:
        """Several data sets over parts of this one, whose samples keep their numbers and their sampler's keys.

        With `torch.utils.data.Subset` keys survive as well, but ``"index"`` is then the number in the part.

        Args:
            parts: lists of indices, as `split_folds` gives them; or shares that sum to 1, drawn at random.
            seed: of the random parts.

        Returns:
            One data set per part: ``part[i]["index"]`` is the sample's number in the whole, which a ledger counts by.

        Example:
            >>> whole = PairDataset([(f"{i}.jpg", f"{i}.png") for i in range(5)])
            >>> train, val = whole.split([[0, 2, 4], [1, 3]])
            >>> len(train), val.pair(1).image
            (3, '3.jpg')
            >>> [len(part) for part in whole.split([0.8, 0.2])]
            [4, 1]
        """
        total = len(self)
        if all(isinstance(part, int | float) for part in parts):
            shares = np.array(parts, dtype=np.float64)
            if not len(shares) or (shares < 0).any() or abs(shares.sum() - 1) > 1e-6:
                raise ValueError(f"PairDataset.split: `parts` must be shares that sum to 1, got {list(parts)}.")
            cuts = np.rint(np.cumsum(shares)[:-1] * total).astype(int)
            order = np.random.default_rng(seed).permutation(total)
            lists: list[Any] = [np.sort(part) for part in np.split(order, cuts)]
        else:
            lists = [np.array([operator.index(i) for i in part], dtype=np.int64) for part in parts]  # type: ignore[union-attr]
        for part in lists:
            if len(part) and not (-total <= part.min() and part.max() < total):
                raise IndexError(f"PairDataset.split: indices must be in [{-total}, {total}), got {part.tolist()[:9]}.")
        made = []
        for part in lists:
            piece = copy.copy(self)
            piece._numbers = np.array([self._number(int(i)) for i in part], dtype=np.int64)
            made.append(piece)
        return made

    def __add__(self, other: PairDataset) -> JoinedDataset:  # type: ignore[override]  # keeps keys, ConcatDataset does not
        return JoinedDataset([self, other])

    def _number(self, index: int) -> int:
        """The sample's number in the whole data set."""
        position = operator.index(index)
        if not -len(self) <= position < len(self):
            raise IndexError(f"PairDataset: `index` must be in [{-len(self)}, {len(self)}), got {position}.")
        position %= len(self)
        return position if self._numbers is None else int(self._numbers[position])

    def _files(self, pair: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return unpacked(self._paths[2 * pair]), unpacked(self._paths[2 * pair + 1])

    def _place(self, number: int) -> tuple[int, int]:
        """Which pair, and which page of it."""
        if self._pages is None:
            return number, 0
        pair = int(np.searchsorted(self._pages, number, side="right"))
        return pair, number - (int(self._pages[pair - 1]) if pair else 0)

    def _sample(self, number: int, key: int, told: int | None = None) -> Any:
        pair, page = self._place(number)
        image_files, mask_files = self._files(pair)
        with self._reading.open(image_files, mask_files, page) as opened:
            image, mask = read_sample(opened, self.transform, carried_by(key))
        if self._two_values is not None:
            self._two_values.look(mask, (mask_files or image_files)[0])
        if self.mask_dtype is not None and hasattr(mask, "to"):
            mask = mask.to(self.mask_dtype)
        index = number if told is None else told
        if self.as_tuple:
            return (image, mask, index) if self.as_tuple == "index" else (image, mask)
        named = zip(self.keys, (image, mask, index), strict=True)
        return {name: value for name, value in named if name is not None}

    def _count_pages(self) -> np.ndarray:
        """Where the samples of each pair end."""
        images = (unpacked(self._paths[2 * pair])[0] for pair in range(len(self._paths) // 2))
        return np.cumsum([image_info(path).pages for path in images], dtype=np.int64)

    def __repr__(self) -> str:
        names = ["colors", "unknown", "remap", "unmapped", "masks", "channels", "orientation", "nodata", "pages"]
        names += ["mask_scale"]
        told = [f"{name}={getattr(self._reading, name)!r}" for name in names]
        told += [f"{name}={getattr(self, name)!r}" for name in ("transform", "scale", "keys", "as_tuple", "mask_dtype")]
        return f"{type(self).__name__}({len(self)} pairs, {', '.join(told)})"


class JoinedDataset(MapStyle):
    """Data sets one after the other, numbered consecutively: what ``first + second`` makes.

    Unlike `torch.utils.data.ConcatDataset` it hands on the whole key of a sampler, and ``"index"`` counts through.

    Args:
        datasets: each a `PairDataset`, which keeps its own transform.

    Example:
        >>> one, two = PairDataset([("a.jpg", "a.png")]), PairDataset([("b.jpg", "b.png")])
        >>> both = one + two
        >>> len(both), both.pair(1).image
        (2, 'b.jpg')
    """

    def __init__(self, datasets: Sequence[PairDataset]) -> None:
        self.datasets = [part for each in datasets for part in getattr(each, "datasets", [each])]
        self._ends = np.cumsum([len(part) for part in self.datasets], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> Any:
        key = asked_for("JoinedDataset", index)
        position, part, inner = self._find(key)
        check_size("JoinedDataset", key, part.transform)
        told = number_told(key)
        return part._sample(part._number(inner), key, told=position if told is None else told)

    def pair(self, index: int) -> Pair:
        """The two paths of a sample."""
        _, part, inner = self._find(index)
        return part.pair(inner)

    def __add__(self, other: PairDataset) -> JoinedDataset:  # type: ignore[override]  # keeps keys, ConcatDataset does not
        return JoinedDataset([*self.datasets, other])

    def _find(self, index: int) -> tuple[int, PairDataset, int]:
        position = operator.index(index)
        if not -len(self) <= position < len(self):
            raise IndexError(f"JoinedDataset: `index` must be in [{-len(self)}, {len(self)}), got {position}.")
        position %= len(self)
        place = int(np.searchsorted(self._ends, position, side="right"))
        return position, self.datasets[place], position - (int(self._ends[place - 1]) if place else 0)

    def __repr__(self) -> str:
        return f"JoinedDataset({self.datasets!r})"


def carried_by(index: int) -> dict[str, Any]:
    """What a `SampleKey` says about the sample; nothing for a plain int. Asked by name: any such int will do."""
    keywords = {name: getattr(index, name, None) for name in _CARRIED}
    generator = getattr(index, "generator", None)
    if generator is not None:
        keywords["generator"] = generator()
    return {name: value for name, value in keywords.items() if value is not None}


def _flattened(name: str, pairs: Iterable[Any], *, drawn: bool = False) -> list[bytes]:
    """Image, mask, image, mask, ...; where masks are drawn there are no files of them."""
    flat: list[bytes] = []
    for number, pair in enumerate(pairs):
        if drawn:
            if not isinstance(pair, str | bytes | os.PathLike):
                raise ValueError(
                    f"{name}: with `masks` item {number} of `pairs` must be the path of an image, got {pair!r}. "
                    "Pass datasets.find_images(images)."
                )
            flat += [packed(files_of(pair)), b""]
            continue
        if isinstance(pair, str | bytes) or not hasattr(pair, "__len__") or len(pair) != 2:
            raise ValueError(
                f"{name}: `pairs` item {number} must be (image path, mask path), got {pair!r}. "
                "Make pairs with datasets.find_pairs(images, masks)."
            )
        for side in pair:
            files = files_of(side)
            if not files and (side is pair[0] or name != "GridDataset"):
                raise ValueError(f"{name}: `pairs` item {number} must name files for both sides, got {pair!r}.")
            flat.append(packed(files))
    return flat


def _channels(name: str, channels: Any) -> Any:
    if channels is None or isinstance(channels, str):
        return channels
    if isinstance(channels, int) or not all(isinstance(band, int | np.integer) for band in channels) or not channels:
        raise ValueError(
            f"{name}: `channels` must be 'rgb' or a list of bands, counted from 0, got {channels!r}. "
            "channels='rgb' makes grey, RGBA and palette images three channels; [0] takes the first band."
        )
    return tuple(int(band) for band in channels)
