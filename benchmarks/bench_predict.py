"""A whole scene: `predict_scene` with reading, argmax and writing, against MONAI's inference without them.

    python benchmarks/bench_predict.py [--side 8192] [--repeats 3] [--json FILE]     # needs the bench extra
    python benchmarks/bench_predict.py --network unet --side 2048                    # a network that takes its time
    python benchmarks/bench_predict.py --heights 4096 16384                          # memory at two heights

3 to 8 channels by a 1 x 1 convolution, or by MONAI's UNet with residual units; windows of 512 that overlap by 128,
Gaussian. Each run is a process of its own with one torch thread, the two in turn. Memory is the peak beyond what the
process holds after its imports. The goals: 0.8 of MONAI's time, 1.15 with the UNet, 0.1 of its memory, the same
classes; at most 2 bands of logits, the network's activations and 64 MB, whatever the height. MONAI lifts all of its
Gaussian to a thousandth, so that the UNet's classes differ where four windows meet; with `--blend mean` none does.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

WINDOW, OVERLAP, CLASSES, TILE = 512, 128, 8, 256
BLENDS = {"gaussian": "gaussian", "mean": "constant"}  # as MONAI calls them


def write_scene(path: pathlib.Path, height: int, width: int) -> None:
    """Smooth colours with some noise, tile by tile; georeferenced."""
    import tifffile

    def tiles():
        y, x = np.mgrid[:TILE, :TILE]
        for number in range((height // TILE) * (width // TILE)):
            rng = np.random.default_rng(number)
            waves = 127 + 100 * np.sin(y[..., None] / rng.uniform(9, 60, 3) + x[..., None] / rng.uniform(9, 60, 3))
            yield (waves + rng.normal(0, 6, (TILE, TILE, 3))).clip(0, 255).astype(np.uint8)

    geo = [(33550, "d", 3, (10.0, 10.0, 0.0), True), (33922, "d", 6, (0.0, 0.0, 0.0, 4e5, 5.3e6, 0.0), True)]
    geo += [(34735, "H", 8, (1, 1, 0, 1, 3072, 0, 1, 32633), True)]
    layout = {"tile": (TILE, TILE), "photometric": "rgb", "compression": "zlib", "extratags": geo}
    tifffile.imwrite(path, tiles(), shape=(height, width, 3), dtype=np.uint8, **layout)


def network(name: str):
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)
    if name == "unet":
        from monai.networks.nets import UNet

        return UNet(2, 3, CLASSES, channels=(16, 32, 64, 128, 256), strides=(2, 2, 2, 2), num_res_units=2).eval()
    net = torch.nn.Conv2d(3, CLASSES, 1).eval()
    net.weight.data *= 4  # so that classes are areas
    return net


def peak() -> float:
    """MiB that the process has held at most."""
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))


def run_segkit(name: str, blend: str, scene: pathlib.Path, out: pathlib.Path) -> dict[str, float]:
    from segkit.predict import predict_scene

    net = network(name)
    small = scene.with_name("small.tif")
    options = {"size": WINDOW, "overlap": OVERLAP, "batch_size": 1, "blend": blend, "progress": False}
    predict_scene(net, small, out, **options)  # warm
    before, began = peak(), time.perf_counter()
    predict_scene(net, scene, out, **options)
    return {"seconds": time.perf_counter() - began, "mib": peak() - before}


def run_monai(name: str, blend: str, scene: pathlib.Path, out: pathlib.Path) -> dict[str, float]:
    """Reading, argmax and writing are not timed."""
    import tifffile
    import torch
    from monai.inferers import sliding_window_inference

    net = network(name)
    options = {"sw_batch_size": 1, "overlap": OVERLAP / WINDOW, "mode": BLENDS[blend]}
    with torch.no_grad():
        sliding_window_inference(torch.zeros(1, 3, 600, 600), WINDOW, predictor=net, **options)
        image = tifffile.imread(scene)
        before = peak()
        image = torch.from_numpy(np.moveaxis(image, -1, 0).astype(np.float32) / 255)[None]
        began = time.perf_counter()
        logits = sliding_window_inference(image, WINDOW, predictor=net, **options)
        seconds = time.perf_counter() - began
    used = peak() - before
    np.save(out.with_suffix(".npy"), logits.argmax(1)[0].to(torch.uint8).numpy())
    return {"seconds": seconds, "mib": used}


def one(who: str, name: str, blend: str, scene: pathlib.Path, out: pathlib.Path) -> dict[str, float]:
    """A run in a process of its own."""
    command = [sys.executable, __file__, "--run", who, name, blend, str(scene), str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=8192)
    parser.add_argument("--network", choices=("convolution", "unet"), default="convolution")
    parser.add_argument("--blend", choices=BLENDS, default="gaussian")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--heights", type=int, nargs="*")
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--run", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        who, name, blend, scene, out = options.run
        run = {"segkit": run_segkit, "monai": run_monai}[who]
        print(json.dumps(run(name, blend, pathlib.Path(scene), pathlib.Path(out))))
        return
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_scene(folder / "small.tif", 1024, 1024)
        for height in options.heights or []:
            write_scene(folder / "scene.tif", height, 16384)
            row = one("segkit", options.network, options.blend, folder / "scene.tif", folder / "map.tif")
            bands = WINDOW * 16384 * CLASSES * 4 / 2**20
            rows.append({"height": height, "width": 16384, "bands": row["mib"] / bands, **row})
            print(f"{height:6} x 16384: {row['seconds']:.1f} s, {row['mib']:.0f} MiB, {row['mib'] / bands:.2f} bands")
            check_tags(folder / "scene.tif", folder / "map.tif")
        if not options.heights:
            rows = compare(folder, options.network, options.blend, options.side, options.repeats)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


def check_tags(scene: pathlib.Path, out: pathlib.Path) -> None:
    """The map opens everywhere and lies where the scene lies."""
    import tifffile
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # the file is ours
    with tifffile.TiffFile(out) as file, Image.open(out) as image:
        assert file.pages[0].shape == image.size[::-1]
    try:
        import rasterio
    except ImportError:
        return
    with rasterio.open(scene) as source, rasterio.open(out) as copy:
        assert (copy.crs, copy.transform) == (source.crs, source.transform)
        print(f"  rasterio: {copy.crs}, {tuple(copy.transform)[:6]}")


def compare(folder: pathlib.Path, name: str, blend: str, side: int, repeats: int) -> list[dict[str, object]]:
    import tifffile

    write_scene(folder / "scene.tif", side, side)
    runs: dict[str, list[dict[str, float]]] = {"segkit": [], "monai": []}
    for _ in range(repeats):
        for who, of in runs.items():
            of.append(one(who, name, blend, folder / "scene.tif", folder / f"{who}.tif"))
    check_tags(folder / "scene.tif", folder / "segkit.tif")
    differ = int((tifffile.imread(folder / "segkit.tif") != np.load(folder / "monai.npy")).sum())
    fastest = min(run["seconds"] for run in runs["monai"])
    rows: list[dict[str, object]] = []
    print(f"{name}, {side} x {side}, {blend}")
    for who, of in runs.items():
        seconds, mib = statistics.median(r["seconds"] for r in of), max(r["mib"] for r in of)
        share = mib / max(run["mib"] for run in runs["monai"])
        asked = {"who": who, "network": name, "blend": blend, "side": side}
        rows.append({**asked, "seconds": seconds, "mib": mib, "differ": differ})
        print(f"{who:7} {seconds:6.2f} s  {seconds / fastest:5.2f} x MONAI's fastest  {mib:6.0f} MiB  {share:5.2f} x")
    print(f"{differ} pixels differ")
    return rows


if __name__ == "__main__":
    main()
