"""How samples become a batch: stacked, padded, resized, or a list; written once, in a worker into shared memory.

Samples are dicts, tuples, NamedTuples or lists, nested as you like, of tensors, arrays, numbers and text. Tensors are
joined as the function says, numbers become a tensor, text a list. Hand any of these to a DataLoader as ``collate_fn``.

Example:
    >>> import torch
    >>> from segkit.collate import pad_collate
    >>> sample = lambda h, w: {
    ...     "image": torch.ones(3, h, w),
    ...     "mask": torch.ones(h, w, dtype=torch.uint8),
    ...     "path": "a.png",
    ... }
    >>> batch = pad_collate([sample(4, 6), sample(5, 3)], multiple_of=4)
    >>> batch["image"].shape, batch["mask"][1, -1].tolist(), batch["path"]
    (torch.Size([2, 3, 8, 8]), [255, 255, 255, 255, 255, 255, 255, 255], ['a.png', 'a.png'])
"""

from __future__ import annotations

from segkit.collate._pad import pad_collate
from segkit.collate._resize import resize_collate
from segkit.collate._stack import crop_stack_collate, list_collate, stack_collate

__all__ = ["crop_stack_collate", "list_collate", "pad_collate", "resize_collate", "stack_collate"]
