"""Every loss against naive float64 loops: each mode, number of axes, weight, policy and reduction."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import losses_oracle as oracle
from segkit.losses import functional as L

EXAMPLES = int(os.environ.get("SEGKIT_EXAMPLES", 400 if os.environ.get("SEGKIT_LONG") else 80))
repeatedly = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)


@st.composite
def problems(draw, modes=("multiclass", "binary", "multilabel"), soft=True):
    """A random problem: keywords for both sides, logits and target as NumPy arrays."""
    mode = draw(st.sampled_from(modes))
    batch = draw(st.integers(1, 3))
    classes = 1 if mode == "binary" else draw(st.integers(2, 4))
    spatial = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    ignore = draw(st.sampled_from([255, 0, -100]))
    logits = rng.normal(0, 3, (batch, classes, *spatial))
    kind = draw(st.sampled_from(["hard", "soft"])) if soft else "hard"
    if kind == "soft":
        target = rng.random(logits.shape)
        if mode == "multiclass":
            target /= target.sum(1, keepdims=True)
    elif mode == "multiclass":
        target = rng.integers(0, classes, (batch, *spatial))
        target[rng.random(target.shape) < 0.2] = ignore
    else:
        target = rng.integers(0, 2, logits.shape)
        target[rng.random(target.shape) < 0.2] = ignore
    weights, per_class = None, None
    if draw(st.booleans()):
        weights = rng.random((batch, *spatial))
        weights[rng.random(weights.shape) < 0.2] = 0
    if draw(st.booleans()):
        per_class = rng.random(2 if mode == "binary" else classes).astype(np.float32).tolist()
    options = {"mode": mode, "ignore_index": ignore, "class_weights": per_class, "pixel_weights": weights}
    options["reduction"] = draw(st.sampled_from(["mean", "sum", "none"]))
    return logits, target, options


def ours(function, logits, target, options, **more):
    options = dict(options)
    if options["pixel_weights"] is not None:
        options["pixel_weights"] = torch.tensor(options["pixel_weights"])
    labels = torch.tensor(target)
    if target.dtype.kind != "f" and options["ignore_index"] == 255:
        labels = labels.to(torch.uint8)
    found = function(torch.tensor(logits), labels, **options, **more)
    return found.nan_to_num(0).numpy()  # the loops say 0 of what is left out


def close(actual, expected):
    # Both are float64; what is left is the order of sums and one exp and log on each side.
    np.testing.assert_allclose(np.reshape(actual, np.shape(expected)), expected, rtol=1e-9, atol=1e-11)


@repeatedly
@given(problems(), st.sampled_from([0.0, 0.1, 1.0]))
def test_cross_entropy_is_what_the_loops_say(problem, smoothing):
    logits, target, options = problem
    more = {"label_smoothing": smoothing} if options["mode"] == "multiclass" else {}
    close(ours(L.cross_entropy, logits, target, options, **more), oracle.pixel_loss(logits, target, **options, **more))


@repeatedly
@given(problems(modes=("binary", "multilabel")), st.sampled_from([None, 3.0]))
def test_binary_cross_entropy_is_what_the_loops_say(problem, pos_weight):
    logits, target, options = problem
    more = {"pos_weight": pos_weight}
    close(
        ours(L.binary_cross_entropy, logits, target, options, **more),
        oracle.pixel_loss(logits, target, **options, **more),
    )


@repeatedly
@given(problems(), st.sampled_from([0.0, 0.5, 2.0]), st.booleans())
def test_focal_is_what_the_loops_say(problem, gamma, balanced):
    logits, target, options = problem
    alpha = None
    if balanced:  # numbers that float32 holds exactly
        alpha = 0.25 if options["mode"] != "multiclass" else [0.5, 0.25, 1.0, 0.75][: logits.shape[1]]
    more = {"gamma": gamma, "alpha": alpha}
    close(ours(L.focal, logits, target, options, **more), oracle.pixel_loss(logits, target, **options, **more))


REGION = {"scope": st.sampled_from(["image", "batch"]), "absent": st.sampled_from(["skip", "zero", "one"])}
DICE = {"power": st.sampled_from([1, 2]), "smooth": st.sampled_from([0.0, 1.0]), "log": st.booleans()}


@repeatedly
@given(problems(), st.fixed_dictionaries(REGION), st.fixed_dictionaries(DICE))
def test_dice_is_what_the_loops_say(problem, more, how):
    logits, target, options = problem
    formula = oracle.dice_formula(how["smooth"], log=how["log"])
    expected = oracle.region_loss(formula, logits, target, power=how["power"], **options, **more)
    close(ours(L.dice, logits, target, options, **how, **more), expected)


@repeatedly
@given(problems(), st.fixed_dictionaries(REGION))
def test_compound_losses_are_the_sum_of_their_parts(problem, more):
    logits, target, options = problem
    options = {**options, "reduction": "sum" if options["reduction"] == "none" else options["reduction"]}
    overlap = oracle.region_loss(oracle.dice_formula(), logits, target, **options, **more)
    plain = oracle.pixel_loss(logits, target, **options)
    close(ours(L.dice_ce, logits, target, options, dice_weight=0.5, **more), 0.5 * overlap + plain)
    hard = oracle.pixel_loss(logits, target, **options, gamma=1.5)
    close(ours(L.dice_focal, logits, target, options, focal_weight=3.0, gamma=1.5, **more), overlap + 3 * hard)


@pytest.mark.parametrize("classes", [[1, 2], [3], [0, 3]])
def test_chosen_classes_count_after_the_softmax(classes):
    rng = np.random.default_rng(0)
    logits, target = rng.normal(0, 2, (2, 4, 3, 5)), rng.integers(0, 4, (2, 3, 5))
    expected = oracle.region_loss(oracle.dice_formula(), logits, target, classes=classes)
    close(L.dice(torch.tensor(logits), torch.tensor(target), classes=classes).numpy(), expected)
