"""Several processes: DDP, Lightning and Accelerate see every sample, in equal steps, and nothing hangs."""

from __future__ import annotations

import functools
import json
import os
import queue
import socket
import subprocess
import sys
import time
import traceback

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, Dataset

from preloaded import CONTEXT
from segkit.mining import DifficultyLedger
from segkit.samplers import DifficultySampler, MultiScaleBatchSampler, ShuffleSampler

LIMIT_S = 120


class Recorder(Dataset):
    """The key's own facts, and a picture of the size it asks for."""

    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, key):
        size = key.size or (8, 8)
        return torch.zeros(1, *size), torch.tensor([int(key), key.epoch, *size])


def run_ranks(function, world, *arguments):
    """What `function(rank, world, *arguments)` returns on each of `world` processes; killed at the time limit."""
    answers = CONTEXT.Queue()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        CONTEXT.Process(target=one_rank, args=(answers, port, function, rank, world, arguments))
        for rank in range(world)
    ]
    for process in processes:
        process.start()
    got, end = {}, time.monotonic() + LIMIT_S
    try:
        while len(got) < world:
            rank, value, error = answers.get(timeout=max(end - time.monotonic(), 0.1))
            assert error is None, f"rank {rank}:\n{error}"
            got[rank] = value
        for process in processes:
            process.join(30)
            assert process.exitcode == 0
    except queue.Empty:
        pytest.fail(f"{world - len(got)} of {world} ranks hung")
    finally:
        for process in processes:
            process.kill()
            process.join()
        answers.close()
        answers.join_thread()
    return [got[rank] for rank in range(world)]


def one_rank(answers, port, function, rank, world, arguments):
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ |= {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world)}
    try:
        answers.put((rank, function(rank, world, *arguments), None))
    except BaseException:
        answers.put((rank, None, traceback.format_exc()))


def ddp(rank, world, n):
    """Two epochs of training for each tail: each step's indices, epoch and size; and the ledger in the end."""
    dist.init_process_group("gloo")
    runs = {tail: ddp_run(rank, world, n, tail) for tail in ("pad", "drop", "uneven")}
    dist.barrier()  # DDP keeps gloo's threads: they must hold no tensor when Python ends
    dist.destroy_process_group()
    return runs


def ddp_run(rank, world, n, tail):
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Conv2d(1, 1, 3, padding=1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ledger = DifficultyLedger(n, momentum=0.5)
    inner = DifficultySampler(ledger, hard_ratio=0.5, warmup_epochs=1, seed=3)
    sampler = MultiScaleBatchSampler(
        inner, scales=[8, (8, 16), 24], multiple_of=8, batch_size=3, every=2, rank=rank, world_size=world, tail=tail
    )
    steps = []
    for epoch in range(2):
        for images, facts in DataLoader(Recorder(n), batch_sampler=sampler):
            loss = model(images).square().mean((1, 2, 3))
            optimizer.zero_grad()
            loss.mean().backward()
            optimizer.step()
            ledger.update(facts[:, 0], (facts[:, 0] * 7 % n) / 10, epoch=epoch)  # the same on any number of ranks
            steps.append(facts.tolist())
        ledger.all_reduce()
    return steps, columns(ledger)


def columns(ledger):
    return {name: value.tolist() for name, value in ledger.state_dict().items() if isinstance(value, torch.Tensor)}


@functools.lru_cache
def ddp_runs(world):
    return run_ranks(ddp, world, 25)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_ddp_takes_equal_steps_and_every_sample_counts(world):
    n = 25
    for tail in ("pad", "drop", "uneven"):
        per_rank = [runs[tail][0] for runs in ddp_runs(world)]
        assert len({len(steps) for steps in per_rank}) == 1
        for step in zip(*per_rank, strict=True):
            assert len({tuple(row[1:]) for rows in step for row in rows}) == 1, "one epoch and one size on all ranks"
        seen = sorted(row[0] for steps in per_rank for rows in steps for row in rows if row[1] == 0)
        if tail == "uneven":
            assert seen == list(range(n))
        elif tail == "pad":
            assert set(seen) == set(range(n))
            assert len(seen) < n + world
        else:
            assert len(set(seen)) == len(seen) == n // (3 * world) * 3 * world


def test_the_ledger_of_two_ranks_is_that_of_one():
    """Also the hard samples of the second epoch, which come from it."""
    (_, alone), *_ = (runs["uneven"] for runs in ddp_runs(1))
    (_, first), (_, second) = (runs["uneven"] for runs in ddp_runs(2))
    assert first == second
    once = [i for i in range(25) if alone["count"][i] <= 2]  # those that one rank took in between two reductions
    assert len(once) > 10
    assert first["count"] == alone["count"]
    for name in ("loss", "first", "epoch", "tag"):
        assert [first[name][i] for i in once] == [alone[name][i] for i in once]


def reduced(rank, world, rounds):
    dist.init_process_group("gloo")
    ledger = feed(DifficultyLedger(40, momentum=0.5), rounds, rank, world, DifficultyLedger.all_reduce)
    dist.destroy_process_group()
    return columns(ledger)


def feed(ledger, rounds, rank, world, after):
    for epoch in range(rounds):
        rng = np.random.default_rng(epoch)
        indices, losses = rng.permutation(40)[:30], rng.random(30)
        mine = slice(rank, None, world)
        flags = {"positive": indices[mine] % 3 == 0, "correct": losses[mine] < 0.5}
        ledger.update(indices[mine], losses[mine], epoch=epoch, **flags)
        after(ledger)
    return ledger


def test_a_reduced_ledger_is_bit_for_bit_that_of_one_process():
    expected = feed(DifficultyLedger(40, momentum=0.5), 4, 0, 1, lambda ledger: None).state_dict()
    for got in run_ranks(reduced, 2, 4):
        for name, column in got.items():
            if name != "fresh":
                assert column == expected[name].tolist(), name
        assert not any(got["fresh"])


def several(rank, world):
    """One sample on both ranks: a pad."""
    dist.init_process_group("gloo")
    ledger = DifficultyLedger(3, momentum=0.5)
    ledger.update([0, 1 + rank], [2.0 + 2 * rank, 1.0])
    ledger.all_reduce()
    ledger.all_reduce()  # nothing new: nothing changes
    dist.destroy_process_group()
    return ledger.losses().tolist(), ledger.counts().tolist()


def test_a_sample_that_two_ranks_saw_gets_their_mean():
    assert run_ranks(several, 2) == [([3.0, 1.0, 1.0], [2, 1, 1])] * 2


def test_without_a_process_group_all_reduce_does_nothing():
    ledger = DifficultyLedger(2)
    ledger.update([0], [1.0])
    ledger.all_reduce()
    assert ledger.losses()[0] == 1.0


# Accelerate divides the batches itself: it is given the whole view, rank 0 of 1 ---------------------------------------


CASES = [(kind, even, n) for kind in ("batches", "shuffle") for even, n in ((True, 25), (True, 24), (False, 25))]


def accelerated(rank, world):
    from accelerate import Accelerator
    from accelerate.utils import DataLoaderConfiguration

    found = []
    for kind, even, n in CASES:
        accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(even_batches=even))
        if kind == "batches":
            sampler = MultiScaleBatchSampler(n, scales=[8, (8, 16)], multiple_of=8, batch_size=3, seed=3)
            loader = DataLoader(Recorder(n), batch_sampler=sampler)
        else:
            loader = DataLoader(Recorder(n), sampler=ShuffleSampler(n, seed=3), batch_size=3)
        loader = accelerator.prepare(loader)
        found.append([[facts.tolist() for _, facts in loader] for _ in range(2)])
        accelerator.wait_for_everyone()
    dist.destroy_process_group()
    return found


def test_accelerate_prepares_loaders_even_and_uneven():
    pytest.importorskip("accelerate")
    answers = run_ranks(accelerated, 2)
    for number, (_, even, n) in enumerate(CASES):
        for epoch in range(2):
            ranks = [found[number][epoch] for found in answers]
            if even:
                assert len({len(steps) for steps in ranks}) == 1
            for step in zip(*ranks, strict=even):
                assert {tuple(row[1:]) for rows in step for row in rows} == {tuple(ranks[0][0][0][1:])}
            seen = sorted(row[0] for steps in ranks for rows in steps for row in rows)
            if even:
                assert set(seen) == set(range(n))
                assert len(seen) <= n + 2 * 3
            else:
                assert seen == list(range(n)), "uneven: exactly once"
            assert {row[1] for steps in ranks for rows in steps for row in rows} == {epoch}


def accelerated_resume(rank, world):
    """What the second loop of epoch 2 and the one after it give, stopped after two steps, in each order of calls."""
    from accelerate import Accelerator

    accelerator, found = Accelerator(cpu=True), []
    for kind in ("batches", "shuffle"):

        def make(kind=kind):
            if kind == "batches":
                sampler = MultiScaleBatchSampler(40, scales=[8, 16], multiple_of=8, batch_size=4, every=2, seed=5)
                return sampler, DataLoader(Recorder(40), batch_sampler=sampler)
            sampler = ShuffleSampler(40, seed=5)
            return sampler, DataLoader(Recorder(40), sampler=sampler, batch_size=4)

        _, loader = make()
        loader = accelerator.prepare(loader)
        whole = [[facts.tolist() for _, facts in loader] for _ in range(4)]
        stopped = make()[0]
        stopped.set_epoch(2)
        next(iter(stopped))
        state = stopped.state_dict(consumed=2 * world * (1 if kind == "batches" else 4))
        for order in ("load prepare", "prepare load", "prepare load loader", "prepare load sampler"):
            sampler, loader = make()
            for call in order.split():
                if call == "prepare":
                    loader = accelerator.prepare(loader)
                elif call == "load":
                    sampler.load_state_dict(state)
                else:
                    (loader if call == "loader" else sampler).set_epoch(2)
            rest = [[facts.tolist() for _, facts in loader] for _ in range(2)]
            found.append((kind, order, rest == [whole[2][2:], whole[3]]))
    accelerator.wait_for_everyone()
    if world > 1:
        dist.destroy_process_group()
    return found


@pytest.mark.parametrize("world", [1, 2])
def test_accelerate_goes_on_in_the_middle_of_a_later_epoch_whatever_the_order_of_calls(world):
    pytest.importorskip("accelerate")
    for found in run_ranks(accelerated_resume, world):
        assert len(found) == 8
        assert [(kind, order) for kind, order, right in found if not right] == []


# Lightning ----------------------------------------------------------------------------------------------------------

LIGHTNING = """
import json, logging, os, sys, warnings
sys.path.insert(0, {tests!r})
warnings.simplefilter("ignore")
logging.getLogger("lightning").setLevel(logging.ERROR)
import torch
torch.set_num_threads(1)
import lightning
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import DataLoader
from test_samplers_ranks import Recorder
from segkit.samplers import ClassBalancedSampler, MultiScaleBatchSampler, ShuffleSampler

class Model(lightning.LightningModule):
    def __init__(self, kind, file):
        super().__init__()
        self.kind, self.file = kind, file
        self.layer = torch.nn.Conv2d(1, 1, 3, padding=1)
        self.steps = []

    def training_step(self, batch, number):
        images, facts = batch
        self.steps.append(facts.tolist())
        return self.layer(images).square().mean()

    def train_dataloader(self):
        kind, place = self.kind, dict(rank=self.global_rank, world_size=self.trainer.world_size)
        if kind == "shuffle":
            return DataLoader(Recorder(25), sampler=ShuffleSampler(25, seed=3, **place), batch_size=3)
        if kind == "balanced":
            sampler = ClassBalancedSampler([0] * 20 + [1] * 5, num_samples=24, seed=3, **place)
            return DataLoader(Recorder(25), sampler=sampler, batch_size=3)
        if kind == "whole":
            return DataLoader(Recorder(25), sampler=ShuffleSampler(25, seed=3), batch_size=3)
        sampler = MultiScaleBatchSampler(25, scales=[8, 16], multiple_of=8, batch_size=3, every=1, seed=3, **place)
        return DataLoader(Recorder(25), batch_sampler=sampler)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def on_train_end(self):
        with open(f"{{self.file}}-{{self.global_rank}}.json", "w") as file:
            json.dump(self.steps, file)

for kind, replace in {cases!r}:
    trainer = lightning.Trainer(
        accelerator="cpu", devices=2, strategy=DDPStrategy(process_group_backend="gloo", start_method="fork"),
        max_epochs=2, use_distributed_sampler=replace, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=sys.argv[1],
    )
    try:
        trainer.fit(Model(kind, os.path.join(sys.argv[1], kind)))
    except Exception as error:
        print(kind, replace, error)
"""


def test_lightning_fits_two_epochs_on_two_processes(tmp_path):
    cases = [
        ("shuffle", True),  # the default of the Trainer: it must leave a sampler for several ranks alone
        ("balanced", True),
        ("whole", True),  # a sampler for one rank it divides itself, and that is right
        ("batches", False),
    ]
    pytest.importorskip("lightning")
    # Last of all one that cannot be: to have Lightning divide batches a second time. It says so, and says what to do.
    script = LIGHTNING.format(tests=os.path.dirname(__file__), cases=[*cases, ("batches", True)])
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("batches True")
    assert "use_distributed_sampler=False" in done.stdout
    for kind, _ in cases:
        per_rank = [json.loads((tmp_path / f"{kind}-{rank}.json").read_text()) for rank in range(2)]
        assert len({len(steps) for steps in per_rank}) == 1
        for epoch in range(2):
            ranks = [[rows for rows in steps if rows[0][1] == epoch] for steps in per_rank]
            seen = sorted(row[0] for steps in ranks for rows in steps for row in rows)
            if kind == "balanced":
                assert len(seen) == 24
                assert sum(index >= 20 for index in seen) == 12
            else:
                assert set(seen) == set(range(25))
                assert len(seen) == 26, "two ranks, one sample comes again"
            for step in zip(*ranks, strict=True):
                assert len({tuple(row[2:]) for rows in step for row in rows}) == 1
        assert {row[1] for steps in per_rank for rows in steps for row in rows} == {0, 1}


def test_a_sampler_for_several_ranks_is_known_as_a_distributed_one():
    from torch.utils.data.distributed import DistributedSampler

    assert isinstance(ShuffleSampler(4, rank=0, world_size=2), DistributedSampler)
    assert isinstance(ShuffleSampler(4, rank=0, world_size=2), ShuffleSampler)
    assert not isinstance(ShuffleSampler(4), DistributedSampler)
