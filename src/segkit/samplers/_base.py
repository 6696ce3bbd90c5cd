"""What every sampler shares: the epoch, the place in it, the state; and the iterators that read it."""

from __future__ import annotations

import itertools
import operator
import sys
import zlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from typing import Any, Generic, TypeVar, cast

from segkit.samplers._key import SampleKey, Size, key_class

Item = TypeVar("Item")
TAILS = ("pad", "drop", "uneven")


class Sampler(ABC, Generic[Item]):
    """The state machine of all samplers; a subclass says how many items an epoch has and makes a run of them.

    A *pass* is one iteration. It takes its epoch when its first item is drawn, not when `iter` is called: loaders call
    `iter` more often than they read. Each pass moves on to the next epoch unless `set_epoch` says otherwise.
    """

    def __init__(self, *, seed: int, rank: int, world_size: int, tail: str) -> None:
        name = type(self).__name__
        self.seed = whole_number(name, "seed", seed, 0, 2**64)
        self.world_size = whole_number(name, "world_size", world_size, 1)
        self.rank = whole_number(name, "rank", rank, 0, self.world_size)
        if tail not in TAILS:
            raise ValueError(f"{name}: `tail` must be one of {', '.join(TAILS)}, got {tail!r}.")
        self.tail = tail
        self._next = 0  # the epoch of the next pass
        self._start = 0  # the item it starts at
        self._pass: Pass[Item] | None = None  # the latest pass
        self._told: int | None = None  # how far the user says that it was consumed

    # What a subclass says -------------------------------------------------------------------------------------------

    @abstractmethod
    def _length(self, epoch: int) -> int:
        """Items that this rank yields in this epoch."""

    @abstractmethod
    def _run(self, reading: Pass[Item], start: int, stop: int) -> tuple[Iterator[Any], Iterator[Item]]:
        """Items [start, stop) of a pass, and the iterator inside it whose length hint is what is left."""

    @abstractmethod
    def _identity(self) -> dict[str, Any]:
        """The arguments that decide the order, as plain values: a state fits only where they agree."""

    @abstractmethod
    def _settings(self) -> str:
        """What the arguments come to, in one line."""

    def _idle(self) -> list[str]:
        """Settings that change nothing, each as a sentence."""
        return []

    def _evidence(self, epoch: int) -> dict[str, Any]:
        """What else the order of an epoch depends on, as plain values to be checked on resuming."""
        return {}

    def _forget(self) -> None:
        """Drop orders that were computed from what may have changed since."""
        return

    _first_run = 256  # items made before the first is handed out ...
    _longest_run = 16384  # ... growing to this: the working set of a run stays within the second cache level

    # What a user sees -----------------------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """The epoch of the pass that is being read, or else of the next one."""
        running = self._pass
        return self._next if running is None or running.finished else running.epoch

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass be this epoch. Optional; twice is once; a place loaded for this same epoch is kept."""
        epoch = whole_number(f"{type(self).__name__}.set_epoch", "epoch", epoch, 0, 2**64)
        if epoch != self._next:
            self._next, self._start = epoch, 0
        if self._pass is not None and self._pass.epoch != epoch:
            self._pass, self._told = None, None

    def describe(self) -> str:
        """What this sampler does with its arguments, and which of its settings change nothing."""
        lines = [f"{type(self).__name__}: {self._settings()}"]
        epoch = self.epoch
        lines.append(f"epoch {epoch}: {self._length(epoch)} steps on rank {self.rank} of {self.world_size}")
        return "\n".join(lines + [f"changes nothing: {sentence}" for sentence in self._idle()])

    def __len__(self) -> int:
        """Items in a whole epoch on this rank; a resumed pass yields the rest of them."""
        return self._length(self.epoch)

    def __iter__(self) -> Iterator[Item]:
        return Items.read(Pass(self))

    def advance(self, items: int = 1) -> None:
        """Say that the training loop has consumed so many more items of the pass that is being read.

        A loader with workers draws ahead of what you have seen, so only you know. Call it once after each step (with
        the batch size where this sampler yields single samples), and `state_dict()` saves this place.
        """
        name = f"{type(self).__name__}.advance"
        if self._pass is None:
            raise ValueError(f"{name}: a pass must have begun, got none. Call it after each batch that you have used.")
        told = (self._pass.start if self._told is None else self._told) + whole_number(name, "items", items, 0)
        whole_number(name, "items consumed in all", told, 0, self._length(self._pass.epoch) + 1)
        self._told = told

    def state_dict(self, consumed: int | None = None) -> dict[str, Any]:
        """The place to go on from, as a few plain numbers: the same on every rank.

        Args:
            consumed: items (batches of a batch sampler, else samples) of this epoch that you have used, counted from
                the epoch's start. None: as many as `advance` was told of; if it was never called in this pass, as
                many as were drawn, which is right where nothing reads ahead. A finished epoch is saved as the start
                of the next.

        Raises:
            ValueError: `consumed` is out of range, or is not given though worker processes draw ahead.
        """
        name, reading = f"{type(self).__name__}.state_dict", self._pass
        epoch = self._next if reading is None else reading.epoch
        if consumed is not None:
            consumed = whole_number(name, "consumed", consumed, 0, self._length(epoch) + 1)
        elif reading is None:
            consumed = self._start
        elif reading.finished and self._told in (None, self._length(epoch)):
            epoch, consumed = self._next, self._start
        elif self._told is not None:
            consumed = self._told
        elif reading.sent and not reading.followed:
            raise ValueError(
                f"{name}: `consumed` must be given, since worker processes draw ahead of what you have used, got None. "
                "Pass the number consumed in this epoch, call advance() after each step, or use torchdata's "
                "StatefulDataLoader, whose own state counts it."
            )
        else:
            consumed = reading.drawn
        return self._state(epoch, consumed)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """What `isinstance` sees: a sampler for several ranks is also torch's DistributedSampler.

        Lightning replaces any other sampler by one that divides it among the ranks, a second time. To subclass it
        would make torch part of every import of this module.
        """
        torch_distributed = sys.modules.get("torch.utils.data.distributed")
        if self.world_size > 1 and torch_distributed is not None:
            return torch_distributed.DistributedSampler
        return type(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return _empty, (type(self),), self.__getstate__()

    def __getstate__(self) -> dict[str, Any]:
        """A copy goes on from this place; iterators stay behind."""
        place = self._pass
        state = self.__dict__ | {"_pass": None, "_told": None, "_cached": None}
        if place is not None and not place.finished:
            state |= {"_next": place.epoch, "_start": place.drawn if self._told is None else self._told}
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next pass go on where a state was taken.

        Raises:
            ValueError: the state is of another sampler, or of one with other arguments, and says which.
        """
        self._next, self._start = self._checked(state)
        self._pass, self._told = None, None
        self._forget()

    # ----------------------------------------------------------------------------------------------------------------

    def _state(self, epoch: int, consumed: int) -> dict[str, Any]:
        evidence = self._evidence(epoch) if consumed else {}
        return self._mine() | evidence | {"epoch": epoch, "consumed": consumed}

    def _mine(self) -> dict[str, Any]:
        return {"sampler": type(self).__name__, **self._identity(), "world_size": self.world_size}

    def _checked(self, state: dict[str, Any]) -> tuple[int, int]:
        """The epoch and the place of a state, if it is one of this sampler."""
        name = f"{type(self).__name__}.load_state_dict"
        if not isinstance(state, dict) or not {"sampler", "epoch", "consumed"} <= state.keys():
            raise ValueError(f"{name}: `state` must be what state_dict() returned, got {state!r}.")
        epoch = whole_number(name, "state['epoch']", state["epoch"], 0, 2**64)
        consumed = whole_number(name, "state['consumed']", state["consumed"], 0)
        for field, value in self._mine().items():
            if field == "world_size" and consumed == 0:
                continue  # an epoch can begin on any number of ranks
            if state.get(field) != value:
                raise ValueError(
                    f"{name}: `state` must be of a sampler with {field} = {value!r}, got {state.get(field)!r}. "
                    "Build the sampler with the arguments it was saved with."
                )
        for field, value in self._evidence(epoch).items() if consumed else ():
            if state.get(field) != value:
                raise ValueError(
                    f"{name}: `state` must belong to the ledger as it is now ({field} = {value!r}), got "
                    f"{state.get(field)!r}. First load the ledger that was saved together with this state."
                )
        whole_number(name, "state['consumed']", consumed, 0, self._length(epoch) + 1)
        return epoch, consumed

    def _claim(self, reading: Pass[Item]) -> tuple[int, int]:
        """The epoch and the first item of a pass whose first item is being drawn."""
        epoch, start = (self._next, self._start) if reading.loaded is None else reading.loaded
        self._next, self._start = epoch + 1, 0
        self._pass, self._told = reading, None
        return epoch, start


class Pass(Generic[Item]):
    """One iteration over a sampler: makes items in growing runs and knows how many were drawn."""

    def __init__(self, sampler: Sampler[Item]) -> None:
        self.sampler = sampler
        self.loaded: tuple[int, int] | None = None
        self.begun = self.finished = False
        self.sent = False  # a key of this pass was pickled: it went to a worker process
        self.followed = False  # the reader keeps this iterator's own state, so it knows what it drew ahead
        self.epoch = self.start = self.made = 0
        self.left: Iterator[Any] = iter(())  # its length hint: items made but not drawn
        self._classes: dict[Size | None, type[SampleKey]] = {}

    def key_class(self, size: Size | None = None) -> type[SampleKey]:
        """The class of this pass's keys of one size."""
        if size not in self._classes:
            self._classes[size] = key_class(size, self.epoch, self.sampler.seed, self)
        return self._classes[size]

    @property
    def drawn(self) -> int:
        return self.made - operator.length_hint(self.left)

    def runs(self) -> Iterator[Iterator[Item]]:
        sampler = self.sampler
        self.epoch, self.start = sampler._claim(self)
        self.begun = True
        self.made, size = self.start, sampler._first_run
        while self.made < sampler._length(self.epoch):
            stop = min(self.made + size, sampler._length(self.epoch))
            self.left, items = sampler._run(self, self.made, stop)
            self.made, size = stop, min(size * 4, sampler._longest_run)
            yield items
        self.finished = True

    def state_dict(self) -> dict[str, Any]:
        self.followed = True
        if self.begun:
            return self.sampler._state(self.epoch, self.drawn)
        return self.sampler._state(*(self.loaded or (self.sampler._next, self.sampler._start)))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.followed = True
        self.sampler.load_state_dict(state)  # also for a reader that makes another iterator after all
        epoch, consumed = self.loaded = self.sampler._next, self.sampler._start
        if consumed == self.sampler._length(epoch):  # this iterator is at its end, another one begins the next epoch
            self.sampler._next, self.sampler._start = epoch + 1, 0
        if self.begun:
            deque(self.left, maxlen=0)  # what was made and not drawn belongs to the old place
            self.epoch, self.start = self.sampler._claim(self)
            self.made = self.start
            self._classes.clear()


class Items(itertools.chain[Item]):
    """The iterator that a loader holds: runs chained in C, so that no Python code runs for each item.

    Its state counts what was drawn from *it*. Loaders that read ahead (torchdata's) save it with each batch that they
    send out, and give back the one that belongs to the batch you last received.
    """

    reading: Pass[Item]

    @classmethod
    def read(cls, reading: Pass[Item]) -> Items[Item]:
        items = cast(Items[Item], cls.from_iterable(reading.runs()))  # of this class, which the stubs do not say
        items.reading = reading
        return items

    def state_dict(self) -> dict[str, Any]:
        """The place of this iterator."""
        return self.reading.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from such a place."""
        self.reading.load_state_dict(state)


def _empty(kind: type[Sampler[Any]]) -> Sampler[Any]:
    return kind.__new__(kind)


def brief(value: Any) -> Any:
    """A setting for a state: itself, or a checksum of it where it is long."""
    text = repr(value)
    return value if len(text) <= 160 else f"crc32 {zlib.crc32(text.encode()):08x}"


def whole_number(function: str, argument: str, value: Any, low: int, high: int | None = None) -> int:
    """The value as an int, if it is one in [low, high)."""
    span = f"in [{low}, {high})" if high is not None else f"of at least {low}"
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{function}: `{argument}` must be a whole number {span}, got {value!r}.")
    number = operator.index(value)
    if number < low or (high is not None and number >= high):
        raise ValueError(f"{function}: `{argument}` must be a whole number {span}, got {number}.")
    return number
