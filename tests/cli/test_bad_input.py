"""What a new user gets wrong, and the one line that says so."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image


def told(result, code, *words):
    """One line on stderr, the code, no traceback."""
    assert result.exit_code == code, (result.exit_code, result.stderr, result.exception)
    line = result.stderr.strip()
    assert line.startswith("error: Got")
    assert "\n" not in line
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    for word in words:
        assert word in line, line


@pytest.mark.parametrize(
    ("labels", "word"),
    [
        ("", "empty line"),
        (" , ", "empty string"),
        ("dog,,cat", "empty string"),
        ("dog, Dog", "twice"),
        ("dog; cat, cat", "twice"),
        ("dog\x07, cat", "control character"),
        ("dog", "--background"),
        ("words.txt", "does not exist"),
    ],
)
def test_labels_that_cannot_be(run, photo, labels, word):
    told(run("segment", photo(), "--labels", labels, "--recipe", "mini"), 2, word)


def test_no_labels_at_all_is_a_usage_error(run, photo):
    result = run("segment", photo(), "--recipe", "mini")
    assert result.exit_code == 2
    assert "--labels" in result.stderr


def test_no_image_is_a_usage_error(run):
    assert run("segment", "--labels", "a, b").exit_code == 2


def test_an_empty_label_file(run, photo, tmp_path):
    (tmp_path / "words.txt").write_text("# none\n")
    told(run("segment", photo(), "--labels", "words.txt", "--recipe", "mini"), 2, "no labels")


def test_a_background_that_is_also_a_label(run, photo):
    told(run("segment", photo(), "--labels", "dog, cat", "-b", "cat, sky", "-r", "mini"), 2, "background")


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it is huge, with next to nothing in it."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


def truncated_jpeg(path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:700])


IMAGES = {
    "empty.png": (lambda path: path.write_bytes(b""), "empty"),
    "short.jpg": (truncated_jpeg, "damaged or cut short"),
    "text.png": (lambda path: path.write_text("I am an image, honestly"), "no whole image"),
    "huge.png": (lambda path: path.write_bytes(png_header(60000, 60000)), "60000×60000"),
    "folder": (lambda path: path.mkdir(), "folder"),
    "absent.png": (lambda path: None, "does not exist"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_images_that_cannot_be_read(run, tmp_path, name):
    make, word = IMAGES[name]
    make(tmp_path / name)
    told(run("segment", name, "--labels", "dog, cat", "--recipe", "mini"), 1, word)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000)])
def test_images_of_odd_sizes_work(run, photo, tmp_path, monkeypatch, size):
    monkeypatch.setattr("nerveseg.backbones.stable_diffusion._MAX_TOKENS", 1024)  # as wide as it may be, a long image takes 20 seconds
    result = run("segment", photo(size=size), "--labels", "dog, grass", "--recipe", "mini")
    assert result.exit_code == 0, result.stderr
    with Image.open(tmp_path / "nerveseg-out" / "a.png") as ids:
        assert ids.size == size[::-1]


def test_of_an_animated_gif_the_first_image_is_taken(run, tmp_path):
    frames = [Image.fromarray(np.full((20, 30, 3), shade, np.uint8)) for shade in (0, 250)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    result = run("segment", "moving.gif", "--labels", "dog, grass", "--recipe", "mini")
    assert result.exit_code == 0
    assert "Image 1 of the 2" in result.stderr


def test_any_script_and_any_length_of_label(run, photo):
    long = " ".join(["very"] * 120) + " long dog"
    result = run("segment", photo(), "--labels", f"猫; кошка, Straße, {long}", "--recipe", "mini")
    assert result.exit_code == 0, result.stderr
    assert "猫" in result.stdout
    assert "its end was cut" in result.stderr


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--recipe", "nerv"), "Did you mean 'nerve'"),
        (("--recipe", "no/such.toml"), "cannot be read"),
        (("--recipe", "mini", "--set", "walk.alpha=1.5"), "walk.alpha = 1.5"),
        (("--recipe", "mini", "--set", "walk.alhpa=0.5"), "Did you mean 'alpha'"),
        (("--recipe", "mini", "--set", "walk.alpha=high"), "walk.alpha = 'high'"),
        (("--recipe", "mini", "--set", "wlak.alpha=0.5"), "TABLE.KNOB"),
        (("--recipe", "mini", "--set", "walk.alpha"), "TABLE.KNOB=VALUE"),
        (("--recipe", "mini", "--set", "walk.alpha=0.5", "--set", "walk.alpha=0.6"), "twice"),
        (("--recipe", "mini", "--set", "walk.name=guess"), "Accepted are"),
        (("--recipe", "mini", "--device", "warp"), "device"),
        (("--recipe", "mini", "--dtype", "float7"), "dtype"),
    ],
)
def test_recipes_and_knobs_that_do_not_exist(run, photo, options, word):
    told(run("segment", photo(), "--labels", "dog, cat", *options), 2, word)


def test_missing_weights_offer_mini_and_say_how_to_get_them(run, photo, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    result = run("segment", photo(), "--labels", "dog, cat", "--offline")
    told(result, 1, "clip-l14-336", "1.7 GB", "licence", "nerveseg weights fetch", "'mini'")


def test_missing_weights_and_no_network(run, photo, monkeypatch):
    import huggingface_hub

    def unreachable(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    told(run("segment", photo("a.png"), photo("b.png"), "--labels", "dog, cat"), 1, "'mini'", "nerveseg weights fetch")


def test_a_folder_for_results_that_is_a_file(run, photo, tmp_path):
    (tmp_path / "taken").write_text("")
    told(run("segment", photo(), "--labels", "dog, cat", "-r", "mini", "-o", "taken"), 1, "-o taken")
