"""What all losses are as modules: they hold the options of a function, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from segkit.losses._arguments import Upsample, choice

CHOICES: dict[str, tuple[object, ...]] = {
    "mode": ("multiclass", "binary", "multilabel"),
    "reduction": ("mean", "sum", "none"),
    "scope": ("image", "batch"),
    "absent": ("skip", "zero", "one"),
    "power": (1, 2),
    "upsample": (None, "bilinear"),
}


class Loss(nn.Module):
    """Options in, loss out. ``class_weights`` is a buffer, so ``.to(device)`` moves it; it is in no state dict."""

    _function: Callable[..., Tensor]
    class_weights: Tensor | None

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__()
        options = {name: value for name, value in options.items() if name not in ("self", "__class__")}
        for name in CHOICES.keys() & options.keys():
            choice(type(self).__name__, name, options[name], CHOICES[name])
        weights = options.pop("class_weights", None)
        self._options = options
        table = None if weights is None else torch.as_tensor(weights, dtype=torch.float32)
        self.register_buffer("class_weights", table, persistent=False)

    def forward(
        self, logits: Tensor, target: Tensor, *, pixel_weights: Tensor | None = None, upsample: Upsample | None = None
    ) -> Tensor:
        """Loss of ``logits`` against ``target``; shapes as for the function. ``upsample`` is for this call."""
        return self.call(
            logits, target, pixel_weights, {**self._options, **({"upsample": upsample} if upsample else {})}
        )

    def call(self, logits: Tensor, target: Tensor, pixel_weights: Tensor | None, options: dict[str, Any]) -> Tensor:
        """The function, with the options of one call."""
        return type(self)._function(
            logits, target, class_weights=self.class_weights, pixel_weights=pixel_weights, **options
        )

    def options(self) -> dict[str, Any]:
        """What this loss alone decides, as arguments of its function."""
        alone = {
            k: v
            for k, v in self._options.items()
            if k not in ("mode", "ignore_index", "upsample", "reduction", "process_group")
        }
        return {**alone, "class_weights": self.class_weights}

    def agrees(self, options: dict[str, Any]) -> bool:
        """Whether it means the same pixels, and the same mean of them, as ``options`` say."""
        return self._options["upsample"] is None and all(self._options.get(k, v) == v for k, v in options.items())

    def extra_repr(self) -> str:
        """All options, as they were given."""
        weights = None if self.class_weights is None else [round(w, 6) for w in self.class_weights.tolist()]
        return ", ".join(f"{k}={v!r}" for k, v in {**self._options, "class_weights": weights}.items())
