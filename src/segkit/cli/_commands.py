"""What the commands do. This file is loaded only when a command runs, and each loads only what it needs."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

from segkit.errors import DataError, SegkitError


def audit(arguments: argparse.Namespace) -> int:
    """``segkit audit``."""
    from segkit.audit import audit_dataset

    report = audit_dataset(
        arguments.images,
        arguments.masks,
        num_classes=arguments.num_classes,
        ignore_index=arguments.ignore_index,
        colors=_colors(arguments.colors),
        splits=_splits(arguments.splits),
        pattern=arguments.pattern,
        progress=not arguments.quiet,
    )
    if arguments.html:
        report.to_html(arguments.html)
    if arguments.list_clean:
        _write_pairs(arguments.list_clean, report.clean_pairs())
    _put_out(arguments.json, report.to_json, lambda: _print_report(report))
    return 1 if any(finding.severity != "info" for finding in report.findings) else 0


def stats(arguments: argparse.Namespace) -> int:
    """``segkit stats``."""
    from segkit.stats import class_weights, dataset_statistics

    statistics = dataset_statistics(
        _pairs(arguments.images, arguments.masks, arguments.pattern),
        num_classes=arguments.num_classes,
        ignore_index=arguments.ignore_index,
        colors=_colors(arguments.colors),
        progress=not arguments.quiet,
    )
    for path, reason in statistics.skipped[:20]:
        print(f"segkit: {_printable(path)} is left out: {_printable(reason)}", file=sys.stderr)

    def show() -> None:
        dtype, channels = statistics.kind or ("", 0)
        print(f"{statistics.images} images, {channels} channels of {dtype}")
        sizes = sorted(statistics.sizes.items(), key=lambda entry: (-entry[1], entry[0]))
        print(
            "sizes    " + ", ".join(f"{h} x {w}: {count}" for (h, w), count in sizes[:6]) + ", ..." * (len(sizes) > 6)
        )
        print(f"{'channel':>8} {'mean':>12} {'std':>12} {'min':>10} {'1%':>10} {'50%':>10} {'99%':>10} {'max':>10}")
        columns = [statistics.mean, statistics.std, statistics.min]
        columns += [statistics.percentile(q) for q in (1, 50, 99)] + [statistics.max]
        for channel in range(channels):
            mean, std, *others = (column[channel] for column in columns)
            print(f"{channel:>8} {mean:>12.6g} {std:>12.6g} " + " ".join(f"{value:>10.6g}" for value in others))
        pixels = statistics.class_pixels
        if pixels.sum():
            weights = class_weights(pixels, arguments.scheme).tolist()
            print(f"{'class':>8} {'share':>12} {'images':>12} {'weight':>10}")
            for label, (count, images) in enumerate(zip(pixels, statistics.class_images, strict=True)):
                print(f"{label:>8} {count / pixels.sum():>12.4%} {images:>12} {weights[label]:>10.4g}")

    _put_out(arguments.json, statistics.to_json, show)
    if statistics.images == 0:
        raise DataError(f"stats: none of the {len(statistics.skipped)} files could be counted. Run segkit audit.")
    return 1 if statistics.skipped else 0


def info(arguments: argparse.Namespace) -> int:
    """``segkit info``."""
    from segkit.io import explain_backends, image_info

    worst = 0
    for path in arguments.files:
        try:
            header, backends = image_info(path), explain_backends(path)
        except (SegkitError, OSError, ValueError) as error:
            print(f"segkit: {one_line(error)}", file=sys.stderr)
            worst = 2
            continue
        if arguments.json:
            names = ["format", "height", "width", "channels", "bits_per_sample", "photometric", "planar", "tiled"]
            names += ["compression", "pages", "levels", "orientation"]
            facts = {name: getattr(header, name) for name in names}
            facts["backends"] = [name for name, reads, _ in backends if reads]
            facts["refused"] = {name: reason for name, reads, reason in backends if not reads}
            print(json.dumps({"path": path, "dtype": str(header.dtype), **facts}))
            continue
        parts = [f"{header.format} {header.height} x {header.width} x {header.channels} {header.dtype}"]
        parts += [f"{header.bits_per_sample} bits", str(header.photometric), f"compression {header.compression}"]
        parts += ["tiled"] * bool(header.tiled) + ["planar"] * bool(header.planar)
        parts += [f"{header.pages} pages"] * (header.pages > 1) + [f"{header.levels} levels"] * (header.levels > 1)
        parts += [f"EXIF orientation {header.orientation}"] * (header.orientation != 1)
        print(f"{_printable(path)}: {', '.join(parts)}")
        print(f"  read exactly by {', '.join(name for name, reads, _ in backends if reads) or 'no backend'}")
        for name, reads, reason in backends:
            if not reads:
                print(f"  not by {name}: {_printable(reason)}")
    return worst


def convert_masks(arguments: argparse.Namespace) -> int:
    """``segkit convert-masks``."""
    from segkit.io import read_mask, write_mask
    from segkit.labels import remap

    colors = _colors(arguments.colors)
    mapping = _mapping(arguments.map)
    if colors is None and not mapping:
        raise DataError("convert-masks: needs --colors FILE or --map OLD=NEW, got neither. See --help.")
    top = arguments.source if os.path.isdir(arguments.source) else os.path.dirname(arguments.source)
    paths = _images_of(arguments.source if os.path.isdir(arguments.source) else [arguments.source])
    failed = 0
    for path in paths:
        try:
            mask = read_mask(path, colors=colors)
            if mapping:
                mask = remap(mask, mapping, unmapped="keep")
            stem = os.path.splitext(os.path.relpath(path, top))[0]
            suffix = ".png" if mask.dtype.itemsize <= 2 and mask.dtype.kind == "u" else ".tif"
            target = os.path.join(arguments.out, stem + suffix)
            os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
            write_mask(target, mask)
        except (SegkitError, OSError, ValueError) as error:
            print(f"segkit: {one_line(error)}", file=sys.stderr)
            failed += 1
    print(f"{len(paths) - failed} of {len(paths)} masks written to {_printable(arguments.out)}")
    return 0 if not failed else 1 if failed < len(paths) else 2


def expand(arguments: argparse.Namespace) -> int:
    """``segkit expand``."""
    from segkit.datasets import expand_dataset

    written = expand_dataset(
        _pairs(arguments.images, arguments.masks, arguments.pattern),
        _transform(arguments),
        arguments.out,
        copies=arguments.copies,
        seed=arguments.seed,
        progress=not arguments.quiet,
    )
    print(f"{len(written)} pairs in {_printable(arguments.out)}")
    return 0


def tile(arguments: argparse.Namespace) -> int:
    """``segkit tile``."""
    from segkit.datasets import tile_images

    done = tile_images(
        arguments.source if os.path.isdir(arguments.source) else [arguments.source],
        arguments.out,
        tile=arguments.tile,
        compression=arguments.compression,
        workers=arguments.workers,
        progress=not arguments.quiet,
    )
    for _, reason in done.failed:
        print(f"segkit: {_printable(reason)}", file=sys.stderr)
    print(f"{len(done.written)} of {len(done.written) + len(done.failed)} files in {_printable(arguments.out)}")
    return 0 if not done.failed else 1 if done.written else 2


def _transform(arguments: argparse.Namespace) -> Any:
    from segkit import transforms

    flip, rotate, zoom, jitter = arguments.flip, arguments.rotate, arguments.zoom, arguments.jitter
    if not flip and arguments.crop is None and rotate is None and zoom is None and jitter is None:
        flip, rotate, zoom, jitter = True, 15.0, 0.15, 0.2
    steps: list[Any] = [transforms.HorizontalFlip(), transforms.VerticalFlip()] if flip else []
    if rotate or zoom:
        scale = (1 / (1 + (zoom or 0)), 1 + (zoom or 0))
        steps.append(transforms.RandomAffine(degrees=(-(rotate or 0), rotate or 0), scale=scale))
    if arguments.crop is not None:
        steps.append(transforms.RandomCrop(tuple(arguments.crop)))
    if jitter:
        steps.append(transforms.ColorJitter(brightness=jitter, contrast=jitter))
    return transforms.Compose(steps)


def _print_report(report: Any) -> None:
    images = sum(image is not None for image, _ in report.files)
    pairs = f", {len(report.pairs)} pairs, of which {len(report.clean_pairs())} are usable" if report.pairs else ""
    print(f"{images} images{pairs}")
    groups: dict[tuple[str, str], list[Any]] = {}
    for finding in report.findings:
        groups.setdefault((finding.severity, finding.code), []).append(finding)
    for (severity, code), findings in groups.items():
        where = _printable(findings[0].path) or "the whole set"
        print(f"{severity:8}{code:26}{len(findings):6}  {where}: {_printable(findings[0].reason)}")
    if not groups:
        print("nothing found")


def _put_out(target: str | None, as_json: Callable[..., str], show: Callable[[], None]) -> None:
    """JSON to standard output for "-", else to the file if there is one, and what people read to standard output."""
    if target == "-":
        sys.stdout.write(as_json())
        return
    if target is not None:
        as_json(target)
    show()


def _pairs(images: str, masks: str | None, pattern: str | None) -> Any:
    from segkit.datasets import find_pairs

    if masks is None:
        return _images_of(images)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pairs = find_pairs(images, masks, pattern=pattern)
    for warning in caught:
        print(f"segkit: {_printable(str(warning.message))}", file=sys.stderr)
    return pairs


def _images_of(files: str | list[str]) -> list[str]:
    """The image files of a folder, with its subfolders, as `find_pairs` sees them."""
    from segkit.datasets import find_images

    return find_images(files)


def _colors(path: str | None) -> dict[tuple[int, int, int], int] | None:
    """The colour table of a JSON file: {"255,0,0": 1, ...} or {"#ff0000": 1, ...}."""
    if path is None:
        return None
    colors: dict[tuple[int, int, int], int] = {}
    try:
        with open(path, encoding="utf-8") as file:
            for name, index in json.load(file).items():
                if name.startswith("#"):
                    red, green, blue = (int(name[i : i + 2], 16) for i in (1, 3, 5))
                else:
                    red, green, blue = (int(part) for part in name.strip("()[] ").split(","))
                colors[red, green, blue] = int(index)
    except (ValueError, AttributeError, TypeError) as error:
        raise DataError(f'--colors {path}: must be JSON such as {{"255,0,0": 1, "#00ff00": 2}}, got {error}.') from None
    return colors


def _splits(path: str | None) -> dict[str, str] | None:
    """Stem -> split, from a CSV with a column "split" and one of "stem", "file", "image", "name"."""
    if path is None:
        return None
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(io.StringIO(file.read()))
    columns = reader.fieldnames or []
    key = next((name for name in ("stem", "file", "image", "name") if name in columns), None)
    if key is None or "split" not in columns:
        raise DataError(f"--splits {path}: must be a CSV with the columns file and split, got {', '.join(columns)}.")
    return {os.path.splitext(os.path.basename(row[key]))[0]: row["split"] for row in reader}


def _mapping(words: list[str]) -> dict[int, int]:
    try:
        return {int(old): int(new) for old, new in (word.split("=") for word in words)}
    except ValueError:
        raise DataError(f"--map: must be OLD=NEW, two whole numbers, got {' '.join(words)}.") from None


def _write_pairs(path: str, pairs: Any) -> None:
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "mask"])
        writer.writerows(pairs)


def one_line(error: Exception) -> str:
    """An error as one line that any terminal takes."""
    return " ".join(_printable(str(error) or type(error).__name__).split())


def _printable(text: str) -> str:
    """Text without control characters, and with escapes for bytes that are no UTF-8."""
    return "".join(c if c.isprintable() or c == " " else repr(c)[1:-1] for c in text)
