"""What every sampler shares: the epoch, the place in it, and the state of both as plain values."""

from __future__ import annotations

import operator
import sys
import warnings
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from segkit.samplers._engine.clock import Clock, Place
from segkit.samplers._engine.reading import Items, Pass

Item = TypeVar("Item")
TAILS = ("pad", "drop", "uneven")


class Sampler(ABC, Generic[Item]):
    """What all samplers can do; `OrderedSampler` is the one to subclass.

    A *pass* is one iteration. It takes its epoch when its first item is drawn, not when `iter` is called: loaders call
    `iter` more often than they read. Each pass moves on to the next epoch unless `set_epoch` says otherwise.

    Example:
        >>> from segkit.samplers import ShuffleSampler
        >>> sampler = ShuffleSampler(4, seed=0)
        >>> [{key.epoch for key in sampler} for _ in range(2)], sampler.epoch
        ([{0}, {1}], 2)
    """

    _first_run = 256  # items made before the first is handed out ...
    _longest_run = 16384  # ... growing to this: the working set of a run stays within the second cache level

    def __init__(self, *, seed: int, rank: int, world_size: int, tail: str) -> None:
        name = type(self).__name__
        self.seed = whole_number(name, "seed", seed, 0, 2**64)
        self.world_size = whole_number(name, "world_size", world_size, 1)
        self.rank = whole_number(name, "rank", rank, 0, self.world_size)
        if tail not in TAILS:
            raise ValueError(f"{name}: `tail` must be one of {', '.join(TAILS)}, got {tail!r}.")
        self.tail = tail
        self._clock = Clock()

    # What a subclass says -------------------------------------------------------------------------------------------

    @abstractmethod
    def _stop(self, epoch: int, origin: int) -> int:
        """Items that this rank yields in this epoch, where it is dealt out from draw `origin` of its order on."""

    @abstractmethod
    def _run(self, reading: Pass[Item], start: int, stop: int) -> tuple[Iterator[Any], Iterator[Item]]:
        """Items [start, stop) of a pass, and the iterator inside it whose length hint is what is left."""

    @abstractmethod
    def _on_other_ranks(self, state: dict[str, Any]) -> Place:
        """Where to go on from a state that was saved on another number of ranks."""

    @abstractmethod
    def _identity(self) -> dict[str, Any]:
        """The arguments that decide the order, as plain values: a state fits only where they agree."""

    def _by_ranks(self) -> tuple[str, ...]:
        """The fields of the identity that may differ where the number of ranks does."""
        return ("world_size",)

    def _settings(self) -> str:
        """What the arguments come to, in one line."""
        return repr(self)

    def _idle(self) -> list[str]:
        """Settings that change nothing, each as a sentence."""
        return []

    def _evidence(self, epoch: int) -> dict[str, Any]:
        """What else the order of an epoch depends on, as plain values to be checked on resuming."""
        return {}

    def _forget(self) -> None:
        """Drop orders that were computed from what may have changed since."""
        return

    # What a user sees -----------------------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """The epoch that the loop is in, until it has let go of the pass; then the next one.

        Where worker processes load a plain sampler's samples, the end of a loop cannot be seen: it stays until the next
        pass begins.
        """
        return self._clock.current.epoch

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass be this epoch. Optional; calling it twice is the same as once.

        A place that was loaded is kept, unless the number is a later epoch: a smaller one is taken for that of the
        loaded epoch, and the following ones count on from it, as Accelerate counts from 0 again after each start. The
        epoch of the pass that is being read changes nothing, as Lightning says it after it has begun to read.
        """
        warning = self._clock.ask(whole_number(f"{type(self).__name__}.set_epoch", "epoch", epoch, 0, 2**64))
        if warning:
            warnings.warn(f"{type(self).__name__}.set_epoch: {warning}", stacklevel=3)

    def length(self, epoch: int) -> int:
        """Items of a whole epoch on this rank: ``sum(map(sampler.length, range(epochs)))`` are the steps of a training.

        Args:
            epoch: which epoch; its length may depend on it where scales or shares change with the epoch.

        Example:
            >>> from segkit.samplers import ShuffleSampler
            >>> ShuffleSampler(10, world_size=4).length(0)
            3
        """
        return self._stop(whole_number(f"{type(self).__name__}.length", "epoch", epoch, 0, 2**64), 0)

    def describe(self) -> str:
        """What this sampler does with its arguments, and which of its settings change nothing."""
        lines = [f"{type(self).__name__}: {self._settings()}"]
        lines.append(f"epoch {self.epoch}: {len(self)} steps on rank {self.rank} of {self.world_size}")
        return "\n".join(lines + [f"changes nothing: {sentence}" for sentence in self._idle()])

    def __len__(self) -> int:
        """Items of `epoch` on this rank; a resumed pass yields the rest of them."""
        place = self._clock.current
        return self._stop(place.epoch, place.origin)

    def __iter__(self) -> Iterator[Item]:
        return Items.read(Pass(self))

    def advance(self, items: int = 1) -> None:
        """Say that the training loop has consumed so many more items of the pass that is being read.

        A loader with workers draws ahead of what you have seen, so only you know. Call it once after each step, and
        `state_dict()` saves this place. A sampler of single samples wants the number of samples in the batch,
        ``advance(len(batch["index"]))``: the last batch may be shorter.
        """
        name, clock = f"{type(self).__name__}.advance", self._clock
        reading = clock.reading
        if not isinstance(reading, Pass):
            raise ValueError(f"{name}: a pass must have begun, got none. Call it after each batch that you have used.")
        told = (reading.start if clock.used is None else clock.used) + whole_number(name, "items", items, 0)
        if told > reading.stop:
            raise ValueError(
                f"{name}: `items` must add up to at most the {reading.stop} of this epoch, got {told}. Count what a "
                'batch holds, as in advance(len(batch["index"])): the last one may be shorter.'
            )
        clock.used = told

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
        name, clock = f"{type(self).__name__}.state_dict", self._clock
        if consumed is None:
            place = clock.place()
            if place is None:
                raise ValueError(
                    f"{name}: `consumed` must be given, since worker processes draw ahead of what you have used, got "
                    "None. Pass the number consumed in this epoch, call advance() after each step, or use torchdata's "
                    "StatefulDataLoader, whose own state counts it."
                )
            return self._state(place)
        epoch, _, origin = clock.pending or clock.reading_place or clock.next
        stop = self._stop(epoch, origin)
        consumed = whole_number(name, "consumed", consumed, 0, stop + 1)
        return self._state(Place(epoch + 1) if consumed and consumed == stop else Place(epoch, consumed, origin))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next pass go on where a state was taken.

        The state may be of another number of ranks: each sample that is left of its epoch then comes once, in the same
        order, dealt out anew; a batch sampler goes on with the same batches where those of all ranks together hold as
        many samples as before.

        Raises:
            ValueError: the state is of another sampler, or of one with other arguments, and says which.
        """
        place = self._checked(state)
        at_end = place.consumed == self._stop(place.epoch, place.origin) and (place.consumed or place.origin)
        self._clock.load(Place(place.epoch + 1) if at_end else place)
        self._forget()

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
        return self.__dict__ | {"_clock": self._clock.copy(), "_cached": None}

    # ----------------------------------------------------------------------------------------------------------------

    def _state(self, place: Place) -> dict[str, Any]:
        evidence = self._evidence(place.epoch) if place.consumed or place.origin else {}
        return self._mine() | evidence | place._asdict()

    def _mine(self) -> dict[str, Any]:
        return {"sampler": type(self).__name__, **self._identity(), "world_size": self.world_size}

    def _checked(self, state: dict[str, Any]) -> Place:
        """The place of a state, if it is one of this sampler."""
        name = f"{type(self).__name__}.load_state_dict"
        if not isinstance(state, dict) or not {"sampler", "epoch", "consumed"} <= state.keys():
            raise ValueError(f"{name}: `state` must be what state_dict() returned, got {state!r}.")
        place = Place(
            whole_number(name, "state['epoch']", state["epoch"], 0, 2**64),
            whole_number(name, "state['consumed']", state["consumed"], 0),
            whole_number(name, "state['origin']", state.get("origin", 0), 0),
        )
        other = state.get("world_size") != self.world_size
        for field, value in self._mine().items():
            if state.get(field) != value and not (other and field in self._by_ranks()):
                raise ValueError(
                    f"{name}: `state` must be of a sampler with {field} = {value!r}, got {state.get(field)!r}. "
                    "Build the sampler with the arguments it was saved with."
                )
        for field, value in self._evidence(place.epoch).items() if place.consumed or place.origin else ():
            if state.get(field) != value:
                raise ValueError(
                    f"{name}: `state` must belong to the order as it is now ({field} = {value!r}), got "
                    f"{state.get(field)!r}. {self._remedy}"
                )
        if other and (place.consumed or place.origin):
            whole_number(name, "state['world_size']", state.get("world_size"), 1)
            place = self._on_other_ranks(state)
        whole_number(name, "state['consumed']", place.consumed, 0, self._stop(place.epoch, place.origin) + 1)
        return place

    _remedy = "What it is made from has changed since."


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
