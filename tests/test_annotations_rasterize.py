"""The one rule: a pixel belongs to a shape when its centre lies inside."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import segkit
from annotation_files import inside
from segkit import annotations
from segkit.annotations import Runs, Shape, rasterize
from segkit.errors import DataError


def near_an_edge(ring, height, width):
    """Centres that are so close to an edge that rounding may decide."""
    near = np.zeros((height, width), bool)
    x, y = np.arange(width) + 0.5, (np.arange(height) + 0.5)[:, None]
    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        with np.errstate(all="ignore"):
            near |= np.abs(x0 + (y - y0) * (x1 - x0) / (y1 - y0) - x) < 1e-9
    return near


coordinates = st.floats(-30, 60, allow_nan=False) | st.integers(-60, 120).map(lambda v: v / 2)
rings = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=12)


@settings(deadline=None, max_examples=150)
@given(st.lists(rings, min_size=1, max_size=4), st.integers(1, 40), st.integers(1, 40))
def test_every_centre_not_on_an_edge_is_as_a_naive_test_of_it_says(shapes, height, width):
    expected, near = np.zeros((height, width), int), np.zeros((height, width), bool)
    for i, ring in enumerate(shapes, 1):
        expected[inside(ring, height, width)] = i
        near |= near_an_edge(np.array(ring), height, width)
    out = rasterize(shapes, (height, width))
    assert (out == expected)[~near].all()


@settings(deadline=None, max_examples=100)
@given(st.lists(rings, min_size=1, max_size=4), st.data())
def test_a_window_has_the_pixels_of_the_whole_also_of_holes_and_ellipses(outlines, data):
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    (top, bottom), (left, right) = (
        sorted((data.draw(st.integers(0, n)), data.draw(st.integers(0, n)))) for n in (height, width)
    )
    shapes = [Shape("a", (outlines[0],), holes=tuple(outlines[1:2])), Shape("b", tuple(outlines[1:]))]
    shapes.append(Shape("c", ellipse=(12.5, 9.25, 7.0, 3.0, 30.0)))
    whole, part = np.zeros((height, width), np.int32), np.zeros((bottom - top, right - left), np.int32)
    annotations._drawing.draw.draw(whole, shapes, np.arange(1, 4))
    annotations._drawing.draw.draw(part, shapes, np.arange(1, 4), (height, width), (top, left))
    assert (part == whole[top:bottom, left:right]).all()


@pytest.mark.parametrize("scale", [1.0, 60.0, 900.0])
def test_large_and_many_shapes_lie_over_each_other_in_their_order(scale):
    rng = np.random.default_rng(0)
    shapes = [rng.uniform(0, 700, 2) + rng.uniform(-scale, scale, (rng.integers(3, 9), 2)) for _ in range(60)]
    expected = np.zeros((700, 640), np.uint8)
    for i, ring in enumerate(shapes, 1):
        expected[rasterize([ring], (700, 640)) > 0] = i
    assert (rasterize(shapes, (700, 640)) == expected).all()


def test_shapes_that_share_edges_share_no_pixel_and_leave_none_out():
    rng = np.random.default_rng(1)
    corners = np.stack(np.meshgrid(np.arange(5) * 10.0, np.arange(5) * 10.0), -1) + rng.uniform(-3, 3, (5, 5, 2))
    corners[0, :, 1], corners[-1, :, 1], corners[:, 0, 0], corners[:, -1, 0] = -1, 41, -1, 41
    cells = [
        [corners[i, j], corners[i, j + 1], corners[i + 1, j + 1], corners[i + 1, j]] for i in range(4) for j in range(4)
    ]
    covered = sum((rasterize([cell], (40, 40)) > 0).astype(int) for cell in cells)
    assert (covered == 1).all()


@pytest.mark.parametrize(
    ("ring", "pixels"),
    [
        ([(0, 0), (2, 0), (2, 2), (0, 2)], 4),
        ([(0.5, 0.5), (1.5, 0.5), (1.5, 1.5), (0.5, 1.5)], 1),  # on four centres: the upper left one belongs to it
        ([(0.6, 0.6), (1.4, 0.6), (1.4, 1.4), (0.6, 1.4)], 0),
        ([(-100, -100), (100, -100), (100, 100), (-100, 100)], 16),
        ([(1, 1)], 0),
        ([(1, 1), (3, 3)], 0),
        ([(1e9, 1e9), (2e9, 1e9), (1e9, 2e9)], 0),
        ([(-1e12, -1e12), (1e12, -1e12), (0, 1e12)], 16),
    ],
)
def test_small_large_and_flat_shapes(ring, pixels):
    assert (rasterize([ring], (4, 4)) > 0).sum() == pixels


def test_what_a_ring_goes_around_twice_is_outside_and_parts_are_united():
    eight = [(0, 0), (8, 8), (8, 0), (0, 8)]
    assert (rasterize([eight], (8, 8)) > 0).tolist() == inside(eight, 8, 8).tolist()
    twice = [(0, 0), (8, 0), (8, 8), (0, 8), (0, 0), (8, 0), (8, 8), (0, 8)]
    assert rasterize([twice], (8, 8)).sum() == 0
    square = twice[:4]
    assert (rasterize([[square, square]], (8, 8)) == 1).all()


def test_holes_are_cut_out_of_their_own_shape_only():
    outer, hole = [(0, 0), (8, 0), (8, 8), (0, 8)], [(2, 2), (6, 2), (6, 6), (2, 6)]
    out = rasterize([Shape("below", (outer,)), Shape("above", (outer,), holes=(hole,))], (8, 8))
    expected = np.full((8, 8), 2)
    expected[2:6, 2:6] = 1
    assert (out == expected).all()


def test_z_orders_shapes_and_equal_ones_stay_in_their_order():
    square = [(0, 0), (2, 0), (2, 2), (0, 2)]
    shapes = [Shape("a", (square,), z=1), Shape("b", (square,), z=-3.5), Shape("c", (square,), z=1)]
    assert (rasterize(shapes, (2, 2)) == 3).all()
    assert (rasterize(shapes[:2], (2, 2)) == 1).all()


def test_an_ellipse_holds_the_centres_that_its_equation_holds():
    out = rasterize([Shape("e", ellipse=(10.0, 8.0, 7.0, 3.0, 30.0))], (16, 20)) > 0
    for row in range(16):
        for column in range(20):
            dx, dy = column + 0.5 - 10, row + 0.5 - 8
            cos, sin = np.cos(np.pi / 6), np.sin(np.pi / 6)
            assert out[row, column] == (((dx * cos + dy * sin) / 7) ** 2 + ((dy * cos - dx * sin) / 3) ** 2 <= 1)


def test_outlines_come_as_arrays_pairs_flat_lists_and_lists_of_parts():
    ring = [(0, 0), (3, 0), (3, 2), (0, 2)]
    flat = [0, 0, 3, 0, 3, 2, 0, 2]
    forms = [
        [ring],
        [np.array(ring)],
        [flat],
        np.array(ring),
        ring,
        [[ring]],
        [[flat]],
        [Shape("", (ring,))],
        np.array([ring]),
    ]
    for form in forms:
        assert rasterize(form, (3, 4)).sum() == 6


def test_values_and_the_smallest_dtype():
    square = [(0, 0), (1, 0), (1, 1), (0, 1)]
    assert rasterize([square], (1, 2), values=[7]).tolist() == [[7, 0]]
    assert rasterize([], (2, 3)).shape == (2, 3)
    assert [rasterize([square], (1, 1), values=[v]).dtype for v in (255, 256, 70000)] == ["uint8", "uint16", "int32"]
    assert rasterize([square] * 300, (1, 1)).tolist() == [[300]]


@pytest.mark.parametrize(
    ("shapes", "match"),
    [
        ([[(0, 0), (1, float("nan")), (1, 1)]], "rasterize: shape 0 must have finite coordinates, got NaN"),
        ([[(0, 0), (1, float("inf")), (1, 1)]], "finite coordinates"),
        ([np.zeros((3, 2)), np.array([(0, 0), (1, np.nan), (1, 1)])], "shape 1 must have finite coordinates"),
        ([[0, 0, 1, 0, 1]], "two coordinates for each point, got 5 coordinates"),
        ([[("a", 0), (1, 0), (1, 1)]], "two numbers each"),
        ([Shape("", runs=Runs(np.array([5]), "row"))], "fill 2 x 2"),
    ],
)
def test_what_is_no_shape_is_refused_in_one_sentence(shapes, match):
    with pytest.raises(DataError, match=match):
        rasterize(shapes, (2, 2))


def test_wrong_arguments_are_refused():
    square = [(0, 0), (1, 0), (1, 1), (0, 1)]
    with pytest.raises(ValueError, match="one number of 0 or more for each of 1 shapes"):
        rasterize([square], (2, 2), values=[1, 2])
    with pytest.raises(ValueError, match="`size` must be"):
        rasterize([square], 5)


def test_shapes_pickle():
    shape = Shape("a", ([(0, 0), (3, 0), (0, 3)],))
    assert (pickle.loads(pickle.dumps(shape)).rings[0] == shape.rings[0]).all()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools itself
def test_polygons_of_pycocotools_differ_from_the_rule_at_edges_only():
    coco = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    for _ in range(50):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 12))
        ring = 64 + rng.uniform(20, 55, (12, 1)) * np.stack([np.cos(angles), np.sin(angles)], 1)
        theirs = coco.decode(coco.merge(coco.frPyObjects([ring.reshape(-1).tolist()], 128, 128))) > 0
        ours = rasterize([ring], (128, 128)) > 0
        # pycocotools draws edges on a grid of fifths of a pixel; that moves an edge by less than one pixel.
        x, y = (np.arange(128) + 0.5)[None, :, None], (np.arange(128) + 0.5)[:, None, None]
        a, b = ring, np.roll(ring, -1, axis=0)
        along = ((x - a[:, 0]) * (b - a)[:, 0] + (y - a[:, 1]) * (b - a)[:, 1]) / ((b - a) ** 2).sum(1)
        px, py = (a[:, k] + along.clip(0, 1) * (b - a)[:, k] for k in (0, 1))
        distance = np.hypot(x - px, y - py).min(axis=2)
        assert distance[theirs != ours].max(initial=0) < 1
        assert (theirs & ours).sum() / (theirs | ours).sum() > 0.98


def test_the_room_is_what_the_package_gives_by_its_name_in_a_fresh_process():
    """`from __future__ import annotations` in the package's own file would put a _Feature there instead."""
    code = (
        "from segkit import annotations as a; import segkit; print(type(a).__name__, segkit.annotations.read.__name__)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["module", "read"]
    assert segkit.annotations is annotations


def test_a_picture_that_is_very_wide_is_drawn_as_a_narrow_one():
    """Rows and columns of many rings crossed often need more than 32 bits together."""
    zigzag = np.array([(3, 0), (40, 0), (60, 4), (80, 0), (90.5, 0), (70, 4), (50.5, 4), (20, 0.4), (10, 4)])
    count, side = 2**20 // 128, 128
    drawn = rasterize([zigzag + (side * i, 0) for i in range(count)], (4, 2**20))
    one = rasterize([zigzag], (4, side)).astype(int)
    assert (drawn.reshape(4, count, side) == one[:, None] * np.arange(1, count + 1)[None, :, None]).all()
