"""How the gallery looks: the order of its pages, and the colours of its figures."""

from __future__ import annotations

import matplotlib


class RoadOrder:
    """The order in which a picture comes through the house, not that of the alphabet."""

    names = (
        "first six transforms crops scales losses hard_pixels hard_samples report".split()
    )

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, filename):
        return self.names.index(filename.removesuffix(".py"))


def quiet_colors(gallery_conf, fname):
    """No ground of their own, grey letters: read on light and on dark pages."""
    grey = "#757c83"  # contrast 4.2 on white, 4.4 on the dark ground
    matplotlib.rcParams.update(
        {
            **{f"figure.{part}color": "none" for part in ("face", "edge")},
            **dict.fromkeys(
                (
                    "text.color",
                    "axes.labelcolor",
                    "axes.edgecolor",
                    "xtick.color",
                    "ytick.color",
                ),
                grey,
            ),
            "axes.facecolor": "none",
            "axes.titlecolor": grey,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
        }
    )
