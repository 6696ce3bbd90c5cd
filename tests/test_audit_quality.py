"""label_quality ranks planted label errors first; large images are judged by windows with the same numbers."""

from __future__ import annotations

import math
import pathlib
import subprocess
import sys

import cv2
import numpy as np
import pytest
import tifffile

from segkit import audit
from segkit.audit import label_quality
from segkit.audit._measure import by_windows
from segkit.audit._measure.row import Options
from segkit.audit._measure.worker import measure


def predictions_and_masks(n=30, classes=4, size=(24, 31), seed=0):
    """Blobby label maps, and probabilities of a network that is right on most pixels and soft at boundaries."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        scores = np.stack([cv2.GaussianBlur(rng.normal(size=size), (0, 0), 3) for _ in range(classes)]) * 30
        probs = np.exp(scores - scores.max(0))
        probs /= probs.sum(0)
        yield probs.astype(np.float32), probs.argmax(0).astype(np.uint8)


def test_planted_label_errors_are_ranked_first():
    probs, masks = map(list, zip(*predictions_and_masks(), strict=True))
    wrong = {4, 11, 23}
    for i in wrong:
        masks[i][5:14, 5:14] = (masks[i][5:14, 5:14] + 1) % 4
    quality = label_quality(probs, masks)
    assert {image.number for image in quality.worst(3)} == wrong
    assert min(quality[i].suspect_share for i in wrong) > 0.05
    assert max(quality[i].suspect_share for i in set(range(30)) - wrong) < 0.01


def test_scores_are_those_of_plain_loops():
    probs, mask = next(predictions_and_masks(1, 3, (4, 5)))
    mask = mask.copy()
    mask[0, 0], mask[1, 2] = 255, (mask[1, 2] + 1) % 3
    quality = label_quality([probs], [mask])[0]
    per_class = {c: [float(probs[c, y, x]) for y in range(4) for x in range(5) if mask[y, x] == c] for c in range(3)}

    def softmin(values):
        weights = [math.exp((1 - v) / 0.1) for v in values]
        return sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights) if values else float("nan")

    np.testing.assert_allclose(quality.score, softmin(sum(per_class.values(), [])), rtol=1e-6)
    np.testing.assert_allclose(quality.class_scores, [softmin(per_class[c]) for c in range(3)], rtol=1e-6)


def test_generators_batches_tensors_and_paths_give_the_same(tmp_path):
    torch = pytest.importorskip("torch")
    from segkit.io import write_mask

    pairs = list(predictions_and_masks(6))
    plain = label_quality([p for p, _ in pairs], [m for _, m in pairs]).scores
    for i, (_, mask) in enumerate(pairs):
        write_mask(tmp_path / f"{i}.png", mask)
    paths = label_quality((p for p, _ in pairs), (tmp_path / f"{i}.png" for i in range(6)))
    batches = [
        (torch.from_numpy(np.stack([p for p, _ in part])), torch.from_numpy(np.stack([m for _, m in part])))
        for part in (pairs[:4], pairs[4:])
    ]
    tensors = label_quality((p for p, _ in batches), (m for _, m in batches))
    np.testing.assert_allclose(paths.scores, plain)
    np.testing.assert_allclose(tensors.scores, plain)
    assert tensors.class_scores.shape == (6, 4)


def test_ignored_pixels_change_nothing():
    probs, mask = next(predictions_and_masks(1))
    wide = np.pad(probs, ((0, 0), (0, 0), (0, 9)), constant_values=0.25)
    padded = np.pad(mask, ((0, 0), (0, 9)), constant_values=255)
    np.testing.assert_allclose(label_quality([wide], [padded])[0].score, label_quality([probs], [mask])[0].score)
    nothing = label_quality([probs], [np.full_like(mask, 255)])
    assert math.isnan(nothing[0].score)
    assert nothing.worst() == []
    assert label_quality([], []).class_scores.shape == (0, 0)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda p, m: ([p * 7], [m]), r"must be probabilities that sum to 1 .* Pass logits.softmax\(0\)"),
        (lambda p, m: ([p], [m[:-1]]), r"prediction 0 must be \[C, H, W\] of its mask's size"),
        (lambda p, m: ([p], [m + 9]), r"mask 0 must have labels in \[0, 4\), got 9 to 12"),
        (lambda p, m: ([p, p], [m]), "must be equally many, got only 1 masks"),
        (lambda p, m: ([p], [m, m]), "must be equally many, got only 1 predictions"),
    ],
)
def test_bad_streams_are_refused(change, text):
    with pytest.raises(ValueError, match=text):
        label_quality(*change(*next(predictions_and_masks(1))))


# --- large images


def large_pair(folder, size=1300, dtype=np.uint8):
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(0, 255, (size, size - 70), dtype=np.uint8), (0, 0), 1.5).astype(dtype)
    mask = (cv2.GaussianBlur(image, (0, 0), 4) > 128).astype(np.uint8)
    mask[:9] = 255
    tifffile.imwrite(folder / "image.tif", image, tile=(256, 256))
    tifffile.imwrite(folder / "mask.tif", mask, tile=(256, 256), compression="deflate")
    return str(folder / "image.tif"), str(folder / "mask.tif")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_windows_give_the_numbers_of_the_whole(tmp_path, monkeypatch, dtype):
    item = large_pair(tmp_path, dtype=dtype)
    options = Options(2, None, 255)
    whole = measure([item], options)
    monkeypatch.setattr(by_windows, "_LARGE", 0)
    monkeypatch.setattr(by_windows, "_WINDOW", 512)
    parts = measure([item], options)
    assert parts.labels == whole.labels
    a, b = whole.rows[0], parts.rows[0]
    for name in ("height", "width", "channels", "dtype", "constant", "classes", "ignored"):
        assert a[name] == b[name], name
    # A window of odd size is halved less evenly: 0.2 octaves of the coarser scale, where a blur takes two.
    for name, tolerance in [("p01", 4), ("p50", 1), ("p99", 4), ("sharp", 0.05), ("coarse_sharp", 0.2)]:
        assert abs(a[name] - b[name]) <= tolerance, name
    for name in ("edges", "ramps", "isolated"):  # pairs across a window's border are not seen
        np.testing.assert_allclose(b[name], a[name], rtol=0.02, atol=1e-4)
    assert parts.findings == whole.findings == []


@pytest.mark.slow
def test_memory_does_not_grow_with_the_size_of_an_image(tmp_path):
    tile = np.random.default_rng(0).integers(0, 256, (512, 512), dtype=np.uint8)
    peaks = []
    for blocks in (8, 24):  # 4096 and 12,288 pixels: 16 and 144 MiB
        path = tmp_path / f"{blocks}.tif"
        shape = (512 * blocks, 512 * blocks)
        tifffile.imwrite(path, (tile for _ in range(blocks * blocks)), tile=(512, 512), shape=shape, dtype=np.uint8)
        code = f"""
import resource
from segkit.audit._measure import by_windows
from segkit.audit._measure.row import Options
from segkit.audit._measure.worker import measure
by_windows._LARGE = 2**20
part = measure([({str(path)!r}, None)], Options(None, None, 255))
assert part.findings == [] and part.rows[0]["height"] == {shape[0]}
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout))
    assert peaks[1] - peaks[0] < 24 * 1024, "a few blocks, in KiB"


def test_a_large_pair_is_audited_as_any_other(tmp_path, monkeypatch):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    image, mask = large_pair(tmp_path)
    for i in range(3):
        (tmp_path / "images" / f"{i}.tif").write_bytes(pathlib.Path(image).read_bytes())
        (tmp_path / "masks" / f"{i}.tif").write_bytes(pathlib.Path(mask).read_bytes())
    monkeypatch.setattr(by_windows, "_LARGE", 0)
    report = audit.audit_dataset(tmp_path / "images", tmp_path / "masks", num_classes=2, progress=False)
    assert report.counts() == {"exact-duplicate": 2}


# --- places


def wrong_places(count=30, size=(64, 80), classes=4):
    """Predictions that err by a pixel along boundaries, and masks of which some hold an object with a wrong label."""
    pairs, planted = [], {}
    for number, (probs, mask) in enumerate(predictions_and_masks(count, classes, size, seed=3)):
        mask = np.roll(mask, 1, number % 2)  # drawn a pixel beside where the network sees it
        if number % 5 == 2:
            y, x = 10 + number, 12 + number
            mask[y : y + 16, x : x + 14] = (probs.argmax(0)[y + 8, x + 7] + 1) % classes
            planted[number] = (y, x)
        pairs.append((probs, mask))
    return pairs, planted


def test_the_places_that_are_most_surely_wrong_are_the_planted_objects():
    pairs, planted = wrong_places()
    quality = label_quality([p for p, _ in pairs], [m for _, m in pairs])
    found = set(quality.worst_places(len(planted))["number"].tolist())
    assert found <= set(planted)
    assert len(found) >= len(planted) - 1
    for place in quality.worst_places(len(planted)):
        y, x = planted[int(place["number"])]
        assert place["top"] < y + 16
        assert place["top"] + place["height"] > y
        assert place["left"] < x + 14
        assert place["left"] + place["width"] > x
    assert (np.diff(quality.places["score"]) <= 0).all()
    assert ((quality.places["score"] >= 0) & (quality.places["score"] <= 1)).all()


def test_ignored_pixels_make_no_place():
    pairs, planted = wrong_places()
    masks = [np.where(m == p.argmax(0), m, 255).astype(np.uint8) for p, m in pairs]
    assert len(label_quality([p for p, _ in pairs], masks).places) == 0


def test_places_are_the_same_whatever_the_order_of_the_images():
    pairs, _ = wrong_places(10)
    names = ["top", "left", "label", "predicted", "pixels"]
    one = label_quality([p for p, _ in pairs], [m for _, m in pairs]).places
    other = label_quality([p for p, _ in pairs[::-1]], [m for _, m in pairs[::-1]]).places
    assert sorted(one[names].tolist()) == sorted(other[names].tolist())
    np.testing.assert_allclose(one["score"], other["score"])


@pytest.mark.parametrize("given", ["arrays", "tensors", "paths", "nothing"])
def test_the_page_shows_each_place_beside_image_label_and_prediction(tmp_path, given):
    from segkit.io import write_image, write_mask

    pairs, planted = wrong_places()
    shown = [np.dstack([m * 60] * 3) for _, m in pairs]
    for i, (_, mask) in enumerate(pairs):
        write_mask(tmp_path / f"<b>{i}.png", mask)
        write_image(tmp_path / f"{i}.tif", shown[i])
    images = {
        "arrays": shown,
        "tensors": [torch_of(image) for image in shown] if given == "tensors" else None,
        "paths": [tmp_path / f"{i}.tif" for i in range(len(pairs))],
        "nothing": None,
    }[given]
    masks = [tmp_path / f"<b>{i}.png" for i in range(len(pairs))]
    quality = label_quality([p for p, _ in pairs], masks, images=images)
    quality.to_html(tmp_path / "places.html")
    page = (tmp_path / "places.html").read_text("utf-8")
    assert len(planted) <= page.count("data:image/jpeg") <= 200
    assert "<b>2.png" not in page
    assert "&lt;b&gt;2.png" in page
    first = page.index("&lt;b&gt;" + str(int(quality.places["number"][0])))
    assert first == min(page.index(f"&lt;b&gt;{number}.png") for number in planted)


def torch_of(image):
    import torch

    return torch.from_numpy(image.transpose(2, 0, 1).copy())


def test_a_gallery_stays_small_whatever_the_number_of_places():
    pairs, _ = wrong_places()
    quality = label_quality((p for _ in range(8) for p, _ in pairs), (m for _ in range(8) for _, m in pairs))
    assert len(quality.places) > 400
    assert len(quality._gallery.pictures()) == 200
