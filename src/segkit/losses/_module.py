"""What all losses are as modules: they hold the options of a function, and nothing else."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from segkit import _triton
from segkit.losses._arguments import Upsample, choice
from segkit.losses._engine.reduce import Group

if TYPE_CHECKING:
    from typing_extensions import Self  # every checker knows it; Python 3.10 has none of its own

CHOICES: dict[str, tuple[object, ...]] = {
    "mode": ("multiclass", "binary", "multilabel"),
    "reduction": ("mean", "sum", "none"),
    "scope": ("image", "batch"),
    "absent": ("skip", "zero", "one", "include"),
    "power": (1, 2),
    "upsample": (None, "bilinear"),
}
OF_ALL = ("mode", "ignore_index", "upsample", "reduction", "process_group")


def changeable(name: str) -> Any:
    """An option that is a number, and may be changed between calls."""

    def change(self: Loss, value: float) -> None:
        self._options[name] = float(value)

    return property(lambda self: self._options[name], change)


def leave_out_others(module: nn.Module, state_dict: dict[str, Any], prefix: str) -> None:
    """Take from a state what another loss kept where ours stands now, such as `nn.CrossEntropyLoss(weight=...)`."""
    own = module.state_dict(prefix=prefix)
    for name in [name for name in state_dict if name.startswith(prefix)]:
        if name not in own:
            del state_dict[name]
            warnings.warn(
                f"{type(module).__name__}: the state holds `{name}` of another loss, which is left out: the "
                "class_weights here are those that the module was made with, and in no state.",
                stacklevel=3,
            )


class Loss(nn.Module):
    """Options in, loss out. ``class_weights`` is a buffer, so ``.to(device)`` moves it; it is in no state dict.

    What cannot be is refused when a module is made: its function is tried on one pixel.
    """

    _function: Callable[..., Tensor]
    _shares: ClassVar[bool] = True  # whether a compound may call the function instead
    class_weights: Tensor | None

    def __new__(cls, *args: Any, **options: Any) -> Self:
        """Say what torch's and MONAI's ``weight``, in torch also the first argument, is called here."""
        if "weight" in options or (args and isinstance(args[0], Tensor)):
            raise TypeError(
                f"{cls.__name__}: there is no `weight`. Pass class_weights=..., one number for each class, the "
                "background too."
            )
        return super().__new__(cls)

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__()
        options = {name: value for name, value in options.items() if name not in ("self", "__class__")}
        for name in CHOICES.keys() & options.keys():
            choice(type(self).__name__, name, options[name], CHOICES[name])
        weights = options.pop("class_weights", None)
        group = options.get("process_group")
        if group is not None and not isinstance(group, (str, Group)):
            options["process_group"] = Group(group)
        self._options = options
        table = None
        if weights is not None:  # as they were given: a float64 loss takes all their digits
            given = isinstance(weights, Tensor)
            table = weights.detach().clone() if given else torch.tensor(weights, dtype=torch.float64)
            if table.is_meta and not given:  # a default device without memory
                table = torch.tensor(weights, dtype=torch.float64, device="cpu")
        self.register_buffer("class_weights", table, persistent=False)
        self._prepare()
        self._try_out()

    def _prepare(self) -> None:
        """Make what a call needs."""

    def _try_out(self) -> None:
        """Try it with one pixel, so that what cannot be is refused now."""
        mode, upsample = self._options.get("mode", "multiclass"), self._options.get("upsample")
        channels = 1 if mode == "binary" else max(2, *self._lengths(self._options))
        fine = 2 if upsample else 1
        logits = torch.zeros((1, channels, 1), device="cpu")
        target = torch.zeros(
            (1, fine) if mode == "multiclass" else (1, channels, fine), dtype=torch.uint8, device="cpu"
        )
        _triton.chosen.append("torch")
        try:
            with torch.no_grad():
                self._one_pixel(logits, target)
        finally:
            _triton.chosen.pop()

    def _lengths(self, options: dict[str, Any]) -> list[int]:
        """How many classes the options speak of."""
        found = [2, 2 if self.class_weights is None else len(self.class_weights)]
        tables = (options.get(name) for name in ("class_weights", "alpha", "pos_weight"))
        found += [torch.as_tensor(table, device="cpu").numel() for table in tables if table is not None]
        classes = options.get("classes")
        if classes is not None and not isinstance(classes, str):
            found.append(1 + max(torch.as_tensor(classes, device="cpu").reshape(-1).tolist(), default=0))
        for part in (options.get("options") or {}).values():
            found += self._lengths(part)
        return found

    def _one_pixel(self, logits: Tensor, target: Tensor) -> None:
        """The call of `_try_out`."""
        options = {name: value for name, value in self._options.items() if name != "process_group"}
        type(self)._function(logits, target, class_weights=self.class_weights, **options)

    def _interpolates(self) -> bool:
        """Whether it takes coarse logits: not if it sorts them, or if a subclass has another ``forward``."""
        own = "upsample" in inspect.signature(type(self).forward).parameters
        return own and "upsample" in self._options and not self._options.get("exact")

    def _group(self) -> Any:
        """Whose ranks share the loss: nobody's while evaluating, so that one rank alone may do so."""
        return self._options.get("process_group") if self.training else None

    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        pixel_weights: Tensor | None = None,
        labelled: Tensor | None = None,
        upsample: Upsample | None = None,
    ) -> Tensor:
        """Loss of ``logits`` against ``target``; shapes as for the function. ``upsample`` is for this call."""
        now = {"upsample": upsample, "labelled": labelled}
        options = {**self._options, **{name: value for name, value in now.items() if value is not None}}
        if "process_group" in options:
            options["process_group"] = self._group()
        return self.call(logits, target, pixel_weights, options)

    def call(self, logits: Tensor, target: Tensor, pixel_weights: Tensor | None, options: dict[str, Any]) -> Tensor:
        """The function, with the options of one call."""
        return type(self)._function(
            logits, target, class_weights=self.class_weights, pixel_weights=pixel_weights, **options
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Loss:
        """Move the weights as everything moves, but keep their digits: ``half()`` is not about them."""
        table, self.class_weights = self.class_weights, None
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if table is not None:
            place = fn(torch.empty(0, device=table.device)).device
            self.class_weights = table.to(place, torch.float32 if place.type == "mps" else table.dtype)
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        leave_out_others(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _alone(self) -> dict[str, Any]:
        """What this loss alone decides, as arguments of its function."""
        alone = {name: value for name, value in self._options.items() if name not in OF_ALL}
        return {**alone, "class_weights": self.class_weights}

    def _agrees(self, options: dict[str, Any]) -> bool:
        """Whether it means the same pixels, and the same mean of them, as ``options`` say."""
        return self._options.get("upsample") is None and all(self._options.get(k, v) == v for k, v in options.items())

    def extra_repr(self) -> str:
        """All options, as they were given."""
        weights = None if self.class_weights is None else [round(w, 6) for w in self.class_weights.tolist()]
        return ", ".join(f"{k}={v!r}" for k, v in {**self._options, "class_weights": weights}.items())
