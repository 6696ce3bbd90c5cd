"""audit: each fault of single files and of pairs is found by its code, and clean files stay silent."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from segkit import audit
from segkit.errors import DataError


def scene(seed: int, size: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """A textured picture of some discs, and which pixel belongs to a disc of which class."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    image = rng.normal(90, 12, (size, size, 3)) + 20 * np.sin(x / rng.uniform(3, 9))[..., None]
    mask = np.zeros((size, size), np.uint8)
    for label in (1, 2, 3):
        cy, cx = rng.uniform(0.2, 0.8, 2) * size
        inside = (y - cy) ** 2 + (x - cx) ** 2 < (size * 0.15) ** 2
        mask[inside] = label
        image[inside] += 30 * label
    return image.clip(0, 255).astype(np.uint8), mask


@pytest.fixture
def folders(tmp_path):
    """Twenty clean pairs."""
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir()
    masks.mkdir()
    for i in range(20):
        image, mask = scene(i)
        Image.fromarray(image).save(images / f"{i:02d}.png")
        Image.fromarray(mask).save(masks / f"{i:02d}.png")
    return images, masks


def codes(report, name):
    return {finding.code for finding in report.findings if finding.path.endswith(name)}


def test_clean_pairs_are_silent_and_all_usable(folders):
    report = audit.audit_dataset(*folders, num_classes=4, progress=False)
    assert report.findings == []
    assert len(report.clean_pairs()) == 20


def test_faults_of_files_and_pairs_are_found_by_their_code(folders):
    images, masks = folders
    rng = np.random.default_rng(0)
    (images / "00.png").write_bytes(b"not an image")
    whole = (images / "01.png").read_bytes()
    (images / "01.png").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(np.full((96, 96, 3), 77, np.uint8)).save(images / "02.png")
    Image.fromarray(rng.integers(0, 65536, (96, 96)).astype(np.uint16)).save(images / "03.png")
    (images / "04.png").unlink()
    (masks / "05.png").unlink()
    Image.fromarray(np.zeros((40, 50), np.uint8)).save(masks / "06.png")
    Image.fromarray(np.full((96, 96), 9, np.uint8)).save(masks / "07.png")
    Image.fromarray(scene(8)[0]).save(masks / "08.png")
    Image.fromarray(((scene(9)[1] > 0) * 255).astype(np.uint8)).save(masks / "09.png")
    report = audit.audit_dataset(images, masks, num_classes=4, progress=False)
    expected = {
        "images/00.png": "unreadable",
        "images/01.png": "truncated",
        "images/02.png": "constant-image",
        "images/03.png": "unexpected-channels",
        "masks/04.png": "orphan-mask",
        "images/05.png": "orphan-image",
        "masks/06.png": "size-mismatch",
        "masks/07.png": "label-out-of-range",
        "masks/08.png": "color-coded-mask",
        "masks/09.png": "foreground-is-ignored",
    }
    for name, code in expected.items():
        assert code in codes(report, name), (name, code)
    assert codes(report, "images/03.png") == {"unexpected-channels", "unexpected-dtype"}
    assert {pair.image[-6:-4] for pair in report.clean_pairs()} == {f"{i}" for i in range(10, 20)}
    assert {f.path for f in report.findings} == {str(images.parent / name) for name in expected}


def test_the_order_of_the_files_changes_nothing(folders):
    images, masks = (sorted(map(str, folder.iterdir())) for folder in folders)
    one = audit.audit_dataset(images, masks, progress=False).to_json()
    assert one == audit.audit_dataset(images[::-1], masks[5:] + masks[:5], progress=False).to_json()
    json.loads(one)


def test_the_page_shows_names_as_text(folders, tmp_path):
    images, masks = folders
    (images / "<img src=x onerror=alert(1)>.png").write_bytes(b"")
    report = audit.audit_dataset(images, masks, progress=False)
    report.to_html(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;.png" in page


def test_unusable_input_is_refused(folders, tmp_path):
    with pytest.raises(DataError, match="must hold image files, got none"):
        audit.audit_dataset([])
    with pytest.raises(FileNotFoundError, match="nowhere"):
        audit.audit_dataset(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="`num_classes` must be at least 1, got 0"):
        audit.audit_dataset(*folders, num_classes=0)


@pytest.mark.parametrize(("name", "classes", "ignored"), [("sandstone_ct", 4, 255), ("s2_uint16", 9, 0)])
def test_real_clean_sets_have_no_error_and_almost_no_warning(shared, name, classes, ignored):
    folder = shared / "data" / name
    report = audit.audit_dataset(
        folder / "images", folder / "masks", num_classes=classes, ignore_index=ignored, progress=False
    )
    assert report.select(severity="error") == []
    assert len({finding.path for finding in report.select(severity="warning")}) <= 0.02 * len(report.pairs)
