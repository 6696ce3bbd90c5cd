"""stats: sums over the files equal NumPy on all the pixels, merge exactly, and survive bad files and dying workers."""

from __future__ import annotations

import functools
import json
import os
import signal
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
import tifffile

from segkit import stats
from segkit.errors import DataError

rng = np.random.default_rng


def random_set(dtype, channels, n=7, seed=0):
    r = rng(seed)
    top = np.iinfo(dtype).max if np.dtype(dtype).kind in "iu" else 1000
    images, masks = [], []
    for _ in range(n):
        shape = tuple(r.integers(40, 110, 2))
        scale = r.uniform(0.05, 1)
        images.append((r.random((*shape, channels)) * top * scale).astype(dtype))
        mask = r.integers(0, 4, shape).astype(np.uint8)
        mask[r.random(shape) < 0.1] = 255
        masks.append(mask)
    return images, masks


def statistics_of(images, masks):
    result = stats.DatasetStatistics()
    for image, mask in zip(images, masks, strict=True):
        result.add(image, mask)
    return result


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32", "float64"])
@pytest.mark.parametrize("channels", [1, 3, 13])
def test_statistics_equal_numpy_on_the_concatenated_pixels_without_ignored_ones(dtype, channels):
    images, masks = random_set(dtype, channels)
    pixels = np.concatenate([image[mask != 255] for image, mask in zip(images, masks, strict=True)]).astype(np.float64)
    result = statistics_of(images, masks)
    np.testing.assert_allclose(result.mean, pixels.mean(0), rtol=1e-9)
    np.testing.assert_allclose(result.std, pixels.std(0), rtol=1e-9)
    np.testing.assert_array_equal(result.min, pixels.min(0))
    np.testing.assert_array_equal(result.max, pixels.max(0))
    exact = np.dtype(dtype).itemsize <= 2
    for q, value in result.percentiles.items():
        # Wider types are binned with 7 bits of mantissa; interpolation between two values adds at most as much again.
        np.testing.assert_allclose(value, np.percentile(pixels, q, axis=0), rtol=1e-9 if exact else 1 / 128)


def test_classes_are_counted_without_ignored_pixels():
    images, masks = random_set("uint8", 1)
    every = np.concatenate([mask.ravel() for mask in masks])
    result = statistics_of(images, masks)
    assert result.class_pixels.tolist() == [int((every == c).sum()) for c in range(4)]
    assert result.class_images.tolist() == [sum(bool((mask == c).any()) for mask in masks) for c in range(4)]
    assert result.ignored_pixels == int((every == 255).sum())
    assert sum(result.sizes.values()) == len(images)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_merging_is_associative_and_knows_no_order(dtype):
    a, b, c = (statistics_of(*random_set(dtype, 3, seed=seed)) for seed in range(3))
    left = a.merge(b).merge(c).to_json()
    assert left == a.merge(b.merge(c)).to_json()
    assert left == c.merge(a).merge(b).to_json()
    assert left == a.merge(stats.DatasetStatistics()).merge(b.merge(c)).to_json()


def test_merging_changes_neither_part():
    a, b = (statistics_of(*random_set("uint8", 1, seed=seed)) for seed in range(2))
    before = a.to_json(), b.to_json()
    a.merge(b)
    assert (a.to_json(), b.to_json()) == before


def test_a_variance_does_not_cancel_away():
    image = np.full((100, 100, 1), 65_000, np.uint16)
    image[0, 0] = 65_001
    result = stats.DatasetStatistics()
    result.add(image)
    np.testing.assert_allclose(result.std, image.astype(np.float64).std(), rtol=1e-9)


def test_nan_and_infinity_are_left_out_and_counted():
    image = np.ones((10, 10, 1), np.float32)
    image[0, :3, 0] = np.nan, np.inf, -np.inf
    result = stats.DatasetStatistics()
    result.add(image)
    assert (result.mean.tolist(), result.std.tolist(), result.channels.non_finite) == ([1], [0], 3)


def test_labels_outside_the_classes_are_named():
    result = stats.DatasetStatistics(num_classes=2)
    result.add(np.zeros((2, 2, 1), np.uint8), np.array([[0, 1], [7, -1]]))
    assert result.class_pixels.tolist() == [1, 1]
    assert result.unexpected_labels == {-1: 1, 7: 1}


def test_mixed_kinds_are_kept_apart_and_the_commonest_answers():
    result = stats.DatasetStatistics()
    for _ in range(2):
        result.add(np.full((2, 2, 3), 5, np.uint8))
    result.add(np.full((2, 2, 1), 900, np.uint16))
    assert result.mean.tolist() == [5, 5, 5]
    assert result.kinds[("uint16", 1)].mean().tolist() == [900]


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(DataError, match=r"must have the image's height and width, \(2, 3\), got \(3, 2\)"):
        stats.DatasetStatistics().add(np.zeros((2, 3, 1), np.uint8), np.zeros((3, 2), np.uint8))


def test_no_pairs_and_no_images_are_named():
    with pytest.raises(DataError, match="at least one pair, got none"):
        stats.dataset_statistics([])
    with pytest.raises(DataError, match="at least one image"):
        _ = stats.DatasetStatistics().mean


def test_a_large_image_is_counted_band_by_band_with_the_same_result(tmp_path, monkeypatch):
    import importlib

    from segkit.io import write_image, write_mask

    images, masks = random_set("uint16", 3, n=3)
    pairs = []
    for i, (image, mask) in enumerate(zip(images, masks, strict=True)):
        write_image(tmp_path / f"i{i}.tif", np.tile(image, (9, 9, 1)))
        write_mask(tmp_path / f"m{i}.tif", np.tile(mask, (9, 9)))
        pairs.append((str(tmp_path / f"i{i}.tif"), str(tmp_path / f"m{i}.tif")))
    whole = stats.dataset_statistics(pairs, progress=False).to_json()
    monkeypatch.setattr(importlib.import_module("segkit.stats._reading"), "_BAND", 2**16)
    assert stats.dataset_statistics(pairs, progress=False).to_json() == whole
    write_mask(tmp_path / "m1.tif", masks[1])
    partial = stats.dataset_statistics(pairs, progress=False)
    assert [path for path, _ in partial.skipped] == [pairs[1][1]]
    assert partial.images == 2


@pytest.mark.parametrize("dtype", ["uint32", "int32", "uint64", "int64"])
def test_the_largest_and_smallest_numbers_of_a_type_do_not_wrap(dtype):
    ends = np.iinfo(dtype)
    result = stats.DatasetStatistics()
    result.add(np.array([[[ends.max], [ends.max], [ends.min]]], dtype))
    assert result.max[0] == float(ends.max)
    assert result.min[0] == float(ends.min)
    assert result.mean[0] == pytest.approx((2 * float(ends.max) + float(ends.min)) / 3)
    assert result.scale == float(ends.max)


@pytest.mark.parametrize("dtype", ["int16", "uint16", "int32", "uint32", "int64"])
def test_labels_of_any_width_are_counted_as_they_are(dtype):
    ends = np.iinfo(dtype)
    result = stats.DatasetStatistics(num_classes=2)
    result.add(np.zeros((1, 4, 1), np.uint8), np.array([[0, 1, ends.max, ends.min]], dtype))
    assert result.unexpected_labels == dict.fromkeys({ends.max, ends.min} - {0}, 1)


# --- files as people have them


def write_pair(folder, image, mask, name="a", **options):
    import tifffile

    from segkit.io import write_mask

    tifffile.imwrite(folder / f"{name}.tif", image, metadata=None, **options)
    write_mask(folder / f"{name}.png", mask)
    return str(folder / f"{name}.tif"), str(folder / f"{name}.png")


@pytest.mark.parametrize("limit", [2**26, 2**12], ids=["whole", "in bands"])
def test_pixels_without_data_count_in_no_statistic(tmp_path, monkeypatch, limit):
    from segkit import io

    if "nodata" not in io.ImageInfo.__dataclass_fields__:
        monkeypatch.setattr(io.ImageInfo, "nodata", -9999.0, raising=False)
    monkeypatch.setattr("segkit.stats._reading._BAND", limit)
    image = rng(0).normal(100, 5, (600, 40)).astype(np.float32)
    image[:, :20] = -9999
    mask = rng(1).integers(0, 3, (600, 40)).astype(np.uint8)
    pair = write_pair(tmp_path, image, mask, tile=(16, 16), extratags=[(42113, 2, 0, "-9999", True)])
    result = stats.dataset_statistics([pair], progress=False)
    assert result.mean[0] == pytest.approx(image[:, 20:].mean(dtype=np.float64), rel=1e-9)
    assert result.min[0] > 0
    assert result.class_pixels.tolist() == np.bincount(mask[:, 20:].ravel()).tolist()


@pytest.mark.parametrize(
    ("nodata", "dtype"), [(0, "uint8"), (-1, "int16"), (65535, "uint16"), (0.5, "uint8"), (float("nan"), "float32")]
)
def test_where_there_are_data_is_what_the_value_says(nodata, dtype):
    from segkit.stats._reading import with_data

    pixels = np.ones((2, 2, 2), dtype)
    if nodata != 0.5:
        pixels[0, 0], pixels[1, 1, 0] = nodata, nodata
    there = with_data(pixels, nodata)
    assert (there is None) == (nodata == 0.5)
    assert there is None or there.tolist() == [[False, True], [True, True]], "all channels decide"
    assert with_data(pixels, None) is None


@pytest.mark.parametrize(
    ("remap", "unmapped", "pixels", "ignored"),
    [
        ({0: 0, 7: 1, 9: 1}, "error", [4, 3], 1),
        ({7: 0}, 1, [1, 6], 1),
        ({7: 1}, 255, [0, 1], 7),
        ({9: 1}, "keep", [4, 2, 0, 0, 0, 0, 0, 1], 1),
        ({0: 0, 7: 1, 9: 255, 255: 2}, "error", [4, 1, 1], 2),
    ],
)
def test_classes_are_given_new_numbers_as_a_data_set_gives_them(tmp_path, remap, unmapped, pixels, ignored):
    from segkit import labels

    mask = np.array([[0, 0, 0, 0], [7, 9, 9, 255]], np.uint8)
    image = np.arange(8, dtype=np.uint8).reshape(2, 4) * 10
    pair = write_pair(tmp_path, image, mask)
    result = stats.dataset_statistics([pair], remap=remap, unmapped=unmapped, progress=False)
    assert (result.class_pixels.tolist(), result.ignored_pixels) == (pixels, ignored)
    new = labels.remap(mask, {255: 255, **remap}, unmapped=unmapped)
    assert result.mean[0] == pytest.approx(image[new != 255].mean())


def test_a_label_that_the_new_numbers_do_not_name_leaves_the_file_out_and_is_said(tmp_path):
    pair = write_pair(tmp_path, np.zeros((1, 2), np.uint8), np.array([[0, 7]], np.uint8))
    result = stats.dataset_statistics([pair], remap={0: 0}, progress=False)
    assert result.images == 0
    assert result.skipped == [(pair[1], "it has the labels [7], which `remap` does not name; pass unmapped=")]


def test_masks_of_0_and_255_are_said_once_with_what_to_type(tmp_path):
    mask = np.array([[0, 0, 255, 255]], np.uint8)
    pairs = [write_pair(tmp_path, np.zeros((1, 4), np.uint8), mask, name) for name in "abc"]
    with pytest.warns(UserWarning, match=r"255 is ignored: 6 pixels .* pass remap=\{0: 0, 255: 1\}") as said:
        stats.dataset_statistics(pairs, progress=False)
    assert len(said) == 1
    for remap in ({0: 0, 255: 1}, {0: 0, 255: 255}):
        stats.dataset_statistics(pairs, remap=remap, progress=False)  # warnings are errors in the tests
    stats.dataset_statistics(pairs, ignore_index=None, progress=False)


def test_a_pair_of_several_files_is_one_image_and_one_mask(tmp_path):
    from segkit.io import write_image, write_mask

    bands = [rng(i).integers(0, 4000, (5, 6, 1)).astype(np.uint16) for i in range(3)]
    objects = [np.eye(5, 6, k, np.uint8) * 200 for k in (0, 2)]
    for i, band in enumerate(bands):
        write_image(tmp_path / f"b{i}.tif", band)
    for i, one in enumerate(objects):
        write_mask(tmp_path / f"o{i}.png", one)
    pair = [str(tmp_path / f"b{i}.tif") for i in range(3)], [str(tmp_path / f"o{i}.png") for i in range(2)]
    result = stats.dataset_statistics([pair], progress=False)
    np.testing.assert_allclose(result.mean, [band.mean() for band in bands])
    assert result.class_pixels.tolist() == [21, 9]


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_the_scale_is_the_stored_value_that_a_data_set_makes_one(request, tmp_path, bits):
    from segkit.datasets import PairDataset
    from segkit.io import image_info

    image = rng(0).integers(0, 1 << bits, (24, 32)).astype(np.uint8 if bits == 8 else np.uint16)
    options = {"bitspersample": 12} if bits == 12 else {}
    if bits == 12:
        request.getfixturevalue("pack_bits")
    pair = write_pair(tmp_path, image, np.zeros((24, 32), np.uint8), photometric="minisblack", **options)
    assert image_info(pair[0]).bits_per_sample == bits
    result = stats.dataset_statistics([pair], progress=False)
    assert result.scale == (1 << bits) - 1
    seen = float(PairDataset([pair])[0]["image"].double().mean())
    assert result.mean[0] / result.scale == pytest.approx(seen, rel=1e-5)
    assert stats.recommend_normalization(result).mean[0] == pytest.approx(seen, rel=1e-5)


def test_files_of_several_depths_have_no_scale_and_say_so():
    one, two = (stats.DatasetStatistics() for _ in range(2))
    for each, bits in ((one, 12), (two, 16)):
        each.add(np.ones((2, 2, 1), np.uint16))
        each.channels.depths = {bits: 1}
    with pytest.raises(DataError, match="one depth, got 1 of 12 bits, 1 of 16 bits"):
        _ = one.merge(two).scale


# --- class weights


def test_inverse_weights_have_mean_one_over_the_pixels():
    counts = np.array([900, 90, 9, 1])
    weights = stats.class_weights(counts).numpy()
    np.testing.assert_allclose((weights * counts).sum() / counts.sum(), 1, rtol=1e-6)
    np.testing.assert_allclose(weights * counts, np.full(4, 250), rtol=1e-6)


def test_the_schemes_follow_their_formulas():
    counts = np.array([60.0, 30, 10])
    p = counts / 100
    expected = {
        "median": 0.3 / p,
        "log": 1 / np.log(1.02 + p),
        "effective": 1 / (1 - np.exp(-p)) / (1 / (1 - np.exp(-p))).mean(),
    }
    for scheme, weights in expected.items():
        np.testing.assert_allclose(stats.class_weights(counts, scheme).numpy(), weights, rtol=1e-6)
    by_hand = np.array([0.01 / (1 - 0.99**n) for n in counts])  # Cui et al., equation 2
    got = stats.class_weights(counts, "effective", beta=0.99).numpy()
    np.testing.assert_allclose(got, by_hand / by_hand.mean(), rtol=1e-6)


@pytest.mark.parametrize("scheme", ["inverse", "median", "effective", "log"])
def test_weights_do_not_depend_on_the_scale_and_are_zero_for_absent_classes(scheme):
    one, many = stats.class_weights([6, 0, 3], scheme), stats.class_weights([6e9, 0, 3e9], scheme)
    np.testing.assert_allclose(one.numpy(), many.numpy(), rtol=1e-6)
    assert one[1] == 0
    assert 0 < one[0] < one[2]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            ([1, 2], "median_frequency"),
            "`scheme` must be one of inverse, median, effective, log, got 'median_frequency'",
        ),
        (([0, 0],), "a class that occurs, got zeros only"),
        (([1, -1],), r"finite numbers >= 0, one for each class, got \[1.0, -1.0\]"),
        (([],), "one for each class"),
        (([[1, 2]],), "one for each class"),
    ],
)
def test_impossible_weights_are_refused(arguments, text):
    with pytest.raises(ValueError, match=text):
        stats.class_weights(*arguments)


# --- running over many files


def add_up(items):
    return [sum(items)]


def flatten(results):
    return [value for result in results for value in result]


def kill_at(fatal, once, items):
    """The sum of items, but the worker is killed at the fatal ones: always, or until the file `once` is there."""
    for item in items:
        if item in fatal and not (once and os.path.exists(once)):
            if once:
                open(once, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
    return list(items)


def fail_at(fatal, items):
    if fatal in items:
        raise RuntimeError("KilledWorker")
    return list(items)


@pytest.mark.parametrize("workers", [None, 1, 3])
def test_results_come_in_the_order_of_the_items(workers):
    executor = ThreadPoolExecutor(workers) if workers else None
    results = stats.map_in_chunks(list, range(200), on_lost=None, executor=executor, progress=False)
    assert flatten(results) == list(range(200))


def test_a_killed_worker_is_replaced_and_its_files_are_done_again(tmp_path):
    function = functools.partial(kill_at, {57}, str(tmp_path / "killed"))
    results = stats.map_in_chunks(function, range(200), on_lost=lambda item, reason: [-item], progress=False)
    assert flatten(results) == list(range(200))


def test_an_item_that_kills_each_worker_costs_itself_only():
    reasons = []

    def lost(item, reason):
        reasons.append(reason)
        return [-item]

    results = flatten(
        stats.map_in_chunks(functools.partial(kill_at, {57}, ""), range(120), on_lost=lost, progress=False)
    )
    assert results == [-57 if i == 57 else i for i in range(120)]
    assert len(reasons) == 1
    assert "died twice" in reasons[0]


def test_the_callers_own_pool_may_break_too():
    with ProcessPoolExecutor(2) as pool:
        function = functools.partial(kill_at, {3}, "")
        results = stats.map_in_chunks(function, range(50), on_lost=lambda i, _: [-i], executor=pool, progress=False)
        assert flatten(results) == [-3 if i == 3 else i for i in range(50)]


def test_a_failure_reported_by_a_foreign_executor_costs_the_item_only():
    with ThreadPoolExecutor(2) as pool:
        function = functools.partial(fail_at, 20)
        results = stats.map_in_chunks(function, range(50), on_lost=lambda i, r: [r], executor=pool, progress=False)
        values = flatten(results)
    assert values[20] == "the worker failed twice on it: RuntimeError: KilledWorker"
    assert values[:20] + values[21:] == [*range(20), *range(21, 50)]


def test_statistics_are_json():
    content = json.loads(statistics_of(*random_set("uint8", 3)).to_json())
    assert content["kinds"][0]["channels"] == 3
    assert len(content["kinds"][0]["mean"]) == 3


# --- drift


def one_image_set(values, dtype=np.uint8):
    result = stats.DatasetStatistics()
    result.add(np.asarray(values, dtype).reshape(1, -1, 1))
    return result


def test_the_distance_is_scipys_wasserstein_distance_in_deviations():
    from scipy.stats import wasserstein_distance

    a, b = (rng(seed).normal(100 + 20 * seed, 10 + seed, 5000).clip(0, 255).astype(np.uint8) for seed in (0, 1))
    drift = stats.compare(one_image_set(a), one_image_set(b))
    np.testing.assert_allclose(drift.distance, wasserstein_distance(a, b) / a.std(), rtol=1e-9)
    np.testing.assert_allclose(drift.mean_shift, (b.mean() - a.mean()) / a.std(), rtol=1e-9)
    assert drift.level == "large"


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_set_does_not_drift_from_itself(dtype):
    images, masks = random_set(dtype, 3)
    drift = stats.compare(statistics_of(images, masks), statistics_of(images, masks))
    np.testing.assert_allclose(drift.distance, 0, atol=1e-12)
    np.testing.assert_allclose(drift.overlap, 1)
    np.testing.assert_allclose(drift.std_ratio, 1)
    assert np.abs(drift.class_shift).max() == 0
    assert drift.level == "none"
    assert json.loads(drift.to_json())["level"] == "none"


def test_normalisation_is_recommended_with_its_reason():
    a = one_image_set(rng(0).normal(100, 20, 4000).clip(0, 255))
    near, far = one_image_set(rng(1).normal(102, 20, 4000).clip(0, 255)), one_image_set(rng(1).normal(180, 20, 4000))
    fixed = stats.recommend_normalization(a, near)
    assert (fixed.method, round(float(fixed.mean[0]), 2)) == ("fixed", 0.39)
    own = stats.recommend_normalization(a, far)
    assert own.method == "per-image"
    assert "deviations from the training set" in own.reason
    centred = one_image_set(rng(0).normal(0, 1, 4000), np.float32)
    assert stats.recommend_normalization(centred).method == "none"


def test_sets_of_different_kinds_are_not_compared():
    with pytest.raises(DataError, match="1 channels of uint8, got 1 channels of uint16"):
        stats.compare(one_image_set([1, 2]), one_image_set([1, 2], np.uint16))
    with pytest.raises(TypeError, match="`test` must be DatasetStatistics or a list of pairs, got int"):
        stats.compare(one_image_set([1, 2]), 3)


def test_the_pages_of_a_stack_are_counted_as_they_are_said_to_be(tmp_path):
    rng = np.random.default_rng(0)
    volume = rng.integers(0, 255, (5, 16, 20), np.uint8)
    labels = (volume > 127).astype(np.uint8)
    tifffile.imwrite(tmp_path / "image.tif", volume, photometric="minisblack")
    tifffile.imwrite(tmp_path / "labels.tif", labels, photometric="minisblack")
    pairs = [(str(tmp_path / "image.tif"), str(tmp_path / "labels.tif"))]

    def count(**options):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return stats.dataset_statistics(pairs, progress=False, executor=ThreadPoolExecutor(1), **options)

    silent = count()
    assert (silent.images, [reason[:14] for _, reason in silent.skipped]) == (0, ["it has 5 pages"])
    each = count(pages="samples")
    assert (each.images, each.class_pixels.tolist()) == (5, np.bincount(labels.ravel()).tolist())
    np.testing.assert_allclose(each.mean, [volume.mean()])
    np.testing.assert_allclose(count(pages="channels").mean, volume.mean((1, 2)))
    np.testing.assert_allclose(count(pages="first").mean, [volume[0].mean()])
    with pytest.raises(ValueError, match="`pages` must be 'first', 'channels', 'samples' or None, got 'all'"):
        count(pages="all")
