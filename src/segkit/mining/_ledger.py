"""A memory of each sample's losses: which ones are easy, which are hard, and which never get better."""

from __future__ import annotations

import functools
import operator
import os
import warnings
import weakref
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from segkit.errors import DataError
from segkit.mining import _files, _reduce, _report
from segkit.mining._tags import Tag, tags_by_rank
from segkit.mining._take_in import Noted, take_in, usable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_NOTED = 2**16  # losses noted before they are taken in: 1.3 MiB


class _OnClassOrLedger:
    """A method that fills the ledger it is called on, or makes a new one where it is called on the class."""

    def __init__(self, function: Callable[..., DifficultyLedger]) -> None:
        self._function = function
        self.__doc__ = function.__doc__

    def __get__(self, ledger: DifficultyLedger | None, kind: type[DifficultyLedger]) -> Callable[..., DifficultyLedger]:
        return functools.wraps(self._function)(functools.partial(self._function, kind, ledger))


class DifficultyLedger:
    """Remembers for each sample how hard it has been: a running mean of its losses and what was seen with them.

    Feed it the per-sample losses of each training step; ask it which samples are easy or hard. It holds 22 bytes per
    sample, in memory or, with `path`, in a memory-mapped file that outlives the process. Losses that are not finite
    are left out and counted. `update` only notes the losses; they are taken in when someone looks, when the ledger is
    saved or dropped, or when 65,536 wait.

    Args:
        num_samples: number of samples; indices are [0, num_samples).
        momentum: share of the old running loss that an update keeps, [0, 1). The first loss is taken as it is.
        path: file of the memory map; made (sparse) if it does not exist, else opened and continued.
        fingerprint: of the data set (`mining.fingerprint`); a saved ledger of another one is then refused.

    Example:
        >>> ledger = DifficultyLedger(4, momentum=0.5)
        >>> ledger.update([0, 1, 2], torch.tensor([0.1, 0.8, 3.0]), positive=[False, True, True])
        >>> ledger.update([2], [1.0])
        >>> ledger.losses()  # sample 2: 0.5 * 3.0 + 0.5 * 1.0; sample 3 was never seen
        array([0.1, 0.8, 2. , nan], dtype=float32)
        >>> tags = ledger.tags(easy=0.3, hard=0.3)
        >>> (tags & Tag.HARD) > 0, (tags & Tag.POSITIVE) > 0
        (array([False, False,  True, False]), array([False,  True,  True, False]))

    Source: Shrivastava et al. 2016 mine hard examples within a batch; this keeps the losses across batches and epochs,
    as in Katharopoulos and Fleuret 2018.
    """

    def __init__(
        self,
        num_samples: int,
        *,
        momentum: float = 0.9,
        path: str | os.PathLike[str] | None = None,
        fingerprint: str | None = None,
    ) -> None:
        if isinstance(num_samples, bool) or not hasattr(num_samples, "__index__") or not 0 <= num_samples <= 2**40:
            raise ValueError(
                f"DifficultyLedger: `num_samples` must be a whole number in [0, 2**40], got {num_samples!r}. "
                "Pass len(data_set)."
            )
        if not 0 <= momentum < 1:
            raise ValueError(f"DifficultyLedger: `momentum` must lie in [0, 1), got {momentum}.")
        self.num_samples, self.momentum, self.fingerprint = operator.index(num_samples), float(momentum), fingerprint
        self.path = None if path is None else os.fspath(path)
        self._frozen: int | None = None  # the epoch whose tags are frozen
        self._checksum = 0
        self._moves: list[tuple[int, list[list[int]]]] = []
        self._noted: list[Noted] = []
        self._open()

    def __repr__(self) -> str:
        fields = f"momentum={self.momentum}, path={self.path!r}, fingerprint={self.fingerprint!r}"
        return f"DifficultyLedger({self.num_samples}, {fields})"

    def __len__(self) -> int:
        return self.num_samples

    def update(
        self,
        indices: Sequence[int] | np.ndarray | Tensor,
        losses: Sequence[float] | np.ndarray | Tensor,
        *,
        positive: Sequence[bool] | np.ndarray | Tensor | None = None,
        correct: Sequence[bool] | np.ndarray | Tensor | None = None,
        epoch: int = 0,
    ) -> None:
        """Take in the losses of a batch. Tensors on an accelerator are copied to the host, once.

        Args:
            indices: which samples, whole numbers in [0, num_samples), shape `[B]`. One that comes twice is taken in
                twice, in this order.
            losses: one loss per sample, shape `[B]`, any floating dtype. NaN and infinite ones are left out, counted in
                `summary()`, and named in a warning.
            positive: whether the sample holds what is looked for, bool `[B]`.
            correct: whether the prediction was right, bool `[B]`.
            epoch: the epoch, [0, 65535); kept as when the sample was last seen.

        Raises:
            IndexError: an index is out of range.
            ValueError: the lengths differ.
        """
        where = _whole_numbers(indices)
        values = _host(losses, np.float64)
        is_positive = None if positive is None else _host(positive, np.bool_)
        is_correct = None if correct is None else _host(correct, np.bool_)
        for name, array in (("losses", values), ("positive", is_positive), ("correct", is_correct)):
            if array is not None and array.shape != where.shape:
                raise ValueError(
                    f"DifficultyLedger.update: `{name}` must have one value for each of the {where.size} `indices`, "
                    f"got shape {array.shape}. Reduce a loss map first with mining.per_sample_loss."
                )
        if not where.size:
            return
        if where.min() < 0 or where.max() >= self.num_samples:
            wrong = where[(where < 0) | (where >= self.num_samples)][0]
            raise IndexError(
                f"DifficultyLedger.update: `indices` must lie in [0, {self.num_samples}), got {wrong}. "
                "Is the ledger that of this data set?"
            )
        if not 0 <= epoch < 65535:
            raise ValueError(f"DifficultyLedger.update: `epoch` must lie in [0, 65535), got {epoch}.")
        self._noted.append(Noted(where, values, is_positive, is_correct, epoch))
        if len(self._noted) * where.size >= min(MOST_NOTED, max(4096, self.num_samples)):  # batches are much alike
            take_in(self._stored, self._noted, self.momentum)
        finite = usable(values)
        if not finite.all():
            named = ", ".join(str(index) for index in where[~finite][:5])
            warnings.warn(
                f"DifficultyLedger.update: {np.count_nonzero(~finite)} of {where.size} losses are not finite and were "
                f"left out, of samples {named}. summary() lists them.",
                RuntimeWarning,
                stacklevel=2,
            )

    @property
    def _records(self) -> np.ndarray:
        """The records, with all that was noted taken in; whoever asks reads all of them."""
        take_in(self._stored, self._noted, self.momentum)
        _files.read_ahead(self._stored, True)
        return self._stored

    def losses(self) -> np.ndarray:
        """The running loss of each sample, float32 `[N]`; NaN where none was seen."""
        return np.where(self._records["count"] > 0, self._records["loss"], np.float32(np.nan))

    def counts(self) -> np.ndarray:
        """How many losses of each sample were taken in, int64 `[N]`."""
        return self._records["count"].astype(np.int64)

    def last_seen(self) -> np.ndarray:
        """The epoch of each sample's last update, int64 `[N]`; -1 where there was none."""
        return self._records["epoch"].astype(np.int64) - 1

    def tags(self, easy: float = 0.3, hard: float = 0.2) -> np.ndarray:
        """What each sample is by now, as `Tag` values: uint8 `[N]`; 0 for a sample never seen.

        Args:
            easy: the share of the seen samples that are EASY, those with the smallest running losses; rounded up.
            hard: the share that are HARD, those with the largest; rounded up, before the easy ones. The rest is MEDIUM.

        Raises:
            ValueError: the shares are not in [0, 1], or add up to more than 1.
        """
        if not (0 <= easy <= 1 and 0 <= hard <= 1 and easy + hard <= 1 + 1e-9):
            raise ValueError(
                "DifficultyLedger.tags: `easy` and `hard` must lie in [0, 1] and add to at most 1, "
                f"got {easy} and {hard}."
            )
        records = self._records
        tags = tags_by_rank(records["loss"], records["count"] > 0, easy, hard)
        tags |= np.array([0, Tag.NEGATIVE, Tag.POSITIVE], dtype=np.uint8)[records["positive"]]
        return tags

    def noisy(self, *, patience: int = 5, fall: float = 0.9) -> np.ndarray:
        """Samples whose loss never fell while that of the whole data set did: look at their labels. Bool `[N]`.

        Args:
            patience: losses a sample must have had.
            fall: noisy is a sample whose running loss is at least this share of its first one, and above the median,
                once the mean over all samples has fallen below this share of theirs.

        Source: in the spirit of Pleiss et al. 2020, with the running loss in place of the area under the margin.
        """
        records = self._records
        seen = records["count"] >= patience
        losses, firsts = records["loss"], records["first"]
        if not seen.any() or losses[seen].mean(dtype=np.float64) >= fall * firsts[seen].mean(dtype=np.float64):
            return np.zeros(self.num_samples, dtype=bool)
        return seen & (losses >= fall * firsts) & (losses > np.median(losses[seen]))

    def freeze(self, epoch: int, *, easy: float = 0.3, hard: float = 0.2) -> tuple[np.ndarray, int]:
        """Fix what is easy and hard for an epoch: asked again for the same epoch, the answer is the same.

        `DifficultySampler` calls this when an epoch begins; updates during the epoch then leave its order alone, also
        after saving and loading.

        Args:
            epoch: which epoch.
            easy: as in `tags`.
            hard: as in `tags`.

        Returns:
            0 other, 1 easy or 2 hard for each sample, uint8 `[N]`; noisy samples are 0. And a checksum of it.
        """
        if self._frozen != epoch:
            tags = self.tags(easy, hard)
            tags[self.noisy() & ((tags & Tag.HARD) > 0)] |= np.uint8(Tag.NOISY)
            self._moves = [*self._moves, (epoch, _report.moves(self._records["tag"], tags))][-256:]
            self._records["tag"] = tags
            self._frozen, self._checksum = epoch, zlib.crc32(tags.tobytes())
            self._sync_header()
        pools = np.zeros(256, dtype=np.uint8)
        kinds = np.arange(256)
        pools[(kinds & Tag.EASY) > 0] = 1
        pools[((kinds & Tag.HARD) > 0) & ((kinds & Tag.NOISY) == 0)] = 2
        return pools[self._records["tag"]], self._checksum

    def summary(self, classes: Any = None) -> dict[str, Any]:
        """The state in plain numbers, ready for a log or JSON.

        Args:
            classes: one label per sample, to count the tags by; None: positive and negative ones.

        Returns:
            `num_samples`, `seen`, `updates`, `loss` (mean and percentiles of the running losses), `tags` (class ->
            unseen, easy, medium, hard), `not_finite` and `noisy` (how many samples, and the first twenty).
        """
        return _report.summary(self._records, self.tags(), self.noisy(), classes)

    def plot(self, classes: Any = None) -> Figure:
        """Three pictures: histogram of the losses, easy and hard by class, and how tags moved at the last freeze.

        Args:
            classes: one label per sample; None: positive and negative ones.

        Returns:
            A matplotlib figure; write it with `.savefig(path)`. Needs the extra `plot`.
        """
        return _report.plot(self._records, self.tags(), self._moves, classes)

    def all_reduce(self, group: Any = None) -> None:
        """Make the ledgers of all ranks one, so that each knows what any has seen. Call it at the end of an epoch.

        Samples that one rank saw (all, where a sampler divides them) end exactly as if one process had seen all.

        Args:
            group: a `torch.distributed` process group; None: the default one. Without one, nothing happens.
        """
        if dist.is_available() and dist.is_initialized():
            _reduce.all_reduce(self._records, group)

    # Keeping it -----------------------------------------------------------------------------------------------------

    def _header(self) -> dict[str, Any]:
        values = (self.num_samples, self.momentum, self.fingerprint, self._frozen, self._checksum, self._moves)
        return dict(zip(_files.HEADER_FIELDS, values, strict=True))

    def _take_header(self, header: dict[str, Any]) -> None:
        self._frozen, self._checksum = header["frozen"], header["checksum"]
        self._moves = [(epoch, counts) for epoch, counts in header["moves"]]

    def _sync_header(self) -> None:
        if self.path is not None:
            _files.rewrite_header(self.path, self._header())

    def _open(self) -> None:
        if self.path is None:
            self._stored = np.zeros(self.num_samples, dtype=_files.RECORD)
        else:
            header, self._stored = _files.open_map(self.path, self._header())
            self._take_header(header)
            # What is noted at the end of the process, or when the ledger is dropped, goes into the file as well.
            weakref.finalize(self, take_in, self._stored, self._noted, self.momentum)

    def state_dict(self) -> dict[str, Any]:
        """All of it, as plain numbers and tensors: `torch.save` it, and load it with `weights_only=True`."""
        columns = {name: torch.from_numpy(_signed(self._records[name])) for name in _files.COLUMNS}
        return {**self._header(), **columns}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a saved state.

        Raises:
            DataError: the state is of another data set, or is not the state of a ledger.
        """
        missing = {*_files.HEADER_FIELDS, *_files.COLUMNS} - state.keys()
        if missing:
            raise DataError(
                "DifficultyLedger.load_state_dict: `state` must be what state_dict() returned, "
                f"got one without {', '.join(sorted(missing))}."
            )
        _files.check_header("DifficultyLedger.load_state_dict", "`state`", state, self._header())
        for name in _files.COLUMNS:
            self._records[name] = state[name].numpy()
        self._take_header(state)
        self._sync_header()

    def save(self, path: str | os.PathLike[str] | None = None) -> None:
        """Write it to a file (NumPy's `.npz`, no pickle): whole or not at all, even if the process is killed.

        Args:
            path: the file. None: flush the memory map, which is a file already.

        Raises:
            ValueError: no path, and no memory map.
        """
        if path is not None:
            _files.write(os.fspath(path), self._header(), self._records)
        elif self.path is not None:
            _files.flush(self._records)
        else:
            raise ValueError("DifficultyLedger.save: `path` must be given, got None, and it is not memory-mapped.")

    @_OnClassOrLedger
    def load(  # noqa: D417, its first two arguments are filled in by the decorator
        kind: type[DifficultyLedger],
        ledger: DifficultyLedger | None,
        path: str | os.PathLike[str],
        *,
        fingerprint: str | None = None,
    ) -> DifficultyLedger:
        """Read what `save` wrote: `DifficultyLedger.load(path)` makes a ledger, `ledger.load(path)` fills that one.

        Args:
            path: the file.
            fingerprint: of your data set, to refuse a ledger of another one.

        Returns:
            The ledger.

        Raises:
            DataError: the file is damaged, or of another data set.
        """
        header, records = _files.read(os.fspath(path))
        if ledger is None:
            ledger = kind(header["num_samples"], momentum=header["momentum"], fingerprint=header["fingerprint"])
        mine = ledger._header() | ({} if fingerprint is None else {"fingerprint": fingerprint})
        _files.check_header("DifficultyLedger.load", repr(os.fspath(path)), header, mine)
        ledger._records[:] = records
        ledger._take_header(header)
        ledger._sync_header()
        return ledger

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__ | {"_stored": self._records, "_noted": []}
        if self.path is not None:  # another process opens the same file
            self.save()
            del state["_stored"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.path is not None:
            self._open()


def _host(values: Any, dtype: Any) -> np.ndarray:
    """Numbers from wherever they are, as a NumPy array."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = (values.double() if values.is_floating_point() else values).numpy()  # NumPy knows no bfloat16
    return np.array(values, dtype=dtype)  # a copy: it is kept for a while


def _whole_numbers(indices: Any) -> np.ndarray:
    array = indices.detach().cpu().numpy() if isinstance(indices, Tensor) else np.asarray(indices)
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(f"DifficultyLedger.update: `indices` must be whole numbers, got {array.dtype}.")
    if array.ndim != 1:
        raise ValueError(f"DifficultyLedger.update: `indices` must have one axis, got shape {array.shape}.")
    return array.astype(np.int64)


def _signed(column: np.ndarray) -> np.ndarray:
    """A copy in a dtype that every torch has operators for."""
    wider = {"u2": np.int32, "u4": np.int64}
    return np.array(column, dtype=wider.get(column.dtype.str[1:], column.dtype))
