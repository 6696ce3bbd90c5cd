"""The confusion matrix: counting, adding up, keeping."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from segkit import IGNORE_INDEX
from segkit.errors import DataError
from segkit.metrics._count import count_edges, count_pairs, sums_of
from segkit.metrics._inputs import as_labels
from segkit.metrics._scores import Scores

VERSION = 1


class ConfusionMatrix(Scores):
    """How many pixels of each class were called which class, and IoU, Dice, precision and recall from it.

    Nothing is averaged before the end and all counts are int64, so batches, files and ranks add up exactly. `update`
    does not wait for an accelerator: numbers are fetched when they are asked for.

    Args:
        num_classes: C, at least 1. A binary network's one logit is two classes: pass ``logits[:, 0] > 0``.
        ignore_index: label of pixels that count nowhere; a tuple of labels, or None. Where it is one of the C classes,
            that class is not judged.
        per_image: also keep three numbers for each image and class, for means over images and their worst cases.
        boundary: also count the pixels near an edge, for `boundary_iou`: the distance as a fraction of the image's
            diagonal (the authors take 0.02). None: do not.

    Example:
        >>> confusion = ConfusionMatrix(2)
        >>> logits = torch.tensor([[[2.0, 0.0, 1.0], [1.0, 3.0, 4.0]]])  # [B, C, pixels]
        >>> confusion.update(logits, torch.tensor([[0, 0, 1]], dtype=torch.uint8))
        >>> confusion.counts
        tensor([[1, 1],
                [0, 1]])
        >>> confusion.iou(), confusion.mean_iou()
        (tensor([0.5000, 0.5000], dtype=torch.float64), 0.5)
    """

    def __init__(
        self,
        num_classes: int,
        *,
        ignore_index: int | tuple[int, ...] | None = IGNORE_INDEX,
        per_image: bool = False,
        boundary: float | None = None,
    ) -> None:
        if isinstance(num_classes, bool) or not isinstance(num_classes, (int, np.integer)) or num_classes < 1:
            raise ValueError(f"ConfusionMatrix: `num_classes` must be an int of at least 1, got {num_classes!r}.")
        labels = () if ignore_index is None else ignore_index if isinstance(ignore_index, tuple) else (ignore_index,)
        if any(isinstance(label, bool) or not isinstance(label, (int, np.integer)) for label in labels):
            raise TypeError(f"ConfusionMatrix: `ignore_index` must be an int, ints or None, got {ignore_index!r}.")
        if boundary is not None and not 0 < boundary < 1:
            raise ValueError(
                f"ConfusionMatrix: `boundary` must be a fraction of the diagonal in (0, 1) or None, got {boundary!r}. "
                "Take 0.02, as the authors do."
            )
        self.num_classes = int(num_classes)
        self.ignore_index = ignore_index
        self.per_image = bool(per_image)
        self.boundary = boundary
        self._ignored = tuple(int(label) for label in labels)
        self.reset()

    def reset(self) -> None:
        """Forget all counts."""
        self._pairs = torch.zeros(self.num_classes + 1, self.num_classes + 1, dtype=torch.int64)
        self._images: list[Tensor] = []  # each [N, 3, C]: both, prediction, truth
        self._edges = torch.zeros(3, self.num_classes, dtype=torch.int64)

    # Counting -------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def update(self, prediction: Any, target: Any) -> None:
        """Count a batch.

        Args:
            prediction: logits or probabilities [B, C, *spatial], of which the largest is the class, or labels
                [B, *spatial] of any integer dtype or bool. A single image may leave out the B.
            target: labels [B, *spatial] of any integer dtype, or any shape that `labels.as_index_target` takes. Tensors
                on one device, or NumPy arrays.

        Raises:
            DataError: a label is outside [0, C) and not ignored. On an accelerator this is told at reading.
            TypeError: what came is not a tensor, or the target is not of integers.
            ValueError: shapes or devices do not belong together.
        """
        found, truth = as_labels(prediction, target, self.num_classes, self._unlabelled())
        p, t = (x[:, None].flatten(1) if self.per_image else x.reshape(1, -1) for x in (found, truth))
        counts = count_pairs(p, t, self.num_classes, self._ignored)
        pairs = counts.sum(0)
        if pairs.device.type == "cpu":
            self._check(pairs)
        self._pairs = self._pairs.to(pairs.device) + pairs
        if self.per_image:
            self._images.append(sums_of(counts, self.num_classes))
        if self.boundary is not None:
            self._edges = self._edges.to(pairs.device) + count_edges(
                found, truth, self.num_classes, self._ignored, self.boundary
            )

    def _unlabelled(self) -> int:
        """What a one-hot target's pixel becomes that is 0 in every plane: ignored, or no class at all."""
        return self._ignored[0] if self._ignored else self.num_classes

    def _check(self, pairs: Tensor) -> None:
        """Raise if labels were counted that are no class."""
        classes = self.num_classes
        truth, found = int(pairs[classes].sum()), int(pairs[:classes, classes].sum())
        if truth or found:
            name, number = ("target", truth) if truth else ("prediction", found)
            ignored = f" or {self.ignore_index} (ignored)" if self._ignored and truth else ""
            raise DataError(
                f"ConfusionMatrix.update: every label of `{name}` must be in [0, {classes}){ignored}, got others on "
                f"{number} pixels. See which with labels.validate_target({name}, {classes})."
            )

    def merge(self, other: ConfusionMatrix) -> ConfusionMatrix:
        """Add the counts of another matrix to this one, exactly; its images come after these.

        Args:
            other: made with the same arguments. It stays as it is.

        Returns:
            This matrix.

        Raises:
            ValueError: the two count different things.
        """
        if not isinstance(other, ConfusionMatrix) or other._arguments() != self._arguments():
            raise ValueError(f"ConfusionMatrix.merge: `other` must be made as {self._made()}, got {other!r}.")
        self._pairs = self._pairs + other._pairs.to(self._pairs.device)
        self._edges = self._edges + other._edges.to(self._edges.device)
        self._images = [*self._images, *other._images]
        return self

    def all_reduce(self, group: Any = None) -> ConfusionMatrix:
        """Make the matrices of all ranks one, as if one process had counted all. Images are in the order of the ranks.

        Call it once, at the end: what it gives is the sum, and a second call would add the sums again.

        Args:
            group: a process group of `torch.distributed`; None or ``"world"`` is the default one. Without any, nothing
                happens.

        Returns:
            This matrix.
        """
        import torch.distributed as dist

        group = None if isinstance(group, str) and group == "world" else group
        if not (dist.is_available() and dist.is_initialized()):
            return self
        device = torch.device("cpu")
        if dist.get_backend(group) == "nccl":
            device = torch.device("cuda", torch.cuda.current_device())
        flat = torch.cat([self._pairs.flatten(), self._edges.flatten().to(self._pairs.device)]).to(device)
        dist.all_reduce(flat, group=group)
        pairs, edges = torch.split(flat, [self._pairs.numel(), self._edges.numel()])
        self._pairs, self._edges = pairs.view_as(self._pairs), edges.view_as(self._edges)
        if self.per_image:
            mine = self._per_image().to(device)
            sizes = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(dist.get_world_size(group))]
            dist.all_gather(sizes, torch.tensor([len(mine)], device=device), group=group)
            most = int(torch.cat(sizes).max())
            padded = torch.cat([mine, mine.new_zeros(most - len(mine), *mine.shape[1:])])
            parts = [torch.empty_like(padded) for _ in sizes]
            dist.all_gather(parts, padded, group=group)
            self._images = [part[: int(size)] for part, size in zip(parts, sizes, strict=True)]
        return self

    @property
    def counts(self) -> Tensor:
        """int64 [C, C] on the CPU: rows are the truth, columns the prediction. Ignored pixels are in neither."""
        pairs = self._pairs.cpu()
        self._check(pairs)
        return pairs[: self.num_classes, : self.num_classes].clone()

    def _per_image(self) -> Tensor:
        """[N, 3, C] on the CPU."""
        empty = torch.zeros(0, 3, self.num_classes, dtype=torch.int64)
        return torch.cat([empty, *(part.cpu() for part in self._images)])

    # Keeping ----------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """All of it in plain numbers and lists: `json.dumps` takes it as it is."""
        return {
            "version": VERSION,
            **self._arguments(),
            "pairs": self._pairs.tolist(),
            "edges": self._edges.tolist(),
            "images": self._per_image().tolist(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the counts of a saved state.

        Raises:
            DataError: the state is not that of a matrix made with these arguments.
        """
        wanted = {"version": VERSION, **self._arguments()}
        if not isinstance(state, dict) or not {"pairs", "edges", "images"} <= state.keys():
            raise DataError("ConfusionMatrix.load_state_dict: `state` must be what state_dict() returned.")
        ignored = state.get("ignore_index")  # JSON knows no tuples
        given = {**state, "ignore_index": tuple(ignored) if isinstance(ignored, list) else ignored}
        other = {name: given.get(name) for name, value in wanted.items() if given.get(name) != value}
        if other:
            raise DataError(
                f"ConfusionMatrix.load_state_dict: `state` must be of {self._made()}, got one with {other}."
            )
        self._pairs = torch.tensor(state["pairs"], dtype=torch.int64).view(self.num_classes + 1, -1)
        self._edges = torch.tensor(state["edges"], dtype=torch.int64)
        self._images = [torch.tensor(state["images"], dtype=torch.int64).view(-1, 3, self.num_classes)]

    def _arguments(self) -> dict[str, Any]:
        names = ("num_classes", "ignore_index", "per_image", "boundary")
        return {name: getattr(self, name) for name in names}

    def _made(self) -> str:
        number, *others = self._arguments().items()
        return f"ConfusionMatrix({number[1]}, {', '.join(f'{name}={value!r}' for name, value in others)})"

    def __repr__(self) -> str:
        return self._made()

    def __str__(self) -> str:
        return self.table()
