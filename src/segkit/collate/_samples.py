"""Samples as users nest them: dicts, tuples, NamedTuples and lists of tensors, arrays, numbers and text."""

from __future__ import annotations

import os
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

# What to do with the tensors that all samples hold at one place: (name of the place, the tensors) -> the batch's value.
Leaf = Callable[[str, list[Tensor]], Any]


def as_lists(samples: Batch, lists: Collection[str | int], leaf: Leaf, one: Callable[[str, Tensor], Tensor]) -> Leaf:
    """What `leaf` does, but a list of tensors, each changed by `one`, for the places that `lists` names.

    Raises:
        ValueError: a name is not there.
    """
    if isinstance(lists, str):
        raise TypeError(f"{samples.function}: `lists` must be several names, got {lists!r}. Write ({lists!r},).")
    places = {f"[{name}]" if isinstance(name, int) else name for name in lists}
    if places and (missing := sorted(places - samples.tensors().keys())):
        raise ValueError(
            f"{samples.function}: `lists` must name tensors of a sample, got {missing}; there are "
            f"{list(samples.tensors())}."
        )
    return lambda name, tensors: [one(name, t) for t in tensors] if name in places else leaf(name, tensors)


class Batch:
    """The samples of one batch, and how to speak of them in an error.

    Args:
        function: the public name to begin errors with.
        samples: what the data set returned.
    """

    def __init__(self, function: str, samples: Sequence[Any]) -> None:
        self.function = function
        self.samples = list(samples)
        if not self.samples:
            raise ValueError(
                f"{function}: `batch` must hold at least one sample, got none. Use a batch_size of 1 or more."
            )

    def combine(self, leaf: Leaf) -> Any:
        """The samples as one, with `leaf` deciding for tensors."""
        return self._combine("", self.samples, leaf)

    def tensors(self) -> dict[str, list[Tensor]]:
        """All tensors and arrays, by the name of their place."""
        found: dict[str, list[Tensor]] = {}

        def note(name: str, tensors: list[Tensor]) -> None:
            found[name] = tensors

        self.combine(note)
        return found

    def describe(self, place: int) -> str:
        """Sample 3 ('images/0003.png')."""
        sample = self.samples[place]
        if isinstance(sample, Mapping):
            for key in ("path", "image_path", "file", "filename", "name"):
                if isinstance(sample.get(key), (str, os.PathLike)):
                    return f"sample {place} ({os.fspath(sample[key])!r})"
            if isinstance(sample.get("index"), int):
                return f"sample {place} (index {int(sample['index'])})"
        return f"sample {place}"

    def shapes(self, tensors: list[Tensor]) -> str:
        """Each sample with its shape; a long batch is cut after eight."""
        told = [f"{list(tensor.shape)} in {self.describe(i)}" for i, tensor in enumerate(tensors[:8])]
        return ", ".join(told) + (f" and {len(tensors) - 8} more" if len(tensors) > 8 else "")

    def _combine(self, name: str, values: list[Any], leaf: Leaf) -> Any:
        first = values[0]
        if any(value is None for value in values):
            return self._nones(name, values)
        if isinstance(first, (str, bytes, os.PathLike)):
            self._same_kind(name, values, (str, bytes, os.PathLike))
            return values
        if isinstance(first, (Tensor, np.ndarray)):
            self._same_kind(name, values, (Tensor, np.ndarray))
            return leaf(name, self._as_tensors(name, values))
        if isinstance(first, (bool, int, float, complex, np.generic)):
            self._same_kind(name, values, (bool, int, float, complex, np.generic))
            return self._numbers(name, values)
        if isinstance(first, Mapping):
            return self._mappings(name, values, leaf)
        if isinstance(first, (tuple, list, deque, range)):
            return self._sequences(name, values, leaf)
        raise TypeError(
            f"{self.function}: {_called(name)} must hold tensors, arrays, numbers, text or containers of them, got "
            f"{type(first).__name__} in {self.describe(0)}. Leave it out of the sample, or convert it there."
        )

    def _nones(self, name: str, values: list[Any]) -> None:
        missing = [i for i, value in enumerate(values) if value is None]
        if len(missing) == len(values) and name:
            return
        told = ", ".join(self.describe(i) for i in missing[:8])
        fix = "Give every sample a value, or none." if name else "Filter such samples out of the data set."
        raise TypeError(
            f"{self.function}: {_called(name)} must be there in all samples or in none, got None in {told}. {fix}"
        )

    def _same_kind(self, name: str, values: list[Any], kinds: tuple[type, ...]) -> None:
        for i, value in enumerate(values):
            if not isinstance(value, kinds):
                raise TypeError(
                    f"{self.function}: {_called(name)} must be of one kind in all samples, got "
                    f"{type(values[0]).__name__} in {self.describe(0)}, {type(value).__name__} in {self.describe(i)}."
                )

    def _as_tensors(self, name: str, values: list[Any]) -> list[Tensor]:
        tensors: list[Tensor] = []
        for i, value in enumerate(values):
            if isinstance(value, np.ndarray):
                if value.dtype.kind not in "biufc":
                    raise TypeError(
                        f"{self.function}: {_called(name)} must be an array of numbers, got {value.dtype} in "
                        f"{self.describe(i)}. Pass text as str or list."
                    )
                if not (value.flags.writeable and value.dtype.isnative and min(value.strides, default=0) >= 0):
                    value = value.astype(value.dtype.newbyteorder("="), order="C")  # torch takes no others
                value = torch.from_numpy(value)
            if type(value) is not Tensor:  # MetaTensor, tv_tensors, Parameter: a batch is a plain tensor
                value = value.as_subclass(Tensor)
            if value.layout is not torch.strided:
                raise TypeError(
                    f"{self.function}: {_called(name)} must be a dense tensor, got {value.layout} in "
                    f"{self.describe(i)}. Convert it with .to_dense()."
                )
            if value.dtype != (tensors[0] if tensors else value).dtype:
                raise TypeError(
                    f"{self.function}: {_called(name)} must have one dtype, got {tensors[0].dtype} in "
                    f"{self.describe(0)}, {value.dtype} in {self.describe(i)}. Convert it in the data set."
                )
            tensors.append(value)
        return tensors

    def _numbers(self, name: str, values: list[Any]) -> Tensor:
        try:
            return _as_tensor(values)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(
                f"{self.function}: {_called(name)} must hold numbers that torch has, got {values[0]!r} in "
                f"{self.describe(0)} ({error}). Pass it as str, or leave it out of the sample."
            ) from None

    def _mappings(self, name: str, values: list[Any], leaf: Leaf) -> Any:
        self._same_kind(name, values, (Mapping,))
        first = values[0]
        for i, value in enumerate(values):
            if value.keys() != first.keys():
                odd = sorted(map(str, value.keys() ^ first.keys()))
                raise ValueError(
                    f"{self.function}: {_called(name)} must have the same keys in all samples, got {odd} in one of "
                    f"{self.describe(0)} and {self.describe(i)}."
                )
        combined = {
            key: self._combine(f"{name}.{key}" if name else str(key), [v[key] for v in values], leaf) for key in first
        }
        return combined if type(first) is dict else _rebuilt(first, combined)

    def _sequences(self, name: str, values: list[Any], leaf: Leaf) -> Any:
        self._same_kind(name, values, (type(values[0]),))
        first = values[0]
        for i, value in enumerate(values):
            if len(value) != len(first):
                raise ValueError(
                    f"{self.function}: {_called(name)} must have one length in all samples, got {len(first)} in "
                    f"{self.describe(0)}, {len(value)} in {self.describe(i)}."
                )
        fields = getattr(first, "_fields", None)
        names = [f"{name}.{field}" if name else field for field in fields or ()] or [
            f"{name}[{i}]" for i in range(len(first))
        ]
        combined = [
            self._combine(part, list(items), leaf) for part, items in zip(names, zip(*values, strict=True), strict=True)
        ]
        if fields:
            return type(first)(*combined)
        if isinstance(first, (list, deque)) and type(first) is not list:
            return _rebuilt(first, combined)
        return tuple(combined) if isinstance(first, tuple) else combined


def _called(name: str) -> str:
    return f"{name!r}" if name else "a sample"


def _as_tensor(values: list[Any]) -> Tensor:
    """Numbers as a tensor: NumPy's keep their dtype, Python's floats are float64 as `default_collate` keeps them.

    An int that carries more (a SampleKey) is its value.
    """
    if isinstance(values[0], np.generic):
        return torch.from_numpy(np.array(values))
    plain = [int(value) if isinstance(value, int) and type(value) is not bool else value for value in values]
    floats = any(isinstance(value, float) for value in plain) and not any(isinstance(v, complex) for v in plain)
    return torch.tensor(plain, dtype=torch.float64 if floats else None)


def _rebuilt(first: Any, combined: Any) -> Any:
    """The user's own kind of container where it can be made from a plain one, else the plain one."""
    try:
        if isinstance(first, defaultdict):
            return defaultdict(first.default_factory, combined)
        return type(first)(combined)
    except TypeError:
        return combined
