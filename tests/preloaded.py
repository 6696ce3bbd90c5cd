"""Processes that need not import torch anew, most of what a short one does: a server that has it forks each."""

from __future__ import annotations

import multiprocessing
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile

START = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
CONTEXT = multiprocessing.get_context(START)
if START == "forkserver":
    rooms = [f"segkit.{name}" for name in ("audit", "datasets", "losses", "mining", "samplers", "stats", "transforms")]
    CONTEXT.set_forkserver_preload(["torch", "torch._dynamo", "torch.utils.data", "matplotlib.pyplot", *rooms])


def run_script(
    script: pathlib.Path, *arguments: object, cwd: pathlib.Path, timeout: float
) -> subprocess.CompletedProcess[str]:
    """What ``python SCRIPT ARGUMENTS`` does, in a process of its own."""
    command = [str(script), *map(str, arguments)]
    with tempfile.TemporaryDirectory() as folder:
        said = [pathlib.Path(folder, name) for name in ("stdout", "stderr")]
        process = CONTEXT.Process(target=_script, args=(command, str(cwd), *map(str, said)))
        process.start()
        process.join(timeout)
        late = process.exitcode is None
        process.kill()
        process.join()
        texts = [path.read_text() if path.exists() else "" for path in said]
    if late:
        raise subprocess.TimeoutExpired(command, timeout, *texts)
    return subprocess.CompletedProcess(command, process.exitcode, *texts)


def _script(command: list[str], cwd: str, *said: str) -> None:
    os.chdir(cwd)
    for number, path in zip((1, 2), said, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    sys.argv = command
    sys.path.insert(0, os.path.dirname(command[0]))
    runpy.run_path(command[0], run_name="__main__")
