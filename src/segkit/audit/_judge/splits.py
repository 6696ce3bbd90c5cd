"""Which split each image is in, from names as people write them: stems, file names, or the ends of other paths."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from segkit.errors import DataError


def splits_of(files: Sequence[tuple[str | None, str | None]], splits: Mapping[str, str]) -> list[str | None]:
    """The split of each row, or None where no name is that of its image.

    A name matches the files whose path ends with it, with or without suffix. Where the names are paths of another
    machine, so many of their first folders are left out that all match.

    Raises:
        DataError: some names match no image, however many folders are left out: a leak would go unseen.
    """
    names = {tuple(_parts(name)): split for name, split in splits.items()}
    longest = max(map(len, names), default=0)
    ends: dict[tuple[str, ...], list[int]] = {}
    for number, (image, _) in enumerate(files):
        if image is not None:
            path = _parts(image)
            stem = os.path.splitext(path[-1])[0]
            for length in range(1, min(len(path), longest) + 1):
                for end in {tuple(path[-length:]), (*path[-length:-1], stem)}:
                    ends.setdefault(end, []).append(number)
    for length in range(longest, 0, -1):
        cut: dict[tuple[str, ...], set[str]] = {}
        for name, split in names.items():
            cut.setdefault(name[-length:], set()).add(split)
        if all(name in ends and len(found) == 1 for name, found in cut.items()):
            result: list[str | None] = [None] * len(files)
            for name, (split,) in cut.items():
                for number in ends[name]:
                    result[number] = split
            return result
    lost = ["/".join(name) for name in names if name not in ends] or ["/".join(name) for name in names]
    raise DataError(
        f"audit_dataset: `splits` must name images of this set, got {len(lost)} of {len(names)} names that match none, "
        f"the first {lost[0]!r}. Write stems, file names, or paths that end as those of the images do."
    )


def _parts(path: str) -> list[str]:
    return [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
