"""Two samples made into one: part of a donor pasted into a picture and its mask, or the two faded into each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from segkit import IGNORE_INDEX
from segkit.transforms._resampling.inputs import as_number, as_range, as_size, as_whole, check_pair

LABELS = 256  # ClassMix keeps a table of this many labels, so that nothing has to be asked of the device
STEPS = 4096  # of the table from which MixUp draws its shares


class Mix:
    """What mixes two samples: `t(images, masks)` for a batch, `t(image, mask, donor=(image, mask))` for one sample.

    In a batch each sample's donor is another of the batch, all in one circle drawn for the call. Nothing is asked of
    the device but by `CopyPaste`, which looks for objects on the CPU.

    Args:
        p: probability that a sample is mixed, in [0, 1].
    """

    def __init__(self, p: float) -> None:
        self.p = as_number(type(self).__name__, "p", p, 0, 1)

    def __call__(
        self,
        image: Tensor,
        mask: Tensor,
        *,
        donor: tuple[Tensor, Tensor] | None = None,
        generator: torch.Generator | None = None,
    ) -> Any:
        """The mixed images and masks, in the shapes that were given; the inputs stay as they are.

        Args:
            image: [B, C, H, W], any dtype; or [C, H, W] with a `donor`.
            mask: [B, H, W] or [H, W], integers.
            donor: what is mixed in, in the shapes of `image` and `mask`.
            generator: where chance comes from, on the device of the images; None is torch's global one.

        Raises:
            ValueError: the shapes do not belong together, or a batch has one sample and no donor.
        """
        name = type(self).__name__
        check_pair(name, image, mask)
        if mask is None:
            raise ValueError(f"{name}: `mask` must be given, got None. What is mixed needs its labels.")
        single = image.ndim == 3
        if donor is None:
            order = self._circle(name, image, generator)
            donor = image[order], mask[order]
        elif donor[0].shape != image.shape or donor[1].shape != mask.shape:
            raise ValueError(
                f"{name}: `donor` must have the shapes of `image` and `mask`, {list(image.shape)} and "
                f"{list(mask.shape)}, got {list(donor[0].shape)} and {list(donor[1].shape)}. "
                "Crop both to one size first."
            )
        x, y, dx, dy = (part[None] if single else part for part in (image, mask, *donor))
        hit = torch.rand(len(x), generator=generator, device=image.device) < self.p
        mixed, target = self.mix(x, y, dx, dy, hit, generator)
        if not single:
            return mixed, target
        return mixed[0], {k: v[0] for k, v in target.items()} if isinstance(target, dict) else target[0]

    def mix(
        self,
        image: Tensor,
        mask: Tensor,
        donor: Tensor,
        donor_mask: Tensor,
        hit: Tensor,
        generator: torch.Generator | None,
    ) -> tuple[Tensor, Any]:
        """A batch and its donors, mixed where `hit` [B] says so. Pasting is done here; `region` says where."""
        taken = self.region(donor_mask, generator) & hit[:, None, None]
        return torch.where(taken[:, None], donor, image), torch.where(taken, donor_mask.to(mask.dtype), mask)

    def region(self, donor_mask: Tensor, generator: torch.Generator | None) -> Tensor:
        """Which pixels are the donor's: bool [B, H, W]."""
        raise TypeError(f"{type(self).__name__} does not say what it takes of a donor: implement region.")

    def _circle(self, name: str, image: Tensor, generator: torch.Generator | None) -> Tensor:
        if image.ndim != 4 or len(image) < 2:
            raise ValueError(
                f"{name}: `image` must be a batch [B, C, H, W] of at least two where no `donor` is given, got "
                f"{list(image.shape)}. Pass donor=(image, mask), or mix in the data set: datasets.MixDataset."
            )
        order = torch.randperm(len(image), generator=generator, device=image.device)
        return torch.empty_like(order).scatter_(0, order, order.roll(1))

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in vars(self).items() if not name.startswith("_"))
        return f"{type(self).__name__}({values})"


class CutMix(Mix):
    """A rectangle of the donor, pixels and labels, at the place where it was.

    Args:
        area: share of the picture that the rectangle covers, drawn evenly from this range; one number is a fixed share.
        p: probability that a sample is mixed.

    Example:
        >>> images, masks = torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 4, dtype=torch.uint8)
        >>> images[1], masks[1] = 1, 1
        >>> mixed, labels = CutMix(area=0.25)(images, masks)
        >>> labels.sum((1, 2)).tolist(), torch.equal(mixed[:, 0], labels.float())
        ([4, 12], True)

    Source: Yun et al. 2019; French et al. 2020 for masks. There the share is drawn from a Beta distribution.
    """

    def __init__(self, area: float | tuple[float, float] = (0.1, 0.5), *, p: float = 1.0) -> None:
        self.area = as_range("CutMix", "area", area, 0, 1) if isinstance(area, (tuple, list)) else (area, area)
        for share in self.area:
            as_number("CutMix", "area", share, 0, 1)
        super().__init__(p)

    def region(self, donor_mask: Tensor, generator: torch.Generator | None) -> Tensor:
        """One rectangle per sample, with the proportions of the picture."""
        batch, height, width = donor_mask.shape
        place = donor_mask.device
        low, high = self.area
        drawn = torch.rand(3, batch, 1, generator=generator, device=place)
        side = (low + (high - low) * drawn[0]).sqrt()
        inside = []
        for draw, length in ((drawn[1], height), (drawn[2], width)):
            extent = (side * length).round()
            start = (draw * (length - extent + 1)).floor()
            at = torch.arange(length, device=place)
            inside.append((at >= start) & (at < start + extent))
        return inside[0][:, :, None] & inside[1][:, None, :]


class ClassMix(Mix):
    """All pixels of some of the donor's classes, where they were; ignored pixels are not pasted.

    Args:
        share: how many of the classes that the donor's mask holds, rounded up.
        classes: only these may be pasted; None: any. Labels are in [0, 256).
        p: probability that a sample is mixed.
        ignore_index: label of pixels that count nowhere.

    Example:
        >>> images, masks = torch.zeros(2, 1, 1, 4), torch.tensor([[[0, 0, 0, 0]], [[0, 0, 1, 255]]])
        >>> images[1] = 1
        >>> mixed, labels = ClassMix(classes=[1])(images, masks)
        >>> labels[0].tolist(), mixed[0, 0].tolist()
        ([[0, 0, 1, 0]], [[0.0, 0.0, 1.0, 0.0]])

    Source: Olsson et al. 2021, there half of the classes.
    """

    def __init__(
        self,
        share: float = 0.5,
        *,
        classes: Iterable[int] | None = None,
        p: float = 1.0,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        self.share = as_number("ClassMix", "share", share, 0, 1)
        self.classes = _labels("ClassMix", classes)
        super().__init__(p)
        self.ignore_index = ignore_index

    def region(self, donor_mask: Tensor, generator: torch.Generator | None) -> Tensor:
        """The pixels of the chosen classes."""
        labels = donor_mask.long()
        counted = (labels != self.ignore_index) & (labels >= 0) & (labels < LABELS)
        safe = labels.where(counted, LABELS)
        there = torch.zeros(len(labels), LABELS + 1, device=labels.device)
        there.scatter_(1, safe.flatten(1), 1.0)
        there[:, LABELS] = 0
        if self.classes is not None:
            allowed = torch.zeros(LABELS + 1, device=labels.device)
            allowed[list(self.classes)] = 1
            there = there * allowed
        # The classes that are there, in an order drawn by chance: the first of them are taken.
        drawn = torch.rand(there.shape, generator=generator, device=labels.device).where(there > 0, 2.0)
        rank = drawn.argsort(1).argsort(1)
        taken = (there > 0) & (rank < (there.sum(1, keepdim=True) * self.share).ceil())
        return taken.gather(1, safe.flatten(1)).reshape(safe.shape)


class CopyPaste(Mix):
    """Objects of the donor, pasted with their labels: connected pixels of one class, without instance labels.

    Args:
        classes: whose objects are pasted, the rare ones say; each label in [0, 256).
        share: probability that an object is pasted, in (0, 1].
        transform: moves the donor, image and mask, before its objects are looked for: an affine, a flip. It keeps the
            size. What it brings in from outside has the ignored label and is not pasted.
        smallest: objects of fewer pixels are not pasted.
        edge: width in pixels of the rim, inside each object, over which the donor fades in; 0 for a hard edge.
        ignore_edge: the rim gets the ignored label, as its pixels are neither the one nor the other.
        p: probability that a sample is mixed.
        ignore_index: label of pixels that count nowhere.

    Example:
        >>> image, mask = torch.zeros(1, 3, 4), torch.zeros(3, 4, dtype=torch.uint8)
        >>> donor = torch.ones(1, 3, 4), torch.tensor([[0, 0, 1, 1], [0, 0, 0, 1], [2, 0, 0, 0]], dtype=torch.uint8)
        >>> _, labels = CopyPaste([1], share=1.0)(image, mask, donor=donor)
        >>> labels.tolist()
        [[0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]]

    Source: Ghiasi et al. 2021, who paste instances; here objects hang together through sides and corners.
    """

    def __init__(
        self,
        classes: Iterable[int],
        *,
        share: float = 0.5,
        transform: Callable[..., Any] | None = None,
        smallest: int = 1,
        edge: float = 0.0,
        ignore_edge: bool = False,
        p: float = 1.0,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        self.classes = _labels("CopyPaste", classes)
        self.share = as_number("CopyPaste", "share", share, 0, 1)
        if transform is not None and not callable(transform):
            raise TypeError(f"CopyPaste: `transform` must be callable, got {transform!r}.")
        self.transform = transform
        self.smallest = as_whole("CopyPaste", "smallest", smallest, 1)
        self.edge = as_number("CopyPaste", "edge", edge, 0)
        self.ignore_edge = bool(ignore_edge)
        super().__init__(p)
        self.ignore_index = ignore_index
        if self.classes is not None and ignore_index in self.classes:
            raise ValueError(f"CopyPaste: `classes` must not hold the ignored label {ignore_index}. Leave it out.")

    def mix(
        self,
        image: Tensor,
        mask: Tensor,
        donor: Tensor,
        donor_mask: Tensor,
        hit: Tensor,
        generator: torch.Generator | None,
    ) -> tuple[Tensor, Any]:
        """Sample by sample: each donor moves by a draw of its own."""
        if self.transform is not None:
            moved = [self.transform(*pair, generator=generator) for pair in zip(donor, donor_mask, strict=True)]
            donor, donor_mask = (torch.stack(parts) for parts in zip(*moved, strict=True))
            if donor.shape != image.shape:
                raise ValueError(
                    f"CopyPaste: `transform` must keep the size {list(image.shape[-2:])}, got "
                    f"{list(donor.shape[-2:])}. Leave crops and resizes to the data set's own transform."
                )
        taken = self.region(donor_mask, generator) & hit[:, None, None]
        labels = torch.where(taken, donor_mask.to(mask.dtype), mask)
        if not self.edge:
            return torch.where(taken[:, None], donor, image), labels
        depth = torch.stack([torch.from_numpy(_depth(each)) for each in taken.cpu().numpy()]).to(image.device)
        weight = (depth / (self.edge + 1)).clamp(max=1)[:, None]
        if self.ignore_edge:
            labels = labels.masked_fill((depth > 0) & (depth <= self.edge), self.ignore_index)
        faded = image + (donor.float() - image.float()) * weight
        faded = faded if image.is_floating_point() else faded.round()
        return torch.where(weight == 1, donor, torch.where(weight == 0, image, faded.to(image.dtype))), labels

    def region(self, donor_mask: Tensor, generator: torch.Generator | None) -> Tensor:
        """The pixels of the chosen objects."""
        taken = np.zeros(donor_mask.shape, bool)
        for place, labels in enumerate(donor_mask.cpu().numpy()):
            for label in self.classes or ():
                count, parts, numbers, _ = cv2.connectedComponentsWithStats((labels == label).astype(np.uint8))
                if count == 1:
                    continue
                device = donor_mask.device if generator is not None else "cpu"
                drawn = torch.rand(count, generator=generator, device=device).cpu().numpy() < self.share
                drawn &= numbers[:, cv2.CC_STAT_AREA] >= self.smallest
                drawn[0] = False  # what is not of this class
                taken[place] |= drawn[parts]
        return torch.from_numpy(taken).to(donor_mask.device)


class MixUp(Mix):
    """Two pictures faded into each other, with a soft target: the share of each class at each pixel.

    Pass both to any loss: `loss(logits, target["mask"], pixel_weights=target["pixel_weights"])`.

    Args:
        num_classes: C; labels are in [0, C) or ignored.
        alpha: the share of the donor is drawn from Beta(alpha, alpha): small values mix little of one with the other.
        p: probability that a sample is mixed.
        ignore_index: label of pixels that count nowhere.

    Returns:
        The image, floating point, and {"mask": float32 [B, C, H, W], "pixel_weights": float32 [B, H, W]}: a pixel that
        is ignored in one of the two pictures that make it up has the weight 0.

    Example:
        >>> images, masks = torch.zeros(2, 1, 1, 2), torch.tensor([[[0, 0]], [[1, 255]]])
        >>> _, target = MixUp(2, alpha=1.0)(images, masks)
        >>> target["mask"].sum(1).round(decimals=5)[0].tolist(), target["pixel_weights"][0].tolist()
        ([[1.0, 1.0]], [[1.0, 0.0]])

    Source: Zhang et al. 2018, here at each pixel.
    """

    def __init__(
        self, num_classes: int, *, alpha: float = 0.2, p: float = 1.0, ignore_index: int = IGNORE_INDEX
    ) -> None:
        self.num_classes = as_size("MixUp", num_classes, "num_classes")[0]
        self.alpha = as_number("MixUp", "alpha", alpha, 1e-3)
        super().__init__(p)
        self.ignore_index = ignore_index
        self._shares = _beta_quantiles(self.alpha)

    def mix(
        self,
        image: Tensor,
        mask: Tensor,
        donor: Tensor,
        donor_mask: Tensor,
        hit: Tensor,
        generator: torch.Generator | None,
    ) -> tuple[Tensor, Any]:
        """A batch and its donors, faded where `hit` [B] says so."""
        place = torch.rand(len(image), generator=generator, device=image.device) * STEPS
        share = self._shares.to(image.device)[place.long().clamp(max=STEPS - 1)] * hit  # of the donor, [B]
        wide = image if image.is_floating_point() else image.float()
        by_sample = share.to(wide.dtype)[:, None, None, None]
        mixed = wide + (donor.to(wide.dtype) - wide) * by_sample
        if mask.device.type == "cpu":
            self._check_labels(mask, donor_mask)
        soft = torch.full((len(mask), self.num_classes, *mask.shape[1:]), 0.0, device=mask.device)
        counted = torch.ones_like(mask, dtype=torch.bool)
        for labels, part in ((mask, 1 - share), (donor_mask, share)):
            labels = labels.long()
            counts = labels != self.ignore_index
            counted = counted & (counts | (part == 0)[:, None, None])
            of_class = torch.arange(self.num_classes, device=mask.device)[:, None, None]
            soft += (labels[:, None] == of_class) * part[:, None, None, None]
        # A pixel that does not count still needs shares that add up to 1.
        soft = torch.where(counted[:, None], soft, 1 / self.num_classes)
        return mixed, {"mask": soft, "pixel_weights": counted.float()}

    def _check_labels(self, *masks: Tensor) -> None:
        for mask in masks:
            labels = mask.long()
            strange = labels[(labels != self.ignore_index) & ((labels < 0) | (labels >= self.num_classes))]
            if strange.numel():
                raise ValueError(
                    f"MixUp: labels must be in [0, {self.num_classes}) or {self.ignore_index} (ignored), got "
                    f"{torch.unique(strange)[:8].tolist()}. Remap them (segkit.labels.remap) or change num_classes."
                )


def _labels(name: str, classes: Iterable[int] | None) -> tuple[int, ...] | None:
    if classes is None:
        return None
    numbers = tuple(as_whole(name, "classes", number, 0, LABELS - 1) for number in classes)
    if not numbers:
        raise ValueError(f"{name}: `classes` must name at least one class, got none.")
    return numbers


def _depth(region: np.ndarray) -> np.ndarray:
    """How deep inside of the region each pixel lies: 1 at its rim, 0 outside. The picture's border is no rim."""
    if region.all():
        return np.full(region.shape, math.inf, np.float32)
    return cv2.distanceTransform(region.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def _beta_quantiles(alpha: float) -> Tensor:
    """Beta(alpha, alpha) at evenly spaced shares of its mass, float32 [STEPS]: a draw is an index.

    With x = sin(t)**2 the density in t is (sin t cos t)**(2 alpha - 1). Below alpha = 1/2 that is endless at both ends,
    which t = u**k, k = 1 / (2 alpha), takes away.
    """
    power = max(1.0, 1 / (2 * alpha))
    u = (np.arange(2**16) + 0.5) / 2**16
    t = np.pi / 4 * u**power  # the lower half; the upper is its mirror image
    mass = (np.sin(t) * np.cos(t)) ** (2 * alpha - 1) * u ** (power - 1)
    half = np.cumsum(mass) - mass / 2
    half *= 0.5 / mass.sum()
    wanted = (np.arange(STEPS // 2) + 0.5) / STEPS
    low = np.interp(wanted, half, np.sin(t) ** 2)
    return torch.from_numpy(np.concatenate([low, 1 - low[::-1]]).astype(np.float32))
