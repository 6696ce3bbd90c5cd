"""From records to a table of differences with their intervals, to a plot, and to one page about all questions."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Sequence

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from scipy import stats

from experiments import power
from experiments.power import Values, differences, interval
from experiments.questions import QUESTIONS, Question
from experiments.records import Record, of, read


def holm(p: Sequence[float]) -> list[float]:
    """P-values corrected for as many tests (Holm 1979); nan stays."""
    order = [i for i in np.argsort(p) if not np.isnan(p[i])]
    corrected, highest = [float("nan")] * len(p), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, p[i] * (len(order) - rank)))
        corrected[i] = highest
    return corrected


def p_value(values: Sequence[float]) -> float:
    """Of the paired t-test; nan where nothing differs or can be told."""
    return float("nan") if len(values) < 2 or np.ptp(values) == 0 else float(stats.ttest_1samp(values, 0).pvalue)


def groups(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The runs of each group, in the order of the records."""
    found: dict[str, list[Record]] = {}
    for record in of(records, "run"):
        found.setdefault(record["group"], []).append(record)
    return found


def by_setting(records: Sequence[Record], metric: str) -> dict[str, Values]:
    """setting → seed → value; the first setting is what the others are compared with."""
    found: dict[str, Values] = {}
    for record in records:
        if metric in record["metrics"]:
            found.setdefault(record["setting"], {})[record["seed"]] = record["metrics"][metric]
    return found


def answer(values: Sequence[float]) -> str:
    """What the 95 % interval of some differences says."""
    mean, half = interval(values)
    if np.isnan(half):
        return "–"
    if abs(mean) > half:
        return "higher" if mean > 0 else "lower"
    return f"none above {abs(mean) + half:.3f}" if half <= power.WANTED else "open"


def table(question: Question, records: Sequence[Record], name: str) -> str:
    """Markdown: for each group a table, a row for each setting."""
    lines = [f"# {question.text}", ""]
    for group, mine in groups(records).items():
        metrics = list(mine[0]["metrics"])
        values = {metric: by_setting(mine, metric) for metric in metrics}
        main, first = values[metrics[0]], mine[0]["setting"]
        apart = {s: differences(main[first], main[s]) for s in main if s != first}
        p = dict(zip(apart, holm([p_value(d) for d in apart.values()]), strict=True))
        lines += [f"## {group}", ""]
        lines += [f"| setting | seeds | rate | seconds | {' | '.join(metrics)} | answer | p (Holm) | seen from |"]
        lines += ["| --- " * (len(metrics) + 7) + "|"]
        for setting, found in main.items():
            cells = [_cell(values[m].get(setting, {}), values[m][first], setting == first) for m in metrics]
            own = [r for r in mine if r["setting"] == setting]
            rates = ", ".join(sorted({f"{r['lr']:g}" for r in own if "lr" in r})) or "0.003"
            seconds = np.mean([r.get("training", r["seconds"]) for r in own])
            verdict = "– | – | –"
            if setting != first:
                verdict = f"{answer(apart[setting])} | {p[setting]:.3f} | {power.seen_from(apart[setting]):.3f}"
            lines.append(f"| {setting} | {len(found)} | {rates} | {seconds:.0f} | {' | '.join(cells)} | {verdict} |")
        lines.append("")
    return "\n".join([*lines, *_footer(records, name)]) + "\n"


def _cell(values: Values, first: Values, is_first: bool) -> str:
    mean, half = interval(list(values.values()))
    if is_first:
        return f"{mean:.3f}" if np.isnan(half) else f"{mean:.3f} ± {half:.3f}"
    change, half = interval(differences(first, values))
    return f"{mean:.3f} ({change:+.3f})" if np.isnan(half) else f"{mean:.3f} ({change:+.3f} ± {half:.3f})"


def _footer(records: Sequence[Record], name: str) -> list[str]:
    runs, searches, plans = (of(records, phase) for phase in ("run", "search", "plan"))
    lines = [
        "The first row has means over seeds, the others in brackets the mean difference to it, seed by seed, all with "
        "95 % confidence intervals (Student's t). The answer is about the first metric: higher or lower, where the "
        "interval leaves zero out; none above x, where no difference larger than x fits into an interval of ± 0.02; "
        "else open. p: paired t-test, corrected for the tests of its table (Holm). Seen from: the smallest difference "
        "that as many seeds tell from zero in 80 of 100 repetitions. Seconds: CPU time of a training, one thread.",
        "",
    ]
    if plans:
        asked = "; ".join(f"{p['group']}, {p['setting']}: {p['seeds']} (deviation {p['deviation']:.3f})" for p in plans)
        lines += [f"Planned after {power.FIRST} seeds: {asked}.", ""]
    seconds = sum(r["seconds"] for r in [*runs, *searches])
    steps = ", ".join(map(str, sorted({r["steps"] for r in runs})))
    sets = ", ".join(sorted({f"`{r['data']}`" + (f" (sha256 {r['sha256']})" if "sha256" in r else "") for r in runs}))
    unlike = sorted({(r["commit"], r["torch"], r["python"], r["machine"]) for r in [*runs, *searches]})
    lines += [
        f"{len(runs)} runs and {len(searches)} for the learning rates, {steps} steps each, "
        f"{seconds / 3600:.2f} core-hours, data {sets}.",
        "",
        *(f"- commit {c}, torch {t}, Python {v}, {m}" for c, t, v, m in unlike),
        "",
    ]
    if not searches:
        return [*lines, "Runs of an earlier harness: last weights, one learning rate for all; to be run again."]
    return [*lines, f"Again: `python -m experiments.run {name} --data DIR`"]


def summary(results: dict[str, list[Record]]) -> str:
    """Markdown: what all questions cost, how many answers they have, and what the averaged weights do."""
    lines = ["| question | runs | core-hours | told apart | no difference above ± 0.02 | open |", "| --- " * 6 + "|"]
    total = 0.0
    for name, records in results.items():
        said, seconds = [], sum(r["seconds"] for r in records if "seconds" in r)
        total += seconds
        for mine in groups(records).values():
            main = by_setting(mine, next(iter(mine[0]["metrics"])))
            first = main.pop(mine[0]["setting"])
            said += [answer(differences(first, other)) for other in main.values()]
        apart, none = sum(s in ("higher", "lower") for s in said), sum(s.startswith("none") for s in said)
        earlier = "" if of(records, "search") else " (earlier runs)"
        lines.append(
            f"| {QUESTIONS[name].text}{earlier} | {len(records) - len(of(records, 'plan'))} | {seconds / 3600:.2f} | "
            f"{apart} | {none} | {len(said) - apart - none} |"
        )
    return (
        "\n".join([*lines, "", f"In all {total / 3600:.2f} core-hours, one thread each.", *averaging(results)]) + "\n"
    )


def averaging(results: dict[str, list[Record]]) -> list[str]:
    """What averaging does to the deviation between seeds, over all settings with their first seeds."""
    steps: dict[str, Callable[[Record], float]] = {
        "the last weights": lambda r: r["raw"],
        "the averaged weights at the end": lambda r: r["late"][-1],
        "the mean of the averaged weights' late points": lambda r: float(np.mean(r["late"])),
    }
    own, apart = [], []  # variances [settings, steps]: between seeds, and of the differences to the first setting
    for records in results.values():
        for mine in groups([r for r in records if "raw" in r]).values():
            values = {}
            for r in mine:
                values.setdefault(r["setting"], {})[r["seed"]] = [step(r) for step in steps.values()]
            first = values[mine[0]["setting"]]
            for found in values.values():
                seeds = sorted(first.keys() & found.keys())
                if len(seeds) >= power.FIRST:
                    own.append(np.var([found[s] for s in seeds], axis=0, ddof=1))
                    apart.append(np.var([np.subtract(found[s], first[s]) for s in seeds], axis=0, ddof=1))
    apart = [v for v in apart if v.any()]  # not the first setting's own
    if not apart:
        return []
    rows = [f"| {name} | {a:.4f} | {b:.4f} |" for name, a, b in zip(steps, _root(own), _root(apart), strict=True)]
    return [
        "",
        f"What averaging does, over {len(own)} settings with {power.FIRST} seeds or more:",
        "",
        "| the first metric of | deviation between seeds | of the differences |",
        "| --- " * 3 + "|",
        *rows,
    ]


def _root(variances: list[np.ndarray]) -> np.ndarray:
    return np.sqrt(np.mean(variances, axis=0))


def plot(records: Sequence[Record], path: pathlib.Path) -> None:
    """The first metric's differences to the first setting: a dot for each seed, the mean and its interval."""
    found = groups(records)
    rows = max(len({r["setting"] for r in mine}) for mine in found.values())
    longest = max(len(r["setting"]) for r in records)
    size = len(found) * (2.6 + 0.075 * longest), 0.32 * rows + 1.1  # inches; the names stand beside each
    figure, axes = plt.subplots(1, len(found), figsize=size, squeeze=False, layout="constrained")
    for axis, (group, mine) in zip(axes[0], found.items(), strict=True):
        metric = next(iter(mine[0]["metrics"]))
        main = by_setting(mine, metric)
        first = main.pop(mine[0]["setting"])
        for y, other in enumerate(main.values()):
            values = differences(first, other)
            mean, half = interval(values)
            axis.plot(values, [y] * len(values), "o", color="0.7", markersize=4)
            axis.errorbar(mean, y, xerr=None if np.isnan(half) else half, fmt="o", color="#1f5fa8", capsize=3)
        axis.axvline(0, color="0.5", linewidth=0.8)
        axis.set_yticks(range(len(main)), list(main))
        axis.set_ylim(len(main) - 0.5, -0.5)
        axis.set_title(group, fontsize=10)
        axis.set_xlabel(f"{metric} − {mine[0]['setting']}")
        axis.grid(axis="x", alpha=0.3)
        axis.locator_params(axis="x", nbins=4)  # more would run into each other
    figure.savefig(path, dpi=90, metadata={"Software": None})
    plt.close(figure)


def write(name: str, question: Question, records: Sequence[Record], folder: pathlib.Path) -> None:
    """The table and the plot of one question, and the page about all that have records in ``folder``."""
    (folder / f"{name}.md").write_text(table(question, records, name))
    plot(records, folder / f"{name}.png")
    results = {other: read(folder / f"{other}.jsonl") for other in QUESTIONS if (folder / f"{other}.jsonl").exists()}
    (folder / "summary.md").write_text(summary(results))
