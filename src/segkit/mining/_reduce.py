"""One ledger out of those of all ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

CHUNK = 2**18  # records at a time: the messages stay below 20 MiB however many samples there are


def all_reduce(records: np.ndarray, group: Any) -> None:
    """Make the records of all ranks equal, in place: what each took in since the last time goes to all.

    A sample that one rank took in becomes that rank's record, exactly. One that several took in (a pad) gets the mean
    of their running losses, weighted by how often each took it in, and the sum of the counts.
    """
    import torch.distributed as dist

    backend = dist.get_backend(group)
    device = torch.device("cuda", torch.cuda.current_device()) if backend == "nccl" else torch.device("cpu")

    def reduce(columns: list[np.ndarray], dtype: torch.dtype, op: Any) -> np.ndarray:
        packed = torch.from_numpy(np.stack(columns)).to(device, dtype)
        dist.all_reduce(packed, op=op, group=group)
        return packed.cpu().numpy()

    for start in range(0, len(records), CHUNK):
        part = np.array(records[start : start + CHUNK])
        fresh = part["fresh"].astype(np.float64)
        new = (fresh > 0) & (part["count"] == part["fresh"])  # first taken in since the last time
        # float64 holds count * float32 exactly, so that one rank's value comes back bit for bit
        sums = [fresh, fresh * part["loss"], new.astype(np.float64), np.where(new, part["first"], 0.0)]
        total, weighted, firsts, first = reduce(sums, torch.float64, dist.ReduceOp.SUM)
        seen = part["epoch"].astype(np.int64)
        # what was seen last wins; its epoch in front makes the maximum decide
        latest = [seen, seen * 4 + part["positive"], seen * 4 + part["correct"], part["rejected"].astype(np.int64)]
        epoch, positive, correct, rejected = reduce(latest, torch.int64, dist.ReduceOp.MAX)
        taken = total > 0
        part["loss"] = np.where(taken, weighted / np.maximum(total, 1), part["loss"])
        part["first"] = np.where(firsts > 0, first / np.maximum(firsts, 1), part["first"])
        part["count"] = part["count"] - part["fresh"] + total.astype(np.uint32)
        part["epoch"], part["positive"], part["correct"], part["rejected"] = epoch, positive % 4, correct % 4, rejected
        part["fresh"] = 0
        records[start : start + CHUNK] = part
