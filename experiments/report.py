"""From records to a table with means, confidence intervals and paired tests, and to a plot."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from scipy import stats

from experiments.questions import Question
from experiments.records import Record


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % confidence interval (Student's t); nan for one value."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, float("nan")
    return mean, float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))


def holm(p: Sequence[float]) -> list[float]:
    """P-values corrected for as many tests (Holm 1979); nan stays."""
    order = [i for i in np.argsort(p) if not np.isnan(p[i])]
    corrected, highest = [float("nan")] * len(p), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, p[i] * (len(order) - rank)))
        corrected[i] = highest
    return corrected


def compare(first: dict[int, float], other: dict[int, float]) -> tuple[float, float]:
    """Mean difference over the seeds both have, and the p-value of the paired t-test."""
    seeds = sorted(first.keys() & other.keys())
    differences = [other[s] - first[s] for s in seeds]
    if len(seeds) < 2 or np.ptp(differences) == 0:
        return float(np.mean(differences)) if seeds else float("nan"), float("nan")
    return float(np.mean(differences)), float(stats.ttest_1samp(differences, 0).pvalue)


def by_setting(records: Sequence[Record], group: str, metric: str) -> dict[str, dict[int, float]]:
    """setting → seed → value."""
    found: dict[str, dict[int, float]] = {}
    for record in records:
        if record["group"] == group and metric in record["metrics"]:
            found.setdefault(record["setting"], {})[record["seed"]] = record["metrics"][metric]
    return found


def table(question: Question, records: Sequence[Record], command: str) -> str:
    """Markdown: for each group a table, a row for each setting."""
    lines = [f"# {question.text}", ""]
    for group, settings in question.groups.items():
        mine = [r for r in records if r["group"] == group]
        if not mine:
            continue
        metrics = list(mine[0]["metrics"])
        main = by_setting(mine, group, metrics[0])
        names = [s for s in settings if s in main]
        pairs = {s: compare(main[names[0]], main[s]) for s in names[1:]}
        p = dict(zip(pairs, holm([pair[1] for pair in pairs.values()]), strict=True))
        lines += [f"## {group}", "", f"| setting | seeds | {' | '.join(metrics)} | against the first | p (Holm) |"]
        lines.append("| --- | --- |" + " --- |" * (len(metrics) + 2))
        for s in names:
            values = [interval(list(by_setting(mine, group, m).get(s, {0: float("nan")}).values())) for m in metrics]
            cells = [f"{mean:.3f} ± {half:.3f}" if not np.isnan(half) else f"{mean:.3f}" for mean, half in values]
            against = f"{pairs[s][0]:+.3f} | {p[s]:.3f}" if s in pairs else "– | –"
            lines.append(f"| {s} | {len(main[s])} | {' | '.join(cells)} | {against} |")
        lines.append("")
    seconds = sum(r["seconds"] for r in records)
    unlike = sorted({(r["commit"], r["torch"], r["python"], r["machine"]) for r in records})
    lines += [
        "Means over seeds with 95 % confidence intervals (Student's t). The difference is that of the first column of "
        "numbers to the first row, seed by seed; p is that of a paired t-test, corrected for the tests of its table "
        "(Holm). Few seeds: a large p says that nothing was found, not that there is nothing.",
        "",
        f"{len(records)} runs of {records[0]['steps']} steps, {seconds / 60:.0f} minutes in all, seeds "
        f"{sorted({r['seed'] for r in records})}, data `{records[0]['data']}`.",
        "",
        *(f"- commit {c}, torch {t}, Python {v}, {m}" for c, t, v, m in unlike),
        "",
        f"Again: `{command}`",
    ]
    return "\n".join(lines) + "\n"


def plot(question: Question, records: Sequence[Record], path: pathlib.Path) -> None:
    """The first metric: a dot for each seed, the mean and its interval."""
    groups = [g for g in question.groups if any(r["group"] == g for r in records)]
    rows = max(len(question.groups[g]) for g in groups)
    figure, axes = plt.subplots(
        1,
        len(groups),
        figsize=(3.2 * len(groups) + 1.2, 0.32 * rows + 1.1),
        sharey="row",
        squeeze=False,
        layout="constrained",
    )
    for axis, group in zip(axes[0], groups, strict=True):
        metric = next(iter(next(r for r in records if r["group"] == group)["metrics"]))
        found = by_setting(records, group, metric)
        names = [s for s in question.groups[group] if s in found]
        for y, name in enumerate(names):
            values = list(found[name].values())
            mean, half = interval(values)
            axis.plot(values, [y] * len(values), "o", color="0.7", markersize=4)
            axis.errorbar(mean, y, xerr=None if np.isnan(half) else half, fmt="o", color="#1f5fa8", capsize=3)
        axis.set_yticks(range(len(names)), names)
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.set_title(group, fontsize=10)
        axis.set_xlabel(metric)
        axis.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)
