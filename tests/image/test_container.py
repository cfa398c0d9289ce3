from __future__ import annotations

import importlib.util
import sys
import time
import tracemalloc
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from nerveseg.errors import ImageError, ImageTooLarge
from nerveseg.image import load_image


def _files():
    name = "_hostile_pictures"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / "_hostile.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


files = _files()

REFUSED = {
    "jpeg scans": (files.jpeg_scans(2000), "more than 200 scans"),
    "jpeg exif": (files.jpeg_segments(100_000), "64 segments of EXIF"),
    "jpeg segments": (files.jpeg_segments(100_000, b"x", 0xE5), "10,000 segments"),
    "jpeg comments": (files.jpeg_segments(100_000, b"x", 0xFE), "10,000 segments"),
    "jpeg exif tags": (files.jpeg_segments(1, b"Exif\0\0" + files.claiming(900, 40_000)), "tags claim"),
    "tiff tags": (files.tiff_tags(), "tags claim"),
    "tiff tile": (files.tiff_tile(46_320), "46320×46320"),
    "tiff overlapping": (files.tiff_overlapping(), "over one another"),
    "tiff strips": (files.tiff_strips(100_000), "100,000 strips or tiles"),
    "tiff numbers": (files.tiff([*files.layout()[:2], (258, 3, 200_000, files.long(8))], bytes(400_000)), "tag 258 holds 200,000"),
    "tiff many tags": (files.claiming(5000, 1), "5,000 tags"),
    "png exif": (files.encoded(files.grey(), "PNG", exif=files.claiming(64, 1 << 16)), "tags claim"),
    "png exif as text": (files.raw_exif(files.claiming(64, 1 << 16)), "tags claim"),
    "webp exif": (files.encoded(Image.new("RGB", (1, 1)), "WEBP", exif=b"Exif\0\0" + files.claiming(64, 1 << 16)), "tags claim"),
    "png chunks": (files.png_chunks(100_000), "10,000 chunks"),
    "gif comments": (files.gif_blocks(20_000), "extension blocks"),
    "gif one comment": (files.gif_blocks(1, (b"\xff" + b"a" * 255) * 5000), "bytes of comments"),
    "gif pieces": (files.gif_blocks(1, b"\1a" * 100_000), "pieces"),
    "ppm comments": (b"P3\n1 1\n255\n" + b"#\n" * 20_000 + b"0 0 0\n", "20,000 lines of comments"),
    "ppm head": (b"P6\n" + b"#" * 100_000 + b"\n1 1\n255\nabc", "before its pixels"),
    "pbm head": (b"P4\n" + b"# a\n" * 2000 + b"1 1\na", "2,000 lines"),
    "bmp runs": (files.bmp_runs(200_000), "run lengths"),
    "j2k tiles": (files.j2k(255, 255, tile=1, bands=4), "65,025 tiles"),
    "j2k precincts": (files.j2k(4000, 4000, levels=1, precinct=1), "precincts"),
    "j2k blocks": (files.j2k(16_000, 12_000, block=0), "code-blocks"),
    "j2k layers": (files.j2k(2000, 2000, levels=3, precinct=7, layers=65_535, bands=3), "65,535 layers"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_costs_far_more_than_it_is_worth_is_refused_at_once(kind, tmp_path):
    data, says = REFUSED[kind]
    path = tmp_path / "a"
    path.write_bytes(data)
    for source in (data, path):
        tracemalloc.start()
        began = time.process_time()
        with pytest.raises(ImageError, match=says) as caught:
            load_image(source)
        assert time.process_time() - began < 1
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
        tracemalloc.stop()
        assert "Accepted" in str(caught.value)
        assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    "data", [files.webp_canvas(16_000, 16_000), files.j2k(40_000, 40_000), files.tiff(files.layout(2000, 2000, bands=2000, bits=32))]
)
def test_stated_sizes_are_refused_before_a_reader_reserves_memory_for_them(data):
    with pytest.raises(ImageTooLarge):
        load_image(data, max_pixels=50_000_000)


def test_an_opened_image_is_looked_into_as_well():
    with Image.open(BytesIO(files.jpeg_scans(2000))) as image, pytest.raises(ImageError, match="200 scans"):
        load_image(image)


def _text():
    info = PngImagePlugin.PngInfo()
    info.add_text("w", "x" * 500_000, zip=True)
    info.add_itxt("Title", "an image")
    return info


HONEST = {
    "jpeg of many scans": lambda: files.jpeg_scans(100),
    "progressive jpeg": lambda: files.encoded(files.noise(300, 400), "JPEG", progressive=True, quality=95),
    "jpeg with a profile and comments": lambda: files.encoded(files.noise(9, 9), "JPEG", icc_profile=bytes(1 << 20), comment=b"c" * 60_000),
    "jpeg of a thousand segments": lambda: files.jpeg_segments(1000, b"x" * 9000, 0xE5),
    "tiff of a row a strip": lambda: files.encoded(files.noise(3000, 40), "TIFF", compression="tiff_adobe_deflate", strip_size=1),
    "tiff of many images": lambda: files.encoded(
        files.noise(4, 4), "TIFF", save_all=True, append_images=[files.noise(4, 4) for _ in range(50)]
    ),
    "small tiff of one large tile": lambda: files.tiff_tile(256),
    "png with text and a profile": lambda: files.encoded(files.noise(9, 9), "PNG", pnginfo=_text(), icc_profile=bytes(1 << 19)),
    "png with exif": lambda: files.encoded(files.noise(9, 9), "PNG", exif=files.claiming(64, 100)),
    "webp with exif": lambda: files.encoded(files.noise(9, 9), "WEBP", exif=b"Exif\0\0" + files.claiming(20, 100)),
    "animated webp": lambda: files.encoded(files.noise(9, 9), "WEBP", save_all=True, append_images=[files.noise(9, 9)] * 30),
    "gif with comments": lambda: files.gif_blocks(100),
    "gif of five frames": lambda: files.encoded(
        files.noise(9, 9), "GIF", save_all=True, append_images=[Image.new("RGB", (9, 9), (n, n, n)) for n in range(4)]
    ),
    "plain ppm": lambda: b"P3\n# by hand\n# twice\n2 1\n255\n1 2 3 # a pixel\n4 5 6\n",
    "jpeg 2000": lambda: files.encoded(files.noise(300, 400), "JPEG2000", tile_size=(128, 128)),
    "jpeg 2000 of precincts": lambda: files.encoded(
        files.noise(300, 400), "JPEG2000", precinct_size=(128, 128), quality_layers=[20, 10, 5]
    ),
    "bmp": lambda: files.encoded(files.noise(9, 9), "BMP"),
    "avif": lambda: files.encoded(files.noise(64, 64), "AVIF"),
}


@pytest.mark.parametrize("kind", HONEST)
@pytest.mark.filterwarnings("ignore")
def test_honest_files_pass(kind):
    assert load_image(HONEST[kind]()).pixels.size > 0


def test_frames_are_counted_as_far_as_a_thousand():
    assert "Image 1 of the 5 in" in load_image(HONEST["gif of five frames"]()).notes[0]
    one = b",\0\0\0\0\1\0\1\0\0\2\2D\1\0"
    many = b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff" + one * 30_000 + b";"
    began = time.process_time()
    assert "1000 or more" in load_image(many).notes[0]
    assert time.process_time() - began < 1


def test_libtiff_writes_nothing_past_us(capfd):
    data = bytearray(files.encoded(files.noise(40, 40), "TIFF", compression="tiff_lzw"))
    data[200:900] = np.random.default_rng(0).integers(0, 256, 700, np.uint8).tobytes()
    with pytest.raises(ImageError):
        load_image(bytes(data))
    assert capfd.readouterr().err == ""
