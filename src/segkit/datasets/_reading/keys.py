"""The key of a sampler, also where a data set between took its number out of a list."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

# Where a data set that wraps another one asks it on; the last two are comprehensions in Python 3.10 and 3.11.
_ASKING = {"__getitem__", "__getitems__", "<listcomp>", "<genexpr>"}
_DEPTH = 12


def asked_for(name: str, index: Any) -> Any:
    """The index, with what a sampler's key carries.

    `torch.utils.data.Subset` (and so `random_split`) and most data sets like it look the key up in a list, in C, and
    ask on with the plain number they find there: size, randomness and focus class would be lost, in silence. The key
    is still what they were asked for themselves, so it is read from their frame of the call.

    Args:
        name: of the data set, for the error.
        index: a key, a plain number, or by mistake a batch of them.

    Raises:
        TypeError: the index is a list.
    """
    if isinstance(index, list):
        raise TypeError(
            f"{name}: `index` must be a number, got a list of {len(index)}. "
            "Give a sampler of batches as DataLoader(batch_sampler=...), not as sampler=."
        )
    if _is_key(index):
        return index
    for local in _locals_of_wrappers():
        if _is_key(local):
            return local.at(index)
        if isinstance(local, list) and local and all(map(_is_key, local)):
            raise TypeError(
                f"{name}: `index` must be a sampler's key, got {index}, which a data set around it took out of a list "
                "for a whole batch. Give the sampler the numbers instead, ShuffleSampler(indices), and the loader "
                "this data set."
            )
    return index


def all_asked_for(name: str, indices: Sequence[Any]) -> list[Any]:
    """`asked_for` of a whole batch: several Subsets hand it on as lists, each as long as the batch of keys."""
    given = list(indices)
    if not any(map(_is_key, given)) and not any(isinstance(index, list) for index in given):
        for local in _locals_of_wrappers():
            if isinstance(local, list) and len(local) == len(given) and local and all(map(_is_key, local)):
                return [key.at(index) for key, index in zip(local, given, strict=True)]
    return [asked_for(name, index) for index in given]


def _locals_of_wrappers() -> Iterator[Any]:
    """What the data sets that ask this one hold in their frames of the call, the nearest first."""
    frame: FrameType | None = sys._getframe(3)
    for _ in range(_DEPTH):
        if frame is None:
            return
        if frame.f_code.co_name in _ASKING:
            yield from frame.f_locals.values()
        frame = frame.f_back


def number_told(index: Any) -> int | None:
    """The number that the sampler drew, where a data set between has changed it: ledgers count by it."""
    drawn: int | None = getattr(index, "sample", None)
    return None if drawn == index else drawn


def check_size(name: str, index: Any, transform: Any) -> None:
    """Raise where a key asks for a size and nothing could give it."""
    size = getattr(index, "size", None)
    if transform is None and size is not None:
        raise ValueError(
            f"{name}: `transform` must be given where the sampler's keys ask for a size, {size}, got None. "
            "Give one that takes it, such as transforms.RandomCrop or transforms.Resize."
        )


def check_takes(name: str, index: Any, transform: Any) -> None:
    """Raise, after a TypeError, where the transform does not take what the key asks for."""
    try:
        parameters = inspect.signature(transform).parameters
    except (TypeError, ValueError):  # no callable, or a builtin without signature
        return
    if not _is_key(index) or any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    asked = [word for word in ("size", "focus_class") if getattr(index, word, None) is not None]
    called = getattr(transform, "__name__", type(transform).__name__)
    for word in [*asked, "generator"]:
        if word not in parameters:
            fix = (
                "Write it as f(image, mask, *, generator=None) and draw from that generator."
                if word == "generator"
                else "Add RandomCrop to it in a Compose (for a size, Resize also)."
            )
            raise TypeError(
                f"{name}: `transform` must take {word}=, which the sampler's SampleKey carries, got {called}. {fix}"
            )


def _is_key(value: Any) -> bool:
    """Is it a `SampleKey`? By what it can do: this room does not import samplers."""
    return isinstance(value, int) and hasattr(value, "generator") and hasattr(value, "at")
