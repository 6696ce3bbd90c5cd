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
    "annotations": {"errors", "labels"},
    "metrics": {"errors", "labels"},
    "predict": {"io", "datasets", "transforms", "errors"},
    "cli": set(segkit.ROOMS),
}

# An image library is imported in its own backend file and nowhere else in `io`. OpenCV also resamples, in `transforms`.
IMAGE_LIBRARIES = {"PIL": "pillow", "cv2": "opencv", "tifffile": "tifffile", "imagecodecs": "tifffile"}


# What stands at the package's root, since several rooms share it: one constant, which backend may run, the workers,
# files that appear whole.
ROOT = {"segkit", "segkit._triton", "segkit._processes", "segkit._tasks", "segkit._whole"}


def name_of(path: pathlib.Path) -> str:
    """The dotted name of a file; a package's is that of its folder."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(path: pathlib.Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def files() -> list[pathlib.Path]:
    """The package's own; a wheel also carries the examples, which are scripts of a user."""
    return sorted(p for p in PACKAGE.rglob("*.py") if p.name != "__main__.py" and room_of(p) != "_examples")


FILES = {name_of(path): path for path in files()}


def imported_modules(source: str, package: str, known: set[str]) -> set[str]:
    """The modules that a file imports, lazily or not, each by its full name.

    Args:
        source: the file's text.
        package: the package that the file stands in, for relative imports of any depth.
        known: the modules of segkit: `from a import b` is the module `a.b` where there is one, else `a`.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            found |= {f"{base}.{a.name}" if f"{base}.{a.name}" in known else base for a in node.names}
    return found


def package_of(name: str) -> str:
    return name if FILES[name].name == "__init__.py" else name.rpartition(".")[0]


IMPORTS = {name: imported_modules(path.read_text(), package_of(name), set(FILES)) for name, path in FILES.items()}


def is_private(name: str) -> bool:
    return any(part.startswith("_") for part in name.split("."))


def breaks_the_table(name: str, imported: set[str]) -> set[str]:
    """What a file imports of other rooms beyond its row, or by a private name."""
    room = name.split(".")[1]
    others = {n for n in imported if n.startswith("segkit.") and n.split(".")[1] != room and n not in ROOT}
    return {n for n in others if n.split(".")[1] not in MAY_IMPORT[room] or is_private(n)}


def climbs_to_a_face(name: str, imported: set[str]) -> set[str]:
    """What a file in a room's private folder imports of the files that a user meets, at the top of its own room."""
    parts = name.split(".")
    if len(parts) < 4 or not parts[2].startswith("_"):
        return set()
    room = ".".join(parts[:2])
    return {n for n in imported if n == room or (n.startswith(f"{room}.") and is_face(n))}


def is_face(name: str) -> bool:
    return len(name.split(".")) == 3 and FILES[name].name != "__init__.py"


def circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Groups of files that reach each other, by Tarjan's algorithm."""
    graph = {n: {m for m in of if m in imports and m != n} for n, of in imports.items()}
    number, low, stack, on, found = {}, {}, [], set(), []

    def visit(node: str) -> None:
        number[node] = low[node] = len(number)
        stack.append(node)
        on.add(node)
        for other in sorted(graph[node]):
            if other not in number:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in on:
                low[node] = min(low[node], number[other])
        if low[node] == number[node]:
            group = []
            while not group or group[-1] != node:
                group.append(stack.pop())
                on.discard(group[-1])
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in number:
            visit(node)
    return found


IN_ROOMS = sorted(n for n in FILES if n not in ROOT)


@pytest.mark.parametrize("name", IN_ROOMS)
def test_a_module_imports_only_what_its_row_allows_and_nothing_private(name):
    assert breaks_the_table(name, IMPORTS[name]) == set()


@pytest.mark.parametrize("name", IN_ROOMS)
def test_what_makes_a_room_work_imports_no_file_that_a_user_meets(name):
    assert climbs_to_a_face(name, IMPORTS[name]) == set()


@pytest.mark.parametrize("room", segkit.ROOMS)
def test_no_imports_go_in_a_circle_inside_a_room(room):
    inside = {n: of for n, of in IMPORTS.items() if n.startswith(f"segkit.{room}.") and FILES[n].name != "__init__.py"}
    assert circles(inside) == []


def test_the_import_rules_can_fail():
    known = {"segkit.losses", "segkit.losses._dice", "segkit.io", "segkit.io._engine.raw", "segkit.mining._select"}
    assert imported_modules("def f():\n    from segkit import losses\n", "segkit.io", known) == {"segkit.losses"}
    assert imported_modules("from . import _dice", "segkit.losses", known) == {"segkit.losses._dice"}
    assert imported_modules("from ..._dice import x", "segkit.losses._engine.streamed", known) == {
        "segkit.losses._dice"
    }
    assert breaks_the_table("segkit.io._read", {"segkit.labels"}) == {"segkit.labels"}
    assert breaks_the_table("segkit.losses._dice", {"segkit.mining._select"}) == {"segkit.mining._select"}
    assert breaks_the_table("segkit.losses._dice", {"segkit.mining", "segkit._triton", "segkit"}) == set()
    face = next(n for n in IN_ROOMS if n.startswith("segkit.io._") and is_face(n))
    assert climbs_to_a_face("segkit.io._engine.raw", {face, "segkit.io"}) == {face, "segkit.io"}
    assert climbs_to_a_face("segkit.io._write", {face}) == set()
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}) == [["a", "b", "c"]]


# Where a newcomer looks first: more files than this at the top of a room, and the room needs a private folder.
AT_THE_TOP = {"losses": 17, "io": 10, "audit": 7, "transforms": 18}


@pytest.mark.parametrize("room", AT_THE_TOP)
def test_a_newcomer_meets_few_files_at_the_top_of_a_room(room):
    assert len([n for n in IN_ROOMS if n.startswith(f"segkit.{room}.") and is_face(n)]) <= AT_THE_TOP[room]


def test_every_room_of_the_table_is_a_row():
    assert set(MAY_IMPORT) == set(segkit.ROOMS)


@pytest.mark.parametrize("name", [n for n in FILES if n.startswith("segkit.io")])
def test_an_image_library_is_imported_only_in_its_backend(name):
    libraries = {n.split(".")[0] for n in IMPORTS[name]} & set(IMAGE_LIBRARIES)
    assert {library for library in libraries if IMAGE_LIBRARIES[library] not in name.split(".")[-1]} == set()


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
