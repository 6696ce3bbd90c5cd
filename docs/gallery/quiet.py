"""Colours of the figures, set anew for each page of the gallery."""

from __future__ import annotations

import matplotlib


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
