"""One state machine says which epoch is read and which comes next: held against a model, in the loaders people use."""

from __future__ import annotations

import functools
import json
import os
import pickle
import warnings

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from torch.utils.data import BatchSampler, DataLoader, Dataset

from segkit.mining import DifficultyLedger
from segkit.samplers import DifficultySampler, MultiScaleBatchSampler, ShuffleSampler

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated"),
]
LONG = os.environ.get("SEGKIT_LONG") == "1"
N, BATCH = 11, 4


class Facts(Dataset):
    def __init__(self, n=N):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, key):
        return torch.tensor([int(key), key.epoch, 0 if key.size is None else key.size[0]])


def make(kind, n=N, **place):
    if kind == "batches":
        return MultiScaleBatchSampler(n, scales=[32, 64], batch_size=BATCH, every=1, seed=3, **place)
    return ShuffleSampler(n, seed=3, **place)


def loader_of(kind, sampler, n=N, workers=0, loader=DataLoader, **options):
    if kind == "batches":
        return loader(Facts(n), batch_sampler=sampler, num_workers=workers, **options)
    return loader(Facts(n), sampler=sampler, batch_size=BATCH, num_workers=workers, **options)


@functools.lru_cache
def batches_of(kind, epoch):
    """An epoch as a fresh sampler gives it."""
    sampler = make(kind)
    sampler.set_epoch(epoch)
    return [batch.tolist() for batch in loader_of(kind, sampler)]


class Loop(RuleBasedStateMachine):
    """A training loop over a plain DataLoader that does everything a loop may do, in any order.

    The model is three numbers: the epoch of the pass, how many of its batches the loop has used, and the epoch that the
    next pass is to have.
    """

    kind, workers = "batches", 0

    @initialize()
    def begin(self):
        self.sampler = make(self.kind)
        self.loader = loader_of(self.kind, self.sampler, workers=self.workers)
        self.reading, self.used = None, 0
        self.epoch, self.next, self.place, self.asked = None, 0, 0, False

    @precondition(lambda self: self.reading is None)
    @rule()
    def open(self):
        self.reading = iter(self.loader)
        self.expected = batches_of(self.kind, self.next)[self.place :]
        self.epoch, self.used, self.place = self.next, self.place, 0
        self.next, self.asked = self.epoch + 1, False
        self.step()  # an iterator that is asked for and not read has not begun

    @precondition(lambda self: self.reading is not None)
    @rule()
    def step(self):
        batch = next(self.reading, None)
        if not self.expected:
            assert batch is None
            self.reading = None
            return
        assert batch.tolist() == self.expected.pop(0)
        assert self.sampler.epoch == self.epoch, "while a batch is in use, its epoch is the sampler's"
        assert len(self.loader) == len(batches_of(self.kind, self.epoch))
        self.sampler.advance(1 if self.kind == "batches" else len(batch))
        self.used += 1

    @precondition(lambda self: self.reading is not None)
    @rule()
    def break_off(self):
        self.reading = None

    @precondition(lambda self: self.reading is None)
    @rule(ahead=st.integers(0, 1))
    def set_epoch_between_loops(self, ahead):
        self.next, self.place, self.asked = self.next + ahead, 0 if ahead else self.place, True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it may leave out epochs, and says so
            self.sampler.set_epoch(self.next)
        assert self.sampler.epoch == self.next

    @precondition(lambda self: self.reading is not None and self.expected)
    @rule()
    def set_epoch_in_the_loop(self):
        """As Lightning does: it says the epoch after it has begun to read. After the last batch it asks for it anew."""
        self.sampler.set_epoch(self.epoch)

    @precondition(lambda self: self.epoch is not None)
    @rule(copied=st.booleans())
    def stop_and_go_on_elsewhere(self, copied):
        if not self.asked:
            done = self.used == len(batches_of(self.kind, self.epoch))
            self.next, self.place = (self.epoch + 1, 0) if done else (self.epoch, self.used)
        state = json.loads(json.dumps(self.sampler.state_dict()))
        assert state["epoch"] == self.next
        if copied:
            self.sampler = pickle.loads(pickle.dumps(self.sampler))
        else:
            self.sampler = make(self.kind)
            self.sampler.load_state_dict(state)
        assert self.sampler.state_dict() == state
        self.loader = loader_of(self.kind, self.sampler, workers=self.workers)
        self.reading, self.epoch, self.used, self.asked = None, None, 0, False

    @invariant()
    def a_place_is_never_an_empty_pass(self):
        if self.epoch is not None:
            state = self.sampler.state_dict()
            assert state["consumed"] < (3 if self.kind == "batches" else N)

    def teardown(self):
        self.reading = None


LOOPS = {
    (kind, workers): type(f"Loop_{kind}_{workers}", (Loop,), {"kind": kind, "workers": workers})
    for kind in ("batches", "samples")
    for workers in (0, 1)
}


@pytest.mark.parametrize(("kind", "workers"), LOOPS)
def test_any_loop_over_a_loader_reads_the_epochs_of_the_model(kind, workers):
    case = LOOPS[kind, workers].TestCase
    many = 5 if LONG else 1
    case.settings = settings(
        max_examples=(60 if workers == 0 else 5) * many,
        stateful_step_count=16,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    case("runTest").runTest()


# Stop after each batch, go on in another process' sampler ------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["batches", "samples"])
def test_a_loop_with_advance_goes_on_at_every_position_of_three_epochs(kind, workers):
    whole = [batch for epoch in range(3) for batch in batches_of(kind, epoch)]
    for stop in range(1, len(whole)):
        sampler, seen = make(kind), []
        loader = loader_of(kind, sampler, workers=workers if stop in (1, 3, 5) else 0)
        while len(seen) < stop:
            for batch in loader:
                seen.append(batch.tolist())
                sampler.advance(1 if kind == "batches" else len(batch))
                if len(seen) == stop:
                    break
        resumed = make(kind)
        resumed.load_state_dict(json.loads(json.dumps(sampler.state_dict())))
        loader = loader_of(kind, resumed)
        while len(seen) < len(whole):
            one = [batch.tolist() for batch in loader]
            assert one, "no pass is empty"
            seen += one
        assert seen == whole


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_that_drops_its_last_samples_is_over_when_its_loop_is(workers, drop_last):
    sampler = make("samples")
    loader = DataLoader(Facts(), sampler=sampler, batch_size=BATCH, drop_last=drop_last, num_workers=workers)
    for batch in loader:
        if workers == 0:
            sampler.advance(len(batch))
    state = sampler.state_dict()
    assert (state["epoch"], state["consumed"]) == (1, 0)


@pytest.mark.parametrize("workers", [0, 2])
def test_length_and_epoch_stay_while_the_last_batches_are_in_use(workers):
    sampler = MultiScaleBatchSampler(24, scales=[32, 64, 96], max_pixels=2 * 96 * 96, seed=0)
    loader = DataLoader(Facts(24), batch_sampler=sampler, num_workers=workers)
    ledger = DifficultyLedger(24)
    ledger.update(range(24), [i / 24 for i in range(24)])
    easy = DifficultySampler(ledger, drop_easy=0.25, warmup_epochs=1, hard_ratio=None)
    plain = DataLoader(Facts(24), sampler=easy, batch_size=5, num_workers=workers)
    for reader, each in ((loader, sampler), (plain, easy)):
        for epoch in range(3):
            told = [(len(reader), each.epoch) for _ in reader]
            assert set(told) == {(len(told), epoch)}


def test_the_steps_of_a_training_are_known_before_it():
    sampler = MultiScaleBatchSampler(100, scales=[32, 64], max_pixels=4 * 64 * 64, seed=0)
    steps = [sampler.length(epoch) for epoch in range(4)]
    assert steps == [len(list(sampler)) for _ in range(4)]
    assert len(set(steps)) == 2
    assert sampler.length(0) == steps[0], "and asking changes nothing"


@pytest.mark.parametrize("kind", ["batches", "samples"])
def test_the_same_epoch_can_be_read_again(kind):
    for workers in (0, 2):
        sampler = make(kind)
        loader = loader_of(kind, sampler, workers=workers)
        for _ in range(3):  # a fixed order for validation
            sampler.set_epoch(7)
            sampler.set_epoch(7)
            assert [batch.tolist() for batch in loader] == batches_of(kind, 7)


def test_the_sampler_within_hands_its_epoch_on():
    inner = ShuffleSampler(N, seed=3)
    outer = MultiScaleBatchSampler(inner, scales=[32], batch_size=4)
    inner.set_epoch(5)
    assert {key.epoch for batch in outer for key in batch} == {5}
    copy = pickle.loads(pickle.dumps(outer))
    copy.sampler.set_epoch(9)
    assert {key.epoch for batch in copy for key in batch} == {9}
    assert outer.epoch == 6


def test_a_loaded_place_outlives_a_counter_that_begins_anew():
    state = {**make("samples").state_dict(), "epoch": 2, "consumed": 4}
    for told in ([0, 1], [2, 3], [2, 0, 1], [1, 2]):
        sampler = make("samples")
        sampler.load_state_dict(state)
        for number in told[:-1]:
            sampler.set_epoch(number)
        assert sampler.state_dict() == state
        expected = ShuffleSampler(N, seed=3)
        expected.set_epoch(2)
        assert list(sampler) == list(expected)[4:]
        sampler.set_epoch(told[-1])
        assert {key.epoch for key in sampler} == {3}
    sampler.load_state_dict(state)
    sampler.set_epoch(4)  # later than what was loaded: that is meant
    assert {key.epoch for key in sampler} == {4}
    assert len(list(sampler)) == N


def test_a_loop_that_counts_iterations_is_told():
    sampler = ShuffleSampler(24, seed=0)
    batches = BatchSampler(sampler, 4, drop_last=True)
    sampler.set_epoch(0)
    iterations = len(list(batches))
    with pytest.warns(UserWarning, match=r"`epoch` must count passes, got 6 after that of 0.*iteration // len"):
        sampler.set_epoch(iterations)
    list(batches)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for epoch in range(iterations + 1, iterations + 4):
            sampler.set_epoch(epoch)
            list(batches)


# Lightning and torchdata ---------------------------------------------------------------------------------------------


def lightning_steps(kind, workers, folder, stop=-1, checkpoint=None, stateful=None):
    import lightning

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))
            self.sampler, self.seen = make(kind), []

        def train_dataloader(self):
            if stateful is not None:
                return stateful(self.sampler)
            return loader_of(kind, self.sampler, workers=workers)

        def training_step(self, batch, number):
            self.seen.append((self.current_epoch, batch.tolist()))
            if stateful is None:
                self.sampler.advance(1 if kind == "batches" else len(batch))
            return self.weight * batch.float().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

        def on_save_checkpoint(self, state):
            if stateful is None:
                state["sampler"] = self.sampler.state_dict()

        def on_load_checkpoint(self, state):
            if stateful is None:
                self.sampler.load_state_dict(state["sampler"])

    save = lightning.pytorch.callbacks.ModelCheckpoint(
        dirpath=folder, filename="{step}", every_n_train_steps=1, save_top_k=-1
    )
    trainer = lightning.Trainer(
        accelerator="cpu", devices=1, max_epochs=3, max_steps=stop, callbacks=[save], logger=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
    )  # fmt: skip
    model = Model()
    trainer.fit(model, ckpt_path=checkpoint, weights_only=False if checkpoint else None)
    return model.seen


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "workers"), [("batches", 0), ("samples", 2)])
def test_lightning_goes_on_at_every_step_of_three_epochs(kind, workers, tmp_path):
    pytest.importorskip("lightning")
    whole = lightning_steps(kind, workers, tmp_path)
    expected = [(epoch, batch) for epoch in range(3) for batch in batches_of(kind, epoch)]
    assert whole == expected
    for stop in range(1, len(whole)) if workers == 0 or LONG else (1, 3, 5):
        folder = tmp_path / str(stop)
        before = lightning_steps(kind, workers, folder, stop)
        after = lightning_steps(kind, workers, tmp_path / f"{stop}b", checkpoint=folder / f"step={stop}.ckpt")
        assert before + after == whole


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("whose", ["torch's order", "ours"])
def test_lightning_with_a_stateful_loader_loses_an_epoch_only_at_the_end_of_one_whoever_orders(whose, tmp_path):
    """As the docs say of these two; if it is mended there, the sentence goes."""
    pytest.importorskip("lightning")
    from torchdata.stateful_dataloader import StatefulDataLoader

    def stateful(sampler):
        ours = {"sampler": sampler} if whose == "ours" else {}
        return StatefulDataLoader(Facts() if ours else range(len(Facts())), batch_size=BATCH, **ours)

    whole = lightning_steps("samples", 0, tmp_path, stateful=stateful)
    steps = len(whole) // 3
    for stop in range(1, 2 * steps + 1):
        folder = tmp_path / str(stop)
        before = lightning_steps("samples", 0, folder, stop, stateful=stateful)
        checkpoint = folder / f"step={stop}.ckpt"
        after = lightning_steps("samples", 0, tmp_path / f"{stop}b", checkpoint=checkpoint, stateful=stateful)
        lost = steps if stop % steps == 0 else 0
        assert before + after == whole[:stop] + whole[stop + lost :]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("drop_last", [False, True])
def test_torchdata_goes_on_at_every_step_also_where_the_last_samples_are_dropped(drop_last):
    from torchdata.stateful_dataloader import StatefulDataLoader

    def build():
        return StatefulDataLoader(Facts(), sampler=make("samples"), batch_size=BATCH, drop_last=drop_last)

    reference = build()
    epochs = [[batch.tolist() for batch in reference] for _ in range(3)]
    whole = [batch for epoch in epochs for batch in epoch]
    for stop in range(1, len(whole) - len(epochs[2])):
        loader, seen = build(), []
        while len(seen) < stop:
            for batch in loader:
                seen.append(batch.tolist())
                if len(seen) == stop:
                    break
        state = loader.state_dict()
        resumed = build()
        resumed.load_state_dict(state)
        for _ in range(4):
            seen += [batch.tolist() for batch in resumed]
        assert seen[: len(whole)] == whole


def test_torchdata_begins_the_next_epoch_after_one_that_dropped_its_last_samples():
    from torchdata.stateful_dataloader import StatefulDataLoader

    for workers in (0, 2):
        loader = StatefulDataLoader(
            Facts(), sampler=make("samples"), batch_size=BATCH, drop_last=True, num_workers=workers
        )
        list(loader)
        resumed = StatefulDataLoader(Facts(), sampler=make("samples"), batch_size=BATCH, drop_last=True)
        if workers == 0:
            resumed.load_state_dict(loader.state_dict())
            assert [len(list(resumed)) for _ in range(2)] == [2, 2]
