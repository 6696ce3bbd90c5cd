"""A pool of worker processes that may be started from anywhere and of which one may die without harm to the others.

The standard pool forks, and a fork of a process in which OpenCV or torch has started threads hangs; or it spawns, and
then each worker runs the user's script again unless that has a ``__main__`` guard. These workers are plain new
interpreters that know nothing of the script. Each has a thread here that talks to it over its standard input and
output, so that when one dies it is known which task it had.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import IO, Any

_LENGTH = struct.Struct("<Q")
_START = "import sys; sys.path[:] = {path!r}; from segkit.stats._processes import serve; serve()"


class ProcessWorkers(Executor):
    """An executor of `count` new interpreters; functions are found by name, so they must be importable."""

    def __init__(self, count: int) -> None:
        self._max_workers = count
        self._tasks: queue.SimpleQueue[tuple[Future[Any], bytes] | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def submit(self, function: Callable[..., Any], /, *args: Any, **keywords: Any) -> Future[Any]:
        """As `Executor.submit`. The future raises `BrokenExecutor` if the worker dies on the task."""
        if getattr(getattr(function, "func", function), "__module__", None) == "__main__":
            raise ValueError(
                "ProcessWorkers: `function` must live in a module, got one of the script that runs, which a worker "
                "cannot import. Move it to a module, or pass a ThreadPoolExecutor."
            )
        future: Future[Any] = Future()
        self._tasks.put((future, pickle.dumps((function, args, keywords))))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As `Executor.shutdown`."""
        if cancel_futures:
            with contextlib.suppress(queue.Empty):
                while task := self._tasks.get_nowait():
                    task[0].cancel()
        for _ in self._threads:
            self._tasks.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def _work(self) -> None:
        worker: subprocess.Popen[bytes] | None = None
        while task := self._tasks.get():
            future, message = task
            if not future.set_running_or_notify_cancel():
                continue
            if worker is None:
                worker = _start()
            try:
                _send(worker.stdin, message)
                done, result = pickle.loads(_receive(worker.stdout))
            except (OSError, EOFError, pickle.PickleError):
                code = _stop(worker)
                worker = None
                future.set_exception(BrokenExecutor(f"the worker process died (exit code {code})"))
                continue
            if done:
                future.set_result(result)
            else:
                future.set_exception(result)
        if worker is not None:
            _stop(worker)


def serve() -> None:
    """In a worker: run tasks from standard input until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us, by closing our input
    tasks = os.fdopen(os.dup(0), "rb")
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a decoder prints must not get between the results
    import cv2

    cv2.setNumThreads(1)  # there are as many workers as CPUs
    while True:
        try:
            message = _receive(tasks)
        except EOFError:
            return
        try:
            function, args, keywords = pickle.loads(message)
            answer = pickle.dumps((True, function(*args, **keywords)))
        except Exception as error:
            answer = pickle.dumps((False, RuntimeError(f"{type(error).__name__}: {error}")))
        _send(results, answer)


def _start() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", _START.format(path=sys.path)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def _stop(worker: subprocess.Popen[bytes]) -> int:
    for pipe in (worker.stdin, worker.stdout):
        with contextlib.suppress(OSError):
            if pipe is not None:
                pipe.close()
    return worker.wait()


def _send(pipe: IO[bytes] | None, message: bytes) -> None:
    assert pipe is not None
    pipe.write(_LENGTH.pack(len(message)) + message)
    pipe.flush()


def _receive(pipe: IO[bytes] | None) -> bytes:
    assert pipe is not None
    return _exactly(pipe, _LENGTH.unpack(_exactly(pipe, _LENGTH.size))[0])


def _exactly(pipe: IO[bytes], count: int) -> bytes:
    message = pipe.read(count)
    if len(message) < count:
        raise EOFError
    return message
