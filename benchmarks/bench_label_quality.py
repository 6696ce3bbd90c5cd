"""How many of the first places that `label_quality` names are wrong objects planted into real masks.

    python benchmarks/bench_label_quality.py FOLDER [FOLDER ...] [--planted 120] [--every 2]

Each FOLDER holds `images` and `masks`. Blobs and whole objects get a wrong class; a network of three layers, which sees
a pixel and blurred versions of its surroundings, is trained on the wrong masks in three folds and predicts the fold
that it has not seen. Printed is the share of the first 10, 50 and 100 places that lie in planted objects, beside the
same for the largest disagreements and for the surest ones.
"""

from __future__ import annotations

import argparse
import pathlib

import cv2
import numpy as np
import torch

from segkit import io
from segkit.audit import label_quality
from segkit.datasets import find_pairs


def features(image: np.ndarray) -> np.ndarray:
    light = image.astype(np.float32)
    light = (light - light.mean((0, 1))) / (light.std((0, 1)) + 1e-6)
    parts = [light]
    for sigma in (1, 2, 4, 8):
        wide = cv2.GaussianBlur(light, (0, 0), sigma).reshape(light.shape)
        rough = cv2.GaussianBlur((light - wide) ** 2, (0, 0), sigma).reshape(light.shape)
        parts += [wide, np.sqrt(rough)]
    y, x = np.mgrid[-1 : 1 : image.shape[0] * 1j, -1 : 1 : image.shape[1] * 1j].astype(np.float32)
    return np.dstack([*parts, y, x])


def planted(masks: list[np.ndarray], classes: int, count: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Masks with wrong objects, of 60 to 3,000 pixels, and where these are."""
    rng = np.random.default_rng(1)
    wrong, where = [mask.copy() for mask in masks], [np.zeros(mask.shape, bool) for mask in masks]
    done = 0
    while done < count:
        i = int(rng.integers(len(masks)))
        mask = masks[i]
        y, x = (int(rng.integers(12, edge - 12)) for edge in mask.shape)
        same = (mask == mask[y, x]).astype(np.uint8)
        if done % 2:  # a blob of its class
            axes = tuple(int(v) for v in rng.integers(8, 26, 2))
            blob = cv2.ellipse(np.zeros_like(same), (x, y), axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
            spot = (blob & same) > 0
        else:  # a whole object
            numbers = cv2.connectedComponents(same)[1]
            spot = numbers == numbers[y, x]
        if mask[y, x] == 255 or not 60 <= spot.sum() <= 3000 or where[i][spot].any():
            done += done % 2 == 0 and rng.random() < 0.01  # a set without objects of that size
            continue
        wrong[i][spot] = rng.choice([label for label in range(classes) if label != mask[y, x]])
        where[i] |= spot
        done += 1
    return wrong, where


def predicted(seen: list[np.ndarray], masks: list[np.ndarray], classes: int, folds: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    depth, result = seen[0].shape[2], {}
    for fold in range(folds):
        xs, ys = [], []
        for i, mask in enumerate(masks):
            if i % folds != fold:
                some = rng.choice(np.flatnonzero(mask.ravel() != 255), 4000)
                xs.append(seen[i].reshape(-1, depth)[some])
                ys.append(mask.ravel()[some])
        x, y = torch.from_numpy(np.concatenate(xs)), torch.from_numpy(np.concatenate(ys))
        layers = [torch.nn.Linear(depth, 48), torch.nn.ReLU(), torch.nn.Linear(48, 48), torch.nn.ReLU()]
        network = torch.nn.Sequential(*layers, torch.nn.Linear(48, classes))
        steps = torch.optim.Adam(network.parameters(), 5e-3)
        for _ in range(400):
            batch = torch.randint(len(x), (2048,))
            steps.zero_grad()
            torch.nn.functional.cross_entropy(network(x[batch]), y[batch]).backward()
            steps.step()
        with torch.no_grad():
            for i in range(fold, len(masks), folds):
                probs = network(torch.from_numpy(seen[i].reshape(-1, depth))).softmax(1).numpy()
                result[i] = probs.T.reshape(classes, *masks[i].shape)
    return [result[i] for i in range(len(masks))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--planted", type=int, default=120)
    parser.add_argument("--every", type=int, default=1)
    arguments = parser.parse_args()
    for folder in map(pathlib.Path, arguments.folders):
        pairs = find_pairs(folder / "images", folder / "masks")[:: arguments.every]
        masks = [io.read_mask(pair.mask).astype(np.int64) for pair in pairs]
        if set(np.unique(masks[0]).tolist()) <= {0, 255}:
            masks = [mask // 255 for mask in masks]
        classes = 1 + max(int(mask[mask != 255].max()) for mask in masks)
        wrong, where = planted(masks, classes, arguments.planted)
        probs = predicted([features(io.read_image(pair.image)) for pair in pairs], wrong, classes)
        quality = label_quality(probs, wrong)
        places = quality.places
        margin = places["predicted_probability"] - places["given_probability"]
        orders = {"label_quality": -places["score"], "largest": -places["pixels"], "surest": -margin}
        right = np.mean([(p.argmax(0) == m)[m != 255].mean() for p, m in zip(probs, masks, strict=True)])
        print(f"{folder.name}: {len(masks)} masks, {len(places)} places; right pixels {right:.1%}")
        for name, values in orders.items():
            hits = []
            for place in places[np.argsort(values, kind="stable")[:100]]:
                top, left, height, width = (int(place[name]) for name in ("top", "left", "height", "width"))
                window = np.s_[top : top + height, left : left + width]
                i = int(place["number"])
                inside = (wrong[i] == place["label"]) & (probs[i].argmax(0) == place["predicted"])
                hits.append(where[i][window][inside[window]].mean() >= 0.5)
            print(f"  {name:14}" + "".join(f"  first {n}: {np.mean(hits[:n]):.2f}" for n in (10, 50, 100)))


if __name__ == "__main__":
    main()
