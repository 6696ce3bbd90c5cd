"""What the network makes of a whole scene: a mask file, written in constant memory, window by window.

`predict_scene` is one function over `datasets.GridDataset` and `transforms.CropMerger`; a loop of your own over the two
is as short.

Example:
    >>> import numpy as np
    >>> import torch
    >>> from segkit.io import read_mask, write_image
    >>> from segkit.predict import predict_scene
    >>> write_image("scene.tif", np.random.default_rng(0).integers(0, 255, (90, 70, 3), np.uint8))
    >>> network = torch.nn.Conv2d(3, 4, 1)
    >>> path = predict_scene(network, "scene.tif", "map.tif", size=32, overlap=8, progress=False)
    >>> read_mask(path).shape
    (90, 70)
"""

from __future__ import annotations

from segkit.predict._scene import predict_scene

__all__ = ["predict_scene"]
