"""hard_mask against a brute-force sort: counts exact, ties, nothing valid, every dtype and layout."""

from __future__ import annotations

import itertools
import math
import os
from fractions import Fraction
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from segkit.mining import _select, hard_mask
from segkit.mining._select import _hardest


def oracle(losses, valid, keep_ratio, min_kept, threshold):
    """One row of Python floats: sort everything, take the first so many; equal losses in their order of appearance."""
    hardness = [math.inf if math.isnan(x) else x for x in losses]
    places = [i for i in range(len(losses)) if valid[i]]
    asked = 0
    if keep_ratio is not None:
        asked = math.ceil(Fraction(str(keep_ratio)) * len(places))
    if min_kept is not None:
        asked = max(asked, min_kept)
    if threshold is not None:
        asked = max(asked, sum(hardness[i] > threshold for i in places))
    ranked = sorted(places, key=lambda i: -hardness[i])  # stable
    chosen = set(ranked[:asked])
    return [i in chosen for i in range(len(losses))]


NUMBERS = st.one_of(
    st.sampled_from([0.0, -0.0, 0.5, 1.0, 2.0, math.inf, -math.inf, math.nan]),
    st.floats(-10, 10, width=16),
)


@st.composite
def cases(draw):
    size = draw(st.integers(0, 40))
    options = draw(
        st.tuples(
            st.none() | st.sampled_from([0.0, 0.07, 0.1, 0.25, 0.5, 0.7, 1.0]),
            st.none() | st.integers(0, 60),
            st.none() | st.sampled_from([-1.0, 0.0, 0.5, 1.0, 100.0]),
        ).filter(lambda options: any(o is not None for o in options))
    )
    losses = draw(st.lists(NUMBERS, min_size=size, max_size=size))
    valid = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    return losses, valid, options


@pytest.mark.parametrize("select", [None, "any device", "samples of 2"])
@settings(max_examples=10 * int(os.environ.get("SEGKIT_EXAMPLES", 30)), deadline=None)
@given(cases(), st.sampled_from([torch.float16, torch.float32, torch.float64]))
def test_the_hardest_are_those_of_a_stable_sort(select, case, dtype):
    losses, valid, (keep_ratio, min_kept, threshold) = case
    values, counted = torch.tensor(losses, dtype=dtype), torch.tensor(valid, dtype=torch.bool)
    if select != "any device":
        with mock.patch.object(_select, "SAMPLE", _select.SAMPLE if select is None else 2):
            got = hard_mask(values, keep_ratio=keep_ratio, min_kept=min_kept, threshold=threshold, valid=counted)
    else:  # the code that accelerators run, here on the CPU
        got = _hardest._init_fn(values[None], counted[None], keep_ratio, min_kept, threshold)[0]
    assert got.tolist() == oracle(losses, valid, keep_ratio, min_kept, threshold)


LARGE = {
    "plain": lambda rng, n: rng.random(n),
    "few values": lambda rng, n: rng.integers(0, 5, n),
    "sorted": lambda rng, n: np.sort(rng.random(n)),
    "falling": lambda rng, n: np.sort(rng.random(n))[::-1],
    "constant": lambda rng, n: np.full(n, 0.7),
    "a few among zeros": lambda rng, n: np.where(rng.random(n) < 1e-3, rng.random(n), 0.0),
    "half zeros": lambda rng, n: np.maximum(rng.random(n) - 0.5, 0.0),
    "the sample sees only zeros": lambda rng, n: np.where(np.arange(n) % (n // 2**12 | 1) == 0, 0.0, rng.random(n)),
    "infinities and NaN": lambda rng, n: rng.choice([np.inf, -np.inf, np.nan, 0.5], n),
}


@pytest.mark.parametrize("kind", LARGE)
def test_many_losses_are_those_of_a_stable_sort_too(kind):
    """As many as the CPU narrows its search for, in the orders that such searches are slow or wrong on."""
    rng = np.random.default_rng(3)
    values = torch.from_numpy(np.array(LARGE[kind](rng, 3 * 2**16 + 1), dtype=np.float32))
    for valid in (None, torch.from_numpy(rng.random(len(values)) < 0.9)):
        counted = torch.ones(len(values), dtype=torch.bool) if valid is None else valid
        hardness = torch.where(counted, values.nan_to_num(torch.inf, torch.inf, -torch.inf), torch.nan)
        ranked = torch.argsort(-hardness, stable=True)  # NaN, what does not count, last
        for number in (1, 1000, len(values) // 4, len(values) // 2, int(counted.sum()) - 1, int(counted.sum())):
            expected = torch.zeros(len(values), dtype=torch.bool)
            expected[ranked[:number]] = True
            assert torch.equal(hard_mask(values, min_kept=number, valid=valid), expected)


def test_scope_image_is_the_batch_one_image_at_a_time():
    generator = torch.Generator().manual_seed(0)
    losses = torch.randint(0, 5, (3, 5, 7), generator=generator).float()  # many ties
    valid = torch.rand(3, 5, 7, generator=generator) > 0.3
    valid[1] = False
    together = hard_mask(losses, keep_ratio=0.3, scope="image", valid=valid)
    apart = [hard_mask(x, keep_ratio=0.3, valid=v) for x, v in zip(losses, valid, strict=True)]
    assert torch.equal(together, torch.stack(apart))
    assert not together[1].any()
    whole = hard_mask(losses, keep_ratio=0.3, valid=valid)
    assert whole.sum() == math.ceil(Fraction(3, 10) * int(valid.sum()))


@pytest.mark.parametrize("shape", [(6,), (2, 3), (2, 3, 5), (2, 3, 4, 5), (0,), (0, 4, 4), (2, 0)])
@pytest.mark.parametrize("scope", ["batch", "image"])
def test_pixels_and_samples_of_any_shape(shape, scope):
    losses = torch.arange(float(math.prod(shape))).reshape(shape)
    kept = hard_mask(losses, keep_ratio=0.5, scope=scope)
    assert kept.shape == shape
    assert kept.dtype == torch.bool
    rows = kept.reshape(shape[0], -1) if scope == "image" and losses.numel() else kept.reshape(1, -1)
    for row in rows:
        assert row.sum() == math.ceil(row.numel() / 2)


def test_min_kept_beyond_the_valid_pixels_keeps_them_all():
    valid = torch.tensor([True, False, True])
    assert torch.equal(hard_mask(torch.rand(3), min_kept=10, valid=valid), valid)
    assert hard_mask(torch.rand(3), min_kept=10).all()


def test_all_ignored_keeps_nothing():
    assert not hard_mask(torch.rand(2, 4, 4), min_kept=3, keep_ratio=1.0, valid=torch.zeros(2, 4, 4).bool()).any()


def test_the_input_stays_untouched_and_no_gradient_flows():
    losses = torch.rand(4, 6, requires_grad=True)
    before = losses.detach().clone()
    kept = hard_mask(losses, keep_ratio=0.5, valid=torch.ones(4, 6).bool())
    assert torch.equal(losses.detach(), before)
    assert not kept.requires_grad
    (losses * kept).sum().backward()
    assert torch.equal(losses.grad, kept.float())


def test_layout_and_half_precision_do_not_matter():
    losses = torch.randn(4, 6, 8, generator=torch.Generator().manual_seed(1)).bfloat16()
    expected = hard_mask(losses.double().contiguous(), keep_ratio=0.2)
    assert torch.equal(hard_mask(losses, keep_ratio=0.2), expected)
    strided = losses.transpose(0, 2).contiguous().transpose(0, 2)
    assert torch.equal(hard_mask(strided, keep_ratio=0.2), expected)


def test_two_runs_agree_under_deterministic_algorithms():
    losses = torch.randint(0, 3, (64, 64), generator=torch.Generator().manual_seed(2)).float()
    was = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        masks = [hard_mask(losses, keep_ratio=0.4) for _ in range(2)]
        masks += [_hardest._init_fn(losses.reshape(1, -1), None, 0.4, None, None).reshape(64, 64)]
    finally:
        torch.use_deterministic_algorithms(was)
    assert all(torch.equal(mask, masks[0]) for mask in masks)


def test_one_graph_under_torch_compile():
    def step(losses, valid):
        return (losses * hard_mask(losses, keep_ratio=0.3, min_kept=2, valid=valid)).sum()

    losses, valid = torch.rand(2, 8, 8), torch.rand(2, 8, 8) > 0.2
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    assert compiled(losses, valid) == step(losses, valid)


@pytest.mark.parametrize("threshold", [None, 0.7])
def test_nothing_is_read_back_from_a_device(threshold):
    """On fake tensors, whose values nobody knows, reading a number to the host is an error."""
    with FakeTensorMode():
        losses, valid = torch.rand(2, 9), torch.rand(2, 9) > 0.5
        assert _hardest._init_fn(losses, valid, 0.5, 3, threshold).shape == (2, 9)
        with pytest.raises(DataDependentOutputException):
            losses.sum().item()  # the check itself can fail


def test_the_operator_passes_torchs_own_checks():
    for valid, dtype in itertools.product([None, torch.rand(2, 9) > 0.5], [torch.float32, torch.float64]):
        torch.library.opcheck(_hardest, (torch.rand(2, 9, dtype=dtype), valid, 0.5, 3, 0.7))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"keep_ratio": None}, ValueError, "`keep_ratio`, `min_kept` or `threshold` must be given"),
        ({"keep_ratio": 25}, ValueError, r"`keep_ratio` must lie in \[0, 1\], got 25. It is a share"),
        ({"keep_ratio": math.nan}, ValueError, "`keep_ratio` must lie in"),
        ({"min_kept": -1}, ValueError, "`min_kept` must be a whole number of at least 0, got -1"),
        ({"min_kept": 0.5}, ValueError, "`min_kept` must be a whole number of at least 0, got 0.5"),
        ({"threshold": math.nan}, ValueError, "`threshold` must be a number, got nan"),
        ({"scope": "class"}, ValueError, "`scope` must be one of batch, image, got 'class'"),
        ({"valid": torch.ones(2, 3)}, TypeError, "`valid` must be a bool tensor, got torch.float32"),
        ({"valid": torch.ones(3, 2).bool()}, ValueError, r"the shape of `losses` \(2, 3\), got \(3, 2\)"),
        ({"losses": torch.ones(2, 3).long()}, TypeError, "`losses` must be a floating tensor, got torch.int64"),
        ({"losses": [1.0]}, TypeError, "`losses` must be a floating tensor, got list"),
        ({"losses": torch.tensor(1.0)}, ValueError, "`losses` must have at least one axis"),
    ],
)
def test_bad_input_is_named(change, error, message):
    arguments = {"losses": torch.ones(2, 3), "keep_ratio": 0.5} | change
    with pytest.raises(error, match=message):
        hard_mask(arguments.pop("losses"), **arguments)
