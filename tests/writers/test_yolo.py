from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from scipy import ndimage

from nerveseg.errors import ImageError, OptionError
from nerveseg.image import load_image
from nerveseg.segmentation import Segmentation
from nerveseg.words import Label
from nerveseg.writers import _outlines, save_all, yolo
from nerveseg.writers.base import DetailLost

NAMES = ("cat", "naïve 🐈", 'a "b" \\ c', "background")
EDGES, PIXELS = "edges", "pixels"


def result(ids, background=None, name="street.jpg", names=NAMES):
    ids = torch.as_tensor(np.asarray(ids, dtype=np.int64))
    image = load_image(Image.new("RGB", (ids.shape[1], ids.shape[0])), name=name)
    labels = tuple(Label(name, (name,)) for name in names)
    return Segmentation(ids, torch.full((len(names), 1, 1), 1 / len(names)), labels, image, background=background)


def ring(inside, outside=0):
    ids = np.full((12, 14), outside)
    ids[3:9, 3:9] = 1
    ids[5:7, 5:7] = inside
    return ids


def centre_inside(points, x, y):
    """Whether the middle of pixel (x, y) is inside a polygon of corners between pixels: crossings to its right, in a plain loop."""
    crossings = 0
    for (x0, y0), (_, y1) in zip(points, points[1:] + points[:1], strict=True):
        crossings += (y0 > y + 0.5) != (y1 > y + 0.5) and x0 > x + 0.5
    return crossings % 2 == 1


def on_line(points, x, y):
    """Whether pixel (x, y) is on the polygon's line, which goes along rows, columns and diagonals."""
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        steps = max(abs(x1 - x0), abs(y1 - y0))
        for step in range(steps + 1):
            if (x, y) == (x0 + (x1 - x0) * step / max(steps, 1), y0 + (y1 - y0) * step / max(steps, 1)):
                return True
    return False


def point_inside(points, x, y):
    """Whether the point (x, y) is inside a polygon of any corners."""
    crossings = 0
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        crossings += (y0 > y) != (y1 > y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0)
    return crossings % 2 == 1


def painted(text, size, kind):
    """A file's lines painted in their order, by what a reader without OpenCV or nerveseg would do."""
    ids = np.full(size, -1)
    for line in text.splitlines():
        number, *shares = line.split()
        values = [float(share) for share in shares]
        assert all(0 <= value <= 1 for value in values)
        assert len(values) >= 6
        points = [(round(x * size[1]), round(y * size[0])) for x, y in zip(values[::2], values[1::2], strict=True)]
        assert points == [
            (int(np.float32(x) * size[1]), int(np.float32(y) * size[0])) for x, y in zip(values[::2], values[1::2], strict=True)
        ]
        for y in range(size[0]):
            for x in range(size[1]):
                if centre_inside(points, x, y) if kind == EDGES else on_line(points, x, y) or point_inside(points, x, y):
                    ids[y, x] = int(number)
    return ids


maps = arrays.arrays(np.int64, st.tuples(st.integers(1, 8), st.integers(1, 8)), elements=st.integers(0, 3))


@settings(max_examples=80, deadline=None)
@given(maps, st.booleans())
def test_every_part_has_one_outline_and_all_pixels_come_back(ids, skipped):
    skip = 0 if skipped else None
    found, covered = _outlines.outlines(ids, 3, skip=skip)
    named = (ids < 3) & (ids != (-1 if skip is None else skip))
    assert len(found) == sum(ndimage.label(ids == label)[1] for label in range(3) if label != skip)
    assert [outline.area for outline in found] == sorted((outline.area for outline in found), reverse=True)
    for kind in (EDGES, PIXELS):
        painted = np.full(ids.shape, -1)
        for outline in found:
            place, mask = _outlines.filled(getattr(outline, kind), kind)
            assert mask.sum() == outline.area
            painted[place][mask] = outline.label
        np.testing.assert_array_equal(painted[named], ids[named])
        np.testing.assert_array_equal((painted >= 0) & ~named, covered)


@settings(max_examples=25, deadline=None)
@given(maps)
def test_outlines_are_polygons_as_the_books_have_them(ids):
    for outline in _outlines.outlines(ids, 3)[0]:
        solid = ndimage.binary_fill_holes(ndimage.label(ids == outline.label)[0] == _number(ids, outline), np.ones((3, 3)))
        edges, pixels = outline.edges.tolist(), outline.pixels.tolist()
        for y in range(ids.shape[0]):
            for x in range(ids.shape[1]):
                assert centre_inside(edges, x, y) == solid[y, x]
                assert (on_line(pixels, x, y) or point_inside(pixels, x, y)) == solid[y, x]
        assert all((a[0] == b[0]) != (a[1] == b[1]) for a, b in zip(edges, edges[1:] + edges[:1], strict=True))


def _number(ids, outline):
    x, y = outline.pixels[0]
    return ndimage.label(ids == outline.label)[0][y, x]


@pytest.mark.parametrize("kind", [EDGES, PIXELS])
def test_the_lines_are_the_map_where_nothing_is_lost(tmp_path, kind):
    ids = np.random.default_rng(0).integers(0, 3, (11, 13))
    ids[3:9, 2:9] = 1
    ids[4:7, 4:7] = 2
    ids[5, 5] = 0
    save_all([("sub/a", result(ids, name="a.jpg"))], tmp_path, "yolo", outline=kind)
    text = (tmp_path / "labels" / "sub" / "a.txt").read_text("ascii")
    np.testing.assert_array_equal(painted(text, ids.shape, kind), ids)
    assert json.loads((tmp_path / "run.json").read_text("utf-8"))["lost"]["filled"] == 0


def test_a_square_and_a_pixel_are_the_points_that_one_would_draw(tmp_path):
    ids = np.full((4, 8), 3)
    ids[1:3, 2:6] = 0
    ids[3, 7] = 2
    result(ids, 3).save(tmp_path, format="yolo", outline="edges")
    lines = (tmp_path / "labels" / "street.txt").read_text("ascii").splitlines()
    assert lines == [
        "0 0.250000 0.250000 0.750000 0.250000 0.750000 0.750000 0.250000 0.750000",
        "2 0.875000 0.750000 1.000000 0.750000 1.000000 1.000000 0.875000 1.000000",
    ]
    result(ids, 3).save(tmp_path, format="yolo")
    assert json.loads((tmp_path / "run.json").read_text("utf-8"))["lost"] == {"pictures": 0, "filled": 0, "thin": 1}
    lines = (tmp_path / "labels" / "street.txt").read_text("ascii").splitlines()
    assert lines == [
        "0 0.250000 0.250000 0.625000 0.250000 0.625000 0.500000 0.250000 0.500000",
        "2 0.875000 0.750000 0.875000 0.750000 0.875000 0.750000",
    ]


@pytest.mark.parametrize("kind", [EDGES, PIXELS])
@pytest.mark.parametrize(("inside", "background", "lost"), [(2, None, 0), (0, None, 0), (255, None, 4), (3, 3, 4), (255, 3, 4)])
def test_holes_that_no_label_fills_are_lost_and_told(tmp_path, kind, inside, background, lost):
    made = {"a": result(ring(inside), background), "b": result(ring(2), background)}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        save_all(made.items(), tmp_path, "yolo", outline=kind)
    run = json.loads((tmp_path / "run.json").read_text("utf-8"))
    assert [image["lost"]["filled"] for image in run["pictures"]] == [lost, 0]
    assert run["lost"] == {"pictures": int(lost > 0), "filled": lost, "thin": 0}
    assert [str(warning.message) for warning in caught if warning.category is DetailLost] == (
        [] if not lost else [f"YOLO's polygons cannot hold all of 1 images: 4 pixels without a label are inside a polygon, as it has no "
                             f"holes ({tmp_path / 'run.json'} says which)"]
    )  # fmt: skip
    found = painted((tmp_path / "labels" / "a.txt").read_text("ascii"), (12, 14), kind)
    unlabelled = (ring(inside) == 255) | (ring(inside) == background)
    assert int((found != np.where(unlabelled, -1, ring(inside))).sum()) == lost
    for stem, reading in yolo.read(tmp_path):
        np.testing.assert_array_equal(reading.ids, made[stem].segmentation.numpy())


@pytest.mark.parametrize("kind", [EDGES, PIXELS])
@pytest.mark.parametrize("shown", [False, True])
@pytest.mark.filterwarnings("ignore::nerveseg.writers.base.DetailLost")
def test_noise_comes_back_with_the_record(tmp_path, kind, shown):
    ids = np.random.default_rng(0).integers(0, 5, (40, 31))
    ids[ids == 4] = 255
    made = {"a": result(ids, 3), "sub/b.c": result(ids.T, 3)}
    save_all(made.items(), tmp_path, "yolo", outline=kind, background=shown)
    for stem, reading in yolo.read(tmp_path):
        np.testing.assert_array_equal(reading.ids, made[stem].segmentation.numpy())
        assert reading.labels == NAMES


def test_a_checkerboard_of_rings_that_touch_at_corners(tmp_path):
    """Two parts that cross at a corner would paint over one another if a corner connected."""
    ids = np.zeros((6, 6), dtype=int)
    ids[1:5, 1:5] = 1
    ids[2:4, 2:4] = 2
    ids[4, 4] = 2
    result(ids).save(tmp_path, format="yolo", outline=EDGES)
    np.testing.assert_array_equal(painted((tmp_path / "labels" / "street.txt").read_text("ascii"), ids.shape, EDGES), ids)


@pytest.mark.parametrize("side", [3, 7, 640, 1023, 65535, 200_000])
@pytest.mark.parametrize("kind", [EDGES, PIXELS])
def test_long_sides_come_back(tmp_path, side, kind):
    ids = np.full((2, side), 0)
    ids[:, side // 3 : side // 3 + 1] = 1
    ids[1, -1] = 2
    result(ids).save(tmp_path, format="yolo", outline=kind)
    ((_, reading),) = yolo.read(tmp_path)
    np.testing.assert_array_equal(reading.ids, ids)


@pytest.mark.parametrize("side", [1, 2, 3, 480, 640, 1023, 4000, 65535, 99_999, 100_000, 200_000])
def test_readers_that_multiply_and_cut_off_get_every_place(side):
    """480, for one: 63 / 480 is 0.13125, which as a float of 32 bits is a little less."""
    place = np.arange(side + 1)
    shares = np.array(yolo._line(0, np.stack([place, place], axis=1), (side, side)).split()[1:]).reshape(-1, 2)[: side + 1]
    single, double = shares.astype(np.float32), shares.astype(np.float64)
    assert double.max() <= 1
    for read in (single * np.float32(side), single.astype(np.float64) * side, double * side):
        for cut in (np.trunc, np.rint):
            np.testing.assert_array_equal(cut(read), np.stack([place, place], axis=1))


def test_the_yaml_names_the_classes(tmp_path):
    yaml = pytest.importorskip("yaml")
    names = (*NAMES[:3], "no: 1 # x", "a\nb", "\u2028", "\x7f", "- [", "~", "background")
    result([[0, 1]], 9, names=names).save(tmp_path, format="yolo")
    told = yaml.safe_load((tmp_path / "data.yaml").read_text("ascii"))
    assert told == {"train": "images", "val": "images", "names": dict(enumerate(names[:9]))}
    result([[0, 1]], 9, names=names).save(tmp_path, format="yolo", background=True)
    assert yaml.safe_load((tmp_path / "data.yaml").read_text("ascii"))["names"] == dict(enumerate(names))


def test_images_on_request_and_empty_ones(tmp_path):
    made = [("a", result(np.full((4, 6), 255), 3)), ("sub/b", result(np.full((4, 6), 3), 3))]
    files = save_all(made, tmp_path, "yolo", images=True)
    assert (tmp_path / "labels" / "a.txt").read_bytes() == (tmp_path / "labels" / "sub" / "b.txt").read_bytes() == b""
    assert {tmp_path / "images" / "a.jpg", tmp_path / "images" / "sub" / "b.jpg"} < set(files)
    with Image.open(tmp_path / "images" / "a.jpg") as image:
        assert image.size == (6, 4)


def test_bad_files_and_knobs_are_refused(tmp_path):
    made = result(ring(2))
    made.save(tmp_path, format="yolo")
    with pytest.raises(OptionError, match="edges"):
        made.save(tmp_path, format="yolo", outline="round")
    path = tmp_path / "labels" / "street.txt"
    for wrong in (
        b"0 0.1 0.2 0.3",
        b"0 0.1 0.2 0.3 0.4",
        b"9 0 0 1 0 1 1",
        b"x 0 0 1 0 1 1",
        b"0 0 0 1 0 1 nan",
        b"0 0 0 1 0 1 2",
        b"\xff",
    ):
        path.write_bytes(wrong)
        with pytest.raises(ImageError, match=r"street\.txt"):
            list(yolo.read(tmp_path))
    path.unlink()
    with pytest.raises(ImageError, match=r"street\.txt"):
        list(yolo.read(tmp_path))


def where_ultralytics_looks(image):
    """Its rule, in words of our own: the last folder called images is labels there, and the ending is .txt."""
    before, _, after = str(image).rpartition("/images/")
    return f"{before}/labels/{after.rpartition('.')[0]}.txt"


@pytest.mark.parametrize("images", [True, False])
@pytest.mark.parametrize(
    "stem", ["a", "deep/a", "train/images/a", "images/a", "images/images/x/a", "labels/a", "a.b", "images/labels/images.1"]
)
def test_labels_lie_where_ultralytics_looks_and_the_named_folder_exists(tmp_path, stem, images):
    written = save_all([(stem, result(ring(2)))], tmp_path, "yolo", images=images)
    image = tmp_path / "images" / f"{stem}.jpg"
    label = tmp_path / where_ultralytics_looks(image)
    assert label in written
    assert label.read_text()
    assert image.is_file() == images
    assert image.parent.is_dir()
    named = [line.partition(": ")[2] for line in (tmp_path / "data.yaml").read_text().splitlines() if line.startswith(("train", "val"))]
    assert named == ["images", "images"]
    ((back, reading),) = yolo.read(tmp_path)
    assert back == stem
    np.testing.assert_array_equal(reading.ids, result(ring(2)).segmentation.numpy())
