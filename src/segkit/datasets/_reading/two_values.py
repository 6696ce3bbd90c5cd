"""Masks of 0 and 255 alone: the commonest way to store two classes, of which the second would be ignored."""

from __future__ import annotations

import warnings
from typing import Any


class TwoValues:
    """Looks at masks until it knows whether 255 seems to mean foreground, and says so once.

    One mask of which a tenth is 255 is enough; thinner lines of 255 are taken for borders until four masks in a row
    hold nothing else. Any other label ends the question.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._seen = 0
        self._open = True

    def look(self, mask: Any, path: str) -> None:
        """Look at one mask, if the question is still open."""
        if not self._open or not hasattr(mask, "is_floating_point") or mask.is_floating_point() or not mask.numel():
            return  # decided, or a transform made something else of the mask
        high = mask == 255
        share = high.float().mean().item()
        if bool(((mask != 0) & ~high).any()):
            self._open = False
        elif 0 < share < 1:
            self._seen += 1
            if share >= 0.1 or self._seen == 4:
                self._open = False
                warnings.warn(
                    f"{self._name}: the masks hold 0 and 255 only (first noticed in {path!r}), and 255 is ignored "
                    "everywhere: if it is the foreground, pass remap={0: 0, 255: 1}; if it is not, pass "
                    "remap={0: 0, 255: 255}, and this warning does not come again.",
                    stacklevel=5,
                )
