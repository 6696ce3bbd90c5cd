"""Worker processes: none outlives its parent, whatever ends that one, and one that dies costs its task only."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor

import cv2
import numpy as np
import pytest

from segkit._processes import ProcessWorkers
from segkit.cli import build_parser
from segkit.io import read_image, write_image, write_mask

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="processes are counted in /proc")

# What each command has to do takes it many seconds, were it not ended. All commands that read more than headers.
COMMANDS = {
    "audit": ["audit", "images", "masks", "--num-classes", "3"],
    "stats": ["stats", "images", "masks", "--num-classes", "3"],
    "expand": ["expand", "images", "masks", "out", "--copies", "40", "--rotate", "20"],
    "tile": ["tile", "large/images", "out"],
    "split": ["split", "large/images", "large/masks", "--folds", "3"],
    "convert-masks": ["convert-masks", "masks", "out", "--map", "2=1"],
    "convert-masks of annotations": ["convert-masks", "coco.json", "out", "--classes", "names.txt"],
}
SIGNALS = ["SIGKILL", "SIGTERM", "SIGHUP", "SIGINT"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir()
    write_image(folder / "images" / "0000.png", rng.integers(0, 256, (600, 800, 3), dtype=np.uint8))
    write_mask(folder / "masks" / "0000.png", rng.integers(0, 3, (600, 800), dtype=np.uint8))
    for i in range(1, 2000):
        for name in ("images", "masks"):
            os.link(folder / name / "0000.png", folder / name / f"{i:04d}.png")
    large = np.tile(rng.integers(0, 3, (600, 800), dtype=np.uint8), (15, 11))  # more than 2 s for one thread
    for name in ("images", "masks"):
        (folder / "large" / name).mkdir(parents=True)
        for i in range(40):
            if name == "images" and i == 0:
                cv2.imwrite(str(folder / "large/images/0000.png"), large, [cv2.IMWRITE_PNG_COMPRESSION, 1])
            else:
                os.link(folder / "large/images/0000.png", folder / "large" / name / f"{i:04d}.png")
    ring = [10, 10, 1900, 20, 1000, 1400]
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "height": 1500, "width": 2000} for i in range(2000)],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "segmentation": [ring], "iscrowd": 0} for i in range(2000)
        ],
        "categories": [{"id": 1, "name": "sail"}],
    }
    (folder / "coco.json").write_text(json.dumps(content))
    (folder / "names.txt").write_text("sail\n")
    return folder


def test_each_command_that_takes_long_is_here():
    commands = next(a.choices for a in build_parser()._actions if isinstance(a.choices, dict))
    assert set(commands) - {"info", "examples"} == {name.split()[0] for name in COMMANDS}


def group_of(leader):
    """The processes of the group that are not merely waiting to be buried."""
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == leader and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def at_work(parent, command):
    """Whether all workers, or the one process of a command without them, are in the middle of their tasks."""
    working = [p for p in group_of(parent) if p != parent or command.startswith("convert-masks")]
    return bool(working) and all(seconds_of(process) > 0.35 for process in working)  # 0.2 s of it to load our code


def seconds_of(process):
    """The CPU time of a process."""
    try:
        fields = pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_until(question, seconds):
    end = time.monotonic() + seconds
    while not question() and time.monotonic() < end:
        time.sleep(0.02)
    return question()


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("command", COMMANDS)
def test_no_worker_is_left_two_seconds_after_its_parent(folder, tmp_path, command, number):
    arguments = [str(folder / a) if (folder / a).exists() else a for a in COMMANDS[command]]
    parent = subprocess.Popen(
        [sys.executable, "-m", "segkit", *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert wait_until(lambda: at_work(parent.pid, command), 60), parent.communicate(timeout=5)
    assert parent.poll() is None, "it had too little to do"
    os.kill(parent.pid, getattr(signal, number))
    assert wait_until(lambda: parent.poll() is not None and not group_of(parent.pid), 2), group_of(parent.pid)
    out, err = parent.communicate(timeout=5)
    assert out == ""
    written = [path for path in (tmp_path / "out").rglob("*.*") if path.suffix in (".png", ".tif")]
    for path in written[:: max(1, len(written) // 3)]:
        read_image(path)  # whole, or not there
    if number == "SIGKILL":
        assert (parent.returncode, err) == (-9, "")
        return
    assert parent.returncode == 128 + getattr(signal, number)
    assert err.count("\n") == 1
    assert err.endswith("what is finished stays\n")
    assert not list(tmp_path.rglob(".*")) or command == "expand"  # which tidies up when it goes on


def test_a_worker_notices_that_its_parent_has_gone_though_another_process_holds_its_input(tmp_path):
    code = """
import os, subprocess, sys, time
from segkit._processes import ProcessWorkers
from segkit.cli import build_parser
workers = ProcessWorkers(1)
workers.submit(os.getpid).result()
future = workers.submit(time.sleep, 60)
if os.fork() == 0:  # as a DataLoader does: the pipes are open in this process, too
    time.sleep(20)
    os._exit(0)
os.kill(os.getpid(), 9)
"""
    parent = subprocess.Popen([sys.executable, "-W", "ignore", "-c", code], start_new_session=True)
    parent.wait(60)
    try:
        assert wait_until(lambda: len(group_of(parent.pid)) == 1, 2), group_of(parent.pid)
    finally:
        os.killpg(parent.pid, signal.SIGKILL)


def test_one_dead_worker_costs_its_task_and_no_other():
    workers = ProcessWorkers(2)
    futures = [workers.submit(os._exit if i == 3 else abs, i) for i in range(8)]
    with pytest.raises(BrokenExecutor, match=r"exit code 3"):
        futures[3].result()
    assert [f.result() for i, f in enumerate(futures) if i != 3] == [0, 1, 2, 4, 5, 6, 7]
    workers.shutdown()


SCRIPT = """
from segkit.datasets import expand_dataset

class Mirror:
    def __call__(self, image, mask, *, generator=None):
        return image.flip(-1), mask.flip(-1)
    def __repr__(self):
        return "Mirror()"

print(len(expand_dataset([({image!r}, {mask!r})], Mirror(), {out!r}, copies=20, seed=0)))
"""


def test_a_transform_of_a_script_without_a_guard_reaches_the_workers(folder, tmp_path):
    image, mask = (str(folder / name / "0000.png") for name in ("images", "masks"))
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(image=image, mask=mask, out=str(tmp_path / "out")))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("20\n", "")
