"""segkit from a shell: look at a data set or a file before training on it.

Exit codes: 0 clean, 1 findings, 2 unusable input, 128 + the number of a signal that ended it. Results go to standard
output, progress and errors to standard error.

Example:
    >>> build_parser().parse_args(["audit", "images", "masks", "--num-classes", "4"]).num_classes
    4
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from types import FrameType

__all__ = ["build_parser", "main"]

# Nothing heavy is imported up here: `segkit --help` answers at once.


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after ``segkit``; those of the process when None.

    Returns:
        0 clean, 1 findings, 2 unusable input; 128 + the number of the signal that ended it.

    Example:
        >>> main(["info", "no-such-file.png"])
        2
    """
    parser = build_parser()
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as leaving:  # argparse has said what is wrong, or shown the help
        return int(leaving.code or 0)
    commands = importlib.import_module("segkit.cli._commands")
    place, run = _place(arguments)
    from segkit.errors import SegkitError

    try:
        with _ended_by_signals():
            return int(getattr(importlib.import_module(f"segkit.cli.{place}"), run)(arguments))
    except BrokenPipeError:
        return 1
    except _Stopped as stop:
        name = signal.Signals(stop.number).name
        print(f"segkit: stopped by {name}; what is finished stays", file=sys.stderr)
        return 128 + stop.number
    except KeyboardInterrupt:
        print("segkit: interrupted; what is finished stays", file=sys.stderr)
        return 128 + signal.SIGINT
    except (SegkitError, OSError, ValueError) as error:
        print(f"segkit: {commands.one_line(error)}", file=sys.stderr)
        return 2


def _place(arguments: argparse.Namespace) -> tuple[str, str]:
    """The file and the function of a command. Annotations are converted in another way than pictures of masks."""
    if arguments.run == "convert_masks":
        endings = (".json", ".xml", ".csv", ".tsv", ".txt", ".yaml", ".yml")
        if arguments.classes is not None or arguments.source.lower().endswith(endings):
            return "_annotations", "convert_annotations"
    places = {"split": "_split", "examples": "_examples"}
    return places.get(arguments.run, "_commands"), arguments.run


class _Stopped(BaseException):
    """A signal asked the command to end; as with KeyboardInterrupt, no `except Exception` is to catch it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the command as ctrl-C does: what is under way is undone, what is finished stays."""

    def stop(number: int, frame: FrameType | None) -> None:
        for other in before:  # one is enough: the second would cut the tidying short
            signal.signal(other, signal.SIG_IGN)
        raise _Stopped(number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
        # Who started us may want one of them ignored, as nohup does.
        before = {
            number: signal.signal(number, stop) for number in numbers if signal.getsignal(number) != signal.SIG_IGN
        }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
        epilog="Exit codes: 0 clean, 1 findings, 2 unusable input. `segkit COMMAND --help` says more.",
    )
    parser.add_argument("--version", action="version", version=f"segkit {segkit.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    audit = commands.add_parser(
        "audit",
        help="find what is wrong with a data set",
        description="Read every file once and say what is wrong with it, on its own and against the rest of the set.",
        epilog="Exit codes: 0 no error or warning (infos do not count), 1 some, 2 unusable input.",
    )
    _data_set(audit)
    audit.add_argument("--pages", choices=["first", "channels"], help="what the pages are in files that have several")
    audit.add_argument(
        "--splits", metavar="FILE", help="table with the columns file (or stem) and split; finds leaks between splits"
    )
    audit.add_argument("--html", metavar="FILE", help="write the report as one page")
    audit.add_argument("--json", metavar="FILE", help="write the report as JSON; - is standard output")
    audit.add_argument("--list-clean", metavar="FILE", help="write the usable pairs as CSV: image, mask")
    audit.set_defaults(run="audit")

    stats = commands.add_parser(
        "stats",
        help="count a data set: means, classes, sizes, class weights",
        description="Mean, standard deviation and percentiles of each channel, pixels and images of each class, class "
        "weights, and the sizes.",
        epilog="Exit code 1: some files could not be counted.",
    )
    _data_set(stats)
    stats.add_argument(
        "--pages", choices=["first", "channels", "samples"], help="what the pages are in files that have several"
    )
    stats.add_argument(
        "--scheme", default="inverse", help="how class weights are made: inverse, median, effective or log (inverse)"
    )
    stats.add_argument("--json", metavar="FILE", help="write the statistics as JSON; - is standard output")
    stats.set_defaults(run="stats")

    info = commands.add_parser(
        "info",
        help="say what is in image files",
        description="Print what each file's header says (size, channels, number type, compression), which backends "
        "read its samples exactly (read_image takes the first of them), and what would be wrong with the others.",
        epilog="Exit code 2: a file cannot be read.",
    )
    info.add_argument("files", nargs="+", metavar="FILE")
    info.add_argument("--json", action="store_true", help="one JSON object per line")
    info.set_defaults(run="info")

    convert = commands.add_parser(
        "convert-masks",
        help="turn colours or annotations into masks of classes, or renumber classes",
        description="Write masks of classes as PNG (TIFF where labels exceed 65535) under the same names: from "
        "coloured or numbered masks with --colors or --map, from COCO, labelme, CVAT, Label Studio, YOLO or tables of "
        "run lengths with --classes. It reports annotations that are empty, outside the picture or overlapping.",
        epilog="Exit code 1: some masks could not be converted; they are named and left out.",
    )
    convert.add_argument("source", metavar="IN", help="masks or annotations: a folder or a file")
    convert.add_argument("out", metavar="OUT", help="folder for the new masks, created if missing")
    convert.add_argument("--colors", metavar="FILE", help='colours: JSON {"255,0,0": 1, "#00ff00": 2} or labelmap.txt')
    convert.add_argument(
        "--map", metavar="OLD=NEW", action="append", default=[], help="renumber a label; may be repeated"
    )
    drawn = convert.add_argument_group("annotations")
    drawn.add_argument(
        "--classes", metavar="FILE", help="class names, one per line, numbered from 1; or JSON {name: number}"
    )
    drawn.add_argument(
        "--format", default="auto", help="coco, labelme, cvat, label_studio, yolo or rle_csv; detected if not given"
    )
    drawn.add_argument("--images", metavar="DIR", help="the images, for their sizes; a size that differs is an error")
    drawn.add_argument(
        "--size", type=int, nargs=2, metavar=("H", "W"), help="size of all images, where nothing else gives it"
    )
    drawn.add_argument(
        "--order", choices=["column", "row"], help="pixel order of the run lengths in a table; usually column"
    )
    drawn.add_argument("--origin", type=int, choices=[0, 1], help="number of the first pixel in a table; usually 1")
    drawn.add_argument("--names", metavar="FILE", help="names of the YOLO classes, one per line")
    drawn.add_argument("--annotator", metavar="WHO", help="whose annotation counts where a task has several; or latest")
    drawn.add_argument(
        "--nested", default="parts", choices=["parts", "holes"], help="what COCO rings inside other rings are (parts)"
    )
    drawn.add_argument(
        "--crowd",
        default="class",
        choices=["class", "ignore"],
        help="what COCO crowds become: their class, or 255 (class)",
    )
    drawn.add_argument(
        "--columns", nargs="+", metavar="NAME", help="columns of a table: image, run lengths and, if any, class"
    )
    drawn.add_argument(
        "--unknown",
        default="error",
        type=_unknown,
        metavar="N",
        help="class of unlisted names or colours, and of NaN; or error, skip (error)",
    )
    drawn.add_argument(
        "--instances", action="store_true", help="number the objects 1, 2, ... instead of writing classes"
    )
    drawn.add_argument("--report", metavar="FILE", help="write everything that was noticed as JSON")
    drawn.add_argument("--quiet", action="store_true", help="no progress bar")
    convert.set_defaults(run="convert_masks")

    expand = commands.add_parser(
        "expand",
        help="write augmented copies of a data set",
        description="Write augmented copies of every pair, with a manifest; the same call resumes a stopped run.",
        epilog="Without any of --flip, --rotate, --zoom, --jitter, --crop: "
        "--flip --rotate 15 --zoom 0.15 --jitter 0.2.",
    )
    expand.add_argument("images", metavar="IMAGES", help="folder of images")
    expand.add_argument("masks", metavar="MASKS", help="folder of masks")
    expand.add_argument("out", metavar="OUT", help="folder for the copies")
    expand.add_argument("--copies", type=int, required=True, metavar="K", help="copies of each pair")
    expand.add_argument("--seed", type=int, default=0, metavar="S", help="the same seed gives the same files (0)")
    expand.add_argument(
        "--pattern", metavar="P", help="how mask names follow from image names: '{stem}_mask', or a regular expression"
    )
    expand.add_argument("--quiet", action="store_true", help="no progress bar")
    expand.add_argument("--flip", action="store_true", help="flip left to right and upside down at random")
    expand.add_argument("--rotate", type=float, metavar="DEGREES", help="rotate by up to this angle")
    expand.add_argument("--zoom", type=float, metavar="SHARE", help="scale by up to 1 + SHARE")
    expand.add_argument("--jitter", type=float, metavar="SHARE", help="change brightness and contrast by up to SHARE")
    expand.add_argument("--crop", type=int, nargs=2, metavar=("H", "W"), help="random crops of this size")
    expand.set_defaults(run="expand")

    tile = commands.add_parser(
        "tile",
        help="convert files that are slow to crop to tiled TIFF",
        description="Write every image or mask as a lossless tiled TIFF under the same name, read it back and compare; "
        "the same call resumes a stopped run. After that, a crop reads only a few blocks.",
        epilog="Exit code 1: some files were left out; they are named.",
    )
    tile.add_argument("source", metavar="IN", help="folder of images or masks, or one file")
    tile.add_argument("out", metavar="OUT", help="folder for the new files, created if missing")
    tile.add_argument("--tile", type=int, default=256, metavar="PIXELS", help="side of a tile (256)")
    tile.add_argument("--compression", default="zstd", help="zstd, deflate, lzw or none")
    tile.add_argument("--workers", type=int, metavar="N", help="number of processes (one per CPU)")
    tile.add_argument("--quiet", action="store_true", help="no progress bar")
    tile.set_defaults(run="tile")

    split = commands.add_parser(
        "split",
        help="split a data set into folds that do not leak",
        description="Split pairs into folds with equal shares of each class, and keep together what belongs together.",
    )
    split.add_argument("images", metavar="IMAGES", help="folder of images")
    split.add_argument("masks", metavar="MASKS", help="folder of masks")
    split.add_argument("--folds", type=int, default=5, metavar="K", help="number of folds (5)")
    split.add_argument(
        "--shares", type=float, nargs="+", metavar="SHARE", help="instead of --folds: shares that add up to 1"
    )
    split.add_argument(
        "--groups",
        metavar="P",
        help="regular expression; images with the same match of its group stay together: '^(.+?)_'",
    )
    split.add_argument("--duplicates", metavar="FILE", help="report of segkit audit --json; duplicates stay together")
    split.add_argument("--csv", metavar="FILE", help="write a table with the columns file and split")
    split.add_argument("--val", type=int, metavar="K", help="call this fold val in the table, and the others train")
    split.add_argument("--no-classes", action="store_true", help="read no masks, and balance only the number of images")
    split.add_argument("--ignore-index", type=int, default=255, metavar="I", help="label of ignored pixels (255)")
    split.add_argument("--seed", type=int, default=0, metavar="S", help="decides between equal choices (0)")
    split.add_argument(
        "--pattern", metavar="P", help="how mask names follow from image names: '{stem}_mask', or a regular expression"
    )
    split.add_argument("--quiet", action="store_true", help="no progress bar")
    split.set_defaults(run="split")

    examples = commands.add_parser(
        "examples",
        help="copy the examples into a folder",
        description="Write the examples into a folder, to run, read and change. Begin with quickstart.py.",
        epilog="An existing file that differs is never replaced.",
    )
    examples.add_argument(
        "out", metavar="DIR", help="folder for the examples, created if missing; . is the current one"
    )
    examples.set_defaults(run="examples")
    return parser


def _unknown(text: str) -> str | int:
    return text if text in ("error", "skip") else int(text)


def _data_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", metavar="IMAGES", help="folder of images")
    parser.add_argument(
        "masks", metavar="MASKS", nargs="?", help="folder of masks; without it only the images are read"
    )
    parser.add_argument("--num-classes", type=int, metavar="N", help="labels must be in [0, N)")
    parser.add_argument(
        "--ignore-index", type=_index, default=255, metavar="I", help="the ignored label, or none (255)"
    )
    parser.add_argument(
        "--colors", metavar="FILE", help='colours of colour-coded masks: JSON {"255,0,0": 1} or labelmap.txt'
    )
    parser.add_argument(
        "--unknown", default="error", metavar="CLASS", help="class of unlisted colours; or error (error)"
    )
    parser.add_argument(
        "--map", metavar="OLD=NEW", action="append", default=[], help="renumber a label; may be repeated"
    )
    parser.add_argument(
        "--unmapped",
        default="error",
        metavar="CLASS",
        help="class of labels that --map does not name; or error, keep (error)",
    )
    parser.add_argument(
        "--pattern", metavar="P", help="how mask names follow from image names: '{stem}_mask', or a regular expression"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _index(word: str) -> int | None:
    """A label, or "none"."""
    return None if word.lower() == "none" else int(word)
