"""``segkit split``: folds that share nothing."""

from __future__ import annotations

import argparse
import json
from typing import Any

from segkit.cli._commands import _pairs
from segkit.errors import DataError


def split(arguments: argparse.Namespace) -> int:
    """Print what each fold has, and write the table of files and splits."""
    from segkit.datasets import split_folds

    if arguments.val is not None and not arguments.csv:
        raise DataError("split: --val names a fold of the table, and there is none. Add --csv FILE.")
    folds = split_folds(
        _pairs(arguments.images, arguments.masks, arguments.pattern),
        arguments.shares or arguments.folds,
        groups=arguments.groups,
        stratify=None if arguments.no_classes else "classes",
        duplicates=_duplicates(arguments.duplicates),
        ignore_index=arguments.ignore_index,
        seed=arguments.seed,
        progress=not arguments.quiet,
    )
    print(folds.table())
    if arguments.csv:
        folds.to_csv(arguments.csv, val=arguments.val)
    return 0


def _duplicates(path: str | None) -> list[list[str]] | None:
    """Groups of paths from the report that ``segkit audit --json`` writes."""
    if path is None:
        return None
    try:
        with open(path, encoding="utf-8") as file:
            findings: list[dict[str, Any]] = json.load(file)["findings"]
        codes = ("exact-duplicate", "near-duplicate", "duplicate-with-other-mask", "split-leak")
        return [[f["path"], f["related"]] for f in findings if f["code"] in codes and f["related"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"--duplicates {path}: must be the JSON that segkit audit --json writes, got {error!r}."
        ) from None
