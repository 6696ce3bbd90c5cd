"""The audit as a run over many files: the same in any executor, and nothing that one file does stops it."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from segkit import audit, io
from segkit._processes import ProcessWorkers
from segkit.audit._measure.worker import lost

LONG = os.environ.get("SEGKIT_LONG") == "1"


def make_set(top, count, size=48):
    """Pairs with some faults: blurred, dark, broken, duplicates."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (top / name).mkdir(parents=True)
    for i in range(count):
        image = rng.integers(60, 200, (size // 4, size // 4, 3)).repeat(4, 0).repeat(4, 1)
        image = (image + rng.integers(0, 40, image.shape)).astype(np.uint8)
        if i % 23 == 5:
            image = image // 20
        mask = np.zeros((size, size), np.uint8)
        mask[8:30, 8 + i % 9 : 30] = 1 + i % 2
        Image.fromarray(image).save(top / "images" / f"{i:05d}.png", compress_level=1)
        Image.fromarray(mask).save(top / "masks" / f"{i:05d}.png", compress_level=1)
    (top / "images" / "00007.png").write_bytes(b"broken")
    shutil.copy(top / "images" / "00011.png", top / "images" / "00031.png")
    return top / "images", top / "masks"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("set"), 70)


@pytest.fixture(scope="module")
def expected(folders):
    with ThreadPoolExecutor(1) as executor:
        return audit.audit_dataset(*folders, num_classes=3, executor=executor, progress=False).to_json()


def test_the_set_has_findings(expected):
    codes = json.loads(expected)["codes"]
    assert {"unreadable", "too-dark", "exact-duplicate"} <= set(codes) | {
        "duplicate-with-other-mask",
        "exact-duplicate",
    }


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_any_number_of_workers_gives_the_same_bytes(folders, expected, workers):
    executor = ProcessWorkers(workers)
    try:
        report = audit.audit_dataset(*folders, num_classes=3, executor=executor, progress=False)
    finally:
        executor.shutdown()
    assert report.to_json() == expected


def test_the_default_and_a_standard_pool_give_the_same_bytes(folders, expected):
    assert audit.audit_dataset(*folders, num_classes=3, progress=False).to_json() == expected
    import multiprocessing

    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        report = audit.audit_dataset(*folders, num_classes=3, executor=executor, progress=False)
    assert report.to_json() == expected


@pytest.mark.filterwarnings("default")  # of distributed and what it starts
def test_a_dask_cluster_gives_the_same_bytes(folders, expected):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        report = audit.audit_dataset(*folders, num_classes=3, executor=client.get_executor(), progress=False)
    assert report.to_json() == expected


@pytest.mark.filterwarnings("default")  # of ray and what it starts
def test_ray_gives_the_same_bytes(folders, expected, monkeypatch):
    """Ray brings no executor of its own any more; these lines are the ones of docs/audit.md."""
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")

    @ray.remote
    def call(function, args, keywords):
        return function(*args, **keywords)

    class RayExecutor(Executor):
        def submit(self, function, /, *args, **keywords):
            return call.remote(function, args, keywords).future()

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        report = audit.audit_dataset(*folders, num_classes=3, executor=RayExecutor(), progress=False)
    finally:
        ray.shutdown()
    assert report.to_json() == expected


def test_any_order_of_the_files_gives_the_same_bytes(folders, expected):
    images, masks = ([str(path) for path in sorted(folder.iterdir())] for folder in folders)
    rng = np.random.default_rng(0)
    report = audit.audit_dataset(
        rng.permutation(images).tolist(), rng.permutation(masks).tolist(), num_classes=3, progress=False
    )
    assert report.to_json() == expected


def test_a_killed_worker_is_replaced(folders, expected):
    """Workers are killed while they work; their files are done again, and the result is the same."""
    executor = ProcessWorkers(2)
    stop, killed = threading.Event(), []

    def kill():
        while len(killed) < 3 and not stop.wait(0.02):
            for child in children(os.getpid()):
                if child not in killed and "segkit._processes" in command_of(child):
                    os.kill(child, signal.SIGKILL)
                    killed.append(child)
                    stop.wait(0.4)  # time for the next one to start and to work
                    break

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        for _ in range(20):
            report = audit.audit_dataset(*folders, num_classes=3, executor=executor, progress=False)
            assert report.to_json() == expected
            if len(killed) == 3:
                break
    finally:
        stop.set()
        killer.join()
        executor.shutdown()
    assert len(killed) == 3


def children(parent):
    text = pathlib.Path(f"/proc/{parent}/task").glob("*/children")
    return [int(word) for path in text for word in path.read_text().split()]


def command_of(process):
    try:
        return pathlib.Path(f"/proc/{process}/cmdline").read_text()
    except OSError:
        return ""


def test_a_file_that_takes_its_worker_down_is_a_finding():
    part = lost(("a.png", "b.png"), "the worker process died twice on it, perhaps out of memory")
    assert len(part.rows) == 1
    assert [(f.code, f.path, f.related) for f in part.findings] == [("unreadable", "a.png", "b.png")]
    assert "out of memory" in part.findings[0].reason


def test_a_worker_out_of_memory_gives_a_finding(folders, monkeypatch):
    def hungry(read):
        def reads(handle, **options):
            if "00003" in handle.path:
                raise MemoryError
            return read(handle, **options)

        return reads

    monkeypatch.setattr(io.ImageHandle, "read", hungry(io.ImageHandle.read))
    monkeypatch.setattr(io.ImageHandle, "read_mask", hungry(io.ImageHandle.read_mask))
    with ThreadPoolExecutor(2) as executor:
        report = audit.audit_dataset(*folders, num_classes=3, executor=executor, progress=False)
    found = [f for f in report.select("unreadable") if "00003" in f.path]
    assert {f.path.split("/")[-2] for f in found} == {"images", "masks"}
    assert "more memory" in found[0].reason


def test_a_file_that_disappears_during_the_run_costs_one_finding(folders, tmp_path):
    top = tmp_path / "copy"
    shutil.copytree(folders[0].parent, top)
    images = [str(path) for path in sorted((top / "images").iterdir())]
    os.remove(images[20])
    report = audit.audit_dataset(images, top / "masks", num_classes=3, progress=False)
    gone = [f for f in report.select("unreadable") if f.path == images[20]]
    assert len(gone) == 1
    report.to_html(tmp_path / "report.html")


def test_a_full_disk_for_the_notes_is_an_error_that_says_so(folders, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        audit.audit_dataset(*folders, progress=False)


def test_links_in_a_circle_and_strange_names_are_taken(tmp_path):
    images, _ = make_set(tmp_path, 40)
    (images / "loop").symlink_to(images)
    strange = os.fsencode(images) + b"/caf\xe9.png"
    shutil.copy(images / "00002.png", os.fsdecode(strange))
    report = audit.audit_dataset(images, progress=False)
    assert sum(image is not None for image, _ in report.files) == 41
    assert "caf\\udce9.png" in report.to_json()
    assert json.loads(report.to_json())["images"] == 41
    report.to_html(tmp_path / "report.html")


def test_a_pipe_under_the_name_of_a_picture_costs_one_finding(tmp_path):
    images, masks = make_set(tmp_path, 12)
    os.remove(images / "00003.png")
    os.mkfifo(images / "00003.png")
    report = audit.audit_dataset(images, masks, progress=False)
    assert [f.path for f in report.select("unreadable") if "pipe" in f.reason] == [str(images / "00003.png")]


def test_a_report_for_a_pipe_is_written_into_it(folders, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    report = audit.audit_dataset(*folders, progress=False)
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()), daemon=True)
    reader.start()
    report.to_json(tmp_path / "pipe")
    reader.join(20)
    assert read == [report.to_json()]
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.slow
def test_a_folder_of_very_many_files_is_audited(tmp_path):
    """100 pictures under many names each: every name is listed, and every copy named once."""
    many = 100_000 if LONG else 2_000
    images, masks = make_set(tmp_path / "few", 100, size=32)
    (tmp_path / "images").mkdir()
    for number in range(many):
        os.link(images / f"{number % 100:05d}.png", tmp_path / "images" / f"{number:06d}.png")
    report = audit.audit_dataset(tmp_path / "images", progress=False)
    assert len(report.files) == many
    # One of the pictures is broken, and one is a copy of another.
    assert report.counts()["unreadable"] == many // 100
    assert report.counts()["exact-duplicate"] == many - many // 100 - 98
    report.to_html(tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 5 * 2**20


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_folder_is_named(tmp_path):
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises((OSError, ValueError), match="closed"):
        audit.audit_dataset(tmp_path / "closed")


MEASURE = """
import resource, sys
from segkit.audit import audit_dataset
from segkit._processes import ProcessWorkers
executor = ProcessWorkers(1)
audit_dataset(sys.argv[1], sys.argv[2], num_classes=3, executor=executor, progress=False).to_json()
executor.shutdown()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def peak_memory(folders):
    """Peak resident memory of the audit and of its worker, in KiB."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *map(str, folders)], capture_output=True, text=True, check=True
    )
    return [int(word) for word in done.stdout.split()]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_files(tmp_path):
    few, many = (1000, 10_000) if LONG else (100, 1000)
    small = peak_memory(make_set(tmp_path / "few", few))
    large = peak_memory(make_set(tmp_path / "many", many))
    assert large[0] < 1.1 * small[0], "the process that collects"
    assert large[1] < 1.1 * small[1], "a worker"


def test_a_progress_bar_is_for_terminals_only(folders, capsys):
    audit.audit_dataset(*folders, progress=True)
    assert capsys.readouterr().err == ""
