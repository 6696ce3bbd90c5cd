"""Which samples and pixels are hard: selection, a ledger of losses that remembers each sample, and the reasons.

Losses go in as tensors, one number per pixel or per sample, in any floating dtype; larger is harder. Nothing here
looks at logits' gradients, and nothing is drawn at random.

Example:
    >>> import torch
    >>> from segkit.mining import hard_mask
    >>> hard_mask(torch.tensor([0.2, 1.5, 0.9]), keep_ratio=0.5)
    tensor([False,  True,  True])
"""

from segkit.mining._fingerprint import fingerprint
from segkit.mining._ledger import DifficultyLedger
from segkit.mining._segmentation import SegmentationDifficulty, per_sample_loss, segmentation_difficulty
from segkit.mining._select import hard_mask
from segkit.mining._tags import Tag

__all__ = [
    "DifficultyLedger",
    "SegmentationDifficulty",
    "Tag",
    "fingerprint",
    "hard_mask",
    "per_sample_loss",
    "segmentation_difficulty",
]
