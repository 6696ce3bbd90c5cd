"""Every public name has a docstring with an example, and every example is run."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil

import pytest

import segkit

ROOMS = [f"segkit.{room}" for room in segkit.ROOMS]


def public_names():
    for room in ROOMS:
        module = importlib.import_module(room)
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isclass(thing) or inspect.isroutine(thing):
                yield pytest.param(thing, id=f"{room}.{name}")


def modules():
    for info in pkgutil.walk_packages(segkit.__path__, "segkit."):
        if not info.name.endswith("__main__"):
            yield info.name


@pytest.mark.parametrize("thing", list(public_names()))
def test_a_public_name_has_a_docstring_with_an_example(thing):
    doc = inspect.getdoc(thing) or ""
    assert doc.strip(), "no docstring"
    assert ">>>" in doc, "no example that runs"


@pytest.mark.parametrize("room", ROOMS)
def test_all_is_sorted_and_complete(room):
    module = importlib.import_module(room)
    assert list(module.__all__) == sorted(module.__all__)
    assert module.__doc__
    assert ">>>" in module.__doc__


@pytest.mark.parametrize("name", ["segkit", *modules()])
def test_examples_in_docstrings_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = doctest.testmod(
        importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS, raise_on_error=False
    )
    assert results.failed == 0
