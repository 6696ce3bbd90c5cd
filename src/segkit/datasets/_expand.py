"""Offline expansion: write several augmented copies of each pair, once, and be able to stop at any moment."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segkit._tasks import map_in_chunks
from segkit.datasets._dataset import PairDataset
from segkit.datasets._pairs import Pair
from segkit.datasets._reading.reading import Reading, files_of, read_sample
from segkit.datasets._reading.transform import check_transform
from segkit.errors import DataError
from segkit.io import write_image, write_mask

if TYPE_CHECKING:
    from torch import Tensor

_MANIFEST = "manifest.jsonl"


def expand_dataset(
    pairs: Sequence[tuple[str | os.PathLike[str], str | os.PathLike[str]]],
    transform: Callable[..., Any],
    out: str | os.PathLike[str],
    *,
    copies: int,
    seed: int,
    executor: Executor | None = None,
    progress: bool = True,
) -> list[Pair]:
    """Write `copies` augmented versions of each pair into `out`, with a manifest that says how each was made.

    A copy is a pure function of (seed, position of the pair, number of the copy): the files are the same, byte for
    byte, for any executor and any number of workers. Files appear whole or not at all, so a run that was killed is
    resumed by the same call: what is there is not made again.

    Args:
        pairs: (image, mask) paths, as `find_pairs` gives them.
        transform: called ``transform(image, mask, generator=...)`` on unscaled tensors (uint8, or int32 for wider
            integers) and has to keep integers: leave ToTensor and Normalize to the training. May return crop stacks
            [K, C, h, w], [K, h, w]: each crop becomes a pair. Has to pickle, and to have a `repr` that tells its
            parameters.
        out: a folder, created if missing: ``images/``, ``masks/`` and ``manifest.jsonl``.
        copies: versions of each pair, at least 1. A later call with more copies adds the missing ones.
        seed: any integer.
        executor: where to run, any `concurrent.futures.Executor`; a pool of processes, one per CPU, when None.
        progress: show a bar, if standard error is a terminal.

    Returns:
        The new pairs, in the order of `pairs`. PNG where it can hold the image, TIFF otherwise (13 bands, floats).

    Raises:
        DataError: `out` holds an expansion with another seed, transform or other pairs; or a worker was killed.
        TypeError: the transform turned integers into floats.
        ImageReadError: a source cannot be read. What was written stays; leave the file out by `audit_dataset` first.

    Example:
        >>> write_image("a.png", np.zeros((4, 4, 3), np.uint8))
        >>> write_mask("a_mask.png", np.zeros((4, 4), np.uint8))
        >>> def mirror(image, mask, *, generator=None):
        ...     return image.flip(-1), mask.flip(-1)
        >>> new = expand_dataset([("a.png", "a_mask.png")], mirror, "more", copies=2, seed=0, progress=False)
        >>> len(new), os.path.basename(new[1].image)
        (2, '000000_a_001.png')
    """
    if copies < 1:
        raise ValueError(f"expand_dataset: `copies` must be at least 1, got {copies}.")
    folder = Path(out)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    header = {"format": 1, "seed": seed, "transform": _description(transform)}
    check_transform("expand_dataset", transform)
    dataset = PairDataset(pairs)
    sources = [dataset.pair(i) for i in range(len(dataset))]
    done = _read_manifest(folder, header, sources)
    for half_written in folder.glob("[im]*s/.[0-9]*_*.tmp"):  # by a run that was killed
        half_written.unlink(missing_ok=True)
    tasks = [(i, k) for i in range(len(sources)) for k in range(copies) if (i, k) not in done]

    manifest = folder / _MANIFEST
    if not done:
        _write_whole(manifest, [header])
    make = functools.partial(_make_copies, transform=transform, folder=str(folder), seed=seed)
    jobs = [(sources[i], i, k) for i, k in tasks]
    lost = []
    with manifest.open("a", encoding="utf-8") as lines:
        for results in map_in_chunks(
            make,
            jobs,
            on_lost=_lost,
            executor=executor,
            progress=progress,
            describe="expand",
            unit="copy",
            chunk_size=8,
        ):
            for entry in results:
                if isinstance(entry, Exception):
                    raise entry
                if "reason" in entry:
                    lost.append(entry)
                    continue
                done[entry["pair"], entry["copy"]] = entry
                lines.write(json.dumps(entry) + "\n")
            lines.flush()
    if lost:
        first = lost[0]
        more = f", and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise DataError(
            f"expand_dataset: all copies must be made, got {len(lost)} lost: copy {first['copy']} of "
            f"{first['source'][0]!r} ({first['reason']}){more}. {len(done)} copies are written: make the same call "
            "again to go on, with executor=ThreadPoolExecutor(1) if memory is short."
        )
    entries = [done[key] for key in sorted(done)]
    _write_whole(manifest, [header, *entries])
    return [Pair(str(folder / i), str(folder / m)) for e in entries if e["copy"] < copies for i, m in e["files"]]


def _make_copies(
    jobs: list[tuple[Pair, int, int]], transform: Callable[..., Any], folder: str, seed: int
) -> list[dict | Exception]:
    """What each job gave; an error as it is, so that it keeps its kind on the way from a worker."""
    results: list[dict | Exception] = []
    for source, position, copy in jobs:
        try:
            results.append(_make_copy(source, transform, folder, seed, position, copy))
        except Exception as error:
            results.append(error)
    return results


def _lost(job: tuple[Pair, int, int], reason: str) -> list[dict | Exception]:
    source, position, copy = job
    return [{"pair": position, "copy": copy, "source": list(source), "reason": reason}]


def _make_copy(source: Pair, transform: Callable[..., Any], folder: str, seed: int, position: int, copy: int) -> dict:
    import torch

    with Reading("expand_dataset", scale=False).open(files_of(source.image), files_of(source.mask)) as opened:
        before, labels = read_sample(opened, None, {})
        info, top = opened.info, opened.top
    # Three words, always: a hash mixes them, so that neighbouring pairs and copies share nothing.
    state = np.random.SeedSequence([seed % 2**64, position, copy]).generate_state(1, np.uint64)[0]
    generator = torch.Generator().manual_seed(int(state >> np.uint64(1)))
    image, mask = transform(before, labels, generator=generator)
    if image.is_floating_point() and not before.is_floating_point():
        raise TypeError(
            f"expand_dataset: `transform` must keep the integers of {source.image!r}, got {image.dtype}. "
            "Leave out ToTensor and Normalize: they belong in the training."
        )
    stem = f"{position:06d}_{Path(files_of(source.image)[0]).stem}_{copy:03d}"
    crops = [(stem, image, mask)]
    if image.ndim == 4:
        crops = [(f"{stem}_{k}", image[k], mask[k]) for k in range(len(image))]
    kind = np.dtype(info.dtype), top
    files = [_write_pair(Path(folder), name, picture, labels, *kind) for name, picture, labels in crops]
    return {"pair": position, "copy": copy, "source": _listed(source), "files": files}


def _listed(source: Pair) -> list[Any]:
    """Both sides as JSON gives them back: a path, or a list of several."""
    return [files if isinstance(files, str) else list(files) for files in source]


def _write_pair(folder: Path, stem: str, image: Tensor, mask: Tensor, dtype: np.dtype, top: int | None) -> list[str]:
    pixels = np.ascontiguousarray(image.movedim(0, -1).numpy())
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        high = info.max if top is None or dtype.kind == "i" else top
        if high < info.max:  # a file of 12 bits: what is written fills 16, so that 1 stays as bright as it was
            pixels = np.rint(pixels.clip(0, high) * (info.max / high))
        pixels = pixels.clip(info.min, info.max).astype(dtype)
    labels = mask.numpy()
    if labels.dtype.itemsize > 2 and labels.min(initial=0) >= 0 and labels.max(initial=0) < 2**16:
        labels = labels.astype(np.uint16)
    png = pixels.dtype in (np.uint8, np.uint16) and pixels.shape[-1] in (1, 3, 4)
    names = [f"images/{stem}.{'png' if png else 'tif'}", f"masks/{stem}.{'png' if labels.dtype.kind == 'u' else 'tif'}"]
    write_image(folder / names[0], pixels)
    write_mask(folder / names[1], labels)
    return names


def _description(transform: Callable[..., Any]) -> str:
    """What the manifest says of the transform. The default repr holds an address, which differs from run to run."""
    text = repr(transform)
    return getattr(transform, "__qualname__", type(transform).__qualname__) if " at 0x" in text else text


def _read_manifest(folder: Path, header: dict, sources: list[Pair]) -> dict[tuple[int, int], dict]:
    """The copies that are there already: (position, copy) → entry."""
    path = folder / _MANIFEST
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    before = _parsed(lines[0]) if lines else None
    if before != header:
        raise DataError(
            f"expand_dataset: `out` must be empty or hold the same expansion, got {str(path)!r} of {before}, "
            f"not {header}. Pass another folder, or delete this one."
        )
    done = {}
    for entry in filter(None, map(_parsed, lines[1:])):  # the last line of a killed run may be cut off
        i = entry["pair"]
        if i >= len(sources) or _listed(sources[i]) != entry["source"]:
            raise DataError(
                f"expand_dataset: `pairs` must be those of the expansion in {str(path)!r}, where number {i} "
                f"(counting from 0) was {entry['source'][0]!r}. Pass the same pairs, or another folder."
            )
        if all((folder / name).exists() for names in entry["files"] for name in names):
            done[i, entry["copy"]] = entry
    return done


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _write_whole(path: Path, rows: list[dict]) -> None:
    """All rows or the file as it was."""
    new = path.with_name(path.name + ".new")
    new.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    os.replace(new, path)
