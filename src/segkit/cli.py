"""segkit from a shell: look at a data set, at a file, before training on it.

Exit codes: 0 clean, 1 findings, 2 unusable input. Results go to standard output, progress and errors to standard error.

Example:
    >>> build_parser().parse_args(["audit", "images", "masks", "--num-classes", "4"]).num_classes
    4
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

__all__ = ["build_parser", "main"]

# Nothing heavy is imported up here: `segkit --help` answers at once.


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after ``segkit``; those of the process when None.

    Returns:
        0 clean, 1 findings, 2 unusable input.

    Example:
        >>> main(["info", "no-such-file.png"])
        2
    """
    parser = build_parser()
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as leaving:  # argparse has said what is wrong, or shown the help
        return int(leaving.code or 0)
    from segkit.errors import SegkitError

    try:
        return int(arguments.run(arguments))
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        print("segkit: interrupted", file=sys.stderr)
        return 2
    except (SegkitError, OSError, ValueError) as error:
        print(f"segkit: {_one_line(error)}", file=sys.stderr)
        return 2


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands.

    Example:
        >>> build_parser().prog
        'segkit'
    """
    import segkit

    parser = argparse.ArgumentParser(
        prog="segkit",
        description="Look at images and masks before training on them.",
        epilog="Exit codes: 0 clean, 1 findings, 2 unusable input.",
    )
    parser.add_argument("--version", action="version", version=f"segkit {segkit.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    audit = commands.add_parser("audit", help="find what is wrong with a data set", description=_audit.__doc__)
    _add_data_set(audit)
    audit.add_argument("--html", metavar="FILE", help="write the report as one page")
    audit.add_argument("--json", metavar="FILE", help="write the report as JSON; - is standard output")
    audit.set_defaults(run=_audit)

    info = commands.add_parser("info", help="what is in these files", description=_info.__doc__)
    info.add_argument("files", nargs="+", metavar="FILE")
    info.add_argument("--json", action="store_true", help="as JSON, one object a line")
    info.set_defaults(run=_info)
    return parser


def _add_data_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", metavar="IMAGES", help="folder of images")
    parser.add_argument("masks", metavar="MASKS", nargs="?", help="folder of masks; without it, images alone")
    parser.add_argument("--num-classes", type=int, metavar="N", help="labels must lie in [0, N)")
    parser.add_argument("--ignore-index", type=int, default=255, metavar="I", help="label of ignored pixels (255)")
    parser.add_argument("--colors", metavar="FILE", help='colours of coded masks, as JSON: {"255,0,0": 1}')
    parser.add_argument(
        "--pattern", metavar="P", help="how names belong together: '{stem}_mask', or a regular expression"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _audit(arguments: argparse.Namespace) -> int:
    """Read every file once and say what is wrong. Exit code 0: no error or warning, 1: some, 2: unusable input."""
    from segkit import audit

    report = audit.audit_dataset(
        arguments.images,
        arguments.masks,
        num_classes=arguments.num_classes,
        ignore_index=arguments.ignore_index,
        colors=_colors(arguments.colors),
        pattern=arguments.pattern,
        progress=not arguments.quiet,
    )
    if arguments.html:
        report.to_html(arguments.html)
    if arguments.json == "-":
        sys.stdout.write(report.to_json())
    else:
        if arguments.json:
            report.to_json(arguments.json)
        _summary(report)
    return 1 if any(finding.severity != "info" for finding in report.findings) else 0


def _summary(report: Any) -> None:
    """A table of what was found, for people."""
    images = sum(image is not None for image, _ in report.files)
    print(f"{images} images, {len(report.pairs)} pairs, of which {len(report.clean_pairs())} are usable")
    groups: dict[tuple[str, str], list[Any]] = {}
    for finding in report.findings:
        groups.setdefault((finding.severity, finding.code), []).append(finding)
    for (severity, code), findings in groups.items():
        print(
            f"{severity:8}{code:24}{len(findings):6}  {_printable(findings[0].path)}: {_printable(findings[0].reason)}"
        )
    if not groups:
        print("nothing found")


def _info(arguments: argparse.Namespace) -> int:
    """Say what each file's header says: size, channels, number type, compression. Exit code 2: one is unreadable."""
    from segkit import io
    from segkit.errors import SegkitError

    worst = 0
    for path in arguments.files:
        try:
            info = io.image_info(path)
        except (SegkitError, OSError, ValueError) as error:
            print(f"segkit: {_one_line(error)}", file=sys.stderr)
            worst = 2
            continue
        facts = {
            name: getattr(info, name)
            for name in (
                ["format", "height", "width", "channels", "bits_per_sample", "photometric", "planar", "tiled"]
                + ["compression", "pages", "levels", "orientation"]
            )
        }
        facts["dtype"] = str(info.dtype)
        if arguments.json:
            print(json.dumps({"path": path, **facts}))
        else:
            parts = [f"{info.format} {info.height} x {info.width} x {info.channels} {info.dtype}"]
            parts += [f"{info.bits_per_sample} bits", str(info.photometric), f"compression {info.compression}"]
            parts += ["tiled"] * bool(info.tiled) + ["planar"] * bool(info.planar)
            parts += [f"{info.pages} pages"] * (info.pages > 1) + [f"{info.levels} levels"] * (info.levels > 1)
            parts += [f"EXIF orientation {info.orientation}"] * (info.orientation != 1)
            print(f"{_printable(path)}: {', '.join(parts)}")
    return worst


def _colors(path: str | None) -> dict[tuple[int, int, int], int] | None:
    """The colour table of a JSON file: {"255,0,0": 1, ...} or {"#ff0000": 1, ...}."""
    from segkit.errors import DataError

    if path is None:
        return None
    colors = {}
    try:
        with open(path, encoding="utf-8") as file:
            for name, index in json.load(file).items():
                if name.startswith("#"):
                    rgb = [int(name[i : i + 2], 16) for i in (1, 3, 5)]
                else:
                    rgb = [int(part) for part in name.strip("()[] ").split(",")]
                red, green, blue = rgb
                colors[red, green, blue] = int(index)
    except (ValueError, AttributeError, TypeError) as error:
        raise DataError(f'--colors {path}: must be JSON such as {{"255,0,0": 1, "#00ff00": 2}}, got {error}.') from None
    return colors


def _one_line(error: Exception) -> str:
    return " ".join(_printable(str(error) or type(error).__name__).split())


def _printable(text: str) -> str:
    """Text that any terminal takes: no control characters, and escapes for bytes that are no UTF-8."""
    return "".join(c if c.isprintable() or c == " " else repr(c)[1:-1] for c in text)
