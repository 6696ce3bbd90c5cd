"""Every file in examples/ runs in its short mode, as a reader does it: a process, no warning, the words it promises.

Those that start processes of their own are typed as a reader types them, the others run where torch is loaded already.

The quickstart has its own tests.
"""

from __future__ import annotations

import ast
import pathlib
import re
import socket
import subprocess
import sys

import pytest

from preloaded import run_script

EXAMPLES = pathlib.Path(__file__).resolve().parents[1] / "examples"
PARTS = {
    "options",
    "pictures",
    "quickstart",
    "select_data",
    "shapes",
    "unet",
}  # imported by the others, or tested apart

# What each one must say: the result that it is there to show.
SAYS = {
    "accelerate_fit": r"epoch 2: loss \d\.\d+, 16 samples known",
    "audit_in_ci": r"exit code 1\n(?s:.*)\n0 new finding\(s\), 55 of 55 pairs are usable\nexit code 0",
    "classification_hard_examples": r"hard negatives: .*wrong label\nlabels to look at: \d+, of which wrong: [1-9]",
    "ddp": r"epoch 2: loss (\d\.\d+), ledger knows 20 of 20 samples\n  loss on each rank: (\S+) \2\n",
    "expand_offline": r"6 pairs, 12 copies\n(?s:.*)18 pairs to train on",
    "gigapixel": r"cells: IoU 0\.[3-9]\d+; the map is 1024 pixels high",
    "lightning_fit": r"validation IoU \d\.\d+\nhardest: \['\d+\.png'",
    "satellite": r"13 bands of uint16, 96 x 96, deflate\n(?s:.*)right\nsee ",
    "test_time_crops": r"the whole image +mean IoU 0\.\d+(?s:.*)a grid of 64",
    "tune_schedule": r"no schedule: IoU \d\.\d+\nbest of 2: IoU",
}
PACKAGES = {"PIL": "pillow", "cv2": "opencv-python", "skimage": "scikit-image"}  # whose module has another name
NEEDS = {"accelerate_fit": "accelerate", "lightning_fit": "lightning", "tune_schedule": "optuna"}
FLAGS = {"satellite": ["--out", "satellite.png"]}

# Lightning 2.6 with torch 2.13; not ours, and the reader cannot help it either.
NOT_OURS = re.compile(r".*(LeafSpec|does not have many workers|litlogger).*")


TYPED = {"audit_in_ci", "ddp", "expand_offline", "lightning_fit"}


def run(folder: pathlib.Path, *command: object) -> str:
    return said_by(
        subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, timeout=150, check=False)
    )


def said_by(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    warned = [line for line in done.stderr.splitlines() if "warn" in line.lower() and not NOT_OURS.match(line)]
    assert not warned, done.stderr
    return done.stdout


def launcher(name: str) -> list[object]:
    if name != "ddp":
        return [sys.executable]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", 2, "--master-port", port]


def test_every_example_is_run_and_short_enough_to_read():
    names = {path.stem for path in EXAMPLES.glob("*.py")} - PARTS
    assert names == set(SAYS)
    for name in names:
        assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) < 120, name


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SAYS))
def test_an_example_runs_in_its_short_mode(name, tmp_path):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    script, flags = EXAMPLES / f"{name}.py", ["--quick", *FLAGS.get(name, [])]
    if name in TYPED:
        said = run(tmp_path, *launcher(name), script, *flags)
    else:
        said = said_by(run_script(script, *flags, cwd=tmp_path, timeout=150))
    assert re.search(SAYS[name], said), said


@pytest.mark.slow
def test_lightning_and_accelerate_train_in_two_processes(tmp_path):
    """Both divide the batches in their own way: the whole ledger shows that no sample is lost."""
    pytest.importorskip("lightning")
    pytest.importorskip("accelerate")
    said = run(tmp_path, sys.executable, EXAMPLES / "lightning_fit.py", "--quick", "--devices", 2)
    assert re.search(SAYS["lightning_fit"], said), said
    launch = [*launcher("ddp"), EXAMPLES / "accelerate_fit.py", "--quick"]
    assert re.search(SAYS["accelerate_fit"], run(tmp_path, *launch)), said


@pytest.mark.slow
def test_the_gate_for_a_data_repository_leaves_with_the_code_that_a_ci_reads(tmp_path):
    command = [sys.executable, EXAMPLES / "audit_in_ci.py"]
    nowhere = subprocess.run([*map(str, command), "nowhere", "masks"], cwd=tmp_path, capture_output=True, text=True)
    assert nowhere.returncode == 2
    assert len(nowhere.stderr.splitlines()) == 1
    assert "nowhere" in nowhere.stderr


def test_the_extra_for_the_examples_brings_all_that_they_import():
    project = (EXAMPLES.parent / "pyproject.toml").read_text()
    lists = re.findall(r"^(?:dependencies|examples) = (\[.*?\])$", project, re.MULTILINE | re.DOTALL)
    brought = {re.match(r"[\w-]+", wanted)[0] for each in lists for wanted in ast.literal_eval(each)} | {"segkit"}
    for path in EXAMPLES.glob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
        roots = {name.split(".")[0] for name in names} - sys.stdlib_module_names - {p.stem for p in EXAMPLES.iterdir()}
        assert {PACKAGES.get(root, root) for root in roots} <= brought, path.name


def test_ranks_that_torchrun_did_not_start_say_how_to(tmp_path):
    done = subprocess.run(
        [sys.executable, EXAMPLES / "ddp.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "torchrun --nproc-per-node 2 ddp.py" in done.stderr.splitlines()[-1]
