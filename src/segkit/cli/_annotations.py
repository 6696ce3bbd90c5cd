"""``segkit convert-masks`` for what annotation tools write: shapes and run lengths into mask files."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections import Counter
from typing import Any

import numpy as np

from segkit._whole import whole_file
from segkit.cli._commands import one_line
from segkit.errors import DataError, SegkitError


def convert_annotations(arguments: argparse.Namespace) -> int:
    """Write a mask for each picture that an annotator has finished, and say what is not in them."""
    try:
        return _convert(arguments)
    except (DataError, ValueError) as error:
        raise DataError(_for_shell(str(error))) from None


def _convert(arguments: argparse.Namespace) -> int:
    from tqdm import tqdm

    from segkit import annotations
    from segkit.io import write_mask

    if arguments.colors or arguments.map:
        raise DataError("convert-masks: --colors and --map are for pictures, --classes for annotations, got both.")
    drawn = annotations.read(
        arguments.source,
        format=arguments.format,
        order=arguments.order,
        origin=arguments.origin,
        names=_lines(arguments.names) if arguments.names else None,
        annotator=arguments.annotator,
        nested=arguments.nested,
        columns=arguments.columns,
    )
    if arguments.classes is None:
        raise DataError(
            f"convert-masks: needs --classes FILE with a name in each line, got none. {arguments.source!r} has the "
            f"classes {', '.join(drawn.classes)}."
        )
    classes = _classes(arguments.classes)
    drawn.check_classes(classes, unknown=arguments.unknown)
    sizes = _sizes(drawn, arguments.images) if arguments.images else {}
    targets = _targets(drawn.images, arguments.out)
    if os.path.exists(arguments.out) and not os.path.isdir(arguments.out):
        raise DataError(f"convert-masks: OUT must be a folder, got the file {arguments.out}. Name another one.")
    os.makedirs(arguments.out, exist_ok=True)
    notes = [note for note in drawn.notes if note.kind == "unlabelled"]
    written = 0
    bar = tqdm(drawn.images, desc="convert-masks", unit="mask", disable=True if arguments.quiet else None)
    for name in bar:
        options: dict[str, Any] = {"classes": classes, "unknown": arguments.unknown}
        options["size"] = tuple(arguments.size) if arguments.size else sizes.get(name)
        try:
            mask = drawn.mask(name, instances=arguments.instances, crowd=arguments.crowd, **options)
            notes += drawn.check(name, **options)
            if mask.dtype == np.int32 and mask.size and mask.min() >= 0 and mask.max() < 1 << 16:
                mask = mask.astype(np.uint16)
            target = targets[name] + (".png" if mask.dtype.kind == "u" else ".tif")
            os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
            write_mask(target, mask)
            written += 1
        except (SegkitError, OSError, ValueError) as error:
            bar.write(f"segkit: {_for_shell(one_line(error))}", file=sys.stderr)
    if arguments.report:
        with whole_file(arguments.report) as file:
            file.write(json.dumps([note._asdict() for note in notes], indent=1, ensure_ascii=False) + "\n")
    _tell(notes)
    print(f"{written} of {len(drawn.images)} masks written to {_shown(arguments.out)}")
    return 0 if written == len(drawn.images) else 1 if written else 2


def _for_shell(sentence: str) -> str:
    """With options as a shell has them: ``size=(height, width)`` becomes ``--size (height, width)``."""
    return re.sub(r"\b(annotator|columns|crowd|format|names|nested|order|origin|size|unknown)=", r"--\1 ", sentence)


def _tell(notes: list[Any]) -> None:
    """How often each kind of note came, and the first of each."""
    first = {note.kind: note for note in reversed(notes)}
    for kind, count in sorted(Counter(note.kind for note in notes).items()):
        note = first[kind]
        where = f"{note.image}, {note.shape}" if note.shape else note.image
        print(f"{kind:14}{count:6}  {_shown(where)}: {note.reason}")


def _classes(path: str) -> Any:
    """Names in order, one in each line; or of a JSON file a list, or name -> number."""
    if path.lower().endswith(".json"):
        with open(path, encoding="utf-8-sig") as file:
            try:
                content = json.load(file)
            except ValueError as error:
                raise DataError(f"--classes {path}: must be JSON, got {error}.") from None
        if not isinstance(content, dict | list):
            raise DataError(f"--classes {path}: must be a list of names, or name -> number, got {content!r:.60}.")
        return content
    return _lines(path)


def _lines(path: str) -> list[str]:
    with open(path, encoding="utf-8-sig") as file:
        return [line.strip() for line in file if line.strip()]


def _sizes(drawn: Any, folder: str) -> dict[str, tuple[int, int]]:
    """Name -> (height, width) of the pictures' files, turned by their EXIF orientation as readers turn them."""
    from segkit.datasets import find_images
    from segkit.io import image_info

    sizes = {}
    for path in find_images(folder):
        try:
            name = drawn.find(os.path.relpath(path, folder))
        except DataError:
            continue  # a picture without annotations
        sizes[name] = image_info(path).upright_size
    missing = [name for name in drawn.images if name not in sizes]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        print(f"segkit: {len(missing)} picture(s) are not in {folder}: {', '.join(missing[:5])}{more}", file=sys.stderr)
    return sizes


def _targets(names: list[str], out: str) -> dict[str, str]:
    """Name -> path without ending, inside `out` whatever the name is."""
    targets: dict[str, str] = {}
    taken: dict[str, str] = {}
    for name in names:
        parts = [part for part in name.split("/") if part != ".."]
        stem = os.path.join(out, *parts)
        head, dot, suffix = stem.rpartition(".")
        stem = head if dot and suffix.lower() in _SUFFIXES else stem
        if stem in taken:
            raise DataError(
                f"convert-masks: every picture must get a mask of its own, got {taken[stem]!r} and {name!r} for "
                f"{stem!r}. Rename one of them."
            )
        taken[stem] = name
        targets[name] = stem
    return targets


_SUFFIXES = frozenset("jpg jpeg png tif tiff bmp gif webp jp2 j2k dcm pgm ppm pnm".split())


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
