"""Answer questions by training a small network many times.

    python -m experiments.run weights losses --data DIR --budget-minutes 20

DIR holds the folders sandstone_ct, camvid and membrane, each with images/, masks/ and pairs.csv; the shapes are drawn.
Groups whose folder is not there are left out, and this is said. First each setting looks for its learning rate on
training images, then all settings run seed by seed on the same crops. After five seeds the records say how many more
are needed, and these follow. The budget may end at any time; the same command goes on where the last one stopped.
The records, the tables and the plots lie in experiments/results.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import time
from collections.abc import Iterator

import torch
from tqdm import tqdm

from experiments import power, records, report
from experiments.data import SETS, Data, inner, load
from experiments.questions import QUESTIONS, Group

RESULTS = pathlib.Path(__file__).parent / "results"
RATES = (0.003, 0.01, 0.03)
SEARCH_SEED = 1000  # not one of those that count


class Runs:
    """The runs of one question: what is there, and what is still to do, in the order in which it is to be done."""

    def __init__(self, name: str, data: dict[str, Data], options: argparse.Namespace) -> None:
        self.name, self.question, self.data = name, QUESTIONS[name], data
        self.path, self.most = options.out / f"{name}.jsonl", options.seeds
        self.steps = options.steps
        self.records = [r for r in records.read(self.path) if "phase" in r]
        self.found = records.done(self.records)
        self.groups = {name: group for name, group in self.question.groups.items() if group.data in data}

    def key(self, phase: str, group: str, setting: str, seed: int, lr: float) -> records.Record:
        """What stands in front of each record."""
        data = self.data[self.groups[group].data]
        return {
            "phase": phase, "group": group, "setting": setting, "seed": seed, "lr": lr,
            "steps": self.steps or self.groups[group].steps,
            "data": data.name, "sha256": data.sha256,
        }  # fmt: skip

    def rate(self, group: str, setting: str) -> float | None:
        """The learning rate with the highest first metric on held-out training images; None: not all are tried."""
        if not self.groups[group].search_each:
            setting = next(iter(self.groups[group].settings))
        tried = {lr: self.found.get(records.key(self.key("search", group, setting, SEARCH_SEED, lr))) for lr in RATES}
        if None in tried.values():
            return None
        return max(RATES, key=lambda lr: next(iter(tried[lr]["metrics"].values())))  # type: ignore[index]

    def searches(self) -> Iterator[records.Record]:
        """The runs that choose the learning rates."""
        for name, group in self.groups.items():
            for setting in group.settings if group.search_each else [next(iter(group.settings))]:
                for lr in RATES:
                    yield self.key("search", name, setting, SEARCH_SEED, lr)

    def first(self) -> Iterator[records.Record]:
        """The first seeds of all settings."""
        return self._seeds({})

    def planned(self) -> Iterator[records.Record]:
        """As many seeds as the records' own plan asks for."""
        return self._seeds({(r["group"], r["setting"]): r["seeds"] for r in records.of(self.records, "plan")})

    def _seeds(self, plan: dict[tuple[str, str], int]) -> Iterator[records.Record]:
        for seed in range(self.most):
            for name, group in self.groups.items():
                wanted = {setting: plan.get((name, setting), power.FIRST) for setting in group.settings}
                wanted[next(iter(wanted))] = max(wanted.values())  # what the others are compared with
                for setting in (s for s, seeds in wanted.items() if seed < seeds):
                    lr = self.rate(name, setting)
                    if lr is not None:
                        yield self.key("run", name, setting, seed, lr)

    def plan(self) -> None:
        """Write down, once for each group with its first seeds, how many each setting is to have."""
        there = {r["group"] for r in records.of(self.records, "plan")}
        for name in (name for name in self.groups if name not in there):
            mine = [r for r in records.of(self.records, "run") if r["group"] == name]
            for plan in power.plans(mine, list(self.groups[name].settings), self.most):
                self.add({"phase": "plan", "group": name, **plan})

    def add(self, record: records.Record) -> None:
        """Onto the disk, and to what is there; the runs of an earlier harness make room."""
        if any("phase" not in r for r in records.read(self.path)):
            self.path.unlink()
        records.append(self.path, record)
        self.records.append(record)
        self.found = records.done(self.records)

    def do(self, key: records.Record) -> records.Record:
        """One run, measured."""
        group: Group = self.groups[key["group"]]
        data = self.data[group.data]
        start = time.process_time()
        outcome = group.settings[key["setting"]](
            inner(data) if key["phase"] == "search" else data, key["seed"], key["steps"], key["lr"]
        )
        rounded = {name: round(value, 5) for name, value in outcome.metrics.items()}
        return {
            **key, "metrics": rounded, "late": [round(v, 5) for v in outcome.late], "raw": round(outcome.raw, 5),
            "training": round(outcome.seconds, 1), "seconds": round(time.process_time() - start, 1),
        }  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=QUESTIONS, metavar="NAME", help=f"of {', '.join(QUESTIONS)}")
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder of the data sets' folders")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), help="data sets; all if none is named")
    parser.add_argument("--seeds", type=int, default=power.MOST, help="at most so many runs of each setting")
    parser.add_argument("--budget-minutes", type=float, default=30.0, help="no run begins after this")
    parser.add_argument("--steps", type=int, help="batches of 8 crops in each run, if not the group's own number")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS, help="where records, tables and plots go")
    parser.add_argument(
        "--again", nargs=3, metavar=("GROUP", "SETTING", "SEED"), help="one run of the records, beside its record"
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # the same numbers whatever else the machine does

    began, environment = time.monotonic(), records.environment()
    data = _load(options)
    runs = [Runs(name, data, options) for name in options.names]
    if options.again:
        return _again(runs[0], *options.again)
    for stages in ((Runs.searches, Runs.first), (Runs.planned,)):  # all questions have first seeds before one has more
        for one in runs:
            for stage in stages:
                todo = [key for key in stage(one) if records.key(key) not in one.found]
                for key in tqdm(todo, desc=one.name, disable=not sys.stderr.isatty()):
                    if time.monotonic() - began > 60 * options.budget_minutes:
                        print(f"{one.name}: the budget is used up, the same command goes on")
                        break
                    one.add({**one.do(key), **environment})
            one.plan()
    written = [one for one in runs if records.of(one.records, "run")]
    for one in written:
        report.write(one.name, one.question, one.records, options.out)
        print((options.out / f"{one.name}.md").read_text())
    if not written:
        print("no setting has run yet: give a longer --budget-minutes")
    return 0 if written else 1


def _load(options: argparse.Namespace) -> dict[str, Data]:
    data = {}
    wanted = {group.data for question in options.names for group in QUESTIONS[question].groups.values()}
    for name in sorted(wanted & set(options.sets)):
        try:
            data[name] = load(options.data, name)
        except FileNotFoundError as error:
            print(f"{name} is left out: no file {error.filename}")
    return data


def _again(runs: Runs, group: str, setting: str, seed: str) -> int:
    lr = runs.rate(group, setting)
    key = runs.key("run", group, setting, int(seed), lr if lr is not None else RATES[0])
    print("recorded:", runs.found.get(records.key(key), {}).get("metrics", "nothing"))
    print("again:   ", runs.do(key)["metrics"])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
