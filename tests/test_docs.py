"""The documentation: no dead link, nothing loaded from elsewhere, no public name without a page.

The pages themselves are built by .ci/run, with warnings as errors; the checks that it relies on are seen to fail here.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import pathlib
import re
import sys
import types

import pytest

import segkit

ROOT = pathlib.Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


def load(path: pathlib.Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def site(tmp_path):
    def write(**pages: str) -> list[str]:
        for name, text in pages.items():
            (tmp_path / f"{name}.html").write_text(text)
        return load(DOCS / "check_site.py").problems(tmp_path)

    return write


def test_links_that_arrive_are_no_problem(site):
    first = '<p id="here"><a href="#here">x</a><a href="b.html#there">x</a><a href="https://example.org/x#y">x</a>'
    assert site(a=first, b='<a name="there"></a><a href="a.html">x</a>') == []


@pytest.mark.parametrize(
    ("page", "sentence"),
    [
        ('<a href="c.html">x</a>', "a.html: c.html leads nowhere"),
        ('<a href="#gone">x</a>', "a.html: #gone leads to no such place on its page"),
        ('<a href="b.html#gone">x</a>', "a.html: b.html#gone leads to no such place on its page"),
        ('<img src="p.png">', "a.html: p.png leads nowhere"),
        ('<script src="https://example.org/x.js">', "a.html: loads https://example.org/x.js from elsewhere"),
        ('<link rel="stylesheet" href="//example.org/x.css">', "a.html: loads //example.org/x.css from elsewhere"),
    ],
)
def test_a_link_that_leads_nowhere_is_named(site, page, sentence):
    assert site(a=page, b="") == [sentence]


def test_a_folder_without_pages_is_no_success(tmp_path):
    assert load(DOCS / "check_site.py").problems(tmp_path) == [f"{tmp_path} holds no pages"]


def test_a_public_name_without_a_page_warns_and_so_fails_the_build(monkeypatch, caplog):
    pytest.importorskip("sphinx")
    monkeypatch.setattr(sys, "path", list(sys.path))  # conf.py adds the gallery's folder
    conf = load(DOCS / "conf.py")
    warned = []
    monkeypatch.setattr(conf.logging, "getLogger", lambda name: types.SimpleNamespace(warning=warned.append))

    class AllBut:
        def __contains__(self, name):
            return name not in ("segkit.io.read_mask", "segkit.losses.functional.dice")

    env = types.SimpleNamespace(get_domain=lambda name: types.SimpleNamespace(objects=AllBut()))
    conf.ask_for_a_page(None, env)
    assert [message.split(" ")[0] for message in warned] == ["segkit.io.read_mask", "segkit.losses.functional.dice"]


def test_every_room_has_a_page_that_begins_with_its_task_and_ends_with_its_api():
    for room in segkit.ROOMS:
        text = (DOCS / f"{room}.md").read_text()
        assert f".. automodule:: segkit.{room}\n   :members:" in text, room
        assert room == "errors" or text.index("```python") < text.index("automodule"), room


def test_every_example_and_page_is_named_where_a_reader_looks_for_it():
    readme, index = (ROOT / "README.md").read_text(), (DOCS / "index.md").read_text()
    for path in (ROOT / "examples").glob("*.py"):
        if path.stem not in ("options", "pictures", "select_data", "shapes", "unet"):
            assert f"`{path.name}`" in readme, path.name
    for path in DOCS.glob("**/*.md"):
        page = path.relative_to(DOCS).with_suffix("").as_posix()
        if page != "index" and not page.startswith("_"):
            assert re.search(rf"^{page}$", index, re.MULTILINE), page


@pytest.mark.parametrize("page", ["start", "questions"])
def test_the_chinese_page_has_the_same_snippets_and_sections(page):
    english, chinese = (DOCS / f"{page}.md").read_text(), (DOCS / f"zh/{page}.md").read_text()
    block = re.compile(r"^```python\n.*?^```", re.MULTILINE | re.DOTALL)
    assert block.findall(english) == block.findall(chinese)
    assert len(re.findall(r"^## ", english, re.MULTILINE)) == len(re.findall(r"^## ", chinese, re.MULTILINE))


def test_the_lines_of_the_first_page_are_those_that_make_its_picture():
    block = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
    made = (DOCS / "gallery/first.py").read_text()
    for page in ("index.md", "zh/index.md"):
        lines = "".join(block.findall((DOCS / page).read_text())).splitlines()
        assert len([line for line in lines if line]) <= 10
        assert [line for line in lines if line not in made.splitlines()] == [], page


def test_what_people_ask_is_answered_with_a_snippet_each():
    sections = (DOCS / "questions.md").read_text().split("\n## ")[1:]
    asked = "one shape|reader|Five crops|binary|softmax|BatchNorm|Dice|several scales|hard examples"
    asked += "|larger than|IoU|polygons|DDP|AMP|memory"
    for words, section in zip(asked.split("|"), sections, strict=True):
        assert words in section.splitlines()[0]
        assert "```python\n" in section, words


def test_no_page_and_no_example_names_a_registry_or_a_folder_of_one_machine():
    files = [ROOT / "README.md", *DOCS.glob("**/*.md"), *DOCS.glob("gallery/*.py"), *(ROOT / "examples").glob("*.py")]
    for path in files:
        found = re.search(r"pypi|anaconda\.org|/root/|/home/|/work/|/tmp/", path.read_text())
        assert not found, f"{path.name}: {found}"


def test_each_transform_is_shown_in_the_gallery():
    """Converters and adapters have no look of their own, nor has what is only a base or a description."""
    transforms = importlib.import_module("segkit.transforms")
    shown = "".join((DOCS / f"gallery/{name}.py").read_text() for name in ("transforms", "crops"))
    plain = {"CropBox", "FromAlbumentations", "FromTorchvision", "Geometry", "Plan", "ToTensor", "unstack_crops"}
    plain |= {"Drawn", "GeometricTransform", "Transform"}
    missing = {name for name in transforms.__all__ if f"T.{name}" not in shown} - plain
    assert {name for name in missing if callable(getattr(transforms, name))} == set()


def test_the_page_of_performance_is_what_the_records_say():
    record = load(ROOT / "benchmarks" / "record.py")
    assert (DOCS / "performance.md").read_text() == record.page()
    assert set(record.ROOMS) | {"bench_losses_gpu.py"} == {
        path.name for path in (ROOT / "benchmarks").glob("bench_*.py")
    }


def test_no_other_page_has_measured_times_that_nobody_makes_anew():
    for page in set(DOCS.glob("*.md")) - {DOCS / "performance.md"}:
        told = re.findall(r"commit [0-9a-f]{7}\b", page.read_text())
        assert page.name == "start.md" or not told, (page.name, told)  # which tells IoU


def test_a_record_names_what_it_was_measured_on(tmp_path, monkeypatch):
    record = load(ROOT / "benchmarks" / "record.py")
    monkeypatch.setattr(record, "RECORDS", tmp_path)
    monkeypatch.setattr(record, "HERE", tmp_path)
    monkeypatch.setattr(record, "git", lambda *words: "abc1234" if words[0] == "log" else "")
    (tmp_path / "bench_io.py").write_text('"""What it is.\n\nMore."""\nimport torch\n\nprint("read 0.9 x bare")\n')
    record.measure("io", "bench_io.py", [])
    made = record.page()
    assert "## Reading\n\nWhat it is.\n\n```text\nread 0.9 x bare\n```" in made
    assert "`python benchmarks/bench_io.py` at commit abc1234, " in made
    assert f"torch {importlib.metadata.version('torch')}, numpy " in made
    (tmp_path / "bench_io.py").write_text("raise SystemExit(3)")
    with pytest.raises(SystemExit, match="ended with 3; nothing was kept"):
        record.measure("other", "bench_io.py", [])
    assert not (tmp_path / "other.json").exists()


def test_the_version_is_one_in_package_changelog_and_citation():
    newest = re.search(r"^## (\S+) - (\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    citation = (ROOT / "CITATION.cff").read_text()
    assert newest[1] == segkit.__version__ == re.search(r"^version: (\S+)$", citation, re.MULTILINE)[1]
    assert newest[2] == re.search(r"^date-released: (\S+)$", citation, re.MULTILINE)[1]
