"""What `read_mask` refuses, and how it says so."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image

import segkit.io as sio

BACKENDS = ["auto", "opencv", "pillow", "tifffile"]
COLORS = {(0, 0, 0): 0, (255, 0, 0): 1}


@pytest.fixture
def folder(tmp_path):
    """One file for each reason to refuse it."""
    mask = np.arange(64, dtype=np.uint8).reshape(8, 8)
    sio.write_mask(tmp_path / "mask.png", mask)
    sio.write_image(tmp_path / "color.png", np.stack([mask, mask + 1, mask + 2], 2))
    sio.write_image(tmp_path / "deep.png", np.stack([mask, mask, mask], 2).astype(np.uint16))
    tifffile.imwrite(tmp_path / "float.tif", mask.astype(np.float32) + 0.5)
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "cut.png").write_bytes((tmp_path / "mask.png").read_bytes()[:-20])
    data = bytearray((tmp_path / "mask.png").read_bytes())
    data[data.index(b"IDAT") + 8] ^= 255
    (tmp_path / "damaged.png").write_bytes(data)
    Image.fromarray(mask).save(tmp_path / "mask.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "mask.jpg").read_bytes()[:-40])
    tifffile.imwrite(tmp_path / "deflate.tif", mask, compression="zlib", rowsperstrip=8)
    data = bytearray((tmp_path / "deflate.tif").read_bytes())
    data[-8:] = bytes(8)
    (tmp_path / "damaged.tif").write_bytes(data)
    return tmp_path


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("missing.png", {}),
        (".", {}),
        ("empty.png", {}),
        ("text.png", {}),
        ("cut.png", {}),
        ("damaged.png", {}),
        ("cut.jpg", {}),
        ("damaged.tif", {}),
        ("float.tif", {}),
        ("color.png", {}),
        ("deep.png", {"colors": COLORS}),
        ("color.png", {"colors": COLORS}),
        ("color.png", {"colors": {(0, 0, 256): 0}}),
        ("mask.png", {"window": (0, 0, 9, 9)}),
        ("mask.png", {"window": (0, 0, 1)}),
        ("mask.png", {"page": 1}),
        ("mask.png", {"page": -1}),
        ("mask.png", {"orientation": "turn"}),
        ("mask.png", {"max_pixels": 10}),
    ],
)
def test_what_read_mask_refuses_begins_with_its_name(folder, name, options, backend):
    with pytest.raises((OSError, ValueError)) as caught:
        sio.read_mask(folder / name, backend=backend, **options)
    assert str(caught.value).startswith("read_mask: ")
    assert "read_image" not in str(caught.value)


@pytest.mark.parametrize(("path", "backend"), [(3, "auto"), ("mask.png", "gdal"), ("mask.png", object())])
def test_what_is_no_path_or_no_backend_begins_with_its_name_too(folder, monkeypatch, path, backend):
    monkeypatch.chdir(folder)
    with pytest.raises((TypeError, ValueError), match="^read_mask: |^expected str"):
        sio.read_mask(path, backend=backend)


def test_each_way_in_says_its_own_name(folder):
    path = folder / "text.png"
    for name in ("read_image", "read_mask", "image_info", "open_image", "explain_backends"):
        with pytest.raises(OSError, match=f"^{name}: cannot read"):
            getattr(sio, name)(path)
    with (
        sio.open_image(folder / "mask.png") as handle,
        pytest.raises(ValueError, match=r"^ImageHandle\.read: window must"),
    ):
        handle.read(window=(9, 9, 9, 9))
