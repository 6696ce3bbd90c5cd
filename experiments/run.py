"""Answer a question by training a small network many times.

    python -m experiments.run losses --data DIR --seeds 5 --budget-minutes 20

DIR holds images/, masks/ and pairs.csv. Runs go seed by seed through all settings, so that the budget may end at any
time; the same command goes on where the last one stopped. The records, the table and the plot lie in
experiments/results.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import time

import torch
from tqdm import tqdm

from experiments import records, report
from experiments.data import load
from experiments.questions import QUESTIONS

RESULTS = pathlib.Path(__file__).parent / "results"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=QUESTIONS, help="which question")
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder with images/, masks/ and pairs.csv")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each setting")
    parser.add_argument("--budget-minutes", type=float, default=30.0, help="no run begins after this")
    parser.add_argument("--steps", type=int, default=200, help="batches of 8 crops in each run")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS, help="where records, table and plot go")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # the same numbers whatever else the machine does

    question, path = QUESTIONS[options.name], options.out / f"{options.name}.jsonl"
    data, environment, began = load(options.data), records.environment(), time.monotonic()
    finished = records.done(records.read(path))
    todo = [
        (group, setting, seed)
        for seed in range(options.seeds)
        for group, settings in question.groups.items()
        for setting in settings
        if (group, setting, seed, options.steps) not in finished
    ]
    for group, setting, seed in tqdm(todo, disable=not sys.stderr.isatty()):
        if time.monotonic() - began > 60 * options.budget_minutes:
            print(f"the budget is used up; {len(todo)} runs were to do, the same command goes on")
            break
        start = time.process_time()
        metrics = question.groups[group][setting](data, seed, options.steps)
        record = {"group": group, "setting": setting, "seed": seed, "steps": options.steps, "metrics": metrics}
        record |= {"seconds": round(time.process_time() - start, 2), "data": options.data.name, **environment}
        records.append(path, record)
    found = [r for r in records.read(path) if r["steps"] == options.steps]
    if not found:
        print("nothing was run: give a longer --budget-minutes")
        return 1
    command = f"python -m experiments.run {options.name} --data DIR --seeds {options.seeds} --steps {options.steps}"
    table = report.table(question, found, command)
    (options.out / f"{options.name}.md").write_text(table)
    report.plot(question, found, options.out / f"{options.name}.png")
    print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
