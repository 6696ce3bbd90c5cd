"""The page 'from your training script': every part runs as it stands, with the real packages, and claims what holds.

Each part is run in a process of its own, since some packages change others when they are imported. A part whose
packages are not installed is skipped and says so: `pip install -e ".[bench,dev]"` brings all. The check on every commit
has the extra `dev` only, without peers (they are large, and a new version of one must not stop us): there the two loops
that need none are run, and this file is run with them before a release.
"""

from __future__ import annotations

import ast
import importlib.util
import pathlib
import re
import subprocess
import sys

import pytest

from test_snippets import BLOCK, ROOT, small_data_set

PAGES = [ROOT / "docs" / "swap.md", ROOT / "docs" / "zh" / "swap.md"]
PARTS = re.split(r"^(?=## )", PAGES[0].read_text(), flags=re.MULTILINE)[1:]


def script(part: str) -> str:
    """The Python of a part, each line where it stands on the page."""
    before = PAGES[0].read_text().index(part)
    lines = [""] * PAGES[0].read_text().count("\n", 0, before)
    inside = False
    for line in part.splitlines():
        inside = line == "```python" or (inside and line != "```")
        lines.append(line if inside and line != "```python" else "")
    return "\n".join(lines)


def packages(code: str) -> list[str]:
    imports = [node for node in ast.parse(code).body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imports]
    return sorted({name.split(".")[0] for name in names if name})


def run(code: str, folder: pathlib.Path) -> None:
    missing = [name for name in packages(code) if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f'needs {", ".join(missing)}: pip install -e ".[bench]"')
    small_data_set(folder)
    (folder / "swap.md").write_text(code)  # so that a traceback shows the line of the page
    command = [sys.executable, "-W", "ignore", "swap.md"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.splitlines()[0][3:])
def test_a_part_runs_and_what_it_claims_holds(part, tmp_path):
    run(script(part), tmp_path)


STEPS = """
import json, pathlib

kernel = {"kernel_sizes": [[3, 3]] * 3, "strides": [[1, 1], [2, 2], [2, 2]], "n_conv_per_stage": [1, 1, 1]}
network = {
    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "arch_kwargs": {
        **kernel, "n_stages": 3, "features_per_stage": [4, 8, 8], "conv_op": "torch.nn.modules.conv.Conv2d",
        "n_conv_per_stage_decoder": [1, 1], "conv_bias": True, "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {},
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d", "norm_op_kwargs": {"affine": True},
        "dropout_op": None, "dropout_op_kwargs": None,
    },
    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
}
flat = {
    "data_identifier": "flat", "batch_size": 2, "patch_size": [32, 48], "batch_dice": True, "architecture": network,
    "normalization_schemes": ["ZScoreNormalization"],
}
plans = {"dataset_name": "Dataset001_Small", "plans_name": "plans", "configurations": {"2d": flat}}
plans["continue_training"] = False
labels = {"background": 0, "a": 1, "b": 2, "c": 3, "ignore": 4}
content = {"channel_names": {"0": "grey"}, "labels": labels, "file_ending": ".png"}
folder = pathlib.Path("Dataset001_Small/flat")
folder.mkdir(parents=True)
(folder / "case.b2nd").touch()  # by its ending the trainer knows the kind of the files
values = {}
for kind in (nnUNetTrainer, SegkitTrainer):
    torch.manual_seed(0)
    trainer = kind(json.loads(json.dumps(plans)), "2d", 0, content, torch.device("cpu"))
    trainer.initialize()
    target = torch.randint(0, 5, (2, 1, 32, 48)).float()
    batch = {"data": torch.randn(2, 1, 32, 48), "target": [target, target[..., ::2, ::2]]}
    values[kind] = [float(trainer.train_step(batch)["loss"]) for _ in range(3)]
for a, b in zip(*values.values()):
    assert abs(a + 1 - b) < 1e-5, values
assert values[SegkitTrainer][2] < values[SegkitTrainer][0]
"""


def test_the_trainer_of_the_page_takes_the_steps_of_nnunet(tmp_path, monkeypatch):
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("nnUNet_compile", "f")
    part = next(part for part in PARTS if "nnU-Net" in part.splitlines()[0])
    run(script(part) + STEPS, tmp_path)


def test_both_languages_show_the_same_code():
    english, chinese = (BLOCK.findall(page.read_text()) for page in PAGES)
    assert english == chinese


def test_there_are_eight_parts_each_with_a_before_an_after_and_its_claims():
    assert len(PARTS) == 8
    for part in PARTS:
        before, after, claims = BLOCK.findall(part)
        assert "assert" in claims
        assert "assert" not in before + after
        assert re.search(r"^from segkit import .*\b(losses|collate)", after, re.MULTILINE)


def test_the_extra_bench_brings_all_packages_of_the_page():
    extra = re.search(r"^bench = \[.*\]$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE).group()
    always = {*sys.stdlib_module_names, "segkit", "torch", "numpy", "PIL"}
    for part in PARTS:
        for name in set(packages(script(part))) - always:
            assert f'"{name.replace("_", "-")}' in extra, name
