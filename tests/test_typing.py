"""The snippets of the pages pass a type checker, as a user's script would that is written after them."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

import segkit
from test_snippets import PAGES, ROOT, snippets

CHECKED = [page for page in PAGES if snippets(page) and page.stem not in ("swap", "caught")]

# Neither ours nor wrong: torch calls a list no data set and says that any gradient may be None.
OF_TORCH = ('"DataLoader" has incompatible type "list[', '"Tensor | None" is not indexable')

SETTINGS = """
[mypy]
check_untyped_defs = True
ignore_missing_imports = True
allow_redefinition = True
disable_error_code = var-annotated
"""


@pytest.mark.slow
def test_the_snippets_pass_a_type_checker(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "mypy.ini").write_text(SETTINGS)
    for page in CHECKED:
        name = "_".join(page.relative_to(ROOT).with_suffix("").parts)
        (tmp_path / f"{name}_.py").write_text("\n".join(snippets(page)))
    (tmp_path / "wrong_.py").write_text("from segkit import io\n\nio.read_image(3)\n")
    where = os.fspath(pathlib.Path(segkit.__file__).parents[1])
    environment = os.environ | ({} if "site-packages" in where else {"MYPYPATH": where})
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--config-file",
        "mypy.ini",
        *sorted(p.name for p in tmp_path.glob("*.py")),
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert any(line.startswith("wrong_.py") for line in errors), done.stdout + done.stderr
    left = [
        line for line in errors if not line.startswith("wrong_.py") and not any(known in line for known in OF_TORCH)
    ]
    assert left == []
