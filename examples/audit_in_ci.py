"""Audit in the CI of a data repository: new faults turn it red, those somebody has accepted do not.

    python audit_in_ci.py images masks --num-classes 4 --accepted accepted.json
    python audit_in_ci.py --quick            # on a repository it draws itself: red, then green

Exit code 0: nothing new, 1: new findings, 2: unusable input. Without a list of accepted findings the shell is enough:
`segkit audit images masks --num-classes 4 --json report.json --html report.html` has the same exit codes.

A step of a CI (any that runs shell lines), and a local hook of pre-commit:

    - run: pip install segkit
    - run: python tools/audit_in_ci.py images masks --num-classes 4 --accepted accepted.json --html report.html

    repos:
      - repo: local
        hooks:
          - id: audit
            name: audit images and masks
            entry: segkit audit images masks --num-classes 4
            language: python
            additional_dependencies: [segkit]
            pass_filenames: false        # the set is judged as a whole: what is usual, what is there twice
            files: ^(images|masks)/
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import tempfile

from shapes import draw_data_set

from segkit.audit import AuditReport, audit_dataset


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="?", type=pathlib.Path)
    parser.add_argument("masks", nargs="?", type=pathlib.Path)
    parser.add_argument("--num-classes", type=int)
    parser.add_argument("--accepted", type=pathlib.Path, help='JSON: {"file name": ["code", ...]}')
    parser.add_argument("--html", type=pathlib.Path, help="a page for people, to keep as an artefact")
    parser.add_argument("--quick", action="store_true", help="show it on a small repository with planted faults")
    options = parser.parse_args()
    if options.quick:
        return show()
    if options.images is None:
        parser.error("the folder of images is missing")
    try:
        report = audit_dataset(options.images, options.masks, num_classes=options.num_classes, progress=False)
        accepted = json.loads(options.accepted.read_text()) if options.accepted else {}
    except (OSError, ValueError) as error:
        print(f"audit: {error}", file=sys.stderr)
        return 2
    if options.html:
        report.to_html(options.html)
    return judge(report, accepted)


def judge(report: AuditReport, accepted: dict[str, list[str]]) -> int:
    """One line for each new error or warning, as compilers write them. Notes do not count."""
    new = [
        finding
        for finding in report.findings
        if finding.severity != "info" and finding.code not in accepted.get(pathlib.Path(finding.path).name, [])
    ]
    for finding in new:
        print(f"{finding.path}: {finding.severity}: {finding.code}: {finding.reason} {finding.remedy}")
    print(f"{len(new)} new finding(s), {len(report.clean_pairs())} of {len(report.pairs)} pairs are usable")
    return 1 if new else 0


def show() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        images, masks = draw_data_set(pathlib.Path(scratch) / "repository", pairs=60)
        report = audit_dataset(images, masks, num_classes=4, progress=False)
        first = judge(report, {})
        print(f"exit code {first}\n\nthe broken files are removed, the rest is looked at and accepted:")
        for name in {pathlib.Path(finding.path).name for finding in report.select(severity="error")}:
            for folder in (images, masks):  # a file and its partner
                (folder / name).unlink(missing_ok=True)
        report = audit_dataset(images, masks, num_classes=4, progress=False)
        accepted: dict[str, list[str]] = {}
        for finding in report.findings:
            accepted.setdefault(pathlib.Path(finding.path).name, []).append(finding.code)
        second = judge(report, accepted)
        print(f"exit code {second}")
        return 0 if (first, second) == (1, 0) else 2


if __name__ == "__main__":
    sys.exit(main())
