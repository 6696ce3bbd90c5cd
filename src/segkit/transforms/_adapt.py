"""Other people's transforms in our rows: a callable on images, albumentations, torchvision."""

from __future__ import annotations

import contextlib
import copy
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segkit import IGNORE_INDEX
from segkit.transforms._base import Pair, Transform
from segkit.transforms._resampling.chance import integer
from segkit.transforms._resampling.inputs import as_whole, check_fill


class OnImage(Transform):
    """A function of the image alone as a transform; the mask stays.

    Args:
        function: image [..., C, H, W] to an image of the same height and width. Random numbers that it takes from
            torch's global generator follow the `generator` of the call.

    Raises:
        ValueError: the function changed height or width, which would part image and mask.
        TypeError: it is a transform of torchvision that moves pixels.

    Example:
        >>> OnImage(torch.log1p)(torch.zeros(13, 4, 4)).shape
        torch.Size([13, 4, 4])
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        if not callable(function):
            raise TypeError(f"OnImage: `function` must be callable, got {function!r}.")
        for part in _parts(function):
            # torchvision says itself which of its transforms move pixels: by the file that they stand in.
            if type(part).__module__.startswith("torchvision.") and type(part).__module__.endswith("._geometry"):
                raise TypeError(
                    f"OnImage: `function` must change values only, got {type(part).__name__} of torchvision, which "
                    "moves the image and would leave its mask. Use FromTorchvision."
                )
        self.function = function

    def apply(self, image: Tensor, mask: Tensor | None, generator: torch.Generator | None) -> Pair:
        with _torch_draws_from(generator):
            changed = self.function(image)
        if not isinstance(changed, Tensor) or changed.shape[-2:] != image.shape[-2:]:
            got = list(changed.shape) if isinstance(changed, Tensor) else type(changed).__name__
            raise ValueError(
                f"OnImage: `function` must return an image of {list(image.shape[-2:])} pixels, got {got}. "
                "What moves pixels must move the mask too: use a transform for both."
            )
        return changed, mask


class FromAlbumentations(Transform):
    """A transform of albumentations (version 2) for tensors: masks nearest, the outside `mask_fill`.

    A copy of the transform is changed: every `mask_interpolation` becomes nearest and every `fill_mask` becomes
    `mask_fill` (a dropout that leaves the mask alone goes on doing so). A ToTensorV2 at its end is left out.

    Args:
        transform: an `albumentations.Compose`, or a single transform.
        mask_fill: value of mask pixels that come from outside.

    Takes one image [C, H, W] at a time (use `PerSample` for batches): uint8 and float32 as they are, other floating
    point through float32 and bool through uint8 and back, or 16-bit values held as int32 where the transform takes
    uint16. The mask may have any integer dtype with values below 256.

    Example:
        >>> import numpy as np
        >>> class Mirror:  # stands for albumentations.HorizontalFlip(p=1)
        ...     def __call__(self, image, mask):
        ...         return {"image": image[:, ::-1], "mask": mask[:, ::-1]}
        >>> FromAlbumentations(Mirror())(torch.arange(3.0).reshape(1, 1, 3), torch.tensor([[0, 1, 2]]))
        (tensor([[[2., 1., 0.]]]), tensor([[2, 1, 0]]))
    """

    moves = True

    def __init__(self, transform: Any, *, mask_fill: int = IGNORE_INDEX) -> None:
        if not callable(transform):
            raise TypeError(f"FromAlbumentations: `transform` must be callable, got {transform!r}.")
        self.transform = copy.deepcopy(transform)
        members = getattr(self.transform, "transforms", None)
        if isinstance(members, list) and members and type(members[-1]).__name__ == "ToTensorV2":
            self.transform.transforms = members[:-1]  # tensors come back anyway
        self.mask_fill = as_whole("FromAlbumentations", "mask_fill", mask_fill, 0, 255)
        for part in _parts(self.transform):
            if getattr(part, "fill_mask", None) is not None:
                part.fill_mask = self.mask_fill
            if hasattr(part, "mask_interpolation"):
                part.mask_interpolation = 0  # cv2.INTER_NEAREST

    def apply(self, image: Tensor, mask: Tensor | None, generator: torch.Generator | None) -> Pair:
        if image.ndim != 3:
            raise ValueError(
                f"FromAlbumentations: `image` must be one image [C, H, W], got {list(image.shape)}. "
                "Wrap it for batches: PerSample(FromAlbumentations(...))."
            )
        check_fill("FromAlbumentations", mask, self.mask_fill)
        if hasattr(self.transform, "set_random_seed"):  # with no generator by torch's: each worker has its own
            self.transform.set_random_seed(integer(2**31 - 1, generator))
        taken = (
            torch.float32 if image.is_floating_point() else torch.uint8 if image.dtype == torch.bool else image.dtype
        )
        arrays = {"image": np.ascontiguousarray(image.to("cpu", taken).numpy().transpose(1, 2, 0))}
        if image.dtype in (torch.int32, torch.int64):
            arrays["image"] = _narrow(arrays["image"], "image", np.uint16)
        if mask is not None:
            arrays["mask"] = _narrow(mask.cpu().numpy(), "mask", np.uint8)
        done = self.transform(**arrays)
        picture = done["image"] if done["image"].ndim == 3 else done["image"][..., None]
        changed = torch.from_numpy(_plain(picture.transpose(2, 0, 1))).to(image.device)
        if taken == torch.float32 or not changed.is_floating_point():
            changed = changed.to(image.dtype)
        if mask is None:
            return changed, None
        return changed, torch.from_numpy(_plain(done["mask"])).to(mask.device, mask.dtype)


class FromTorchvision(Transform):
    """A transform of torchvision.transforms.v2 for image and mask: masks nearest, the outside `mask_fill`.

    A copy of the transform is changed so that whatever fills a mask is `mask_fill`.

    Args:
        transform: a v2 transform or `v2.Compose`.
        mask_fill: value of mask pixels that come from outside.

    Raises:
        ImportError: torchvision is not installed, when the first image comes.

    Example:
        >>> mirror = FromTorchvision(torch.nn.Identity())  # stands for v2.RandomHorizontalFlip()
        >>> mirror
        FromTorchvision(transform=Identity(), mask_fill=255)
    """

    moves = True

    def __init__(self, transform: Any, *, mask_fill: int = IGNORE_INDEX) -> None:
        if not callable(transform):
            raise TypeError(f"FromTorchvision: `transform` must be callable, got {transform!r}.")
        self.transform = copy.deepcopy(transform)
        self.mask_fill = as_whole("FromTorchvision", "mask_fill", mask_fill)
        for part in _parts(self.transform):
            if isinstance(getattr(part, "_fill", None), dict):
                part._fill = {**part._fill, **dict.fromkeys(_mask_kinds(), 0)}

    def apply(self, image: Tensor, mask: Tensor | None, generator: torch.Generator | None) -> Pair:
        check_fill("FromTorchvision", mask, self.mask_fill)
        try:
            kinds = importlib.import_module("torchvision.tv_tensors")
        except ImportError as error:
            raise ImportError(
                "FromTorchvision: torchvision must be installed to run its transforms. "
                "Install the version that belongs to your torch."
            ) from error
        with _torch_draws_from(generator):
            if mask is None:
                return self.transform(kinds.Image(image)).as_subclass(Tensor), None
            # Some transforms fill masks with 0 whatever they are told: for them 0 and the fill change places.
            picture, labels = self.transform(kinds.Image(image), kinds.Mask(_exchanged(mask, self.mask_fill)))
        return picture.as_subclass(Tensor), _exchanged(labels.as_subclass(Tensor), self.mask_fill)


def _exchanged(mask: Tensor, fill: int) -> Tensor:
    """The mask with 0 where `fill` was, and the other way round."""
    return mask.masked_fill(mask == 0, fill).masked_fill_(mask == fill, 0)


def _mask_kinds() -> list[type]:
    """What torchvision calls a mask; nothing where it is not installed."""
    try:
        return [importlib.import_module("torchvision.tv_tensors").Mask]
    except ImportError:
        return []


def _parts(transform: Any) -> Iterator[Any]:
    """A transform and all that it is composed of."""
    yield transform
    inside = getattr(transform, "transforms", None)
    for part in inside if isinstance(inside, (list, tuple, torch.nn.ModuleList)) else ():
        yield from _parts(part)


@contextlib.contextmanager
def _torch_draws_from(generator: torch.Generator | None) -> Iterator[None]:
    """Within, torch's global generator gives what `generator` determines; afterwards it is as it was before."""
    if generator is None:
        yield
        return
    seed = integer(2**62, generator)
    state = torch.default_generator.get_state()
    try:
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        torch.default_generator.set_state(state)


def _narrow(array: np.ndarray, argument: str, dtype: type) -> np.ndarray:
    """The same integers in the narrow dtype that OpenCV takes."""
    top = np.iinfo(dtype).max
    if array.size and not (array.min() >= 0 and array.max() <= top):
        raise ValueError(
            f"FromAlbumentations: `{argument}` must hold values in [0, {top}], got {array.min()} to {array.max()}. "
            "Its transforms take no wider integers."
        )
    return np.ascontiguousarray(array.astype(dtype))


def _plain(array: np.ndarray) -> np.ndarray:
    """In memory order, and in a dtype that torch computes with."""
    return np.ascontiguousarray(array.astype(np.int32) if array.dtype == np.uint16 else array)
