"""A data set whose samples are mixed with others of it: which donor is a pure function of the key."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from segkit.datasets._dataset import MapStyle

if TYPE_CHECKING:
    import torch

_SALT = 0x9E3779B97F4A7C15  # parts the donor's randomness from that of the sample, whose key it travels in


class MixDataset(MapStyle):
    """Each sample mixed with a donor, by `transforms.CutMix`, `ClassMix`, `CopyPaste` or `MixUp`.

    With a `SampleKey` the donor, its augmentation and the mix follow from the key alone: the same with any number of
    workers, and when a run is resumed. With a plain int they come from torch's global generator, which a DataLoader
    seeds in each worker.

    Args:
        dataset: map-style, of dicts with "image" and "mask" or of tuples that begin with them. Its transform gives all
            samples one size.
        mix: called as `mix(image, mask, donor=(image, mask), generator=...)`.
        donors: which samples may be donors: None for all; indices; or {class: indices}, of which first a class is drawn
            evenly and then a sample, whose crop contains the class where the transform knows `focus_class`. If the key
            brings a class of them, as those of `ClassBalancedSampler` do, it is that one.

    Returns:
        The sample with its image and mask mixed, and "donor", the donor's index; where `mix` gives a dict of targets
        (`MixUp`), these in place of "mask". A tuple stays a tuple, without the donor.

    Raises:
        ValueError: `donors` names no sample, or one that is not there.

    Example:
        >>> import torch
        >>> from segkit.transforms import CopyPaste
        >>> samples = [{"image": torch.full((1, 2, 2), float(i)), "mask": torch.full((2, 2), i)} for i in range(3)]
        >>> mixed = MixDataset(samples, CopyPaste([2], share=1.0), donors={2: [2]})
        >>> mixed[0]["mask"].tolist(), mixed[0]["donor"]
        ([[2, 2], [2, 2]], 2)
    """

    def __init__(
        self,
        dataset: Any,
        mix: Callable[..., Any],
        *,
        donors: Sequence[int] | Mapping[int, Sequence[int]] | None = None,
    ) -> None:
        if not callable(mix):
            raise TypeError(f"MixDataset: `mix` must be callable, got {mix!r}. Pass transforms.CutMix(), for example.")
        self.dataset = dataset
        self.mix = mix
        if isinstance(donors, Mapping):
            self.donors: dict[int | None, list[int]] = {label: _checked(of, dataset) for label, of in donors.items()}
        else:
            self.donors = {None: _checked(range(len(dataset)) if donors is None else donors, dataset)}
        if not self.donors:
            raise ValueError("MixDataset: `donors` must name at least one class, got an empty dict.")

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        generator = _generator(index)
        label = _pick(list(self.donors), generator)
        asked = getattr(index, "focus_class", None)
        label = asked if asked in self.donors else label
        donor = _pick(self.donors[label], generator)
        sample, other = self.dataset[index], self.dataset[_key_of(index, donor, label)]
        named = isinstance(sample, Mapping)
        first, second = ("image", "mask") if named else (0, 1)
        image, mask = self.mix(sample[first], sample[second], donor=(other[first], other[second]), generator=generator)
        if not named:
            return type(sample)((image, mask, *sample[2:]))
        targets = mask if isinstance(mask, Mapping) else {"mask": mask}
        return {**sample, "image": image, **targets, "donor": donor}

    def __repr__(self) -> str:
        return f"MixDataset({self.dataset!r}, {self.mix!r})"


def _checked(indices: Sequence[int], dataset: Any) -> list[int]:
    numbers = [operator.index(number) for number in indices]
    strange = [number for number in numbers if not 0 <= number < len(dataset)]
    if strange or not numbers:
        raise ValueError(
            f"MixDataset: `donors` must hold indices in [0, {len(dataset)}), got {strange[:5] if strange else 'none'}. "
            "Take the indices of images that have the class."
        )
    return numbers


def _generator(index: int) -> torch.Generator:
    import torch

    of_key = getattr(index, "generator", None)
    seed = torch.randint(2**63 - 1, (), generator=None if of_key is None else of_key())
    return torch.Generator().manual_seed(int(seed) ^ (_SALT >> 1))


def _pick(items: list[Any], generator: torch.Generator) -> Any:
    import torch

    return items[int(torch.randint(len(items), (), generator=generator))]


def _key_of(index: int, donor: int, label: int | None) -> int:
    """The donor's key: the sample's, for another index, with randomness of its own."""
    if not hasattr(index, "at"):
        return donor
    key = index.at(donor)
    key.seed = (index.seed ^ _SALT) % 2**64  # type: ignore[attr-defined]
    key.focus_class = label
    return key
