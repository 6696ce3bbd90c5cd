"""The ledger against a loop over Python floats; its tags; its files, also when the process is killed."""

from __future__ import annotations

import math
import mmap
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit.errors import DataError
from segkit.mining import DifficultyLedger, Tag


def oracle(updates, momentum):
    """Sample -> [running loss, count, epoch of the last update, positive], one loss after the other."""
    book = {}
    for epoch, batch in enumerate(updates):
        for index, loss, positive in batch:
            if not math.isfinite(loss):
                continue
            if index in book:
                old = book[index]
                book[index] = [momentum * old[0] + (1 - momentum) * loss, old[1] + 1, epoch, positive]
            else:
                book[index] = [loss, 1, epoch, positive]
    return book


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(0, 9), st.floats(0, 100, width=32) | st.just(math.inf), st.booleans()), max_size=20
        ),
        max_size=5,
    ),
    st.sampled_from([0.0, 0.5, 0.9]),
)
@pytest.mark.filterwarnings("ignore:.*not finite:RuntimeWarning")
def test_updates_are_those_of_a_loop(updates, momentum):
    ledger = DifficultyLedger(10, momentum=momentum)
    for epoch, batch in enumerate(updates):
        indices, losses, positive = zip(*batch, strict=True) if batch else ([], [], [])
        ledger.update(indices, losses, positive=positive, epoch=epoch)
    book = oracle(updates, momentum)
    losses, counts, last = ledger.losses(), ledger.counts(), ledger.last_seen()
    for index in range(10):
        if index in book:
            assert losses[index] == pytest.approx(book[index][0], rel=1e-5)  # kept as float32 between updates
            assert (counts[index], last[index]) == (book[index][1], book[index][2])
        else:
            assert math.isnan(losses[index])
            assert (counts[index], last[index]) == (0, -1)


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_lists_arrays_and_tensors_of_any_precision(kind):
    ledger = DifficultyLedger(4)
    ledger.update(kind([3, 1]), kind([0.5, 2.0]), positive=kind([True, False]), correct=kind([False, True]))
    assert ledger.losses().tolist()[1::2] == [2.0, 0.5]
    ledger.update(torch.tensor([0], dtype=torch.int32), torch.tensor([0.25], dtype=torch.bfloat16, requires_grad=True))
    assert ledger.losses()[0] == 0.25


def test_tags_are_the_ranks_of_the_losses():
    ledger = DifficultyLedger(12)
    losses = [5.0, 1.0, 4.0, 2.0, 3.0, 0.0, 9.0, 8.0, 7.0, 6.0]
    ledger.update(range(10), losses, positive=[i % 2 == 0 for i in range(10)])
    tags = ledger.tags(easy=0.3, hard=0.2)
    assert tags.dtype == np.uint8
    assert np.flatnonzero(tags & Tag.HARD).tolist() == [6, 7]
    assert np.flatnonzero(tags & Tag.EASY).tolist() == [1, 3, 5]
    assert np.flatnonzero(tags & Tag.MEDIUM).tolist() == [0, 2, 4, 8, 9]
    assert np.flatnonzero(tags & Tag.POSITIVE).tolist() == [0, 2, 4, 6, 8]
    assert np.flatnonzero(tags & Tag.NEGATIVE).tolist() == [1, 3, 5, 7, 9]
    assert tags[10:].tolist() == [0, 0], "never seen"


@pytest.mark.parametrize(("easy", "hard"), [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.5, 0.5), (0.07, 0.07)])
def test_tags_are_exact_in_number_though_all_losses_are_equal(easy, hard):
    ledger = DifficultyLedger(100)
    ledger.update(range(100), np.ones(100))
    tags = ledger.tags(easy=easy, hard=hard)
    assert np.count_nonzero(tags & Tag.HARD) == round(100 * hard)
    assert np.count_nonzero(tags & Tag.EASY) == round(100 * easy)
    assert not DifficultyLedger(3).tags().any()


def test_tags_give_equal_losses_out_in_order():
    ledger = DifficultyLedger(6)
    ledger.update(range(6), [2.0, 1.0, 1.0, 1.0, 1.0, 0.0])
    tags = ledger.tags(easy=0.3, hard=0.3)
    assert np.flatnonzero(tags & Tag.HARD).tolist() == [0, 1]
    assert np.flatnonzero(tags & Tag.EASY).tolist() == [2, 5]


def test_losses_that_are_not_finite_are_kept_out_and_named():
    ledger = DifficultyLedger(10)
    with pytest.warns(RuntimeWarning, match="3 of 4 losses are not finite and were left out, of samples 7, 2, 3"):
        ledger.update([7, 1, 2, 3], [math.nan, 1.0, math.inf, 1e39])  # the last is too large for float32
    assert ledger.counts().tolist() == [0, 1] + [0] * 8
    assert ledger.losses()[1] == 1.0


def filled(n=50, **options):
    ledger = DifficultyLedger(n, momentum=0.7, **options)
    rng = np.random.default_rng(0)
    for epoch in range(3):
        indices = rng.permutation(n)[: n // 2]
        ledger.update(indices, rng.random(n // 2), positive=indices % 2 == 0, correct=indices % 3 == 0, epoch=epoch)
    return ledger


def same(a, b):
    one, two = a.state_dict(), b.state_dict()
    return one.keys() == two.keys() and all(
        torch.equal(v, two[k]) if isinstance(v, torch.Tensor) else v == two[k] for k, v in one.items()
    )


def test_a_state_goes_through_torch_save_without_pickle(tmp_path):
    ledger, other = filled(), DifficultyLedger(50, momentum=0.7)
    torch.save(ledger.state_dict(), tmp_path / "state.pt")
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert same(ledger, other)
    assert not same(ledger, DifficultyLedger(50, momentum=0.7)), "the comparison can fail"


def test_saved_and_loaded_on_the_class_or_into_a_ledger(tmp_path):
    ledger, path = filled(fingerprint="abc"), tmp_path / "ledger.npz"
    ledger.save(path)
    assert same(DifficultyLedger.load(path), ledger)
    other = DifficultyLedger(50, momentum=0.7, fingerprint="abc")
    assert other.load(path) is other
    assert same(other, ledger)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ledger.npz"]


def test_a_memory_map_is_the_ledger_and_outlives_it(tmp_path):
    path = tmp_path / "ledger.map"
    ledger = filled(path=path)
    assert np.array_equal(ledger.losses(), filled().losses(), equal_nan=True)
    ledger.save()
    again = DifficultyLedger(50, momentum=0.7, path=path)
    assert np.array_equal(again.losses(), ledger.losses(), equal_nan=True)
    copy = pickle.loads(pickle.dumps(ledger))
    assert copy.path == ledger.path
    assert np.array_equal(copy.losses(), ledger.losses(), equal_nan=True)
    in_memory = pickle.loads(pickle.dumps(filled()))
    assert same(in_memory, filled())


def test_what_was_noted_last_is_in_the_file_when_the_process_ends(tmp_path):
    code = """
import sys
from segkit.mining import DifficultyLedger
ledger = DifficultyLedger(5, path=sys.argv[1])
ledger.update([3], [2.5])
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.map")], check=True, timeout=60)
    assert DifficultyLedger(5, path=tmp_path / "a.map").losses()[3] == 2.5
    ledger = DifficultyLedger(5, path=tmp_path / "b.map")
    ledger.update([3], [2.5])
    del ledger
    assert DifficultyLedger(5, path=tmp_path / "b.map").losses()[3] == 2.5


def test_an_array_that_is_used_again_does_not_change_what_was_noted():
    ledger = DifficultyLedger(3)
    indices, losses = np.array([0, 1]), torch.tensor([1.0, 2.0], dtype=torch.float64)
    ledger.update(indices, losses)
    indices[:] = 2
    losses.zero_()
    assert ledger.losses()[:2].tolist() == [1.0, 2.0]
    assert ledger.counts().tolist() == [1, 1, 0]


def test_many_updates_between_looks_are_those_of_looking_each_time():
    rng = np.random.default_rng(0)
    waiting, looked_at = DifficultyLedger(50, momentum=0.5), DifficultyLedger(50, momentum=0.5)
    for epoch in range(300):  # 9000 losses: more than wait at most
        indices, losses = rng.integers(0, 50, 30), rng.random(30)
        waiting.update(indices, losses, epoch=epoch, correct=losses < 0.5)
        looked_at.update(indices, losses, epoch=epoch, correct=losses < 0.5)
        looked_at.losses()
    assert same(waiting, looked_at)


def test_a_large_memory_map_is_sparse(tmp_path):
    ledger = DifficultyLedger(10**8, path=tmp_path / "large.map")
    ledger.update([99_999_999, 0], [1.0, 2.0])
    assert (tmp_path / "large.map").stat().st_blocks * 512 < 2**20


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_new_memory_map_holds_no_more_than_what_was_touched(tmp_path):
    path = tmp_path / "large.map"
    ledger = DifficultyLedger(10**7, path=path)

    def resident():
        lines = iter(pathlib.Path("/proc/self/smaps").read_text().splitlines())
        next(line for line in lines if line.endswith(str(path)))
        return int(next(line for line in lines if line.startswith("Rss:")).split()[1]) * 1024

    spread = np.arange(0, 10**7, 10**4)
    ledger.update(np.repeat(spread, 70), np.ones(70_000))  # so many that they are taken in and do not wait
    assert 0.5 * 1000 * mmap.PAGESIZE < resident() < 2 * 1000 * mmap.PAGESIZE  # a record may lie across two pages
    assert np.count_nonzero(ledger.counts()) == 1000
    assert resident() > 10**7, "all was looked at"


def test_a_ledger_goes_on_where_samples_were_added_as_its_refusal_says():
    old, bigger = DifficultyLedger(6), DifficultyLedger(8)
    old.update(range(6), [float(i) for i in range(6)])
    with pytest.raises(ValueError, match=r"bigger.update\(range\(6\), old.losses\(\)\)"):
        bigger.load_state_dict(old.state_dict())
    bigger.update(range(6), old.losses())
    assert bigger.losses()[:6].tolist() == old.losses().tolist()


def test_a_ledger_of_another_data_set_is_refused(tmp_path):
    path = tmp_path / "ledger.npz"
    filled(fingerprint="abc").save(path)
    with pytest.raises(DataError, match="must be of 40 samples, got 50. Is it from another data set"):
        DifficultyLedger(40).load(path)
    with pytest.raises(DataError, match="must be of the data set with fingerprint 'xyz', got 'abc'"):
        DifficultyLedger.load(path, fingerprint="xyz")
    with pytest.raises(DataError, match="must be of 40 samples, got 50"):
        DifficultyLedger(40).load_state_dict(filled().state_dict())
    with pytest.raises(DataError, match="got one without .*loss"):
        DifficultyLedger(40).load_state_dict({"num_samples": 40, "fingerprint": None})
    filled(path=tmp_path / "a.map")
    with pytest.raises(DataError, match="must be of 40 samples, got 50"):
        DifficultyLedger(40, path=tmp_path / "a.map")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", b'{"segkit ledger": 9}'])
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "ledger"
    path.write_bytes(content)
    with pytest.raises(DataError, match="ledger' must be a ledger that segkit saved, got a damaged or another file"):
        DifficultyLedger.load(path)
    with pytest.raises(DataError, match="ledger' must be a ledger that segkit saved"):
        DifficultyLedger(5, path=path)


def test_a_map_that_was_cut_off_is_named(tmp_path):
    filled(path=tmp_path / "a.map").save()
    whole = (tmp_path / "a.map").read_bytes()
    (tmp_path / "a.map").write_bytes(whole[:-1])
    with pytest.raises(DataError, match="a.map' must be 66636 bytes long. It was cut off"):
        DifficultyLedger(50, path=tmp_path / "a.map")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda ledger: ledger.update([5], [1.0]), IndexError, r"`indices` must lie in \[0, 5\), got 5"),
        (lambda ledger: ledger.update([0, -1], [1.0, 1.0]), IndexError, r"`indices` must lie in \[0, 5\), got -1"),
        (lambda ledger: ledger.update([0, 1], [1.0]), ValueError, "`losses` must have one value for each of the 2"),
        (lambda ledger: ledger.update([0], [1.0], positive=[True, False]), ValueError, "`positive` must have one"),
        (lambda ledger: ledger.update([0.0], [1.0]), TypeError, "`indices` must be whole numbers, got float64"),
        (lambda ledger: ledger.update(torch.zeros(1, 1).int(), [1.0]), ValueError, "`indices` must have one axis"),
        (lambda ledger: ledger.update([0], [1.0], epoch=-1), ValueError, "`epoch` must lie in"),
        (lambda ledger: ledger.tags(easy=0.9, hard=0.2), ValueError, "must lie in .* and add to at most 1, got 0.9"),
        (lambda ledger: ledger.save(), ValueError, "`path` must be given"),
        (lambda ledger: DifficultyLedger(-1), ValueError, "`num_samples` must be a whole number"),
        (lambda ledger: DifficultyLedger(5, momentum=1.0), ValueError, r"`momentum` must lie in \[0, 1\), got 1.0"),
    ],
)
def test_bad_input_is_named(call, error, message):
    ledger = DifficultyLedger(5)
    with pytest.raises(error, match=message):
        call(ledger)
    assert not ledger.counts().any(), "and nothing was taken in"
