"""Every Python snippet of README.md and docs/*.md runs, page by page, top to bottom, on a small real data set.

A page is run in a fresh folder that holds ``images/`` (eight RGB PNGs, 96 x 128) and ``masks/`` (classes 0 to 3, some
255). A block that starts with ``# not run:`` is shown only, and says why. The parts of swap.md want a package each:
``test_swap.py`` runs those.
"""

from __future__ import annotations

import pathlib
import re

import numpy as np
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = [
    page
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
    if page.exists() and page.name != "swap.md"
]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def small_data_set(folder: pathlib.Path) -> None:
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    for i in range(8):
        mask = rng.integers(0, 4, (12, 16), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        image = rng.integers(0, 60, (96, 128, 3), dtype=np.uint8) + (mask * 60)[..., None].astype(np.uint8)
        mask[:4] = 255
        Image.fromarray(image).save(folder / "images" / f"{i:02d}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{i:02d}.png")


def snippets(page: pathlib.Path) -> list[str]:
    return [block for block in BLOCK.findall(page.read_text()) if not block.startswith("# not run:")]


@pytest.mark.parametrize("page", [p for p in PAGES if snippets(p)], ids=lambda p: str(p.relative_to(ROOT)))
def test_the_snippets_of_a_page_run(page, tmp_path, monkeypatch):
    small_data_set(tmp_path)
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "snippet"}
    for number, block in enumerate(snippets(page), 1):
        exec(compile(block, f"{page.name}, snippet {number}", "exec"), names)
