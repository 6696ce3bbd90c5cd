"""What one call of a row drew: to print, to store, to do again, and to undo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from segkit.transforms._resampling.geometry import Geometry, Size
from segkit.transforms._resampling.sample_parts import take_apart
from segkit.transforms._run import Run


class Drawn:
    """What `draw` of a `Compose` returns: call it as a transform, and it does the same again, to any sample.

    Pickle stores it. What only moved pixels is held as a `Geometry`, everything else as the seed of its random numbers.

    Attributes:
        source: (height, width) of the pictures that it takes.
        steps: each member that took part, with what it drew.

    Example:
        >>> import torch
        >>> from segkit.transforms import Compose, HorizontalFlip, Rotate90
        >>> drawn = Compose([HorizontalFlip(), Rotate90()]).draw((4, 6), generator=torch.Generator().manual_seed(3))
        >>> image = torch.rand(3, 4, 6)
        >>> torch.equal(drawn.inverse()(drawn(image)), image)
        True
    """

    def __init__(self, source: Size, steps: Sequence[tuple[Any, Any]]) -> None:
        self.source, self.steps = source, tuple(steps)

    def __call__(
        self,
        image: Any,
        mask: Any = None,
        *,
        images: Sequence[Any] = (),
        masks: Sequence[Any] = (),
        maps: Sequence[Any] | Mapping[Any, float] = (),
    ) -> Any:
        """The same again: image, image and mask, or a sample as a transform takes it.

        Raises:
            ValueError: the picture has another size than the one it was drawn for.
        """
        run = Run(take_apart("Drawn", image, mask, images=images, masks=masks, maps=maps), None)
        if run.size != self.source:
            raise ValueError(
                f"Drawn: `image` must have the size {self.source} it was drawn for, got {run.size}. Draw for this size."
            )
        for transform, drawn in self.steps:
            run.step(transform, drawn)
        return run.result()

    def inverse(self) -> Drawn:
        """The way back for what moved whole pixels (flips, right angles, crops, pads); what changed values is left out.

        What a crop cut off comes back as fill: 0 in an image, 255 in a mask.

        Raises:
            ValueError: a member moved pixels by fractions.
        """
        moved = [(transform, drawn) for transform, drawn in self.steps if isinstance(drawn, Geometry)]
        back = [(transform, drawn.inverse()) for transform, drawn in reversed(moved)]
        return Drawn(moved[-1][1].size if moved else self.source, back)

    def __repr__(self) -> str:
        lines = "".join(f"\n    {type(transform).__name__}: {_told(drawn)}" for transform, drawn in self.steps)
        return f"Drawn(source={self.source}:{lines or ' nothing'})"


def _told(drawn: Any) -> str:
    return repr(drawn) if isinstance(drawn, Geometry) else "nothing by chance" if drawn is None else f"seed={drawn}"
