"""The import table of the design, held against the code; and importing segkit changes and loads nothing."""

from __future__ import annotations

import ast
import pathlib
import subprocess
import sys

import pytest

import segkit

PACKAGE = pathlib.Path(segkit.__file__).parent

# room -> the rooms it may import (DESIGN, section 1). The package root holds one constant and is open to all.
MAY_IMPORT = {
    "errors": set(),
    "io": {"errors"},
    "labels": {"errors"},
    "datasets": {"io", "labels", "errors"},
    "transforms": {"errors", "labels"},
    "collate": {"errors", "labels"},
    "samplers": {"errors"},
    "mining": {"errors"},
    "losses": {"labels", "mining", "errors"},
    "stats": {"io", "datasets", "errors"},
    "viz": {"errors", "labels"},
    "audit": {"io", "datasets", "labels", "stats", "viz", "errors"},
    "cli": set(segkit.ROOMS),
}

# An image library is imported in its own backend file and nowhere else in `io`. OpenCV also resamples, in `transforms`.
IMAGE_LIBRARIES = {"PIL": "pillow", "cv2": "opencv", "tifffile": "tifffile", "imagecodecs": "tifffile"}


def room_of(path: pathlib.Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(source: str, room: str) -> set[str]:
    """Every absolute module name that a file imports, lazily or not; relative imports are resolved to segkit's."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:  # from . import x, inside a room's package
                base = f"segkit.{room}" + (f".{base}" if base else "")
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return names


def files() -> list[pathlib.Path]:
    return sorted(p for p in PACKAGE.rglob("*.py") if p.name not in {"__main__.py"} and p.parent.parts)


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_only_what_its_row_allows(path):
    room = room_of(path)
    if room in {"__init__", "_triton"}:  # _triton: which backend may run, which losses and mining both ask
        return
    used = {n.split(".")[1] for n in imported_modules(path.read_text(), room) if n.startswith("segkit.")}
    used &= set(segkit.ROOMS)
    assert used - MAY_IMPORT[room] - {room} == set()


def test_the_import_table_can_fail():
    assert "segkit.losses" in imported_modules("def f():\n    from segkit import losses\n", "io")
    assert "segkit.io._probe" in imported_modules("from . import _probe", "io")


def test_every_room_of_the_table_is_a_row():
    assert set(MAY_IMPORT) == set(segkit.ROOMS)


@pytest.mark.parametrize("path", [p for p in files() if room_of(p) == "io"], ids=lambda p: p.name)
def test_an_image_library_is_imported_only_in_its_backend(path):
    libraries = {n.split(".")[0] for n in imported_modules(path.read_text(), "io")} & set(IMAGE_LIBRARIES)
    assert {library for library in libraries if IMAGE_LIBRARIES[library] not in path.stem} == set()


def loaded_by(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter holds after running `code`."""
    out = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*{{m.split('.')[0] for m in sys.modules}})"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(out.stdout.split())


HEAVY = {"torch", "numpy", "PIL", "cv2", "tifffile", "imagecodecs", "matplotlib", "jinja2", "tqdm"}


def test_import_segkit_is_light():
    assert loaded_by("import segkit") & HEAVY == set()


@pytest.mark.parametrize("room", ["errors", "labels", "samplers", "cli"])
def test_rooms_that_need_no_torch_load_none(room):
    assert loaded_by(f"import segkit.{room}") & {"torch", "PIL", "cv2", "tifffile"} == set()


def test_losses_load_no_image_library():
    assert loaded_by("import segkit.losses") & {"PIL", "cv2", "tifffile", "imagecodecs"} == set()


def test_the_lightness_check_can_fail():
    assert "torch" in loaded_by("import segkit; segkit.losses")


def test_importing_everything_prints_nothing_and_changes_nothing():
    code = """
import os, random, sys
import torch, numpy, cv2, PIL.Image  # their own imports may: OpenCV sets LD_LIBRARY_PATH
def state():
    pixels = PIL.Image.MAX_IMAGE_PIXELS
    return torch.get_num_threads(), torch.initial_seed(), pixels, random.getstate(), dict(os.environ)
before = state()
import segkit
for room in segkit.ROOMS:
    getattr(segkit, room)
assert before == state()
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
