"""Six formats, one drawing: the same bits; and the traps that real exports hold, one by one."""

from __future__ import annotations

import contextlib
import json
import tracemalloc

import numpy as np
import pytest

import annotation_files as files
from annotation_files import CLASSES, HEIGHT, OUTLINES, WIDTH, write
from segkit.annotations import encode_rle, read
from segkit.annotations._formats.stream import elements
from segkit.errors import DataError

SIZE = (HEIGHT, WIDTH)
EXPECTED = files.expected()


def box(label, x0, y0, x1, y1, **more):
    return {"label": label, "points": [[x0, y0], [x1, y0], [x1, y1], [x0, y1]], "shape_type": "polygon", **more}


def rings(*outlines):
    """One COCO annotation with these rings."""
    entry = {"id": 1, "image_id": 7, "category_id": 3, "segmentation": list(outlines), "iscrowd": 0}
    return files.coco(annotations=[entry])


def only(value, **more):
    entry = {"id": 1, "image_id": 7, "category_id": 3, "segmentation": value, "iscrowd": 0, **more}
    return files.coco(annotations=[entry])


SQUARE = [1, 1, 5, 1, 5, 4, 1, 4]


def square(top=1, left=1, bottom=4, right=5, number=1):
    mask = np.zeros(SIZE, np.uint8)
    mask[top:bottom, left:right] = number
    return mask


def as_brush():
    results = []
    for i, (name, ring) in enumerate(OUTLINES):
        alpha = files.inside(ring, *SIZE) * 100
        results.append(
            files.region("brushlabels", {"format": "rle", "rle": files.brush(alpha), "brushlabels": [name]}, i)
        )
    return files.label_studio(results)


def as_coco_runs():
    content = files.coco()
    for entry, (_, ring) in zip(content["annotations"], OUTLINES, strict=True):
        flat = files.inside(ring, *SIZE).T.reshape(-1)
        edges = np.flatnonzero(np.diff(flat.astype(int), prepend=0))
        counts = np.diff([0, *edges, flat.size]).tolist()
        entry["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": counts}
    return content


def as_cvat_masks():
    shapes = ""
    for name, ring in OUTLINES:
        flat = files.inside(ring, *SIZE)[2:].reshape(-1)
        edges = np.flatnonzero(np.diff(flat.astype(int), prepend=0))
        runs = ", ".join(map(str, np.diff([0, *edges, flat.size]).tolist()))
        shapes += f'<mask label="{name}" left="0" top="2" width="{WIDTH}" height="{HEIGHT - 2}" rle="{runs}"></mask>'
    return files.cvat(f'<image id="0" name="a.jpg" width="{WIDTH}" height="{HEIGHT}">{shapes}</image>')


def as_labelme_masks():
    shapes = []
    for name, ring in OUTLINES:
        pixels = files.inside(ring, *SIZE).astype(np.uint8)
        points = [[0, 0], [WIDTH - 1, HEIGHT - 1]]
        shapes.append({"label": name, "points": points, "shape_type": "mask", "mask": files.png(pixels)})
    return files.labelme(shapes=shapes)


def as_table():
    lines = ["Image_Label,EncodedPixels"]
    # The mask itself: a table knows no order.
    lines += [f"a.jpg_{name},{encode_rle(CLASSES.index(name) == EXPECTED)}" for name in ("cat", "dog")]
    return "\n".join(lines)


EVERY = {
    "coco.json": files.coco,
    "coco_runs.json": as_coco_runs,
    "a.json": files.labelme,
    "masks/a.json": as_labelme_masks,
    "cvat.xml": files.cvat,
    "cvat_masks.xml": as_cvat_masks,
    "studio.json": files.label_studio,
    "brush.json": as_brush,
    "labels/a.txt": files.yolo,
    "runs.csv": as_table,
}


@pytest.mark.parametrize("name", EVERY)
def test_the_same_drawing_gives_the_same_bits_in_every_format(tmp_path, name):
    path = write(tmp_path / name, EVERY[name]())
    if name.endswith(".txt"):
        write(tmp_path / "labels" / "classes.txt", "cat\ndog\n")
    options = {"order": "column", "origin": 1} if name.endswith(".csv") else {}
    drawn = read(path, **options)
    size = None if drawn.size(drawn.images[0]) else SIZE
    mask = drawn.mask(drawn.images[0], classes=CLASSES, size=size)
    assert mask.dtype == np.uint8
    assert (mask == EXPECTED).all()
    assert drawn.classes == ["cat", "dog"]
    assert (drawn.mask("some/where/a.jpg", classes=["cat", "dog"], size=SIZE) == EXPECTED).all()


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(
    "window", [(0, 0, HEIGHT, WIDTH), (7, 11, 20, 30), (40, 50, 8, 14), (3, 0, 1, 1), (5, 5, 0, 9)]
)
def test_a_window_has_the_pixels_of_the_whole_in_every_format(tmp_path, name, window):
    options = {"order": "column", "origin": 1} if name.endswith(".csv") else {}
    drawn = read(write(tmp_path / name, EVERY[name]()), **options)
    top, left, height, width = window
    for instances in (False, True):
        mask = {"classes": {"cat": 1, "dog": 2, "0": 1, "1": 2}, "size": SIZE, "instances": instances}
        part = drawn.mask("a.jpg", window=window, **mask)
        assert part.dtype == drawn.mask("a.jpg", **mask).dtype
        assert (part == drawn.mask("a.jpg", **mask)[top : top + height, left : left + width]).all()
        assert part.shape == (height, width)
    with pytest.raises(ValueError, match="`window` must be .* inside 48 x 64, got \\(40, 0, 9, 1\\)"):
        drawn.mask("a.jpg", classes={"cat": 1, "dog": 2, "0": 1, "1": 2}, size=SIZE, window=(40, 0, 9, 1))


@pytest.mark.parametrize("name", [n for n in EVERY if not n.endswith(".csv")])
def test_objects_are_numbered_in_the_order_of_the_file_in_every_format(tmp_path, name):
    path = write(tmp_path / name, EVERY[name]())
    ids = read(path).mask("a.jpg", classes={"cat": 1, "dog": 2, "0": 1, "1": 2}, size=SIZE, instances=True)
    assert ids.dtype == np.int32
    assert np.unique(ids).tolist() == [0, 1, 2, 3]
    assert ((ids > 0) == (EXPECTED > 0)).all()


# --- COCO ----------------------------------------------------------------------------------------------------


def test_parts_of_a_coco_object_are_united_and_nested_ones_are_holes_on_request(tmp_path):
    hole = [2, 2, 4, 2, 4, 3, 2, 3]
    path = write(tmp_path / "c.json", rings(SQUARE, hole))
    assert (read(path).mask("a.jpg", classes=["cat"]) == square()).all()
    expected = square()
    expected[2:3, 2:4] = 0
    assert (read(path, nested="holes").mask("a.jpg", classes=["cat"]) == expected).all()


def test_ids_as_text_are_taken_and_mixed_ones_refused(tmp_path):
    content = rings(SQUARE)
    content["images"][0]["id"] = "7"
    with pytest.raises(DataError, match="image_id of annotation 1 .*text in one place and numbers in the other"):
        read(write(tmp_path / "mixed.json", content))
    content["annotations"][0]["image_id"] = "7"
    assert (read(write(tmp_path / "text.json", content)).mask("a.jpg", classes=["cat"]) == square()).all()
    content["annotations"][0]["category_id"] = "3"
    with pytest.raises(DataError, match="category_id of annotation 1"):
        read(write(tmp_path / "category.json", content))
    content["annotations"][0].update(category_id=3, image_id="8")
    with pytest.raises(DataError, match="image_id of annotation 1 among its images, got '8'"):
        read(write(tmp_path / "missing.json", content))


@pytest.mark.parametrize(("name", "number"), [("cat", 1), ("_background_", 0), ("background", 0)])
def test_category_0_is_a_class_like_any_other_unless_it_is_called_background(tmp_path, name, number):
    content = rings(SQUARE)
    content["categories"] = [{"id": 0, "name": name}, {"id": 90, "name": "dog"}]
    content["annotations"][0]["category_id"] = 0
    drawn = read(write(tmp_path / "c.json", content))
    assert drawn.classes == [name, "dog"]
    assert (drawn.mask("a.jpg", classes=drawn.classes) == square(number=number)).all()


@pytest.mark.parametrize(
    ("value", "crowd"), [("false", False), ("0", False), (False, False), (None, False), ("true", True), (1, True)]
)
def test_iscrowd_is_read_however_it_is_written(tmp_path, value, crowd):
    drawn = read(write(tmp_path / "c.json", only([SQUARE], iscrowd=value)))
    assert drawn.shapes("a.jpg")[0].crowd is crowd
    ignored = drawn.mask("a.jpg", classes=["cat"], crowd="ignore")
    assert (ignored == square(number=255 if crowd else 1)).all()
    assert (drawn.mask("a.jpg", classes=["cat"]) == square()).all()


@pytest.mark.parametrize("outline", [[], [[]], None, [[1, 1, 5, 4]], [[1, 1]]])
def test_a_coco_object_without_an_area_is_told_and_not_drawn(tmp_path, outline):
    drawn = read(write(tmp_path / "c.json", only(outline, bbox=[1, 1, 4, 3])))
    assert drawn.mask("a.jpg", classes=["cat"]).sum() == 0
    assert [(note.kind, note.image, note.shape) for note in drawn.notes] == [("no-area", "a.jpg", "annotation 1")]


def test_a_picture_without_annotations_is_background(tmp_path):
    drawn = read(write(tmp_path / "c.json", files.coco(annotations=[])))
    assert drawn.mask("a.jpg", classes=["cat"]).tolist() == np.zeros(SIZE).tolist()
    assert drawn.check("a.jpg", classes=["cat"])[0].kind == "empty"


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (only([[1, 1, 5, 1, 5]]), "annotation 1 must have two coordinates for each point, got 5"),
        (only([[1, 1, 5, 1, float("nan"), 4]]), "annotation 1 must have finite coordinates"),
        (only([["a", 1, 5, 1, 5, 4]]), "annotation 1 must have points of two numbers"),
        (only("x"), "annotation 1 must have a list of rings or run lengths"),
        (only([SQUARE], iscrowd="maybe"), "0 or 1 as iscrowd of annotation 1, got 'maybe'"),
        (
            only({"size": [HEIGHT, WIDTH], "counts": [5, 4000]}),
            "annotation 1 must have run lengths .* longer than the picture",
        ),
        (only({"size": [HEIGHT, WIDTH], "counts": [5, 40]}), "shorter than the picture"),
        (only({"size": [WIDTH, HEIGHT], "counts": [HEIGHT * WIDTH]}), "its picture's size .*swapped"),
        (only({"size": [4, 4], "counts": [16]}), "its picture's size in annotation 1, got 4 x 4"),
        (only({"size": [4, 4], "counts": [8, -1, 9]}), "whole run lengths of 0 or more"),
        (only({"size": [4, 4], "counts": [0, 10**30]}), "whole run lengths of 0 or more"),
        (only({"size": [4, 4], "counts": [0, 1e30]}), "whole run lengths of 0 or more"),
        (only({"size": [4, 4], "counts": [0, *[2**62] * 3, 2**62 + 16]}), "16 pixels, got 18446744073709551632"),
        (only({"size": [4], "counts": [4]}), "size \\[height, width\\]"),
        (only({"size": [4, 4], "counts": "é"}), "compressed string of COCO"),
        (only({"size": [4, 4], "counts": "P"}), "cut off"),
        (
            [{"image_id": 7, "category_id": 3, "score": 0.5, "bbox": [1, 2, 3, 4]}],
            "a list, as models write their results",
        ),
        (files.coco(annotations=[{"image_id": 7, "file_name": "a.png", "segments_info": []}]), "a panoptic file"),
        ({"images": [], "annotations": []}, "a file without categories"),
        (files.coco(images=[{"id": 7, "height": 1, "width": 1}]), "images with id and file_name"),
        (files.coco(images=files.coco()["images"] * 2), "one image for each id, got id 7 twice"),
        (files.coco(categories=[{"id": 3, "name": "cat"}, {"id": 3, "name": "dog"}]), "one category for each id"),
        (files.coco(categories=[{"id": 3}]), "categories with id and name"),
        (files.coco(annotations={"4": {"image_id": 7}}), "have a list as 'annotations'"),
        (files.coco(annotations=[{"id": 4, "image_id": 7}]), "image_id and category_id in annotation 4"),
    ],
)
def test_what_is_wrong_in_a_coco_file_is_told_in_one_sentence(tmp_path, content, match):
    path = write(tmp_path / "bad.json", content)
    with pytest.raises(DataError, match=match) as caught:
        read(path, format="coco")
    assert str(caught.value).startswith(f"annotations.read: {path!r}")


def test_compressed_runs_of_coco_are_read(tmp_path):
    content = only({"size": [2, 2], "counts": "121"})  # 1 zero, 2 ones, 1 zero, down the columns
    content["images"][0].update(height=2, width=2)
    drawn = read(write(tmp_path / "c.json", content))
    assert drawn.mask("a.jpg", classes=["cat"]).tolist() == [[0, 1], [1, 0]]


def test_the_same_name_in_two_folders_is_two_pictures(tmp_path):
    content = rings(SQUARE)
    content["images"] = [
        {"id": i, "file_name": name, "height": HEIGHT, "width": WIDTH}
        for i, name in ((7, "x/a.jpg"), (8, "y\\a.jpg"), (9, "b.jpg"))
    ]
    drawn = read(write(tmp_path / "c.json", content))
    assert drawn.images == ["x/a.jpg", "y/a.jpg", "b.jpg"]
    assert drawn.mask("/data/x/a.png", classes=["cat"]).any()
    assert not drawn.mask("y/a.jpg", classes=["cat"]).any()
    assert not drawn.mask("elsewhere/b.tif", classes=["cat"]).any()
    with pytest.raises(DataError, match="'a.jpg' must be one picture, got 2: 'x/a.jpg', 'y/a.jpg'"):
        drawn.mask("a.jpg", classes=["cat"])
    with pytest.raises(DataError, match="must be a picture of .*, got 'c.jpg'. It has 3, such as 'x/a.jpg'"):
        drawn.mask("c.jpg", classes=["cat"])


def test_names_that_are_not_ascii_are_found_in_either_normal_form(tmp_path):
    content = rings(SQUARE)
    content["images"][0]["file_name"] = "caf\u0065\u0301 \u56fe.jpg"
    drawn = read(write(tmp_path / "c.json", content))
    assert drawn.mask("caf\u00e9 \u56fe.jpg", classes=["cat"]).any()
    assert drawn.mask("caf\u0065\u0301 \u56fe.png", classes=["cat"]).any()


# --- labelme ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("..\\images\\b.jpg", "b.jpg"),
        ("../b.jpg", "b.jpg"),
        ("C:\\x\\b.jpg", "b.jpg"),
        ("b.json", "a"),
        ("", "a"),
        (None, "a"),
    ],
)
def test_the_picture_of_a_labelme_file_is_found_whatever_its_path(tmp_path, path, name):
    drawn = read(write(tmp_path / "a.json", files.labelme(imagePath=path)))
    assert drawn.images == [name]
    assert (drawn.mask(name, classes=CLASSES) == EXPECTED).all()


def test_old_labelme_files_have_no_shape_type_and_no_size(tmp_path):
    content = files.labelme()
    for shape in content["shapes"]:
        del shape["shape_type"], shape["group_id"]
    del content["imageHeight"], content["imageWidth"], content["imageData"], content["version"]
    drawn = read(write(tmp_path / "a.json", content))
    assert (drawn.mask("a.jpg", classes=CLASSES, size=SIZE) == EXPECTED).all()
    with pytest.raises(DataError, match="the size of 'a.jpg' must be known, .* Pass size=\\(height, width\\)"):
        drawn.mask("a.jpg", classes=CLASSES)
    content["imageData"] = files.png(np.zeros(SIZE, np.uint8))
    assert read(write(tmp_path / "a.json", content)).size("a.jpg") == SIZE


def test_group_id_joins_parts_and_flags_are_no_pixels(tmp_path):
    shapes = [
        box("cat", 0, 0, 2, 2, group_id=1),
        box("dog", 4, 0, 6, 2, group_id=1),
        box("cat", 8, 0, 9, 2, group_id=1),
    ]
    content = files.labelme(shapes=shapes, flags={"blurred": True})
    ids = read(write(tmp_path / "a.json", content)).mask("a.jpg", classes=CLASSES, instances=True)
    assert (ids[0, 0], ids[0, 4], ids[0, 8]) == (1, 2, 1)


@pytest.mark.parametrize("kind", ["line", "linestrip", "point", "points", "polygon"])
def test_lines_points_and_two_point_polygons_have_no_area(tmp_path, kind):
    shape = {"label": "cat", "points": [[1, 1], [5, 5]], "shape_type": kind}
    drawn = read(write(tmp_path / "a.json", files.labelme(shapes=[shape])))
    assert drawn.mask("a.jpg", classes=["cat"]).sum() == 0
    assert [note.kind for note in drawn.notes] == ["no-area"]


def test_labelme_rectangles_and_circles_are_drawn(tmp_path):
    shapes = [
        {"label": "cat", "points": [[5, 4], [1, 1]], "shape_type": "rectangle"},
        {"label": "dog", "points": [[20, 20], [20, 25]], "shape_type": "circle"},
    ]
    mask = read(write(tmp_path / "a.json", files.labelme(shapes=shapes))).mask("a.jpg", classes=CLASSES)
    assert (mask == 1).tolist() == (square() == 1).tolist()
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    assert ((mask == 2) == ((x - 20) ** 2 + (y - 20) ** 2 <= 25)).all()


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA"])
@pytest.mark.parametrize("value", [1, 255])
@pytest.mark.parametrize("shift", [0.0, 0.25, 0.75])
def test_masks_of_labelme_lie_where_their_box_begins(tmp_path, mode, value, shift):
    pixels = np.array([[1, 1, 1, 0], [0, 1, 1, 1], [1, 1, 0, 1]], np.uint8)
    text = files.png(pixels * (255 if mode in ("1", "RGBA", "LA") else value), mode)
    if mode == "RGBA":
        layers = np.stack([pixels * 255] * 4, -1)
        text = files.png(layers, mode)
    points = [[1 + shift, 1 + shift], [4 + shift, 3 + shift]]
    shape = {"label": "cat", "points": points, "shape_type": "mask", "mask": text}
    mask = read(write(tmp_path / "a.json", files.labelme(shapes=[shape]))).mask("a.jpg", classes=["cat"])
    assert mask[1:4, 1:5].tolist() == pixels.tolist()
    assert mask.sum() == pixels.sum()


@pytest.mark.parametrize(
    ("shape", "match"),
    [
        ({"label": "cat", "points": [[0, 0], [1, float("nan")], [1, 1]]}, "shape 0 must have finite coordinates"),
        ({"label": "cat", "points": [[0, 0, 1], [1, 2, 3]]}, "shape 0 must have points of two numbers"),
        ({"label": "cat", "points": [[0, 0]], "shape_type": "circle"}, "two points as a circle, got 1"),
        ({"label": "cat", "points": [[0, 0]], "shape_type": "cube"}, "shape_type that labelme knows, got 'cube'"),
        ({"label": "cat", "points": [[0, 0], [1, 1]], "shape_type": "mask", "mask": "AAAA"}, "PNG in base64 as mask"),
        ({"label": "cat", "points": [[0, 0], [1, 1]], "shape_type": "mask"}, "PNG in base64 as mask, got None"),
        ({"label": "cat"}, "an object with label and points"),
    ],
)
def test_what_is_wrong_in_a_labelme_file_is_told_in_one_sentence(tmp_path, shape, match):
    path = write(tmp_path / "a.json", files.labelme(shapes=[shape]))
    with pytest.raises(DataError, match=match) as caught:
        read(path)
    assert "labelme" in str(caught.value)


def test_a_folder_of_labelme_files_keeps_its_subfolders(tmp_path):
    for folder in ("train", "val"):
        write(tmp_path / folder / "a.json", files.labelme(imagePath=f"..\\..\\{folder}\\a.jpg"))
    drawn = read(tmp_path)
    assert drawn.images == ["train/a.jpg", "val/a.jpg"]
    write(tmp_path / "val" / "copy.json", files.labelme())
    with pytest.raises(DataError, match="be the only file of its picture, got 'val/a.jpg'"):
        read(tmp_path)


# --- CVAT ----------------------------------------------------------------------------------------------------


def picture(shapes="", name="a.jpg", **more):
    extra = "".join(f' {key}="{value}"' for key, value in more.items())
    return f'<image id="0" name="{name}" width="{WIDTH}" height="{HEIGHT}"{extra}>{shapes}</image>'


def polygon(label, points="1,1;5,1;5,4;1,4", **more):
    extra = "".join(f' {key}="{value}"' for key, value in more.items())
    return f'<polygon label="{label}" points="{points}"{extra}></polygon>'


def test_cvat_shapes_are_stacked_by_z_order(tmp_path):
    shapes = polygon("cat", z_order="-2") + polygon("dog", z_order="-10") + polygon("bird", z_order="-2")
    drawn = read(write(tmp_path / "a.xml", files.cvat(picture(shapes))))
    assert (drawn.mask("a.jpg", classes=["cat", "dog", "bird"]) == square(number=3)).all()


def test_a_cvat_mask_lies_in_its_box_which_may_reach_outside(tmp_path):
    for left, top in ((2, 3), (-2, -1), (WIDTH - 2, HEIGHT - 1), (-50, 0), (WIDTH + 3, 0)):
        shape = f'<mask label="cat" left="{left}" top="{top}" width="4" height="3" rle="1, 6, 1, 4" z_order="0"></mask>'
        mask = read(write(tmp_path / "a.xml", files.cvat(picture(shape)))).mask("a.jpg", classes=["cat"])
        whole = np.zeros((HEIGHT + 200, WIDTH + 200), int)
        whole[100 + top : 103 + top, 100 + left : 104 + left] = np.array([0, *[1] * 6, 0, *[1] * 4]).reshape(3, 4)
        assert (mask == whole[100 : 100 + HEIGHT, 100 : 100 + WIDTH]).all()


def test_cvat_boxes_and_ellipses_turn_about_their_centres(tmp_path):
    shape = '<box label="cat" xtl="10" ytl="10" xbr="20" ybr="14" rotation="90.0"></box>'
    mask = read(write(tmp_path / "a.xml", files.cvat(picture(shape)))).mask("a.jpg", classes=["cat"])
    assert (mask == square(7, 13, 17, 17)).all()
    shape = '<ellipse label="cat" cx="20" cy="20" rx="9" ry="4" rotation="90"></ellipse>'
    mask = read(write(tmp_path / "a.xml", files.cvat(picture(shape)))).mask("a.jpg", classes=["cat"])
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    assert (mask == (((x - 20) / 4) ** 2 + ((y - 20) / 9) ** 2 <= 1)).all()


def test_names_that_repeat_over_the_subsets_of_a_project_stay_apart(tmp_path):
    images = picture(polygon("cat"), subset="train") + picture(subset="val") + picture(name="b.jpg", subset="val")
    drawn = read(write(tmp_path / "a.xml", files.cvat(images)))
    assert drawn.images == ["train/a.jpg", "val/a.jpg", "b.jpg"]
    assert drawn.mask("train/a.jpg", classes=["cat"]).any()
    assert not drawn.mask("x/val/images/a.jpg", classes=["cat"]).any()
    images = picture(task_id="1", subset="t") + picture(task_id="2", subset="t")
    assert read(write(tmp_path / "a.xml", files.cvat(images))).images == ["task_1/t/a.jpg", "task_2/t/a.jpg"]
    with pytest.raises(DataError, match="one entry for each picture, got 2 of the name 'a.jpg'"):
        read(write(tmp_path / "a.xml", files.cvat(picture() * 2)))


def test_lines_points_tags_and_attributes_of_cvat_have_no_area(tmp_path):
    shapes = (
        '<tag label="day"></tag><polyline label="cat" points="1,1;2,2"></polyline><points label="cat" points="1,1"/>'
    )
    drawn = read(
        write(
            tmp_path / "a.xml",
            files.cvat(picture(shapes + polygon("cat").replace("><", "><attribute name='x'>1</attribute><"))),
        )
    )
    assert (drawn.mask("a.jpg", classes=["cat"]) == square()).all()
    assert [note.reason for note in drawn.notes] == ["It is a tag.", "It is a polyline.", "It is a point."]


def test_labels_of_the_whole_project_are_classes_and_a_shape_without_label_is_refused(tmp_path):
    labels = "".join(f"<label><name>{name}</name></label>" for name in ("other", "cat"))
    meta = f"<meta><project><labels>{labels}</labels></project></meta>"
    drawn = read(write(tmp_path / "a.xml", files.cvat(picture(polygon("cat")), meta)))
    assert drawn.classes == ["other", "cat"]
    assert (drawn.mask("a.jpg", classes={"cat": 4}) == square(number=4)).all()
    drawn = read(write(tmp_path / "a.xml", files.cvat(picture(polygon("")))))
    with pytest.raises(DataError, match="got '' \\(a shape without a class\\)"):
        drawn.mask("a.jpg", classes=["cat"])
    assert drawn.mask("a.jpg", classes=["cat"], unknown="skip").sum() == 0


@pytest.mark.parametrize(
    ("start", "stop", "step", "frames"), [(0, 2, "", [0, 1, 2]), (10, 19, "step=3", [10, 13, 16, 19])]
)
def test_the_frames_of_a_cvat_video_are_pictures_by_their_number_in_the_video(tmp_path, start, stop, step, frames):
    meta = (
        f"<meta><task><size>{len(frames)}</size><mode>interpolation</mode><start_frame>{start}</start_frame>"
        f"<stop_frame>{stop}</stop_frame><frame_filter>{step}</frame_filter>"
        f"<original_size><width>{WIDTH}</width><height>{HEIGHT}</height></original_size></task></meta>"
    )
    track = (
        f'<track id="0" label="cat"><polygon frame="{frames[0]}" outside="0" points="1,1;5,1;5,4;1,4"></polygon>'
        f'<polygon frame="{frames[1]}" outside="1" points="1,1;5,1;5,4;1,4"></polygon></track>'
        f'<track id="1" label="body"><skeleton frame="{frames[1]}" outside="0" points="1,1;2,2"></skeleton>'
        f'<track id="0" label="hand"><points frame="{frames[1]}" outside="0" points="1,1"></points></track></track>'
    )
    drawn = read(write(tmp_path / "a.xml", files.cvat(track, meta)))
    assert drawn.images == [f"frame_{frame:06d}" for frame in frames]
    assert [int(drawn.mask(name, classes=["cat"]).sum()) for name in drawn.images] == [12, *[0] * (len(frames) - 1)]
    assert (drawn.mask(f"frame_{start:06d}.PNG", classes=["cat"]) == square()).all()
    assert [note.image for note in drawn.notes] == [drawn.images[1]]


FOUR_TIMES = f", {2**62}" * 4  # int64 wraps the sum around to 0


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (
            files.cvat(picture('<mask label="c" left="0" top="0" width="2" height="2" rle="1, 9"/>')),
            "rle of 2 x 2 pixels, got 10",
        ),
        (files.cvat(picture('<mask label="c" left="0" top="0" width="2" rle="4"/>')), "a number as height, got None"),
        (
            files.cvat(picture(f'<mask label="c" left="0" top="0" width="2" height="2" rle="0, {10**20}"/>')),
            "whole numbers as rle",
        ),
        (
            files.cvat(picture(f'<mask label="c" left="0" top="0" width="2" height="2" rle="4{FOUR_TIMES}"/>')),
            "rle of 2 x 2 pixels, got 18446744073709551620",
        ),
        (
            "<annotations><meta><task><mode>interpolation</mode><start_frame>0</start_frame>"
            f"<stop_frame>{10**12}</stop_frame></task></meta></annotations>",
            "a video of at most 10000000 frames, got 1000000000001",
        ),
        (files.cvat(picture(polygon("c", "1,1;2,nan;3,3"))), "finite coordinates"),
        (files.cvat(picture(polygon("c", "1,1;2;3,3"))), "two numbers each"),
        (files.cvat('<image id="3"></image>'), "a name for each image"),
        ("<html></html>", "the outermost element <html>"),
        (files.cvat()[:-40], "damaged or ends too early"),
        ("", "damaged or ends too early"),
    ],
)
def test_what_is_wrong_in_a_cvat_file_is_told_in_one_sentence(tmp_path, content, match):
    with pytest.raises(DataError, match=match):
        read(write(tmp_path / "a.xml", content))


# --- Label Studio ---------------------------------------------------------------------------------------------------


def rectangle(number=0, label="cat", x0=1, y0=1, x1=5, y1=4, **value):
    across = {"x": 100 * x0 / WIDTH, "y": 100 * y0 / HEIGHT}
    along = {"width": 100 * (x1 - x0) / WIDTH, "height": 100 * (y1 - y0) / HEIGHT}
    return files.region(
        "rectanglelabels", {**across, **along, "rotation": 0, "rectanglelabels": [label], **value}, number
    )


def people(*annotations):
    return [{"id": 5, "data": {"image": "a.jpg"}, "annotations": list(annotations)}]


def by(person, results, **more):
    return {"id": person, "completed_by": person, "result": results, **more}


def test_label_studio_rectangles_turn_about_their_corner_and_ellipses_about_their_centre(tmp_path):
    turned = rectangle(x0=20, y0=10, x1=26, y1=13, rotation=90)
    mask = read(write(tmp_path / "a.json", files.label_studio([turned]))).mask("a.jpg", classes=["cat"])
    assert (mask == square(10, 17, 16, 20)).all()
    value = {
        "x": 50,
        "y": 50,
        "radiusX": 100 * 9 / WIDTH,
        "radiusY": 100 * 4 / HEIGHT,
        "rotation": 90,
        "ellipselabels": ["cat"],
    }
    mask = read(write(tmp_path / "a.json", files.label_studio([files.region("ellipselabels", value, 1)]))).mask(
        "a.jpg", classes=["cat"]
    )
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    assert (mask == (((x - 32) / 4) ** 2 + ((y - 24) / 9) ** 2 <= 1)).all()


@pytest.mark.parametrize("word", [8, 5])
@pytest.mark.parametrize("sizes", [(3, 8, 12, 16), (1, 2, 4, 9)])
def test_any_alpha_above_0_is_painted_whatever_the_words_and_blocks(tmp_path, word, sizes):
    alpha = np.random.default_rng(0).integers(0, 1 << word, SIZE) * (np.random.default_rng(1).random(SIZE) < 0.5)
    alpha[10:20] = 0
    alpha[30:34] = 1
    value = {"format": "rle", "rle": files.brush(alpha, word, sizes), "brushlabels": ["cat"]}
    drawn = read(write(tmp_path / "a.json", files.label_studio([files.region("brushlabels", value, 1)])))
    assert (drawn.mask("a.jpg", classes=["cat"]) == (alpha > 0)).all()


def test_a_brush_beside_its_labels_is_one_region(tmp_path):
    rle = files.brush(square() * 100)
    results = [
        files.region("brush", {"format": "rle", "rle": rle}, 1),
        files.region("labels", {"format": "rle", "rle": rle, "labels": ["cat"]}, 1),
        files.region("labels", {"format": "rle", "rle": files.brush(square(10, 10, 12, 12) * 9), "labels": ["dog"]}, 2),
        files.region("brush", {"format": "rle", "rle": files.brush(square(10, 10, 12, 12) * 9)}, 2),
    ]
    drawn = read(write(tmp_path / "a.json", files.label_studio(results)))
    assert len(drawn.shapes("a.jpg")) == 2
    assert (drawn.mask("a.jpg", classes=["cat", "dog"]) == square() + square(10, 10, 12, 12, 2)).all()


def test_whose_annotation_counts_has_to_be_said(tmp_path):
    other = rectangle(x0=7, y0=7, x1=9, y1=9)
    content = people(by(1, [rectangle()], updated_at="2025-01-02"), by(2, [other], updated_at="2025-01-01"))
    path = write(tmp_path / "a.json", content)
    with pytest.raises(DataError, match="2 in task 5 \\('a.jpg'\\), by 1, 2. Pass annotator="):
        read(path)
    assert (read(path, annotator=2).mask("a.jpg", classes=["cat"]) == square(7, 7, 9, 9)).all()
    assert (read(path, annotator="latest").mask("a.jpg", classes=["cat"]) == square()).all()
    assert read(path, annotator=3).images == []
    content[0]["annotations"][1]["ground_truth"] = True
    assert (read(write(tmp_path / "b.json", content)).mask("a.jpg", classes=["cat"]) == square(7, 7, 9, 9)).all()
    named = by({"id": 4, "email": "a@b.c"}, [rectangle()])
    path = write(tmp_path / "c.json", people(named, by(2, [])))
    assert read(path, annotator="a@b.c").mask("a.jpg", classes=["cat"]).any()


def test_skipped_annotations_and_predictions_do_not_count(tmp_path):
    skipped = by(1, [rectangle(x0=0)], was_cancelled=True)
    content = people(skipped, by(2, [rectangle()]))
    content[0]["predictions"] = [{"result": [rectangle(x0=0)]}]
    assert (read(write(tmp_path / "a.json", content)).mask("a.jpg", classes=["cat"]) == square()).all()


@pytest.mark.parametrize("annotations", [(), (by(1, [], was_cancelled=True),)])
def test_a_task_that_nobody_finished_is_no_background(tmp_path, annotations):
    content = people(*annotations) + [{"id": 6, "data": {"image": "b.jpg"}, "annotations": [by(1, [])]}]
    drawn = read(write(tmp_path / "a.json", content))
    assert (drawn.images, drawn.unlabelled) == (["b.jpg"], ["a.jpg"])
    assert [note.kind for note in drawn.notes] == ["unlabelled"]
    with pytest.raises(DataError, match="'a.jpg' must have been finished by an annotator"):
        drawn.mask("a.jpg", classes=["cat"], size=SIZE)
    assert drawn.mask("b.jpg", classes=["cat"], size=SIZE).sum() == 0


def test_numbers_stay_per_cent_until_the_size_is_known(tmp_path):
    result = rectangle(x0=20, y0=10, x1=26, y1=13, rotation=90)
    del result["original_width"], result["original_height"]
    drawn = read(write(tmp_path / "a.json", files.label_studio([result])))
    assert (drawn.mask("a.jpg", classes=["cat"], size=SIZE) == square(10, 17, 16, 20)).all()
    with pytest.raises(DataError, match="must be known"):
        drawn.mask("a.jpg", classes=["cat"])


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("/data/local-files/?d=set%20a/b/a.jpg", "a.jpg"),
        ("s3://bucket/x/a.jpg", "a.jpg"),
        ("https://example.org/x/%E5%9B%BE.jpg?token=1", "图.jpg"),
        ("/data/upload/1/0a1b2c3d-a.jpg", "0a1b2c3d-a.jpg"),
    ],
)
def test_the_picture_of_a_task_is_named_by_its_file(tmp_path, image, name):
    content = people(by(1, [rectangle()]))
    content[0]["data"] = {"other": 3, "image": image}
    drawn = read(write(tmp_path / "a.json", content))
    assert drawn.images == [name]
    if name.endswith("a.jpg"):
        assert drawn.mask("my/a.png", classes=["cat"]).any()


def test_two_tasks_of_one_name_stay_apart_by_their_folders(tmp_path):
    tasks = [
        {"id": i, "data": {"image": f"s3://bucket/{folder}/a.jpg"}, "annotations": [by(1, [])]}
        for i, folder in enumerate("xy")
    ]
    assert read(write(tmp_path / "a.json", tasks)).images == ["x/a.jpg", "y/a.jpg"]


def test_key_points_relations_and_choices_are_no_regions(tmp_path):
    results = [
        rectangle(),
        {"from_id": "r0", "to_id": "r1", "type": "relation"},
        files.region("choices", {"choices": ["day"]}, 8),
        files.region("keypointlabels", {"x": 1, "y": 1, "width": 0.5, "keypointlabels": ["cat"]}, 9),
    ]
    drawn = read(write(tmp_path / "a.json", files.label_studio(results)))
    assert (drawn.mask("a.jpg", classes=["cat"]) == square()).all()
    assert [note.shape for note in drawn.notes] == ["region r9"]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ([{"id": 1, "model_version": "x", "result": [], "score": 0.3}], "got predictions"),
        ([{"id": 1, "image": "a.jpg", "label": []}], "not as 'JSON-MIN'"),
        (files.label_studio([rectangle(rectanglelabels=["cat", "dog"])]), "one class, got cat and dog"),
        (files.label_studio([rectangle(x=None)]), "region r0 must have a number as x, got None"),
        (
            files.label_studio([rectangle(), {**rectangle(1), "original_width": 3}]),
            "of one picture, got original sizes",
        ),
        (files.label_studio([{**rectangle(), "image_rotation": 90}]), "turned by 90 degrees"),
        (
            files.label_studio(
                [files.region("brushlabels", {"rle": files.brush(square())[:9], "brushlabels": ["cat"]}, 1)]
            ),
            "ends too early",
        ),
        (
            files.label_studio([files.region("brushlabels", {"rle": [1, 2, 300], "brushlabels": ["cat"]}, 1)]),
            "a list of bytes, got \\[300\\]",
        ),
        (
            files.label_studio(
                [files.region("brushlabels", {"rle": [0, 0, 0, 5, 57, 27, 255, 255], "brushlabels": ["cat"]}, 1)]
            ),
            "four values for each pixel",
        ),
    ],
)
def test_what_is_wrong_in_a_label_studio_file_is_told_in_one_sentence(tmp_path, content, match):
    with pytest.raises(DataError, match=match):
        read(write(tmp_path / "a.json", content), format="label_studio")


def test_a_brush_of_another_size_is_refused(tmp_path):
    value = {"rle": files.brush(np.ones((4, 4), int)), "brushlabels": ["cat"]}
    drawn = read(write(tmp_path / "a.json", files.label_studio([files.region("brushlabels", value, 1)])))
    with pytest.raises(DataError, match="'0a1b2c3d-a.jpg', region r1: its runs must fill"):
        drawn.mask("a.jpg", classes=["cat"])


# --- YOLO ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        "names: [cat, 'dog']",
        "names:\n  0: cat\n  1: dog  # barks",
        'names:\n- cat\n- "dog"',
        "names: {0: cat, 1: dog}",
        "names: [\n  cat,\n  dog\n]",
    ],
)
def test_the_names_of_yolo_come_from_data_yaml(tmp_path, names):
    write(tmp_path / "labels" / "train" / "a.txt", files.yolo())
    yaml = write(tmp_path / "data.yaml", f"path: .\ntrain: images/train\nnc: 2\n{names}\nval: x\n")
    write(tmp_path / "train.txt", "images/train/a.jpg\n")
    for path in (
        yaml,
        tmp_path,
        tmp_path / "labels",
        tmp_path / "labels" / "train",
        tmp_path / "labels" / "train" / "a.txt",
    ):
        drawn = read(path)
        assert drawn.classes == ["cat", "dog"], path
        assert (drawn.mask("images/train/a.jpg", classes=CLASSES, size=SIZE) == EXPECTED).all()


@pytest.mark.parametrize("numbers", [2, 3])
def test_key_points_of_yolo_are_no_polygons(tmp_path, numbers):
    points = [(0.2, 0.2, 2), (0.4, 0.2, 2), (0.4, 0.4, 2)]
    words = [0, 0.3, 0.3, 0.2, 0.2, *(v for point in points for v in point[:numbers])]
    write(tmp_path / "labels" / "a.txt", " ".join(map(str, words)))
    path = write(tmp_path / "data.yaml", f"kpt_shape: [3, {numbers}]\nnames:\n  0: body\n")
    for source in (path, tmp_path / "labels", tmp_path):
        with pytest.raises(DataError, match="must be of a data set of polygons, got boxes with key points"):
            read(source)


def test_without_names_yolo_numbers_mean_the_declared_list(tmp_path):
    drawn = read(write(tmp_path / "a.txt", files.yolo()))
    assert drawn.classes == ["0", "1"]
    for classes in (["cat", "dog"], CLASSES, ["0", "1"], {"0": 1, "1": 2}):
        assert (drawn.mask("a.jpg", classes=classes, size=SIZE) == EXPECTED).all()
    with pytest.raises(DataError, match="got '1' besides 'cat'"):
        drawn.mask("a.jpg", classes=["cat"], size=SIZE)
    assert (read(tmp_path / "a.txt", names=["cat", "dog"]).mask("a", classes=CLASSES, size=SIZE) == EXPECTED).all()


def test_an_empty_label_file_is_background_and_a_box_has_no_area(tmp_path):
    write(tmp_path / "labels" / "a.txt", "")
    write(tmp_path / "labels" / "b.v1.txt", "0 0.5 0.5 0.2 0.2\n")
    drawn = read(tmp_path / "labels")
    assert drawn.images == ["a", "b.v1"]
    assert drawn.mask("b.v1.jpg", classes=["cat"], size=SIZE).sum() == 0
    assert [(note.kind, note.image) for note in drawn.notes] == [("no-area", "b.v1")]


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("0 0.1 0.1 0.2 0.1 0.2 0.2 0.87", "even number of coordinates in line 1.*confidence"),
        ("0 10 10 20 10 20 20", "shares of the picture's edges in line 1, got 20. Are they pixels"),
        ("cat 0.1 0.1 0.2 0.1 0.2 0.2", "numbers in line 1"),
        ("0 0.1 nan 0.2 0.1 0.2 0.2", "finite coordinates"),
        ("-1 0.1 0.1 0.2 0.1 0.2 0.2", "class number of 0 or more"),
        ("0.5 0.1 0.1 0.2 0.1 0.2 0.2", "class number of 0 or more"),
        ("7 0.1 0.1 0.2 0.1 0.2 0.2", "class number with a name in line 1, got 7, and 1 names: cat"),
    ],
)
def test_what_is_wrong_in_a_yolo_file_is_told_in_one_sentence(tmp_path, line, match):
    with pytest.raises(DataError, match=match):
        read(write(tmp_path / "a.txt", line), names=["cat"])


# --- tables ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    "lines",
    [
        ["ImageId,EncodedPixels", "a.jpg,{}", "b.jpg,"],
        ["ImageId\tEncodedPixels", "a.jpg\t{}", "b.jpg\t"],
        ["a.jpg,{}", "b.jpg,"],
        ["a.jpg\t{}", "b.jpg\t"],
        ["\ufeffb.jpg", "a.jpg,{}"],
        ['"img","rle_mask"', '"a.jpg","{}"', '"b.jpg",""'],
        ["\ufeffid,width,height,rle", f"a.jpg,{WIDTH},{HEIGHT},{{}}", f"b.jpg,{WIDTH},{HEIGHT},nan"],
        ["id,predicted", "a.jpg,{}", "b.jpg,NaN", ""],
    ],
)
def test_tables_come_with_and_without_a_head_and_with_any_separator(tmp_path, lines, end):
    text = end.join(lines).replace("{}", encode_rle(square()))
    drawn = read(write(tmp_path / "a.csv", text), order="column", origin=1)
    assert sorted(drawn.images) == ["a.jpg", "b.jpg"]
    for classes in (["ship"], ["background", "ship"], {"ship": 1}, drawn.classes):
        assert (drawn.mask("a.jpg", classes=classes, size=SIZE) == square()).all()
    assert drawn.mask("b.jpg", classes=["ship"], size=SIZE).sum() == 0


def test_two_rows_of_a_picture_are_two_objects(tmp_path):
    text = f"ImageId,EncodedPixels\na.jpg,{encode_rle(square())}\na.jpg,{encode_rle(square(10, 10, 12, 12))}\n"
    drawn = read(write(tmp_path / "a.csv", text), order="column", origin=1)
    assert np.unique(drawn.mask("a.jpg", classes=["ship"], size=SIZE, instances=True)).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "head", ["ImageId,ClassId,EncodedPixels", "ImageId_ClassId,EncodedPixels", "Image_Label,EncodedPixels"]
)
@pytest.mark.parametrize("name", ["my_img_1.jpg", "my_img_1"])
def test_names_with_underscores_keep_them(tmp_path, head, name):
    join = "," if head.count(",") == 2 else "_"
    text = f"{head}\n{name}{join}3,{encode_rle(square())}\n{name}{join}4,\n"
    drawn = read(write(tmp_path / "a.csv", text), order="column", origin=1)
    assert (drawn.images, drawn.classes) == ([name], ["3", "4"])
    assert (drawn.mask(name, classes={"3": 3, "4": 4}, size=SIZE) == square(number=3)).all()


def test_order_and_origin_of_a_table_have_to_be_said(tmp_path):
    path = write(tmp_path / "a.csv", f"ImageId,EncodedPixels\na.jpg,{encode_rle(square(), order='row', origin=0)}\n")
    for options in ({}, {"order": "row"}, {"origin": 0}):
        with pytest.raises(ValueError, match="does not say how it counts pixels. Pass order="):
            read(path, **options)
    assert (read(path, order="row", origin=0).mask("a", classes=["x"], size=SIZE) == square()).all()
    with pytest.raises(DataError, match="must be known"):
        read(path, order="row", origin=0).mask("a", classes=["x"])
    with pytest.raises(DataError, match="'a.jpg', line 2: its runs must end within 4 x 4"):
        read(path, order="row", origin=0).mask("a", classes=["x"], size=(4, 4))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("ImageId,EncodedPixels\na.jpg,-1\n", "line 2 \\('a.jpg'\\): its runs are '-1', by which SIIM-ACR"),
        ("ImageId,EncodedPixels\na.jpg,1 2 2 3\n", "without overlap"),
        ("ImageId,EncodedPixels\na.jpg,1 2 3\n", "pairs"),
        ("ImageId,EncodedPixels\na.jpg,0 2\n", "counts from 0: pass origin=0"),
        ("ImageId,EncodedPixels\n,1 2\n", "name a picture in line 2"),
        ("x,y,z\na.jpg,1,1 2\n", "a column of run lengths, got 'x', 'y', 'z'. Pass columns="),
        ("what,EncodedPixels\na.jpg,1 2\n", "a column of pictures"),
        (f"ImageId,EncodedPixels\na.jpg,1 {2**63 - 1}\n", "lie within a picture"),
        ('ImageId,EncodedPixels\n"a.jpg,1 2\n', "end each quoted cell in its line"),
        ("", "an empty table"),
    ],
)
def test_what_is_wrong_in_a_table_is_told_in_one_sentence(tmp_path, text, match):
    with pytest.raises(DataError, match=match):
        read(write(tmp_path / "a.csv", text), order="column", origin=1)


def test_columns_of_other_names_are_named(tmp_path):
    path = write(tmp_path / "a.csv", f'x,what,y\n"a,b.jpg",cat,{encode_rle(square())}\n')
    drawn = read(path, order="column", origin=1, columns=("x", "y", "what"))
    assert (drawn.images, drawn.classes) == (["a,b.jpg"], ["cat"])


# --- all ----------------------------------------------------------------------------------------------------


def test_class_numbers_come_from_one_declared_list(tmp_path):
    drawn = read(write(tmp_path / "c.json", rings(SQUARE)))
    for classes, number in (
        (["cat"], 1),
        (["background", "dog", "cat"], 2),
        (["dog", "cat"], 2),
        ({"cat": 300}, 300),
        (["__ignore__", "_background_", "cat"], 1),
    ):
        assert drawn.mask("a.jpg", classes=classes).max() == number
    assert drawn.mask("a.jpg", classes={"cat": 300}).dtype == np.uint16
    assert (drawn.mask("a.jpg", classes=["cat"], background=255) == np.where(square() == 1, 1, 255)).all()
    assert (drawn.mask("a.jpg", classes=["dog"], unknown=255) == square(number=255)).all()
    with pytest.raises(
        DataError,
        match="must name every class that is drawn on 'a.jpg', got 'cat' besides 'dog'. In the file are 'cat', 'dog'",
    ):
        drawn.mask("a.jpg", classes=["dog"])
    ignored = files.labelme(shapes=[box("__ignore__", 1, 1, 5, 4)])
    assert (
        read(write(tmp_path / "a.json", ignored)).mask("a", classes=["__ignore__", "_background_", "cat"]).max() == 255
    )


@pytest.mark.parametrize(
    ("classes", "error", "match"),
    [
        ("cat", TypeError, "got the text 'cat'"),
        (["cat", "cat"], ValueError, "'cat' twice"),
        ([], ValueError, "got none"),
        ([str(i) for i in range(255)], ValueError, "must end before 255"),
        ({"cat": -1}, ValueError, "numbers of 0 or more"),
    ],
)
def test_classes_that_say_nothing_are_refused(tmp_path, classes, error, match):
    drawn = read(write(tmp_path / "c.json", rings(SQUARE)))
    with pytest.raises(error, match=match):
        drawn.mask("a.jpg", classes=classes)


def test_a_size_that_differs_is_refused_with_what_may_have_happened(tmp_path):
    drawn = read(write(tmp_path / "c.json", rings(SQUARE)))
    assert drawn.mask("a.jpg", classes=["cat"], size=SIZE).shape == SIZE
    with pytest.raises(DataError, match="Height and width are swapped: .* EXIF orientation"):
        drawn.mask("a.jpg", classes=["cat"], size=SIZE[::-1])
    with pytest.raises(DataError, match="resized after it was annotated"):
        drawn.mask("a.jpg", classes=["cat"], size=(5, 5))


@pytest.mark.parametrize("side", [10**8, 2**99])
def test_a_size_beyond_all_memory_is_told_in_one_sentence(tmp_path, side):
    content = rings(SQUARE) | {"images": [{"id": 7, "file_name": "a.jpg", "height": side, "width": side}]}
    drawn = read(write(tmp_path / "c.json", content))
    for function in ("mask", "check"):
        with pytest.raises(DataError, match=f"{function}: 'a.jpg' of {side} x {side} .* must fit into memory"):
            getattr(drawn, function)("a.jpg", classes=drawn.classes)


def test_a_rotation_of_null_is_none(tmp_path):
    drawn, null = (
        read(write(tmp_path / f"{name}.json", files.label_studio([rectangle(x0=20, y0=10, x1=26, y1=13, rotation=r)])))
        for name, r in (("a", 0), ("b", None))
    )
    assert (drawn.mask("a.jpg", classes=["cat"]) == null.mask("a.jpg", classes=["cat"])).all()


def test_what_a_mask_does_not_show_is_told(tmp_path):
    shapes = [
        box("cat", 0, 0, 10, 10),
        box("dog", 5, 5, 15, 15),
        box("cat", -50, 0, -40, 9),
        box("cat", 60, 0, 99, 9),
        box("dog", 20.6, 20.6, 21.4, 21.4),
        {"label": "cat", "points": [[30, 30], [40, 40], [40, 30], [30, 40]]},
    ]
    drawn = read(write(tmp_path / "a.json", files.labelme(shapes=shapes)))
    notes = [(note.kind, note.shape) for note in drawn.check("a.jpg", classes=CLASSES)]
    assert notes == [
        ("overlap", "shape 0"),
        ("outside", "shape 2"),
        ("outside", "shape 3"),
        ("empty", "shape 4"),
        ("self-crossing", "shape 5"),
    ]


def test_files_larger_than_a_piece_are_read_element_by_element(tmp_path):
    content = rings(SQUARE)
    content["annotations"] = content["annotations"] * 20000
    content["info"] = {"text": "x" * 3_000_000}
    path = write(tmp_path / "c.json", json.dumps(content, indent=1))
    drawn = read(path)
    assert len(drawn.shapes("a.jpg")) == 20000


@pytest.mark.parametrize("damage", ["none", "cut off", "a colon is missing"])
def test_a_file_of_any_size_needs_the_memory_of_an_element_not_of_the_file(tmp_path, damage):
    text = json.dumps(files.coco(annotations=[{"id": 1, "text": "x" * 20_000}] * 800))
    text = text[:-9] if damage == "cut off" else text
    path = write(tmp_path / "c.json", text.replace('"text":', '"text"', 1) if damage.startswith("a") else text)
    refused = pytest.raises(DataError, match="must be whole JSON") if damage != "none" else contextlib.nullcontext()
    tracemalloc.start()
    try:
        with refused:
            assert sum(1 for _ in elements(path)) > 800
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20 < len(text) / 1.5


@pytest.mark.parametrize("piece", [1, 2, 7, 100])
@pytest.mark.parametrize("name", [n for n in EVERY if n.endswith(".json")])
def test_json_is_read_the_same_in_pieces_of_any_size(tmp_path, monkeypatch, name, piece):
    monkeypatch.setattr("segkit.annotations._formats.stream._PIECE", piece)
    drawn = read(write(tmp_path / name, EVERY[name]()))
    assert (drawn.mask("a.jpg", classes=CLASSES) == EXPECTED).all()


def test_a_number_is_not_cut_where_a_piece_ends(tmp_path, monkeypatch):
    monkeypatch.setattr("segkit.annotations._formats.stream._PIECE", 1)
    path = write(tmp_path / "c.json", "[1234567, 8]")
    assert [element.value for element in elements(path)] == [1234567, 8]


@pytest.mark.parametrize("cut", [0.02, 0.3, 0.7, 0.999])
@pytest.mark.parametrize("name", ["coco.json", "a.json", "studio.json"])
def test_a_file_that_was_cut_off_is_refused(tmp_path, name, cut):
    text = json.dumps(EVERY[name]())
    path = write(tmp_path / name, text[: int(len(text) * cut)])
    kinds = {"coco.json": "coco", "a.json": "labelme", "studio.json": "label_studio"}
    for kind in ("auto", kinds[name]):
        with pytest.raises(DataError, match="must be whole JSON|must be COCO, labelme"):
            read(path, format=kind)


@pytest.mark.parametrize(
    "text", ["", "  ", "null", "[]", "{}", "[1, 2]", '{"a": 1}', "{'a': 1}", '{"images": [1 2]}', "\x00\x01"]
)
def test_json_of_something_else_is_refused(tmp_path, text):
    with pytest.raises(DataError, match="annotations.read"):
        read(write(tmp_path / "x.json", text))


def test_paths_and_formats_that_cannot_be_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="a file or folder that exists"):
        read(tmp_path / "no.json")
    path = write(tmp_path / "a.zip", "x")
    with pytest.raises(DataError, match="Unzip it"):
        read(path)
    with pytest.raises(ValueError, match="`format` must be 'auto' or one of coco"):
        read(path, format="voc")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="a folder without"):
        read(tmp_path / "empty")


def test_annotations_pickle_and_say_what_they_are(tmp_path):
    import pickle

    drawn = read(write(tmp_path / "a.json", files.labelme()))
    again = pickle.loads(pickle.dumps(drawn))
    assert (again.mask("a", classes=CLASSES) == EXPECTED).all()
    assert repr(drawn).endswith("a.json', format='labelme', 1 images, classes=['cat', 'dog'])")
    assert len(drawn) == 1
