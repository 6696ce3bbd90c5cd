"""Whether a transform can move an image and its mask together: asked when a data set is made, not in the training."""

from __future__ import annotations

import inspect
from typing import Any

_ADAPTERS = {
    "torchvision": "Wrap it: transforms.FromTorchvision(...) moves both, transforms.OnImage(...) changes values only.",
    "albumentations": "Wrap it: transforms.FromAlbumentations(...).",
    "kornia": "Wrap it in a function that passes data_keys=['input', 'mask'] and adds the batch axis.",
    "monai": "Wrap it in a function of (image, mask) that builds its dict.",
}


def check_transform(name: str, transform: Any) -> None:
    """Raise if the transform, or a member of it, is known to take an image alone or something else than two tensors.

    Raises:
        TypeError: with the adapter to use.
    """
    if transform is None:
        return
    if not callable(transform):
        raise TypeError(f"{name}: `transform` must be callable as transform(image, mask), got {transform!r}.")
    package = (getattr(transform, "__module__", None) or type(transform).__module__).partition(".")[0]
    if package not in _ADAPTERS:
        package = type(transform).__module__.partition(".")[0]
    if package in _ADAPTERS:
        raise TypeError(
            f"{name}: `transform` must move the image and its mask together, got {_named(transform)} of {package}, "
            f"which takes them differently. {_ADAPTERS[package]}"
        )
    if type(transform).__module__.partition(".")[0] == "torch":
        raise TypeError(
            f"{name}: `transform` must take (image, mask), got {_named(transform)}, which takes one thing. Wrap it: "
            "transforms.OnImage(...) if it changes values only."
        )
    if not _takes_two(transform):
        raise TypeError(
            f"{name}: `transform` must take (image, mask), got {_named(transform)}, which takes one argument. Wrap it: "
            "transforms.OnImage(...) if it changes values only."
        )
    # The members of a transform that only calls them. An adapter has one `transform`, which it knows how to call.
    for member in getattr(transform, "transforms", None) or ():
        check_transform(name, member)


def _takes_two(transform: Any) -> bool:
    try:
        inspect.signature(transform).bind(None, None)
    except TypeError:
        return False
    except ValueError:  # a builtin without signature
        return True
    return True


def _named(transform: Any) -> str:
    return getattr(transform, "__qualname__", None) or type(transform).__qualname__
