"""The report as one page: what the template needs, prepared so that its size is bounded whatever the set's."""

from __future__ import annotations

import base64
import importlib.resources
import math
import os
import shlex
from collections import Counter
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

import segkit
from segkit import io, labels, viz
from segkit.audit._judge.checks import CODES
from segkit.audit._judge.set import MeasuredSet
from segkit.audit._measure.finding import Code, Finding

# What bounds the page below 5 MiB: characters of all pictures, and of all rows.
_PICTURES, _PICTURES_PER_CODE = 5 * 2**19, 12
_ROWS, _ROWS_PER_CODE = 3 * 2**19, 200
_TILE = 160
_BARS, _STRANGE_BARS = 40, 6
_DOTS = 400
_MOST_FILES_TO_MOVE = 50


def page_of(data: MeasuredSet, *, pairs: int, clean: int) -> str:
    """The whole page as HTML text."""
    import jinja2

    source = importlib.resources.files("segkit.audit._report").joinpath("report.html.j2").read_text("utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    folder = _common_folder(data)
    environment.filters["short"] = lambda path: path.removeprefix(f"{folder}{os.sep}") if folder else path
    page = environment.from_string(source).render(
        folder=folder,
        version=segkit.__version__,
        numbers=_numbers(data, pairs, clean),
        groups=list(_groups(data)),
        classes=_class_bars(data),
        more_labels=max(0, len(data.labels) - len(_class_bars(data))),
        sizes=_size_dots(data),
    )
    # A name that is not UTF-8 holds lone surrogates; they are shown as \udcff, since a page is UTF-8.
    return page.encode("utf-8", "backslashreplace").decode("utf-8")


def _numbers(data: MeasuredSet, pairs: int, clean: int) -> dict[str, Any]:
    severities = Counter(finding.severity for finding in data.findings)
    return {
        "images": sum(image is not None for image, _ in data.files),
        "masks": sum(mask is not None for _, mask in data.files),
        "pairs": pairs,
        "clean": clean,
        "error": severities["error"],
        "warning": severities["warning"],
        "info": severities["info"],
    }


def _common_folder(data: MeasuredSet) -> str:
    """The folder that all files are in: it is said once, and names are shown without it."""
    folders = {os.path.dirname(path) for pair in data.files for path in pair if path is not None}
    try:
        common = os.path.commonpath(folders) if folders else ""
    except ValueError:  # some are absolute and some are not
        return ""
    return "" if ".." in common.split(os.sep) else common.rstrip(os.sep)


def _groups(data: MeasuredSet) -> Iterator[dict[str, Any]]:
    """One dict for each code that was found, errors first."""
    of_code: dict[tuple[str, str], list[Finding]] = {}
    for finding in data.findings:
        of_code.setdefault((finding.severity, finding.code), []).append(finding)
    partner = {path: pair for pair in data.files for path in pair if path is not None}
    pictures_left, rows_left = _PICTURES, _ROWS
    for (severity, code), findings in of_code.items():
        pictures = []
        for finding in findings[:_PICTURES_PER_CODE]:
            for path in [finding.path] + ([finding.related] if "duplicate" in code or "leak" in code else []):
                picture = _thumbnail(partner.get(path or ""), data) if pictures_left > 0 else None
                if picture is not None:
                    pictures.append({"path": path, "reason": finding.reason, **picture})
                    pictures_left -= len(picture["data"]) + 400
        shown = []
        for finding in findings[:_ROWS_PER_CODE]:
            rows_left -= 200 + sum(len(str(part)) for part in finding[2:6])
            if rows_left > 0:
                shown.append(finding)
        words = code.replace("-", " ").capitalize()  # of a check of the user's own
        kind = CODES.get(code, Code(findings[0].severity, words, findings[0].remedy))
        yield {
            "code": code,
            "severity": severity,
            "title": kind.title,
            "remedy": kind.remedy,
            "count": len(findings),
            "files": len({finding.path for finding in findings}),
            "findings": shown,
            "more": len(findings) - len(shown),
            "pictures": pictures,
            "command": _command(code, findings, data.options.ignore_index),
        }


def _thumbnail(pair: tuple[str | None, str | None] | None, data: MeasuredSet) -> dict[str, Any] | None:
    """A small JPEG of the image with its mask over it; None when it cannot be read, as a bad file cannot."""
    if pair is None or pair[0] is None:
        return None
    try:
        image = io.read_image(pair[0])
        scale = _TILE / max(image.shape[:2])
        height, width = (max(1, round(edge * min(scale, 1))) for edge in image.shape[:2])
        picture = cv2.resize(viz.to_rgb(image), (width, height), interpolation=cv2.INTER_AREA)
    except (OSError, ValueError, MemoryError, cv2.error):
        return None
    masked = False
    if pair[1] is not None:
        try:
            mask = io.read_mask(pair[1], colors=data.options.colors)
            if data.options.remap is not None:
                mask = labels.remap(mask, data.options.remap, unmapped="keep")
            if mask.shape == image.shape[:2]:
                rows = ((np.arange(height) + 0.5) * mask.shape[0] / height).astype(int)
                columns = ((np.arange(width) + 0.5) * mask.shape[1] / width).astype(int)
                small = mask[rows[:, None], columns]
                laid = viz.overlay(picture, small, alpha=0.55, ignore_index=data.options.ignore_index)
                gap = np.full((height, 4, 3), 128, np.uint8)
                picture = np.concatenate([picture, gap, laid], 1)
                masked = True
        except (OSError, ValueError, MemoryError):
            masked = False
    done, code = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 78])
    if not done:
        return None
    return {
        "data": base64.b64encode(code.tobytes()).decode("ascii"),
        "width": picture.shape[1],
        "height": picture.shape[0],
        "masked": masked,
    }


def _command(code: str, findings: list[Finding], ignore_index: int | None) -> str:
    """A line for the shell that repairs, or puts aside, what was found."""
    if code == "color-coded-mask":
        return "segkit convert-masks MASKS NEW_MASKS --colors colors.json"
    if code == "foreground-is-ignored":
        return f"segkit convert-masks MASKS NEW_MASKS --map {ignore_index}=1"
    paths = list(dict.fromkeys(finding.path for finding in findings if finding.path))
    # A name with a line break or with bytes that are no text cannot be copied from a page.
    paths = [path for path in paths if path.isprintable()]
    if not paths:
        return ""
    more = f"  # and {len(paths) - _MOST_FILES_TO_MOVE} more" if len(paths) > _MOST_FILES_TO_MOVE else ""
    names = " ".join(shlex.quote(path) for path in paths[:_MOST_FILES_TO_MOVE])
    return f"mkdir -p set-aside && mv -- {names} set-aside{more}"


def _class_bars(data: MeasuredSet) -> list[dict[str, Any]]:
    """One bar for each class: its share of the pixels, the bar's length by the root so that rare ones are seen."""
    found = dict(data.labels)
    if data.options.num_classes is not None:
        for label in range(min(data.options.num_classes, _BARS)):
            found.setdefault(label, [0, 0])
    total = sum(pixels for pixels, _ in found.values())
    if not total:
        return []
    limit = data.options.num_classes
    frequent = sorted(sorted(found), key=lambda label: -found[label][0])
    strange = [label for label in frequent if limit is not None and not 0 <= label < limit]
    shown = {label for label in frequent if label not in strange[_STRANGE_BARS:]}
    shown = set([label for label in frequent if label in shown][:_BARS])
    colors = viz.class_colors(256)
    return [
        {
            "label": label,
            "pixels": found[label][0],
            "masks": found[label][1],
            "share": found[label][0] / total,
            "length": round(100 * math.sqrt(found[label][0] / total), 2),
            "color": "rgb({},{},{})".format(*colors[label]) if 0 <= label < 256 else "gray",
            "unexpected": limit is not None and not 0 <= label < limit,
        }
        for label in sorted(shown)
    ]


def _size_dots(data: MeasuredSet) -> dict[str, Any] | None:
    """Height against width, one dot for each size, larger for more images; the commonest sizes if there are many."""
    good = data.rows[data.rows["image_ok"]]
    if not good.size:
        return None
    sizes = Counter(zip(good["width"].tolist(), good["height"].tolist(), strict=True))
    widest = max(max(width, height) for width, height in sizes)
    most = max(sizes.values())
    dots = [
        {
            "x": round(300 * width / widest, 1),
            "y": round(300 - 300 * height / widest, 1),
            "r": round(4 + 8 * math.sqrt(count / most), 1),
            "width": width,
            "height": height,
            "count": count,
        }
        for (width, height), count in sorted(sizes.items(), key=lambda entry: (-entry[1], entry[0]))[:_DOTS]
    ]
    return {"dots": dots, "widest": widest, "kinds": len(sizes), "more": len(sizes) - len(dots)}
