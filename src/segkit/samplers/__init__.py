"""Which samples come, how large, in which order: samplers that are pure functions of (seed, epoch, position).

A sampler yields `SampleKey`: an int, so any map-style data set takes it, that also carries the size, the epoch and a
generator for the sample's augmentation. No order is stored and no global randomness is read. Each pass is another
epoch; `set_epoch` is optional. `state_dict()` is a few plain numbers, and resuming is immediate.

Example:
    >>> from segkit.samplers import ShuffleSampler
    >>> sampler = ShuffleSampler(6, seed=0, rank=0, world_size=2)
    >>> key = next(iter(sampler))
    >>> isinstance(key, int), key.epoch, len(sampler)
    (True, 0, 3)
    >>> sampler.state_dict()["consumed"]
    1
"""

from segkit.samplers._base import Sampler
from segkit.samplers._difficulty import DifficultySampler
from segkit.samplers._key import SampleKey
from segkit.samplers._multi_scale import MultiScaleBatchSampler
from segkit.samplers._ordered import Order, OrderedSampler
from segkit.samplers._schedules import AfterEpoch, GrowingScales, LinearSchedule, StepSchedule
from segkit.samplers._shuffle import ShuffleSampler
from segkit.samplers._weighted import ClassBalancedSampler, RepeatFactorSampler
from segkit.samplers._weights import WeightedSampler

__all__ = [
    "AfterEpoch",
    "ClassBalancedSampler",
    "DifficultySampler",
    "GrowingScales",
    "LinearSchedule",
    "MultiScaleBatchSampler",
    "Order",
    "OrderedSampler",
    "RepeatFactorSampler",
    "SampleKey",
    "Sampler",
    "ShuffleSampler",
    "StepSchedule",
    "WeightedSampler",
]
