"""How many seeds an answer needs, decided after the first few and written down before the others run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

FIRST, MOST = 5, 12  # seeds before the plan is made, and the most that it may ask for
WANTED = 0.02  # half the width of the 95 % interval
SETTLED = 0.99  # an interval of this confidence without zero after the first seeds ends the matter

Values = dict[int, float]  # seed → value


def differences(first: Values, other: Values) -> list[float]:
    """Seed by seed, of those that both have."""
    return [other[seed] - first[seed] for seed in sorted(first.keys() & other.keys())]


def interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Mean, and half the width of its confidence interval (Student's t); nan for fewer than two values."""
    if len(values) < 2:
        return (float(values[0]) if len(values) else float("nan")), float("nan")
    half = stats.t.ppf(0.5 + confidence / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values)), float(half)


def seen_from(values: Sequence[float]) -> float:
    """The smallest difference that as many seeds, so scattered, tell from zero in 80 of 100 repetitions."""
    if len(values) < 2:
        return float("nan")
    freedom = len(values) - 1
    t = stats.t.ppf(0.975, freedom) + stats.t.ppf(0.8, freedom)
    return float(t * np.std(values, ddof=1) / np.sqrt(len(values)))


def seeds_for(deviation: float, most: int) -> int:
    """So many seeds make half the 95 % interval `WANTED` at most, if the deviation between seeds stays; or ``most``."""
    for n in range(2, most):
        if stats.t.ppf(0.975, n - 1) * deviation / np.sqrt(n) <= WANTED:
            return n
    return most


def plans(records: Sequence[dict[str, Any]], settings: Sequence[str], most: int) -> list[dict[str, Any]]:
    """One plan for each setting but the first; none before all have their first seeds.

    A setting whose 99 % interval leaves zero out is settled and gets no more seeds; this look at the first seeds costs
    the later 95 % interval at most one per cent of its confidence.
    """
    by_setting: dict[str, Values] = {}
    for record in records:
        by_setting.setdefault(record["setting"], {})[record["seed"]] = next(iter(record["metrics"].values()))
    if any(len(by_setting.get(setting, ())) < FIRST for setting in settings):
        return []
    found = []
    for setting in settings[1:]:
        values = differences(by_setting[settings[0]], by_setting[setting])[:FIRST]
        mean, half = interval(values, SETTLED)
        deviation = float(np.std(values, ddof=1))
        seeds = FIRST if abs(mean) > half else max(FIRST, seeds_for(deviation, most))
        found.append(
            {
                "setting": setting,
                "seeds": seeds,
                "deviation": round(deviation, 5),
                "seen from": round(seen_from(values), 5),
            }
        )
    return found
