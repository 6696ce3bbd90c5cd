"""How image and mask change together: any number of channels, resampled once.

A transform is called as ``t(image, mask=None, *, generator=None)`` with an image ``[..., C, H, W]`` and an integer mask
``[..., H, W]`` and returns what it was given. Its parameters are drawn once per call and hold for both. The image is
bilinear, the mask nearest, and what comes in from outside is ``IGNORE_INDEX`` in the mask.

Example:
    >>> import torch
    >>> from segkit.transforms import Compose, HorizontalFlip, RandomCrop
    >>> augment = Compose([HorizontalFlip(), RandomCrop(32)])
    >>> image, mask = augment(torch.rand(3, 64, 64), torch.zeros(64, 64, dtype=torch.uint8))
    >>> image.shape, mask.shape
    (torch.Size([3, 32, 32]), torch.Size([32, 32]))
"""

from __future__ import annotations

from segkit.transforms import functional
from segkit.transforms._adapt import FromAlbumentations, FromTorchvision, OnImage
from segkit.transforms._base import GeometricTransform, Transform
from segkit.transforms._color import CLAHE, ColorJitter, Cutout, GaussianBlur, GaussianNoise, RandomGamma
from segkit.transforms._compose import Compose, Maybe, OneOf, SomeOf
from segkit.transforms._crops import CropBox, FiveCrop, GridCrop, TenCrop
from segkit.transforms._drawn import Drawn
from segkit.transforms._flip import HorizontalFlip, Rotate90, VerticalFlip
from segkit.transforms._merge import CropMerger, merge_crops, stack_crops, unstack_crops
from segkit.transforms._mix import ClassMix, CopyPaste, CutMix, MixUp
from segkit.transforms._per_sample import PerSample
from segkit.transforms._plan import Plan
from segkit.transforms._resampling.geometry import Geometry
from segkit.transforms._size import CenterCrop, PadTo, PadToMultiple, RandomCrop, Resize, ResizeKeepRatio
from segkit.transforms._targets import BorderWeights, ComponentRegions, DistanceMaps, SkeletonTarget
from segkit.transforms._values import Normalize, ToTensor
from segkit.transforms._warp import (
    ElasticDeform,
    RandomAffine,
    RandomPerspective,
    RandomResizedCrop,
    RandomScale,
    RotateInside,
)

__all__ = [
    "BorderWeights",
    "CLAHE",
    "CenterCrop",
    "ClassMix",
    "ColorJitter",
    "ComponentRegions",
    "Compose",
    "CopyPaste",
    "CropBox",
    "CropMerger",
    "CutMix",
    "Cutout",
    "DistanceMaps",
    "Drawn",
    "ElasticDeform",
    "FiveCrop",
    "FromAlbumentations",
    "FromTorchvision",
    "GaussianBlur",
    "GaussianNoise",
    "GeometricTransform",
    "Geometry",
    "GridCrop",
    "HorizontalFlip",
    "Maybe",
    "MixUp",
    "Normalize",
    "OnImage",
    "OneOf",
    "PadTo",
    "PadToMultiple",
    "PerSample",
    "Plan",
    "RandomAffine",
    "RandomCrop",
    "RandomGamma",
    "RandomPerspective",
    "RandomResizedCrop",
    "RandomScale",
    "Resize",
    "ResizeKeepRatio",
    "Rotate90",
    "RotateInside",
    "SkeletonTarget",
    "SomeOf",
    "TenCrop",
    "ToTensor",
    "Transform",
    "VerticalFlip",
    "functional",
    "merge_crops",
    "stack_crops",
    "unstack_crops",
]
