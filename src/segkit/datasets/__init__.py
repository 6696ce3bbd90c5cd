"""Which mask belongs to which image: pairs of files, and a map-style data set over them.

Example:
    >>> from segkit.datasets import Pair
    >>> Pair("images/01.png", "masks/01.png").mask
    'masks/01.png'
"""

from segkit.datasets._dataset import JoinedDataset, PairDataset
from segkit.datasets._expand import expand_dataset
from segkit.datasets._folds import Folds, split_folds
from segkit.datasets._grid import GridDataset
from segkit.datasets._mixed import MixDataset
from segkit.datasets._pairs import Pair, Pairs, find_images, find_pairs
from segkit.datasets._tile import Tiled, tile_images

__all__ = [
    "Folds",
    "GridDataset",
    "JoinedDataset",
    "MixDataset",
    "Pair",
    "PairDataset",
    "Pairs",
    "Tiled",
    "expand_dataset",
    "find_images",
    "find_pairs",
    "split_folds",
    "tile_images",
]
