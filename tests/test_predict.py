"""A scene is predicted window by window: the map of `merge_crops`, in constant memory, whatever stops the process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from segkit.datasets import GridDataset
from segkit.errors import ImageReadError
from segkit.io import ImageHandle, read_mask, write_image
from segkit.predict import predict_scene
from segkit.transforms import GridCrop, Normalize, merge_crops


def network(channels=3, classes=4, seed=0):
    """Looks at a neighbourhood, so that the same pixel gets other logits in another window."""
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Conv2d(channels, 8, 5, padding=2),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, classes, 1),
    )


def scene(folder, size=(150, 130), channels=3, dtype=np.uint8):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, np.iinfo(dtype).max, (*size, channels), dtype)
    write_image(folder / "scene.tif", pixels)
    return folder / "scene.tif", torch.from_numpy(pixels.astype(np.float32) / np.iinfo(dtype).max).movedim(-1, 0)


def at_once(net, image, side, overlap, **options):
    """By the parts: all crops in one batch, merged at once."""
    crop = GridCrop(side, overlap)
    size = tuple(image.shape[-2:])
    with torch.no_grad():
        return merge_crops(net.eval()(crop(image)), crop.geometry(size), size, **options)[0]


@pytest.mark.parametrize(("channels", "dtype"), [(3, np.uint8), (5, np.uint16)])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_the_map_of_a_scene_is_that_of_all_its_crops_at_once(tmp_path, channels, dtype, batch_size):
    path, image = scene(tmp_path, channels=channels, dtype=dtype)
    net = network(channels).train()
    out = predict_scene(net, path, tmp_path / "map.tif", size=64, overlap=16, batch_size=batch_size, progress=False)
    assert net.training, "it is put back"
    assert out == str(tmp_path / "map.tif")
    merged = at_once(net, image, 64, 16)
    differ = read_mask(out) != merged.argmax(0).numpy()
    # Another batch size may change the last bit of a logit, and only where two are that close.
    close = (merged.topk(2, 0).values.diff(dim=0).abs()[0] < 1e-5).numpy()
    assert not (differ & ~close).any()


def test_probabilities_are_written_as_channels_and_the_transform_is_applied(tmp_path):
    path, image = scene(tmp_path)
    net, normalize = network(), Normalize([0.5] * 3, [0.2] * 3)
    options = {"size": (64, 48), "overlap": 0.25, "blend": "mean", "transform": normalize, "progress": False}
    out = predict_scene(net, path, tmp_path / "map.tif", keep="probabilities", **options)
    expected = at_once(net, normalize(image), (64, 48), 0.25, blend="mean").softmax(0)
    np.testing.assert_allclose(tifffile.imread(out), expected.movedim(0, -1), atol=1e-5)


def test_flips_and_turns_are_undone(tmp_path):
    path, image = scene(tmp_path)
    views = ("flip", "flip_vertical", "rotate90", "rotate180", "rotate270")
    pointwise = torch.nn.Conv2d(3, 4, 1)
    plain = predict_scene(pointwise, path, tmp_path / "plain.tif", size=(64, 40), keep="logits", progress=False)
    turned = predict_scene(
        pointwise, path, tmp_path / "tta.tif", size=(64, 40), keep="logits", tta=views, progress=False
    )
    np.testing.assert_allclose(tifffile.imread(turned), tifffile.imread(plain), atol=1e-6)
    seen = []

    def watching(batch):
        seen.append(batch[0, :, :3, :3])
        return pointwise(batch)

    predict_scene(watching, path, tmp_path / "tta.tif", size=(64, 40), tta=("flip", "rotate90"), progress=False)
    window = image[:, :64, :40]
    assert torch.equal(seen[1], window.flip(-1)[:, :3, :3])
    assert torch.equal(seen[2], window.rot90(1, (-2, -1))[:, :3, :3])


def test_a_stride_and_a_scene_smaller_than_a_window_are_taken(tmp_path):
    path, image = scene(tmp_path, (50, 200))
    shapes = set()

    def net(batch):
        shapes.add(tuple(batch.shape[-2:]))
        return torch.nn.functional.avg_pool2d(batch, 4)

    out = predict_scene(net, path, tmp_path / "map.tif", size=64, keep="logits", progress=False)
    assert shapes == {(64, 64)}
    assert tifffile.imread(out).shape == (50, 200, 3)
    constant = predict_scene(lambda x: x * 0 + 7, path, tmp_path / "map.tif", size=64, keep="logits", progress=False)
    assert (tifffile.imread(constant) == 7).all()


@pytest.mark.parametrize(("side", "overlap"), [(512, 128), (200, 50), (64, 8)])
def test_no_row_is_decoded_twice(tmp_path, monkeypatch, side, overlap):
    path, image = scene(tmp_path, (1700, 530))
    rows, read = [], ImageHandle.read

    def watched(handle, **options):
        top, _, height, _ = options["window"]
        rows.extend(range(top, top + height))
        return read(handle, **options)

    monkeypatch.setattr(ImageHandle, "read", watched)
    out = predict_scene(lambda x: x, path, tmp_path / "m.tif", size=side, overlap=overlap, keep="logits")
    assert rows == list(range(1700))
    np.testing.assert_array_equal(tifffile.imread(out), image.movedim(0, -1))


@pytest.mark.usefixtures("pack_bits")
def test_a_scene_of_fewer_bits_than_its_dtype_fills_the_range(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 4096, (70, 64), np.uint16)
    tifffile.imwrite(tmp_path / "scene.tif", pixels, bitspersample=12)
    out = predict_scene(lambda x: x, tmp_path / "scene.tif", tmp_path / "m.tif", size=64, keep="logits")
    np.testing.assert_array_equal(tifffile.imread(out), pixels / np.float32(4095))


def test_a_png_is_a_scene_too(tmp_path):
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(tmp_path / "scene.png")
    out = predict_scene(network(), tmp_path / "scene.png", tmp_path / "map.tif", size=32, progress=False)
    assert read_mask(out).shape == (40, 50)


STOPPED = """
    import sys, time, torch
    from segkit.predict import predict_scene
    torch.manual_seed(0)
    torch.set_num_threads(1)
    net = torch.nn.Conv2d(3, 4, 5, padding=2)
    calls = 0
    forward = net.forward
    def slow(batch):
        global calls
        calls += 1
        time.sleep(float(sys.argv[2]))
        return forward(batch)
    net.forward = slow
    predict_scene(net, "scene.tif", sys.argv[1], size=64, overlap=20, batch_size=3, progress=False)
    print(calls)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_in_the_middle_and_started_again_a_scene_gives_the_same_bytes(tmp_path):
    scene(tmp_path, (1200, 150))

    def command(name, pause):
        return [sys.executable, "-c", textwrap.dedent(STOPPED), name, str(pause)]

    whole = subprocess.run(command("whole.tif", 0), cwd=tmp_path, capture_output=True, text=True)
    with subprocess.Popen(command("parts.tif", 0.3), cwd=tmp_path) as process:
        rows = tmp_path / ".parts.tif.rows"
        deadline = time.monotonic() + 100
        # Until some row of tiles is in the file: its line of 16 bytes follows the head.
        while not (rows.exists() and len(rows.read_bytes().partition(b"\n")[2]) >= 16 * 2):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "parts.tif").exists()
    again = subprocess.run(command("parts.tif", 0), cwd=tmp_path, capture_output=True, text=True)
    assert int(again.stdout) < int(whole.stdout), "what was finished is not made again"
    assert (tmp_path / "parts.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_after_a_stop_other_weights_begin_anew(tmp_path):
    path, _ = scene(tmp_path, (1200, 150))
    options = {"size": 64, "overlap": 20, "batch_size": 3, "progress": False}

    class Stop(Exception):
        pass

    def calls(net, stop=None):
        count = [0]

        def watch(*_):
            count[0] += 1
            if stop and count[0] >= stop:
                raise Stop

        handle = net.register_forward_pre_hook(watch)
        with contextlib.suppress(Stop):
            predict_scene(net, path, tmp_path / "map.tif", **options)
        handle.remove()
        return count[0]

    whole = calls(network())
    assert calls(network(), whole - 2) < whole
    assert calls(network()) < whole
    assert calls(network(), whole - 2) < whole
    assert calls(network(seed=1)) == whole


PEAK = """
    import resource, sys, torch
    torch.set_num_threads(1)
    from segkit.predict import predict_scene
    net = torch.nn.Conv2d(3, 8, 1)
    predict_scene(net, "small.tif", "warm.tif", size=256, overlap=64, batch_size=4, progress=False)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    predict_scene(net, sys.argv[1], "out.tif", size=256, overlap=64, batch_size=4, progress=False)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux")
def test_memory_does_not_grow_with_the_height_of_the_scene(tmp_path):
    peaks = []
    for name, height in (("small", 512), ("low", 1024), ("high", 8192)):
        tiles = (np.zeros((256, 256, 3), np.uint8) for _ in range(height // 256 * 8))
        layout = {"shape": (height, 2048, 3), "dtype": np.uint8, "tile": (256, 256), "photometric": "rgb"}
        tifffile.imwrite(tmp_path / f"{name}.tif", tiles, compression="zlib", **layout)
        if name != "small":
            command = [sys.executable, "-c", textwrap.dedent(PEAK), f"{name}.tif"]
            # glibc keeps freed blocks of changing sizes for later, tens of MiB more or less at each run. Told to give
            # them back, the peak is what was held.
            env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "262144"}
            run = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
            peaks.append(float(run.stdout))
    whole = 8 * 8192 * 2048 * 4 / 2**20  # MiB of logits
    assert peaks[1] < max(peaks[0], 0) + 0.05 * whole, peaks


def test_the_scenes_georeference_is_kept(tmp_path):
    geo = [(33550, "d", 3, (10.0, 10.0, 0.0), True), (33922, "d", 6, (0.0, 0.0, 0.0, 4e5, 5.3e6, 0.0), True)]
    geo += [(34735, "H", 8, (1, 1, 0, 1, 3072, 0, 1, 32633), True)]
    tifffile.imwrite(tmp_path / "scene.tif", np.zeros((70, 80, 3), np.uint8), photometric="rgb", extratags=geo)
    out = predict_scene(network(), tmp_path / "scene.tif", tmp_path / "map.tif", size=64, progress=False)
    rasterio = pytest.importorskip("rasterio")
    with rasterio.open(tmp_path / "scene.tif") as source, rasterio.open(out) as copy:
        assert copy.crs == source.crs
        assert copy.transform == source.transform
        np.testing.assert_array_equal(copy.read(1), read_mask(out))


@pytest.mark.parametrize(
    ("error", "message", "options"),
    [
        (ValueError, r"`tta` must be a list of some of \['flip', .*\], got \('mirror',\)", {"tta": ("mirror",)}),
        (ValueError, r"`tta` must be a list of some of .*, got 'flip'", {"tta": "flip"}),
        (ValueError, r"predict_scene: `batch_size` must be an int of at least 1, got 0", {"batch_size": 0}),
        (ValueError, r"`out` must end in .tif or .tiff, got 'map.png'", {"out": "map.png"}),
        (
            TypeError,
            r"predict_scene: `network` must return a tensor of logits, got dict",
            {"network": lambda x: {"out": x}},
        ),
        (ImageReadError, r"cannot read 'missing.tif'", {"path": "missing.tif"}),
        (ValueError, r"`tta` must be a list of some of .*, got None", {"tta": None}),
        (
            ValueError,
            r"`transform` must return a tensor \[C, 64, 64\], as large as the window, got \[3, 32, 64\]",
            {"transform": lambda x: x[:, :32]},
        ),
        (ValueError, r"as large as the window, got ndarray", {"transform": lambda x: x.numpy()}),
        (ValueError, r"logits of 2 classes or more, got 1", {"network": lambda x: x[:, :1]}),
    ],
)
def test_what_cannot_be_predicted_is_refused_in_a_sentence(tmp_path, monkeypatch, error, message, options):
    monkeypatch.chdir(tmp_path)
    scene(tmp_path)
    given = {"network": network(), "path": "scene.tif", "out": "map.tif", "size": 64, "progress": False} | options
    with pytest.raises(error, match=message):
        predict_scene(**given)


def test_windows_are_those_of_the_grid(tmp_path):
    path, _ = scene(tmp_path)
    windows = GridDataset([path], 64, overlap=16)
    assert tuple(windows.box(i) for i in range(len(windows))) == tuple(
        b[:4] for b in GridCrop(64, 16).geometry((150, 130))
    )
