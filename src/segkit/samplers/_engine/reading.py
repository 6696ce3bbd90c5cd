"""One pass over a sampler, and the iterator that a loader holds."""

from __future__ import annotations

import itertools
import operator
import sys
import weakref
from collections import deque
from collections.abc import Iterator
from typing import Any, Generic, Protocol, TypeVar, cast

from segkit.samplers._engine.clock import Clock, Place

Item = TypeVar("Item")


class Source(Protocol[Item]):
    """What a pass asks of its sampler."""

    _clock: Clock
    _first_run: int  # items made before the first is handed out ...
    _longest_run: int  # ... growing to this

    def _stop(self, epoch: int, origin: int) -> int:
        """Items of this rank in an epoch that is dealt out from a draw on."""
        ...

    def _run(self, reading: Pass[Item], start: int, stop: int) -> tuple[Iterator[Any], Iterator[Item]]:
        """Items [start, stop) of a pass, and the iterator inside it whose length hint is what is left."""
        ...

    def _state(self, place: Place) -> dict[str, Any]:
        """A place as plain values."""
        ...

    def _checked(self, state: dict[str, Any]) -> Place:
        """The place that a state says, if it is one of this sampler."""
        ...


class Pass(Generic[Item]):
    """One iteration over a sampler: makes items in growing runs and knows how many were drawn."""

    def __init__(self, source: Source[Item]) -> None:
        self.source = source
        self.loaded: Place | None = None
        self.begun = self.finished = self.asked = False
        self.sent = False  # a key of this pass was pickled: it went to a worker process
        self.workers = False  # there were worker processes when it began
        self.followed = False  # the reader keeps this iterator's own state, so it knows what it drew ahead
        self.epoch = self.origin = self.start = self.stop = self.made = 0
        self.left: Iterator[Any] = iter(())  # its length hint: items made but not drawn
        self.kinds: dict[Any, Any] = {}  # the classes of its keys, by size
        self.reader: weakref.ref[Any] = weakref.ref(self)

    @property
    def drawn(self) -> int:
        return self.made - operator.length_hint(self.left)

    @property
    def released(self) -> bool:
        return self.reader() is None

    def _begin(self) -> None:
        place = self.source._clock.begin(self, self.loaded)
        self.epoch, self.start, self.origin = place
        self.made = self.start
        self.stop = self.source._stop(self.epoch, self.origin)
        self.begun, self.workers = True, _has_workers()

    def runs(self) -> Iterator[Iterator[Item]]:
        self._begin()
        size = self.source._first_run
        while self.made < self.stop:
            end = min(self.made + size, self.stop)
            self.left, items = self.source._run(self, self.made, end)
            self.made, size = end, min(size * 4, self.source._longest_run)
            yield items
        self.finished = True

    def state_dict(self) -> dict[str, Any]:
        self.followed = True
        if not self.begun:
            return self.source._state(self.loaded or self.source._clock.next)
        return self.source._state(Place(self.epoch, self.drawn, self.origin))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.followed = True
        place = self.loaded = self.source._checked(state)
        self.source._clock.load(place, holder=self)
        if self.begun:
            deque(self.left, maxlen=0)  # what was made and not drawn belongs to the old place
            self._begin()
            self.kinds.clear()


def _has_workers() -> bool:
    """Has this process any child? Keys are pickled in a thread, some time after they were drawn: too late to tell."""
    multiprocessing = sys.modules.get("multiprocessing")
    return multiprocessing is not None and bool(multiprocessing.active_children())


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
        reading.reader = weakref.ref(items)
        return items

    def state_dict(self) -> dict[str, Any]:
        """The place of this iterator."""
        return self.reading.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from such a place."""
        self.reading.load_state_dict(state)
