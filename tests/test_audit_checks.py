"""Checks: functions of what was measured; everything about one is in one file, and forgetting a part of it is seen."""

from __future__ import annotations

import ast
import importlib
import pathlib
import re

import numpy as np
import pytest
from PIL import Image

from segkit import audit
from segkit.audit import Finding
from segkit.audit._judge import checks

DOCS = pathlib.Path(__file__).parents[1] / "docs"
JUDGES = ("files", "light", "masks")


@pytest.fixture
def folders(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for i in range(8):
        image = rng.integers(0, 8 if i == 5 else 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / "images" / f"{i}.png")
        Image.fromarray(rng.integers(0, 2, (5, 5), dtype=np.uint8).repeat(8, 0).repeat(8, 1)).save(
            tmp_path / "masks" / f"{i}.png"
        )
    return tmp_path / "images", tmp_path / "masks"


def hardly_any_contrast(data):
    """A check as a user writes it."""
    for number in np.flatnonzero(data.rows["std"] < 4):
        value = round(float(data.rows["std"][number]), 2)
        reason = f"Its values spread by {value} only."
        yield Finding(
            "hardly-any-contrast", "warning", data.image(number), data.mask(number), value, reason, "Drop it."
        )


def test_a_check_of_ones_own_is_in_the_findings_the_json_and_the_page(folders, tmp_path):
    report = audit.audit_dataset(*folders, checks=[hardly_any_contrast], progress=False)
    own = report.select("hardly-any-contrast")
    assert [(finding.path, finding.remedy) for finding in own] == [(str(folders[0] / "5.png"), "Drop it.")]
    assert report.clean_pairs(without=["hardly-any-contrast"]) == report.clean_pairs()[:5] + report.clean_pairs()[6:]
    assert '"hardly-any-contrast": 1' in report.to_json()
    report.to_html(tmp_path / "report.html")
    assert "Hardly any contrast" in (tmp_path / "report.html").read_text("utf-8")


def test_a_check_sees_what_the_checks_before_it_found(folders):
    seen = []

    def last(data):
        seen.extend(finding.code for finding in data.findings)
        return []

    audit.audit_dataset(*folders, checks=[hardly_any_contrast, last], progress=False)
    assert "hardly-any-contrast" in seen
    assert "too-dark" in seen


def test_every_code_has_a_row_in_the_docs():
    table = (DOCS / "audit.md").read_text("utf-8").split("| code |")[1].split("\n\n")[0]
    assert [code for code in audit.CODES if f"`{code}`" not in table] == []


def test_every_check_of_a_file_is_run():
    """A function that takes a measured set and is public in its file is a check; one that is in no list never runs."""
    run = {check.__name__ for check in checks.CHECKS}
    for name in JUDGES:
        tree = ast.parse(pathlib.Path(importlib.import_module(f"segkit.audit._judge.{name}").__file__).read_text())
        written = {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name[0] != "_"}
        assert written <= run, f"{name}: add them to its list"


def test_every_code_is_found_by_the_file_that_describes_it():
    for path in pathlib.Path(audit.__file__).parent.glob("_*/*.py"):
        text = path.read_text()
        for code in re.findall(r'^        "([a-z-]+)": Code\(', text, re.MULTILINE):
            assert code in audit.CODES, f"{path.name} describes it, and the report does not know it"
            assert text.count(f'"{code}"') > 1, f"{path.name} describes {code} and never finds it"


NAMED = {0, 1, 2, 3, 4, 64, 75, 87.5, 12.5, 95, 256, 255, 65536, 1e-6, 5, 25}  # counts, percentiles, ranges of types


@pytest.mark.parametrize("name", JUDGES)
def test_every_threshold_stands_in_the_table_of_its_file_with_what_it_is_chosen_on(name):
    text = pathlib.Path(importlib.import_module(f"segkit.audit._judge.{name}").__file__).read_text()
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and any(isinstance(part, ast.Constant) for part in ast.walk(node.value)):
            line = text.splitlines()[node.lineno - 1]
            if re.match(r"[A-Z][A-Z_0-9, ]* = [\d{]", line):
                assert re.search(r"  # .*\| \S", line), f"say what it bounds and what it is chosen on: {line}"
        if isinstance(node, ast.FunctionDef):
            bare = {
                part.value
                for part in ast.walk(node)
                if isinstance(part, ast.Constant) and isinstance(part.value, int | float) and part.value not in NAMED
            }
            assert bare == set(), f"{node.name}: give them names in the table"
