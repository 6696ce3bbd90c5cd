"""From a scene and a network to a mask file."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, Literal

import torch
from torch import Tensor, nn

from segkit.datasets import GridDataset
from segkit.io import open_image
from segkit.transforms import CropBox, CropMerger, GridCrop

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
    """Write what the network says of a scene, however large, as a tiled TIFF that appears when it is whole.

    Memory is that of a few batches and of the overlaps of one row of windows. Windows are read, predicted and merged
    side by side. Run again after a stop, of whatever kind, it goes on where it was and gives the same bytes; a network
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
        tta: further views of each window, whose logits are turned back and averaged with its own: any of "flip",
            "flip_vertical", "rotate90", "rotate180", "rotate270".
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
    with open_image(path) as handle:
        wide = max(handle.info.height, handle.info.width)
    crop = GridCrop(size, overlap)
    # Of each row of windows every block of the file is decoded once.
    rows = GridDataset([path], (crop.size[0], max(wide, crop.size[1])), overlap=overlap)
    scene = rows.scenes[0]
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
            images = _windows(rows, boxes[first:], transform)
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
    images: Iterator[Tensor],
    size: tuple[int, int],
    batch_size: int,
    *,
    device: str | torch.device,
    tta: Sequence[str],
) -> Iterator[Tensor]:
    """The logits of each batch; while one is merged the network is at the next."""

    @torch.no_grad()  # each thread has a switch of its own
    def predict(batch: Tensor) -> Tensor:
        height, width = batch.shape[-2:]
        below, beside = size[0] - height, size[1] - width
        batch = batch.to(device)
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
            following = worker.submit(predict, torch.stack(batch) if len(batch) > 1 else batch[0][None])
            if ahead is not None:
                yield ahead.result()
            ahead = following
        if ahead is not None:
            yield ahead.result()


def _windows(
    rows: GridDataset, boxes: Sequence[CropBox], transform: Callable[[Tensor], Tensor] | None
) -> Iterator[Tensor]:
    """The windows one after the other; the row of windows that comes next is read meanwhile."""
    number = {rows.box(index)[0]: index for index in range(len(rows))}
    with ThreadPoolExecutor(1) as reader:
        wanted = iter(dict.fromkeys(number[box.top] for box in boxes))
        following = reader.submit(rows.__getitem__, next(wanted, 0))
        here: dict[str, Any] = {"box": None}
        for top, left, _, width, _ in boxes:
            if here["box"] is None or here["box"][0] != top:
                here = following.result()
                index = next(wanted, None)
                if index is not None:
                    following = reader.submit(rows.__getitem__, index)
            window = here["image"][:, :, left : left + width]
            changed = window if transform is None else transform(window)
            if not isinstance(changed, Tensor) or changed.shape[-2:] != window.shape[-2:]:
                got = list(changed.shape) if isinstance(changed, Tensor) else type(changed).__name__
                raise ValueError(
                    f"predict_scene: `transform` must return a tensor [C, {window.shape[-2]}, {window.shape[-1]}], as "
                    f"large as the window, got {got}. Give it what changes values only, such as Normalize."
                )
            yield changed


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
