"""The examples travel inside the package; this command puts them where a person can read and change them."""

from __future__ import annotations

import argparse
import importlib.util
import pathlib
import sys

import segkit
from segkit._whole import whole_file
from segkit.errors import DataError


def examples(arguments: argparse.Namespace) -> int:
    """``segkit examples``."""
    source, out = _source(), pathlib.Path(arguments.out)
    if out.exists() and not out.is_dir():
        raise DataError(f"examples: OUT must be a folder, got the file {out}. Name another one.")
    files = {path.name: path.read_bytes() for path in sorted(source.glob("*.py"))}
    changed = [name for name, text in files.items() if (out / name).exists() and (out / name).read_bytes() != text]
    if changed:
        raise DataError(
            f"examples: {out} holds {len(changed)} other file(s) of the same name: {', '.join(changed[:5])}"
            f"{', ...' * (len(changed) > 5)}. Nothing was written; name a new folder, or move them away."
        )
    out.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        with whole_file(out / name) as file:
            file.write(text.decode())
    print(f"{len(files)} files in {out}. Try: python {out / 'quickstart.py'}")
    if importlib.util.find_spec("matplotlib") is None:
        print('segkit: the quickstart draws with matplotlib: pip install "segkit[examples]"', file=sys.stderr)
    return 0


def _source() -> pathlib.Path:
    """In an installed package beside the code; in a checkout, and so in an editable install, beside `src`."""
    package = pathlib.Path(segkit.__file__).parent
    for place in (package / "_examples", package.parents[1] / "examples"):
        if (place / "quickstart.py").is_file():
            return place
    raise DataError(f"examples: {package} came without its examples. Install segkit from its wheel or its sdist.")
