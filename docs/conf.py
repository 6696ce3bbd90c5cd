"""How the documentation is built: ``sphinx-build -W docs html``, offline, warnings as errors."""

from __future__ import annotations

import importlib
import inspect
import pathlib
import re
import sys

from sphinx.util import logging

import segkit

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "gallery"))  # what the gallery imports: its landscape, its colours

project = "segkit"
author = "the segkit maintainers"
copyright = "2026, the segkit maintainers"
version = release = segkit.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_gallery.gen_gallery"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3  # so that a page can link to a heading of another; a dead link is a warning
exclude_patterns = ["_build", "gallery"]

autodoc_typehints = "none"  # docstrings say shapes and ranges, which annotations can not
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False

default_role = "py:obj"  # a name in single backticks links to its entry, where there is one
suppress_warnings = ["ref.python"]  # several classes have a `reason`; such a name then stays plain text

html_theme = "furo"
html_title = "segkit"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False


sphinx_gallery_conf = {
    "examples_dirs": str(HERE / "gallery"),
    "gallery_dirs": "_gallery",  # written beside the pages by the build, never committed
    "filename_pattern": r"\.py$",
    "ignore_pattern": r"(scene|looks)\.py$",
    "within_subsection_order": "looks.RoadOrder",
    "reset_modules": ("matplotlib", "looks.quiet_colors"),
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
    "min_reported_time": 1e9,
    "capture_repr": (),
    "image_srcset": ["2x"],
    "abort_on_example_error": False,
    "only_warn_on_example_error": False,
    "remove_config_comments": True,
    "plot_gallery": "True",
}


def keep_stars(app, what, name, obj, options, lines):
    """Docstrings write shapes as [B, *spatial]; reStructuredText would take that star for emphasis."""
    for i, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            parts = re.split(r"(``.*?``)", line)  # literals stay as they are
            lines[i] = "".join(
                p if p.startswith("``") else re.sub(r"(?<![\\*\w])\*(?=[\w,)])", r"\\*", p) for p in parts
            )


def ask_for_a_page(app, env):
    """A public name without an entry on some page is a warning, so it fails the build."""
    entries = env.get_domain("py").objects
    for room in (*segkit.ROOMS, "losses.functional", "transforms.functional"):
        module = importlib.import_module(f"segkit.{room}")
        for name in module.__all__:
            thing, entry = getattr(module, name), f"segkit.{room}.{name}"
            if (inspect.isclass(thing) or inspect.isroutine(thing)) and entry not in entries:
                logging.getLogger(__name__).warning(f"{entry} is public and on no page; add it to docs/")


def setup(app):
    app.connect("autodoc-process-docstring", keep_stars, priority=100)  # before napoleon
    app.connect("env-check-consistency", ask_for_a_page)
