"""From a scene and a network to a mask file."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from segkit.datasets import GridDataset
from segkit.errors import DataError
from segkit.io import ImageHandle, open_image, to_tensor
from segkit.transforms import CropBox, CropMerger, GridCrop

TILES = 512  # rows; the tiles of most files are as high, or half or a quarter of it

# Each view of a window, and the way back: flips and turns by index, exact.
VIEWS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "flip": (lambda x: x.flip(-1), lambda x: x.flip(-1)),
    "flip_vertical": (lambda x: x.flip(-2), lambda x: x.flip(-2)),
    "rotate90": (lambda x: x.rot90(1, (-2, -1)), lambda x: x.rot90(-1, (-2, -1))),
    "rotate180": (lambda x: x.rot90(2, (-2, -1)), lambda x: x.rot90(2, (-2, -1))),
    "rotate270": (lambda x: x.rot90(-1, (-2, -1)), lambda x: x.rot90(1, (-2, -1))),
}


@torch.no_grad()
def predict_scene(
    network: Callable[[Tensor], Tensor],
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    size: int | tuple[int, int],
    overlap: int | float = 0.25,
    batch_size: int = 8,
    device: str | torch.device | None = None,
    transform: Callable[[Tensor], Tensor] | None = None,
    tta: Sequence[str] = (),
    blend: Literal["gaussian", "mean"] = "gaussian",
    keep: Literal["argmax", "probabilities", "logits"] = "argmax",
    progress: bool = True,
) -> str:
    """Write what the network makes of a scene, however large, as a tiled TIFF that appears when it is complete.

    Memory is that of a few batches and of the overlaps of one row of windows. Windows are read, predicted and merged
    side by side. Run again after a stop, of whatever kind, it resumes where it was and gives the same bytes; a network
    with other weights begins anew.

    Args:
        network: takes images [B, C, h, w], returns logits [B, classes, h, w], or smaller by a whole factor. A module is
            put into `eval()` for the time.
        path: the scene. A tiled TIFF reads fast; others can be made one with ``segkit tile``.
        out: a path ending in .tif or .tiff. It gets the resolution and georeference of a scene that is a TIFF.
        size: (height, width) of a window in pixels; an int is a square.
        overlap: how much neighbours share at least: an int is a number of pixels, a float a fraction of the side.
        batch_size: windows at a time; with `tta` each of them several times, one view after the other.
        device: where the network is; None: where its parameters are, or the CPU.
        transform: called on each window, [C, h, w] float32 in [0, 1], as in training, `Normalize(mean, std)` for
            instance. It must not move pixels.
        tta: test-time augmentation: further views of each window, whose logits are turned back and averaged with its
            own: any of "flip", "flip_vertical", "rotate90", "rotate180", "rotate270".
        blend: "gaussian" or "mean", as in `transforms.merge_crops`.
        keep: what is written: the class of each pixel ("argmax"), or float channels of "probabilities" or "logits".
        progress: show a bar, if standard error is a terminal.

    Returns:
        The path of the file.

    Raises:
        ImageReadError: the scene cannot be read.
        ImageWriteError: the file cannot be written, or another process is writing it.
        TypeError: the network returns no tensor.
        ValueError: an argument is out of range, or the logits do not belong to the windows.

    Example:
        >>> import numpy as np
        >>> from segkit.io import read_mask, write_image
        >>> write_image("slide.tif", np.full((50, 60, 3), 255, np.uint8))
        >>> dark = lambda image: torch.cat([image.mean(1, keepdim=True), torch.full_like(image[:, :1], 0.5)], 1)
        >>> int(read_mask(predict_scene(dark, "slide.tif", "map.tif", size=32, progress=False)).max())
        0
    """
    from tqdm import tqdm

    if isinstance(tta, str) or not isinstance(tta, Iterable) or not set(tta) <= set(VIEWS):
        raise ValueError(f"predict_scene: `tta` must be a list of some of {list(VIEWS)}, got {tta!r}.")
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"predict_scene: `batch_size` must be an int of at least 1, got {batch_size!r}.")
    crop = GridCrop(size, overlap)
    scene = GridDataset([path], crop.size).scenes[0]
    boxes = crop.geometry(scene, size=(min(crop.size[0], scene[0]), min(crop.size[1], scene[1])))
    module = network if isinstance(network, nn.Module) else nn.Module()
    if device is None:
        device = next((tensor.device for tensor in module.parameters()), torch.device("cpu"))
    merger = CropMerger(
        boxes, scene, blend=blend, keep=keep, out=out, scene=path, tag=_tag(module, path, transform, tta)
    )
    left = len(merger.missing)
    training = module.training
    module.eval()
    try:
        with tqdm(
            total=len(boxes), initial=len(boxes) - left, unit="window", disable=None if progress else True
        ) as bar:
            # Whole batches as they were before a stop: its neighbours in a batch may change the last bit of a logit.
            first = (len(boxes) - left) // batch_size * batch_size if left else len(boxes)
            images = _windows(path, boxes[first:], transform)
            for logits in _logits(network, images, crop.size, batch_size, device=device, tta=tta):
                merger.add(logits, boxes[first : first + batch_size])
                first += batch_size
                bar.update(len(logits))
        return str(merger.finish())
    finally:
        merger.close()
        module.train(training)


def _logits(
    network: Callable[[Tensor], Tensor],
    images: Iterator[Callable[[], Tensor]],
    size: tuple[int, int],
    batch_size: int,
    *,
    device: str | torch.device,
    tta: Sequence[str],
) -> Iterator[Tensor]:
    """The logits of each batch; while one is merged the network is at the next."""

    @torch.no_grad()  # each thread has a switch of its own
    def predict(windows: Sequence[Callable[[], Tensor]]) -> Tensor:
        tensors = [window() for window in windows]
        batch = (torch.stack(tensors) if len(tensors) > 1 else tensors[0][None]).to(device)
        height, width = batch.shape[-2:]
        below, beside = size[0] - height, size[1] - width
        if below or beside:  # a scene smaller than a window is continued by its edge: networks need their size
            batch = nn.functional.pad(batch, (0, beside, 0, below), mode="replicate")
        logits = _one_tensor(network(batch))
        if tta:
            views = [VIEWS[view][1](_one_tensor(network(VIEWS[view][0](batch)))) for view in tta]
            logits = torch.stack([logits, *views]).mean(0)
        if below or beside:
            logits = nn.functional.interpolate(logits, size, mode="bilinear")[..., :height, :width]
        return logits

    with ThreadPoolExecutor(1) as worker:
        ahead: Future[Tensor] | None = None
        while batch := list(islice(images, batch_size)):
            following = worker.submit(predict, batch)
            if ahead is not None:
                yield ahead.result()
            ahead = following
        if ahead is not None:
            yield ahead.result()


def _windows(
    path: str | os.PathLike[str], boxes: Sequence[CropBox], transform: Callable[[Tensor], Tensor] | None
) -> Iterator[Callable[[], Tensor]]:
    """What makes the windows one after the other; the rows that come next are read meanwhile.

    Rows are held as the file has them, a quarter of the memory of floats, and every block of it is decoded once.
    """
    tops = iter(dict.fromkeys(box.top for box in boxes))
    with open_image(path) as handle, ThreadPoolExecutor(1) as reader:
        info = handle.info
        rows = _Rows(handle, -1, np.empty(0))
        following = reader.submit(rows.moved, next(tops, 0), boxes[0].height) if boxes else None
        for top, left, height, width, _ in boxes:
            if following is not None and rows.top != top:
                rows = following.result()
                after = next(tops, None)
                following = None if after is None else reader.submit(rows.moved, after, height)
            yield partial(
                _window, rows.pixels[:height, left : left + width], os.fspath(path), info.value_bits, transform
            )


class _Rows(NamedTuple):
    """Rows [top, top + n) of an open scene, [n, W, C] as stored."""

    handle: ImageHandle
    top: int
    pixels: np.ndarray

    def moved(self, top: int, height: int) -> _Rows:
        """Those from `top` on, `height` of them or more: what is read ends where a row of tiles does."""
        end = self.top + len(self.pixels)
        start = max(top, end)
        held = self.pixels[top - self.top :] if top < end else None
        if held is not None and len(held) >= height:
            return _Rows(self.handle, top, held)
        info = self.handle.info
        rows, columns = info.upright_size
        stop = min(rows, -(-(top + height) // TILES) * TILES)
        fresh = self.handle.read(window=(start, 0, stop - start, columns), page=0, orientation="apply")
        return _Rows(self.handle, top, fresh if held is None else np.concatenate([held, fresh]))


def _window(pixels: np.ndarray, path: str, bits: int | None, transform: Callable[[Tensor], Tensor] | None) -> Tensor:
    try:
        window = to_tensor(pixels, bits=bits)
    except ValueError as error:
        raise DataError(f"predict_scene: {path!r}: {error}") from error
    changed = window if transform is None else transform(window)
    if not isinstance(changed, Tensor) or changed.shape[-2:] != window.shape[-2:]:
        got = list(changed.shape) if isinstance(changed, Tensor) else type(changed).__name__
        raise ValueError(
            f"predict_scene: `transform` must return a tensor [C, {window.shape[-2]}, {window.shape[-1]}], as "
            f"large as the window, got {got}. Pass one that changes only values, such as Normalize."
        )
    return changed


def _one_tensor(output: Any) -> Tensor:
    if not isinstance(output, Tensor):
        raise TypeError(
            f"predict_scene: `network` must return a tensor of logits, got {type(output).__name__}. Pass a function "
            "that picks the one that counts: lambda images: network(images)['out'], with device= and network.eval()."
        )
    return output


def _tag(module: nn.Module, path: str | os.PathLike[str], transform: object, tta: Sequence[str]) -> str:
    """Of what the file is made, as far as it can be told: a run goes on only with a part of the same."""
    weights = 0
    for name, tensor in sorted(module.state_dict().items()):
        data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        weights = zlib.crc32(data, zlib.crc32(name.encode(), weights))
    scene = f"{os.stat(path).st_mtime_ns} {os.stat(path).st_size}" if os.path.exists(path) else os.fspath(path)
    how = repr(transform)
    return f"{weights:08x} {scene} {list(tta)} {'' if ' at 0x' in how else how}"  # an address changes at each start
