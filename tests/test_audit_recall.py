"""How many planted faults are found, and how many clean files are suspected?

    python tests/test_audit_recall.py [FOLDER ...]

prints the whole table: each fault in each strength, in each of the sets of `audit_sets` and in each FOLDER that holds
`images` and `masks`. The tests run the plain faults on some pictures of each set.
"""

from __future__ import annotations

import collections
import functools
import os
import pathlib
import sys
import tempfile

import numpy as np
import PIL.Image
import pytest

from audit_faults import Fault, faults
from audit_sets import CleanSet, folder, held_out_sets, known_sets
from segkit import io
from segkit.audit._judge.checks import judge
from segkit.audit._judge.set import MeasuredSet
from segkit.audit._measure.row import Options
from segkit.audit._measure.worker import Measured, measure

LONG = os.environ.get("SEGKIT_LONG") == "1"
PICTURES = 12 if LONG else 2  # of each set, into which each fault is planted


class Audited:
    """A clean set, measured once: a fault in one file costs one file."""

    def __init__(self, clean: CleanSet, top: pathlib.Path) -> None:
        self.clean, self.top = clean, top
        self.options = Options(clean.num_classes, None, clean.ignore_index)
        self.items = [(f"{i}.tif", f"{i}.png") for i in range(len(clean.pairs))]
        self.parts = [self.measured(i, *pair) for i, pair in enumerate(clean.pairs)]

    def measured(self, number: int, image: np.ndarray, mask: np.ndarray) -> Measured:
        paths = self.top / f"{number}.tif", self.top / f"{number}.png"
        io.write_image(paths[0], image)
        io.write_mask(paths[1], mask)
        part = measure([(str(paths[0]), str(paths[1]))], self.options)
        part.findings = [finding._replace(path=os.path.basename(finding.path)) for finding in part.findings]
        for path in paths:
            path.unlink()
        return part

    def findings(self, number: int | None = None, part: Measured | None = None) -> list:
        parts = list(self.parts)
        if number is not None:
            parts[number] = part
        labels: dict[int, list[int]] = {}
        for one in parts:
            for label, (pixels, masks) in one.labels.items():
                entry = labels.setdefault(label, [0, 0])
                entry[0] += pixels
                entry[1] += masks
        rows = np.concatenate([one.rows for one in parts])
        findings = [f for one in parts for f in one.findings]
        data = MeasuredSet(self.items, rows, labels, self.options, findings)
        judge(data)
        return data.findings

    def suspected(self) -> list[str]:
        """What is said against clean files, other than infos."""
        return [f"{f.severity} {f.code} {f.path}" for f in self.findings() if f.severity != "info"]

    def recall(self, pictures: int, kinds: list[Fault]) -> dict[tuple[str, str], list[bool]]:
        """(kind, strength) of a fault -> whether it was found in each of the pictures."""
        chosen = np.random.default_rng(0).permutation(len(self.items))[:pictures].tolist()
        found = collections.defaultdict(list)
        for fault in kinds:
            for number in chosen:
                image, mask = self.clean.pairs[number]
                faulty = fault.plant(image, mask, np.random.default_rng(number))
                if np.array_equal(faulty[0], image) and np.array_equal(faulty[1], mask):
                    continue
                findings = self.findings(number, self.measured(number, *faulty))
                here = {f.code for f in findings if f.path in (f"{number}.tif", f"{number}.png")}
                found[fault.kind, fault.strength].append(bool(here & set(fault.codes)))
        return found

    @functools.cached_property
    def plain(self) -> dict[bool, list[bool]]:
        """Whether each plain fault was found in each of some pictures: of masks (True), of images (False)."""
        kinds = [fault for fault in self.faults() if fault.plain]
        found = {
            of_mask: self.recall(PICTURES, [f for f in kinds if f.of_mask == of_mask]) for of_mask in (True, False)
        }
        return {of_mask: [one for some in of.values() for one in some] for of_mask, of in found.items()}

    def faults(self) -> list[Fault]:
        return faults(self.clean.num_classes, self.clean.ignore_index)


def share_found(sets, *, of_mask):
    found = [one for audited in sets for one in audited.plain[of_mask]]
    return sum(found) / len(found)


def share_suspected(sets):
    files = sum(2 * len(audited.items) for audited in sets)
    return len({(i, s.split()[-1]) for i, audited in enumerate(sets) for s in audited.suspected()}) / files


def test_plain_faults_are_found_and_clean_files_are_not_suspected(shared, tmp_path):
    pytest.importorskip("skimage")
    known = [Audited(clean, tmp_path) for clean in known_sets(shared)]
    held_out = [Audited(clean, tmp_path) for clean in held_out_sets()]  # no threshold was chosen on these
    every = [*known, *held_out]
    assert share_suspected(known) <= 0.02
    assert share_suspected(held_out) <= 0.02
    assert [said for audited in every for said in audited.suspected() if said.startswith("error")] == []
    assert share_found(every, of_mask=True) >= 0.95
    one_kind = [audited for audited in known if audited.clean.name in ("fluorescence", "histology", "sandstone")]
    assert share_found(one_kind, of_mask=False) >= 0.95
    assert share_found(held_out, of_mask=False) >= 0.94
    assert share_found(every, of_mask=False) >= 0.94


def _spoiled(data: bytes, fault: str) -> bytes:
    """The bytes of a file after an accident of copying."""
    kind, _, amount = fault.partition(" ")
    if kind == "empty":
        return b""
    if kind == "text":
        return b"<html><body>404 Not Found</body></html>"
    keep = len(data) * int(amount) // 100
    return data[:keep] + (bytes(len(data) - keep) if kind == "zeros" else b"")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize(
    "fault", ["empty", "text", *(f"{k} {a}" for k in ("cut", "zeros") for a in (30, 50, 70, 90, 95))]
)
def test_files_spoiled_in_copying_are_found(tmp_path, suffix, fault):
    """Cut short at some percent, or with zeros from there on: the disk was full, the download broke."""
    rng = np.random.default_rng(0)
    picture = np.kron(rng.integers(0, 200, (16, 24, 3)), np.ones((8, 8, 1))) + rng.integers(0, 50, (128, 192, 3))
    path = tmp_path / f"picture{suffix}"
    options = {"compression": "tiff_deflate"} if suffix == ".tif" else {}  # plain zeros would be black pixels
    PIL.Image.fromarray(picture.astype(np.uint8)).save(path, **options)
    sound = measure([(str(path), None)], Options(None, None, 255))
    assert sound.findings == []
    path.write_bytes(_spoiled(path.read_bytes(), fault))
    found = measure([(str(path), None)], Options(None, None, 255)).findings
    assert [f.code for f in found] in (["truncated"], ["unreadable"])
    if fault.startswith("cut") and suffix != ".tif":
        assert found[0].code == "truncated"


def test_a_picture_under_the_suffix_of_another_format_is_what_its_bytes_say(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    PIL.Image.fromarray(picture).save(tmp_path / "picture.jpg", format="PNG")
    part = measure([(str(tmp_path / "picture.jpg"), None)], Options(None, None, 255))
    assert part.findings == []
    assert part.rows["image_ok"][0]
    assert part.rows["mean"][0] == pytest.approx(picture.mean(), rel=0.02)  # grey is weighted


def table(folders: list[str], write=sys.stdout.write) -> None:
    here = pathlib.Path(__file__).resolve().parents[2] / "shared"
    sets = [*known_sets(here if here.is_dir() else None), *held_out_sets()]
    sets += [folder(pathlib.Path(name).name, pathlib.Path(name), 2) for name in folders]
    columns, tables = [clean.name[:8] for clean in sets], []
    with tempfile.TemporaryDirectory() as top:
        for clean in sets:
            audited = Audited(clean, pathlib.Path(top))
            suspected = audited.suspected()
            write(f"{clean.name}: {len(clean.pairs)} pairs, {len(suspected)} suspected: {', '.join(suspected[:9])}\n")
            tables.append(audited.recall(12, audited.faults()))
    is_plain = {(f.kind, f.strength): f.plain for f in faults(3, 255)}
    write(f"{'found of 12':42}" + "".join(f"{name:>9}" for name in columns) + "      all\n")
    plain, mild = [], []
    for key, seen in is_plain.items():
        counts = [sum(one[key]) for one in tables]
        every = [found for one in tables for found in one[key]]
        (plain if seen else mild).extend(every)
        cells = "".join(f"{c if one[key] else '-':>9}" for c, one in zip(counts, tables, strict=True))
        write(f"{key[0]:24}{key[1]:13}{'' if seen else 'mild':5}{cells}{np.mean(every):9.2f}\n")
    for name, every in (("plain", plain), ("mild", mild)):
        write(f"{name}: {sum(every)} of {len(every)} found, {np.mean(every):.1%}\n")


if __name__ == "__main__":
    table(sys.argv[1:])
