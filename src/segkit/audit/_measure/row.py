"""What goes in and comes out: an item is a pair of files, and leaves a row of fixed size, so that memory stays flat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Files = str | tuple[str, ...] | None  # one file, or one for each band of an image or object of a mask
Item = tuple[Files, Files]  # image, mask


@dataclass(frozen=True)
class Options:
    """What the caller said about the labels."""

    num_classes: int | None
    colors: dict[tuple[int, int, int], int] | None
    ignore_index: int | None
    unknown: str | int = "error"
    remap: dict[int, int] | None = None
    unmapped: str | int = "error"
    pages: str | None = None  # "channels" stacks them, "first" leaves the others out; None does so, and says so


def name_of(files: Files) -> str | None:
    """The path that stands for the files of an image or a mask: the first."""
    return files if files is None or isinstance(files, str) else files[0]


THUMB = 96  # edge of the little grey picture by which near duplicates are compared

ROW = np.dtype(
    [
        # the image
        ("image_ok", "?"),  # decoded, so that the numbers below mean something
        ("height", "u4"),
        ("width", "u4"),
        ("channels", "u2"),
        ("dtype", "S8"),
        ("orientation", "u1"),
        ("constant", "?"),
        ("flat_channels", "u8"),  # bit c: channel c, of the first 64, has one value
        ("non_finite", "u8"),
        ("p01", "f4"),  # percentiles of the grey values, stored units
        ("p05", "f4"),
        ("p50", "f4"),
        ("p99", "f4"),
        ("p999", "f4"),
        ("mean", "f4"),
        ("std", "f4"),
        ("clipped_low", "f4"),  # share of the pixels at the smallest value, in the channel that has most of them
        ("clipped_high", "f4"),  # the same at the largest value
        ("ceiling", "f4"),  # the largest value of that channel
        ("uneven", "f4"),  # how unevenly neighbouring levels are used
        ("entropy", "f4"),  # bits per pixel of the grey values, in 256 steps
        ("sharp", "f4"),  # log2 of the detail at full size over that at half size
        ("coarse_sharp", "f4"),  # the same from half to quarter size
        ("fine", "f4"),  # log2 of the detail at full size over the variance of the whole
        ("quiet", "f4"),  # log2 of the detail where there is least: the noise
        ("lopsided", "f4"),  # by how many octaves the detail at full size differs between directions
        ("coarse_lopsided", "f4"),  # the same at half size
        ("softness", "f4"),  # variance of the blur, pixels squared
        ("trail", "f4"),  # depth of the deepest dip of the cepstrum over that of others
        ("trail_length", "f4"),  # how far away it is, pixels
        ("image_digest", "u8", 2),
        # the mask
        ("mask_ok", "?"),
        ("mask_orientation", "u1"),
        ("mask_lossy", "?"),  # the file itself says that it was compressed with loss
        ("ignored", "f4"),  # share of the pixels
        ("classes", "u4"),  # how many labels are not the ignored one
        ("only_label", "i4"),  # the label, if it is the only one
        ("edges", "f4"),  # neighbours with different labels, a pixel
        ("ramps", "f4"),  # pixels between two neighbours with a smaller and a larger label, an edge
        ("leaps", "f4"),  # share of the edges where labels differ by more than 1
        ("peaks", "f4"),  # pixels above or below both neighbours, an edge
        ("blocks", "f4"),  # log2 of the edges on the 8 x 8 grid of JPEG over those expected there
        ("isolated", "f4"),  # share of the pixels whose label is that of none of their four neighbours
        ("mask_digest", "u8", 2),
        # the pair
        ("shift_y", "f4"),  # by how many pixels the mask should move to lie on the image
        ("shift_x", "f4"),
        ("fit_here", "f4"),  # how well it lies where it is, in deviations of most shifts
        ("fit_best", "f4"),  # the same for the best shift
    ]
)
