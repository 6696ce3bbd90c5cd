"""Pages, planes, thumbnails and masks of a TIFF: counted as they are, never left unseen in silence."""

from __future__ import annotations

import struct
import warnings

import numpy as np
import pytest
import tifffile
from PIL import Image

import segkit.io as sio
from segkit.errors import ImageReadError, ImageReadWarning

STACK = np.arange(5 * 6 * 8, dtype=np.uint16).reshape(5, 6, 8)

KINDS = {
    "pages": {"photometric": "minisblack"},
    "imagej": {"imagej": True},
    "imagej, one directory": {"imagej": True, "truncate": True},
    "imagej, composite": {"imagej": True, "metadata": {"axes": "CYX", "mode": "composite"}},
    "tifffile, one directory": {"photometric": "minisblack", "truncate": True},
    "deflate": {"photometric": "minisblack", "compression": "zlib"},
    "tiles": {"photometric": "minisblack", "tile": (16, 16)},
    "ome": {"ome": True, "photometric": "minisblack", "metadata": {"axes": "ZYX"}},
    "big-endian": {"photometric": "minisblack", "byteorder": ">", "truncate": True},
    "bigtiff": {"photometric": "minisblack", "bigtiff": True},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_plane_of_a_stack_is_counted_and_read(tmp_path, kind):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, STACK, **KINDS[kind])
    assert sio.image_info(path).pages == 5
    for number in range(5):
        np.testing.assert_array_equal(sio.read_image(path, page=number)[..., 0], STACK[number])
        np.testing.assert_array_equal(sio.read_mask(path, page=number, window=(1, 2, 3, 4)), STACK[number, 1:4, 2:6])
    np.testing.assert_array_equal(sio.read_image(path, page="channels"), STACK.transpose(1, 2, 0))
    with sio.open_image(path) as handle:
        part = handle.read(page="channels", channels=[4, 0], window=(1, 2, 3, 4))
        np.testing.assert_array_equal(part, STACK.transpose(1, 2, 0)[1:4, 2:6, [4, 0]])
    with pytest.raises(ImageReadError, match="page 5 was asked for, but it has 5"):
        sio.read_image(path, page=5)


@pytest.mark.parametrize("read", [sio.read_image, sio.read_mask, lambda path: sio.open_image(path).read()])
@pytest.mark.parametrize("kind", KINDS)
def test_a_stack_read_without_a_page_warns_at_the_callers_line_and_names_the_choices(tmp_path, kind, read):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, STACK, **KINDS[kind])
    with pytest.warns(ImageReadWarning, match='has several pages.*Say page=0 .*page="channels"') as caught:
        first = read(path)
    assert caught[0].filename == (__file__ if read is sio.read_image else caught[0].filename)
    np.testing.assert_array_equal(first.reshape(6, 8), STACK[0])


@pytest.mark.parametrize(
    "said", ['{"truncated": true, "shape": [5, 6, 8]}', '{"axes": "TYX", "shape": [5, 6, 8]}', "shape=(5, 6, 8)"]
)
def test_a_stack_is_counted_as_older_writers_describe_it(tmp_path, said):
    path = tmp_path / "old.tif"
    tifffile.imwrite(path, STACK, photometric="minisblack", truncate=True, metadata={"axes": "TYX"})
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags["ImageDescription"].overwrite(said)
    assert sio.image_info(path).pages == 5
    assert np.array_equal(sio.read_image(path, page="channels"), STACK.transpose(1, 2, 0))


@pytest.mark.parametrize("said", ["{", "{}", '["shape"]', '{"shape": 3}', '{"shape": ["a"]}', "shape=(5, 6, 7)"])
def test_a_description_that_only_begins_like_one_says_nothing(tmp_path, said):
    tifffile.imwrite(tmp_path / "a.tif", STACK[0], photometric="minisblack", description=said, metadata=None)
    assert sio.image_info(tmp_path / "a.tif").pages == 1
    assert np.array_equal(sio.read_image(tmp_path / "a.tif")[..., 0], STACK[0])


def test_a_second_stack_of_the_same_kind_warns_with_the_same_words(tmp_path):
    texts = set()
    for name in "ab":
        tifffile.imwrite(tmp_path / f"{name}.tif", STACK)
        with pytest.warns(ImageReadWarning) as caught:
            sio.read_image(tmp_path / f"{name}.tif")
        texts.add(str(caught[0].message))
    assert len(texts) == 1


@pytest.mark.parametrize(
    ("options", "axes"),
    [
        ({"ome": True, "metadata": {"axes": "CYX"}}, "CYX"),
        ({"ome": True, "metadata": {"axes": "ZYX"}}, "ZYX"),
        ({"imagej": True, "metadata": {"axes": "TYX"}}, "TYX"),
        ({"imagej": True, "metadata": {"axes": "CYX"}}, "CYX"),
        ({"metadata": {"axes": "TYX"}}, "TYX"),
        ({}, ""),
        ({"metadata": None}, ""),
    ],
)
def test_the_axes_are_named_where_the_file_says_them(tmp_path, options, axes):
    tifffile.imwrite(tmp_path / "a.tif", STACK, photometric="minisblack", **options)
    assert sio.image_info(tmp_path / "a.tif").axes == axes
    assert sio.image_info(tmp_path / "a.tif").pages == 5


def test_one_picture_neither_warns_nor_has_axes(tmp_path):
    image = np.zeros((40, 60, 3), np.uint8)
    tifffile.imwrite(tmp_path / "plain.tif", image)
    tifffile.imwrite(tmp_path / "ome.tif", image, ome=True)
    with tifffile.TiffWriter(tmp_path / "pyramid.tif") as file:
        file.write(image, metadata=None)
        file.write(image[::2, ::2], subfiletype=1, metadata=None)
    with tifffile.TiffWriter(tmp_path / "thumbnail_behind.tif") as file:
        file.write(image, metadata=None)
        file.write(image[::4, ::4], metadata=None)  # not flagged, as in Aperio's files
    with tifffile.TiffWriter(tmp_path / "mask.tif") as file:
        file.write(image, metadata=None)
        file.write(np.ones((40, 60), bool), subfiletype=4, photometric="mask", metadata=None)
    for name in ("plain", "ome", "pyramid", "thumbnail_behind", "mask"):
        assert sio.read_image(tmp_path / f"{name}.tif").shape == image.shape
        info = sio.image_info(tmp_path / f"{name}.tif")
        assert (info.axes, info.pages) == ("", 2 if name == "thumbnail_behind" else 1)


def test_an_animation_warns_that_its_first_frame_is_read(tmp_path):
    frames = [Image.fromarray(np.full((4, 5), value, np.uint8)) for value in (10, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with pytest.warns(ImageReadWarning, match="this GIF has several pages, .*only the first can be read"):
        sio.read_image(tmp_path / "a.gif")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sio.read_image(tmp_path / "a.gif", page=0)


def test_pages_that_differ_do_not_become_channels(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(np.zeros((4, 5), np.uint8), metadata=None)
        file.write(np.zeros((6, 5), np.uint8), metadata=None)
    with pytest.raises(ImageReadError, match="page 1 has 6 x 5 x 1 uint8, the first 4 x 5 x 1 uint8"):
        sio.read_image(tmp_path / "a.tif", page="channels")


def test_the_picture_below_a_thumbnail_is_the_page(tmp_path):
    """DNG and NEF: the first directory is a reduced picture, the full one hangs below it."""
    thumbnail, full = np.full((4, 6, 3), 7, np.uint8), np.arange(24 * 36, dtype="<u2").reshape(24, 36)
    data = thumbnail.tobytes() + full.tobytes()
    at = 8 + len(data)

    def directory(tags):
        body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
        return struct.pack("<H", len(tags)) + body + bytes(4)

    small = [(254, 1), (256, 6), (257, 4), (258, 8), (259, 1), (262, 2), (273, 8), (277, 3), (278, 4), (279, 72)]
    size = len(directory([*small, (330, 0)]))
    first = directory([*small, (330, at + size)])
    below = [(254, 0), (256, 36), (257, 24), (258, 16), (259, 1), (262, 1), (273, 80), (277, 1), (278, 24), (279, 1728)]
    (tmp_path / "a.dng").write_bytes(b"II*\0" + struct.pack("<I", at) + data + first + directory(below))
    info = sio.image_info(tmp_path / "a.dng")
    assert (info.height, info.width, info.pages) == (24, 36, 1)
    np.testing.assert_array_equal(sio.read_image(tmp_path / "a.dng")[..., 0], full)


@pytest.mark.parametrize("dtype", ["int16", "float32", "uint8", "float64"])
def test_nodata_a_mask_page_and_alpha_say_which_pixels_are_valid(tmp_path, dtype):
    image = np.full((8, 9, 2), 7, dtype)
    value = {"uint8": 0, "float32": -3.4028234663852886e38}.get(dtype, -99)
    image[:2] = np.array(value).astype(dtype)
    image[4, 4, 0] = image[0, 0, 0]  # one channel alone does not make a pixel invalid
    inside = np.ones((8, 9), bool)
    inside[:, :3] = False
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        text = (42113, 2, 0, repr(value), True)
        options = {"photometric": "minisblack", "planarconfig": "contig", "metadata": None}
        file.write(image, extratags=[text], **options)
        file.write(inside, subfiletype=4, photometric="mask", metadata=None)
    assert sio.image_info(tmp_path / "a.tif").nodata == value
    expected = inside & (np.arange(8) >= 2)[:, None]
    with sio.open_image(tmp_path / "a.tif") as handle:
        np.testing.assert_array_equal(handle.read_valid(), expected)
        part = handle.read(window=(1, 2, 3, 4))
        valid = handle.read_valid(window=(1, 2, 3, 4), image=part)
        np.testing.assert_array_equal(valid, expected[1:4, 2:6])


def test_a_file_that_declares_nothing_is_valid_and_alpha_counts_on_request(tmp_path):
    image = np.full((4, 5, 4), 255, np.uint8)
    image[1, 2, 3] = 0
    sio.write_image(tmp_path / "a.png", image)
    assert sio.image_info(tmp_path / "a.png").nodata is None
    with sio.open_image(tmp_path / "a.png") as handle:
        assert handle.read_valid().all()
        np.testing.assert_array_equal(handle.read_valid(alpha=True), image[..., 3] != 0)


def test_nodata_that_the_dtype_cannot_hold_is_nowhere(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", np.zeros((4, 5), np.uint8), extratags=[(42113, 2, 0, "-9999", True)], metadata=None
    )
    with sio.open_image(tmp_path / "a.tif") as handle:
        assert handle.read_valid().all()
