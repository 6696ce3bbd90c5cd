"""How the documentation is built: ``sphinx-build -W docs html``, offline, warnings as errors."""

from __future__ import annotations

import re

import segkit

project = "segkit"
author = "the segkit maintainers"
copyright = "2026, the segkit maintainers"
version = release = segkit.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3  # so that a page can link to a heading of another; a dead link is a warning
exclude_patterns = ["_build"]

autodoc_typehints = "none"  # docstrings say shapes and ranges, which annotations can not
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False

default_role = "py:obj"  # a name in single backticks links to its entry, where there is one
suppress_warnings = ["ref.python"]  # several classes have a `reason`; such a name then stays plain text

html_theme = "furo"
html_title = "segkit"
html_static_path: list[str] = []


def keep_stars(app, what, name, obj, options, lines):
    """Docstrings write shapes as [B, *spatial]; reStructuredText would take that star for emphasis."""
    for i, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            parts = re.split(r"(``.*?``)", line)  # literals stay as they are
            lines[i] = "".join(
                p if p.startswith("``") else re.sub(r"(?<![\\*\w])\*(?=[\w,)])", r"\\*", p) for p in parts
            )


def setup(app):
    app.connect("autodoc-process-docstring", keep_stars, priority=100)  # before napoleon
