"""What follows from counts: IoU, Dice and the rest, of all pixels together, image by image, at boundaries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from segkit.metrics._show import picture, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Scores:
    """The numbers of what a subclass has counted."""

    num_classes: int
    per_image: bool
    boundary: float | None
    _ignored: tuple[int, ...]
    _edges: Tensor  # int64 [3, C]: pixels near an edge in both, in the prediction, in the truth

    @property
    def counts(self) -> Tensor:
        """int64 [C, C]: rows are the truth, columns the prediction."""
        raise NotImplementedError

    def _per_image(self) -> Tensor:
        """int64 [N, 3, C]: of each image the pixels in both, in the prediction, in the truth."""
        raise NotImplementedError

    def iou(self) -> Tensor:
        """Intersection over union of each class, float64 [C]; NaN for a class that is neither there nor predicted."""
        both, found, truth = self._three()
        return both / (found + truth - both)

    def dice(self) -> Tensor:
        """Dice (F1) of each class, float64 [C]; NaN for a class that is neither there nor predicted."""
        both, found, truth = self._three()
        return 2 * both / (found + truth)

    def precision(self) -> Tensor:
        """Which share of what was called a class is that class, float64 [C]; NaN for a class never predicted."""
        both, found, _ = self._three()
        return both / found

    def recall(self) -> Tensor:
        """Which share of a class was found, float64 [C]; NaN for a class that is not there."""
        both, _, truth = self._three()
        return both / truth

    def accuracy(self) -> float:
        """The share of pixels whose class is right, over all classes; NaN where none was counted."""
        both, _, truth = self._three()
        return float(both.nansum() / truth.nansum())

    def mean_iou(self, *, per: Literal["dataset", "image", "class"] = "dataset", worst: float = 1.0) -> float:
        """The mean of the IoU over classes, of all pixels together or image by image.

        Args:
            per: ``"dataset"``: the mean of `iou`. ``"image"``: each image's mean over the classes that are there, then
                the mean over images. ``"class"``: each class's mean over the images where it is, then over classes.
                The last two need ``per_image=True``.
            worst: a fraction in (0, 1]: only so many of the images with the lowest values, at least one.

        Returns:
            In [0, 1]; NaN where nothing was counted.

        Raises:
            ValueError: the images were not kept, or `worst` is out of range.

        Source: Wang et al., NeurIPS 2023 (arXiv 2310.19252): mIoU-D, mIoU-I, mIoU-C and their worst cases. As there, a
        class that an image's truth does not hold is left out for that image.
        """
        return self._mean("mean_iou", 1, per, worst)

    def mean_dice(self, *, per: Literal["dataset", "image", "class"] = "dataset", worst: float = 1.0) -> float:
        """The mean of Dice over classes; the arguments are those of `mean_iou`."""
        return self._mean("mean_dice", 2, per, worst)

    def mean_precision(self) -> float:
        """The mean of `precision` over the classes that were predicted."""
        return float(self.precision().nanmean())

    def mean_recall(self) -> float:
        """The mean of `recall` over the classes that are there: balanced accuracy."""
        return float(self.recall().nanmean())

    def per_image_iou(self) -> Tensor:
        """The IoU of each image and class, float64 [N, C], in the order of updates; NaN where the truth lacks a class.

        Raises:
            ValueError: the images were not kept.
        """
        return self._image_scores("per_image_iou", 1)

    def per_image_dice(self) -> Tensor:
        """Dice of each image and class, as `per_image_iou`."""
        return self._image_scores("per_image_dice", 2)

    def boundary_iou(self) -> Tensor:
        """The IoU of the pixels near an edge of their class, float64 [C]; NaN as for `iou`.

        Near an edge is a pixel that lies within ``boundary`` times the image's diagonal of another class, in rows or
        columns. The edge of the image is an edge, as the authors have it, and so is that of an ignored area.

        Raises:
            ValueError: the matrix was made without ``boundary``.

        Source: Cheng et al., CVPR 2021. Pixels are added up over all images, as for `iou`.
        """
        if self.boundary is None:
            raise ValueError("ConfusionMatrix.boundary_iou: edges were not counted. Make it with boundary=0.02.")
        _ = self.counts  # labels that are no class are told
        both, found, truth = self._judged(self._edges.cpu().double())
        return both / (found + truth - both)

    def mean_boundary_iou(self) -> float:
        """The mean of `boundary_iou` over the classes."""
        return float(self.boundary_iou().nanmean())

    def _three(self) -> Tensor:
        """[3, C] float64: pixels in both, in the prediction, in the truth; NaN for classes that are ignored."""
        counts = self.counts
        return self._judged(torch.stack([counts.diag(), counts.sum(0), counts.sum(1)]).double())

    def _judged(self, sums: Tensor) -> Tensor:
        for label in self._ignored:
            if 0 <= label < self.num_classes:
                sums[..., label] = torch.nan
        return sums

    def _image_scores(self, function: str, times: int) -> Tensor:
        """IoU for 1, Dice for 2: `times * both / (found + truth - (2 - times) * both)`."""
        if not self.per_image:
            raise ValueError(f"ConfusionMatrix.{function}: images were not kept. Make it with per_image=True.")
        _ = self.counts
        both, found, truth = self._judged(self._per_image().double()).unbind(1)
        return (times * both / (found + truth - (2 - times) * both)).masked_fill(truth == 0, torch.nan)

    def _mean(self, function: str, times: int, per: str, worst: float) -> float:
        if per not in ("dataset", "image", "class"):
            raise ValueError(f'ConfusionMatrix.{function}: `per` must be "dataset", "image" or "class", got {per!r}.')
        if not 0 < worst <= 1:
            raise ValueError(f"ConfusionMatrix.{function}: `worst` must be in (0, 1], got {worst!r}. 0.05 is 5 %.")
        if per == "dataset":
            if worst != 1:
                raise ValueError(f'ConfusionMatrix.{function}: `worst` needs per="image" or per="class".')
            return float((self.iou() if times == 1 else self.dice()).nanmean())
        scores = self._image_scores(function, times)
        if per == "image":
            return _lowest(scores.nanmean(1), worst)
        return float(torch.tensor([_lowest(column, worst) for column in scores.T], dtype=torch.float64).nanmean())

    def table(self, names: Sequence[str] | None = None) -> str:
        """IoU, Dice, precision, recall and pixels of each class as lines of text; `str(confusion)` is the same.

        Args:
            names: one a class; None: their numbers.
        """
        columns = {"IoU": self.iou(), "Dice": self.dice(), "precision": self.precision(), "recall": self.recall()}
        if self.boundary is not None:
            columns["boundary"] = self.boundary_iou()
        means = {title: float(values.nanmean()) for title, values in columns.items()}
        return table(self._names("table", names), columns, self.counts.sum(1), means)

    def plot(self, names: Sequence[str] | None = None) -> Figure:
        """The matrix as a plot, each row divided by its sum.

        Args:
            names: one a class; None: their numbers.

        Returns:
            A matplotlib figure; write it with ``.savefig(path)``. Needs the extra ``plot``.
        """
        return picture(self.counts, self._names("plot", names))

    def _names(self, function: str, names: Sequence[str] | None) -> list[str]:
        if names is not None and len(names) != self.num_classes:
            raise ValueError(
                f"ConfusionMatrix.{function}: `names` must be one for each of the {self.num_classes} classes, "
                f"got {len(names)}."
            )
        return [str(name) for name in (range(self.num_classes) if names is None else names)]


def _lowest(values: Tensor, worst: float) -> float:
    """The mean of the lowest share of the values that exist."""
    there = values[~values.isnan()].sort().values
    return float(there[: max(1, int(worst * len(there)))].mean()) if len(there) else math.nan
