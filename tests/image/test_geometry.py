from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nerveseg.errors import OptionError
from nerveseg.image import load_image
from nerveseg.image.geometry import CLIP_MEAN, CLIP_STD, SAMPLINGS, Frame, fit, sampled, short_side, square, to_tensor

sides = st.integers(1, 6000)


def image(height, width):
    return load_image(Image.fromarray(np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)))


@settings(max_examples=200, deadline=None, database=None)
@given(sides, sides, st.integers(1, 800), st.integers(1, 32), st.integers(1, 5000))
def test_sides_are_multiples_and_tokens_stay_under_the_cap(height, width, short, multiple, cap):
    h, w = short_side((height, width), short, multiple, max_tokens=cap)
    assert h % multiple == 0
    assert w % multiple == 0
    assert 1 <= (h // multiple) * (w // multiple) <= cap


@settings(max_examples=100, deadline=None, database=None)
@given(st.integers(200, 800), st.integers(200, 800))
def test_the_aspect_is_kept_to_half_a_patch(height, width):
    h, w = short_side((height, width), 336, 14)
    scale = 336 / min(height, width)
    assert min(h, w) == 336
    assert abs(h - height * scale) <= 7 + 1e-6
    assert abs(w - width * scale) <= 7 + 1e-6


def test_the_rule_rounds_halves_up():
    assert short_side((100, 150), 100, 100) == (100, 200)
    assert short_side((100, 149), 100, 100) == (100, 100)


def test_extreme_aspects_shrink_until_one_patch_is_left():
    assert short_side((1, 5000), 336, 14) == (14, 14 * 4096)
    assert short_side((5000, 1), 336, 14) == (14 * 4096, 14)
    rows, columns = (side // 14 for side in short_side((100, 3000), 336, 14))
    assert rows * columns <= 4096
    assert abs(columns / rows - 30) < 2


@settings(max_examples=100, deadline=None, database=None)
@given(sides, sides, st.integers(0, 10**6))
def test_the_centre_of_a_token_lies_in_it(height, width, pick):
    frame = fit((height, width), "aspect", 224, 16)
    rows, columns = frame.grid
    row, column = divmod(pick % frame.tokens, columns)
    assert frame.cell(*frame.centre(row, column)) == (row, column)
    assert frame.tokens == rows * columns


def test_points_outside_go_to_the_nearest_token():
    frame = Frame((50, 100), (28, 56), 14)
    assert frame.cell(-5.0, -5.0) == (0, 0)
    assert frame.cell(100.0, 50.0) == (1, 3)


def test_squares():
    assert square(500, 14) == (504, 504)
    assert fit((10, 900), "square", 512, 8).grid == (64, 64)
    with pytest.raises(OptionError, match="tokens"):
        fit((10, 10), "square", 1024, 8)


@pytest.mark.parametrize(
    "call", [lambda: short_side((0, 5), 10, 2), lambda: short_side((5, 5), 0, 2), lambda: square(10, 0), lambda: fit((5, 5), "crop", 8, 2)]
)
def test_numbers_below_one_and_other_modes_are_refused(call):
    with pytest.raises(OptionError):
        call()


def test_the_tensor_equals_the_librarys_processor_to_one_grey_level():
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    source = image(150, 150)
    theirs = CLIPImageProcessorPil()(images=Image.fromarray(source.pixels), return_tensors="pt")["pixel_values"][0]
    ours = to_tensor(source, (224, 224))
    one_level = torch.tensor([1 / 255 / std for std in CLIP_STD]).view(3, 1, 1)
    assert ours.shape == theirs.shape
    assert bool(((ours - theirs).abs() <= one_level * 1.001).all())


def test_values_and_layout_of_the_tensor():
    red = load_image(Image.new("RGB", (4, 2), (255, 0, 0)))
    tensor = to_tensor(red, (6, 10), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert tensor.shape == (3, 6, 10)
    assert tensor.dtype == torch.float32
    torch.testing.assert_close(tensor[:, 0, 0], torch.tensor([1.0, -1.0, -1.0]))
    same = to_tensor(red, (2, 4))
    torch.testing.assert_close(same[0], torch.full((2, 4), (1 - CLIP_MEAN[0]) / CLIP_STD[0]))


def test_an_unknown_filter_is_refused():
    with pytest.raises(OptionError, match="bicubic"):
        to_tensor(image(4, 4), (2, 2), filter="cubic")


@pytest.mark.parametrize("size", [(3, 4), (7, 11), (12, 5)])
def test_sampling_looks_at_the_nearest_pixels_alone(size):
    source = image(7, 11)
    own = source.pixels.astype(float) / 255
    expected = {how: torch.zeros(3, *size) for how in SAMPLINGS}
    for i in range(size[0]):
        for j in range(size[1]):
            expected["nearest"][:, i, j] = torch.tensor(own[i * 7 // size[0], j * 11 // size[1]])
            y, x = ((at + 0.5) * side / new - 0.5 for at, side, new in ((i, 7, size[0]), (j, 11, size[1])))
            y, x = min(max(y, 0), 6), min(max(x, 0), 10)
            top, left = min(int(y), 5), min(int(x), 9)
            a, b = y - top, x - left
            rows = [(1 - b) * own[top + k, left] + b * own[top + k, left + 1] for k in (0, 1)]
            expected["bilinear"][:, i, j] = torch.tensor((1 - a) * rows[0] + a * rows[1])
    for how in SAMPLINGS:
        found = sampled(source, size, (0.5, 0.4, 0.3), (0.5, 0.25, 0.2), how=how)
        wanted = (expected[how] - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor([0.5, 0.25, 0.2]).view(3, 1, 1)
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    with pytest.raises(OptionError, match="bilinear, nearest"):
        sampled(source, size, how="bicubic")


def test_an_image_that_keeps_gives_one_tensor_a_size_and_the_same_values():
    plain = image(40, 60)
    kept = plain.keeping()
    for size in ((28, 42), (14, 14)):
        first = to_tensor(kept, size)
        assert to_tensor(kept, size) is first
        assert torch.equal(first, to_tensor(plain, size))
    assert to_tensor(kept, (14, 14), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)) is not to_tensor(kept, (14, 14))
    assert not torch.equal(to_tensor(kept, (14, 14), filter="box"), to_tensor(kept, (14, 14)))
    assert plain.made is None


@pytest.mark.parametrize(("mean", "std"), [(CLIP_MEAN, CLIP_STD), ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), ((0.1, 0.7, 0.0), (1.0, 0.3, 0.2))])
def test_every_byte_becomes_what_float32_arithmetic_makes_of_it(mean, std):
    shot = load_image(np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2))
    by_hand = shot_values(shot).div(255.0).sub(torch.tensor(mean).view(3, 1, 1)).div(torch.tensor(std).view(3, 1, 1))
    assert torch.equal(to_tensor(shot, (16, 16), mean, std), by_hand)


def shot_values(shot):
    return torch.from_numpy(shot.pixels.copy()).permute(2, 0, 1).float()
