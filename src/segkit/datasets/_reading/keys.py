"""The key of a sampler, also where a data set between took its number out of a list."""

from __future__ import annotations

import sys
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
    frame = sys._getframe(2)
    for _ in range(_DEPTH):
        if frame.f_code.co_name in _ASKING:
            for value in frame.f_locals.values():
                if _is_key(value):
                    return value.at(index)
        if frame.f_back is None:
            break
        frame = frame.f_back
    return index


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


def _is_key(value: Any) -> bool:
    """Is it a `SampleKey`? By what it can do: this room does not import samplers."""
    return isinstance(value, int) and hasattr(value, "generator") and hasattr(value, "at")
