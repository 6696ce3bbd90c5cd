"""Which epoch is read, and which comes next: the one state machine of all samplers.

It keeps four things apart: what was *drawn* from the pass that is being read (the `Reading` counts that), how much of
it the training loop says it has *used*, the epoch that was *asked* for, and a place that was *loaded*. The table of
what each call does to them stands in docs/samplers.md, and tests/test_samplers_epochs.py holds the code against it.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Place(NamedTuple):
    """Where to begin: items of this rank consumed in an epoch.

    `origin` is the draw of the epoch's order, over all ranks, from which this number of ranks deals it out; it is not 0
    where the epoch was begun on another number.
    """

    epoch: int
    consumed: int = 0
    origin: int = 0


class Reading(Protocol):
    """What the clock asks of a pass."""

    epoch: int
    origin: int
    stop: int  # items of the epoch on this rank
    asked: bool  # by set_epoch, before it began
    finished: bool  # the last item was drawn
    sent: bool  # keys went to worker processes, which may be ahead of the training loop
    workers: bool  # there were worker processes when it began, so keys may be on their way to them
    followed: bool  # the reader keeps its own place

    @property
    def drawn(self) -> int: ...
    @property
    def released(self) -> bool: ...  # nobody holds its iterator any more


class Clock:
    """The epoch of the pass that is being read, and the place where the next one begins."""

    def __init__(self) -> None:
        self.reading: Reading | None = None  # the latest pass that began
        self.used: int | None = None  # how far the training loop says that it was used
        self.asked: int | None = None  # the epoch of the next pass, where set_epoch said it
        self.loaded: Place | None = None  # its place, where one was loaded
        self.holder: Reading | None = None  # the iterator that it was loaded into, where it was
        self.shift = 0  # what a counter that began anew when a place was loaded lacks of our epochs

    @property
    def pending(self) -> Place | None:
        """The place of the next pass, where somebody said it."""
        if self.loaded is not None:
            return self.loaded
        return None if self.asked is None else Place(self.asked)

    @property
    def next(self) -> Place:
        """The place of the next pass."""
        if self.pending is not None:
            return self.pending
        return Place(0 if self.reading is None else self.reading.epoch + 1)

    @property
    def reading_place(self) -> Place | None:
        """The epoch of the latest pass, where one has begun."""
        return None if self.reading is None else Place(self.reading.epoch, 0, self.reading.origin)

    @property
    def current(self) -> Place:
        """The epoch that a loop is in, as far as can be seen; between two loops the next one."""
        reading = self.reading
        if self.pending is not None or reading is None or self.over:
            return self.next
        return Place(reading.epoch, 0, reading.origin)

    @property
    def over(self) -> bool:
        """Was the latest pass read to its end, and let go of? With worker processes only `used` can tell."""
        reading = self.reading
        if reading is None or not (reading.finished and reading.released):
            return False
        return not reading.workers or self.used == reading.stop

    def begin(self, reading: Reading, loaded: Place | None) -> Place:
        """A pass draws its first item; it may have a place of its own."""
        place = self.next if loaded is None else loaded
        if loaded is None and self.loaded is not None and self.holder is not None and place.consumed:
            # A loader that makes another iterator had finished the one it loaded, whatever was left over (drop_last).
            place = Place(place.epoch + 1)
        reading.asked = self.asked is not None
        self.reading, self.used, self.asked, self.loaded, self.holder = reading, None, None, None, None
        return place

    def load(self, place: Place, holder: Reading | None = None) -> None:
        """The next pass goes on at this place; it may be known which one that is."""
        self.reading = self.used = self.asked = None
        self.loaded, self.holder, self.shift = place, holder, 0

    def ask(self, number: int) -> str | None:
        """`set_epoch`: the next pass is this epoch; or a word on the pass that is being read. Returns a warning."""
        if self.loaded is not None and number <= self.loaded.epoch:
            self.shift = self.loaded.epoch - number  # a loop that counts from 0 again: the place stays
            return None
        if self.loaded is not None:
            self.loaded, self.holder, self.shift = None, None, 0
        epoch = number + self.shift
        if epoch < 0:
            self.shift, epoch = 0, number
        reading = self.reading
        if reading is None or self.asked is not None or epoch != reading.epoch or not self._still_read(reading):
            self.asked = epoch
        if reading is None or not (reading.asked and reading.finished) or epoch <= reading.epoch + 1:
            return None
        return (
            f"`epoch` must count passes, got {number} after that of {reading.epoch - self.shift}: those between are "
            "left out. Where a loop counts iterations, give iteration // len(loader), or leave set_epoch out: each "
            "pass moves on to the next epoch."
        )

    def _still_read(self, reading: Reading) -> bool:
        """Is it this pass that set_epoch, with its very epoch, speaks of, and not another one of the same epoch?"""
        if not reading.finished:
            return not reading.released
        if reading.released and (not reading.workers or self.used == reading.stop):
            return False
        if self.used is not None and self.used < reading.stop:
            return True
        return not reading.asked  # it may be in use: a framework says the epoch after it has begun to read

    def copy(self) -> Clock:
        """A clock that goes on from here, without the pass that is being read."""
        copy, place, reading = Clock(), self.place(), self.reading
        copy.shift = self.shift
        if place is None:
            assert reading is not None
            place = self.at(reading.drawn)
        if place.consumed or place.origin or self.loaded is not None:
            copy.loaded = place
        elif reading is not None or self.asked is not None:
            copy.asked = place.epoch
        return copy

    def place(self) -> Place | None:
        """Where to go on; None where only the training loop knows."""
        reading = self.reading
        if self.pending is not None or reading is None:
            return self.next
        if reading.finished and (self.used is None or (reading.released and not reading.workers)):
            return self.next
        if self.used is not None:
            return self.at(self.used)
        if reading.sent and not reading.followed:
            return None
        return self.at(reading.drawn)

    def at(self, consumed: int) -> Place:
        """A place in the pass that is being read; its end is the start of the next epoch."""
        assert self.reading is not None
        if consumed and consumed == self.reading.stop:
            return Place(self.reading.epoch + 1)
        return Place(self.reading.epoch, consumed, self.reading.origin)
