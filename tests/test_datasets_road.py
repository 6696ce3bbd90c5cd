"""From file to sample: the window that the transform needs is read, and the sample is that of the whole picture."""

from __future__ import annotations

import os
import tracemalloc
import warnings

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from segkit import io
from segkit import transforms as T
from segkit.datasets import GridDataset, PairDataset, expand_dataset
from segkit.errors import DataError
from segkit.samplers import SampleKey, ShuffleSampler
from segkit.stats import dataset_statistics

RNG = np.random.default_rng(0)


class Whole:
    """The same transform without the hand-over: the picture is read whole."""

    def __init__(self, transform):
        self.transform = transform

    def __call__(self, image, mask, **keywords):
        return self.transform(image, mask, **keywords)


def write(folder, name: str, image: np.ndarray, mask: np.ndarray, **options) -> tuple[str, str]:
    path, mask_path = str(folder / name), str(folder / f"{name}_mask.png")
    if name.endswith(".tif"):
        tifffile.imwrite(path, image, photometric="rgb" if image.shape[-1] == 3 else "minisblack", **options)
    else:
        Image.fromarray(image.squeeze()).save(path, **options)
    Image.fromarray(mask).save(mask_path)
    return path, mask_path


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """Pairs of every kind of file that can be read by windows, and of some that cannot."""
    folder = tmp_path_factory.mktemp("kinds")
    size = (97, 133)
    rgb = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
    deep = RNG.integers(0, 65536, (*size, 4), dtype=np.uint16)
    mask = RNG.integers(0, 4, size, dtype=np.uint8)
    tiles = {"tile": (32, 48), "compression": "deflate", "planarconfig": "contig"}
    turned = Image.Exif()
    turned[274] = 6
    pairs = {
        "png": write(folder, "rgb.png", rgb, mask),
        "grey": write(folder, "grey.png", rgb[..., :1], mask),
        "jpeg": write(folder, "rgb.jpg", rgb, mask, quality=95),
        "tiled": write(folder, "tiled.tif", deep, mask, **tiles),
        "planar": write(folder, "planar.tif", np.moveaxis(deep, -1, 0).copy(), mask, planarconfig="separate"),
        "strips": write(folder, "strips.tif", rgb, mask, rowsperstrip=7),
        "floats": write(folder, "floats.tif", RNG.random((*size, 2), dtype=np.float32), mask, planarconfig="contig"),
        "signed": write(folder, "signed.tif", deep.astype(np.int16), mask, planarconfig="contig"),
        "wide": write(folder, "wide.tif", deep[..., :2].astype(np.uint32) << 9, mask, planarconfig="contig"),
    }
    upright = write(folder, "turned.jpg", rgb.transpose(1, 0, 2).copy(), mask, exif=turned)
    return {**pairs, "turned": upright}


KINDS = ["png", "grey", "jpeg", "tiled", "planar", "strips", "floats", "signed", "wide", "turned"]
STEPS = {
    "flip": lambda: [T.HorizontalFlip(), T.VerticalFlip()],
    "turn": lambda: [T.Rotate90()],
    "pad": lambda: [T.PadTo(140, center=True)],
    "affine": lambda: [T.RandomAffine(25, scale=(0.7, 1.4), shear=5)],
    "elastic": lambda: [T.ElasticDeform(3, spacing=16)],
    "scale": lambda: [T.RandomScale((0.5, 2.0))],
}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(KINDS),
    steps=st.lists(st.sampled_from(list(STEPS)), max_size=3),
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    scale=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_the_sample_of_a_window_is_the_sample_of_the_whole_picture(kinds, kind, steps, size, scale, seed):
    members = [member for step in steps for member in STEPS[step]()]
    values = [T.ColorJitter(0.1, 0.1), T.Normalize(0.5, 0.25)] if scale else []
    augment = T.Compose([*members, T.PadTo(60), T.RandomCrop(size), *values])
    key = SampleKey(0, seed=seed)
    options = {"scale": scale, "orientation": "apply", "remap": {0: 0, 1: 1, 2: 2, 3: 2}}
    part = PairDataset([kinds[kind]], transform=augment, **options)[key]
    whole = PairDataset([kinds[kind]], transform=Whole(augment), **options)[key]
    assert part["image"].dtype == whole["image"].dtype
    assert torch.equal(part["mask"], whole["mask"])
    assert torch.equal(part["image"], whole["image"])  # resampled ones, too: the same places, rounded alike


# Fewer workers than batches, of which there are three, and more: a spawned one imports all anew.
@pytest.mark.filterwarnings("ignore:This DataLoader will create . worker processes")
@pytest.mark.parametrize(("how", "workers"), [("fork", 2), ("spawn", 2), ("fork", 8), ("spawn", 4)])
def test_workers_and_windows_change_no_bit_of_an_epoch(kinds, how, workers):
    members = [T.HorizontalFlip(), T.RandomAffine(25, scale=(0.7, 1.4)), T.RandomCrop(32), T.Normalize(0.5, 0.25)]
    pairs = [kinds["png"], kinds["jpeg"], kinds["turned"]] * 3

    def epoch(transform, workers):
        dataset = PairDataset(pairs, transform=transform, orientation="apply")
        sampler = ShuffleSampler(len(dataset), seed=3)
        context = how if workers else None
        loader = DataLoader(
            dataset, sampler=sampler, batch_size=3, num_workers=workers, multiprocessing_context=context
        )
        return [(batch["image"], batch["mask"], batch["index"]) for batch in loader]

    augment = T.Compose(members)
    truth = epoch(Whole(augment), 0)
    for one, alone, other in zip(truth, epoch(augment, 0), epoch(augment, workers), strict=True):
        assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(one, alone, other, strict=True))


def write_scene(folder, side: int, tile: int = 64) -> tuple[str, str]:
    """A scene of four bands and its mask, both in tiles, whose blocks are large enough to be told from headers."""
    paths = str(folder / f"{side}.tif"), str(folder / f"{side}_mask.tif")
    layout = {"tile": (tile, tile), "metadata": None}
    one = RNG.integers(0, 65536, (tile, tile, 4), dtype=np.uint16)
    scene = np.tile(one, (side // tile, side // tile, 1))
    tifffile.imwrite(paths[0], scene, photometric="minisblack", planarconfig="contig", **layout)
    tifffile.imwrite(paths[1], scene[..., 0].astype(np.uint8) % 5, photometric="minisblack", **layout)
    return paths


CROP = [T.RandomAffine(10, scale=(0.9, 1.1)), T.RandomCrop(64), T.Normalize([0.5] * 4, [0.25] * 4)]


def test_the_memory_of_a_sample_does_not_grow_with_its_scene(tmp_path):
    def peak(side):
        dataset = PairDataset([write_scene(tmp_path, side)], transform=T.Compose(CROP))
        dataset[SampleKey(0, seed=99)]  # what is loaded once
        peaks = []
        for seed in range(6):
            tracemalloc.start()
            dataset[SampleKey(0, seed=seed)]
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        return max(peaks)

    small, large = peak(256), peak(2048)  # 0.5 and 32 MiB
    assert large < 1.25 * small  # another number of blocks under the window
    assert large < 2 << 20


def test_of_a_tiled_scene_only_the_header_and_the_blocks_under_the_crop_are_read(tmp_path, monkeypatch):
    pair = write_scene(tmp_path, 2048)
    read: list[int] = []
    plain = os.pread

    def noted(fd, count, offset):
        read.append(count)
        return plain(fd, count, offset)

    monkeypatch.setattr(os, "pread", noted)
    for seed in range(6):
        read.clear()
        PairDataset([pair], transform=T.Compose(CROP))[SampleKey(0, seed=seed)]
        # The crop, turned by up to 10 degrees and 1.1 times as large, with its rim: 91 pixels, on up to 9 tiles.
        blocks = [count for count in read if count in (64 * 64 * 8, 64 * 64)]
        assert len(blocks) <= 18
        assert sum(read) - sum(blocks) <= 2 * (1 << 16) + (1 << 12)  # the heads of two files
        assert sum(read) < os.path.getsize(pair[0]) / 50


def count_reads(monkeypatch):
    asked = []
    read = io.ImageHandle.read

    def counted(self, **keywords):
        asked.append(keywords.get("window"))
        return read(self, **keywords)

    monkeypatch.setattr(io.ImageHandle, "read", counted)
    return asked


def test_only_the_window_of_the_crop_is_asked_of_the_file(kinds, monkeypatch):
    asked = count_reads(monkeypatch)
    PairDataset([kinds["tiled"]], transform=T.Compose([T.HorizontalFlip(), T.RandomCrop(16)]))[0]
    assert asked[0][2:] == (16, 16)
    PairDataset([kinds["tiled"]], transform=T.Compose([T.ColorJitter(), T.RandomCrop(16)]))[0]
    assert asked[1] is None


@pytest.mark.parametrize("kind", KINDS)
def test_each_file_of_a_pair_is_opened_once(kinds, monkeypatch, kind):
    opened = []
    plain = os.open

    def noted(path, *arguments, **keywords):
        opened.append(path)
        return plain(path, *arguments, **keywords)

    dataset = PairDataset([kinds[kind]], transform=T.RandomCrop(16), orientation="apply")
    monkeypatch.setattr(os, "open", noted)
    dataset[0]
    assert sorted(opened) == sorted(kinds[kind])


def test_a_transform_of_ones_own_joins_by_a_plan(kinds, monkeypatch):
    class TopLeft:
        def plan(self, size, *, find_mask, generator=None):
            class Plan:
                window = (0, 0, 5, 7)

                def __call__(self, image, mask):
                    return image + 1, mask

            return Plan()

        def __call__(self, image, mask, *, generator=None):
            return image[:, :5, :7] + 1, mask[:5, :7]

    asked = count_reads(monkeypatch)
    part = PairDataset([kinds["tiled"]], transform=TopLeft())[0]
    whole = PairDataset([kinds["tiled"]], transform=Whole(TopLeft()))[0]
    assert asked == [(0, 0, 5, 7), None]
    assert torch.equal(part["image"], whole["image"])
    assert torch.equal(part["mask"], whole["mask"])


def test_a_class_is_found_in_the_mask_before_the_image_is_read(tmp_path, monkeypatch):
    mask = np.zeros((80, 90), np.uint8)
    mask[70, 11] = 2
    pair = write(tmp_path, "a.png", RNG.integers(0, 256, (80, 90, 3), dtype=np.uint8), mask)
    asked = count_reads(monkeypatch)
    dataset = PairDataset([pair], transform=T.RandomCrop(8))
    for seed in range(5):
        assert 2 in dataset[SampleKey(0, seed=seed, focus_class=2)]["mask"]
    assert {window[2:] for window in asked} == {(8, 8)}


MODES = ["RGB", "L", "RGBA", "P", "CMYK", "LA", "1"]


def test_mixed_pictures_stack_as_rgb(tmp_path):
    blocks = np.kron(RNG.integers(0, 255, (4, 4, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    pairs = []
    for mode in MODES:
        path = tmp_path / f"{mode}.{'tif' if mode == 'CMYK' else 'png'}"
        Image.fromarray(blocks).convert(mode).save(path)
        Image.fromarray(blocks[..., 0] // 128).save(tmp_path / "mask.png")
        pairs.append((path, tmp_path / "mask.png"))
    dataset = PairDataset(pairs, channels="rgb")
    assert {tuple(dataset[i]["image"].shape) for i in range(len(MODES))} == {(3, 32, 32)}
    assert torch.equal(dataset[2]["image"], dataset[0]["image"])  # an opaque alpha is dropped
    grey = PairDataset(pairs)[1]["image"]
    assert torch.equal(dataset[1]["image"], grey.expand(3, -1, -1))


def test_a_transparent_alpha_is_refused_or_no_data(tmp_path):
    image = np.full((6, 6, 4), 255, np.uint8)
    image[2, 3, 3] = 0
    pair = write(tmp_path, "a.png", image, np.zeros((6, 6), np.uint8))
    with pytest.raises(DataError, match=r"must find an opaque alpha in '.*a.png'.*channels=\[0, 1, 2\]"):
        PairDataset([pair], channels="rgb")[0]
    sample = PairDataset([pair], channels="rgb", nodata="ignore")[0]
    assert (sample["mask"] == 255).nonzero().tolist() == [[2, 3]]
    assert PairDataset([pair], channels=[2, 0])[0]["image"].shape[0] == 2
    with pytest.raises(ValueError, match=r"`channels` must be 'rgb' or a list of bands, counted from 0, got 3"):
        PairDataset([pair], channels=3)


def test_thirteen_bands_are_not_guessed_to_be_rgb(tmp_path):
    pair = write(tmp_path, "a.tif", np.zeros((6, 6, 13), np.uint16), np.zeros((6, 6), np.uint8), planarconfig="contig")
    with pytest.raises(DataError, match=r"got 13 channels. Name three of them: channels=\[3, 2, 1\]"):
        PairDataset([pair], channels="rgb")[0]
    assert PairDataset([pair], channels=[3, 2, 1])[0]["image"].shape[0] == 3


@pytest.mark.parametrize("turn", [2, 3, 4, 5, 6, 7, 8])
def test_a_mask_that_says_nothing_about_a_turned_image_is_refused_where_it_could_be_either(tmp_path, turn):
    exif = Image.Exif()
    exif[274] = turn
    stored = RNG.integers(0, 256, (8, 12, 3), dtype=np.uint8)
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    labels = (stored[..., 0] > 127).astype(np.uint8)
    Image.fromarray(labels).save(tmp_path / "stored.png")
    pair = (tmp_path / "a.png", tmp_path / "stored.png")
    with pytest.raises(DataError, match=r"`orientation` must say whether .*Pass orientation='ignore' for stored"):
        PairDataset([pair])[0]
    sample = PairDataset([pair], orientation="ignore")[0]
    assert torch.equal(sample["image"][0] * 255 > 127.5, sample["mask"].bool())
    upright = (io.read_image(tmp_path / "a.png")[..., 0] > 127).astype(np.uint8)
    Image.fromarray(upright).save(tmp_path / "upright.png")
    sample = PairDataset([(tmp_path / "a.png", tmp_path / "upright.png")], orientation="apply")[0]
    assert torch.equal(sample["image"][0] * 255 > 127.5, sample["mask"].bool())
    if turn >= 5:  # the size tells
        assert PairDataset([(tmp_path / "a.png", tmp_path / "upright.png")])[0]["mask"].shape == (12, 8)


def test_pages_are_refused_until_it_is_said_what_they_are(tmp_path):
    volume = RNG.integers(0, 255, (5, 8, 9), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "v.tif", volume, photometric="minisblack", metadata=None)
    tifffile.imwrite(tmp_path / "l.tif", volume // 128, photometric="minisblack", metadata=None)
    pair = (tmp_path / "v.tif", tmp_path / "l.tif")
    with pytest.raises(DataError, match=r"`pages` must say what the 5 pages of '.*v.tif' are"):
        PairDataset([pair])[0]
    assert torch.equal(PairDataset([pair], pages="first")[0]["mask"], torch.from_numpy(volume[0] // 128))
    slices = PairDataset([pair, pair], pages="samples", scale=False)
    assert len(slices) == 10
    for i in range(10):
        assert torch.equal(slices[i]["image"][0], torch.from_numpy(volume[i % 5]))
        assert torch.equal(slices[i]["mask"], torch.from_numpy(volume[i % 5] // 128))
    assert slices.pair(9).image == str(tmp_path / "v.tif")
    tifffile.imwrite(tmp_path / "l.tif", volume[:3] // 128, photometric="minisblack", metadata=None)
    with pytest.raises(DataError, match=r"must have a page for each of the 5 of its image"):
        PairDataset([pair], pages="samples")[0]


@pytest.mark.parametrize("scale", [2, 3, 1 / 2])
@pytest.mark.parametrize("seed", range(4))
def test_labels_of_another_ground_size_fit_when_told(tmp_path, scale, seed):
    coarse = RNG.integers(0, 4, (12, 18), dtype=np.uint8)
    size = (int(12 * scale), int(18 * scale))
    Image.fromarray(RNG.integers(0, 256, (*size, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(coarse).save(tmp_path / "m.png")
    pair = (tmp_path / "a.png", tmp_path / "m.png")
    told = "2" if scale == 2 else "3" if scale == 3 else "1 / 2"
    with pytest.raises(DataError, match=f"If both show the same ground, pass mask_scale={told}"):
        PairDataset([pair])[0]
    whole = PairDataset([pair], mask_scale=scale)[0]["mask"]
    expected = coarse.repeat(int(scale), 0).repeat(int(scale), 1) if scale > 1 else coarse[1::2, 1::2]
    assert torch.equal(whole, torch.from_numpy(np.ascontiguousarray(expected)))
    crop, key = T.RandomCrop(5), SampleKey(0, seed=seed)
    part = PairDataset([pair], mask_scale=scale, transform=crop)[key]["mask"]
    assert torch.equal(part, PairDataset([pair], mask_scale=scale, transform=Whole(crop))[key]["mask"])
    with pytest.raises(ValueError, match="`mask_scale` must be a whole number"):
        PairDataset([pair], mask_scale=1.5)


def test_wider_integers_are_kept_and_never_wrap(tmp_path):
    values = np.array([[0, 2**31, 2**32 - 1, 5]], np.uint32).repeat(4, 0)
    tifffile.imwrite(tmp_path / "u.tif", values)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "m.png")
    pair = (tmp_path / "u.tif", tmp_path / "m.png")
    assert PairDataset([pair], scale=False)[0]["image"][0].tolist() == values.tolist()
    [copy] = expand_dataset([pair], T.HorizontalFlip(p=1), tmp_path / "o", copies=1, seed=0, progress=False)
    assert io.read_image(copy.image)[..., 0].tolist() == values[:, ::-1].tolist()


def test_copies_of_twelve_bits_are_as_bright_as_their_source(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5\n4 4\n4095\n" + np.full((4, 4), 4000, ">u2").tobytes())
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "m.png")
    pair = (tmp_path / "a.pgm", tmp_path / "m.png")
    copies = expand_dataset([pair], T.HorizontalFlip(p=1), tmp_path / "o", copies=1, seed=0, progress=False)
    expected = PairDataset([pair])[0]["image"]
    torch.testing.assert_close(PairDataset(copies)[0]["image"], expected, atol=1e-5, rtol=0)


def test_several_files_are_bands_or_objects(tmp_path):
    bands = []
    for i in range(3):
        Image.fromarray(np.full((6, 8), 50 * i, np.uint8)).save(tmp_path / f"b{i}.png")
        bands.append(tmp_path / f"b{i}.png")
    objects = []
    for i in range(2):
        one = np.zeros((6, 8), np.uint8)
        one[3 * i : 3 * i + 2, 2:5] = 255
        Image.fromarray(one).save(tmp_path / f"o{i}.png")
        objects.append(str(tmp_path / f"o{i}.png"))
    dataset = PairDataset([(bands, objects)], scale=False)
    assert dataset[0]["image"][:, 0, 0].tolist() == [0, 50, 100]
    assert dataset[0]["mask"][:, 2].tolist() == [1, 1, 0, 1, 1, 0]
    assert dataset.pair(0).mask == tuple(objects)
    assert PairDataset([(bands, objects)], scale=False, channels=[2, 0])[0]["image"][:, 0, 0].tolist() == [100, 0]
    Image.fromarray(np.zeros((6, 9), np.uint8)).save(bands[1])
    with pytest.raises(DataError, match=r"bands of an image must have one size and dtype"):
        dataset[0]


def test_masks_of_0_and_255_are_told_once_with_what_to_type(tmp_path):
    mask = np.zeros((10, 10), np.uint8)
    mask[:5] = 255
    pair = write(tmp_path, "a.png", np.zeros((10, 10, 3), np.uint8), mask)
    dataset = PairDataset([pair] * 3)
    with pytest.warns(UserWarning, match=r"0 and 255 only .*a.png_mask.png.*remap=\{0: 0, 255: 1\}"):
        dataset[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset[1], dataset[2]
    windows = GridDataset([pair], (10, 5))
    with pytest.warns(UserWarning, match=r"GridDataset: the masks hold 0 and 255 only .*a.png_mask.png") as told:
        windows[0], windows[1]
    assert len(told) == 1
    thin = np.zeros((10, 10), np.uint8)
    thin[0, 0] = 255
    border = write(tmp_path, "b.png", np.zeros((10, 10, 3), np.uint8), thin)
    third = write(tmp_path, "c.png", np.zeros((10, 10, 3), np.uint8), thin // 255)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PairDataset([pair], remap={0: 0, 255: 1})[0], PairDataset([pair], remap={0: 0, 255: 255})[0]
        several = PairDataset([border, third, pair])
        several[0], several[1], several[2]


def test_names_tuples_and_wide_masks_for_other_peoples_loops(kinds):
    pair = kinds["png"]
    names = PairDataset([pair], keys=("pixel_values", "labels", None), mask_dtype=torch.int64)[0]
    assert list(names) == ["pixel_values", "labels"]
    assert names["labels"].dtype == torch.int64
    image, mask = PairDataset([pair], as_tuple=True)[0]
    assert image.shape[1:] == mask.shape
    assert PairDataset([pair, pair], as_tuple="index")[1][2] == 1
    for keys in (("image", "mask"), ("image", "image", None)):
        with pytest.raises(ValueError, match="`keys` must be names"):
            PairDataset([pair], keys=keys)
    with pytest.raises(TypeError, match=r"`mask_dtype` must be a torch dtype, got 'int64'. Pass torch.int64"):
        PairDataset([pair], mask_dtype="int64")


def test_parts_and_joined_sets_number_globally_and_hand_on_the_key(kinds):
    whole = PairDataset([kinds[k] for k in ("png", "jpeg", "strips", "grey", "tiled")], transform=T.RandomCrop(8))
    train, val = whole.split([[4, 0, 2], [1, 3]])
    assert [train[i]["index"] for i in range(3)] == [4, 0, 2]
    assert train[SampleKey(1, size=(6, 7))]["image"].shape == (3, 6, 7)
    key = SampleKey(0, seed=5)
    assert torch.equal(val[key]["image"], whole[SampleKey(1, seed=5, position=0)]["image"])
    again = train.split([[2]])[0]
    assert again[0]["index"] == 2
    assert again.pair(0) == whole.pair(2)
    both = val + train
    assert [both[i]["index"] for i in range(5)] == [0, 1, 2, 3, 4]
    assert both[SampleKey(3, size=(6, 7))]["image"].shape == (3, 6, 7)
    assert both.pair(4) == whole.pair(2)
    assert both[-1]["index"] == 4
    assert sorted(map(len, whole.split([0.6, 0.4], seed=1))) == [2, 3]
    with pytest.raises(ValueError, match="shares that sum to 1"):
        whole.split([0.6, 0.6])
    with pytest.raises(IndexError, match="indices must be in"):
        whole.split([[5]])


def mirror_only(image):
    return image.flip(-1)


@pytest.mark.parametrize("make", [PairDataset, expand_dataset])
def test_what_cannot_move_both_is_refused_when_the_data_set_is_made(kinds, tmp_path, make):
    class Flip:
        def __call__(self, image, mask=None, **keywords):
            return image, mask

    def attempt(transform):
        if make is PairDataset:
            return PairDataset([kinds["png"]], transform=transform)
        return expand_dataset(
            [kinds["png"]], transform, tmp_path / type(transform).__name__, copies=1, seed=0, progress=False
        )

    for package, adapter in (("torchvision.transforms.v2", "FromTorchvision"), ("albumentations.core", "FromAlbum")):
        foreign = type("Foreign", (Flip,), {"__module__": package})
        with pytest.raises(TypeError, match=rf"`transform` must move .* together, got Foreign.*{adapter}"):
            attempt(foreign())
        with pytest.raises(TypeError, match=adapter):  # a Compose says so itself
            attempt(T.Compose([T.HorizontalFlip(), foreign()]))
    for transform in (mirror_only, torch.nn.ReLU()):
        with pytest.raises(TypeError, match=r"which takes one .*OnImage"):
            attempt(transform)
    attempt(Flip())
    attempt(T.Compose([T.OnImage(mirror_only)]))


@pytest.mark.parametrize("top", [255, 4095, 65535, None])
def test_the_numbers_of_statistics_centre_what_the_data_set_yields_at_every_depth(tmp_path, top):
    values = RNG.random((24, 30)) * 0.3 + 0.4
    path = tmp_path / ("a.tif" if top in (None, 65535) else "a.pgm")
    if top is None:
        tifffile.imwrite(path, values.astype(np.float32))
    elif top == 65535:
        tifffile.imwrite(path, (values * top).astype(np.uint16))
    else:
        dtype = "u1" if top == 255 else ">u2"
        path.write_bytes(b"P5\n30 24\n%d\n" % top + (values * top).astype(dtype).tobytes())
    Image.fromarray(np.zeros((24, 30), np.uint8)).save(tmp_path / "m.png")
    pairs = [(str(path), str(tmp_path / "m.png"))] * 2
    normalize = T.Normalize.from_statistics(dataset_statistics(pairs, progress=False))
    image = PairDataset(pairs, transform=normalize)[0]["image"]
    assert abs(image.mean().item()) < 1e-3
    assert abs(image.std(correction=0).item() - 1) < 1e-3
