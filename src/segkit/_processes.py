"""Worker processes: started from anywhere, one may die without harm to the others, and none outlives its parent.

The standard pool forks, and a fork of a process in which OpenCV or torch has started threads hangs; or it spawns, and
then each worker runs the user's script again unless that has a `__main__` guard. loky's workers are new interpreters,
too, but the death of one of them breaks all tasks, and which task it had is not told. These workers are plain new
interpreters that know nothing of the script; functions and classes of the script travel by value (cloudpickle). Each
has a thread here that talks to it over its standard input and output, so that when one dies it is known which task it
had. A worker ends when its input does or its parent has gone, in the middle of a task and without a word.
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
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from typing import IO, Any

_LENGTH = struct.Struct("<Q")
_START = "import sys; sys.path[:] = {path!r}; from segkit._processes import serve; serve({parent})"
_LOOK = 0.5  # seconds between two looks at whether the parent lives


class ProcessWorkers(Executor):
    """An executor of `count` new interpreters, each started with its first task."""

    def __init__(self, count: int) -> None:
        self._max_workers = count
        self._tasks: queue.SimpleQueue[tuple[Future[Any], bytes] | None] = queue.SimpleQueue()
        self._alive: set[subprocess.Popen[bytes]] = set()
        self._killed = False
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def submit(self, function: Callable[..., Any], /, *args: Any, **keywords: Any) -> Future[Any]:
        """As `Executor.submit`. The future raises `BrokenExecutor` if the worker dies on the task."""
        import cloudpickle

        future: Future[Any] = Future()
        self._tasks.put((future, cloudpickle.dumps((function, args, keywords))))
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

    def kill(self) -> None:
        """End the workers at once, whatever they do, and wait until they have gone."""
        self._killed = True
        for worker in list(self._alive):
            worker.kill()
        self.shutdown(cancel_futures=True)

    def _work(self) -> None:
        worker: subprocess.Popen[bytes] | None = None
        while task := self._tasks.get():
            future, message = task
            if not future.set_running_or_notify_cancel():
                continue
            if self._killed:
                future.set_exception(BrokenExecutor("the workers were stopped"))
                continue
            if worker is None:
                worker = self._start()
            try:
                _send(worker.stdin, message)
                done, result = pickle.loads(_receive(worker.stdout))
            except (OSError, EOFError, pickle.PickleError):
                code = self._stop(worker)
                worker = None
                future.set_exception(BrokenExecutor(f"the worker process died (exit code {code})"))
                continue
            if done:
                future.set_result(result)
            else:
                future.set_exception(result)
        if worker is not None:
            self._stop(worker)

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", _START.format(path=sys.path, parent=os.getpid())]
        # There are as many workers as CPUs, so each works with one thread.
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        self._alive.add(worker)
        if self._killed:  # in the moment between
            worker.kill()
        return worker

    def _stop(self, worker: subprocess.Popen[bytes]) -> int:
        for pipe in (worker.stdin, worker.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        self._alive.discard(worker)
        return worker.wait()


def cpus() -> int:
    """How many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def serve(parent: int) -> None:
    """In a worker: run the tasks that come on standard input, for as long as that and the parent last."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    messages: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    tasks = os.fdopen(os.dup(0), "rb")
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a decoder prints must not get between the results
    threading.Thread(target=_read_until_the_end, args=(tasks, messages), daemon=True).start()
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    import cloudpickle
    import cv2

    cv2.setNumThreads(1)
    while True:
        message = messages.get()
        try:
            function, args, keywords = pickle.loads(message)
            answer = cloudpickle.dumps((True, function(*args, **keywords)))
        except Exception as error:
            answer = pickle.dumps((False, RuntimeError(f"{type(error).__name__}: {error}")))
        try:
            _send(results, answer)
        except OSError:  # nobody reads it
            os._exit(0)


def _read_until_the_end(tasks: IO[bytes], messages: queue.SimpleQueue[bytes]) -> None:
    with contextlib.suppress(OSError, EOFError):
        while True:
            messages.put(_receive(tasks))
    os._exit(0)


def _watch(parent: int) -> None:
    """The input of a worker does not end while a process that its parent forked, a DataLoader's worker, holds it."""
    while os.getppid() == parent:
        time.sleep(_LOOK)
    os._exit(0)


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
