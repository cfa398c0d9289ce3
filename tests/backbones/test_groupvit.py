from __future__ import annotations

import json
import shutil

import pytest
import torch

from nerveseg import backbones
from nerveseg.backbones.groupvit import load
from nerveseg.errors import ShapeError, WeightsError


@pytest.fixture(scope="module")
def pixels():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def own_output(groupvit, pixels, strings):
    tokens = groupvit.tokenizer(strings, padding=True, return_tensors="pt")
    with torch.no_grad():
        return groupvit.model(
            input_ids=tokens["input_ids"],
            attention_mask=tokens["attention_mask"],
            pixel_values=pixels,
            output_segmentation=True,
            return_dict=True,
        )


def test_vectors_are_the_models_own(groupvit, pixels):
    out = own_output(groupvit, pixels, ["a photo of a cat.", "sky"])
    torch.testing.assert_close(groupvit.text(["cat"], ("a photo of a {}.",)), out.text_embeds[:1])
    torch.testing.assert_close(groupvit.text(["sky"]), out.text_embeds[1:])
    found = groupvit.visions(pixels)
    torch.testing.assert_close(torch.stack([groups.whole for groups in found]), out.image_embeds)
    one = groupvit.vision(pixels[1:])
    torch.testing.assert_close(one.vectors, found[1].vectors, atol=1e-5, rtol=1e-4)
    assert (groupvit.patch, groupvit.side, groupvit.width) == (16, 64, 20)
    assert groupvit.scale == pytest.approx(float(groupvit.model.logit_scale.exp()))


def test_shares_are_the_product_of_soft_assignments(groupvit, pixels):
    with torch.no_grad():
        stages = groupvit.model.vision_model(pixels[:1], output_attentions=True, return_dict=True).attentions
    found = groupvit.vision(pixels[:1])
    assert [tuple(stage.shape[1:]) for stage in stages] == [(6, 16), (3, 6)]
    by_hand = torch.zeros(16, 3)
    for i in range(16):
        for g in range(3):
            by_hand[i, g] = sum(float(stages[0][0, m, i] * stages[1][0, g, m]) for m in range(6))
    torch.testing.assert_close(found.shares, by_hand)
    torch.testing.assert_close(found.shares.sum(1), torch.ones(16))
    assert found.grid == (4, 4)


def test_any_grid_passes_and_the_random_state_stays(groupvit):
    state = torch.get_rng_state()
    found = groupvit.vision(torch.randn(1, 3, 48, 96, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(torch.get_rng_state(), state)
    assert found.grid == (3, 6)
    torch.testing.assert_close(found.vectors.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(found.shares.sum(1), torch.ones(18))


def test_templates_are_averaged_at_unit_length(groupvit):
    one, two = groupvit.text(["dog"], ("a {}",)), groupvit.text(["dog"], ("the {}",))
    mean = (one + two) / 2
    torch.testing.assert_close(groupvit.text(["dog"], ("a {}", "the {}")), mean / mean.norm(dim=1, keepdim=True))
    assert groupvit.text([]).shape == (0, 20)


def test_long_words_are_told(groupvit):
    assert groupvit.truncated(["cat", "cat " * 90]) == ("cat " * 90,)
    assert groupvit.unknown(["zeppelin"]) == ()


def test_half_precision_gives_float32(groupvit_folder, groupvit, pixels):
    half = load(groupvit_folder, dtype=torch.bfloat16).vision(pixels[:1])
    assert half.vectors.dtype == half.shares.dtype == torch.float32
    torch.testing.assert_close(half.shares.sum(1), torch.ones(16), atol=2e-2, rtol=0)


def test_it_is_a_kind_of_backbone(groupvit_folder):
    assert backbones.load("groupvit", groupvit_folder).side == 64


def test_sides_must_be_multiples_of_the_patch(groupvit):
    with pytest.raises(ShapeError, match="multiples of 16"):
        groupvit.vision(torch.zeros(1, 3, 60, 64))


def test_broken_folders_are_refused(groupvit_folder, clip_folder, tmp_path):
    with pytest.raises(WeightsError, match="GroupViT"):
        load(clip_folder)
    copy = tmp_path / "copy"
    shutil.copytree(groupvit_folder, copy)
    config = json.loads((copy / "config.json").read_text("utf-8"))
    config["text_config"]["eos_token_id"] = 7
    (copy / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(WeightsError, match="agree"):
        load(copy)
    (copy / "model.safetensors").unlink()
    with pytest.raises(WeightsError):
        load(copy)
