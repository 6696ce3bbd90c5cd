"""Run a benchmark and keep what it prints, with what it ran on; docs/performance.md is made of these records alone.

    python benchmarks/record.py NAME bench_road.py --rows jpeg   # runs it, and keeps benchmarks/records/NAME.json
    python benchmarks/record.py                                  # makes docs/performance.md anew

Record on a machine that does nothing else, from a commit: uncommitted changes are refused.
"""

from __future__ import annotations

import argparse
import ast
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
RECORDS = HERE / "records"
PAGE = HERE.parent / "docs" / "performance.md"
# The order of the page; a benchmark has as many records as it was run in parts.
ROOMS = {
    "bench_road.py": "From file to batch",
    "bench_io.py": "Reading",
    "bench_decoders.py": "Decoders",
    "bench_annotations.py": "Drawing annotations",
    "bench_transforms.py": "Transforms",
    "bench_batches.py": "Whole batches",
    "bench_collate.py": "Collate",
    "bench_samplers.py": "Samplers",
    "bench_losses.py": "Losses",
    "bench_mining.py": "Mining",
    "bench_metrics.py": "Metrics",
    "bench_predict.py": "Scenes",
    "bench_audit.py": "Audit",
    "bench_label_quality.py": "Label quality",
}
HEAD = """# Performance

Each block is what one command printed, with the commit, the versions and the machine. Within a run the contestants take
turns, so that the ratios hold on other machines too; milliseconds are those of the machine named. The peers come
with `pip install -e ".[bench]"`. To measure again, run `python benchmarks/record.py NAME bench_X.py [arguments]`, which
also rewrites this page.
"""


def imported(script: pathlib.Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(script.read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.split(".")[0] for name in names} - sys.stdlib_module_names


def versions(script: pathlib.Path) -> dict[str, str]:
    """Of the packages that the script imports, torch first."""
    installed = importlib.metadata.packages_distributions()
    found = {package for name in imported(script) | {"numpy"} for package in installed.get(name, [])[:1]} - {"segkit"}
    return {name: importlib.metadata.version(name) for name in sorted(found, key=lambda n: (n != "torch", n.lower()))}


def machine() -> str:
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores of {model}, {memory:.0f} GiB, Python {platform.python_version()}"


def git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=HERE, check=True, capture_output=True, text=True).stdout.strip()


def measure(name: str, script: str, arguments: list[str]) -> None:
    if git("status", "--porcelain", "--", "../src", f"./{script}"):
        sys.exit("record.py: commit src and the benchmark first; a record names the commit that it measured.")
    printed = []
    with subprocess.Popen([sys.executable, HERE / script, *arguments], stdout=subprocess.PIPE, text=True) as run:
        for line in run.stdout:
            print(line, end="", flush=True)
            printed.append(line.rstrip())
    if run.returncode:
        sys.exit(f"record.py: {script} ended with {run.returncode}; nothing was kept.")
    record = {
        "script": script,
        "arguments": arguments,
        "commit": git("log", "-1", "--format=%h"),
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "versions": versions(HERE / script),
        "printed": printed,
    }
    RECORDS.mkdir(exist_ok=True)
    (RECORDS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")


def page() -> str:
    records = [json.loads(path.read_text()) for path in sorted(RECORDS.glob("*.json"))]
    parts = [HEAD]
    for script, title in ROOMS.items():
        mine = [record for record in records if record["script"] == script]
        if not mine:
            continue
        summary = ast.get_docstring(ast.parse((HERE / script).read_text())).split("\n\n")[0].replace("\n", " ")
        parts.append(f"## {title}\n\n{summary}\n")
        for record in mine:
            command = " ".join(["python benchmarks/" + script, *record["arguments"]])
            packages = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
            text = "\n".join(record["printed"]).strip("\n")
            parts.append(
                f"```text\n{text}\n```\n\n`{command}` at commit {record['commit']}, {record['date']}, "
                f"{record['machine']}, {packages}.\n"
            )
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?")
    parser.add_argument("script", nargs="?", choices=list(ROOMS), metavar="SCRIPT")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if options.script:
        measure(options.name, options.script, options.arguments)
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
