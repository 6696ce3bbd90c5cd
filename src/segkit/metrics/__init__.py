"""How good the network is: one count of truth against prediction, and the numbers that follow from it.

`ConfusionMatrix` takes logits or labels as they come, with the conventions of the losses: any integer dtype, and an
ignored pixel counts nowhere. Counts are exact: parts of a data set add up to the whole, over batches, files and ranks.

Example:
    >>> import torch
    >>> from segkit.metrics import ConfusionMatrix
    >>> confusion = ConfusionMatrix(3)
    >>> confusion.update(torch.tensor([[0, 1, 1, 2]]), torch.tensor([[0, 1, 2, 255]], dtype=torch.uint8))
    >>> confusion.iou()
    tensor([1.0000, 0.5000, 0.0000], dtype=torch.float64)
"""

from __future__ import annotations

from segkit.metrics._confusion import ConfusionMatrix

__all__ = ["ConfusionMatrix"]
