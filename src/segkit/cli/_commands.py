"""What the commands do. This file is loaded only when a command runs, and each loads only what it needs."""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from segkit.cli._tables import Colors, read_choice, read_colors, read_map, read_splits
from segkit.errors import DataError, ImageReadError, SegkitError


def audit(arguments: argparse.Namespace) -> int:
    """``segkit audit``."""
    from segkit.audit import audit_dataset

    report = audit_dataset(
        arguments.images,
        arguments.masks,
        num_classes=arguments.num_classes,
        pages=arguments.pages,
        splits=read_splits(arguments.splits),
        **_of_masks(arguments),
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

    pairs = _pairs(arguments.images, arguments.masks, arguments.pattern)
    with _said():
        statistics = dataset_statistics(
            pairs,
            num_classes=arguments.num_classes,
            pages=arguments.pages,
            progress=not arguments.quiet,
            **_of_masks(arguments),
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
    """`segkit convert-masks`."""
    from segkit.io import write_mask
    from segkit.labels import remap

    colors, mapping = read_colors(arguments.colors), read_map("--map", arguments.map)
    if colors is None and mapping is None:
        raise DataError(
            "convert-masks: needs --colors FILE or --map OLD=NEW for masks, or --classes FILE for annotations."
        )
    whole = os.path.isdir(arguments.source)
    top = arguments.source if whole else os.path.dirname(arguments.source)
    paths = _images_of(arguments.source if whole else [arguments.source])
    stems = {path: os.path.splitext(os.path.relpath(path, top or "."))[0] for path in paths}
    same = Counter(stems.values())
    failed, unseen = 0, set(mapping or ())
    for path, stem in stems.items():
        try:
            if same[stem] > 1:
                raise DataError(f"convert-masks: {path!r} must not share its stem with another mask. Move one away.")
            mask = _labels_of(path, colors, arguments.unknown)
            if mapping:
                unseen -= {label for label in unseen if (mask == label).any()}
                mask = remap(mask, mapping, unmapped="keep")
            suffix = ".png" if mask.dtype.itemsize <= 2 and mask.dtype.kind == "u" else ".tif"
            target = os.path.join(arguments.out, stem + suffix)
            os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
            write_mask(target, mask)
        except (SegkitError, OSError, ValueError) as error:
            print(f"segkit: {one_line(error)}", file=sys.stderr)
            failed += 1
    for label in sorted(unseen) if failed < len(paths) else ():
        print(f"segkit: no mask has the label {label} of --map {label}={(mapping or {})[label]}", file=sys.stderr)
    print(f"{len(paths) - failed} of {len(paths)} masks written to {_printable(arguments.out)}")
    return 0 if not failed else 1 if failed < len(paths) else 2


def _labels_of(path: str, colors: Colors | None, unknown: Any) -> Any:
    """The labels [H, W] of a mask in whatever form it has.

    Raises:
        ImageReadError: it holds no labels, or was compressed with loss, which changes them.
    """
    from segkit.io import image_info, read_mask

    info = image_info(path)
    if info.lossy:
        reason = f"it is a{'n' * (info.lossy[0] in 'A')} {info.lossy}, which changes labels"
        raise ImageReadError(path, reason, "export it again as PNG from its source")
    if info.pages > 1:
        raise ImageReadError(path, f"it has {info.pages} pages", "write a file for each of them first")
    try:
        return read_mask(path, colors=colors, unknown="error" if unknown == "skip" else unknown)
    except ImageReadError as error:
        hint = "name the classes of its colours with --colors FILE" if "channels" in error.reason else error.hint
        raise ImageReadError(path, error.reason, hint) from None


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
        print(f"{'':40}  -> {_printable(findings[0].remedy)}")
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
    with _said():
        return find_pairs(images, masks, pattern=pattern)


@contextlib.contextmanager
def _said() -> Iterator[None]:
    """Say our own warnings as plain sentences."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        if warning.category is UserWarning or issubclass(warning.category, SegkitError):
            print(f"segkit: {one_line(warning.message)}", file=sys.stderr)


def _of_masks(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the options say about masks, as `audit_dataset` and `dataset_statistics` take it."""
    return {
        "ignore_index": arguments.ignore_index,
        "colors": read_colors(arguments.colors),
        "unknown": read_choice("--unknown", arguments.unknown, ("error",)),
        "remap": read_map("--map", arguments.map),
        "unmapped": read_choice("--unmapped", arguments.unmapped, ("error", "keep")),
    }


def _images_of(files: str | list[str]) -> list[str]:
    """The image files of a folder, with its subfolders, as `find_pairs` sees them."""
    from segkit.datasets import find_images

    return find_images(files)


def _write_pairs(path: str, pairs: Any) -> None:
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "mask"])
        writer.writerows(pairs)


def one_line(error: Exception | Warning | str) -> str:
    """An error as one line that any terminal takes."""
    return " ".join(_printable(str(error) or type(error).__name__).split())


def _printable(text: str) -> str:
    """Text without control characters, and with escapes for bytes that are no UTF-8."""
    return "".join(c if c.isprintable() or c == " " else repr(c)[1:-1] for c in text)
