"""Sums of losses that share the one pass over the pixels."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from segkit import IGNORE_INDEX
from segkit.losses import _centre_lines, _components, _cross_entropy, _dice_and, _hardest, _lovasz, _maps, _overlap
from segkit.losses._arguments import Classes, Ignored, Mode, Reduction, Upsample, Weights, choice, flatten
from segkit.losses._engine.one_pass import Formula, Weighted, total
from segkit.losses._engine.reduce import Absent, Scope
from segkit.losses._engine.wanted import asking
from segkit.losses._module import Loss
from segkit.losses._region import region_loss

__all__ = ["CompoundLoss", "Details", "combine"]


FILES = (_overlap, _cross_entropy, _lovasz, _hardest, _centre_lines, _maps, _dice_and, _components)
LOSSES: dict[str, Callable[..., Tensor]] = {
    name: getattr(file, name) for file in FILES for name in file.__all__ if name.islower()
}
WITH_BOTH = ("component_dice_ce",)  # which take what is made in the loader beside the target
WITH_MAPS = ("boundary", "skeleton_recall", *WITH_BOTH)  # whose target is made in the loader
OF_ALL = (
    "mode",
    "ignore_index",
    "upsample",
    "pixel_weights",
    "labelled",
    "reduction",
    "process_group",
)  # not for one part alone
PartOrWeight: TypeAlias = "float | tuple[Formula | Callable[..., Tensor], float]"


class Details(NamedTuple):
    """What a compound was made of, without gradients, from the same pass.

    Example:
        >>> import torch
        >>> loss = CompoundLoss({"dice": 1.0, "cross_entropy": 0.5})
        >>> total, details = loss(torch.zeros(1, 2, 2), torch.tensor([[0, 1]]), details=True)
        >>> details.parts["dice"], details.per_sample  # 1/2, log 2
        (tensor(0.5000), tensor([0.6931]))
    """

    parts: dict[str, Tensor]
    """Name -> what the part is alone, before its weight: a scalar on the device of the logits."""
    per_sample: Tensor | None
    """Mean of the first loss of pixels in each image, [B], weighted as the part is; NaN where nothing counts; None
    without such a part. What `mining.DifficultyLedger.update` takes."""


def combine(
    parts: Mapping[str, PartOrWeight],
    *,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    mode: Mode = "multiclass",
    ignore_index: Ignored = IGNORE_INDEX,
    class_weights: Weights | None = None,
    upsample: Upsample | None = None,
    scope: Scope = "image",
    classes: Classes | None = None,
    absent: Absent = "skip",
    reduction: Reduction = "mean",
    process_group: Any = None,
) -> _Compound:
    """A weighted sum of losses as one function, from one pass over the pixels.

    Args:
        parts: name -> weight, for the losses of `segkit.losses.functional` by their names; or name -> (yours, weight),
            with a formula as for `region_loss`, or any loss that is called with logits and target. Formulas of regions
            and one of ``"cross_entropy"``, ``"binary_cross_entropy"`` and ``"focal"`` share the pass; another of these
            three takes one more, and so does each other loss.
        options: name -> options of that part, for example ``{"tversky": {"alpha": 0.3, "beta": 0.7}}``; they come
            before those below. A formula has the options of `region_loss`.
        mode: as for `cross_entropy`, for all parts; so are the options below.
        class_weights: C numbers.
        scope: of the region losses.
        classes: of the region losses.
        absent: of the region losses.
        reduction: ``"mean"`` or ``"sum"``, of each part.

    All else is as for `cross_entropy`.

    Returns:
        A function of ``(logits, target, *, pixel_weights=None, labelled=None, targets=None, details=False)`` that gives
        a scalar; with ``details`` the scalar and `Details`. ``targets``: name -> the maps that ``"boundary"`` and
        ``"skeleton_recall"`` take instead of the target, and ``"component_dice_ce"`` beside it.

    Raises:
        ValueError: an unknown part or option.

    Example:
        >>> import torch
        >>> loss = combine({"dice": 1.0, "cross_entropy": 0.5})
        >>> loss(torch.zeros(1, 2, 2), torch.tensor([[0, 1]]))  # 1/2 + log(2) / 2
        tensor(0.8466)
        >>> volume = lambda s: (s.prediction - s.truth).abs() / (s.prediction + s.truth)
        >>> loss = combine({"volume": (volume, 1.0), "cross_entropy": 0.5})  # still one pass
        >>> loss(torch.zeros(1, 2, 2), torch.tensor([[0, 1]]))  # 0 + log(2) / 2
        tensor(0.3466)
    """
    choice("combine", "reduction", reduction, ("mean", "sum"))
    options = {} if options is None else options
    if not parts:
        raise ValueError(f"combine: `parts` must name at least one loss, got none. Known are {', '.join(LOSSES)}.")
    for name in options:
        choice("combine", "options", name, tuple(parts))
    of_all = {"mode": mode, "ignore_index": ignore_index, "reduction": reduction, "process_group": process_group}
    defaults = {"class_weights": class_weights, "scope": scope, "classes": classes, "absent": absent}
    members = {name: _member(name, given, options.get(name, {}), defaults, of_all) for name, given in parts.items()}
    return _Compound(members, of_all, upsample)


class _Member(NamedTuple):
    """One part: its loss with its options, and whether it may ask for a share of the pass."""

    loss: Callable[..., Tensor]
    options: dict[str, Any]
    shares: bool
    known: frozenset[str] = frozenset()  # its options: to ask at each call takes time, and confuses a compiler

    def of(self, options: dict[str, Any]) -> dict[str, Any]:
        """Those of the options that this loss has."""
        return {name: value for name, value in options.items() if name in self.known}


class _Compound:
    """The losses of `combine`, made ready; ``weights`` may be changed between calls."""

    def __init__(
        self, members: dict[str, tuple[float, _Member]], of_all: dict[str, Any], upsample: Upsample | None
    ) -> None:
        self.weights = {name: weight for name, (weight, _) in members.items()}
        self.members = {name: member for name, (_, member) in members.items()}
        self.of_all, self.upsample = of_all, upsample

    def __call__(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        pixel_weights: Tensor | None = None,
        labelled: Tensor | None = None,
        targets: Mapping[str, Tensor] | None = None,
        details: bool = False,
        **now: Any,
    ) -> Any:
        """The loss; ``now`` are options of all parts for this call."""
        of_all = {**self.of_all, **now}
        upsample, group = of_all.pop("upsample", None) or self.upsample, of_all["process_group"]
        weights = of_all.pop("class_weights", None)
        mode, ignored = of_all["mode"], of_all["ignore_index"]
        flat = flatten("combine", logits, target, mode, ignored, None, pixel_weights, upsample, labelled)
        notes: dict[str, list[tuple[float, list[Tensor]]]] = {}
        shared: list[Weighted] = []
        alone: list[Tensor] = []
        samples: list[Tensor] = []
        for name, member in self.members.items():
            weight, loss, mine = self.weights[name], member.loss, dict(member.options)
            if weights is not None and mine.get("class_weights", 0) is None:
                mine["class_weights"] = weights
            wanted: list[Weighted] = []
            if member.shares and name not in WITH_MAPS:
                value = loss(asking(flat, wanted), target, **mine, **member.of(of_all))
            elif member.shares:
                maps = _maps_of(name, targets)
                common = {**of_all, "pixel_weights": pixel_weights, "upsample": upsample}
                compared = (target, maps) if name in WITH_BOTH else (maps,)
                value = loss(logits, *compared, **mine, **member.of(common))
            else:
                weighted = {"pixel_weights": pixel_weights} if isinstance(loss, Loss) else {}
                value = loss(logits, target, **weighted)
            notes[name] = [(some.weight, []) for some in wanted] or [(1.0, [value.detach()])]
            if wanted:
                of_part = zip(wanted, notes[name], strict=True)
                shared += [
                    Weighted(weight * some.weight, some.part, note if details else None) for some, (_, note) in of_part
                ]
            else:
                alone.append(weight * value)
        if shared:
            alone.insert(0, total(flat, shared, of_all["reduction"], group, samples if details else None))
        value = functools.reduce(torch.add, alone)
        if not details:
            return value
        values = {name: functools.reduce(torch.add, [f * n[0] for f, n in each]) for name, each in notes.items()}
        return value, Details(values, samples[0] if samples else None)


def _maps_of(name: str, targets: Mapping[str, Tensor] | None) -> Tensor:
    if targets is None or name not in targets:
        raise ValueError(
            f"combine: `targets` must hold what {name!r} is compared with, made in the loader, got "
            f"{sorted(targets or {})}. Pass targets={{{name!r}: ...}} beside logits and target."
        )
    return targets[name]


def _member(
    name: str, given: PartOrWeight, options: Mapping[str, Any], defaults: dict[str, Any], of_all: dict[str, Any]
) -> tuple[float, _Member]:
    """Weight and loss of a part, if they can be."""
    weight, loss = (given[1], given[0]) if isinstance(given, tuple) else (given, None)
    if not math.isfinite(weight):
        raise ValueError(f"combine: the weight of {name!r} must be finite, got {weight}.")
    own: dict[str, Any] = {}
    if loss is None:
        choice("combine", "parts", name, tuple(LOSSES))
        loss = LOSSES[name]
    elif isinstance(loss, Loss) and type(loss)._shares and loss._agrees(of_all):
        own, loss = loss._alone(), type(loss)._function
        defaults = {}
    elif loss not in LOSSES.values() and _takes_sums(loss):
        loss = partial(region_loss, loss)
    elif loss not in LOSSES.values():
        for option in options:
            choice("combine", f"options[{name!r}]", option, ())
        return float(weight), _Member(loss, {}, False)
    known = inspect.signature(loss).parameters
    special = [p for p, how in known.items() if how.kind is how.KEYWORD_ONLY and p not in OF_ALL]
    special.sort(key=lambda p: p in ("class_weights", "scope", "classes", "absent"))  # what is special comes first
    for option in options:
        choice("combine", f"options[{name!r}]", option, tuple(special))
    if "absent" not in special:  # elsewhere scope and classes mean something else
        defaults = {name: value for name, value in defaults.items() if name == "class_weights"}
    return float(weight), _Member(loss, {**defaults, **own, **options}, True, frozenset(known))


def _takes_sums(loss: Callable[..., Tensor]) -> bool:
    """Whether this is a formula, of one argument, and no loss of logits and target."""
    if isinstance(loss, nn.Module):
        return False
    parameters = inspect.signature(loss).parameters.values()
    return len([p for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]) == 1


class CompoundLoss(Loss):
    """`functional.combine` as a module; see there for the options. A weight may be changed: ``set_weight``.

    Example:
        >>> import torch
        >>> loss = CompoundLoss({"dice": 1.0, "cross_entropy": 0.5})
        >>> loss(torch.zeros(1, 2, 2), torch.tensor([[0, 1]]))  # 1/2 + log(2) / 2
        tensor(0.8466)
        >>> loss.set_weight("cross_entropy", 0.0)
        >>> loss(torch.zeros(1, 2, 2), torch.tensor([[0, 1]]))
        tensor(0.5000)
    """

    _shares = False

    def __init__(
        self,
        parts: Mapping[str, PartOrWeight],
        *,
        options: Mapping[str, Mapping[str, Any]] | None = None,
        mode: Mode = "multiclass",
        ignore_index: Ignored = IGNORE_INDEX,
        class_weights: Weights | None = None,
        upsample: Upsample | None = None,
        scope: Scope = "image",
        classes: Classes | None = None,
        absent: Absent = "skip",
        reduction: Reduction = "mean",
        process_group: Any = None,
    ) -> None:
        options = {name: dict(mine) for name, mine in (options or {}).items()}
        parts = dict(parts)
        super().__init__(locals())

    def _prepare(self) -> None:
        """Look at all parts and options; makes the compound, which is called."""
        self._compound = combine(**self._options)
        for name, member in self._compound.members.items():
            if isinstance(member.loss, nn.Module):
                self.add_module(f"part_{name}", member.loss)  # so that it moves and is evaluated along

    def _one_pixel(self, logits: Tensor, target: Tensor) -> None:
        """Try the parts that share the pass; what else is called may want more than a pixel."""
        known = {name: (1.0, member) for name, member in self._compound.members.items() if member.shares}
        maps = {"boundary": logits.new_zeros((*logits.shape[:2], target.shape[-1])), "skeleton_recall": target}
        maps["component_dice_ce"] = target.reshape(len(target), -1).int()
        if known:
            trial = _Compound(known, {**self._compound.of_all, "process_group": None}, self._compound.upsample)
            trial(logits, target, targets=maps, class_weights=self.class_weights)

    def set_weight(self, name: str, value: float) -> None:
        """Change the weight of a part, for example between epochs."""
        choice(type(self).__name__, "name", name, tuple(self._compound.weights))
        if not math.isfinite(value):
            raise ValueError(f"{type(self).__name__}: `value` must be finite, got {value}.")
        self._compound.weights[name] = float(value)
        given = self._options["parts"][name]
        self._options["parts"][name] = (given[0], float(value)) if isinstance(given, tuple) else float(value)

    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        pixel_weights: Tensor | None = None,
        labelled: Tensor | None = None,
        upsample: Upsample | None = None,
        targets: Mapping[str, Tensor] | None = None,
        details: bool = False,
    ) -> Any:
        """The loss, or with ``details`` the loss and its `Details`; the rest is for this call."""
        now = {"upsample": upsample, "class_weights": self.class_weights, "process_group": self._group()}
        given: dict[str, Any] = {"pixel_weights": pixel_weights, "labelled": labelled, "targets": targets}
        given["details"] = details
        return self._compound(logits, target, **given, **now)
