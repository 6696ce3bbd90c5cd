"""The snippets of the pages pass a type checker, as a user's script would that is written after them."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

import segkit
from test_snippets import PAGES, ROOT, snippets

CHECKED = [page for page in PAGES if snippets(page) and page.stem not in ("swap", "caught")]

# Neither ours nor wrong: torch calls a list no data set and says that any gradient may be None.
OF_TORCH = (
    '"DataLoader" has incompatible type "list[',
    '"Tensor | None" is not indexable',
    'cannot be assigned to parameter "dataset"',
    'Object of type "None" is not subscriptable',
)

MYPY = """
[mypy]
check_untyped_defs = True
ignore_missing_imports = True
allow_redefinition = True
disable_error_code = var-annotated
"""
# As editors check. A loop of a page may have no round, and a name that it sets is then unbound.
PYRIGHT = {"typeCheckingMode": "standard", "reportPossiblyUnboundVariable": False, "reportUnusedExpression": False}
WRONG = """
from segkit import io, losses

io.read_image(3)
losses.CompoundLoss({"dice": 1.0}).set_weight("dice", "much")
"""


@pytest.mark.slow
@pytest.mark.parametrize("checker", ["mypy", "basedpyright"])
def test_the_snippets_pass_a_type_checker(tmp_path, checker):
    pytest.importorskip(checker)
    where = os.fspath(pathlib.Path(segkit.__file__).parents[1])
    installed = "site-packages" in where
    (tmp_path / "mypy.ini").write_text(MYPY)
    paths = {} if installed else {"extraPaths": [where]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(PYRIGHT | paths))
    for page in CHECKED:
        name = "_".join(page.relative_to(ROOT).with_suffix("").parts)
        (tmp_path / f"{name}_.py").write_text("\n".join(snippets(page)))
    (tmp_path / "wrong_.py").write_text(WRONG)
    files = sorted(path.name for path in tmp_path.glob("*.py"))
    options = {"mypy": ["--config-file", "mypy.ini", *files], "basedpyright": ["--pythonpath", sys.executable]}
    done = subprocess.run(
        [sys.executable, "-m", checker, *options[checker]],
        cwd=tmp_path,
        env=os.environ | ({} if installed else {"MYPYPATH": where}),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    ours = [line.strip() for line in done.stdout.splitlines() if " error: " in line]
    errors = [line for line in ours if re.search(r"_\.py:", line)]  # of the snippets, where the sources are at hand too
    assert sum("wrong_.py:" in line for line in errors) == 2, done.stdout + done.stderr  # it looks, and knows our types
    assert [e for e in errors if "wrong_.py:" not in e and not any(known in e for known in OF_TORCH)] == []
