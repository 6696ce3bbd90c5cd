"""Every transform of the room, made once, for the laws that hold for all: a new one is under them without being named.

A transform is made with its defaults, and with `SIZE` if it is sized. What needs other arguments, or fewer pixels than
the laws' pictures of 23 x 27 have to show what it does, is made here.
"""

from __future__ import annotations

import inspect

import torch

from segkit import transforms as T

SIZE = (15, 18)
MADE = {
    T.Resize: T.Resize((29, 20)),
    T.RandomResizedCrop: T.RandomResizedCrop(24),
    T.PadTo: T.PadTo((40, 36), center=True),
    T.PadToMultiple: T.PadToMultiple(16),
    T.RandomScale: T.RandomScale((0.6, 1.7)),
    T.RandomAffine: T.RandomAffine(40, translate=0.2, scale=(0.7, 1.5), shear=10),
    T.RandomPerspective: T.RandomPerspective(0.2),
    T.ElasticDeform: T.ElasticDeform(2.0, spacing=9),
    T.GridCrop: T.GridCrop(11, 3),
    T.FiveCrop: T.FiveCrop((13, 16)),
    T.TenCrop: T.TenCrop((13, 16)),
    T.ResizeKeepRatio: T.ResizeKeepRatio(30, longest=34),
    T.RotateInside: T.RotateInside(20),
    T.Normalize: T.Normalize(0.5, 0.25),
    T.OnImage: T.OnImage(torch.zeros_like),
    T.OneOf: T.OneOf([T.RandomAffine(40), T.ColorJitter(), T.RandomCrop(SIZE)], weights=[2, 1, 1]),
    T.SomeOf: T.SomeOf([T.HorizontalFlip(), T.RandomAffine(40), T.GaussianNoise(), T.RandomCrop(SIZE)], n=(1, 3)),
    T.Maybe: T.Maybe(T.Compose([T.RandomScale((0.6, 1.7)), T.Rotate90()])),
}
# Adapters have tests of their own, with the library or a stand-in; a Compose has the laws of its members.
ELSEWHERE = {T.Transform, T.GeometricTransform, T.Compose, T.FromAlbumentations, T.FromTorchvision}
CLASSES = {
    name: thing
    for name in T.__all__
    if inspect.isclass(thing := getattr(T, name)) and issubclass(thing, T.Transform) and thing not in ELSEWHERE
}


def made(kind: type[T.Transform]) -> T.Transform:
    return MADE[kind] if kind in MADE else kind(SIZE) if kind.sized else kind()


def can_be_made(kind: type[T.Transform]) -> bool:
    try:
        made(kind)
    except TypeError:
        return False
    return True


TRANSFORMS = {name: made(kind) for name, kind in CLASSES.items() if can_be_made(kind)}
MOVING = {name: t for name, t in TRANSFORMS.items() if isinstance(t, T.GeometricTransform) or hasattr(t, "geometry")}
VALUES = {name: t for name, t in TRANSFORMS.items() if name not in MOVING and not hasattr(t, "choose")}
