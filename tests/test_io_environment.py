"""Without OpenCV, over a network, and with a reader of one's own."""

from __future__ import annotations

import functools
import http.server
import multiprocessing
import pickle
import re
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

import segkit.io as sio
from segkit.errors import ImageReadError
from segkit.io._backends.choose import choose

WITHOUT_OPENCV = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == "cv2" or name.startswith("cv2."):
            raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")
sys.meta_path.insert(0, Missing())
import numpy as np
import segkit.io as sio
from segkit.errors import ImageReadError
for name in ("rgb8.png", "rgb16.png", "la16.png", "mask.png", "a.jpg", "bands.tif"):
    image = sio.read_image(name)
    assert (image == np.load(name + ".npy")).all(), name
try:
    sio.read_image("rgb8.png", backend="opencv")
except ImageReadError as error:
    print(error)
print([verdict for name, verdict, reason in sio.explain_backends("rgb8.png")])
assert "cv2" not in sys.modules
"""


def test_without_opencv_all_else_still_works(tmp_path):
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 255, (20, 30, 3), dtype=np.uint8)
    sio.write_image(tmp_path / "rgb8.png", rgb)
    sio.write_image(tmp_path / "rgb16.png", rgb.astype(np.uint16) * 250)
    sio.write_image(tmp_path / "la16.png", rgb[..., :2].astype(np.uint16) * 250)
    sio.write_mask(tmp_path / "mask.png", rgb[..., 0], colors={(1, 2, 3): 9})
    sio.write_image(tmp_path / "bands.tif", rng.integers(0, 9999, (20, 30, 13), dtype=np.uint16))
    Image.fromarray(rgb).save(tmp_path / "a.jpg")
    for name in ("rgb8.png", "rgb16.png", "la16.png", "mask.png", "a.jpg", "bands.tif"):
        np.save(tmp_path / f"{name}.npy", sio.read_image(tmp_path / name))
    done = subprocess.run([sys.executable, "-c", WITHOUT_OPENCV], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "OpenCV cannot be imported (libGL.so.1" in done.stdout
    assert "opencv-python-headless" in done.stdout
    assert "[True, False, True]" in done.stdout  # imagecodecs, OpenCV, Pillow


@pytest.fixture
def scene(tmp_path):
    image = np.random.default_rng(1).integers(0, 9999, (300, 400, 3), dtype=np.uint16)
    sio.write_image(tmp_path / "scene.png", image)
    import tifffile

    tifffile.imwrite(tmp_path / "scene.tif", image, photometric="rgb", tile=(64, 64), compression="zlib")
    return tmp_path, image


def test_a_remote_file_reads_as_a_local_one(scene):
    fsspec = pytest.importorskip("fsspec")
    folder, image = scene
    memory = fsspec.filesystem("memory")
    for name in ("scene.png", "scene.tif"):
        memory.pipe(f"/bucket/{name}", (folder / name).read_bytes())
        np.testing.assert_array_equal(sio.read_image(f"memory://bucket/{name}"), image)
        assert sio.image_info(f"memory://bucket/{name}") == sio.image_info(folder / name)
    with pytest.raises(ImageReadError, match="cannot be opened: FileNotFoundError"):
        sio.read_image("memory://bucket/missing.png")


class Ranges(http.server.SimpleHTTPRequestHandler):
    """A file server that answers range requests, as object stores do, and counts the bytes."""

    sent = 0

    def log_message(self, *args):
        pass

    def do_GET(self):
        with open(self.translate_path(self.path), "rb") as file:
            data = file.read()
        first, _, last = (self.headers.get("Range") or f"bytes=0-{len(data) - 1}").removeprefix("bytes=").partition("-")
        part = data[int(first) : int(last) + 1]
        type(self).sent += len(part)
        self.send_response(206 if self.headers.get("Range") else 200)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.end_headers()
        self.wfile.write(part)


@pytest.fixture
def server(scene):
    folder, _ = scene
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Ranges, directory=str(folder))) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()
        thread.join(10)


def test_a_window_over_http_fetches_only_its_blocks(scene, server):
    pytest.importorskip("fsspec")
    pytest.importorskip("aiohttp")
    folder, image = scene
    Ranges.sent = 0
    part = sio.read_image(f"{server}/scene.tif", window=(100, 200, 20, 20))
    np.testing.assert_array_equal(part, image[100:120, 200:220])
    assert Ranges.sent < (folder / "scene.tif").stat().st_size / 3
    np.testing.assert_array_equal(sio.read_image(f"{server}/scene.png"), image)


def read_in_child(handle, window, out):
    out.put(handle.read(window=window).tobytes())


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_remote_handle_works_in_other_processes(scene, server, start):
    pytest.importorskip("fsspec")
    pytest.importorskip("aiohttp")
    if start not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this platform has no {start}")
    _, image = scene
    context = multiprocessing.get_context(start)
    with sio.open_image(f"{server}/scene.tif") as handle:
        handle.read(window=(0, 0, 9, 9))
        out = context.Queue()
        child = context.Process(target=read_in_child, args=(handle, (100, 200, 20, 20), out))
        child.start()
        data = out.get(timeout=60)
        child.join(60)
        assert data == np.ascontiguousarray(image[100:120, 200:220]).tobytes()
        np.testing.assert_array_equal(handle.read(window=(5, 5, 9, 9)), image[5:14, 5:14])


class Halves:
    """Reads PNGs through Pillow's file, but halves every value: easy to recognise."""

    name = "halves"

    def refuses(self, header):
        return "" if header.info.format == "PNG" else "it reads PNG only"

    def read(self, header, request):
        return choose(header, "pillow").read(header, request) // 2


def test_a_backend_of_ones_own_is_handed_in(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (5, 6, 3), dtype=np.uint8)
    sio.write_image(tmp_path / "a.png", image)
    sio.write_mask(tmp_path / "mask.png", image[..., 0])
    sio.write_image(tmp_path / "a.tif", image.astype(np.uint16))
    np.testing.assert_array_equal(sio.read_image(tmp_path / "a.png"), image)
    np.testing.assert_array_equal(sio.read_image(tmp_path / "a.png", backend=Halves()), image // 2)
    np.testing.assert_array_equal(sio.read_mask(tmp_path / "mask.png", backend=Halves()), image[..., 0] // 2)
    with pytest.raises(ImageReadError, match=r"it reads PNG only\. Use backend='tifffile' or 'opencv'"):
        sio.read_image(tmp_path / "a.tif", backend=Halves())


class Npy:
    """A format that segkit does not know."""

    name = "npy"

    def header(self, source, page, level):
        height, width, channels = (array := np.load(source.path)).shape
        info = sio.ImageInfo("NPY", height, width, channels, array.dtype, 8 * array.dtype.itemsize, "minisblack")
        return sio.Header(info, source, page=page)

    def refuses(self, header):
        return "it has one page" if header.page else ""

    def read(self, header, request):
        top, left, height, width = request.window
        return np.load(header.path)[top : top + height, left : left + width, list(request.channels)]


def test_a_backend_with_a_header_of_its_own_reads_a_format_that_nobody_knows(tmp_path):
    np.save(tmp_path / "a.npy", image := np.arange(24, dtype=np.uint16).reshape(2, 3, 4))
    part = sio.read_image(tmp_path / "a.npy", backend=Npy(), window=(1, 0, 1, 3), channels=[3])
    np.testing.assert_array_equal(part, image[1:2, :, 3:])
    with pytest.raises(ImageReadError, match="it has one page"):
        sio.read_image(tmp_path / "a.npy", backend=Npy(), page=1)
    with pytest.raises(ImageReadError, match="no image format that segkit knows"):
        sio.read_image(tmp_path / "a.npy")


def test_a_handle_carries_its_backend_to_another_process(tmp_path):
    np.save(tmp_path / "a.npy", image := np.arange(24, dtype=np.uint16).reshape(2, 3, 4))
    with sio.open_image(tmp_path / "a.npy", backend=Npy()) as handle, pickle.loads(pickle.dumps(handle)) as other:
        assert other.info.channels == 4
        np.testing.assert_array_equal(other.read(window=(0, 0, 1, 1)), image[:1, :1])


class Liar(Halves):
    name = "liar"

    def read(self, header, request):
        return np.zeros((1, 1, 1), np.uint8)


def test_a_backend_that_breaks_its_promise_is_found_out(tmp_path):
    sio.write_image(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ImageReadError, match=r"liar gave \(1, 1, 1\) uint8, but the header promises \(4, 4, 3\)"):
        sio.read_image(tmp_path / "a.png", backend=Liar())


@pytest.mark.parametrize("wrong", ["gdal", None, object(), Halves])
def test_an_unknown_backend_is_refused_with_the_choices(tmp_path, wrong):
    sio.write_image(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match=f"^read_image: backend must be one of 'auto', .*got {re.escape(repr(wrong))}"):
        sio.read_image(tmp_path / "a.png", backend=wrong)


def test_explain_says_what_would_have_been_wrong(tmp_path):
    sio.write_image(tmp_path / "bands.tif", np.zeros((4, 4, 13), np.uint16))
    verdicts = {name: (verdict, reason) for name, verdict, reason in sio.explain_backends(tmp_path / "bands.tif")}
    assert verdicts["tifffile"] == (True, "")
    assert verdicts["opencv"] == (
        False,
        "OpenCV drops or changes channels of a minisblack TIFF with 13 samples per pixel",
    )
    assert not verdicts["pillow"][0]
