"""Run a function over many files in any executor, with results in order and no file lost to a dying worker."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from itertools import islice
from typing import Any, TypeVar

from segkit._processes import ProcessWorkers, cpus

Item = TypeVar("Item")
Result = TypeVar("Result")

_SMALL = 2  # up to so many tasks a pool costs more than it brings


def map_in_chunks(
    function: Callable[[list[Item]], Result],
    items: Sequence[Item],
    *,
    on_lost: Callable[[Item, str], Result],
    executor: Executor | None = None,
    progress: bool = True,
    describe: str = "",
    unit: str = "file",
    chunk_size: int = 16,
    workers: int | None = None,
) -> Iterator[Result]:
    """`function` of each run of a few items, in the order of the items.

    Only some tasks are in flight at a time, so memory does not grow with the number of items. When a worker dies, the
    unfinished items are done again, each alone; an item that takes its worker down twice is given to `on_lost`.

    Args:
        function: takes a list of items and returns one result. It handles the errors of single items itself.
        items: any picklable things, for example `Pair`.
        on_lost: makes the result of one item that cannot be done, from the item and the reason.
        executor: any `concurrent.futures.Executor`: a process pool, Dask's `client.get_executor()`, Ray's. By default a
            process pool of one worker for each CPU, or this process for up to two tasks.
        progress: show a bar, if standard error is a terminal.
        describe: the word in front of the bar.
        unit: what the bar counts.
        chunk_size: items of one task: enough to hide the cost of a task, few enough to lose little with one.
        workers: processes of the default pool; one for each CPU when None.

    Yields:
        One result for each chunk; for each item where a chunk had to be taken apart.

    Example:
        >>> list(map_in_chunks(sum, range(20), on_lost=lambda item, reason: 0, progress=False))
        [120, 70]
    """
    from tqdm import tqdm

    # Items may be read from disk when they are asked for: only those in flight are held.
    chunks = (list(items[start : start + chunk_size]) for start in range(0, len(items), chunk_size))
    # `disable=None` is tqdm's word for "only on a terminal".
    with tqdm(total=len(items), desc=describe, unit=unit, disable=None if progress else True) as bar:
        if executor is None and len(items) <= _SMALL * chunk_size:
            for chunk in chunks:
                yield function(chunk)
                bar.update(len(chunk))
            return
        with _Workers(executor, workers or cpus()) as pool:
            window: deque[tuple[list[Item], Future[Result]]] = deque()
            while True:
                for chunk in islice(chunks, pool.in_flight - len(window)):
                    window.append((chunk, pool.submit(function, chunk)))
                if not window:
                    return
                chunk, future = window.popleft()
                try:
                    results = [future.result()]
                except Exception:
                    results = list(_one_by_one(pool, function, chunk, on_lost))
                yield from results
                bar.update(len(chunk))


def _one_by_one(
    pool: _Workers,
    function: Callable[[list[Item]], Result],
    chunk: list[Item],
    on_lost: Callable[[Item, str], Result],
) -> Iterator[Result]:
    """The items of a chunk that came to nothing, each alone, so that one bad file costs itself only."""
    for item in chunk:
        reason = ""
        for _ in range(2):
            try:
                yield pool.submit(function, [item]).result()
                break
            except Exception as error:
                reason = (
                    "the worker process died twice on it, perhaps out of memory"
                    if isinstance(error, BrokenExecutor)
                    else f"the worker failed twice on it: {type(error).__name__}: {error}"
                )
        else:
            yield on_lost(item, reason)


class _Workers:
    """Our pool, or the caller's until it breaks: a standard pool is of no use after the death of one worker."""

    def __init__(self, executor: Executor | None, count: int) -> None:
        self._executor = executor
        self._own = executor is None
        self._count = count
        if executor is not None:
            count = getattr(executor, "_max_workers", None) or 64
        self.in_flight = 2 * int(count) + 2

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        if self._executor is None:
            self._executor = ProcessWorkers(self._count)
            self._own = True
        try:
            return self._executor.submit(function, *args)
        except BrokenExecutor:
            self._stop()
            self._executor = None
            return self.submit(function, *args)

    def _stop(self) -> None:
        if self._own and self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self._own and isinstance(self._executor, ProcessWorkers):
            self._executor.kill()  # whoever interrupts does not wait for what is under way
        else:
            self._stop()
