from __future__ import annotations

import json
import shutil
import struct
import sys
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from nerveseg.errors import ImageError, MissingExtra, OptionError, OutputError
from nerveseg.image import load_image
from nerveseg.image.orientation import source_of
from nerveseg.masks.palette import wheel
from nerveseg.segmentation import Segmentation
from nerveseg.words import Label
from nerveseg.writers import geotiff

rasterio = pytest.importorskip("rasterio")
NAMES = ("cat", "naïve 🐈", 'a <b> & "c"', "background")
SCALE, TIE, KEYS = 33550, 33922, 34735  # GeoTIFF 1.1: ModelPixelScale, ModelTiepoint, GeoKeyDirectory


def labelled(image, ids=None, names=NAMES, background=None):
    height, width = image.size
    ids = np.random.default_rng(0).integers(0, 4, (height, width)) if ids is None else np.asarray(ids)
    labels = tuple(Label(name, (name,)) for name in names)
    return Segmentation(torch.as_tensor(ids), torch.full((len(names), 1, 1), 1 / len(names)), labels, image, background=background)


def photo(path, driver="GTiff", size=(12, 20), **place):
    """An image with a place, by rasterio."""
    after = {name: place.pop(name) for name in ("gcps", "rpcs") if name in place}
    pixels = np.random.default_rng(0).integers(0, 256, (3, *size), dtype=np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path, "w", driver=driver, width=size[1], height=size[0], count=3, dtype="uint8", **place) as out:
            out.write(pixels)
            for name, value in after.items():
                setattr(out, name, value)
    return path


LONDON = rasterio.Affine(0.5, 0.0, 530000.0, 0.0, -0.5, 180000.0)


def test_the_place_is_the_images(tmp_path):
    made = labelled(load_image(photo(tmp_path / "in.tif", crs="EPSG:27700", transform=LONDON)), background=3)
    (path,) = made.save(tmp_path / "out.tif")
    with rasterio.open(path) as held:
        assert held.crs.to_epsg() == 27700
        assert held.transform == LONDON
        assert (held.count, held.dtypes, held.nodata) == (1, ("uint8",), 255)
        np.testing.assert_array_equal(held.read(1), made.segmentation.numpy())
        expected = [(*colour, 255) for colour in wheel(4, background=3).tolist()]
        assert [held.colormap(1)[number] for number in range(4)] == expected
        assert held.colormap(1)[255][3] == 0 or held.nodata == 255
        assert json.loads(held.tags()["NERVESEG_LABELS"]) == list(NAMES)
    with Image.open(path) as plain:  # as another program reads the tags
        assert plain.tag_v2[SCALE] == (0.5, 0.5, 0.0)
        assert plain.tag_v2[TIE] == (0.0, 0.0, 0.0, 530000.0, 180000.0, 0.0)
        keys = np.array(plain.tag_v2[KEYS]).reshape(-1, 4)
        assert 27700 in keys[keys[:, 0] == 3072][:, 3]  # ProjectedCSType
        assert plain.mode == "P"
        np.testing.assert_array_equal(np.asarray(plain), made.segmentation.numpy())


def test_a_turned_grid_and_points_for_pixels_are_kept(tmp_path):
    turned = rasterio.Affine.translation(10, 50) @ rasterio.Affine.rotation(30) @ rasterio.Affine.scale(0.01, -0.01)
    path = photo(tmp_path / "in.tif", crs="EPSG:4326", transform=turned)
    with rasterio.open(path, "r+") as held:
        held.update_tags(AREA_OR_POINT="Point")
    with rasterio.open(path) as before:
        expected = before.transform, before.tags()["AREA_OR_POINT"]
    labelled(load_image(path)).save(tmp_path / "out.tif")
    with rasterio.open(tmp_path / "out.tif") as held:
        assert held.transform.almost_equals(expected[0])
        assert (held.tags()["AREA_OR_POINT"], held.crs.to_epsg()) == (expected[1], 4326)


def test_control_points_and_rational_polynomials_are_kept(tmp_path):
    from rasterio.control import GroundControlPoint
    from rasterio.crs import CRS
    from rasterio.rpc import RPC

    points = [GroundControlPoint(row=r, col=c, x=c * 0.1 + 3, y=50 - r * 0.2, z=0.0) for r, c in ((0, 0), (0, 20), (12, 0), (12, 19))]
    labelled(load_image(photo(tmp_path / "a.tif", gcps=(points, CRS.from_epsg(4326))))).save(tmp_path / "a.out.tif")
    with rasterio.open(tmp_path / "a.out.tif") as held:
        found, system = held.gcps
        assert [(point.row, point.col, point.x, point.y) for point in found] == [(p.row, p.col, p.x, p.y) for p in points]
        assert system.to_epsg() == 4326
    numbers = [float(number) for number in range(1, 21)]
    told = RPC(1.0, 2.0, 3.0, 4.0, numbers, numbers[::-1], 5.0, 6.0, 7.0, 8.0, numbers, numbers, 9.0, 10.0)
    labelled(load_image(photo(tmp_path / "b.tif", rpcs=told))).save(tmp_path / "b.out.tif")
    with rasterio.open(tmp_path / "b.out.tif") as held:
        assert held.rpcs.samp_num_coeff == told.samp_num_coeff
        assert (held.rpcs.lat_off, held.rpcs.line_den_coeff) == (told.lat_off, told.line_den_coeff)


def test_a_world_file_says_the_place_too(tmp_path):
    Image.new("RGB", (20, 12)).save(tmp_path / "a.png")
    (tmp_path / "a.wld").write_text("2.0\n0.0\n0.0\n-2.0\n101.0\n199.0\n")  # the middle of the first pixel
    labelled(load_image(tmp_path / "a.png")).save(tmp_path / "out.tif")
    with rasterio.open(tmp_path / "out.tif") as held:
        assert held.transform == rasterio.Affine(2.0, 0.0, 100.0, 0.0, -2.0, 200.0)
        assert held.crs is None


@pytest.mark.parametrize("source", ["memory", "png", "webp"])
def test_an_image_without_a_place_makes_a_tiff_without_one(tmp_path, source):
    image = Image.new("RGB", (20, 12))
    if source != "memory":
        image.save(tmp_path / f"a.{source}")
    made = labelled(load_image(image if source == "memory" else tmp_path / f"a.{source}"))
    (path,) = made.save(tmp_path / "out.tif")
    with Image.open(path) as plain:
        assert not {SCALE, TIE, KEYS} & set(plain.tag_v2)
        np.testing.assert_array_equal(np.asarray(plain), made.segmentation.numpy())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.tif"] if source == "memory" else ["a." + source, "out.tif"]


@pytest.mark.parametrize("compress", ["deflate", "lzw", "none"])
@pytest.mark.parametrize("count", [4, 255, 300])
def test_ids_come_back(tmp_path, compress, count):
    names = tuple(f"thing {number}" for number in range(count))
    ids = np.arange(700 * 300).reshape(700, 300) % count
    ids[5:9, 5:9] = 255 if count <= 255 else 65535
    made = labelled(load_image(Image.new("RGB", (300, 700))), ids, names)
    (path,) = made.save(tmp_path / "out.tif", compress=compress)
    found = geotiff.read(path)
    np.testing.assert_array_equal(found.ids, ids)
    assert found.labels == names
    assert found.run["picture"]["sha256"] == made.image.sha256
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path) as held:
            assert held.nodata == made.ignore_index
            assert held.colormap(1)[count - 1] == (*wheel(count)[count - 1].tolist(), 255)
            assert (held.read(1, masked=True).mask == (ids == made.ignore_index)).all()


@pytest.mark.parametrize("name", ["a\x00b", "a\x1b[0m", "\ud800", "]]>", "\u2028", "猫", "<b>", "\ufffe"])
def test_any_name_comes_back(tmp_path, name):
    (path,) = labelled(load_image(Image.new("RGB", (2, 2))), [[0, 1], [1, 0]], (name, "b")).save(tmp_path / "out.tif")
    assert geotiff.read(path).labels == (name, "b")


def test_an_image_that_is_gone_has_changed_or_was_turned_is_refused(tmp_path):
    path = photo(tmp_path / "in.tif", crs="EPSG:27700", transform=LONDON)
    made = labelled(load_image(path))
    photo(path, size=(13, 20), crs="EPSG:27700", transform=LONDON)
    with pytest.raises(OutputError, match="13×20"):
        made.save(tmp_path / "out.tif")
    path.unlink()
    with pytest.raises(OutputError, match="gone"):
        made.save(tmp_path / "out.tif")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 12)).save(tmp_path / "b.jpg", exif=exif)
    (tmp_path / "b.wld").write_text("2.0\n0.0\n0.0\n-2.0\n101.0\n199.0\n")
    assert labelled(load_image(tmp_path / "b.jpg")).save(tmp_path / "turned.tif")
    with rasterio.open(tmp_path / "turned.tif") as held:  # a world file tells of the middle of the first stored pixel
        assert held.transform @ (11.5, 0.5) == (101.0, 199.0)
    (tmp_path / "b.wld").unlink()
    assert labelled(load_image(tmp_path / "b.jpg")).save(tmp_path / "out.tif")


def test_the_path_of_an_image_is_known_where_there_is_one(tmp_path, monkeypatch):
    Image.new("RGB", (4, 3)).save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    assert load_image("a.png").path == str(tmp_path / "a.png")
    assert load_image((tmp_path / "a.png").read_bytes()).path is None
    assert load_image(np.zeros((4, 5, 3), np.uint8)).path is None


def test_bad_files_and_knobs_are_refused(tmp_path):
    made = labelled(load_image(Image.new("RGB", (20, 12))))
    with pytest.raises(OptionError, match="deflate"):
        made.save(tmp_path / "out.tif", compress="jpeg")
    (path,) = made.save(tmp_path / "out.tif")
    half = path.read_bytes()[:300]
    path.write_bytes(half)
    with pytest.raises(ImageError):
        geotiff.read(path)
    shutil.copy(photo(tmp_path / "a.png", driver="PNG"), path)
    with pytest.raises(ImageError):
        geotiff.read(path)
    with pytest.raises(ImageError):
        geotiff.read(tmp_path / "none.tif")


def test_without_the_library_the_command_is_named(tmp_path, monkeypatch):
    made = labelled(load_image(Image.new("RGB", (20, 12))))
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(MissingExtra, match=r"pip install 'nerveseg\[geotiff\]'"):
        made.save(tmp_path / "out.tif")
    with pytest.raises(MissingExtra, match=r"pip install 'nerveseg\[geotiff\]'"):
        geotiff.read(tmp_path / "out.tif")
    assert list(tmp_path.iterdir()) == []


def with_orientation(path, code):
    """Give a little-endian TIFF the tag 274, by a directory at its end."""
    data = path.read_bytes()
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    entries = [data[at + 2 + 12 * index : at + 14 + 12 * index] for index in range(count)]
    entries.append(struct.pack("<HHII", 274, 3, 1, code))
    entries.sort(key=lambda entry: struct.unpack_from("<H", entry)[0])
    path.write_bytes(data[:4] + struct.pack("<I", len(data)) + data[8:] + struct.pack("<H", count + 1) + b"".join(entries) + bytes(4))
    return path


@pytest.mark.parametrize("code", range(1, 9))
def test_every_pixel_of_a_turned_image_keeps_its_place(tmp_path, code):
    path = with_orientation(photo(tmp_path / "in.tif", crs="EPSG:27700", transform=LONDON), code)
    image = load_image(path)
    assert image.orientation == code
    assert image.size == ((20, 12) if code > 4 else (12, 20))
    (made,) = labelled(image).save(tmp_path / "out.tif")
    with rasterio.open(path) as stored, rasterio.open(made) as held:
        colours = {tuple(colour): place for colour, place in zip(stored.read().reshape(3, -1).T.tolist(), np.ndindex(12, 20), strict=True)}
        for row, column in np.ndindex(*image.size):
            there = colours[tuple(image.pixels[row, column].tolist())]
            assert held.xy(row, column) == pytest.approx(stored.xy(*there))


@pytest.mark.parametrize("code", range(1, 9))
def test_control_points_and_polynomials_are_turned_along(tmp_path, code):
    points = [rasterio.control.GroundControlPoint(row=row, col=col, x=5.0 + col, y=50.0 - row) for row, col in ((0, 0), (12, 20), (3, 17))]
    path = with_orientation(photo(tmp_path / "in.tif", gcps=(points, rasterio.CRS.from_epsg(4326))), code)
    (made,) = labelled(load_image(path)).save(tmp_path / "out.tif")
    height, width = load_image(path).size
    with rasterio.open(made) as held:
        for point, was in zip(held.gcps[0], points, strict=True):
            seen = {
                1: (was.row, was.col), 2: (was.row, width - was.col), 3: (height - was.row, width - was.col),
                4: (height - was.row, was.col), 5: (was.col, was.row), 6: (was.col, width - was.row),
                7: (height - was.col, width - was.row), 8: (height - was.col, was.row),
            }[code]  # fmt: skip
            assert (point.row, point.col) == pytest.approx(seen)
            assert (point.x, point.y) == (was.x, was.y)


def at(rpcs, name, latitude, longitude):
    """Line or sample of a place, with linear polynomials alone."""
    terms = (1.0, (longitude - rpcs.long_off) / rpcs.long_scale, (latitude - rpcs.lat_off) / rpcs.lat_scale)
    top, below = (sum(c * t for c, t in zip(getattr(rpcs, f"{name}_{part}_coeff"), terms, strict=False)) for part in ("num", "den"))
    return getattr(rpcs, f"{name}_off") + getattr(rpcs, f"{name}_scale") * top / below


@pytest.mark.parametrize("code", range(1, 9))
def test_rational_polynomials_are_turned_along(tmp_path, code):
    rest = [0.0] * 17
    rpcs = rasterio.rpc.RPC(
        height_off=0.0, height_scale=1.0, lat_off=50.0, lat_scale=2.0, long_off=5.0, long_scale=3.0, line_off=5.0, line_scale=7.0,
        line_num_coeff=[0.1, 0.2, -0.9, *rest], line_den_coeff=[1.0, 0.05, 0.02, *rest], samp_off=9.0, samp_scale=11.0,
        samp_num_coeff=[-0.2, 0.8, 0.1, *rest], samp_den_coeff=[1.0, 0.01, -0.03, *rest],
    )  # fmt: skip
    path = with_orientation(photo(tmp_path / "in.tif", rpcs=rpcs), code)
    image = load_image(path)
    (made,) = labelled(image).save(tmp_path / "out.tif")
    a, b, c, d, e, f = source_of(image.size, code)
    with rasterio.open(made) as held:
        for place in ((50.0, 5.0), (51.0, 4.0), (49.3, 6.5)):
            x, y = at(held.rpcs, "samp", *place) + 0.5, at(held.rpcs, "line", *place) + 0.5
            stored = a * x + b * y + c - 0.5, d * x + e * y + f - 0.5
            assert stored == pytest.approx((at(rpcs, "samp", *place), at(rpcs, "line", *place)))
