"""segkit: independent parts for training segmentation networks in PyTorch.

Each room answers one question and can be used without the others::

    files - io - labels - datasets - transforms - collate -> your model -> losses -> mining

``import segkit`` is light: it loads neither torch nor an image library. The rooms arrive when they are first named.

Example:
    >>> import segkit
    >>> segkit.IGNORE_INDEX
    255
    >>> segkit.errors.ImageReadError.__mro__[2].__name__
    'SegkitError'
"""

import importlib
from types import ModuleType

__version__ = "0.1.0"

IGNORE_INDEX = 255
"""The label of pixels that count nowhere: the default of every loss, pad, crop fill, collate, statistic and audit."""

__all__ = [
    "IGNORE_INDEX",
    "annotations",
    "audit",
    "cli",
    "collate",
    "datasets",
    "errors",
    "io",
    "labels",
    "losses",
    "metrics",
    "mining",
    "predict",
    "samplers",
    "stats",
    "transforms",
    "viz",
]

ROOMS = tuple(name for name in __all__ if name.islower())


def __getattr__(name: str) -> ModuleType:
    if name in ROOMS:
        return importlib.import_module(f"segkit.{name}")
    raise AttributeError(f"module 'segkit' has no attribute {name!r}; its modules are {', '.join(ROOMS)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *ROOMS})
