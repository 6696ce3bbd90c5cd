"""Write augmented copies of a data set once, with a manifest, and train on originals and copies together.

    python expand_offline.py            # or --quick

For augmentation that is too slow for the loader, or a data set to hand to others. A copy is a pure function of
(seed, pair, number): any number of processes writes the same bytes, and the same call resumes a stopped run.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import tempfile

from shapes import draw_pairs

from segkit import io, viz
from segkit import transforms as T
from segkit.audit import audit_dataset
from segkit.datasets import PairDataset, expand_dataset, find_pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=pathlib.Path, help="yours; some are drawn when left out")
    parser.add_argument("--masks", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, help="where the copies go")
    parser.add_argument("--copies", type=int, default=4)
    parser.add_argument("--quick", action="store_true", help="two copies of six pairs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if options.images is None:
            drawn = draw_pairs(pathlib.Path(scratch) / "data", pairs=6 if options.quick else 60)
            options.images, options.masks = drawn
        out = options.out or pathlib.Path(scratch) / "more"
        expand(options, out, copies=2 if options.quick else options.copies)


def expand(options, out: pathlib.Path, *, copies: int) -> None:
    # Integers stay integers: no ToTensor and no Normalize here, those belong in the training. Geometry is joined into
    # one resampling, and what comes in from outside is 255 in the mask.
    slow = T.Compose([T.ElasticDeform(), T.RandomAffine(20), T.HorizontalFlip(), T.ColorJitter(0.2, 0.2)])
    pairs = audit_dataset(options.images, options.masks, progress=False).clean_pairs()  # no copies of broken files
    new = expand_dataset(pairs, slow, out, copies=copies, seed=0)
    print(f"{len(pairs)} pairs, {len(new)} copies")

    again = expand_dataset(pairs, slow, out, copies=copies, seed=0)  # everything is there: nothing is written
    assert again == new
    header, *entries = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    print(f"manifest: seed {header['seed']}, {len(entries)} entries, the first {entries[0]['files']}")

    # Copies belong to training only. Split the originals first: a copy of a test image in training is a leak.
    train = PairDataset(pairs + find_pairs(out / "images", out / "masks"))
    sheet = viz.contact_sheet([train[i] for i in (0, len(pairs), len(pairs) + 1)], columns=3)
    io.write_image(out / "copies.png", sheet)
    print(f"{len(train)} pairs to train on, see {out / 'copies.png'}")


if __name__ == "__main__":
    main()
