"""Samples of one size stacked, stacks of crops joined, and samples of any kind kept in lists."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from torch import Tensor

from segkit.collate._batch import joined, stacked
from segkit.collate._pictures import Pictures
from segkit.collate._samples import Batch, Leaf, as_lists


def stack_collate(batch: Sequence[Any], *, lists: Collection[str | int] = ()) -> Any:
    """Samples of one size along a new first axis, as `default_collate` does, with errors that say what to do.

    Args:
        batch: the samples. None stands for "not there" and must then be None in all of them.
        lists: names of tensors that stay a list of B, as each sample has its own number of them: boxes ``[n, 4]``,
            instance masks ``[n, H, W]``. Of tuples, positions.

    Returns:
        The structure of one sample: tensors and arrays [B, *shape], numbers [B], text as a list.

    Raises:
        ValueError: shapes, keys or lengths differ; the message names the key, each sample and the function to use.
        TypeError: a value is None in some samples only, dtypes differ, or a type is unknown.

    Example:
        >>> import torch
        >>> stack_collate([{"image": torch.zeros(3, 4, 4), "index": 7}, {"image": torch.zeros(3, 4, 4), "index": 9}])[
        ...     "index"
        ... ]
        tensor([7, 9])
    """
    samples = Batch("stack_collate", batch)
    stack: Leaf = lambda name, tensors: stack_or_explain(samples, name, tensors)  # noqa: E731
    return samples.combine(as_lists(samples, lists, stack, lambda _, tensor: tensor))


def crop_stack_collate(batch: Sequence[Any]) -> Any:
    """Samples that are stacks of crops (`FiveCrop`, `TenCrop`, `GridCrop`), all crops as one batch for the network.

    Images [K, C, h, w] become [B*K, C, h, w] and masks [K, h, w] become [B*K, h, w]: what `stack_crops` makes of a
    stacked batch, in one copy. What is not a stack of crops (an index, a path) is there once per sample, as usual.
    `unstack_crops(x, k)` and `merge_crops` lead back.

    Args:
        batch: the samples, all with the same K.

    Raises:
        ValueError: the samples do not hold stacks of crops, or not all as many crops of one size.

    Example:
        >>> import torch
        >>> sample = {"image": torch.zeros(5, 3, 8, 8), "mask": torch.zeros(5, 8, 8, dtype=torch.uint8), "index": 0}
        >>> batch = crop_stack_collate([sample, sample])
        >>> batch["image"].shape, batch["mask"].shape, batch["index"].shape
        (torch.Size([10, 3, 8, 8]), torch.Size([10, 8, 8]), torch.Size([2]))
    """
    samples = Batch("crop_stack_collate", batch)
    named = Pictures(samples, axes=4).named

    def join(name: str, tensors: list[Tensor]) -> Tensor:
        if name not in named:
            return stack_or_explain(samples, name, tensors)
        if len({tensor.shape for tensor in tensors}) > 1:
            raise ValueError(
                f"crop_stack_collate: {name!r} must have as many crops of one size in every sample, got "
                f"{samples.shapes(tensors)}. Use list_collate, or batch_size=1."
            )
        return joined(tensors)

    return samples.combine(join)


def list_collate(batch: Sequence[Any]) -> Any:
    """Samples of any sizes, each tensor of its own: for networks that take lists, or for crops of different numbers.

    Args:
        batch: the samples.

    Returns:
        The structure of one sample, with a list of B tensors where it has a tensor or an array; numbers are a tensor
        [B] and text a list, as in every batch.

    Raises:
        ValueError: keys or lengths differ between samples.
        TypeError: a value is None in some samples only, dtypes differ, or a type is unknown.

    Example:
        >>> import torch
        >>> batch = list_collate(
        ...     [{"image": torch.zeros(3, 4, 5), "index": 0}, {"image": torch.zeros(3, 6, 2), "index": 1}]
        ... )
        >>> [tuple(image.shape) for image in batch["image"]], batch["index"].tolist()
        ([(3, 4, 5), (3, 6, 2)], [0, 1])
    """
    return Batch("list_collate", batch).combine(lambda name, tensors: list(tensors))


def stack_or_explain(samples: Batch, name: str, tensors: list[Tensor]) -> Tensor:
    """The tensors along a new first axis, or an error that says which function would take them."""
    shapes = {tensor.shape for tensor in tensors}
    if len(shapes) > 1:
        only_size = len({shape[:-2] for shape in shapes}) == 1 and min(map(len, shapes)) >= 2
        others = [each for each in ("pad_collate", "resize_collate") if only_size and each != samples.function]
        fix = f"Use {', '.join([*others, 'list_collate'][:-1])} or list_collate." if others else "Use list_collate."
        own_number = len({shape[1:] for shape in shapes}) == 1 and min(map(len, shapes)) >= 1
        if name and own_number and (tensors[0].ndim < 3 or not tensors[0].is_floating_point()):
            place = name.strip("[]") if name.startswith("[") else repr(name)
            fix = f"Where each sample has its own number of them, give lists=({place},), or u{fix[1:]}"
        raise ValueError(
            f"{samples.function}: {name or 'a sample'!r} must have one shape in all samples, got "
            f"{samples.shapes(tensors)}. {fix}"
        )
    return stacked(tensors)
